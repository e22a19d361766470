//! Reading a file back, piece by piece, from the disk rather than from the page cache.
//!
//! In: which pieces are wanted. Out: their bytes, in no order, on several threads. Holds: memory is 4 MiB a thread;
//! the pages read are not left in the cache.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::batch::bytes;
use super::beneath;
use super::dest::{self, Dest};
use super::part;
use super::place;
use super::slab::{SLAB_BYTES, Slab, SlabPool};
use super::window;
use crate::manifest::{FileId, SafePath};
use crate::units::{PIECE_BYTES, piece_count, piece_range};

/// Threads of one scan at most: each reads 4 MiB at a time, so eight keep 32 MiB in flight.
const WORKERS_MAX: usize = 8;

/// Pieces read as one operation.
const STEP_PIECES: u64 = 4;

/// Attempts of one step without progress.
const IDLE_TRIES_MAX: u32 = 100;

/// A regular file beneath DEST, open for reading past the page cache where that is possible.
#[derive(Debug)]
pub struct ScanFile {
    file: File,
    direct: AtomicBool,
}

impl Dest {
    /// Opens a published file for reading; `None` when no regular file is there, or only by way of a link.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_published(&self, path: &SafePath) -> io::Result<Option<ScanFile>> {
        ScanFile::open(self.dir(), path.as_str())
    }

    /// Opens the part of `id` for reading; `None` when there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_part(&self, id: &FileId) -> io::Result<Option<ScanFile>> {
        match self.parts_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            folder => ScanFile::open(folder?.as_fd(), &id.to_hex()),
        }
    }

    /// Opens the part of `id` for reading once the last write of any other process has landed in it, and with it the
    /// file whose lock keeps others off until it is dropped; `None` when there is no part, or when it is still held
    /// at `until`. Blocks.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_part_alone(&self, id: &FileId, until: Instant) -> io::Result<Option<(ScanFile, File)>> {
        let folder = match self.parts_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            folder => folder?,
        };
        // For writing too: NFS locks nothing else.
        let flags = OFlags::RDWR | OFlags::NONBLOCK;
        let locked = match beneath::open(folder.as_fd(), &id.to_hex(), flags, Mode::empty()) {
            Err(error) if is_absence(&error) => return Ok(None),
            file => File::from(file?),
        };
        if !part::lock_by(&locked, until)? {
            return Ok(None);
        }
        Ok(self.open_part(id)?.map(|scan| (scan, locked)))
    }

    /// Makes the names of part files durable, whoever made them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync_parts(&self) -> io::Result<()> {
        dest::sync_folder(self.parts_existing()?)
    }

    /// As [`Dest::open_part`], for bytes that this process has written just now: what the page cache holds of them
    /// may answer, for it is the bytes that are asked after, not the disk.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_written(&self, id: &FileId) -> io::Result<Option<ScanFile>> {
        match self.parts_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            folder => ScanFile::open_as_is(folder?.as_fd(), &id.to_hex()),
        }
    }
}

/// Reads the pieces `wanted` (ascending) of a file of `size` bytes and hands each to `each`, on several threads at
/// once and in no order, so `each` may hash. Blocks.
///
/// A piece beyond the end of what is there is left out.
///
/// # Errors
/// The kernel's.
pub fn pieces(file: &ScanFile, size: u64, wanted: &[u64], each: impl Fn(u64, &[u8]) + Sync) -> io::Result<()> {
    let wanted = &wanted[..wanted.partition_point(|piece| *piece < piece_count(size))];
    let steps: Vec<&[u64]> = wanted.chunk_by(|a, b| a / STEP_PIECES == b / STEP_PIECES).collect();
    // Two threads a CPU: one reads while the other hashes.
    let workers = (place::cpus() * 2).min(WORKERS_MAX).min(steps.len());
    let pool = SlabPool::new(bytes(workers) * STEP_PIECES * PIECE_BYTES)?;
    let scan = Scan { file, size, steps: &steps, next: AtomicUsize::new(0), each: &each };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| scan.work(&pool))).collect();
        let panicked = || Err(io::Error::other("a scan thread panicked"));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| panicked()))
    })
}

/// What the threads of one scan share.
struct Scan<'a> {
    file: &'a ScanFile,
    size: u64,
    /// The wanted pieces, by the operation that reads them.
    steps: &'a [&'a [u64]],
    next: AtomicUsize,
    each: &'a (dyn Fn(u64, &[u8]) + Sync),
}

