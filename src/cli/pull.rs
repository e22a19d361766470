//! `dray pull`: flags to a run, the run to lines, a report and an exit code.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use crate::audit::{Act, Audit};
use crate::cli::demo::Demo;
use crate::cli::environment::{self, Wires};
use crate::cli::layout::{Laid, Layout, LayoutArg};
use crate::cli::metrics::Metrics;
use crate::cli::options::{Common, Formats, Origins};
use crate::cli::progress::{eprintln_line, observer};
use crate::cli::trace::{Traced, Tracing};
use crate::cli::{kserve, local};
use crate::engine::{self, Observer, Outcome, Phase, Proof, Pull, ReadBytes, Signals, Snapshot};
use crate::error::Error;
use crate::formats::Allowed;
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::manifest::receipt::Receipt;
use crate::origin::{Environment, Origin};
use crate::report::{self, Report};
use crate::resolve::{self, Filter, Located};
use crate::unpack::Kind;
use crate::uri::Source;
use crate::wire::{self, Counters};

/// Arguments of `dray pull`.
#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// Where the model is: s3://bucket/prefix-or-key, gs://bucket/…, az://account/container/…, hf://owner/name, https://host/file, /path or file:///path, model-registry://name, models:/name/1, demo://
    #[arg(value_name = "SRC")]
    source: String,
    /// The directory it lands in; made when missing
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    /// When the one file is an archive (tar, tar.gz, tar.bz2, tar.xz, zip by its name), publish its files instead
    #[arg(long, env = "DRAY_UNPACK")]
    unpack: bool,
    /// Where files go: `files` as they are named, or `hub`, where DEST is a cache that the Hub's own clients read
    #[arg(long, value_enum, default_value = "files", conflicts_with = "unpack", env = "DRAY_LAYOUT")]
    layout: LayoutArg,
    #[command(flatten)]
    formats: Formats,
    #[command(flatten)]
    origins: Origins,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    tracing: Tracing,
}

/// A source that was resolved, with the demo origin that must live as long as it is read.
pub(super) struct Resolved {
    pub(super) manifest: Manifest,
    pub(super) origin: Arc<dyn Origin>,
    pub(super) wire: Arc<wire::Settings>,
    _demo: Option<Demo>,
}

/// One pull to be.
pub(super) struct Wanted<'a> {
    pub(super) source: &'a str,
    pub(super) dest: &'a Path,
    pub(super) common: &'a Common,
    pub(super) filter: &'a Filter,
    pub(super) environment: &'a Environment,
    pub(super) audit: &'a Audit,
    pub(super) metrics: &'a Metrics,
    /// What is shared with other pulls of the run.
    pub(super) wires: &'a Wires,
    /// The receipt that a repair must come back to.
    pub(super) sealed: Option<Receipt>,
    pub(super) archives: Archives,
    pub(super) layout: Layout,
    /// What the published files may be; anything when it is not given.
    pub(super) formats: Option<Allowed>,
}

/// What becomes of a model that is one archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archives {
    /// It is a file as any other.
    Packed,
    /// Its members are published, where its name says what it is.
    Unpacked,
    /// As [`Archives::Unpacked`], and the query of a URL may say it too: KServe's rule.
    UnpackedAsKserve,
    /// A repair knows.
    Known(Kind),
}

impl Archives {
    /// As what `manifest` is unpacked, if it is.
    fn kind(self, source: &str, manifest: &Manifest) -> Result<Option<Kind>, Error> {
        let [only] = manifest.entries.as_slice() else { return Ok(None) };
        match self {
            Self::Packed => Ok(None),
            Self::Unpacked => Kind::of(only.path.as_str()),
            // Upstream unpacks nothing of a repository, wherever its name came from.
            Self::UnpackedAsKserve if manifest.source.starts_with("hf://") => Ok(None),
            Self::UnpackedAsKserve => kserve::archive_kind(only.path.as_str(), &Source::parse(source)?),
            Self::Known(kind) => Ok(Some(kind)),
        }
    }
}

