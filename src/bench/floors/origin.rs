//! The network alone: dray's own wire, with what it brings dropped in the slab where it lands.
//!
//! In: objects and how to ask for them. Out: a row, times to the first byte, requests. Holds: bytes are asked for as a
//! pull asks for them, and counted when a piece of them is there; nothing is asked twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::{Figure, FloorReport, Watch, row};
use crate::bench::Stop;
use crate::bench::{Row, Sample, Work, machine::Machine};
use crate::disk::{Rung, Slab, SlabPool, run_lane};
use crate::error::{Error, Failure, FailureKind};
use crate::manifest::Version;
use crate::schedule::Connection;
use crate::units::{ByteRange, PIECE_BYTES};
use crate::verify::{self, Sums};
use crate::wire::{self, Access, Asked, Client};

/// How long a request waits before it looks whether the run breaks off.
const PATIENCE: Duration = Duration::from_millis(200);

/// What to ask for, and how.
#[derive(Debug)]
pub struct OriginWork {
    /// The source, without secrets.
    pub source: String,
    /// Its objects, none of them empty.
    pub objects: Vec<Object>,
    /// Trust, proxies and timeouts.
    pub wire: Arc<wire::Settings>,
    /// Threads, each with a runtime of its own.
    pub lanes: usize,
    /// Connections of all lanes together: at least one of each.
    pub connections: usize,
    /// Bytes of one request: whole pieces.
    pub span_bytes: u64,
    /// What is done to a piece.
    pub landed: Landed,
    /// Time after which a run stops; it stops before when every byte has come.
    pub time: Duration,
    /// Runs.
    pub rounds: u32,
}

/// One object.
#[derive(Debug)]
pub struct Object {
    /// How it is asked for.
    pub access: Access,
    /// Its bytes.
    pub size: u64,
    /// What pins it.
    pub version: Version,
}

/// What becomes of a piece in its slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// Nothing.
    Dropped,
    /// It is hashed.
    Hashed,
}

/// What one connection came to.
#[derive(Default)]
struct Tally {
    bytes: u64,
    /// Time to the first byte of its first request, which connects and shakes hands as well.
    opened: Vec<f64>,
    /// Of each further request.
    first_bytes: Vec<f64>,
}

impl Tally {
    /// With what another came to.
    fn and(mut self, other: Self) -> Self {
        self.bytes += other.bytes;
        self.opened.extend(other.opened);
        self.first_bytes.extend(other.first_bytes);
        self
    }
}

/// Measures the origin.
///
/// # Errors
/// By exit class, as a pull's, at the first request that fails; [`Error::Interrupted`] when asked to stop.
pub fn run(work: &OriginWork, stop: &Stop) -> Result<FloorReport, Error> {
    let machine = Machine::read(None);
    let (hashed, proof) = match work.landed {
        Landed::Dropped => ("", "size"),
        Landed::Hashed => (" + hash", "hashed, not compared"),
    };
    let name = format!("origin {} by {}{hashed}", work.connections, work.lanes);
    let mut row: Row = row(&name, "dray bench origin SRC", proof);
    let (mut opened, mut medians, mut tails, mut requests) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..work.rounds {
        let before = work.wire.counters.requests();
        let (sample, mut tally) = once(work, stop)?;
        row.samples.push(sample);
        tally.opened.sort_by(f64::total_cmp);
        tally.first_bytes.sort_by(f64::total_cmp);
        opened.extend(quantile(&tally.opened, 50));
        medians.extend(quantile(&tally.first_bytes, 50));
        tails.extend(quantile(&tally.first_bytes, 95));
        requests.push(f64::from(u32::try_from(work.wire.counters.requests() - before).unwrap_or(u32::MAX)));
    }
    let bytes = work.objects.iter().map(|object| object.size).sum();
    let files = verify::wide(work.objects.len());
    let moved = Work { origin: work.source.clone(), files, bytes, ..Work::default() };
    let mut report = FloorReport::new(machine, moved, work.rounds, vec![row]);
    report.figures.extend(Figure::of(&name, "connect + first byte, median", "s", opened));
    report.figures.extend(Figure::of(&name, "first byte, median", "s", medians));
    report.figures.extend(Figure::of(&name, "first byte, p95", "s", tails));
    report.figures.extend(Figure::of(&name, "requests", "1", requests));
    Ok(report)
}

/// The figure that `percent` of `sorted` do not exceed.
fn quantile(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

/// What the lanes of one run share.
struct Run<'a> {
    work: &'a OriginWork,
    /// All spans: the object, and the range in it.
    spans: Vec<(usize, ByteRange)>,
    next: AtomicUsize,
    pool: SlabPool,
    until: Instant,
    stop: &'a Stop,
    failed: OnceLock<Failure>,
}

impl Run<'_> {
    fn breaks(&self) -> bool {
        self.failed.get().is_some() || self.stop.is_asked()
    }

    fn ends(&self) -> bool {
        self.breaks() || self.until <= Instant::now()
    }

    /// Ends when the run breaks off, within [`PATIENCE`] of it: an origin that drips may take minutes for a piece.
    async fn broken(&self) {
        while !self.breaks() {
            tokio::time::sleep(PATIENCE).await;
        }
    }

    fn take(&self) -> Option<&(usize, ByteRange)> {
        if self.ends() { None } else { self.spans.get(self.next.fetch_add(1, Ordering::Relaxed)) }
    }
}

