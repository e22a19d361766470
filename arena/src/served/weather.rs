//! What the line does to replies, and what was met of it: delays, pace and a mix of faults from a seed.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::answer::Cut;
use crate::content::Content;
use crate::fault::{Asked, Fault, Rule, Script};
use crate::pool::Pool;

/// Body bytes before a stall or a reset; of a shorter body its half.
const CUT_AFTER: u64 = 1 << 20;

/// How late the first byte of a slow reply is.
const SLOW_FIRST: Duration = Duration::from_secs(2);

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

/// What all connections share.
pub(super) struct State {
    pub(super) objects: BTreeMap<String, Content>,
    pub(super) weather: Weather,
    pub(super) script: Mutex<Script>,
    pub(super) pool: Pool,
    pub(super) tally: Tally,
}

#[derive(Default)]
pub(super) struct Tally {
    pub(super) requests: AtomicU64,
    pub(super) stalls: AtomicU64,
    pub(super) resets: AtomicU64,
    pub(super) slow_downs: AtomicU64,
    pub(super) slow_firsts: AtomicU64,
}

/// How one reply with an object departs from a good one.
#[derive(Default)]
pub(super) struct Course {
    pub(super) refused: bool,
    pub(super) delay: Duration,
    pub(super) cut: Option<Cut>,
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
    /// Nothing asked yet.
    pub(super) fn new(objects: Vec<(String, Content)>, weather: Weather, seed: u64) -> Self {
        Self {
            objects: objects.into_iter().collect(),
            weather,
            script: Mutex::new(mix_of_faults(seed, weather.faults)),
            pool: Pool::default(),
            tally: Tally::default(),
        }
    }

    /// What was asked and met so far.
    pub(super) fn met(&self) -> Met {
        let tally = &self.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Met {
            requests: read(&tally.requests),
            stalls: read(&tally.stalls),
            resets: read(&tally.resets),
            slow_downs: read(&tally.slow_downs),
            slow_firsts: read(&tally.slow_firsts),
        }
    }

    /// What becomes of the reply to a GET of the object at `path`.
    pub(super) fn course(&self, path: &str) -> Course {
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
