//! The disk alone: writes from memory that is warm, with nothing before them and a sync at their end.
//!
//! In: a folder, a size, bounds of time. Out: a row for each way to write, and the best of them by name.
//! Holds: each run writes a file of its own into reserved space and removes it, however it ends; what is counted is on
//! the disk when the clock stops.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::{FloorReport, Watch, fill_with_noise, row};
use crate::bench::Stop;
use crate::bench::{Row, Sample, Work, machine::Machine};
use crate::disk::{self, BATCH_SLABS_MAX, Dest, IoWish, LaneDisk, PartFile, PieceWriter, Probe, Rung, Slab, SlabPool};
use crate::error::{Error, Failure, storage};
use crate::manifest::FileId;
use crate::units::{PIECE_BYTES, show_size};
use crate::verify;

/// Room that is left free besides: a full disk is somebody else's failure.
const SPARE_BYTES: u64 = 64 << 20;

/// Writes under way at once, of one lane.
const DEPTHS: [usize; 5] = [1, 2, 4, 8, 16];

/// Slabs of one write.
const SLABS: [usize; 2] = [1, BATCH_SLABS_MAX];

/// What to write, and how long.
#[derive(Debug, Clone)]
pub struct DiskWork {
    /// Where.
    pub dir: PathBuf,
    /// Bytes of one run.
    pub size: u64,
    /// Time after which a run begins no more writes.
    pub time: Duration,
    /// Runs of each row, in turn with the others.
    pub rounds: u32,
}

/// One way to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// dray's own lane.
    Lane { rung: Rung, slabs: usize, depth: usize },
    /// One direct write after the other, as `dd oflag=direct` does.
    Direct { slabs: usize },
    /// Into the page cache, as `cp` does.
    Cached,
}

impl Way {
    fn rung(self) -> Rung {
        match self {
            Self::Lane { rung, .. } => rung,
            Self::Direct { .. } => Rung::Threads,
            Self::Cached => Rung::Buffered,
        }
    }

    fn slabs(self) -> usize {
        match self {
            Self::Lane { slabs, .. } | Self::Direct { slabs } => slabs,
            Self::Cached => 1,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Lane { rung, slabs, depth } => format!("{} {slabs} MiB x {depth}", rung.word()),
            Self::Direct { slabs } => format!("direct {slabs} MiB, one at a time"),
            Self::Cached => "page cache 1 MiB, one at a time".to_owned(),
        }
    }
}

/// Every way that the place allows: direct ones first, then those through the page cache.
fn ways(probes: &[Probe]) -> Vec<Way> {
    let mut ways = Vec::new();
    for probe in probes {
        let rung = probe.rung;
        let lane = |slabs| DEPTHS.into_iter().map(move |depth| Way::Lane { rung, slabs, depth });
        ways.extend(SLABS.into_iter().flat_map(lane));
        if rung == Rung::Threads {
            ways.extend(SLABS.map(|slabs| Way::Direct { slabs }));
        }
    }
    ways.push(Way::Cached);
    ways
}

/// Measures each way.
///
/// # Errors
/// [`Error::DiskFull`] when there is no room; by exit class when the folder cannot be written; [`Error::Interrupted`].
pub fn run(work: &DiskWork, stop: &Stop) -> Result<FloorReport, Error> {
    let dir = Dest::open_existing(&work.dir)?;
    let failed = |error: std::io::Error| storage(&format!("cannot write in `{}`", work.dir.display()), &error);
    let scratch = tempfile::Builder::new().prefix(".dray-bench-").tempdir_in(dir.path()).map_err(failed)?;
    let place = Place { dest: Dest::open(scratch.path())?, folder: scratch.path(), work };
    let machine = Machine::read(Some(scratch.path()));
    // A rung that is refused here has no rows.
    let wishes = [IoWish::Uring, IoWish::Threads, IoWish::Buffered];
    let probes: Vec<Probe> = wishes.into_iter().filter_map(|wish| disk::probe(&place.dest, wish).ok()).collect();
    let free = probes.last().map_or(0, |probe| probe.free_bytes);
    if free < work.size.saturating_add(SPARE_BYTES) {
        let (free, size) = (show_size(free), show_size(work.size));
        return Err(Error::DiskFull(format!("`{}` has {free} free, too little to write {size}", work.dir.display())));
    }
    let mut rows: Vec<(Way, Row)> = ways(&probes).into_iter().map(|way| (way, named(way))).collect();
    for _ in 0..work.rounds {
        for (way, row) in &mut rows {
            stop.check()?;
            let Some(probe) = probes.iter().find(|probe| probe.rung == way.rung()) else { continue };
            row.samples.push(place.once(*way, probe, stop)?);
        }
    }
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let best = rows.iter().filter_map(|row| Some((row.rate()?.median, &row.name)));
    let best = best
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(rate, name)| format!("the disk's floor: {rate:.2} GiB/s by {name}"));
    let moved = Work { files: 1, bytes: work.size, dest: Some(work.dir.display().to_string()), ..Work::default() };
    let mut report = FloorReport::new(machine, moved, work.rounds, rows);
    report.notes.extend(best);
    report.notes.push(
        "CPU is this process's own: the kernel's own threads, which write what is cached, are not in it".to_owned(),
    );
    Ok(report)
}

fn named(way: Way) -> Row {
    Row { durable: true, ..row(&way.name(), "dray bench disk DIR", "none") }
}

/// Where runs write.
struct Place<'a> {
    dest: Dest,
    folder: &'a Path,
    work: &'a DiskWork,
}

