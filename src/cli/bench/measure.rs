//! What `dray bench pull` and `dray bench all` share: flags to contenders, contenders to a report.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::bench::Stop;
use crate::bench::contender::{Contender, Origin, Place, SourceFile};
use crate::bench::ground::{Cache, Ground};
use crate::bench::landed::OTHER_BYTES;
use crate::bench::machine::Machine;
use crate::bench::own::{self, Handed};
use crate::bench::peers::{self, Finder, Wanted};
use crate::bench::rounds::Rounds;
use crate::bench::trace::Trace;
use crate::bench::{BenchReport, Kind, SCHEMA, Work};
use crate::cli::bench::arena::{Arena, ArenaArgs};
use crate::cli::bench::found::{self, Found};
use crate::cli::bench::output::{Html, Json, on_thread};
use crate::cli::bench::words::Words;
use crate::cli::options::IoArg;
use crate::cli::progress::eprintln_line;
use crate::disk::{self, Dest, IoWish, place};
use crate::engine::Signals;
use crate::error::Error;
use crate::units::{parse_duration, parse_size, show_size};

/// Rounds of one bench at most.
const ROUNDS_MAX: i64 = 1000;

/// Flags of a bench of whole pulls.
#[derive(Debug, Args)]
pub(super) struct MeasureArgs {
    #[command(flatten)]
    words: Words,
    /// How often each contender is run, in turn with the others
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=ROUNDS_MAX), env = "DRAY_ROUNDS")]
    rounds: u32,
    /// Tools to run beside dray: `auto` (those in DRAY_BENCH_PATH and PATH), `none`, or names
    #[arg(long, value_name = "NAMES", default_value = "auto", value_parser = Wanted::parse, env = "DRAY_PEERS")]
    peers: Wanted,
    /// The page cache before each run: as it is, or dropped (all of it by root: that slows neighbours)
    #[arg(long, value_enum, default_value = "warm", env = "DRAY_CACHE")]
    cache: CacheArg,
    /// Before each run write so many bytes to DEST and remove them: for a DEST in memory, on a virtual machine
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "0", env = "DRAY_TOUCH")]
    touch: u64,
    /// Ways to the disk for dray to take; the ones this place allows when it is left out
    #[arg(long, value_enum, value_delimiter = ',', env = "DRAY_IO")]
    io: Vec<IoArg>,
    /// Handed to each run of dray
    #[arg(long, value_name = "N", env = "DRAY_CONNECTIONS")]
    connections: Option<String>,
    /// Handed to each run of dray
    #[arg(long, value_name = "BYTES", value_parser = size_text, env = "DRAY_MEMORY")]
    memory: Option<String>,
    /// Kill a contender that takes longer, and leave it out
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration, env = "DRAY_RUN_TIMEOUT")]
    run_timeout: Duration,
    /// Write the report as JSON; - is stdout
    #[arg(long, value_name = "FILE", env = "DRAY_JSON")]
    json: Option<PathBuf>,
    /// Draw the report, and the last run of each way of dray, as one page of HTML
    #[arg(long, value_name = "FILE", env = "DRAY_HTML")]
    html: Option<PathBuf>,
    #[command(flatten)]
    arena: ArenaArgs,
}

/// `--cache`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CacheArg {
    /// As the run before left it.
    Warm,
    /// Dropped.
    Dropped,
}

/// Whether floors are measured too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Floors {
    /// In turn with the rest.
    Measured,
    /// No.
    Unasked,
}

