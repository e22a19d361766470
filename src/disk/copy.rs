//! Bytes of a file of this machine into a part file: shared where the file system can, else copied by the kernel.
//!
//! In: a path and a locked part. Out: a part with the same bytes, and those bytes as memory, to be hashed.
//! Holds: what is hashed is what the part holds, not what the source held; after a failed write the part is poisoned;
//! one step copies no more than it was asked for, so that whoever asks can stop.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::beneath;
use super::dest::{self, Dest};
use super::part::PartFile;
use super::window::{self, Window};
use crate::units::ByteRange;

/// Bytes of one read where the kernel does not copy.
const BUFFER_BYTES: usize = 1 << 20;

/// Steps of one copy that bring nothing before it counts as stuck.
const IDLE_TRIES_MAX: u32 = 100;

/// How bytes of this source reach a part: the first way that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The part shares the source's blocks (`FICLONE`): nothing is copied.
    Shared,
    /// `copy_file_range`: the kernel copies, or the server of a network file system does.
    Kernel,
    /// Read and written again.
    Buffer,
}

/// A file of this machine that is copied.
pub struct Source {
    file: File,
    way: Way,
    buffer: Vec<u8>,
    window: Window,
}

impl Source {
    /// Opens what `path` leads to. What is no regular file is opened too, without waiting for anybody: look at
    /// [`Source::about`] first.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).map_err(io::Error::other)?;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self { file, way: Way::Kernel, buffer: Vec::new(), window: Window::new(1) })
    }

    /// What the file is now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn about(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// How bytes are brought over.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Lets `part` share all of this file's blocks, where one file system holds both and can; says whether it does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn share(&mut self, part: &PartFile) -> io::Result<bool> {
        part.check()?;
        // Any refusal means that there are bytes to copy; a disk that fails will say so again.
        let shared = rustix::fs::ioctl_ficlone(part.file(), self.file.as_fd()).is_ok();
        if shared {
            self.way = Way::Shared;
        }
        Ok(shared)
    }

    /// Reserves room for all of a file of `size` bytes that cannot be shared.
    ///
    /// # Errors
    /// The kernel's.
    pub fn reserve(&self, part: &PartFile, size: u64) -> io::Result<()> {
        part.check()?;
        part.reserve(size)
    }

    /// Copies `range` to the same place of `part`, as far as the source reaches; returns how many bytes that is.
    ///
    /// # Errors
    /// The kernel's, after which the part is poisoned.
    pub fn copy(&mut self, part: &PartFile, range: ByteRange) -> io::Result<u64> {
        part.check()?;
        let copied = self.copy_all(part, range);
        if copied.is_err() {
            part.poison();
        }
        copied
    }

    fn copy_all(&mut self, part: &PartFile, range: ByteRange) -> io::Result<u64> {
        let mut at = range.start;
        let mut idle_tries = 0;
        while at < range.end {
            let copied = match self.way {
                Way::Shared => return Ok(range.len()),
                Way::Kernel => self.by_kernel(part, ByteRange::new(at, range.end))?,
                Way::Buffer => self.by_buffer(part, ByteRange::new(at, range.end))?,
            };
            match copied {
                Some(0) => break,
                Some(count) => (at, idle_tries) = (at + count, 0),
                None => idle_tries += 1,
            }
            if IDLE_TRIES_MAX < idle_tries {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a copy made no progress"));
            }
        }
        Ok(at - range.start)
    }

    /// One call to the kernel; `None` when it has to be asked again, perhaps in another way.
    fn by_kernel(&mut self, part: &PartFile, range: ByteRange) -> io::Result<Option<u64>> {
        let (mut from, mut to) = (range.start, range.start);
        let len = usize::try_from(range.len()).map_err(io::Error::other)?;
        match rustix::fs::copy_file_range(&self.file, Some(&mut from), part.file(), Some(&mut to), len) {
            // Files without blocks (FUSE, /proc) may copy as empty and read as full.
            Ok(0) => self.way = Way::Buffer,
            Ok(copied) => return Ok(Some(u64::try_from(copied).map_err(io::Error::other)?)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Two file systems, one that cannot, or a filter of system calls.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::TXTBSY) => {
                self.way = Way::Buffer;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }

    fn by_buffer(&mut self, part: &PartFile, range: ByteRange) -> io::Result<Option<u64>> {
        self.buffer.resize(BUFFER_BYTES, 0);
        let len = usize::try_from(range.len()).map_or(BUFFER_BYTES, |len| len.min(BUFFER_BYTES));
        let read = match self.file.read_at(&mut self.buffer[..len], range.start) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(error),
        };
        part.borrowed().write_all_at(&self.buffer[..read], range.start)?;
        Ok(Some(u64::try_from(read).map_err(io::Error::other)?))
    }

    /// Begins write-back of a range that was copied and hashed, and drops what is a window behind from the page cache.
    ///
    /// # Errors
    /// What write-back met, after which the part is poisoned.
    pub fn settle(&mut self, part: &Arc<PartFile>, range: ByteRange) -> io::Result<()> {
        if self.way != Way::Shared {
            window::forget_cached(self.file.as_fd(), range.start, range.len());
        }
        self.window.wrote(part, range.start, range.len())
    }
}

