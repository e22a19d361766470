//! Unpacking's two ends on disk: the sealed archive as it is read, and members in part files until all of them are whole.
//!
//! Holds: every byte of the archive is proven against its tree again while it is read; no member has its final name
//! before all are durable.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::disk::{Dest, PartFile, PieceWriter, Probe, SLAB_BYTES, Slab, SlabPool, scan::ScanFile};
use crate::engine::ReadBytes;
use crate::error::{Error, Failure, storage};
use crate::manifest::{Digest, Entry, FileId, Ranges, SafePath, Version};
use crate::schedule::{FILE_SEAL, FileStep};
use crate::units::{PIECE_BYTES, piece_count, piece_range};
use crate::unpack::{Input, Sink};
use crate::verify::{self, Cv, Sums, wide};

/// Pieces of the archive in memory at once.
const WINDOW_PIECES: usize = 2;

/// What the thread that unpacks and the run that watches it share.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Set by the run: end at the next read or write.
    pub(super) stop: AtomicBool,
    /// Bytes of the archive read so far.
    pub(super) bytes_read: AtomicU64,
    /// Pieces written, members synced and named: signs of life.
    pub(super) moves: AtomicU64,
    /// Bytes of a local archive read to know its digest, before any member is.
    pub(super) hashed: ReadBytes,
}

impl Watch {
    /// Notes a sign of life.
    pub(super) fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the thread's work once the run has asked for it; the run knows the true reason.
    pub(super) fn go_on(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Error::Internal("unpacking was stopped".to_owned()));
        }
        Ok(())
    }
}

/// The sealed archive, two pieces at a time.
pub(super) struct Packed {
    file: ScanFile,
    size: u64,
    /// What each piece must hash to.
    cvs: Vec<Cv>,
    slabs: Vec<Slab>,
    /// First byte in the slabs, and how many there are.
    window: (u64, u64),
    watch: Arc<Watch>,
    /// Why reading stopped: decoders may not pass it on as it is.
    failed: Option<Error>,
    kept: Kept,
}

impl Packed {
    /// Reads `file` of `size` bytes, whose pieces hash to `cvs`.
    pub(super) fn new(file: ScanFile, size: u64, cvs: Vec<Cv>, watch: Arc<Watch>) -> Result<Self, Error> {
        let failed = |error: io::Error| storage("reserve memory for the archive", &error);
        let pool = SlabPool::new(PIECE_BYTES * wide(WINDOW_PIECES)).map_err(failed)?;
        let slabs = std::iter::from_fn(|| pool.try_lease()).take(WINDOW_PIECES).collect();
        Ok(Self { file, size, cvs, slabs, window: (0, 0), watch, failed: None, kept: Kept::AsSealed })
    }

