//! The minimal lane: one object from socket to disk by code that does nothing else.
//!
//! In: an object of known size, and how to ask for it. Out: a row for each set of steps; the file under its name.
//! Holds: the file gets its name after its last byte is synced; nothing is retried, journaled or scheduled; whatever
//! fails ends the run, and leaves nothing behind.

mod job;
mod ring;
mod threads;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FloorReport, Stop, Watch, row};
use crate::bench::{Row, Sample, Work, machine::Machine};
use crate::disk::{self, Dest, IoWish, PartFile, Probe, Rung, place};
use crate::error::{Error, Failure, storage};
use crate::manifest::{Digest, FileId, SafePath, Version};
use crate::schedule::FileStep;
use crate::verify;
use crate::wire::{self, Access};

use job::Job;

/// What to fetch, how, and which steps of it.
#[derive(Debug)]
pub struct LaneWork {
    /// The source, without secrets.
    pub source: String,
    /// Where the object is.
    pub access: Access,
    /// Its bytes.
    pub size: u64,
    /// What pins it.
    pub version: Version,
    /// Trust and timeouts. Proxies and rate limits are not heard.
    pub wire: Arc<wire::Settings>,
    /// The folder it lands in.
    pub dest: PathBuf,
    /// Its name there.
    pub name: SafePath,
    /// Threads, or sets of threads where they block.
    pub lanes: usize,
    /// Connections of each lane.
    pub connections: usize,
    /// Bytes of one request: whole writes of 4 MiB.
    pub span_bytes: u64,
    /// The way to the disk.
    pub io: IoWish,
    /// Sets of steps to measure, in turn.
    pub steps: Vec<Steps>,
    /// Runs of each.
    pub rounds: u32,
}

/// Which steps are taken of each piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    /// It is received and dropped.
    Receive,
    /// It is received and hashed.
    ReceiveHash,
    /// It is received and written.
    ReceiveWrite,
    /// It is received, hashed and written.
    All,
}

impl Steps {
    fn hashes(self) -> bool {
        matches!(self, Self::ReceiveHash | Self::All)
    }

    fn writes(self) -> bool {
        matches!(self, Self::ReceiveWrite | Self::All)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::ReceiveHash => "receive + hash",
            Self::ReceiveWrite => "receive + write",
            Self::All => "receive + hash + write",
        }
    }
}

/// Measures the lane.
///
/// # Errors
/// By exit class, as a pull's; [`Error::Interrupted`] when asked to stop.
pub fn run(work: &LaneWork, stop: &Stop) -> Result<FloorReport, Error> {
    let writes = work.steps.iter().any(|steps| steps.writes());
    let landing = if writes { Some(Landing::open(work)?) } else { None };
    let rung = match (&landing, work.io) {
        (Some(landing), _) => landing.probe.rung,
        (None, IoWish::Threads) => Rung::Threads,
        (None, _) => Rung::Discard,
    };
    let machine = Machine::read(landing.as_ref().map(|landing| landing.scratch.path()));
    let rows = work.steps.iter().map(|steps| (*steps, named(*steps, rung)));
    let mut rows: Vec<(Steps, Row)> = rows.collect();
    let mut digest: Option<Digest> = None;
    for round in 0..work.rounds {
        for (steps, row) in &mut rows {
            let to = landing.as_ref().filter(|_| steps.writes());
            let (sample, found) = once(work, *steps, rung, to, round, stop)?;
            row.samples.push(sample);
            if digest.is_some() && found.is_some() && digest != found {
                return Err(Error::Changed("two runs hash to two digests: the object changed between them".to_owned()));
            }
            digest = found.or(digest);
        }
    }
    let dest = landing.map(|_| work.dest.display().to_string());
    let moved = Work {
        origin: work.source.clone(),
        files: 1,
        bytes: work.size,
        dest,
        cache: "warm after the first".to_owned(),
    };
    let mut report = FloorReport::new(machine, moved, work.rounds, rows.into_iter().map(|(_, row)| row).collect());
    report.notes.extend(digest.map(|digest| format!("blake3 {} of {} bytes", digest.to_hex(), work.size)));
    Ok(report)
}

