//! Where figures of the harness go: a table, JSON, a page; and work that hears signals.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::bench::Stop;
use crate::bench::trace::Trace;
use crate::bench::{BenchReport, page, table};
use crate::cli::{print, progress};
use crate::engine::Signals;
use crate::error::{Error, storage};

/// How long work may take to end after a signal: a write that hangs must not hold the process.
const END_TIMEOUT: Duration = Duration::from_secs(90);

/// Does `work` on a thread of its own; a signal asks it to stop, and is waited for what it has to tidy up. The second
/// signal waits for nothing.
pub(super) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce(&Stop) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let mut signals = Signals::watch()?;
    let stop = Stop::default();
    let told = stop.clone();
    let mut working = tokio::task::spawn_blocking(move || work(&told));
    let lost = |_| Err(Error::Internal("the bench was lost from sight".to_owned()));
    let reason = tokio::select! {
        done = &mut working => return done.unwrap_or_else(lost),
        reason = signals.next() => reason,
    };
    if let Error::Interrupted { signal } = reason {
        stop.ask(signal);
    }
    // However it ended: the signal is what the caller hears of.
    tokio::select! {
        ended = tokio::time::timeout(END_TIMEOUT, working) => if ended.is_err() {
            tracing::warn!("a measurement did not stop in time");
        },
        _ = signals.next() => tracing::warn!("a measurement was left to itself, and may leave files"),
    }
    Err(reason)
}

/// Where `--json` goes.
pub(super) enum Json {
    /// Nowhere: a table on stdout.
    Unasked,
    /// To stdout, instead of the table.
    Stdout,
    /// To a file, beside the table.
    File(PathBuf, File),
}

impl Json {
    /// Opens what `--json` names, before anything is measured.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        match path {
            None => Ok(Self::Unasked),
            Some(path) if path == Path::new("-") => Ok(Self::Stdout),
            Some(path) => match File::create(path) {
                Ok(file) => Ok(Self::File(path.to_owned(), file)),
                Err(error) => Err(Error::Usage(format!("--json {}: {error}", path.display()))),
            },
        }
    }

    /// Shows `report`.
    pub(super) fn show(self, report: &BenchReport) -> Result<(), Error> {
        self.put(report, &table::text(report))
    }

    /// Shows `report`, whose table is `table`.
    pub(super) fn put(self, report: &impl Serialize, table: &str) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(report).map_err(|error| Error::Internal(error.to_string()))? + "\n";
        match self {
            Self::Unasked => print(table),
            Self::Stdout => {
                // People who watch read the table all the same.
                progress::eprintln_line(table.trim_end());
                print(&text)
            }
            Self::File(path, mut file) => {
                let failed = |error| storage(&path.display().to_string(), &error);
                file.write_all(text.as_bytes()).map_err(failed)?;
                print(table)
            }
        }
    }
}

/// Where `--html` goes.
pub(super) struct Html(Option<(PathBuf, File)>);

impl Html {
    /// Opens what `--html` names, before anything is measured.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self(None)) };
        let file = File::create(path).map_err(|error| Error::Usage(format!("--html {}: {error}", path.display())))?;
        Ok(Self(Some((path.to_owned(), file))))
    }

    /// Draws `report` and `traces`.
    pub(super) fn draw(self, report: &BenchReport, traces: &[Trace]) -> Result<(), Error> {
        let Some((path, mut file)) = self.0 else { return Ok(()) };
        let page = page::page(std::slice::from_ref(report), &traces[..traces.len().min(page::SECTIONS_MAX - 1)])?;
        file.write_all(page.as_bytes()).map_err(|error| storage(&path.display().to_string(), &error))
    }
}