pub(super) async fn run(args: PullArgs) -> Result<(), Error> {
    let environment = &environment::process()?;
    let filter = &args.origins.filter(environment)?;
    let audit = &args.common.audit()?;
    let metrics = &args.common.metrics(1, environment)?;
    let PullArgs { dest, common, .. } = &args;
    let source = &*local::written(&args.source);
    let formats = args.formats.allowed();
    let archives = if args.unpack { Archives::Unpacked } else { Archives::Packed };
    let (layout, wires) = (Layout::from(args.layout), &Wires::default());
    let traced = Traced { source: &shown(source), dest };
    let mut watcher = args.tracing.open(1)?.watching(watcher(common, metrics), &traced)?;
    let wanted = Wanted {
        source,
        dest,
        common,
        filter,
        environment,
        audit,
        metrics,
        wires,
        sealed: None,
        archives,
        layout,
        formats,
    };
    run_with(wanted, watcher.as_mut()).await
}

/// The observer that `common` asks for, which `metrics` see too; says where those are.
pub(super) fn watcher(common: &Common, metrics: &Metrics) -> Box<dyn Observer> {
    let mut watcher = metrics.watching(observer(common.progress, std::io::stderr().is_terminal()));
    metrics.tell(common.metrics, common.progress, watcher.as_mut());
    watcher
}

/// Pulls, and writes the report.
pub(super) async fn run_with(wanted: Wanted<'_>, watcher: &mut dyn Observer) -> Result<(), Error> {
    let Wanted { common, audit, .. } = wanted;
    let (resolved, pull) = begin(wanted, watcher).await?;
    let outcome = engine::pull(pull, watcher).await;
    drop(resolved);
    watcher.report(&outcome.report);
    let summary = report::summary(&outcome.report);
    let ended = end(outcome, common, audit);
    if ended.is_ok() {
        watcher.end(&summary);
    }
    ended
}

/// What there is to say once somebody listens again.
#[derive(Default)]
pub(super) struct Notes(RefCell<Vec<String>>);

impl Notes {
    fn take(&self, line: &str) {
        self.0.borrow_mut().push(line.to_owned());
    }

    pub(super) fn tell(self, watcher: &mut dyn Observer) {
        self.0.into_inner().iter().for_each(|line| watcher.note(line));
    }
}

/// Resolves what is wanted. A run that never began leaves a report too; its own failure is the one to tell.
pub(super) async fn begin(wanted: Wanted<'_>, watcher: &mut dyn Observer) -> Result<(Resolved, Pull), Error> {
    let started = Instant::now();
    let Wanted { source, dest, common, audit, .. } = wanted;
    let look = || Snapshot::early(Phase::Resolving, started);
    // Told afterwards: the watcher watches meanwhile.
    let notes = Notes::default();
    let prepared = engine::observed(watcher, look, prepare(wanted, started, &notes)).await;
    notes.tell(watcher);
    if let Err(error) = &prepared {
        watcher.tick(&Snapshot::early(Phase::Stopped, started));
        refused(audit, error);
        let report = Report::of_failure(&shown(source), dest, error, started);
        watcher.report(&report);
        if let Err(second) = write_report(common, &report) {
            eprintln_line(&second.to_string());
        }
    }
    prepared
}

/// Leaves the report and the last acts of a run.
pub(super) fn end(outcome: Outcome, common: &Common, audit: &Audit) -> Result<(), Error> {
    let Outcome { report, result } = outcome;
    if let Err(error) = &result {
        refused(audit, error);
    }
    let written = audit.check().and(write_report(common, &report));
    result.and(written)
}

/// Writes down that something was refused, or failed.
pub(super) fn refused(audit: &Audit, error: &Error) {
    audit.record(&Act::Refusal { class: error.class(), cause: &error.to_string() });
}