    /// Why reading stopped, if it did.
    pub(super) fn failed(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// Whether all that was read is what was sealed.
    pub(super) fn kept(&self) -> Kept {
        self.kept
    }

    /// Brings the piece at `offset` and those after it into the window, each proven.
    fn load(&mut self, offset: u64) -> Result<(), Error> {
        self.watch.go_on()?;
        let first = offset / PIECE_BYTES;
        let start = first * PIECE_BYTES;
        self.window = (start, 0);
        let failed = |error: io::Error| storage("read the archive", &error);
        let read = self.file.read_step(start, self.size, &mut self.slabs).map_err(failed)?;
        let mut left = read;
        for (index, slab) in (first..).zip(&self.slabs) {
            let len = left.min(SLAB_BYTES);
            let whole = piece_range(self.size, index).len() == wide(len);
            if len == 0 {
                break;
            }
            let expected = usize::try_from(index).ok().and_then(|index| self.cvs.get(index));
            let proof = whole.then(|| verify::prove_piece(Some(self.size), index, &slab[..len], Sums::default()).cv);
            if proof.as_ref() != expected {
                self.kept = Kept::Changed;
                return Err(Error::Storage("the archive on disk is not what was sealed".to_owned()));
            }
            left -= len;
        }
        self.window.1 = wide(read);
        self.watch.bytes_read.fetch_max(start + self.window.1, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether a sealed archive can be trusted on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    AsSealed,
    Changed,
}

impl Input for Packed {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.size <= offset || buffer.is_empty() {
            return Ok(0);
        }
        let (start, len) = self.window;
        let outside = offset < start || start + len <= offset;
        if outside && let Err(error) = self.load(offset) {
            let text = error.to_string();
            self.failed.get_or_insert(error);
            return Err(io::Error::other(text));
        }
        let (start, len) = self.window;
        let Some(skip) = offset.checked_sub(start).filter(|skip| *skip < len) else { return Ok(0) };
        let whole = usize::try_from(skip).map_err(io::Error::other)?;
        let (slab, at) = (whole / SLAB_BYTES, whole % SLAB_BYTES);
        let left = usize::try_from(len - skip).map_err(io::Error::other)?;
        let count = left.min(SLAB_BYTES - at).min(buffer.len());
        buffer[..count].copy_from_slice(&self.slabs[slab][at..at + count]);
        Ok(count)
    }
}

/// A member that is durable in its part file.
pub(super) struct Staged {
    pub(super) path: SafePath,
    pub(super) id: FileId,
    pub(super) size: u64,
    pub(super) blake3: Digest,
    pub(super) cvs: Vec<Cv>,
}

/// The part files of members.
pub(super) struct Staging {
    dest: Arc<Dest>,
    probe: Arc<Probe>,
    pool: SlabPool,
    writer: PieceWriter,
    /// What tells this archive's parts from others.
    namespace: String,
    watch: Arc<Watch>,
    open: Option<Open>,
    members: Vec<Staged>,
}

/// The member that is being written.
struct Open {
    path: SafePath,
    part: Arc<PartFile>,
    size: u64,
    cvs: Vec<Cv>,
    slab: Option<Slab>,
    filled: usize,
}

impl Staging {
    /// Nothing staged yet, of the archive with this digest.
    pub(super) fn new(dest: Arc<Dest>, probe: Arc<Probe>, archive: Digest, watch: Arc<Watch>) -> Result<Self, Error> {
        let pool = SlabPool::new(0).map_err(|error| storage("reserve memory for members", &error))?;
        let writer = PieceWriter::new(probe.rung);
        let namespace = format!("archive {}", archive.to_hex());
        Ok(Self { dest, probe, pool, writer, namespace, watch, open: None, members: Vec::new() })
    }

    /// The members, in the order in which they came.
    pub(super) fn into_members(self) -> Vec<Staged> {
        self.members
    }

    fn id(&self, path: &SafePath, size: u64) -> FileId {
        let entry = Entry {
            path: path.clone(),
            object: String::new(),
            size: Some(size),
            version: Version::default(),
            ranges: Ranges::Refused,
            stated: Vec::new(),
        };
        entry.id(&self.namespace)
    }

    /// Hashes and writes what the slab holds.
    fn flush(&mut self) -> Result<(), Error> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let Some(slab) = open.slab.take().filter(|_| 0 < open.filled) else { return Ok(()) };
        let index = wide(open.cvs.len());
        let proof = verify::prove_piece(Some(open.size), index, &slab[..open.filled], Sums::default());
        let written = self.writer.write(&open.part, index * PIECE_BYTES, slab, open.filled);
        written.map_err(|error| storage(&format!("write `{}`", open.path), &error))?;
        open.cvs.push(proof.cv);
        open.filled = 0;
        self.watch.moved();
        Ok(())
    }
}

impl Sink for Staging {
    fn begin(&mut self, path: SafePath, size: u64) -> Result<(), Error> {
        self.watch.go_on()?;
        let part = self.dest.part_open(&self.id(&path, size), Some(size), &self.probe).map_err(failed)?;
        self.open = Some(Open { path, part: Arc::new(part), size, cvs: Vec::new(), slab: None, filled: 0 });
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.watch.go_on()?;
        while !bytes.is_empty() {
            let Some(open) = &mut self.open else { return Err(lost()) };
            let Some(slab) = open.slab.take().or_else(|| self.pool.try_lease()) else { return Err(lost()) };
            let slab = open.slab.insert(slab);
            let count = bytes.len().min(SLAB_BYTES - open.filled);
            slab[open.filled..open.filled + count].copy_from_slice(&bytes[..count]);
            open.filled += count;
            bytes = &bytes[count..];
            if open.filled == SLAB_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        self.flush()?;
        let Some(open) = self.open.take() else { return Err(lost()) };
        let Open { path, part, size, cvs, .. } = open;
        if piece_count(size) != wide(cvs.len()) {
            return Err(lost());
        }
        for step in FILE_SEAL.into_iter().filter(|step| *step != FileStep::Rename) {
            self.dest.seal_step(step, &part, &path, size).map_err(failed)?;
        }
        self.watch.moved();
        let blake3 = verify::root_of(size, cvs.iter().copied());
        self.members.push(Staged { id: part.id(), path, size, blake3, cvs });
        Ok(())
    }
}

/// The reader of archives keeps the order of [`Sink`], so this is a defect.
fn lost() -> Error {
    Error::Internal("a member of an archive was not whole".to_owned())
}

pub(super) fn failed(failure: Failure) -> Error {
    Error::of(failure.kind, failure.detail)
}
