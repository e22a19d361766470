//! Part files: where pieces land until their file is whole.
//!
//! In: a [`FileId`]. Out: a locked [`PartFile`] with its space reserved. Holds: one process writes a part, and only
//! after the ring writes of a killed one have landed; after any error a part is never synced again.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::backend::Rung;
use super::dest::{self, Dest};
use super::parts::{NameIn, SyncedFolder};
use super::probe::Probe;
use crate::error::{Failure, FailureKind};
use crate::manifest::FileId;
use crate::schedule::Kept;

/// How long the writes of a killed process may keep its part locked. Measured: 4 s at 32 MiB/s for 128 MiB queued.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks at a locked part.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How often a part whose name changed hands while we waited is opened again.
const OPEN_TRIES_MAX: u32 = 8;

/// The one part of a file that no journal speaks of, in the state folder itself.
pub(super) const PIECE: &str = "piece";

/// Parts one DEST may hold: more than any model has files.
const PARTS_MAX: usize = 1 << 20;

/// One part file: open, locked, its space reserved.
#[derive(Debug)]
pub struct PartFile {
    id: FileId,
    file: File,
    folder: Arc<SyncedFolder>,
    name: NameIn,
    kept: Kept,
    direct: bool,
    align: u64,
    adopted: bool,
    poisoned: AtomicBool,
}

impl PartFile {
    /// Whose content this is.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Whether writes bypass the page cache.
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// What offsets and lengths of writes are multiples of, in bytes; 1 for buffered ones.
    pub fn align(&self) -> u64 {
        self.align
    }

    /// Whether the file was there before: only then can pieces in it be durable.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Whether an error was met, so that nothing written since the last good sync counts.
    pub fn poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Marks the part as failed. The kernel reports a lost write only once, so we must remember it.
    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// Refuses work on a poisoned part.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.poisoned() {
            return Err(io::Error::other("the part file met an error before"));
        }
        Ok(())
    }

    /// Makes completed writes durable (`fdatasync`). Blocks.
    ///
    /// # Errors
    /// The kernel's error, after which the part is poisoned; or that it was poisoned before.
    pub fn sync_data(&self) -> io::Result<()> {
        self.sync_by(|file| {
            file.sync_data()?;
            // Else a power cut could leave synced data without a name.
            self.folder.sync_name(self.name)
        })
    }

    /// As [`PartFile::sync_data`], with size and mode (`fsync`).
    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.sync_by(dest::sync_file)
    }

    /// The one way to call the kernel for a change that must not fail silently.
    pub(super) fn sync_by(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        self.check()?;
        if let Err(error) = sync(&self.file) {
            self.poison();
            return Err(error);
        }
        // A write may have failed while the kernel synced.
        self.check()
    }

    /// The folder it is in.
    pub(super) fn folder(&self) -> &SyncedFolder {
        &self.folder
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The file, for writes at a place.
    pub(super) fn borrowed(&self) -> &File {
        &self.file
    }

    /// Another descriptor of the same open file; it shares the lock.
    pub(super) fn duplicate(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(super) fn name(&self) -> String {
        match self.kept {
            Kept::Journaled => self.id.to_hex(),
            Kept::Unjournaled => PIECE.to_owned(),
        }
    }
}

impl Dest {
    /// Opens the part of `id`, new or as a run before left it, locks it and reserves `size` bytes. Blocks.
    ///
    /// Waits up to 30 s for another process's lock: the ring writes of a killed process hold it until they land.
    /// A link, FIFO or hard link under the part's name is replaced by a new file.
    ///
    /// # Errors
    /// `DiskFull` when the space is not there, `Disk` else.
    pub fn part_open(&self, id: &FileId, size: Option<u64>, probe: &Probe) -> Result<PartFile, Failure> {
        let failed = |error: io::Error| Failure::disk("cannot open a part file", &error);
        let folder = self.parts_folder().map_err(failed)?;
        let until = Instant::now() + LOCK_TIMEOUT;
        let mut opened = None;
        for _ in 0..OPEN_TRIES_MAX {
            opened = open_locked(folder, id, probe.direct, until)?;
            if opened.is_some() {
                break;
            }
        }
        let busy = || Failure::new(FailureKind::Disk, "the part file keeps changing under its name");
        let (file, adopted) = opened.ok_or_else(busy)?;
        let part = PartFile {
            id: *id,
            file,
            folder: Arc::clone(folder),
            name: folder.note_name(),
            kept: Kept::Journaled,
            direct: probe.direct,
            align: if probe.direct { u64::from(probe.align) } else { 1 },
            adopted,
            poisoned: AtomicBool::new(false),
        };
        if let Err(error) = size.filter(|_| probe.rung != Rung::Discard).map_or(Ok(()), |size| part.reserve(size)) {
            // A reservation that failed half-way keeps what it got: an empty part must not fill the disk.
            if !adopted {
                self.part_remove(id).map_err(failed)?;
            }
            return Err(Failure::disk("cannot reserve space", &error));
        }
        Ok(part)
    }

    /// A new part for `id` that nobody will continue: no folder is made for it and no name of it is made durable. What
    /// has its name is another run's, which holds no lock of this DEST any more; its writes land in that file. Blocks.
    ///
    /// # Errors
    /// As [`Dest::part_open`].
    pub fn piece_open(&self, id: &FileId, size: u64, probe: &Probe) -> Result<PartFile, Failure> {
        let failed = |error: io::Error| Failure::disk("cannot open a part file", &error);
        let state = self.state_folder().and_then(|state| state.try_clone_to_owned()).map_err(failed)?;
        let folder = Arc::new(SyncedFolder::new(state));
        let mut made = create(&folder, PIECE, probe.direct).map_err(failed)?;
        if made.is_none() {
            self.piece_remove().map_err(failed)?;
            made = create(&folder, PIECE, probe.direct).map_err(failed)?;
        }
        let file = made.ok_or_else(|| failed(io::ErrorKind::AlreadyExists.into()))?;
        let part = PartFile {
            id: *id,
            file,
            name: folder.note_name(),
            folder,
            kept: Kept::Unjournaled,
            direct: probe.direct,
            align: if probe.direct { u64::from(probe.align) } else { 1 },
            adopted: false,
            poisoned: AtomicBool::new(false),
        };
        if let Err(error) = part.reserve(size) {
            self.piece_remove().map_err(failed)?;
            return Err(Failure::disk("cannot reserve space", &error));
        }
        Ok(part)
    }

    /// Removes what [`Dest::piece_open`] made for a run that came to no end. That there is none is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn piece_remove(&self) -> io::Result<()> {
        match self.state_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            state => dest::absent_is_fine(rustix::fs::unlinkat(state?, PIECE, AtFlags::empty())),
        }
    }

    /// Whether [`Dest::piece_open`] left something.
    ///
    /// # Errors
    /// The kernel's.
    pub fn piece_exists(&self) -> io::Result<bool> {
        match self.state_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            state => dest::stat_name(state?, PIECE).map(|stat| stat.is_some()),
        }
    }

    /// The length of the part of `id`, or `None` when there is none that may be continued.
    ///
    /// # Errors
    /// The kernel's.
    pub fn part_exists(&self, id: &FileId) -> io::Result<Option<u64>> {
        let folder = match self.parts_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            ended => ended?,
        };
        Ok(dest::stat_name(folder, &id.to_hex())?.filter(dest::is_plain_file).map(|stat| dest::stat_size(&stat)))
    }

    /// The ids of all parts, in no order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn parts(&self) -> io::Result<Vec<FileId>> {
        let folder = match self.parts_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            ended => ended?,
        };
        let mut ids = Vec::new();
        for entry in Dir::read_from(folder)?.take(PARTS_MAX) {
            ids.extend(id_from_hex(entry?.file_name().to_bytes()));
        }
        Ok(ids)
    }

    /// Removes the part of `id`. That there is none is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn part_remove(&self, id: &FileId) -> io::Result<()> {
        match self.parts_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            ended => dest::absent_is_fine(rustix::fs::unlinkat(ended?, id.to_hex(), AtFlags::empty())),
        }
    }
}