/// Resolves what is wanted into a pull; `notes` takes what a registry said.
pub(super) async fn prepare(wanted: Wanted<'_>, started: Instant, notes: &Notes) -> Result<(Resolved, Pull), Error> {
    let Wanted { source, dest, common, filter, environment, audit, metrics, wires, sealed, archives, layout, formats } =
        wanted;
    layout.check(source)?;
    let limits = common.limits(environment)?;
    let pin = common.pins()?;
    let mut signals = Signals::watch()?;
    let asked = Asked { source, filter, environment, limits: &limits, audit, counters: metrics.counters(), wires };
    let note = &mut |line: &str| notes.take(line);
    let resolving = signals.unless(resolve_source(asked, note));
    let late = |_| Error::Network("the deadline passed while the source was resolved".to_owned());
    let resolved = match limits.deadline {
        None => resolving.await?,
        Some(deadline) => tokio::time::timeout(deadline, resolving).await.map_err(late)??,
    };
    let laid = layout.lay(source, dest, resolved.manifest.clone(), pin, resolved.origin.as_ref())?;
    let Laid { manifest, dest, names, pin } = laid;
    let (manifest, names) = match &sealed {
        // A repair brings back what was sealed, and leaves links and refs to pulls.
        Some(sealed) => (only_sealed(&manifest, sealed), names.map(|_| Arc::default())),
        None => (manifest, names),
    };
    let unpack = archives.kind(source, &manifest)?;
    let pull = Pull {
        asked: shown(source),
        manifest,
        origin: resolved.origin.clone(),
        dest,
        names,
        limits,
        io: common.io_wish(),
        wire: resolved.wire.clone(),
        unpack,
        require: common.required(),
        pin,
        sealed,
        formats,
        seed: seed(),
        audit: audit.clone(),
        crew: None,
        started,
    };
    Ok((resolved, pull))
}

/// What is to be resolved, and with what.
pub(super) struct Asked<'a> {
    pub(super) source: &'a str,
    pub(super) filter: &'a Filter,
    pub(super) environment: &'a Environment,
    pub(super) limits: &'a Limits,
    pub(super) audit: &'a Audit,
    /// Where the wire counts.
    pub(super) counters: &'a Counters,
    /// What is shared with other pulls of the run.
    pub(super) wires: &'a Wires,
}

/// Resolves a source, through its registry or starting the demo origin where one is asked for; `note` is told what a
/// registry answered.
pub(super) async fn resolve_source(asked: Asked<'_>, note: &mut dyn FnMut(&str)) -> Result<Resolved, Error> {
    let Asked { source, filter, environment, limits, audit, counters, wires } = asked;
    let source = Source::parse(source)?;
    let wire = wires.settings(limits, environment, &source, counters)?;
    let settings = |environment, wire: &Arc<wire::Settings>| resolve::Settings {
        environment,
        wire: wire.clone(),
        filter: filter.clone(),
        audit: audit.clone(),
    };
    if let Some(located) = resolve::locate(&source, &settings(environment.clone(), &wire)).await? {
        let Located { source, named, environment, note: line } = located;
        note(&line);
        // Trust in the registry's server is not trust in the store, and the other way round.
        let wire = wires.apart().settings(limits, &environment, &source, counters)?;
        let (manifest, origin) = resolve::resolve_named(&source, named, &settings(environment, &wire)).await?;
        return Ok(Resolved { manifest, origin, wire, _demo: None });
    }
    if let Source::Demo(spec) = &source {
        let demo = Demo::start(*spec)?;
        let (manifest, origin) =
            resolve::resolve(&Source::S3(demo.source()), &settings(demo.environment(), &wire)).await?;
        // Named after what was asked, so that the next run's arena on another port continues this one's work.
        let manifest = Manifest { source: source.canonical(), ..manifest };
        return Ok(Resolved { manifest, origin, wire, _demo: Some(demo) });
    }
    let (manifest, origin) = resolve::resolve(&source, &settings(environment.clone(), &wire)).await?;
    Ok(Resolved { manifest, origin, wire, _demo: None })
}