fn named(steps: Steps, rung: Rung) -> Row {
    // Without a file the runtime is what is left of the way.
    let way = if rung == Rung::Discard { "epoll" } else { rung.word() };
    let proof = if steps.hashes() { "blake3" } else { "size" };
    let row = row(&format!("lane {way}: {}", steps.words()), "dray bench lane URL DEST", proof);
    Row { durable: steps.writes(), ..row }
}

/// One run: what it took, and the digest where it was hashed.
fn once(
    work: &LaneWork,
    steps: Steps,
    rung: Rung,
    landing: Option<&Landing>,
    round: u32,
    stop: &Stop,
) -> Result<(Sample, Option<Digest>), Error> {
    let job = Job::new(work, steps, stop)?;
    let watch = Watch::start();
    let part = landing.map(|landing| landing.part(work.size, round)).transpose()?;
    let ended = match rung {
        Rung::Threads => threads::run(&job, part.as_ref()),
        Rung::Uring | Rung::Buffered | Rung::Discard => ring::run(&job, rung, part.as_ref()),
    };
    let mut cvs = match ended {
        Ok(cvs) => cvs,
        Err(error) => {
            stop.check()?;
            return Err(error);
        }
    };
    if let (Some(landing), Some(part)) = (landing, &part) {
        landing.seal(part, work)?;
    }
    let sample = Sample { rss_bytes_max: place::usage().rss_bytes_max, ..watch.sample(work.size) };
    cvs.sort_unstable_by_key(|(index, _)| *index);
    let digest = steps.hashes().then(|| verify::root_of(work.size, cvs.into_iter().map(|(_, cv)| cv)));
    Ok((sample, digest))
}

/// A folder of its own within DEST, which goes however the run ends.
struct Landing {
    scratch: tempfile::TempDir,
    place: Dest,
    probe: Probe,
}

impl Landing {
    fn open(work: &LaneWork) -> Result<Self, Error> {
        let dest = Dest::open(&work.dest)?;
        let failed = |error: std::io::Error| storage(&format!("cannot write in `{}`", work.dest.display()), &error);
        let scratch = tempfile::Builder::new().prefix(".dray-bench-").tempdir_in(dest.path()).map_err(failed)?;
        let place = Dest::open(scratch.path())?;
        let probe = disk::probe(&place, work.io)?;
        if probe.free_bytes < work.size {
            let (need, free) = (work.size, probe.free_bytes);
            return Err(Error::DiskFull(format!("`{}` has {free} bytes free, {need} are needed", work.dest.display())));
        }
        // Opened once beforehand: making the folders of parts is not the lane's work.
        place
            .part_open(&FileId([0xff; 16]), None, &probe)
            .map_err(|failure| Error::of(failure.kind, failure.detail))?;
        Ok(Self { scratch, place, probe })
    }

    fn part(&self, size: u64, round: u32) -> Result<Arc<PartFile>, Error> {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&round.to_le_bytes());
        let opened = self.place.part_open(&FileId(id), Some(size), &self.probe);
        opened.map(Arc::new).map_err(|failure| Error::of(failure.kind, failure.detail))
    }

    /// Cuts the padding off, syncs, renames and syncs the name.
    fn seal(&self, part: &PartFile, work: &LaneWork) -> Result<(), Error> {
        for step in [FileStep::Truncate, FileStep::SetMode, FileStep::Sync, FileStep::Rename] {
            let done = self.place.seal_step(step, part, &work.name, work.size);
            done.map_err(|Failure { kind, detail }| Error::of(kind, detail))?;
        }
        let (from, to) = (self.scratch.path().join(work.name.as_str()), work.dest.join(work.name.as_str()));
        let synced = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all());
        let named = std::fs::rename(from, &to).and_then(|()| synced(&work.dest));
        named.map_err(|error| storage(&format!("cannot name `{}`", to.display()), &error))
    }
}
