//! Sums that need a file's bytes in order, while spans bring them: lanes offer pieces, a task reads back what went past.
//!
//! Holds: bytes count once they are hashed in order from memory or, where they came too early, from the part file;
//! one file's sums are one owner's at a time, and no lane waits longer than one piece takes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::disk::scan::ScanFile;
use crate::disk::{Dest, SLAB_BYTES, Slab, SlabPool};
use crate::engine::ReadBytes;
use crate::error::{Failure, FailureKind};
use crate::manifest::{FileId, Stated};
use crate::schedule::FileView;
use crate::units::{ByteRange, PIECE_BYTES};
use crate::verify::{self, Serial};

/// Bytes read back as one operation, and the memory that one such task takes.
const STEP_BYTES: u64 = 4 * PIECE_BYTES;

/// What must be missed before a task reads back beside the spans: below it, opening the file costs more.
const LAG_BYTES: u64 = 8 * PIECE_BYTES;

/// Stands for several stretches: each is somewhere else.
const MANY: u64 = u64::MAX;

/// The ordered sums of one attempt at one file.
pub(super) struct Ordered {
    attempt: u32,
    /// Where the only stretch is, so that a lane whose piece is elsewhere passes by without a lock.
    next: AtomicU64,
    serial: Mutex<Option<Serial>>,
    read_back: ReadBytes,
    following: AtomicBool,
}

impl Ordered {
    fn new(attempt: u32, size: Option<u64>, stated: &[Stated]) -> Option<Self> {
        let serial = Serial::new(size, stated)?;
        let whole = size.is_none_or(|size| verify::stretches(size, stated).len() == 1);
        let next = AtomicU64::new(if whole { 0 } else { MANY });
        Some(Self {
            attempt,
            next,
            serial: Mutex::new(Some(serial)),
            read_back: ReadBytes::default(),
            following: AtomicBool::new(false),
        })
    }

    /// The sums of the file's present attempt, kept in `slot`; `None` when nothing stated needs an order.
    pub(super) fn of(slot: &mut Option<Arc<Self>>, file: &FileView<'_>) -> Option<Arc<Self>> {
        if slot.as_ref().is_none_or(|ordered| ordered.attempt != file.attempt()) {
            *slot = Self::new(file.attempt(), file.size(), file.stated()).map(Arc::new);
        }
        slot.clone()
    }

    /// Whether a task should read back now: the first `written` bytes are there, the sums lag, and no other task does.
    /// Then the caller must see to [`Ordered::followed`].
    pub(super) fn follows(&self, written: u64) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        next < written && LAG_BYTES <= written - next && !self.following.swap(true, Ordering::Relaxed)
    }

    /// The task that reads back has ended.
    pub(super) fn followed(&self) {
        self.following.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Serial>> {
        // Sums are whole between two pieces; a panic within one ends the run.
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a hot piece if it is the next one of a stretch; else it is read back later.
    pub(super) fn offer(&self, offset: u64, bytes: &[u8]) {
        let next = self.next.load(Ordering::Relaxed);
        if next == MANY || next == offset {
            self.feed(offset, bytes);
        }
    }

    fn feed(&self, offset: u64, bytes: &[u8]) {
        let mut serial = self.lock();
        if let Some(serial) = serial.as_mut() {
            serial.feed(offset, bytes);
            if self.next.load(Ordering::Relaxed) != MANY {
                self.next.store(serial.wanted().map_or(MANY - 1, |range| range.start), Ordering::Relaxed);
            }
        }
    }

    /// What the sums of a file of `size` bytes came to, unless bytes are still wanted: then [`complete`] reads them.
    pub(super) fn computed(&self, size: u64) -> Option<Vec<Stated>> {
        let mut slot = self.lock();
        let serial = slot.as_mut()?;
        serial.sized(size);
        if serial.wanted().is_some() {
            return None;
        }
        tracing::debug!(read_back_bytes = self.read_back.total(), "sums in order are complete");
        slot.take().map(Serial::into_computed)
    }

    fn wanted(&self) -> Option<ByteRange> {
        self.lock().as_ref().and_then(Serial::wanted)
    }
}

/// What every file's [`Source`] shares.
pub(super) struct Sources {
    /// `None` for a run that keeps no bytes.
    pub(super) dest: Option<Arc<Dest>>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) tally: ReadBytes,
}

