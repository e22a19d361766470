//! `--trace FILE`: what a pull does, written down for `dray bench page`.
//!
//! In: the flag, the pull's source and DEST. Out: an observer that writes beside what it shows. Holds: a trace that
//! cannot be written is told before anything is asked of anybody; nothing of a `.dray` is written to; the trace of a run
//! that did not seal outlives the next one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};

use crate::bench::Recorder;
use crate::bench::machine::Machine;
use crate::bench::trace::{Head, SCHEMA};
use crate::engine::Observer;
use crate::error::Error;

/// The folder of DEST that is dray's own.
const STATE: &str = ".dray";

/// How the last line of a run that sealed begins.
const SEALED: &[u8] = b"{\"end\":{\"outcome\":\"sealed\"";

/// The last line is shorter: a bounded number of names and figures.
const END_BYTES_MAX: i64 = 64 << 10;

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
}

/// Where one pull is written down, if it is.
pub(super) struct Opened(Option<(PathBuf, File)>);

impl Tracing {
    /// Opens the file of the pull of this `number`, counted from 1: the second has `.2` after the file's name.
    ///
    /// # Errors
    /// [`Error::Usage`] when the file cannot be written or would lie in a `.dray`.
    pub(super) fn open(&self, number: usize) -> Result<Opened, Error> {
        let Some(path) = &self.trace else { return Ok(Opened(None)) };
        let path = match number {
            1 => path.clone(),
            number => PathBuf::from(format!("{}.{number}", path.display())),
        };
        let file = open(&path).map_err(|error| failed(&path, &error))?;
        Ok(Opened(Some((path, file))))
    }
}

impl Opened {
    /// An observer that shows what `observer` shows, and writes it down where that is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] when the first line cannot be written.
    pub(super) fn watching(self, observer: Box<dyn Observer>, of: &Traced<'_>) -> Result<Box<dyn Observer>, Error> {
        let Some((path, file)) = self.0 else { return Ok(observer) };
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let head = Head {
            schema: SCHEMA.to_owned(),
            source: of.source.to_owned(),
            dest: of.dest.display().to_string(),
            began_unix: since.map_or(0, |since| since.as_secs()),
            machine: Machine::at(of.dest),
        };
        let recorder = Recorder::start(file, &head, observer).map_err(|error| failed(&path, &error))?;
        Ok(Box::new(recorder))
    }
}

fn failed(path: &Path, why: &io::Error) -> Error {
    Error::Usage(format!("--trace {}: {why}", path.display()))
}

/// An empty file, or what else takes lines: never one in a `.dray`, and never after a wait for a pipe's reader.
fn open(path: &Path) -> io::Result<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    refuse_state(&parent.canonicalize()?.join(path.file_name().unwrap_or_default()))?;
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A link that leads nowhere is not followed: nobody has looked at where.
        Err(rustix::io::Errno::NOENT) => return File::create_new(path),
        Err(error) => return Err(error.into()),
    };
    // The path may lead elsewhere by now; the file itself does not.
    let place = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).or_else(|_| path.canonicalize())?;
    refuse_state(&place)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    if !file.metadata()?.is_file() {
        return Ok(file);
    }
    if is_wanted(&place) && std::fs::rename(&place, with_old(&place)).is_ok() {
        return File::create_new(&place);
    }
    file.set_len(0)?;
    Ok(file)
}

fn refuse_state(path: &Path) -> io::Result<()> {
    if path.components().any(|part| part.as_os_str() == STATE) {
        return Err(io::Error::other("that folder is dray's own"));
    }
    Ok(())
}

fn with_old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}

/// Whether the file at `place` may be the record of a run that did not seal: a container that was killed is started
/// again, and why it was killed is in the record of before.
fn is_wanted(place: &Path) -> bool {
    let tail = || {
        let mut file = File::open(place)?;
        let back = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX).min(END_BYTES_MAX);
        file.seek(SeekFrom::End(-back))?;
        let mut tail = Vec::new();
        file.take(END_BYTES_MAX.unsigned_abs()).read_to_end(&mut tail)?;
        io::Result::Ok(tail)
    };
    tail().is_ok_and(|tail| !tail.is_empty() && !tail.windows(SEALED.len()).any(|part| part == SEALED))
}