impl Place<'_> {
    /// One run: a new file, written, synced and removed.
    fn once(&self, way: Way, probe: &Probe, stop: &Stop) -> Result<Sample, Error> {
        if way == Way::Cached {
            return self.cached(stop);
        }
        let id = FileId([1; 16]);
        let of = |Failure { kind, detail }: Failure| Error::of(kind, detail);
        let part = Arc::new(self.dest.part_open(&id, Some(self.work.size), probe).map_err(of)?);
        let written = self.lane_or_direct(way, &part, stop);
        drop(part);
        let removed = self.dest.part_remove(&id).map_err(|error| storage("cannot remove a part file", &error));
        written.and_then(|sample| removed.map(|()| sample))
    }

    fn lane_or_direct(&self, way: Way, part: &Arc<PartFile>, stop: &Stop) -> Result<Sample, Error> {
        let failed = |error: std::io::Error| storage("write to the part file", &error);
        let depth = if let Way::Lane { depth, .. } = way { depth } else { 1 };
        let pool = warm(depth * way.slabs()).map_err(failed)?;
        let mut watch = Watch::start();
        let offsets = self.offsets(way.slabs(), watch.began, stop);
        let written = match way {
            Way::Lane { rung, slabs, depth } => disk::run_lane(rung, |disk| async move {
                // The runtime and its ring are there now: they are not the disk's.
                let watch = Watch::start();
                (watch, lane(&disk, part, &pool, slabs, depth, offsets).await)
            })
            .and_then(|(inner, written)| {
                watch = inner;
                written
            }),
            Way::Direct { slabs } => direct(part, &pool, slabs, offsets),
            Way::Cached => Ok(0),
        };
        let bytes = written.map_err(failed)?;
        stop.check()?;
        part.sync_data().map_err(failed)?;
        Ok(watch.sample(bytes))
    }

    /// Where whole writes begin, until the size, the time or a stop ends them.
    fn offsets<'a>(&self, slabs: usize, began: Instant, stop: &'a Stop) -> impl Iterator<Item = u64> + use<'a> {
        let (step, time) = (PIECE_BYTES * verify::wide(slabs), self.work.time);
        let count = (self.work.size / step).max(1);
        (0..count).take_while(move |_| stop.check().is_ok() && began.elapsed() < time).map(move |index| index * step)
    }

    /// As `cp` or `curl` write.
    fn cached(&self, stop: &Stop) -> Result<Sample, Error> {
        let failed = |error: std::io::Error| storage("write to a file", &error);
        let path = self.folder.join("cached");
        let pool = warm(1).map_err(failed)?;
        let slab = pool.try_lease().ok_or_else(|| Error::Internal("a pool without slabs".to_owned()))?;
        let mut file = File::create(&path).map_err(failed)?;
        let watch = Watch::start();
        let mut bytes = 0;
        let offsets = self.offsets(1, watch.began, stop);
        let written = offsets.into_iter().try_for_each(|_| {
            bytes += PIECE_BYTES;
            file.write_all(&slab)
        });
        let synced = written.and_then(|()| if stop.check().is_ok() { file.sync_data() } else { Ok(()) });
        let sample = watch.sample(bytes);
        drop(file);
        let removed = std::fs::remove_file(&path);
        synced.and(removed).map_err(failed)?;
        stop.check()?;
        Ok(sample)
    }
}

/// A pool of `slabs` slabs that are all resident and full of noise.
fn warm(slabs: usize) -> std::io::Result<SlabPool> {
    let pool = SlabPool::new(PIECE_BYTES * verify::wide(slabs))?;
    let mut all: Vec<Slab> = std::iter::from_fn(|| pool.try_lease()).collect();
    all.iter_mut().zip(0..).for_each(|(slab, seed)| fill_with_noise(slab, seed));
    drop(all);
    Ok(pool)
}

/// The slabs of one write, as they are.
async fn batch(pool: &SlabPool, slabs: usize) -> Vec<(Slab, usize)> {
    let mut batch = Vec::with_capacity(slabs);
    for _ in 0..slabs {
        let slab = pool.lease().await;
        let filled = slab.len();
        batch.push((slab, filled));
    }
    batch
}

/// Writes through dray's lane, `depth` writes at once; the bytes written.
async fn lane(
    disk: &LaneDisk,
    part: &Arc<PartFile>,
    pool: &SlabPool,
    slabs: usize,
    depth: usize,
    offsets: impl Iterator<Item = u64>,
) -> std::io::Result<u64> {
    let write = |offset| async move { disk.write(part, offset, batch(pool, slabs).await).await };
    let mut writes = futures::stream::iter(offsets.map(write)).buffer_unordered(depth);
    let mut bytes = 0;
    while let Some(written) = writes.next().await {
        written?;
        bytes += PIECE_BYTES * verify::wide(slabs);
    }
    Ok(bytes)
}

/// Writes one after the other from this thread; the bytes written.
fn direct(
    part: &Arc<PartFile>,
    pool: &SlabPool,
    slabs: usize,
    offsets: impl Iterator<Item = u64>,
) -> std::io::Result<u64> {
    let mut writer = PieceWriter::new(Rung::Threads);
    let mut bytes = 0;
    for offset in offsets {
        let leased = std::iter::from_fn(|| pool.try_lease()).take(slabs);
        let batch = leased.map(|slab| (slab, usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX))).collect();
        writer.write_batch(part, offset, batch)?;
        bytes += PIECE_BYTES * verify::wide(slabs);
    }
    Ok(bytes)
}
