//! `dray pull`: flags to a run, the run to lines, a report and an exit code.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use crate::audit::{Act, Audit};
use crate::cli::demo::Demo;
use crate::cli::environment;
use crate::cli::options::{Common, Origins};
use crate::cli::progress::{eprintln_line, observer};
use crate::engine::{self, Observer, Outcome, Proof, Pull, Signals};
use crate::error::Error;
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::manifest::receipt::Receipt;
use crate::origin::{Environment, Origin};
use crate::report::{self, Report};
use crate::resolve::{self, Filter};
use crate::uri::Source;
use crate::wire;

/// Arguments of `dray pull`.
#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// Where the model is: s3://bucket/prefix-or-key, hf://owner/name, https://host/file, demo://
    #[arg(value_name = "SRC")]
    source: String,
    /// The directory it lands in; made when missing
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    #[command(flatten)]
    origins: Origins,
    #[command(flatten)]
    common: Common,
}

/// A source that was resolved, with the demo origin that must live as long as it is read.
pub(super) struct Resolved {
    pub(super) manifest: Manifest,
    pub(super) origin: Arc<dyn Origin>,
    wire: Arc<wire::Settings>,
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
    /// The receipt that a repair must come back to.
    pub(super) sealed: Option<Receipt>,
    /// The last word before anything is fetched.
    pub(super) accept: fn(&Manifest) -> Result<(), Error>,
}

pub(super) async fn run(args: PullArgs) -> Result<(), Error> {
    let environment = &environment::process()?;
    let filter = &args.origins.filter(environment)?;
    let audit = &args.common.audit()?;
    let PullArgs { source, dest, common, .. } = &args;
    let wanted = Wanted { source, dest, common, filter, environment, audit, sealed: None, accept: |_| Ok(()) };
    run_with(wanted, observer(common.progress, std::io::stderr().is_terminal()).as_mut()).await
}

/// Pulls, and writes the report.
pub(super) async fn run_with(wanted: Wanted<'_>, watcher: &mut dyn Observer) -> Result<(), Error> {
    let Wanted { common, audit, .. } = wanted;
    let (resolved, pull) = begin(wanted).await?;
    let outcome = engine::pull(pull, watcher).await;
    drop(resolved);
    let summary = report::summary(&outcome.report);
    let ended = end(outcome, common, audit);
    if ended.is_ok() {
        watcher.end(&summary);
    }
    ended
}

/// Resolves what is wanted. A run that never began leaves a report too; its own failure is the one to tell.
pub(super) async fn begin(wanted: Wanted<'_>) -> Result<(Resolved, Pull), Error> {
    let started = Instant::now();
    let Wanted { source, dest, common, audit, .. } = wanted;
    let prepared = prepare(wanted, started).await;
    if let Err(error) = &prepared {
        refused(audit, error);
        if let Err(second) = write_report(common, &Report::of_failure(&shown(source), dest, error, started)) {
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

fn refused(audit: &Audit, error: &Error) {
    audit.record(&Act::Refusal { class: error.class(), cause: &error.to_string() });
}

async fn prepare(wanted: Wanted<'_>, started: Instant) -> Result<(Resolved, Pull), Error> {
    let Wanted { source, dest, common, filter, environment, audit, sealed, accept } = wanted;
    let limits = common.limits()?;
    let pin = common.pins()?;
    let mut signals = Signals::watch()?;
    let resolving = signals.unless(resolve_source(source, filter, environment, &limits, audit));
    let late = |_| Error::Network("the deadline passed while the source was resolved".to_owned());
    let resolved = match limits.deadline {
        None => resolving.await?,
        Some(deadline) => tokio::time::timeout(deadline, resolving).await.map_err(late)??,
    };
    let manifest = match &sealed {
        Some(sealed) => only_sealed(&resolved.manifest, sealed),
        None => resolved.manifest.clone(),
    };
    accept(&manifest)?;
    let pull = Pull {
        asked: shown(source),
        manifest,
        origin: resolved.origin.clone(),
        dest: dest.to_owned(),
        limits,
        io: common.io_wish(),
        wire: resolved.wire.clone(),
        require: common.required(),
        pin,
        sealed,
        seed: seed(),
        audit: audit.clone(),
        started,
    };
    Ok((resolved, pull))
}

/// Resolves `source`, starting the demo origin where it is asked for.
pub(super) async fn resolve_source(
    source: &str,
    filter: &Filter,
    environment: &Environment,
    limits: &Limits,
    audit: &Audit,
) -> Result<Resolved, Error> {
    let source = Source::parse(source)?;
    let wire = environment::wire_settings(limits, environment, &source)?;
    let settings = |environment| resolve::Settings {
        environment,
        wire: wire.clone(),
        filter: filter.clone(),
        audit: audit.clone(),
    };
    if let Source::Demo(spec) = &source {
        let demo = Demo::start(*spec)?;
        let (manifest, origin) = resolve::resolve(&Source::S3(demo.source()), &settings(demo.environment())).await?;
        // Named after what was asked, so that the next run's arena on another port continues this one's work.
        let manifest = Manifest { source: source.canonical(), ..manifest };
        return Ok(Resolved { manifest, origin, wire, _demo: Some(demo) });
    }
    let (manifest, origin) = resolve::resolve(&source, &settings(environment.clone())).await?;
    Ok(Resolved { manifest, origin, wire, _demo: None })
}

/// `dray verify --repair`: withdraws what is damaged, then pulls the same version again.
pub(super) async fn repair(source: &str, dir: &Path, common: &Common, proof: &Proof) -> Result<(), Error> {
    let (environment, filter, audit) = (&environment::process()?, &Filter::default(), &common.audit()?);
    let resolved = resolve_source(source, filter, environment, &common.limits()?, &Audit::default()).await?;
    let sealed = proof.receipt.clone();
    let withdrawn = engine::withdraw(dir, &only_sealed(&resolved.manifest, &sealed), proof)?;
    eprintln_line(&format!("withdrew {withdrawn} damaged files; fetching what is bad"));
    drop(resolved);
    // What is fetched again must be what was sealed, whatever the source says of its version.
    let sealed = Some(sealed);
    let wanted = Wanted { source, dest: dir, common, filter, environment, audit, sealed, accept: |_| Ok(()) };
    run_with(wanted, observer(common.progress, std::io::stderr().is_terminal()).as_mut()).await
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