/// Spans of whole pieces over all objects, in order.
fn spans(objects: &[Object], span_bytes: u64) -> Vec<(usize, ByteRange)> {
    let cut = |(index, object): (usize, &Object)| {
        let count = object.size.div_ceil(span_bytes);
        let size = object.size;
        (0..count).map(move |at| (index, ByteRange::new(at * span_bytes, ((at + 1) * span_bytes).min(size))))
    };
    objects.iter().enumerate().flat_map(cut).collect()
}

fn once(work: &OriginWork, stop: &Stop) -> Result<(Sample, Tally), Error> {
    let failed = |error: std::io::Error| Error::Internal(format!("a lane cannot be made: {error}"));
    let slabs = verify::wide(work.connections);
    let run = Run {
        work,
        spans: spans(&work.objects, work.span_bytes),
        next: AtomicUsize::new(0),
        pool: SlabPool::new(PIECE_BYTES * slabs).map_err(failed)?,
        until: Instant::now() + work.time,
        stop,
        failed: OnceLock::new(),
    };
    let watch = Watch::start();
    let tallies: Result<Vec<Tally>, Error> = std::thread::scope(|scope| {
        let run = &run;
        let lane = |number| run_lane(Rung::Discard, |_| lane(run, number)).map_err(failed);
        let lanes: Vec<_> = (0..work.lanes).map(|number| scope.spawn(move || lane(number))).collect();
        let panicked = |_| Err(Error::Internal("a lane panicked".to_owned()));
        lanes.into_iter().map(|lane| lane.join().unwrap_or_else(panicked)).collect()
    });
    let tally = tallies?.into_iter().fold(Tally::default(), Tally::and);
    let sample = watch.sample(tally.bytes);
    stop.check()?;
    if let Some(failure) = run.failed.get() {
        return Err(Error::of(failure.kind, failure.detail.clone()));
    }
    Ok((sample, tally))
}

/// The connections of one lane, side by side.
async fn lane(run: &Run<'_>, lane: usize) -> Tally {
    let client = Client::new(Arc::clone(&run.work.wire));
    let numbers = (lane..run.work.connections).step_by(run.work.lanes);
    let all: FuturesUnordered<_> = numbers.map(|_| connection(run, &client)).collect();
    all.fold(Tally::default(), async |sum, tally| sum.and(tally)).await
}

async fn connection(run: &Run<'_>, client: &Client) -> Tally {
    let mut tally = Tally::default();
    let mut slab = run.pool.lease().await;
    while let Some((object, range)) = run.take() {
        let fetched = tokio::select! {
            fetched = fetch(run, client, &run.work.objects[*object], *range, &mut slab, &mut tally) => fetched,
            () = run.broken() => Ok(()),
        };
        if let Err(failure) = fetched {
            // The first failure is the run's: those after it only stop.
            run.failed.get_or_init(|| failure);
        }
    }
    tally
}

async fn fetch(
    run: &Run<'_>,
    client: &Client,
    object: &Object,
    range: ByteRange,
    slab: &mut Slab,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (access, size) = (&object.access, Some(object.size));
    let asked = Asked { range: Some(range), size, version: object.version.clone(), coding: access.coding };
    let began = Instant::now();
    let mut reply = client.get(access, &asked, Connection::Any).await?;
    let times = if tally.opened.is_empty() { &mut tally.opened } else { &mut tally.first_bytes };
    times.push(began.elapsed().as_secs_f64());
    let mut at = range.start;
    while at < range.end {
        if run.ends() {
            return Ok(());
        }
        let piece = (range.end - at).min(PIECE_BYTES);
        let wanted = usize::try_from(piece).unwrap_or(slab.len());
        if reply.fill(&mut slab[..wanted]).await? != wanted {
            return Err(Failure::new(FailureKind::Broken, "the body ended early"));
        }
        if run.work.landed == Landed::Hashed {
            std::hint::black_box(verify::prove_piece(size, at / PIECE_BYTES, &slab[..wanted], Sums::default()));
        }
        at += piece;
        tally.bytes += piece;
    }
    reply.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_least_figure_that_so_many_do_not_exceed() {
        let to = |count: u32| (1..=count).map(f64::from).collect::<Vec<_>>();
        for (count, percent, expected) in [
            (0, 50, None),
            (1, 95, Some(1.0)),
            (2, 50, Some(1.0)),
            (3, 50, Some(2.0)),
            (20, 95, Some(19.0)),
            (21, 95, Some(20.0)),
        ] {
            assert_eq!(quantile(&to(count), percent), expected, "{percent} % of {count}");
        }
    }

    #[test]
    fn spans_cover_every_byte_of_every_object_once_and_in_order() {
        let object = |size| {
            let url = wire::Url::parse("http://h/o").unwrap();
            let policy = wire::Policy::Configured;
            let access = Access { url, headers: Vec::new(), policy, coding: wire::Coding::Identity };
            Object { access, size, version: Version::default() }
        };
        let found = spans(&[object(10), object(1), object(4)], 4);
        let expected = [(0, 0, 4), (0, 4, 8), (0, 8, 10), (1, 0, 1), (2, 0, 4)];
        assert_eq!(found, expected.map(|(index, start, end)| (index, ByteRange { start, end })));
    }
}
