//! `--trace FILE`: what a pull does, written down for `dray bench page`.
//!
//! In: the flag, the pull's source and DEST. Out: an observer that writes beside what it shows. Holds: a trace that
//! cannot be written is told before anything is asked of anybody.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::bench::Recorder;
use crate::bench::machine::Machine;
use crate::bench::trace::{Head, SCHEMA};
use crate::engine::Observer;
use crate::error::Error;

/// The folder of DEST that is dray's own.
const STATE: &str = ".dray";

/// The flag.
#[derive(Debug, Clone, Args)]
pub(super) struct Tracing {
    /// Write down the run while it goes on, for `dray bench page`
    #[arg(long, value_name = "FILE", env = "DRAY_TRACE")]
    trace: Option<PathBuf>,
}

/// What is traced.
pub(super) struct Traced<'a> {
    /// The source, without secrets.
    pub(super) source: &'a str,
    pub(super) dest: &'a Path,
    /// Which pull of this process: the second has `.2` after the file's name.
    pub(super) number: usize,
}

impl Tracing {
    /// An observer that shows what `observer` shows, and writes it down where that is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] when the file cannot be written or would lie in a `.dray`.
    pub(super) fn watching(&self, observer: Box<dyn Observer>, of: &Traced<'_>) -> Result<Box<dyn Observer>, Error> {
        let Some(path) = &self.trace else { return Ok(observer) };
        let path = match of.number {
            1 => path.clone(),
            number => PathBuf::from(format!("{}.{number}", path.display())),
        };
        let failed = |why: &dyn std::fmt::Display| Error::Usage(format!("--trace {}: {why}", path.display()));
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = parent.canonicalize().map_err(|error| failed(&error))?;
        let led_to = path.canonicalize().unwrap_or_default();
        if [&parent, &led_to].iter().any(|path| path.components().any(|part| part.as_os_str() == STATE)) {
            return Err(failed(&"that folder is dray's own"));
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let head = Head {
            schema: SCHEMA.to_owned(),
            source: of.source.to_owned(),
            dest: of.dest.display().to_string(),
            began_unix: since.map_or(0, |since| since.as_secs()),
            machine: Machine::at(of.dest),
        };
        let recorder = File::create(&path).and_then(|file| Recorder::start(file, &head, observer));
        Ok(Box::new(recorder.map_err(|error| failed(&error))?))
    }
}
