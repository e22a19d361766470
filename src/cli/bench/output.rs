//! Where figures of the harness go: a table, JSON, a page; and work that hears signals.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
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

/// A file that has its name when it is whole: what had the name before stays until then, and stays if this is dropped.
struct Whole {
    path: PathBuf,
    draft: Draft,
}

/// Where a [`Whole`] is written.
enum Draft {
    /// Beside the file that it will replace.
    Beside(tempfile::NamedTempFile),
    /// Into a pipe or a device, which keeps nothing.
    Straight(File),
}

impl Whole {
    /// Finds out whether `path`, which `flag` names, can be written, before anything is measured.
    fn open(flag: &str, path: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Usage(format!("{flag} {}: {error}", path.display()));
        // Through a link: what it points to is replaced.
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real.metadata().is_ok_and(|about| !about.is_file()) {
            let file = File::options().write(true).open(&real).map_err(failed)?;
            return Ok(Self { path: real, draft: Draft::Straight(file) });
        }
        let folder = real.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As any new file: the umask says who may read it.
        let open = std::fs::Permissions::from_mode(0o666);
        let draft = tempfile::Builder::new().prefix(".dray-").permissions(open).tempfile_in(folder).map_err(failed)?;
        Ok(Self { path: real, draft: Draft::Beside(draft) })
    }

    /// Writes `text` and gives it its name.
    fn write(self, text: &str) -> Result<(), Error> {
        let Self { path, draft } = self;
        let failed = |error: std::io::Error| storage(&path.display().to_string(), &error);
        match draft {
            Draft::Straight(mut file) => file.write_all(text.as_bytes()).map_err(failed),
            Draft::Beside(mut draft) => {
                draft.write_all(text.as_bytes()).map_err(failed)?;
                // A file that is a mount of its own cannot be replaced.
                draft.persist(&path).map(drop).or_else(|_| std::fs::write(&path, text)).map_err(failed)
            }
        }
    }
}

/// Where `--json` goes.
pub(super) struct Json(To);

enum To {
    /// Nowhere: a table on stdout.
    Unasked,
    /// To stdout, instead of the table.
    Stdout,
    /// To a file, beside the table.
    File(Whole),
}

impl Json {
    /// Opens what `--json` names, before anything is measured.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        Ok(Self(match path {
            None => To::Unasked,
            Some(path) if path == Path::new("-") => To::Stdout,
            Some(path) => To::File(Whole::open("--json", path)?),
        }))
    }

    /// Shows `report`.
    pub(super) fn show(self, report: &BenchReport) -> Result<(), Error> {
        self.put(report, &table::text(report))
    }

    /// Shows `report`, whose table is `table`.
    pub(super) fn put(self, report: &impl Serialize, table: &str) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(report).map_err(|error| Error::Internal(error.to_string()))? + "\n";
        match self.0 {
            To::Unasked => print(table),
            To::Stdout => {
                // People who watch read the table all the same.
                progress::eprintln_line(table.trim_end());
                print(&text)
            }
            To::File(file) => {
                let written = file.write(&text);
                written.and(print(table))
            }
        }
    }
}

/// Where `--html` goes.
pub(super) struct Html(Option<Whole>);

impl Html {
    /// Opens what `--html` names, before anything is measured.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        Ok(Self(path.map(|path| Whole::open("--html", path)).transpose()?))
    }

    /// Draws `report` and `traces`.
    pub(super) fn draw(self, report: &BenchReport, traces: &[Trace]) -> Result<(), Error> {
        let Some(file) = self.0 else { return Ok(()) };
        file.write(&page::page(std::slice::from_ref(report), &traces[..traces.len().min(page::SECTIONS_MAX - 1)])?)
    }
}
