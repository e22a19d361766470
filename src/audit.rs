//! The audit log (`--audit`): one JSON line per act that somebody may have to answer for later.
//!
//! In: [`Act`]s. Out: lines of `{"schema", "time", "act", …}` in a file or on stderr, each written by one call.
//! Holds: no line carries a secret: an act names the *kind* of a credential, and sources in their canonical form.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::{Error, storage};

/// The schema of a line.
pub const SCHEMA: &str = "dray.audit/1";

/// Credentials told apart; beyond this each use is written down again rather than forgotten.
const USES_MAX: usize = 1024;

/// Where acts are written down. Cheap to clone; the default writes nothing.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Log>>);

#[derive(Debug)]
struct Log {
    /// Opened for appending: a line is one write, so lines of threads and processes do not mix.
    file: File,
    /// The first act that could not be written down.
    failed: OnceLock<Error>,
    /// Origins and kinds that were written down already.
    uses: Mutex<BTreeSet<(String, String)>>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "act", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Act<'a> {
    /// Requests to an origin carry a credential of this kind.
    Credential {
        /// Scheme, host and port.
        origin: &'a str,
        /// `static keys`, `web identity`, `anonymous`, `basic login`, `bound headers`, `none`, …
        kind: &'a str,
    },
    /// A registry said where a model is.
    Registry {
        /// The source as asked.
        asked: &'a str,
        /// The version it chose.
        version: &'a str,
        /// The source it answered, in canonical form.
        answered: &'a str,
    },
    /// A file's content is known.
    Digest {
        /// Path below DEST.
        path: &'a str,
        /// Bytes.
        size: u64,
        /// BLAKE3, in hexadecimal.
        blake3: &'a str,
        /// `hashed`, `origin` or `pinned`.
        assurance: &'a str,
        /// Names of the statements that matched.
        checks: &'a [String],
    },
    /// Something was refused, or the run failed.
    Refusal {
        /// The class of the error, as in the report's `outcome`.
        class: &'a str,
        /// The error line.
        cause: &'a str,
    },
    /// A directory is sealed: its receipt is durable.
    Published {
        /// The source, in canonical form.
        source: &'a str,
        /// The directory.
        dest: &'a str,
        /// Files in it.
        files: usize,
        /// Their bytes.
        bytes: u64,
        /// The weakest assurance over them.
        assurance: &'a str,
        /// Whether this run wrote the receipt.
        receipt: Receipt,
    },
}

/// How a run came to a directory's receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Receipt {
    /// It wrote it.
    Written,
    /// It found it, speaking of exactly this version: nothing was fetched or written.
    Found,
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    time: String,
    #[serde(flatten)]
    act: &'a Act<'a>,
}

impl Audit {
    /// Appends to the file at `path`, which is made when missing; `-` is stderr.
    ///
    /// # Errors
    /// [`Error::Usage`] when it cannot be opened for appending.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Usage(format!("--audit {}: {error}", path.display()));
        let file = if path == Path::new("-") {
            let stderr = std::io::stderr();
            std::os::fd::AsFd::as_fd(&stderr).try_clone_to_owned().map(File::from).map_err(failed)?
        } else {
            File::options().append(true).create(true).open(path).map_err(failed)?
        };
        Ok(Self(Some(Arc::new(Log { file, failed: OnceLock::new(), uses: Mutex::default() }))))
    }

    /// Writes `act` down. A failure is kept for [`Audit::check`].
    pub fn record(&self, act: &Act<'_>) {
        let Some(log) = &self.0 else { return };
        if let Err(error) = log.write(act)
            && log.failed.set(storage("--audit", &error)).is_err()
        {
            tracing::debug!(%error, "another act could not be written down");
        }
    }

    /// Writes down, once a process, that requests to `origin` carry a credential of this kind.
    pub fn credential(&self, origin: &str, kind: &str) {
        let Some(log) = &self.0 else { return };
        let mut uses = log.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let news = USES_MAX <= uses.len() || uses.insert((origin.to_owned(), kind.to_owned()));
        drop(uses);
        if news {
            self.record(&Act::Credential { origin, kind });
        }
    }

    /// Whether every act so far was written down.
    ///
    /// # Errors
    /// [`Error::Storage`] or [`Error::DiskFull`] of the first that was not.
    pub fn check(&self) -> Result<(), Error> {
        self.0.as_ref().and_then(|log| log.failed.get()).map_or(Ok(()), |error| Err(error.clone()))
    }
}

impl Log {
    fn write(&self, act: &Act<'_>) -> std::io::Result<()> {
        let time = OffsetDateTime::now_utc().replace_nanosecond(0).map_err(std::io::Error::other)?;
        let time = time.format(&Rfc3339).map_err(std::io::Error::other)?;
        let mut line = serde_json::to_vec(&Line { schema: SCHEMA, time, act })?;
        line.push(b'\n');
        (&self.file).write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_are_appended_as_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "before\n").unwrap();
        let audit = Audit::open(&path).unwrap();
        audit.record(&Act::Credential { origin: "https://host", kind: "bearer token" });
        audit.clone().record(&Act::Refusal { class: "policy", cause: "a \"quoted\"\nline" });
        audit.check().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let line: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(line["schema"], "dray.audit/1");
        assert_eq!((&line["act"], &line["kind"]), (&"credential".into(), &"bearer token".into()));
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }

    #[test]
    fn a_credential_is_told_once_for_each_origin_and_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        for (origin, kind) in [("http://a:80", "none"), ("http://b:80", "none"), ("http://a:80", "static keys")] {
            audit.credential(origin, kind);
            audit.clone().credential(origin, kind);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn a_line_that_is_lost_is_told_at_the_end() {
        let audit = Audit::open(Path::new("/dev/full")).unwrap();
        audit.record(&Act::Credential { origin: "https://host", kind: "anonymous" });
        assert!(matches!(audit.check(), Err(Error::DiskFull(_))));
        assert!(matches!(Audit::open(Path::new("/nonexistent/audit")), Err(Error::Usage(_))));
        Audit::default().record(&Act::Credential { origin: "https://host", kind: "anonymous" });
    }
}