impl PartFile {
    /// Reserves room for `size` bytes and the padding of the last write.
    pub(super) fn reserve(&self, size: u64) -> io::Result<()> {
        let rounded = size.checked_next_multiple_of(self.align).ok_or(io::ErrorKind::FileTooLarge)?;
        if rounded == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, rounded) {
            Ok(()) => Ok(()),
            // Not promised then; the length is still set, so that writes need not extend the file.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => self.lengthen(rounded),
            Err(error) => Err(error.into()),
        }
    }

    fn lengthen(&self, size: u64) -> io::Result<()> {
        let now = self.file.metadata()?.len();
        if now < size { self.file.set_len(size) } else { Ok(()) }
    }
}

/// Opens and locks a part; whether it was there before. `None` when its name changed hands meanwhile.
fn open_locked(
    folder: &SyncedFolder,
    id: &FileId,
    direct: bool,
    until: Instant,
) -> Result<Option<(File, bool)>, Failure> {
    let failed = |error: io::Error| Failure::disk("cannot open a part file", &error);
    let name = id.to_hex();
    let (file, adopted) = match create(folder, &name, direct).map_err(failed)? {
        Some(file) => (file, false),
        None => match open_existing(folder, &name, direct)? {
            Some(file) => (file, true),
            None => return Ok(None),
        },
    };
    lock(&file, until)?;
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    let ours = dest::is_plain_file(&stat) && dest::is_same_file(folder, &name, file.as_fd()).map_err(failed)?;
    Ok(ours.then_some((file, adopted)))
}

fn flags(direct: bool) -> OFlags {
    OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kept(direct)
}

fn kept(direct: bool) -> OFlags {
    if direct { OFlags::DIRECT } else { OFlags::empty() }
}

