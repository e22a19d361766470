//! `dray SRC DEST [SRC DEST …]`: the process contract of KServe's storage initializer (docs/kserve.md).
//!
//! In: pairs as arguments, everything else from the environment. Out: every pair fetched in order, or the first
//! failure. Holds: every DEST is there before the first byte; nothing is fetched that could not be used.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{CommandFactory, Parser};
use futures::FutureExt;

use crate::audit::Audit;
use crate::cli::environment::{self, Wires};
use crate::cli::layout::Layout;
use crate::cli::local::{self, Linked};
use crate::cli::metrics::Metrics;
use crate::cli::options::{Common, Formats, Origins};
use crate::cli::progress::observer;
use crate::cli::pull::{self, Archives, Wanted};
use crate::cli::trace::{Opened, Traced, Tracing};
use crate::cli::{Cli, ending, kserve};
use crate::disk::Dest;
use crate::engine::{self, LocalArchive, Observer, Require, Signals};
use crate::error::Error;
use crate::formats::Allowed;
use crate::origin::Environment;
use crate::resolve::Filter;
use crate::units::show_duration;
use crate::unpack::Kind;
use crate::uri::Source;

/// Sources beneath this are mounted by KServe itself: nothing is to be done.
const MOUNTED: &str = "/mnt/models";

/// The flags, which come from their variables alone here.
#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    origins: Origins,
    #[command(flatten)]
    formats: Formats,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    tracing: Tracing,
}

/// One SRC and its DEST.
struct Pair {
    place: Place,
    dest: PathBuf,
}

/// Where a model is.
enum Place {
    /// A path of this machine, perhaps with a pattern.
    Local(PathBuf),
    /// What an origin holds, as it was written.
    Remote(String),
}

/// Whether these arguments are pairs: the first is no command, and looks like a source or is a path.
pub(super) fn asked(words: &[OsString]) -> bool {
    let Some(first) = words.first() else { return false };
    let text = first.to_string_lossy();
    let named = Cli::command().get_subcommands().any(|command| OsStr::new(command.get_name()) == first);
    !named && !text.starts_with('-') && (text.contains(['/', ':']) || Path::new(first).exists())
}

/// Fetches every pair.
pub(super) async fn run(words: Vec<OsString>) -> Result<(), Error> {
    let started = Instant::now();
    let settings = Settings::try_parse_from(["dray"]).map_err(|error| ending::wrong(&error))?;
    let environment = kserve::ranked(environment::process()?);
    let audit = settings.common.audit()?;
    let told = |error: Error| {
        pull::refused(&audit, &error);
        error
    };
    let formats = settings.formats.allowed();
    let filter = settings.origins.filter(&environment).map_err(told)?;
    let pairs = wanted_pairs(&words, &environment).map_err(told)?;
    let metrics = settings.common.metrics(pairs.len(), &environment).map_err(told)?;
    let mut signals = Signals::watch().map_err(told)?;
    for pair in &pairs {
        Dest::open(&pair.dest).map_err(told)?;
    }
    let traces = opened(&settings.tracing, &pairs).map_err(told)?;
    for ((number, pair), trace) in pairs.iter().enumerate().zip(traces) {
        if let Some(stop) = signals.next().now_or_never() {
            return Err(told(stop));
        }
        let common = Common { deadline: left(&settings.common, started).map_err(told)?, ..settings.common.clone() };
        let mut watcher = watching(&settings, &metrics, pair, number, trace).map_err(told)?;
        let count = format!("{} of {}", number + 1, pairs.len());
        watcher.note(&format!("copying {} to {} ({count})", pair.place.shown(), pair.dest.display()));
        let began = Instant::now();
        let how = match &pair.place {
            Place::Local(path) => {
                refuse_proof(&common, path).map_err(told)?;
                match signals.unless(link(path, &pair.dest, &filter, formats.clone())).await.map_err(told)? {
                    Some(Linked::Archive(path, kind)) => {
                        let archive = local_archive(path, kind, &pair.dest, &common, &audit, &formats);
                        engine::unpack_local(archive, watcher.as_mut()).await.map_err(told)?;
                        "unpacked".to_owned()
                    }
                    linked => {
                        metrics.sealed_at_once();
                        match linked {
                            Some(Linked::Entries(count)) => format!("linked {count} entries of"),
                            _ => "nothing to do: mounted is".to_owned(),
                        }
                    }
                }
            }
            Place::Remote(source) => {
                let wanted = Wanted {
                    source,
                    dest: &pair.dest,
                    common: &common,
                    filter: &filter,
                    environment: &environment,
                    audit: &audit,
                    metrics: &metrics,
                    wires: &Wires::default(),
                    sealed: None,
                    archives: Archives::UnpackedAsKserve,
                    layout: Layout::Files,
                    formats: formats.clone(),
                };
                pull::run_with(wanted, watcher.as_mut()).await?;
                "copied".to_owned()
            }
        };
        let time = show_duration(began.elapsed());
        watcher.note(&format!("{how} {} to {} in {time}", pair.place.shown(), pair.dest.display()));
    }
    audit.check()
}

