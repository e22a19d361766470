//! The record of one run, as `dray pull --trace` writes it and `dray bench page` reads it: lines of JSON.
//!
//! In: what a run's observer sees. Out: lines; from lines a [`Trace`]. Holds: a trace that was cut short is readable
//! up to its last whole line; the lines of a run are bounded, whatever its length.

use serde::{Deserialize, Serialize};

use crate::bench::machine::Machine;

/// The schema of the first line.
pub const SCHEMA: &str = "dray.trace/1";

/// A whole record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trace {
    /// The first line.
    pub head: Head,
    /// Several a second, in order.
    pub ticks: Vec<Tick>,
    /// Data requests that ended, in the order of their ends.
    pub spans: Vec<SpanEnd>,
}

/// What ran, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The source, without secrets.
    pub source: String,
    /// Where it was to land.
    pub dest: String,
    /// When it began: seconds since 1970.
    pub began_unix: u64,
    /// Where it ran.
    pub machine: Machine,
}

/// The state of a run at one time. Counts are of this run and grow.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tick {
    /// Seconds since the run began.
    pub at: f64,
    /// What the run is doing, in one word.
    pub phase: String,
    /// Bytes received.
    pub received: u64,
    /// Bytes durable.
    pub durable: u64,
    /// Data requests under way, and as many as may be.
    pub active: u64,
    /// As many as may be under way.
    pub allowed: u64,
    /// What holds the run back just now: the words of a report's verdict.
    pub brake: String,
    /// Bytes of slabs that are filled or being filled.
    pub held_bytes: u64,
    /// Data requests that repeat a failed one.
    pub retried: u64,
    /// User time of the process, in seconds.
    pub cpu_user: f64,
    /// System time of the process, in seconds.
    pub cpu_system: f64,
}

/// One data request that ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SpanEnd {
    /// Seconds since the run began, at its end.
    pub at: f64,
    /// Seconds from its order to its end, the last write included.
    pub seconds: f64,
    /// Bytes that it was to bring.
    pub bytes: u64,
    /// The lane.
    pub lane: usize,
    /// How it ended: `done`, or the class of its failure.
    pub end: String,
}
