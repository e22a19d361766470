//! What a run has done and what held it back: counters for progress, report and gate.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::manifest::{Digest, FileId, Stated};
use crate::schedule::files::File;
use crate::schedule::pieces::Place;
use crate::schedule::scheduler::Scheduler;
use crate::schedule::{FileIndex, Kept, Now, Outcomes};
use crate::units::PIECE_BYTES;
use crate::verify::{Check, PieceProof};

/// What held the run back during some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Brake {
    /// Bytes were arriving; more would have been taken.
    #[default]
    Network,
    /// Waiting for the origin: first bytes, backoff, renewals.
    Origin,
    /// The origin asked to slow down.
    Throttle,
    /// Waiting for writes, syncs or seals.
    Disk,
    /// The lanes' processors were busy (charged by the engine).
    Cpu,
    /// No slab was free (charged by the engine).
    Memory,
}

impl Brake {
    /// Every brake, in the order of [`Shares`].
    pub const ALL: [Self; 6] = [Self::Network, Self::Origin, Self::Throttle, Self::Disk, Self::Cpu, Self::Memory];

    /// The word reports use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Origin => "origin",
            Self::Throttle => "throttle",
            Self::Disk => "disk",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    fn slot(self) -> usize {
        match self {
            Self::Network => 0,
            Self::Origin => 1,
            Self::Throttle => 2,
            Self::Disk => 3,
            Self::Cpu => 4,
            Self::Memory => 5,
        }
    }
}

/// How long each brake held the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares([Duration; 6]);

impl Shares {
    /// The time `brake` held the run.
    pub fn time(&self, brake: Brake) -> Duration {
        self.0[brake.slot()]
    }

    /// Each brake's word with its share of the time, from 0 to 1.
    pub fn fractions(&self) -> BTreeMap<&'static str, f64> {
        let total = self.0.iter().sum::<Duration>().as_secs_f64().max(f64::MIN_POSITIVE);
        Brake::ALL.map(|brake| (brake.word(), self.time(brake).as_secs_f64() / total)).into()
    }

    /// The brake that held longest; the network when nothing took any time.
    pub fn verdict(&self) -> Brake {
        Brake::ALL.into_iter().rev().max_by_key(|brake| self.time(*brake)).unwrap_or(Brake::Network)
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes of all files whose size is known.
    pub bytes_total: u64,
    /// Bytes the lanes reported by [`Event::Received`](crate::schedule::Event::Received).
    pub bytes_received: u64,
    /// Bytes received, hashed and written in this run, repeats included.
    pub bytes_fetched: u64,
    /// Bytes durable by now, reused ones included.
    pub bytes_durable: u64,
    /// Bytes durable before this run.
    pub bytes_reused: u64,
    /// Pieces written in this run that are neither durable nor given up: what a power cut would cost.
    pub unsettled_pieces: u64,
    /// Rights to receive that written pieces keep, of one for each whole piece of `unnoted_bytes_max`: so many that
    /// neither SIGKILL nor a power cut costs more than it may.
    pub kept_rights: u64,
    /// Requests for data.
    pub requests_total: u64,
    /// Those that repeat a failed one.
    pub requests_retried: u64,
    /// Those that race a slow one; none yet.
    pub requests_hedged: u64,
    /// How those that ended did: together with the outstanding spans they are [`Progress::requests_total`].
    pub outcomes: Outcomes,
    /// Files of the run.
    pub files_total: usize,
    /// Files under their final name.
    pub files_done: usize,
    /// Outstanding spans.
    pub spans: usize,
    /// Spans the window allows.
    pub window: usize,
    /// What holds the run back right now.
    pub brake: Brake,
}

impl Progress {
    /// The counts of both; what holds them back is told of the first.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            bytes_total: self.bytes_total + other.bytes_total,
            bytes_received: self.bytes_received + other.bytes_received,
            bytes_fetched: self.bytes_fetched + other.bytes_fetched,
            bytes_durable: self.bytes_durable + other.bytes_durable,
            bytes_reused: self.bytes_reused + other.bytes_reused,
            unsettled_pieces: self.unsettled_pieces + other.unsettled_pieces,
            kept_rights: self.kept_rights + other.kept_rights,
            requests_total: self.requests_total + other.requests_total,
            requests_retried: self.requests_retried + other.requests_retried,
            requests_hedged: self.requests_hedged + other.requests_hedged,
            outcomes: self.outcomes.plus(&other.outcomes),
            files_total: self.files_total + other.files_total,
            files_done: self.files_done + other.files_done,
            spans: self.spans + other.spans,
            window: self.window + other.window,
            brake: self.brake,
        }
    }
}

/// One file, as the engine and the report see it.
#[derive(Debug, Clone, Copy)]
pub struct FileView<'a>(&'a File);

impl<'a> FileView<'a> {
    /// What it is now (a changed object gets another id).
    pub fn id(&self) -> FileId {
        self.0.id
    }

    /// Bytes, once known.
    pub fn size(&self) -> Option<u64> {
        self.0.size
    }

