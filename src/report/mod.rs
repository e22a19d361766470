//! What a run leaves for machines (`--report`, schema `dray.report/1`) and the two or three lines for people.
//!
//! Written on failure too. Holds no secret: names come from the manifest, which has none.

mod parts;
mod summary;

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::disk::place;
use crate::error::Error;

pub use parts::{Assurance, Bottleneck, Bytes, CheckReport, FileReport, Io, Requests};
pub use summary::summary;

/// The schema of [`Report`].
pub const SCHEMA: &str = "dray.report/1";

/// The whole of `--report`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: &'static str,
    /// `sealed`, or the class of the error.
    pub outcome: String,
    /// The error line, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The source as given, without secrets.
    pub source: String,
    /// What it resolved to.
    pub resolved: String,
    /// Where it was to land.
    pub dest: String,
    /// Every file of the manifest.
    pub files: Vec<FileReport>,
    /// The weakest assurance over all files with content.
    pub assurance: Assurance,
    /// Bytes of the model and where they came from.
    pub bytes: Bytes,
    /// Requests for data.
    pub requests: Requests,
    /// Wall time of the run.
    pub seconds: f64,
    /// User and system time of this process.
    pub cpu_seconds: f64,
    /// Peak resident memory of this process.
    pub rss_bytes_max: u64,
    /// How bytes reached the disk.
    pub io: Io,
    /// What held the run back.
    pub bottleneck: Bottleneck,
}

impl Report {
    /// The report of a run that failed before it knew any file.
    pub fn of_failure(source: &str, dest: &Path, error: &Error, started: Instant) -> Self {
        Self::of_files(source, dest, Vec::new(), Some(error), started)
    }

    /// The report of work that fetched nothing: `error` is why it failed, if it did.
    pub fn of_files(
        source: &str,
        dest: &Path,
        files: Vec<FileReport>,
        error: Option<&Error>,
        started: Instant,
    ) -> Self {
        let usage = place::usage();
        Self {
            schema: SCHEMA,
            outcome: error.map_or("sealed", Error::class).to_owned(),
            error: error.map(ToString::to_string),
            source: source.to_owned(),
            resolved: source.to_owned(),
            dest: dest.display().to_string(),
            assurance: Assurance::weakest(&files),
            files,
            bytes: Bytes::default(),
            requests: Requests::default(),
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: usage.cpu_seconds,
            rss_bytes_max: usage.rss_bytes_max,
            io: Io { backend: "none", direct: false },
            bottleneck: Bottleneck { verdict: "network", shares: std::collections::BTreeMap::new() },
        }
    }
}
