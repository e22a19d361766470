//! The command line: flags and environment in, exit code and one last `error:` line out.
//!
//! Only this module reads the environment. stdout carries what was asked for, stderr everything else.

mod demo;
mod doctor;
mod options;
mod plan;
mod progress;
mod pull;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;

pub use options::{Common, Origins};

/// Takes model weights from object stores to local disk: parallel, proven, resumable, in bounded memory.
#[derive(Debug, Parser)]
#[command(name = "dray", version, max_term_width = 100, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(
    after_help = "SRC is s3://bucket/prefix-or-key, https://host/file, http://host/file, or demo:// for a generated model.\n\
Every flag has an environment variable DRAY_<FLAG>. Exit codes: 0 sealed, 2 usage, 3 not found, 4 denied, 5 integrity,\n\
6 refused, 7 network, 8 source changed, 9 disk full, 10 storage, 130/143 interrupted; 7, 9, 130 and 143 resume."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Download one model, prove it, publish it
    Pull(pull::PullArgs),
    /// Show what would be fetched: paths, sizes, versions, stated digests
    Plan(plan::PlanArgs),
    /// Prove a directory against its receipt
    Verify(verify::VerifyArgs),
    /// Tell which I/O path a directory allows, and why
    Doctor(doctor::DoctorArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    start_log();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // File operations, name look-ups and credential helpers; the engine bounds its own share.
        .max_blocking_threads(16)
        .build();
    let result = match runtime {
        Ok(runtime) => {
            // A defect ends as any error does: with its exit code and its line.
            let defect = |_| Err(Error::Internal("a defect of dray; the lines above say where".to_owned()));
            let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(cli.command)))).unwrap_or_else(defect);
            // A blocked disk must not keep a stopped process alive.
            runtime.shutdown_timeout(std::time::Duration::from_millis(100));
            result
        }
        Err(error) => Err(Error::Internal(format!("no runtime: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Pull(args) => pull::run(args).await,
        Command::Plan(args) => plan::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Doctor(args) => doctor::run(&args),
    }
}

/// Prints the cause as the last line of stderr and yields its exit code.
fn fail(error: &Error) -> ExitCode {
    let line: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    progress::eprintln_line(&format!("error: {line}"));
    ExitCode::from(error.exit_code())
}

/// Help and version go to stdout and succeed; a wrong command line says how first and why last.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return if print(&text).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        progress::eprintln_line(text.trim_end());
        return fail(&Error::Usage("no command given".to_owned()));
    }
    let (cause, rest): (Vec<&str>, Vec<&str>) =
        text.lines().filter(|line| !line.trim().is_empty()).partition(|line| line.starts_with("error:"));
    for line in rest {
        progress::eprintln_line(line);
    }
    let cause = cause.first().map_or("wrong usage", |line| line.trim_start_matches("error:").trim());
    fail(&Error::Usage(cause.trim_end_matches(':').to_owned()))
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
