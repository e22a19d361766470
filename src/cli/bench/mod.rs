//! `dray bench`: flags to measurements, measurements to tables and JSON.
//!
//! In: flags. Out: what was measured, on stdout or in a file. Holds: work that blocks or burns is on threads of its own;
//! a signal ends it, and what it started, before the command ends.

mod all;
mod arena;
mod disk;
mod floors;
mod found;
mod hash;
mod lane;
mod measure;
mod origin;
mod output;
mod page;
mod pull;
mod serve;
mod tls;
mod words;

use clap::{Args, Subcommand};

use crate::error::Error;

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
    /// Draw traces of pulls and bench reports as one page of HTML
    Page(page::PageArgs),
}

pub(super) async fn run(args: BenchArgs) -> Result<(), Error> {
    match args.command {
        BenchCommand::Pull(args) => pull::run(args).await,
        BenchCommand::All(args) => all::run(args).await,
        BenchCommand::Serve(args) => serve::run(args).await,
        BenchCommand::Hash(args) => hash::run(args).await,
        BenchCommand::Disk(args) => disk::run(args).await,
        BenchCommand::Tls(args) => tls::run(args).await,
        BenchCommand::Origin(args) => origin::run(args).await,
        BenchCommand::Lane(args) => lane::run(args).await,
        BenchCommand::Page(args) => page::run(args).await,
    }
}
