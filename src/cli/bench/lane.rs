//! `dray bench lane`: the floor of a whole pull.

use std::path::PathBuf;

use clap::Args;

use crate::audit::Audit;
use crate::bench::floors::lane::{self, LaneWork, Steps};
use crate::cli::bench::floors::Measured;
use crate::cli::environment::{self, Wires};
use crate::cli::options::{ConnectionsArg, IoArg, parse_connections};
use crate::cli::{local, pull};
use crate::disk::{IoWish, place};
use crate::engine::Signals;
use crate::error::Error;
use crate::limits::Limits;
use crate::manifest::SafePath;
use crate::origin;
use crate::resolve::Filter;
use crate::units::{MIB, parse_size};
use crate::wire::Counters;

/// More threads than this are no floor of any machine.
const SIDE_BY_SIDE_MAX: i64 = 256;

/// Connections of a lane: while one waits for its write, others receive.
const CONNECTIONS: usize = 4;

/// Arguments of `dray bench lane`.
#[derive(Debug, Args)]
pub(super) struct LaneArgs {
    /// One object: http://host/file, https://host/file (a presigned URL too), s3://bucket/key, …
    #[arg(value_name = "SRC")]
    source: String,
    /// The directory it lands in; made when missing
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    /// Lanes; as many as CPUs where it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=SIDE_BY_SIDE_MAX), env = "DRAY_LANES")]
    lanes: Option<u32>,
    /// Parallel requests over all lanes; `auto` is 4 of each
    #[arg(long, value_name = "N", value_parser = parse_connections, default_value = "auto", env = "DRAY_CONNECTIONS")]
    connections: ConnectionsArg,
    /// Bytes of one request, rounded up to 4 MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "32MiB", env = "DRAY_SPAN")]
    span: u64,
    /// Way to the disk
    #[arg(long, value_enum, default_value = "auto", env = "DRAY_IO")]
    io: IoArg,
    /// Do not hash
    #[arg(long, env = "DRAY_NO_HASH")]
    no_hash: bool,
    /// Do not write: DEST is not touched
    #[arg(long, env = "DRAY_NO_WRITE")]
    no_write: bool,
    /// Measure the steps below as well, in turn: receive, receive + hash
    #[arg(long, env = "DRAY_STEPS")]
    steps: bool,
    #[command(flatten)]
    measured: Measured,
}

impl LaneArgs {
    fn steps(&self) -> Vec<Steps> {
        let last = match (self.no_hash, self.no_write) {
            (false, false) => Steps::All,
            (true, false) => Steps::ReceiveWrite,
            (false, true) => Steps::ReceiveHash,
            (true, true) => Steps::Receive,
        };
        let below: &[Steps] = if self.steps { &[Steps::Receive, Steps::ReceiveHash] } else { &[] };
        below.iter().filter(|steps| **steps != last).copied().chain([last]).collect()
    }
}

pub(super) async fn run(args: LaneArgs) -> Result<(), Error> {
    let mut signals = Signals::watch()?;
    // Its origin may be a server of this process: it lives as long as it is read.
    let (_resolved, work) = signals.unless(work(&args)).await?;
    drop(signals);
    args.measured.show(move |stop| lane::run(&work, stop)).await
}

/// Resolves the object as a pull would, down to the URL that its bytes are asked from.
async fn work(args: &LaneArgs) -> Result<(pull::Resolved, LaneWork), Error> {
    let environment = &environment::process()?;
    let asked = pull::Asked {
        source: &local::written(&args.source),
        filter: &Filter::default(),
        environment,
        limits: &Limits::default(),
        audit: &Audit::default(),
        counters: &Counters::default(),
        wires: &Wires::default(),
    };
    let resolved = pull::resolve_source(asked, &mut |_| ()).await?;
    let [entry] = resolved.manifest.entries.as_slice() else {
        let count = resolved.manifest.entries.len();
        return Err(Error::Usage(format!("the lane takes one object, the source has {count}")));
    };
    let (false, Some(size @ 1..)) = (resolved.origin.is_local(), entry.size) else {
        return Err(Error::Usage("the lane takes an object of a server that states its size".to_owned()));
    };
    let (access, _) = resolved.origin.access(entry).await.map_err(origin::failed)?;
    let base = entry.path.as_str().rsplit('/').next().unwrap_or_default();
    let name = SafePath::parse(base).map_err(|error| Error::Policy(error.to_string()))?;
    let lanes = args.lanes.map_or_else(place::cpus, |lanes| usize::try_from(lanes).unwrap_or(1));
    let connections = args.connections.0.unwrap_or(CONNECTIONS * lanes);
    let work = LaneWork {
        source: resolved.manifest.source.clone(),
        access,
        size,
        version: entry.version.clone(),
        wire: resolved.wire.clone(),
        dest: args.dest.clone(),
        name,
        lanes: lanes.min(connections),
        connections,
        span_bytes: args.span.max(1).next_multiple_of(4 * MIB),
        io: match args.io {
            IoArg::Auto => IoWish::Auto,
            IoArg::Uring => IoWish::Uring,
            IoArg::Threads => IoWish::Threads,
            IoArg::Buffered => IoWish::Buffered,
        },
        steps: args.steps(),
        rounds: args.measured.rounds,
    };
    Ok((resolved, work))
}
