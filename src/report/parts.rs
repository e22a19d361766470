//! The parts of a report: files and their checks, counts, the way to the disk, the verdict.

use serde::Serialize;

use crate::verify::Check;

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
        Self {
            name: check.name,
            stated: check.stated.clone(),
            result: if check.matches { "matched" } else { "mismatch" },
        }
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
    /// What matching checks amount to; a mismatch, no check, or only the directory's own receipt is [`Assurance::Hashed`].
    pub fn of(checks: &[Check]) -> Self {
        if checks.iter().any(|check| !check.matches) {
            return Self::Hashed;
        }
        let outside = checks.iter().filter(|check| check.name != "receipt");
        outside
            .map(|check| if check.name == "blake3" { Self::Pinned } else { Self::Origin })
            .max()
            .unwrap_or(Self::Hashed)
    }

    /// The weakest over the files that have content.
    pub fn weakest(files: &[FileReport]) -> Self {
        let with_content = files.iter().filter(|file| file.size != Some(0));
        with_content.map(|file| file.assurance).min().unwrap_or(Self::Hashed)
    }

    /// Reads [`Assurance::word`]; what it never wrote counts as the weakest.
    pub fn from_word(word: &str) -> Self {
        [Self::Pinned, Self::Origin].into_iter().find(|assurance| assurance.word() == word).unwrap_or(Self::Hashed)
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
