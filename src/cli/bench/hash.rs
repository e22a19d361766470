//! `dray bench hash`: the floor of hashing.

use std::time::Duration;

use clap::Args;

use crate::bench::floors::hash::{self, HashWork};
use crate::cli::bench::floors::{self, Measured};
use crate::error::Error;

/// Arguments of `dray bench hash`.
#[derive(Debug, Args)]
pub(super) struct HashArgs {
    /// Time of one run of one row
    #[arg(long, value_name = "TIME", value_parser = floors::parse_time, default_value = "1s", env = "DRAY_SECONDS")]
    seconds: Duration,
    #[command(flatten)]
    measured: Measured,
}

pub(super) async fn run(args: HashArgs) -> Result<(), Error> {
    let work = HashWork { rounds: args.measured.rounds, time: args.seconds };
    args.measured.show(move |stop| hash::run(work, stop)).await
}