/// `dray verify --repair`: withdraws what is damaged, then pulls the same version again.
pub(super) async fn repair(
    source: &str,
    dir: &Path,
    common: &Common,
    audit: &Audit,
    metrics: &Metrics,
    proof: &Proof,
    watcher: &mut dyn Observer,
) -> Result<(), Error> {
    let (environment, filter) = (&environment::process()?, &Filter::default());
    let sealed = proof.receipt.clone().of_fetched();
    let layout = Layout::of(&proof.receipt);
    let kind = proof.receipt.archive.as_ref().and_then(|archive| Kind::from_word(&archive.kind));
    let withdrawn = async {
        if kind.is_some() && source.starts_with("file://") {
            let text =
                "the files were unpacked of an archive on this machine: remove them and run `dray SRC DEST` again";
            return Err(Error::Usage(text.to_owned()));
        }
        let (started, limits) = (Instant::now(), common.limits(environment)?);
        let asked = Asked {
            source,
            filter,
            environment,
            limits: &limits,
            audit,
            counters: metrics.counters(),
            wires: &Wires::default(),
        };
        let note = &mut |_: &str| ();
        let resolving = resolve_source(asked, note);
        let look = || Snapshot::early(Phase::Resolving, started);
        let resolved = engine::observed(watcher, look, resolving).await?;
        let laid = layout.lay(source, dir, resolved.manifest.clone(), None, resolved.origin.as_ref())?;
        let manifest = only_sealed(&laid.manifest, &sealed);
        if kind.is_some() {
            engine::repairable(&manifest, &sealed)?;
            return Ok("fetching the archive again, to unpack what is damaged".to_owned());
        }
        let tally = ReadBytes::default();
        let dir = dir.to_owned();
        let (proof, counted) = (proof.clone(), tally.clone());
        let work = tokio::task::spawn_blocking(move || engine::withdraw(&dir, &manifest, &proof, &counted));
        let look = || Snapshot { read_bytes: tally.total(), ..Snapshot::early(Phase::Reading, started) };
        let lost = |_| Err(Error::Internal("the damaged files were lost from sight".to_owned()));
        let withdrawn = engine::observed(watcher, look, work).await.unwrap_or_else(lost)?;
        Ok(format!("withdrew {withdrawn} damaged files; fetching what is bad"))
    };
    let withdrawn = withdrawn.await.inspect_err(|error| refused(audit, error))?;
    watcher.note(&withdrawn);
    let archives = kind.map_or(Archives::Packed, Archives::Known);
    // What is fetched again must be what was sealed, whatever the source says of its version.
    let sealed = Some(sealed);
    let (dest, formats, wires) = (dir, None, &Wires::default());
    let wanted =
        Wanted { source, dest, common, filter, environment, audit, metrics, wires, sealed, archives, layout, formats };
    run_with(wanted, watcher).await
}

/// The files of `manifest` that `sealed` names: the rest was not wanted, or came later.
fn only_sealed(manifest: &Manifest, sealed: &Receipt) -> Manifest {
    let entries = manifest.entries.iter().filter(|entry| sealed.file(&entry.path).is_some()).cloned().collect();
    Manifest { source: manifest.source.clone(), entries }
}

pub(super) fn write_report(common: &Common, report: &Report) -> Result<(), Error> {
    let Some(path) = &common.report else { return Ok(()) };
    let failed = |error: std::io::Error| Error::Storage(format!("--report {}: {error}", path.display()));
    let mut text = serde_json::to_vec_pretty(report).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    std::fs::write(path, text).map_err(failed)
}

/// The source as a report may show it; what cannot be parsed may hold anything, so it is not shown.
pub(super) fn shown(source: &str) -> String {
    Source::parse(source).map_or_else(|_| "(not a source)".to_owned(), |source| source.canonical())
}

/// A seed for jitter that differs between the pods of one deployment.
fn seed() -> u64 {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    u64::from(std::process::id()) << 32 | u64::from(now)
}