/// Makes the part, the usual case; `None` when something has its name.
fn create(folder: &SyncedFolder, name: &str, direct: bool) -> io::Result<Option<File>> {
    let flags = flags(direct) | OFlags::CREATE | OFlags::EXCL;
    match rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::EXIST) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens what has the part's name; `None` when that was no file that may be continued and is removed, or went away.
fn open_existing(folder: &SyncedFolder, name: &str, direct: bool) -> Result<Option<File>, Failure> {
    let failed = |error: io::Error| Failure::disk("cannot open a part file", &error);
    let Some(stat) = dest::stat_name(folder, name).map_err(failed)? else { return Ok(None) };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Failure::new(FailureKind::Refused, format!("a folder has the name of part file `{name}`")));
    }
    if !dest::is_plain_file(&stat) {
        dest::absent_is_fine(rustix::fs::unlinkat(folder, name, AtFlags::empty())).map_err(failed)?;
        return Ok(None);
    }
    let file = match rustix::fs::openat(folder, name, flags(direct) | OFlags::NONBLOCK, Mode::empty()) {
        Ok(file) => file,
        // A link or FIFO took the name: the next round removes it.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    // NONBLOCK was for a FIFO; on a ring it would mean "fail rather than wait".
    rustix::fs::fcntl_setfl(&file, kept(direct)).map_err(|error| failed(error.into()))?;
    Ok(Some(File::from(file)))
}

/// Locks the data descriptor itself: that lock lives until the last ring write of a killed process has landed.
fn lock(file: &File, until: Instant) -> Result<(), Failure> {
    match lock_by(file, until) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(FailureKind::Disk, "another process holds a part file")),
        Err(error) => Err(Failure::disk("cannot lock a part file", &error)),
    }
}

/// As [`lock`]; false when another process holds it after `until`.
pub(super) fn lock_by(file: &File, until: Instant) -> io::Result<bool> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads a part's name back into its id.
fn id_from_hex(name: &[u8]) -> Option<FileId> {
    let mut id = [0; 16];
    if name.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(name.chunks_exact(2)) {
        let plain = pair.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let digits = std::str::from_utf8(pair).ok().filter(|_| plain)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(FileId(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{IoWish, probe};

    fn part() -> (tempfile::TempDir, PartFile) {
        let folder = tempfile::tempdir().unwrap();
        let dest = Dest::open(folder.path()).unwrap();
        let probe = probe(&dest, IoWish::Auto).unwrap();
        let part = dest.part_open(&FileId([1; 16]), Some(5), &probe).unwrap();
        (folder, part)
    }

    #[test]
    fn a_failed_sync_is_never_tried_again() {
        let (_folder, part) = part();
        part.sync_data().unwrap();
        let failed = part.sync_by(|_| Err(Errno::IO.into())).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert!(part.poisoned());
        let second = part.sync_by(|_| panic!("the kernel is asked again"));
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::Other);
        assert!(part.sync_data().is_err() && part.sync_all().is_err());
    }

    #[test]
    fn a_sync_during_which_a_write_failed_proves_nothing() {
        let (_folder, part) = part();
        assert!(
            part.sync_by(|_| {
                part.poison();
                Ok(())
            })
            .is_err()
        );
    }

    #[test]
    fn a_piece_takes_the_place_of_whatever_an_earlier_run_left() {
        let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dest = Dest::open(inside.path()).unwrap();
        let probe = probe(&dest, IoWish::Buffered).unwrap();
        let (kept, left) = (outside.path().join("kept"), inside.path().join(".dray/piece"));
        std::fs::write(&kept, "somebody else's").unwrap();
        let lefts: [fn(&std::path::Path, &std::path::Path); 3] = [
            |_, left| std::fs::write(left, [7; 5000]).unwrap(),
            |kept, left| std::os::unix::fs::symlink(kept, left).unwrap(),
            |kept, left| std::fs::hard_link(kept, left).unwrap(),
        ];
        for leave in lefts {
            leave(&kept, &left);
            let part = dest.piece_open(&FileId([1; 16]), 3, &probe).unwrap();
            assert!(!part.adopted());
            assert_eq!(std::fs::metadata(&left).unwrap().len(), 3, "a new file of the size that is reserved");
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), "somebody else's");
            assert!(!dest.state_is_empty().unwrap());
            dest.piece_remove().unwrap();
            dest.piece_remove().unwrap();
            assert!(dest.state_is_empty().unwrap());
        }
    }

    #[test]
    fn part_names_read_back_into_ids() {
        let id = FileId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0xab, 0xcd, 0xef, 14, 15]);
        assert_eq!(id_from_hex(id.to_hex().as_bytes()), Some(id));
        for name in [
            "",
            "..",
            "0",
            "+0102030405060708090a0b0c0d0e0f0",
            "ABCDEF0102030405060708090a0b0c0d",
            "00010203040506070809abcdef0102é",
        ] {
            assert_eq!(id_from_hex(name.as_bytes()), None, "{name}");
        }
    }
}
