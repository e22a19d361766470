//! `dray bench origin`: the floor of the network.

use std::time::Duration;

use clap::Args;

use crate::audit::Audit;
use crate::bench::floors::origin::{self, Landed, Object, OriginWork};
use crate::cli::bench::floors::{self, Measured};
use crate::cli::environment::{self, Wires};
use crate::cli::options::{ConnectionsArg, Origins, parse_connections};
use crate::cli::{local, pull};
use crate::disk::place;
use crate::engine::Signals;
use crate::error::Error;
use crate::limits::Limits;
use crate::origin::failed;
use crate::wire::Counters;

/// Objects that are asked for; a model of more says no more of its origin.
const OBJECTS_MAX: usize = 256;

/// Connections of a lane where `--connections` is not given.
const CONNECTIONS: usize = 4;

/// Arguments of `dray bench origin`.
#[derive(Debug, Args)]
pub(super) struct OriginArgs {
    /// Where the model is, as for `dray pull`
    #[arg(value_name = "SRC")]
    source: String,
    /// Parallel requests over all lanes; `auto` is 4 of each
    #[arg(long, value_name = "N", value_parser = parse_connections, default_value = "auto", env = "DRAY_CONNECTIONS")]
    connections: ConnectionsArg,
    /// Hash each piece as well
    #[arg(long, env = "DRAY_HASH")]
    hash: bool,
    /// Time after which a run stops; it stops before when every byte has come
    #[arg(long, value_name = "TIME", value_parser = floors::parse_time, default_value = "3s", env = "DRAY_SECONDS")]
    seconds: Duration,
    #[command(flatten)]
    origins: Origins,
    #[command(flatten)]
    measured: Measured,
}

pub(super) async fn run(args: OriginArgs) -> Result<(), Error> {
    let mut signals = Signals::watch()?;
    // Its origin may be a server of this process: it lives as long as it is read.
    let (_resolved, work) = signals.unless(work(&args)).await?;
    drop(signals);
    args.measured.show(move |stop| origin::run(&work, stop)).await
}

async fn work(args: &OriginArgs) -> Result<(pull::Resolved, OriginWork), Error> {
    let (environment, limits) = (&environment::process()?, &Limits::default());
    let asked = pull::Asked {
        source: &local::written(&args.source),
        filter: &args.origins.filter(environment)?,
        environment,
        limits,
        audit: &Audit::default(),
        counters: &Counters::default(),
        wires: &Wires::default(),
    };
    let resolved = pull::resolve_source(asked, &mut |_| ()).await?;
    let mut objects = Vec::new();
    let local = resolved.origin.is_local();
    let sized = resolved.manifest.entries.iter().filter(|entry| entry.size.is_some_and(|size| 0 < size));
    for entry in sized.take(if local { 0 } else { OBJECTS_MAX }) {
        let (access, _) = resolved.origin.access(entry).await.map_err(failed)?;
        objects.push(Object { access, size: entry.size.unwrap_or(0), version: entry.version.clone() });
    }
    if objects.is_empty() {
        return Err(Error::Usage("nothing there is asked for over a network with a size that is known".to_owned()));
    }
    let cpus = place::cpus();
    let connections = args.connections.0.unwrap_or(CONNECTIONS * cpus);
    let work = OriginWork {
        source: resolved.manifest.source.clone(),
        objects,
        wire: resolved.wire.clone(),
        lanes: cpus.min(connections),
        connections,
        span_bytes: limits.span_bytes.1,
        landed: if args.hash { Landed::Hashed } else { Landed::Dropped },
        time: args.seconds,
        rounds: args.measured.rounds,
    };
    Ok((resolved, work))
}
