//! `dray bench`: what this machine allows, and pages that show it.
//!
//! In: a sub-bench and its flags. Out: tables, JSON, pages. Holds: the work is done in `crate::bench`, on threads of
//! its own.

mod page;

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
    /// Draw traces of pulls and bench reports as one page of HTML
    Page(page::PageArgs),
}

pub(super) async fn run(args: BenchArgs) -> Result<(), Error> {
    match args.command {
        BenchCommand::Page(args) => page::run(args).await,
    }
}