/// The trace of each pair. What is on this machine has none: nothing is asked of an origin.
fn opened(tracing: &Tracing, pairs: &[Pair]) -> Result<Vec<Option<Opened>>, Error> {
    let each = pairs.iter().zip(1..).map(|(pair, number)| match pair.place {
        Place::Remote(_) => tracing.open(number).map(Some),
        Place::Local(_) => Ok(None),
    });
    each.collect()
}

/// Who watches the pair of this `number`, counted from 0.
fn watching(
    settings: &Settings,
    metrics: &Metrics,
    pair: &Pair,
    number: usize,
    trace: Option<Opened>,
) -> Result<Box<dyn Observer>, Error> {
    let common = &settings.common;
    let mut watcher = metrics.watching(observer(common.progress, std::io::stderr().is_terminal()));
    if number == 0 {
        metrics.tell(common.metrics, common.progress, watcher.as_mut());
    }
    let Some(trace) = trace else { return Ok(watcher) };
    trace.watching(watcher, &Traced { source: &pair.place.shown(), dest: &pair.dest })
}

/// The pairs, if this build can do what is asked of them.
fn wanted_pairs(words: &[OsString], environment: &Environment) -> Result<Vec<Pair>, Error> {
    if environment.flag("CONFIDENTIAL_ENABLED") {
        let text = "CONFIDENTIAL_ENABLED asks for files to be decrypted; this build cannot";
        return Err(Error::Usage(text.to_owned()));
    }
    pairs(words)
}

/// Refuses links to `path`, or what is unpacked of it, where they would have to be proven. What KServe mounts is not
/// ours to prove.
fn refuse_proof(common: &Common, path: &Path) -> Result<(), Error> {
    let asked = common.required() != Require::None || common.pin.is_some();
    if asked && (path.exists() || !path.starts_with(MOUNTED)) {
        let text = "a source on this machine is not proven, and --require or --pin asks for it";
        return Err(Error::Integrity(text.to_owned()));
    }
    Ok(())
}

/// What unpacks the archive at `path`.
fn local_archive(
    path: PathBuf,
    kind: Kind,
    dest: &Path,
    common: &Common,
    audit: &Audit,
    formats: &Option<Allowed>,
) -> LocalArchive {
    let deadline = common.deadline.map(|left| Instant::now() + left);
    let (dest, io, audit) = (dest.to_owned(), common.io_wish(), audit.clone());
    LocalArchive { path, kind, dest, io, deadline, audit, formats: formats.clone() }
}

/// What is left of the deadline, which bounds all pairs together.
fn left(common: &Common, started: Instant) -> Result<Option<std::time::Duration>, Error> {
    let late = || Error::Network("the deadline passed before every model was whole; run again to resume".to_owned());
    let left = |deadline: std::time::Duration| deadline.checked_sub(started.elapsed()).ok_or_else(late);
    common.deadline.map(left).transpose()
}

/// Links a local model; `None` when it is there already.
async fn link(path: &Path, dest: &Path, filter: &Filter, formats: Option<Allowed>) -> Result<Option<Linked>, Error> {
    let (path, dest, filter) = (path.to_owned(), dest.to_owned(), filter.clone());
    let work = tokio::task::spawn_blocking(move || {
        let same = path.canonicalize().ok().is_some_and(|path| dest.canonicalize().is_ok_and(|dest| dest == path));
        if same || (path.starts_with(MOUNTED) && !path.exists()) {
            return Ok(None);
        }
        local::link(&path, &dest, &filter, formats.as_ref()).map(Some)
    });
    work.await.unwrap_or_else(|_| Err(Error::Internal("the links were lost".to_owned())))
}

