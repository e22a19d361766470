//! The floors: parts of a pull alone, which nothing that does the whole can be faster than.
//!
//! In: a part of the work and its bounds. Out: a [`FloorReport`], and its table.
//! Holds: work stops within one step of being asked to; a figure is taken over the work alone, not over what prepares it.

pub mod disk;
pub mod hash;
pub mod lane;
pub mod origin;
mod records;
mod table;
#[cfg(feature = "arena")]
pub mod tls;

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::bench::{BenchReport, Kind, Row, SCHEMA, Sample, Spread, Work, machine::Machine};
use crate::disk::place;

pub use table::table;

/// What `--json` holds: a bench report, and figures that are not bytes per second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FloorReport {
    /// Rows, machine and work.
    #[serde(flatten)]
    pub report: BenchReport,
    /// Handshakes, requests, times to the first byte.
    pub figures: Vec<Figure>,
    /// What is worth saying besides, one sentence each: the best row, a digest.
    pub notes: Vec<String>,
}

/// A figure of one row that is not a rate of bytes: the median of its rounds, and how far they lie apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The row it belongs to.
    pub row: String,
    /// What was counted: `handshakes`, `first byte, p95`.
    pub name: String,
    /// `1/s`, `s`, `1`.
    pub unit: String,
    /// The median of the rounds.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Figure {
    /// The spread of `figures`; `None` of nothing.
    pub fn of(row: &str, name: &str, unit: &str, figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let Spread { median, min, max } = Spread::of(figures)?;
        Some(Self { row: row.to_owned(), name: name.to_owned(), unit: unit.to_owned(), median, min, max })
    }
}

impl FloorReport {
    /// A report of `rows`, taken `rounds` times on `machine`.
    pub fn new(machine: Machine, work: Work, rounds: u32, rows: Vec<Row>) -> Self {
        let report = BenchReport { schema: SCHEMA.to_owned(), machine, work, rounds, rows };
        Self { report, figures: Vec::new(), notes: Vec::new() }
    }
}

/// A row without samples yet.
fn row(name: &str, command: &str, proof: &str) -> Row {
    Row {
        name: name.to_owned(),
        kind: Kind::Floor,
        origin: None,
        command: command.to_owned(),
        proof: proof.to_owned(),
        durable: false,
        samples: Vec::new(),
        failed: None,
    }
}

/// Wall time and CPU time of this process from here on.
struct Watch {
    began: Instant,
    cpu_seconds: f64,
}

impl Watch {
    fn start() -> Self {
        Self { began: Instant::now(), cpu_seconds: place::usage().cpu_seconds }
    }

    /// What was done since.
    fn sample(&self, bytes: u64) -> Sample {
        let (seconds, usage) = (self.began.elapsed().as_secs_f64(), place::usage());
        let cpu_seconds = usage.cpu_seconds - self.cpu_seconds;
        Sample { bytes, seconds, synced_seconds: seconds, cpu_seconds, rss_bytes_max: 0 }
    }
}

/// CPU time of the calling thread so far.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Fills memory with bytes that no disk and no link can pack.
fn fill_with_noise(bytes: &mut [u8], seed: u64) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    blake3::Hasher::new_keyed(&key).finalize_xof().fill(bytes);
}
