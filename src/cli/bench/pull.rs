//! `dray bench pull`: whole pulls beside peers.

use clap::Args;

use crate::cli::bench::measure::{self, Floors, MeasureArgs};
use crate::cli::bench::words;
use crate::error::Error;

/// Arguments of `dray bench pull`.
#[derive(Debug, Args)]
#[command(override_usage = "dray bench pull [OPTIONS] [URI]... DEST", after_help = words::HELP)]
pub(super) struct PullArgs {
    #[command(flatten)]
    measure: MeasureArgs,
}

pub(super) async fn run(args: PullArgs) -> Result<(), Error> {
    measure::run(args.measure, Floors::Unasked).await
}
