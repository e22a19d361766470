//! One set of objects served by several protocols at once, over a line with the weather that is asked for.
//!
//! In: objects, [`Port`]s, a [`Weather`]. Out: URLs, keys, the certificate to trust, and what was met.
//! Holds: the bytes are the same by every protocol; every wait is bounded; dropping it stops it.

mod answer;
mod line;
mod plain;
mod tls;
mod workers;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::answer::Cut;
use self::workers::Workers;
use crate::content::Content;
use crate::fault::{Asked, Fault, Rule, Script};
use crate::pool::Pool;
use crate::s3::{Bucket, Endpoint};

/// The bucket of [`Port::S3`].
pub const BUCKET: &str = "models";

/// Body bytes before a stall or a reset; of a shorter body its half.
const CUT_AFTER: u64 = 1 << 20;

/// How late the first byte of a slow reply is.
const SLOW_FIRST: Duration = Duration::from_secs(2);

/// The end of a silence on purpose: outlasts every timeout a client should have.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A protocol to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Plain HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS, with a certificate of the arena's own authority.
    Https,
    /// S3 over plain HTTP/1.1; the objects are in [`BUCKET`].
    S3,
}

/// What the line between origin and client does. The usual one does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// Pause before the first byte of each reply, after each connection is accepted, and once more where TLS begins.
    pub rtt: Duration,
    /// Bytes a second on each connection; no bound when it is not given.
    pub per_connection: Option<NonZeroU64>,
    /// How often replies with objects go wrong, as a multiple of the stated mix: 0.5 % fall silent in mid-body, 0.5 %
    /// are reset in mid-body, 1 % are 503 `SlowDown`, and 1 % begin two seconds late.
    pub faults: f64,
}

/// What to serve, and how.
#[derive(Clone, Debug)]
pub struct ServedOptions {
    /// Objects by name, which is a path without a leading slash.
    pub objects: Vec<(String, Content)>,
    /// The protocols.
    pub ports: Vec<Port>,
    /// The line.
    pub weather: Weather,
    /// Threads that serve.
    pub threads: usize,
    /// Which requests meet which faults.
    pub seed: u64,
}

/// What clients asked for and met so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Requests of any kind.
    pub requests: u64,
    /// Replies that fell silent.
    pub stalls: u64,
    /// Replies that were reset.
    pub resets: u64,
    /// Replies that were 503.
    pub slow_downs: u64,
    /// Replies that began late.
    pub slow_firsts: u64,
}

/// A running arena.
pub struct Served {
    ports: Vec<(Port, Workers)>,
    keys: (String, String),
    authority: Option<String>,
    state: Arc<State>,
}

/// What all connections share.
struct State {
    objects: BTreeMap<String, Content>,
    weather: Weather,
    script: Mutex<Script>,
    pool: Pool,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    stalls: AtomicU64,
    resets: AtomicU64,
    slow_downs: AtomicU64,
    slow_firsts: AtomicU64,
}

/// How one reply with an object departs from a good one.
#[derive(Default)]
struct Course {
    refused: bool,
    delay: Duration,
    cut: Option<Cut>,
}

impl Served {
    /// Serves on free ports of 127.0.0.1.
    ///
    /// # Errors
    /// Whatever binding a port, making a certificate or starting a thread gave.
    pub fn start(options: ServedOptions) -> io::Result<Self> {
        let ServedOptions { objects, ports, weather, threads, seed } = options;
        let fill = |bucket: Bucket, (name, content): &(String, Content)| bucket.with(name, content.clone());
        let s3 = Endpoint::new([objects.iter().fold(Bucket::new(BUCKET), fill)]);
        let (access, secret) = s3.keys();
        let keys = (access.to_owned(), secret.to_owned());
        let state = Arc::new(State {
            objects: objects.into_iter().collect(),
            weather,
            script: Mutex::new(mix_of_faults(seed, weather.faults)),
            pool: Pool::default(),
            tally: Tally::default(),
        });
        let mut served = Self { ports: Vec::new(), keys, authority: None, state };
        for port in ports {
            let protocol = match port {
                Port::Http => line::Protocol::Http,
                Port::Https => {
                    let (acceptor, authority) = tls::acceptor()?;
                    served.authority = Some(authority);
                    line::Protocol::Https(acceptor)
                }
                Port::S3 => line::Protocol::S3(s3.service.clone()),
            };
            let state = Arc::clone(&served.state);
            let serve = move |stream| line::connection(Arc::clone(&state), protocol.clone(), stream);
            served.ports.push((port, Workers::start(threads.max(1), serve)?));
        }
        Ok(served)
    }

    /// The origin of a protocol, `http://127.0.0.1:PORT`; `None` when it is not served.
    pub fn origin(&self, port: Port) -> Option<String> {
        let (_, workers) = self.ports.iter().find(|(served, _)| *served == port)?;
        let scheme = if port == Port::Https { "https" } else { "http" };
        Some(format!("{scheme}://{}", workers.address()))
    }

    /// The access key id and the secret key that S3 accepts.
    pub fn keys(&self) -> (&str, &str) {
        (&self.keys.0, &self.keys.1)
    }

    /// The certificate in PEM that clients by HTTPS must trust; `None` when that is not served.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// What was asked and met so far.
    pub fn met(&self) -> Met {
        let tally = &self.state.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Met {
            requests: read(&tally.requests),
            stalls: read(&tally.stalls),
            resets: read(&tally.resets),
            slow_downs: read(&tally.slow_downs),
            slow_firsts: read(&tally.slow_firsts),
        }
    }
}

/// The stated mix, `times` as often.
fn mix_of_faults(seed: u64, times: f64) -> Script {
    let rules = [
        (0.005, Fault::StallMidBody { after: CUT_AFTER }),
        (0.005, Fault::ResetMidBody { after: CUT_AFTER }),
        (0.01, Fault::Status503 { retry_after: None }),
        (0.01, Fault::Latency(SLOW_FIRST)),
    ];
    rules.into_iter().fold(Script::seeded(seed), |script, (chance, fault)| {
        script.rule(Rule::new(fault).chance((chance * times).min(1.0)))
    })
}

impl State {
    /// What becomes of the reply to a GET of the object at `path`.
    fn course(&self, path: &str) -> Course {
        let asked = Asked { head: false, path, span: (0, u64::MAX) };
        let faults = self.script.lock().unwrap_or_else(PoisonError::into_inner).faults(asked);
        let mut course = Course::default();
        for fault in faults {
            let counter = match fault {
                Fault::StallMidBody { after } => {
                    course.cut = Some(Cut::Silence { after });
                    &self.tally.stalls
                }
                Fault::ResetMidBody { after } => {
                    course.cut = Some(Cut::Reset { after });
                    &self.tally.resets
                }
                Fault::Status503 { .. } => {
                    course.refused = true;
                    &self.tally.slow_downs
                }
                Fault::Latency(delay) => {
                    course.delay = delay;
                    &self.tally.slow_firsts
                }
                _ => continue,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        course
    }
}

#[cfg(test)]
mod tests;
