//! `dray pull`: flags to a run, the run to lines, a report and an exit code.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use crate::cli::demo::Demo;
use crate::cli::options::{self, Common, Origins};
use crate::cli::progress::{eprintln_line, observer};
use crate::engine::{self, Outcome, Proof, Pull, Signals};
use crate::error::Error;
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
    /// Where the model is: s3://bucket/prefix-or-key, https://host/file, demo://
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
    _demo: Option<Demo>,
}

pub(super) async fn run(args: PullArgs) -> Result<(), Error> {
    let filter = Filter::new(&args.origins.allow, &args.origins.ignore)?;
    run_with(&args.source, &args.dest, &args.common, &filter, None).await
}

/// Pulls; `sealed` is the receipt that a repair must come back to.
async fn run_with(
    source: &str,
    dest: &Path,
    common: &Common,
    filter: &Filter,
    sealed: Option<Receipt>,
) -> Result<(), Error> {
    let started = Instant::now();
    let (resolved, pull) = match prepare(source, dest, common, filter, sealed, started).await {
        Ok(prepared) => prepared,
        Err(error) => {
            // A run that never began leaves a report too; its own failure is the one to tell.
            if let Err(second) = write_report(common, &Report::of_failure(&shown(source), dest, &error, started)) {
                eprintln_line(&second.to_string());
            }
            return Err(error);
        }
    };
    let mut watcher = observer(common.progress, std::io::stderr().is_terminal());
    let Outcome { report, result } = engine::pull(pull, watcher.as_mut()).await;
    drop(resolved);
    let written = write_report(common, &report);
    if result.is_ok() {
        watcher.end(&report::summary(&report));
    }
    result.and(written)
}

async fn prepare(
    source: &str,
    dest: &Path,
    common: &Common,
    filter: &Filter,
    sealed: Option<Receipt>,
    started: Instant,
) -> Result<(Resolved, Pull), Error> {
    let limits = common.limits()?;
    let wire = options::wire_settings(&limits)?;
    let pin = common.pins()?;
    let mut signals = Signals::watch()?;
    let resolving = signals.unless(resolve_source(source, filter, &wire));
    let late = |_| Error::Network("the deadline passed while the source was resolved".to_owned());
    let resolved = match limits.deadline {
        None => resolving.await?,
        Some(deadline) => tokio::time::timeout(deadline, resolving).await.map_err(late)??,
    };
    let manifest = match &sealed {
        Some(sealed) => only_sealed(&resolved.manifest, sealed),
        None => resolved.manifest.clone(),
    };
    let pull = Pull {
        manifest,
        origin: resolved.origin.clone(),
        dest: dest.to_owned(),
        limits,
        io: common.io_wish(),
        wire,
        require: common.required(),
        pin,
        sealed,
        seed: seed(),
        started,
    };
    Ok((resolved, pull))
}

/// Resolves `source`, starting the demo origin where it is asked for.
pub(super) async fn resolve_source(
    source: &str,
    filter: &Filter,
    wire: &Arc<wire::Settings>,
) -> Result<Resolved, Error> {
    let source = Source::parse(source)?;
    let settings = |environment| resolve::Settings { environment, wire: wire.clone(), filter: filter.clone() };
    if let Source::Demo(spec) = &source {
        let demo = Demo::start(*spec)?;
        let (manifest, origin) = resolve::resolve(&Source::S3(demo.source()), &settings(demo.environment())).await?;
        // Named after what was asked, so that the next run's arena on another port continues this one's work.
        let manifest = Manifest { source: source.canonical(), ..manifest };
        return Ok(Resolved { manifest, origin, _demo: Some(demo) });
    }
    let (manifest, origin) = resolve::resolve(&source, &settings(process_environment())).await?;
    Ok(Resolved { manifest, origin, _demo: None })
}

/// This process's variables; one that is not UTF-8 is nobody's setting.
fn process_environment() -> Environment {
    Environment::new(
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )
}

/// `dray verify --repair`: withdraws what is damaged, then pulls the same version again.
pub(super) async fn repair(source: &str, dir: &Path, common: &Common, proof: &Proof) -> Result<(), Error> {
    let wire = options::wire_settings(&common.limits()?)?;
    let resolved = resolve_source(source, &Filter::default(), &wire).await?;
    let sealed = proof.receipt.clone();
    let withdrawn = engine::withdraw(dir, &only_sealed(&resolved.manifest, &sealed), proof)?;
    eprintln_line(&format!("withdrew {withdrawn} damaged files; fetching what is bad"));
    drop(resolved);
    // What is fetched again must be what was sealed, whatever the source says of its version.
    run_with(source, dir, common, &Filter::default(), Some(sealed)).await
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
fn shown(source: &str) -> String {
    Source::parse(source).map_or_else(|_| "(not a source)".to_owned(), |source| source.canonical())
}

/// A seed for jitter that differs between the pods of one deployment.
fn seed() -> u64 {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    u64::from(std::process::id()) << 32 | u64::from(now)
}