fn pairs(words: &[OsString]) -> Result<Vec<Pair>, Error> {
    let usage = |text: &str| Err(Error::Usage(text.to_owned()));
    if words.iter().any(|word| word.to_string_lossy().starts_with('-')) {
        return usage("`dray SRC DEST …` takes no flags; set DRAY_<FLAG> instead, or use `dray pull`");
    }
    let (pairs, []) = words.as_chunks::<2>() else {
        return usage("sources and destinations come in pairs: dray SRC DEST [SRC DEST …]");
    };
    pairs.iter().map(|[source, dest]| pair(source, dest)).collect()
}

fn pair(source: &OsStr, dest: &OsStr) -> Result<Pair, Error> {
    let Some(text) = source.to_str() else { return Err(Error::Usage("a source is not UTF-8".to_owned())) };
    if dest.is_empty() {
        return Err(Error::Usage("a destination is empty".to_owned()));
    }
    let place = match text.strip_prefix("file://") {
        Some(path) if !path.is_empty() => Place::Local(PathBuf::from(path)),
        Some(_) => return Err(Error::Usage("the file:// source names no path".to_owned())),
        None if text.contains("://") => Place::remote(text)?,
        None if text.starts_with(['/', '.']) || Path::new(text).exists() => Place::Local(PathBuf::from(text)),
        None => Place::remote(text)?,
    };
    Ok(Pair { place, dest: PathBuf::from(dest) })
}

impl Place {
    /// Checks before anything is fetched what the text alone can tell.
    fn remote(text: &str) -> Result<Self, Error> {
        let source = Source::parse(text)?;
        if let Source::Http(http) = &source {
            let name = http.file_name()?;
            kserve::archive_kind(&name, &source)?;
            if http.url().scheme() == "https" && name.ends_with(".git") {
                return Err(Error::Usage("git repositories are not among the sources of this build".to_owned()));
            }
        }
        Ok(Self::Remote(text.to_owned()))
    }

    /// The place without what may be a secret.
    fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Remote(text) => pull::shown(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn commands_and_flags_are_no_pairs() {
        for pairs in
            [&["s3://b/m", "/d"][..], &["/mnt/models", "/d"], &["models:/m", "/d"], &["s3://b/m"], &["src", "d"]]
        {
            assert!(asked(&words(pairs)), "{pairs:?}");
        }
        for other in [&[][..], &["pull", "s3://b/m", "/d"], &["--help"], &["no-such-command"], &[""], &["-x", "s3://b"]]
        {
            assert!(!asked(&words(other)), "{other:?}");
        }
    }

    #[test]
    fn pairs_are_checked_before_anything_is_fetched() {
        for (wrong, why) in [
            (&["s3://bucket/m"][..], "in pairs"),
            (&["s3://bucket/m", "/a", "s3://bucket/n"], "in pairs"),
            (&["s3://bucket/m", "/a", "--memory", "4MiB"], "DRAY_<FLAG>"),
            (&["s3://bucket/m", ""], "empty"),
            (&["file://", "/a"], "names no path"),
            (&["hf://m", "/a"], "Invalid Hugging Face URI format"),
            (&["nonsense://x", "/a"], "scheme"),
            (&["https://host/m.git", "/a"], "git"),
        ] {
            let Err(Error::Usage(text)) = pairs(&words(wrong)) else { panic!("{wrong:?}") };
            assert!(text.contains(why), "{text}");
        }
        for packed in ["https://host/m.tar.Z", "https://host/download?path=/a/m.zip.gz"] {
            assert!(matches!(pairs(&words(&[packed, "/a"])), Err(Error::Policy(_))), "{packed}");
        }
        let good = pairs(&words(&["https://host/m.bin?x=m.zip", "/a", "/nowhere", "/b", "file:///x/*", "/c"])).unwrap();
        assert_eq!(good.len(), 3);
    }
}
