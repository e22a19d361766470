//! The record of one run, as `dray pull --trace` writes it and `dray bench page` reads it: lines of JSON.
//!
//! In: what a run's observer sees. Out: lines; from lines a [`Trace`]. Holds: a trace that was cut short is readable
//! up to its last whole line; the lines of a run are bounded, whatever its length.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

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
    /// The last line; a run that was killed has none.
    pub end: Option<End>,
}

/// What ran, and where.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
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
#[serde(default)]
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
    /// User time of the process in this run, in seconds.
    pub cpu_user: f64,
    /// System time of the process in this run, in seconds.
    pub cpu_system: f64,
}

/// One data request that ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
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
    /// For how many requests this one stands, as the rest of them were left out.
    #[serde(default = "one")]
    pub of: u64,
}

fn one() -> u64 {
    1
}

/// How the run ended: the figures of its report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// `sealed`, or the class of the error.
    pub outcome: String,
    /// The error line, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Wall time of the run.
    pub seconds: f64,
    /// Bytes of the model.
    pub bytes_total: u64,
    /// Bytes received and written in this run.
    pub bytes_fetched: u64,
    /// Bytes durable before this run.
    pub bytes_reused: u64,
    /// Requests for data.
    pub requests: u64,
    /// Those that repeat a failed one.
    pub retried: u64,
    /// User and system time of the process in this run.
    pub cpu_seconds: f64,
    /// Peak resident memory of the process in this run, as far as it can be told from an earlier one's.
    pub rss_bytes_max: u64,
    /// `uring`, `threads`, `buffered` or `none`.
    pub io: String,
    /// What held the run back longest.
    pub verdict: String,
    /// Share of the time that each brake held it, adding up to about 1.
    pub shares: BTreeMap<String, f64>,
    /// CPU time in this run by the names of threads.
    pub threads: Vec<ThreadTime>,
    /// Lines that were left out because the file could not take them in time.
    pub lines_lost: u64,
}

/// CPU time of the threads of one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadTime {
    /// `lane-0`, `control`, `blocking pool`.
    pub name: String,
    /// User time, in seconds.
    pub user: f64,
    /// System time, in seconds.
    pub system: f64,
}

/// Every line but the first: just one of these. What is not known is passed over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// The state at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tick: Option<Tick>,
    /// A data request that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<SpanEnd>,
    /// How the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Lines of one trace that are read: several times what a run of a year writes.
const LINES_MAX: usize = 500_000;

impl Trace {
    /// Reads what [`Recorder`](crate::bench::recorder::Recorder) wrote. A last line without its end is left out.
    ///
    /// # Errors
    /// Why it is not such a record, with the line's number.
    pub fn read(mut from: impl BufRead) -> Result<Self, String> {
        let mut line = Vec::new();
        let first = next_line(&mut from, &mut line)?;
        let head: Head = serde_json::from_slice(if first { &line } else { b"" }).map_err(|error| wrong(1, &error))?;
        if head.schema != SCHEMA {
            return Err(format!("the first line is not of schema {SCHEMA}"));
        }
        let mut trace = Self { head, ticks: Vec::new(), spans: Vec::new(), end: None };
        let mut number = 1;
        while next_line(&mut from, &mut line)? {
            number += 1;
            if LINES_MAX < number {
                return Err(format!("over {LINES_MAX} lines"));
            }
            let Line { tick, span, end } = serde_json::from_slice(&line).map_err(|error| wrong(number, &error))?;
            trace.ticks.extend(tick);
            trace.spans.extend(span);
            trace.end = end.or(trace.end);
        }
        Ok(trace)
    }
}

fn wrong(number: usize, error: &serde_json::Error) -> String {
    format!("line {number}: {error}")
}

/// Reads the next whole line into `line`; false when there is none.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, String> {
    line.clear();
    from.take(LINE_BYTES_MAX).read_until(b'\n', line).map_err(|error| error.to_string())?;
    if line.last() != Some(&b'\n') && u64::try_from(line.len()).is_ok_and(|length| LINE_BYTES_MAX <= length) {
        return Err(format!("a line of over {LINE_BYTES_MAX} bytes"));
    }
    Ok(line.last() == Some(&b'\n'))
}