    /// What is compared with its content.
    pub fn stated(&self) -> &'a [Stated] {
        &self.0.stated
    }

    /// How often its pieces were let go of; sums over its bytes in order begin anew with each.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// How many bytes from its first on are written, where its sums need all of them in order; perhaps more by now.
    pub fn written_in_order(&self) -> Option<u64> {
        let front = self.0.stretches.front()?;
        self.0.size.map(|size| size.min(front * PIECE_BYTES))
    }

    /// Proofs by piece; all of them mean something once there is a digest.
    pub fn proofs(&self) -> &'a [PieceProof] {
        self.0.pieces.proofs()
    }

    /// Each statement and whether it matched, once all pieces were compared.
    pub fn checks(&self) -> &'a [Check] {
        &self.0.checks
    }

    /// The digest of the content, once every piece is durable and no statement is broken.
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest()
    }

    /// Whether it has its final name.
    pub fn sealed(&self) -> bool {
        self.0.sealed().is_some()
    }
}

/// Silence after which the origin, not the network, counts as the brake.
const SILENCE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Meter {
    pub(super) bytes_total: u64,
    pub(super) reused_bytes: u64,
    pub(super) received_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) durable_bytes: u64,
    pub(super) written_pieces: u64,
    pub(super) settled_pieces: u64,
    pub(super) requests: u64,
    pub(super) retried: u64,
    pub(super) outcomes: Outcomes,
    pub(super) files_done: usize,
    /// Pieces of files never opened.
    pub(super) planned_pieces: u64,
    pub(super) bytes_at: Now,
    shares: Shares,
}

fn durable_bytes(file: &File) -> u64 {
    if file.kept == Kept::Unjournaled && file.sealed().is_none() {
        return 0;
    }
    if file.all_durable() {
        return file.size.unwrap_or(0);
    }
    (0..file.pieces.len())
        .filter(|piece| file.pieces.place(*piece) == Place::Durable)
        .map(|piece| file.piece_bytes(piece))
        .sum()
}

impl Meter {
    pub(super) fn new(files: &[File]) -> Self {
        let reused_bytes = files.iter().map(durable_bytes).sum();
        Self {
            bytes_total: files.iter().filter_map(|file| file.size).fold(0, u64::saturating_add),
            reused_bytes,
            received_bytes: 0,
            written_bytes: 0,
            durable_bytes: reused_bytes,
            written_pieces: 0,
            settled_pieces: 0,
            requests: 0,
            retried: 0,
            outcomes: Outcomes::default(),
            files_done: files.iter().filter(|file| file.sealed().is_some()).count(),
            planned_pieces: files.iter().map(File::to_ask).sum(),
            bytes_at: Now::ZERO,
            shares: Shares::default(),
        }
    }

    pub(super) fn charge(&mut self, brake: Brake, time: Duration) {
        self.shares.0[brake.slot()] += time;
    }

    /// Takes out of the account what a file counted, before it is forgotten or replanned.
    pub(super) fn forget(&mut self, file: &File) {
        self.durable_bytes -= durable_bytes(file);
        self.settled_pieces += file.pieces.count(Place::Written);
    }
}

impl Scheduler {
    /// Where the run stands.
    pub fn progress(&self) -> Progress {
        Progress {
            bytes_total: self.meter.bytes_total,
            bytes_received: self.meter.received_bytes,
            bytes_fetched: self.meter.written_bytes,
            bytes_durable: self.meter.durable_bytes,
            bytes_reused: self.meter.reused_bytes,
            unsettled_pieces: self.meter.written_pieces - self.meter.settled_pieces,
            kept_rights: self.rights(),
            requests_total: self.meter.requests,
            requests_retried: self.meter.retried,
            requests_hedged: 0,
            outcomes: self.meter.outcomes,
            files_total: self.files.len(),
            files_done: self.meter.files_done,
            spans: self.spans.len(),
            window: self.window.width(),
            brake: self.brake(),
        }
    }

    /// How long each brake held the run so far.
    pub fn shares(&self) -> Shares {
        self.meter.shares
    }

    /// Moves `time` from the network's account to `brake`: what only the engine can see (processors, slabs, writes).
    pub fn charge(&mut self, brake: Brake, time: Duration) {
        let network = &mut self.meter.shares.0[Brake::Network.slot()];
        let moved = time.min(*network);
        *network -= moved;
        self.meter.charge(brake, moved);
    }

    /// One file of the run.
    pub fn file(&self, index: FileIndex) -> FileView<'_> {
        FileView(&self.files[index])
    }

    /// What holds the run back at this moment.
    pub(super) fn brake(&self) -> Brake {
        let storing = !self.settle.idle() || 0 < self.pending.seals + self.pending.hashes + self.pending.opens;
        if self.clock < self.origin.quiet_until || self.window.throttled() {
            Brake::Throttle
        } else if self.spans.is_empty() {
            if storing { Brake::Disk } else { Brake::Origin }
        } else if self.bounds.unnoted_pieces * 2 <= self.rights() * 3 {
            // Two thirds of the rights to receive wait for the disk: soon the gate closes.
            Brake::Disk
        } else if self.meter.bytes_at + SILENCE < self.clock {
            Brake::Origin
        } else {
            Brake::Network
        }
    }
}
