//! The command line: flags and environment in, exit code and one last `error:` line out.
//!
//! Only this module reads the environment. stdout carries what was asked for, stderr everything else.

mod bench;
mod demo;
mod doctor;
mod ending;
mod environment;
mod initializer;
mod kserve;
mod layout;
mod local;
mod lock;
mod metrics;
mod options;
mod plan;
mod prefetch;
mod progress;
mod pull;
mod trace;
mod verify;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::ending::Heard;
use crate::error::Error;

pub use options::{Common, Origins};

/// Takes model weights from object stores to local disk: parallel, proven, resumable, in bounded memory.
#[derive(Debug, Parser)]
#[command(name = "dray", version, max_term_width = 100, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(
    after_help = "As KServe's storage initializer (docs/kserve.md): dray SRC DEST [SRC DEST ...], without flags.\n\
SRC is s3://bucket/prefix-or-key, gs://bucket/prefix-or-object, az://account/container/prefix\n\
or an Azure blob URL, hf://owner/name[:rev], https://host/file, http://host/file, /path, file:///path,\n\
or demo:// (generated); or a registry's name:\n\
model-registry://[HOST/]MODEL[/VERSION][?namespace=NS], models:/NAME/VERSION, mlflow://NAME/VERSION;\n\
in those pairs a path is linked, not copied, and may be a pattern.\n\
Every flag has an environment variable DRAY_<FLAG>. Exit codes: 0 sealed, 2 usage, 3 not found,\n\
4 denied, 5 integrity, 6 refused, 7 network, 8 source changed, 9 disk full, 10 storage,\n\
130/143 interrupted; 7, 9, 130 and 143 resume."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Download one model, prove it, publish it
    Pull(pull::PullArgs),
    /// Download many models under one budget, from a list
    Prefetch(prefetch::PrefetchArgs),
    /// Show what would be fetched: paths, sizes, versions, stated digests
    Plan(plan::PlanArgs),
    /// Pin a model: read it once, keep nothing, write down versions and digests for --pin
    Lock(lock::LockArgs),
    /// Prove a directory against its receipt
    Verify(verify::VerifyArgs),
    /// Measure origin, disk, hash and whole pulls; peers beside them
    Bench(bench::BenchArgs),
    /// Tell which I/O path a directory allows, and why
    Doctor(doctor::DoctorArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    start_log();
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if initializer::asked(&words) {
        return perform(initializer::run(words), Heard::ByKubelet);
    }
    match Cli::try_parse() {
        Ok(Cli { command }) => perform(run(command), Heard::ByCaller),
        Err(error) => ending::usage(&error),
    }
}

/// Does `work` on a runtime of its own and ends as it ended.
fn perform(work: impl Future<Output = Result<(), Error>>, heard: Heard) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // File operations, name look-ups and credential helpers; the engine bounds its own share.
        .max_blocking_threads(16)
        .build();
    let result = match runtime {
        Ok(runtime) => {
            // A defect ends as any error does: with its exit code and its line.
            let defect = |_| Err(Error::Internal("a defect of dray; the lines above say where".to_owned()));
            let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work))).unwrap_or_else(defect);
            // A blocked disk must not keep a stopped process alive.
            runtime.shutdown_timeout(std::time::Duration::from_millis(100));
            result
        }
        Err(error) => Err(Error::Internal(format!("no runtime: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ending::fail(&error, heard),
    }
}

async fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Pull(args) => pull::run(args).await,
        Command::Prefetch(args) => prefetch::run(args).await,
        Command::Plan(args) => plan::run(args).await,
        Command::Lock(args) => lock::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Doctor(args) => doctor::run(&args),
    }
}

/// Writes what was asked for to stdout.
fn print(text: &str) -> Result<(), Error> {
    use std::io::Write;
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| Error::Storage(format!("stdout: {error}")))
}

/// Starts the log on stderr. Only dray's own records are shown at any level: the libraries beneath log
/// requests with their signatures.
fn start_log() {
    use tracing_subscriber::layer::SubscriberExt;
    let filter = tracing_subscriber::EnvFilter::try_from_env("DRAY_LOG")
        .or_else(|_| tracing_subscriber::EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    let own = tracing_subscriber::filter::filter_fn(|record| record.target().split("::").next() == Some("dray"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).compact().finish().with(own);
    if tracing::subscriber::set_global_default(log).is_err() {
        // Another part of the process (a test) has installed a log; it serves as well.
    }
}
