//! What a run leaves for machines (`--report`, schema `dray.report/1`) and the two or three lines for people.
//!
//! Written on failure too. Holds no secret: names come from the manifest, which has none.

mod summary;

use serde::Serialize;

use crate::verify::Check;

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

/// One file of the report.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    /// Path below DEST.
    pub path: String,
    /// Size in bytes; absent while not known.
    pub size: Option<u64>,
    /// The digest once proven, in hexadecimal.
    pub blake3: Option<String>,
    /// How strongly the content is known.
    pub assurance: Assurance,
    /// Each statement and whether it matched.
    pub checks: Vec<CheckReport>,
}

/// A statement and its outcome.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// `crc64nvme`, `crc32c`, `blake3`.
    pub name: &'static str,
    /// As the store wrote it.
    pub stated: String,
    /// `matched` or `mismatch`.
    pub result: &'static str,
}

impl From<&Check> for CheckReport {
    fn from(check: &Check) -> Self {
        Self { name: check.name, stated: check.stated.clone(), result: if check.matches { "matched" } else { "mismatch" } }
    }
}

/// How strongly a file's content is known, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Assurance {
    /// We computed a digest; nobody stated one.
    Hashed,
    /// It matched the store's own checksum.
    Origin,
    /// It matched a lock or signature.
    Pinned,
}

impl Assurance {
    /// What matching checks amount to; a mismatch or no check is only [`Assurance::Hashed`].
    pub fn of(checks: &[Check]) -> Self {
        if checks.iter().any(|check| !check.matches) {
            return Self::Hashed;
        }
        checks.iter().map(|check| if check.name == "blake3" { Self::Pinned } else { Self::Origin }).max().unwrap_or(Self::Hashed)
    }

    /// The word in reports and summaries.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::Origin => "origin",
            Self::Pinned => "pinned",
        }
    }
}

/// Where the bytes came from.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Bytes {
    /// Size of the model, as far as known.
    pub total: u64,
    /// Received and written in this run.
    pub fetched: u64,
    /// Durable before this run.
    pub reused: u64,
}

/// Data requests.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Requests {
    /// All of them.
    pub total: u64,
    /// Those that repeat a failed one.
    pub retried: u64,
    /// Those that race a slow one.
    pub hedged: u64,
}

/// How bytes reached the disk.
#[derive(Debug, Clone, Serialize)]
pub struct Io {
    /// `uring`, `threads`, `buffered`.
    pub backend: &'static str,
    /// Whether writes bypass the page cache.
    pub direct: bool,
}

/// What held the run back.
#[derive(Debug, Clone, Serialize)]
pub struct Bottleneck {
    /// `network`, `origin`, `throttle`, `disk`, `cpu`, `memory`.
    pub verdict: &'static str,
    /// Share of the time each held it, adding up to about 1.
    pub shares: std::collections::BTreeMap<&'static str, f64>,
}

impl Report {
    /// The report of a run that failed before it knew any file.
    pub fn of_failure(source: &str, dest: &std::path::Path, error: &crate::error::Error, started: std::time::Instant) -> Self {
        let usage = crate::disk::place::usage();
        Self {
            schema: SCHEMA,
            outcome: error.class().to_owned(),
            error: Some(error.to_string()),
            source: source.to_owned(),
            resolved: source.to_owned(),
            dest: dest.display().to_string(),
            files: Vec::new(),
            assurance: Assurance::Hashed,
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
