//! `dray bench disk`: the floor of writing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::bench::floors::disk::{self, DiskWork};
use crate::cli::bench::floors::{self, Measured};
use crate::error::Error;
use crate::units::{MIB, parse_size};

/// Arguments of `dray bench disk`.
#[derive(Debug, Args)]
pub(super) struct DiskArgs {
    /// The directory to write in; what is written is removed again
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Bytes of one run
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "1GiB", env = "DRAY_SIZE")]
    size: u64,
    /// Time after which a run begins no more writes
    #[arg(long, value_name = "TIME", value_parser = floors::parse_time, default_value = "3s", env = "DRAY_SECONDS")]
    seconds: Duration,
    #[command(flatten)]
    measured: Measured,
}

pub(super) async fn run(args: DiskArgs) -> Result<(), Error> {
    if args.size < 16 * MIB {
        return Err(Error::Usage("--size must be at least 16MiB".to_owned()));
    }
    let DiskArgs { dir, size, seconds: time, measured } = args;
    let work = DiskWork { dir, size, time, rounds: measured.rounds };
    measured.show(move |stop| disk::run(&work, stop)).await
}
