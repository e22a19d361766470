//! What the harness measured: the rows of `dray bench`, as they stand in `--json`.
//!
//! In: samples as they are taken. Out: medians with their spread, never one run. Holds: a row that failed says why
//! and has no figures; a bench of nothing has no rate.

use serde::{Deserialize, Serialize};

use crate::bench::machine::Machine;

/// The schema of [`BenchReport`].
pub const SCHEMA: &str = "dray.bench/1";

/// Ends the name of a floor, before its origin, that moved one file where others moved several: it bounds nobody.
pub const ONE_FILE: &str = ", one file";

/// The whole of `--json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BenchReport {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was moved.
    pub work: Work,
    /// How often each row was run, in turn with the others.
    pub rounds: u32,
    /// Floors, dray and its peers, in the order of each round.
    pub rows: Vec<Row>,
}

/// The bytes that every row moved.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Work {
    /// Where they came from, without secrets.
    pub origin: String,
    /// How many files, where it is files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where they went, where they went anywhere.
    pub dest: Option<String>,
    /// What is known of memory at the start of each run: the page cache, `dropped` or `warm`, and what was touched.
    pub cache: String,
}

impl BenchReport {
    /// Rows in the order that people want them: dray, peers, floors. Hashing and writing are measured in dozens of
    /// ways: beside dray only the quickest of each counts.
    pub fn leading(&self) -> Vec<&Row> {
        let of = |kind: Kind| self.rows.iter().filter(move |row| row.kind == kind);
        let mut rows: Vec<&Row> = of(Kind::Dray).chain(of(Kind::Peer)).collect();
        if rows.is_empty() {
            return of(Kind::Floor).collect();
        }
        let median = |row: &Row| row.rate().map_or(0.0, |spread| spread.median);
        let part = |row: &Row| ["hash", "disk"].into_iter().find(|part| row.name.split(' ').next() == Some(part));
        for floor in of(Kind::Floor) {
            let quicker = |other: &Row| part(other) == part(floor) && median(floor) < median(other);
            if part(floor).is_none() || !of(Kind::Floor).any(quicker) {
                rows.push(floor);
            }
        }
        rows
    }
}

impl BenchReport {
    /// The origins of dray's rows and its peers', in their order: figures of one say nothing of another's.
    pub fn origins(&self) -> Vec<Option<&str>> {
        let mut origins = Vec::new();
        for row in self.rows.iter().filter(|row| row.kind != Kind::Floor) {
            if !origins.contains(&row.origin.as_deref()) {
                origins.push(row.origin.as_deref());
            }
        }
        origins
    }
}

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A part of the work alone: what nothing on this machine can be faster than.
    Floor,
    /// dray itself.
    Dray,
    /// Another tool.
    Peer,
}

/// One contender over all rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// `dray uring`, `curl`, `disk direct 4MiB x8`.
    pub name: String,
    /// What it stands for.
    pub kind: Kind,
    /// The word of the origin that its bytes came from; none where it asked none, and in a
    /// floor's own report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// How to run it again, without secrets.
    pub command: String,
    /// What is known of the bytes when it ends well: `blake3`, `blake3 + crc64nvme`, `size`, `none`.
    pub proof: String,
    /// Whether they survive a power cut when it ends.
    pub durable: bool,
    /// One of each round.
    pub samples: Vec<Sample>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// One run of one contender.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Bytes moved.
    pub bytes: u64,
    /// Wall time to its end.
    pub seconds: f64,
    /// Wall time until what it left is durable too.
    pub synced_seconds: f64,
    /// User and system time of its process tree.
    pub cpu_seconds: f64,
    /// Peak resident memory of the largest process in it; 0 where a floor shares a process with others.
    pub rss_bytes_max: u64,
}

/// The middle of several figures, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median; of an even count the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// The spread of `figures`; `None` of nothing.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }
}

impl Sample {
    /// GiB moved. Display and ratios only: a `u64` of bytes loses nothing that matters in an `f64`.
    #[expect(clippy::cast_precision_loss, reason = "display and ratios only")]
    pub fn gib(&self) -> f64 {
        self.bytes as f64 / f64::from(1u32 << 30)
    }
}

impl Row {
    /// Whether it stands beside rows of `origin`: it is of that one, or the floor of a part that asks none.
    pub fn is_of(&self, origin: Option<&str>) -> bool {
        match self.kind {
            Kind::Floor => self.origin.is_none() || self.origin.as_deref() == origin,
            Kind::Dray | Kind::Peer => self.origin.as_deref() == origin,
        }
    }

    /// Whether it is a floor of what was moved from `origin`.
    pub fn is_floor_of(&self, origin: Option<&str>) -> bool {
        self.kind == Kind::Floor && self.is_of(origin) && !self.name.contains(ONE_FILE)
    }

    /// GiB/s to the end of each run.
    pub fn rate(&self) -> Option<Spread> {
        self.spread(|sample| sample.gib() / sample.seconds)
    }

    /// GiB/s until what a run left is durable.
    pub fn synced_rate(&self) -> Option<Spread> {
        self.spread(|sample| sample.gib() / sample.synced_seconds)
    }

    /// CPU-seconds per GiB.
    pub fn cpu_per_gib(&self) -> Option<Spread> {
        self.spread(|sample| sample.cpu_seconds / sample.gib())
    }

    /// Peak resident bytes over all runs.
    pub fn rss_bytes_max(&self) -> u64 {
        self.samples.iter().map(|sample| sample.rss_bytes_max).max().unwrap_or(0)
    }

    fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let whole = self.samples.iter().filter(|sample| 0 < sample.bytes && 0.0 < sample.seconds);
        Spread::of(whole.map(figure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_medians_of_what_was_seen() {
        for (figures, expected) in [
            (vec![], None),
            (vec![3.0], Some((3.0, 3.0, 3.0))),
            (vec![9.0, 1.0], Some((5.0, 1.0, 9.0))),
            (vec![9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0))),
        ] {
            let spread = Spread::of(figures.clone()).map(|spread| (spread.median, spread.min, spread.max));
            assert_eq!(spread, expected, "{figures:?}");
        }
    }
}