impl Sources {
    /// Where the part file of `id` is read again.
    pub(super) fn of(&self, id: FileId) -> Source {
        Source { dest: self.dest.clone(), id, stop: self.stop.clone(), tally: self.tally.clone() }
    }
}

/// Where missed bytes are read again.
pub(super) struct Source {
    dest: Option<Arc<Dest>>,
    id: FileId,
    /// Turns true when the run stops.
    stop: watch::Receiver<bool>,
    /// All that the run reads back.
    tally: ReadBytes,
}

/// Completes the sums of a file of `size` bytes, all of them written, and tells what they are. Blocks.
///
/// # Errors
/// As [`catch_up`].
pub(super) fn complete(ordered: &Ordered, size: u64, source: &Source) -> Result<Vec<Stated>, Failure> {
    catch_up(ordered, size, source)?;
    let unfed = || Failure::new(FailureKind::Disk, "a file was not read to its end");
    ordered.computed(size).ok_or_else(unfed)
}

/// Takes in what is wanted of the first `written` bytes of the part file, stretch by stretch. Blocks.
///
/// # Errors
/// `Disk` when it cannot be read, `Broken` when the run stops.
pub(super) fn catch_up(ordered: &Ordered, written: u64, source: &Source) -> Result<(), Failure> {
    if ordered.wanted().is_none_or(|range| written <= range.start) {
        return Ok(());
    }
    let gone = || Failure::new(FailureKind::Disk, "a part file is gone");
    let kept = source.dest.as_ref().map_or(Ok(None), |dest| dest.open_written(&source.id));
    let file = kept.map_err(|error| unread(&error))?.ok_or_else(gone)?;
    read(ordered, &file, written, &source.tally, &|| *source.stop.borrow())
}

/// What the statements that need an order come to for a published file of `size` bytes. Blocks.
///
/// # Errors
/// `Disk` when it cannot be read.
pub(super) fn read_whole(
    file: &ScanFile,
    size: u64,
    stated: &[Stated],
    tally: &ReadBytes,
) -> Result<Vec<Stated>, Failure> {
    let Some(ordered) = Ordered::new(0, Some(size), stated) else { return Ok(Vec::new()) };
    read(&ordered, file, size, tally, &|| false)?;
    let unfed = || Failure::new(FailureKind::Disk, "a file was not read to its end");
    ordered.computed(size).ok_or_else(unfed)
}

fn unread(error: &std::io::Error) -> Failure {
    Failure::disk("read back a file", error)
}

fn read(
    ordered: &Ordered,
    file: &ScanFile,
    end: u64,
    tally: &ReadBytes,
    stopped: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let pool = SlabPool::new(STEP_BYTES).map_err(|error| unread(&error))?;
    let mut slabs: Vec<Slab> = std::iter::from_fn(|| pool.try_lease()).collect();
    while let Some(range) = ordered.wanted().filter(|range| range.start < end) {
        if stopped() {
            return Err(Failure::new(FailureKind::Broken, "stopped"));
        }
        let start = range.start - range.start % PIECE_BYTES;
        let stop = end.min(range.end.min(end).next_multiple_of(PIECE_BYTES));
        let read = file.read_step(start, stop, &mut slabs).map_err(|error| unread(&error))?;
        let mut left = read;
        for (offset, slab) in (start..).step_by(SLAB_BYTES).zip(&slabs) {
            let bytes = &slab[..left.min(SLAB_BYTES)];
            tally.add(bytes);
            ordered.read_back.add(bytes);
            ordered.feed(offset, bytes);
            left -= bytes.len();
        }
        if ordered.wanted().is_some_and(|now| now.start <= range.start) {
            return Err(Failure::new(FailureKind::Disk, "a file is shorter than what was written of it"));
        }
    }
    Ok(())
}
