//! `dray bench all`: floors, whole pulls and peers, in turn.

use clap::Args;

use crate::cli::bench::measure::{self, Floors, MeasureArgs};
use crate::cli::bench::words;
use crate::error::Error;

/// Arguments of `dray bench all`.
#[derive(Debug, Args)]
#[command(override_usage = "dray bench all [OPTIONS] [URI]... DEST", after_help = words::HELP)]
pub(super) struct AllArgs {
    #[command(flatten)]
    measure: MeasureArgs,
}

pub(super) async fn run(args: AllArgs) -> Result<(), Error> {
    measure::run(args.measure, Floors::Measured).await
}
