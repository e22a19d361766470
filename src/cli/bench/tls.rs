//! `dray bench tls`: the floor of TLS.

use std::time::Duration;

use clap::Args;

use crate::cli::bench::floors::{self, Measured};
use crate::error::Error;

/// Arguments of `dray bench tls`.
#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// Time of one run of one row
    #[arg(long, value_name = "TIME", value_parser = floors::parse_time, default_value = "1s", env = "DRAY_SECONDS")]
    seconds: Duration,
    #[command(flatten)]
    measured: Measured,
}

#[cfg(feature = "arena")]
pub(super) async fn run(args: TlsArgs) -> Result<(), Error> {
    use crate::bench::floors::tls::{self, TlsWork};
    let work = TlsWork { rounds: args.measured.rounds, time: args.seconds };
    args.measured.show(move |stop| tls::run(work, stop)).await
}

/// The server's certificate comes from the arena, which the image leaves out.
#[cfg(not(feature = "arena"))]
pub(super) async fn run(_: TlsArgs) -> Result<(), Error> {
    Err(Error::Usage("this build has no server to speak TLS with; build it with the default features".to_owned()))
}