fn size_text(text: &str) -> Result<String, String> {
    parse_size(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) async fn run(args: MeasureArgs, floors: Floors) -> Result<(), Error> {
    let dest = args.words.dest()?;
    let json = Json::open(args.json.as_deref())?;
    let found = Signals::watch()?.unless(found::find(args.words.sources())).await?;
    let html = Html::open(args.html.as_deref())?;
    let (report, traces) = on_thread(move |stop| measure(&args, &dest, floors, found, stop)).await?;
    // What one of them cannot take, the other still does.
    let (shown, drawn) = (json.show(&report), html.draw(&report, &traces));
    shown.and(drawn)?;
    let own = report.rows.iter().filter(|row| row.kind == Kind::Dray);
    let failed = own.filter_map(|row| Some(failure(&row.name, row.failed.as_deref()?))).next();
    failed.map_or(Ok(()), Err)
}

/// The reason that dray's own failure is: bytes of no source, else what its exit code says.
fn failure(name: &str, why: &str) -> Error {
    let text = format!("{name} failed: {why}");
    let code = why.strip_prefix("exit status: ").and_then(|rest| rest.split(':').next());
    match code {
        None if why.ends_with(OTHER_BYTES) => Error::Integrity(text),
        Some("1") => Error::Internal(text),
        Some("2") => Error::Usage(text),
        Some("3") => Error::NotFound(text),
        Some("4") => Error::Denied(text),
        Some("5") => Error::Integrity(text),
        Some("6") => Error::Policy(text),
        Some("8") => Error::Changed(text),
        Some("9") => Error::DiskFull(text),
        Some("10") => Error::Storage(text),
        _ => Error::Network(text),
    }
}

/// Runs everybody. Blocks.
fn measure(
    args: &MeasureArgs,
    dest: &Path,
    floors: Floors,
    found: Option<Found>,
    stop: &Stop,
) -> Result<(BenchReport, Vec<Trace>), Error> {
    let ground = Ground::take(dest)?;
    let scratch = &ground.place().scratch;
    let machine = Machine::read(Some(scratch));
    let (arena, origins, mut files, shown) = match found {
        Some(Found { origin, files, shown }) => (None, vec![origin], files, shown),
        None => {
            room(dest, args.arena.bytes())?;
            eprintln_line(&format!("preparing {}", args.arena.words()));
            let (arena, origins) = Arena::start(&args.arena, scratch)?;
            let files = arena.files(stop);
            (Some(arena), origins, files, args.arena.words())
        }
    };
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    room(dest, bytes.max(args.touch))?;
    let contenders = contenders(args, floors, &origins, &files, &ground, stop)?;
    let rounds = Rounds {
        ground: &ground,
        rounds: args.rounds,
        cache: match args.cache {
            CacheArg::Warm => Cache::Warm,
            CacheArg::Dropped => Cache::Dropped,
        },
        touch: args.touch,
        within: args.run_timeout,
        stop,
        told: &|line| eprintln_line(line),
    };
    let mut ended = rounds.run(&contenders, &mut files)?;
    if machine.file_system.starts_with("tmpfs ") {
        // Whatever they do for it: memory survives no power cut.
        ended.rows.iter_mut().for_each(|row| row.durable = false);
    }
    if let Some(met) = arena.as_ref().and_then(Arena::met) {
        eprintln_line(&met);
    }
    let files = u64::try_from(files.len()).unwrap_or(u64::MAX);
    let dest = Some(dest.display().to_string());
    let work = Work { origin: shown, files, bytes, dest, cache: ended.cache };
    let report = BenchReport { schema: SCHEMA.to_owned(), machine, work, rounds: args.rounds, rows: ended.rows };
    Ok((report, traces(scratch)))
}

/// What the last round's pulls wrote down; one that failed may have left nothing.
fn traces(folder: &Path) -> Vec<Trace> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_last_run = |name: &str| name.starts_with("trace-") && !name.ends_with(".old");
    let is_trace = |path: &PathBuf| path.file_name().is_some_and(|name| of_last_run(&name.to_string_lossy()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_trace).collect();
    paths.sort();
    let read = |path: &PathBuf| Trace::read(std::io::BufReader::new(std::fs::File::open(path).ok()?)).ok();
    paths.iter().filter_map(read).collect()
}

/// A contender that fills the disk says less than this does.
fn room(dest: &Path, bytes: u64) -> Result<(), Error> {
    match place::free_bytes(dest) {
        Ok(free) if free < bytes => {
            let (free, bytes) = (show_size(free), show_size(bytes));
            Err(Error::DiskFull(format!("{}: {free} free, {bytes} needed", dest.display())))
        }
        // What cannot be asked is found out by trying.
        _ => Ok(()),
    }
}

/// Everybody, in the order of a round.
fn contenders(
    args: &MeasureArgs,
    floors: Floors,
    origins: &[Origin],
    files: &[SourceFile],
    ground: &Ground,
    stop: &Stop,
) -> Result<Vec<Contender>, Error> {
    let place: &Place = ground.place();
    let own = std::env::current_exe().map_err(|error| Error::Internal(format!("where dray is: {error}")))?;
    let own = own.to_string_lossy();
    let folders = std::env::var_os("DRAY_BENCH_PATH").map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>());
    let finder = Finder::new(folders.unwrap_or_default(), std::env::var("PATH").ok().as_deref(), &place.scratch, stop);
    let handed = Handed {
        connections: args.connections.clone(),
        memory: args.memory.clone(),
        traces: args.html.as_ref().map(|_| place.scratch.clone()),
    };
    let rungs = rungs(&args.io, &place.scratch)?;
    let mut contenders = match floors {
        Floors::Measured => own::floors(&own, origins, files, &rungs, place),
        Floors::Unasked => Vec::new(),
    };
    let mut left_out = BTreeSet::new();
    for origin in origins {
        for rung in &rungs {
            contenders.push(own::dray(&own, origin, rung, &handed, place)?);
        }
        let failed = |error: std::io::Error| Error::Storage(format!("{}: {error}", place.scratch.display()));
        let peers = peers::contenders(origin, files, place, &args.peers, &finder).map_err(failed)?;
        contenders.extend(peers.contenders);
        left_out.extend(peers.left_out);
    }
    if !left_out.is_empty() {
        eprintln_line(&format!("left out: {}", left_out.into_iter().collect::<Vec<_>>().join(", ")));
    }
    Ok(contenders)
}

/// The ways to the disk that were asked for, or those that this place allows.
fn rungs(asked: &[IoArg], folder: &Path) -> Result<Vec<&'static str>, Error> {
    let word = |io: &IoArg| match io {
        IoArg::Auto => "auto",
        IoArg::Uring => "uring",
        IoArg::Threads => "threads",
        IoArg::Buffered => "buffered",
    };
    if !asked.is_empty() {
        return Ok(asked.iter().map(word).collect());
    }
    let probe = disk::probe(&Dest::open_existing(folder)?, IoWish::Auto)?;
    Ok(match (probe.direct, &probe.uring) {
        (true, Ok(())) => vec!["uring", "threads"],
        (true, Err(_)) => vec!["threads"],
        (false, _) => vec!["buffered"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_dray_has_the_exit_code_of_its_cause() {
        for (why, code) in [
            ("exit status: 4: error: denied", 4),
            ("exit status: 10: error: disk", 10),
            ("exit status: 7: error: gone", 7),
            ("a.bin has other bytes than its source", 5),
            ("signal: 9 (SIGKILL): ", 7),
            ("not done after 15 s", 7),
        ] {
            assert_eq!(failure("dray uring", why).exit_code(), code, "{why}");
        }
    }
}
