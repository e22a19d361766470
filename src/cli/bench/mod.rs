//! `dray bench`: flags to measurements, measurements to tables and JSON.
//!
//! In: flags. Out: what was measured, on stdout or in a file. Holds: work that blocks or burns is on threads of its own;
//! a signal ends it, and what it started, before the command ends.

mod all;
mod arena;
mod disk;
mod floors;
mod hash;
mod lane;
mod measure;
mod origin;
mod page;
mod pull;
mod serve;
mod tls;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::bench::child::Stop;
use crate::bench::{BenchReport, table};
use crate::cli::{print, progress};
use crate::engine::Signals;
use crate::error::{Error, storage};

/// Arguments of `dray bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Run whole pulls, and peers on the same bytes, in turn
    Pull(pull::PullArgs),
    /// Run floors, whole pulls and peers in turn, and tell how near dray is to the nearest floor
    All(all::AllArgs),
    /// Serve the files of `dray bench pull` until SIGINT, for other people's clients
    Serve(serve::ServeArgs),
    /// Draw traces of pulls and bench reports as one page of HTML
    Page(page::PageArgs),
    /// The floor of hashing: one piece that is hot in cache, by one core and by all
    Hash(hash::HashArgs),
    /// The floor of writing: from warm memory, with a sync at the end, each way that a place allows
    Disk(disk::DiskArgs),
    /// The floor of TLS: records and handshakes in memory, the client's side of them
    Tls(tls::TlsArgs),
    /// The floor of the network: dray's own requests, and what they bring is dropped
    Origin(origin::OriginArgs),
    /// The floor of a whole pull: receive, hash, write and sync one object, and do nothing else
    Lane(lane::LaneArgs),
}

pub(super) async fn run(args: BenchArgs) -> Result<(), Error> {
    match args.command {
        BenchCommand::Pull(args) => pull::run(args).await,
        BenchCommand::All(args) => all::run(args).await,
        BenchCommand::Serve(args) => serve::run(args).await,
        BenchCommand::Page(args) => page::run(args).await,
        BenchCommand::Hash(args) => hash::run(args).await,
        BenchCommand::Disk(args) => disk::run(args).await,
        BenchCommand::Tls(args) => tls::run(args).await,
        BenchCommand::Origin(args) => origin::run(args).await,
        BenchCommand::Lane(args) => lane::run(args).await,
    }
}

/// Does `work` on a thread of its own. A signal tells it to stop and is waited out.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce(&Stop) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let mut signals = Signals::watch()?;
    let stop = Stop::default();
    let told = stop.clone();
    let mut working = tokio::task::spawn_blocking(move || work(&told));
    let lost = |_| Err(Error::Internal("the bench was lost from sight".to_owned()));
    tokio::select! {
        done = &mut working => done.unwrap_or_else(lost),
        reason = signals.next() => {
            stop.set();
            // What it came to does not matter any more; that it has cleaned up does.
            drop(working.await);
            Err(match reason {
                Error::Interrupted { signal } => Error::Interrupted { signal },
                other => other,
            })
        }
    }
}

/// Where `--json` goes.
enum Json {
    /// Nowhere: a table on stdout.
    Unasked,
    /// To stdout, instead of the table.
    Stdout,
    /// To a file, beside the table.
    File(PathBuf, File),
}

impl Json {
    /// Opens what `--json` names, before anything is measured.
    fn open(path: Option<&Path>) -> Result<Self, Error> {
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
    fn show(self, report: &BenchReport) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(report).map_err(|error| Error::Internal(error.to_string()))? + "\n";
        match self {
            Self::Unasked => print(&table::text(report)),
            Self::Stdout => {
                // People who watch read the table all the same.
                progress::eprintln_line(table::text(report).trim_end());
                print(&text)
            }
            Self::File(path, mut file) => {
                let failed = |error| storage(&path.display().to_string(), &error);
                file.write_all(text.as_bytes()).map_err(failed)?;
                print(&table::text(report))
            }
        }
    }
}
