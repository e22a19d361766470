//! One set of objects served by several protocols at once, over a line with the weather that is asked for.
//!
//! In: objects, [`Port`]s, a [`Weather`]. Out: URLs, keys, the certificate to trust, and what was met.
//! Holds: the bytes are the same by every protocol; every wait is bounded; dropping it stops it.

mod answer;
mod line;
mod plain;
mod tls;
mod weather;
mod workers;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use self::weather::State;
pub use self::weather::{Met, Weather};
use self::workers::Workers;
use crate::content::Content;
use crate::s3::{Bucket, Endpoint};

/// The bucket of [`Port::S3`].
pub const BUCKET: &str = "models";

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

/// A running arena.
pub struct Served {
    ports: Vec<(Port, Workers)>,
    keys: (String, String),
    authority: Option<String>,
    state: Arc<State>,
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
        let state = Arc::new(State::new(objects, weather, seed));
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
        self.state.met()
    }
}

#[cfg(test)]
mod tests;
