//! `dray bench`: what a machine and an origin allow, and what is made of it.

mod disk;
mod floors;
mod hash;
mod lane;
mod origin;
mod tls;

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
        BenchCommand::Hash(args) => hash::run(args).await,
        BenchCommand::Disk(args) => disk::run(args).await,
        BenchCommand::Tls(args) => tls::run(args).await,
        BenchCommand::Origin(args) => origin::run(args).await,
        BenchCommand::Lane(args) => lane::run(args).await,
    }
}