/// A range of a part file as memory.
pub struct Mapped(Mmap);

impl Mapped {
    /// The bytes of the range.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Dest {
    /// Maps `range` of `part`, which is not empty and which the file reaches.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file is shorter, `NotFound` when the part's name is another file's; else the kernel's.
    pub fn part_map(&self, part: &PartFile, range: ByteRange) -> io::Result<Mapped> {
        part.check()?;
        let parts = self.parts_existing()?;
        if !dest::is_same_file(&parts, &part.name(), part.file())? {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the part file is gone"));
        }
        let file = File::from(beneath::open(parts.as_fd(), &part.name(), OFlags::RDONLY, Mode::empty())?);
        if file.metadata()?.len() < range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(range.len()).map_err(io::Error::other)?;
        let mut options = MmapOptions::new();
        options.offset(range.start).len(len);
        // SAFETY: the file must neither change nor shrink while it is mapped. It is our own part file, locked by us and
        // writable by our user alone; the thread that writes it is the one that maps it, and it writes nothing before
        // it lets the map go. Who else runs as our user could write into this process as well. A source, which anybody
        // may change or cut off, is never mapped.
        let map = unsafe { options.map(&file)? };
        Ok(Mapped(map))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::{IoWish, probe};
    use crate::manifest::FileId;

    const SIZE: u64 = (3 << 20) + 17;

    fn content() -> Vec<u8> {
        (0..SIZE).map(|at| (at * 7 + at / 4096).to_le_bytes()[0]).collect()
    }

    struct Rig {
        _folder: tempfile::TempDir,
        dest: Dest,
        part: Arc<PartFile>,
        source: Source,
    }

    fn rig() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("source"), content()).unwrap();
        let dest = Dest::open(&folder.path().join("dest")).unwrap();
        let probe = probe(&dest, IoWish::Buffered).unwrap();
        let part = Arc::new(dest.part_open(&FileId([3; 16]), None, &probe).unwrap());
        let source = Source::open(&folder.path().join("source")).unwrap();
        Rig { _folder: folder, dest, part, source }
    }

    #[test]
    fn every_way_that_is_allowed_here_ends_in_the_same_bytes() {
        for way in [Way::Shared, Way::Kernel, Way::Buffer] {
            let Rig { _folder, dest, part, mut source } = rig();
            if way == Way::Shared {
                let shared = source.share(&part).unwrap();
                assert_eq!(source.way(), if shared { Way::Shared } else { Way::Kernel });
            } else {
                source.way = way;
                source.reserve(&part, SIZE).unwrap();
            }
            let whole = ByteRange::new(0, SIZE);
            assert_eq!(source.copy(&part, whole).unwrap(), SIZE, "{way:?}");
            source.settle(&part, whole).unwrap();
            let tail = ByteRange::new(1 << 20, SIZE);
            assert_eq!(dest.part_map(&part, whole).unwrap().bytes(), content(), "{way:?}");
            assert_eq!(dest.part_map(&part, tail).unwrap().bytes(), &content()[1 << 20..], "{way:?}");
        }
    }

    #[test]
    fn a_source_that_ends_early_says_how_far_it_came() {
        for way in [Way::Kernel, Way::Buffer] {
            let Rig { _folder, part, mut source, .. } = rig();
            source.way = way;
            assert_eq!(source.copy(&part, ByteRange::new(1 << 20, 2 * SIZE)).unwrap(), SIZE - (1 << 20), "{way:?}");
            assert_eq!(source.copy(&part, ByteRange::new(SIZE, 2 * SIZE)).unwrap(), 0, "{way:?}");
        }
    }

    #[test]
    fn a_part_that_is_shorter_or_gone_is_not_mapped() {
        let Rig { _folder, dest, part, mut source } = rig();
        source.copy(&part, ByteRange::new(0, 10)).unwrap();
        let beyond = dest.part_map(&part, ByteRange::new(0, 11)).err().unwrap();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        dest.part_remove(&part.id()).unwrap();
        let gone = dest.part_map(&part, ByteRange::new(0, 10)).err().unwrap();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