impl Scan<'_> {
    /// One thread: takes the next step until there is none.
    fn work(&self, pool: &SlabPool) -> io::Result<()> {
        let mut slabs: Vec<Slab> = std::iter::from_fn(|| pool.try_lease()).take(4).collect();
        while let Some(wanted) = self.steps.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = self.step(wanted, &mut slabs) {
                // The others stop too.
                self.next.store(self.steps.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    }

    fn step(&self, wanted: &[u64], slabs: &mut [Slab]) -> io::Result<()> {
        let first = wanted.first().map_or(0, |piece| piece - piece % STEP_PIECES);
        let start = first * PIECE_BYTES;
        let read = self.file.read_step(start, self.size, slabs)?;
        for piece in wanted {
            let range = piece_range(self.size, *piece);
            let slab = usize::try_from(piece - first).ok().and_then(|index| slabs.get(index));
            if let (Some(slab), true) = (slab, range.end <= start + bytes(read)) {
                (self.each)(*piece, &slab[..usize::try_from(range.len()).map_err(io::Error::other)?]);
            }
        }
        Ok(())
    }
}

impl ScanFile {
    fn open(dir: BorrowedFd<'_>, path: &str) -> io::Result<Option<Self>> {
        let Some(scan) = Self::open_as_is(dir, path)? else { return Ok(None) };
        if !scan.direct.load(Ordering::Relaxed) {
            scan.past_the_cache()?;
        }
        Ok(Some(scan))
    }

    /// What the page cache holds proves nothing about the disk: write it out, then drop it.
    fn past_the_cache(&self) -> io::Result<()> {
        self.file.sync_data()?;
        window::forget_cached(self.file.as_fd(), 0, 0);
        Ok(())
    }

    fn open_as_is(dir: BorrowedFd<'_>, path: &str) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let opened = beneath::open(dir, path, flags | OFlags::DIRECT, Mode::empty());
        let (file, direct) = match opened {
            Err(error) if is_refusal(&error) => (beneath::open(dir, path, flags, Mode::empty()), false),
            ended => (ended, true),
        };
        let file = match file {
            Err(error) if is_absence(&error) => return Ok(None),
            ended => File::from(ended?),
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        Ok(Some(Self { file, direct: AtomicBool::new(direct) }))
    }

    /// Makes what is read durable, whoever wrote it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> io::Result<()> {
        dest::sync_file(&self.file)
    }

    /// Opens a file anywhere on this machine, as its path leads, for reading through the page cache.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_local(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, direct: AtomicBool::new(false) })
    }

    /// Fills `slabs` from `offset` on, which is the start of a piece, as far as `size` and the file reach; returns how
    /// many bytes that is.
    ///
    /// # Errors
    /// The kernel's, or that a read makes no progress.
    pub fn read_step(&self, offset: u64, size: u64, slabs: &mut [Slab]) -> io::Result<usize> {
        let capacity = slabs.len() * SLAB_BYTES;
        let want = usize::try_from(size - offset).map_or(capacity, |rest| rest.min(capacity));
        let (mut done, mut idle_tries) = (0, 0);
        while done < want {
            // After a short read on from a whole slab: no direct I/O needs more alignment (`Probe::align`).
            let from = done - done % SLAB_BYTES;
            let mut slices: Vec<_> = slabs[from / SLAB_BYTES..].iter_mut().map(|slab| IoSliceMut::new(slab)).collect();
            match rustix::io::preadv(&self.file, &mut slices, offset + bytes(from)) {
                Ok(read) if done < from + read => {
                    (done, idle_tries) = (from + read, 0);
                    continue;
                }
                // Nothing new where more should be: the file ends here.
                Ok(_) => break,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::INVAL) if self.direct.swap(false, Ordering::Relaxed) => {
                    rustix::fs::fcntl_setfl(&self.file, OFlags::empty())?;
                    self.past_the_cache()?;
                }
                Err(error) => return Err(error.into()),
            }
            idle_tries += 1;
            if IDLE_TRIES_MAX < idle_tries {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a read made no progress"));
            }
        }
        if !self.direct.load(Ordering::Relaxed) {
            window::forget_cached(self.file.as_fd(), offset, bytes(want));
        }
        Ok(done.min(want))
    }
}

/// Whether a name leads to no regular file of DEST: nothing there, a link or a file on the way, a socket.
fn is_absence(error: &io::Error) -> bool {
    let absences = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO];
    absences.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn is_refusal(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::OPNOTSUPP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
