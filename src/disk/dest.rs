//! DEST: one directory descriptor, and the state beneath its `.dray/`.
//!
//! In: the path a user gave. Out: a [`Dest`] through which every other name is opened. Holds: names are opened
//! beneath the descriptor, so DEST may be renamed or its path swapped meanwhile; state files appear whole or not at all.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::above::Above;
use super::beneath;
use super::parts::SyncedFolder;
use crate::error::{Error, storage};

/// The state folder of a DEST.
pub(super) const STATE: &str = ".dray";

/// The folder of part files, beneath the state folder.
const PARTS: &str = "parts";

/// The lock file, beneath the state folder, where a folder cannot be locked.
pub(super) const LOCK: &str = "lock";

/// Mode of state files: they hold no secrets.
const STATE_MODE: Mode = Mode::from_raw_mode(0o644);

/// How often a lock whose name changed hands meanwhile is tried again.
const LOCK_TRIES_MAX: u32 = 16;

/// One destination directory. All names are opened beneath its descriptor.
pub struct Dest {
    path: PathBuf,
    dir: OwnedFd,
    state: OnceLock<OwnedFd>,
    parts: OnceLock<Arc<SyncedFolder>>,
    pub(super) above: Arc<Above>,
    /// What becomes of links that have a file's final name.
    pub(super) links: Links,
}

/// What becomes of links that have a file's final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// They are somebody's choice and left alone.
    Kept,
    /// They are a cache's own, and the file takes their place.
    Replaced,
}

impl Dest {
    /// Opens DEST, making it and its missing parents. Their names are durable when a journal beneath has begun, or the
    /// folders of published files are synced: nothing that must last lies beneath them before.
    ///
    /// # Errors
    /// `Usage` when the path names something that is no folder, `Storage` or `DiskFull` else.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| open_error(path, &error);
        match Self::open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_path(path).map_err(failed)?;
                Self::open_dir(path).map_err(failed)
            }
            ended => ended.map_err(failed),
        }
    }

    /// Opens a DEST that must be there; makes nothing.
    ///
    /// # Errors
    /// `NotFound` when it is not there, else as [`Dest::open`].
    pub fn open_existing(path: &Path) -> Result<Self, Error> {
        Self::open_dir(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound(format!("`{}` does not exist", path.display())),
            _ => open_error(path, &error),
        })
    }

    /// Opens DEST as a folder of a cache: its last component is not followed when it is a link, and links in it give way
    /// to files.
    ///
    /// # Errors
    /// `Policy` when it is a link or no folder, else as [`Dest::open`].
    pub fn open_cache(path: &Path) -> Result<Self, Error> {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Ok(Self { links: Links::Replaced, ..Self::open(path)? });
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let cache = Self::open(parent)?;
        let made = utf8(name).and_then(|name| beneath::make_folder(cache.dir(), name));
        let dir = made.and_then(|dir| sync_folder(cache.dir()).map(|()| dir)).map_err(|error| {
            let crooked = [Errno::LOOP, Errno::NOTDIR].map(|errno| Some(errno.raw_os_error()));
            if crooked.contains(&error.raw_os_error()) {
                return Error::Policy(format!("`{}` is a link or no folder; it is left alone", path.display()));
            }
            open_error(path, &error)
        })?;
        Ok(Self { links: Links::Replaced, ..Self::of(path.to_owned(), dir) })
    }

    /// A folder beneath this DEST as one of its own.
    pub(super) fn within(&self, name: &str, dir: OwnedFd) -> Self {
        Self::of(self.path.join(name), dir)
    }

    fn open_dir(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self::of(path.to_owned(), dir))
    }

    fn of(path: PathBuf, dir: OwnedFd) -> Self {
        let (state, parts, above) = (OnceLock::new(), OnceLock::new(), Arc::default());
        Self { path, dir, state, parts, above, links: Links::Kept }
    }

    /// Shares with others what is known of the folders above.
    #[must_use]
    pub fn below(self, above: Arc<Above>) -> Self {
        Self { above, ..self }
    }

    /// The path as it was given, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The state folder, made if it is missing.
    pub(super) fn state_folder(&self) -> io::Result<BorrowedFd<'_>> {
        if self.state.get().is_none() {
            let folder = beneath::make_folder(self.dir(), STATE)?;
            // Synced at once: a journal beneath a folder whose name was lost is lost with it.
            sync_folder(self.dir())?;
            return Ok(self.state.get_or_init(|| folder).as_fd());
        }
        self.state_existing()
    }

    /// The state folder, or `NotFound`.
    pub(super) fn state_existing(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(folder) = self.state.get() {
            return Ok(folder.as_fd());
        }
        let folder = beneath::open_folder(self.dir(), STATE)?;
        Ok(self.state.get_or_init(|| folder).as_fd())
    }

    /// Whether nothing is in the state folder but a lock file.
    ///
    /// # Errors
    /// The kernel's; `NotFound` when there is no state folder.
    pub fn state_is_empty(&self) -> io::Result<bool> {
        for entry in Dir::read_from(self.state_existing()?)? {
            if ![".", "..", LOCK].map(str::as_bytes).contains(&entry?.file_name().to_bytes()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The folder of part files, made if it is missing.
    pub(super) fn parts_folder(&self) -> io::Result<&Arc<SyncedFolder>> {
        if let Some(folder) = self.parts.get() {
            return Ok(folder);
        }
        let state = self.state_folder()?;
        let folder = beneath::make_folder(state, PARTS)?;
        sync_folder(state)?;
        Ok(self.parts.get_or_init(|| Arc::new(SyncedFolder::new(folder))))
    }

    /// Makes the folder of part files; its name is durable with the next sync of the state folder.
    pub(crate) fn make_parts_folder(&self) -> io::Result<()> {
        if self.parts.get().is_none() {
            let folder = beneath::make_folder(self.state_folder()?, PARTS)?;
            self.parts.get_or_init(|| Arc::new(SyncedFolder::new(folder)));
        }
        Ok(())
    }

    /// The folder of part files, or `NotFound`.
    pub(super) fn parts_existing(&self) -> io::Result<OwnedFd> {
        match self.parts.get() {
            Some(folder) => folder.as_fd().try_clone_to_owned(),
            None => beneath::open_folder(self.state_existing()?, PARTS),
        }
    }

    /// Removes the emptied folder of part files; whether there was one. No other part may be opened through this `Dest` afterwards.
    pub(super) fn remove_parts_folder(&self) -> io::Result<bool> {
        match rustix::fs::unlinkat(self.state_existing()?, PARTS, AtFlags::REMOVEDIR) {
            // Somebody else's files: not ours to remove, and in nobody's way.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            ended => gone(ended),
        }
    }

    /// Takes the lock that keeps two processes off one DEST, or `None` when another one holds it.
    ///
    /// It is on the state folder itself, so it leaves no file behind; where folders have no locks (NFS), on a file in
    /// it that [`Dest::remove_journal`] removes.
    ///
    /// # Errors
    /// `Storage` when the state folder cannot be made, or the file system has no locks.
    pub fn try_lock(&self) -> Result<Option<DestLock>, Error> {
        let failed = |error: io::Error| storage(&format!("cannot lock `{}`", self.path.display()), &error);
        for _ in 0..LOCK_TRIES_MAX {
            let folder = beneath::make_folder(self.dir(), STATE).map_err(failed)?;
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_same_file(self.dir(), STATE, folder.as_fd()).map_err(failed)? => {
                    return Ok(Some(DestLock { _file: folder }));
                }
                // Somebody removed the folder meanwhile: the lock on it keeps nobody off.
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::BADF | Errno::INVAL | Errno::OPNOTSUPP) => return self.try_lock_file().map_err(failed),
                Err(error) => return Err(failed(error.into())),
            }
        }
        Ok(None)
    }

    /// As [`Dest::try_lock`], on a file.
    fn try_lock_file(&self) -> io::Result<Option<DestLock>> {
        for _ in 0..LOCK_TRIES_MAX {
            let state = self.state_folder()?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
            let file = beneath::open(state, LOCK, flags, Mode::from_raw_mode(0o644))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The holder before us may have removed the file: then the name is free for a third process.
                Ok(()) if is_same_file(state, LOCK, file.as_fd())? => return Ok(Some(DestLock { _file: file })),
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// A mark that changes whenever a process makes progress on this DEST.
    pub fn activity(&self) -> Activity {
        let mut stats = Vec::new();
        if let Ok(state) = self.state_existing() {
            stats.extend(rustix::fs::fstat(state).ok());
            stats.extend([PARTS, super::publish::JOURNAL].iter().filter_map(|name| stat_name(state, name).ok()?));
        }
        if let (Ok(folder), Ok(ids)) = (self.parts_existing(), self.parts()) {
            stats.extend(ids.iter().filter_map(|id| stat_name(&folder, &id.to_hex()).ok()?));
        }
        let mut hasher = DefaultHasher::new();
        if let Ok(Some(packed)) = self.packed_existing() {
            packed.activity().0.hash(&mut hasher);
        }
        for stat in stats {
            (stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec).hash(&mut hasher);
        }
        Activity(hasher.finish())
    }

    /// Reads the state file `name` whole, or `None` when there is none.
    ///
    /// # Errors
    /// `InvalidData` when it is longer than `bytes_max` or no regular file; else the kernel's.
    pub fn state_read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let opened = self
            .state_existing()
            .and_then(|state| beneath::open(state, name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()));
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            ended => File::from(ended?),
        };
        let mut content = Vec::new();
        let regular = file.metadata()?.is_file();
        if regular {
            file.take(bytes_max.saturating_add(1)).read_to_end(&mut content)?;
        }
        if !regular || bytes_max < super::batch::bytes(content.len()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{name}` is no state file of ours")));
        }
        Ok(Some(content))
    }

    /// Replaces the state file `name` by `content`: durable and whole, or as it was.
    ///
    /// # Errors
    /// The kernel's.
    pub fn state_write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.state_put(name, content)?;
        sync_folder(self.state_existing()?)
    }

    /// As [`Dest::state_write`], with a name that is durable only after the next [`Dest::state_write`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn state_put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let state = self.state_folder()?;
        let temporary = format!("{name}.tmp");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let open = || beneath::open(state, &temporary, flags, STATE_MODE);
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                absent_is_fine(rustix::fs::unlinkat(state, &temporary, AtFlags::empty()))?;
                open()?
            }
            ended => ended?,
        };
        let mut file = File::from(opened);
        rustix::fs::fchmod(&file, STATE_MODE)?;
        file.write_all(content)?;
        sync_file(&file)?;
        Ok(rustix::fs::renameat(state, &temporary, state, name)?)
    }

    /// Makes the state file `name`, empty, for writing; one that is there is emptied. Nothing is synced.
    ///
    /// # Errors
    /// `InvalidData` when something else has the name; else the kernel's.
    pub(crate) fn state_begin(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK;
        let file = File::from(beneath::open(self.state_folder()?, name, flags, STATE_MODE)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{name}` is no state file of ours")));
        }
        file.set_len(0)?;
        Ok(file)
    }

    /// Opens the state file `name` for writing; it must be a regular file.
    pub(crate) fn state_open_write(&self, name: &str) -> io::Result<File> {
        let file = beneath::open(self.state_existing()?, name, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{name}` is no state file of ours")));
        }
        Ok(file)
    }

    /// Makes the names in the state folder, and its own, durable.
    pub(crate) fn state_sync(&self) -> io::Result<()> {
        sync_folder(self.state_existing()?)?;
        sync_folder(self.dir())
    }

    /// Makes the state folder's own name durable, and those on the way to it: this run may have made them, or one that
    /// was killed.
    pub(crate) fn state_name_sync(&self) -> io::Result<()> {
        sync_folder(self.dir())?;
        self.above.sync(self.dir())
    }

    /// Removes the state file `name`, durably. That there is none is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn state_remove(&self, name: &str) -> io::Result<()> {
        let state = match self.state_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            ended => ended?,
        };
        absent_is_fine(rustix::fs::unlinkat(state, name, AtFlags::empty()))?;
        sync_folder(state)
    }
}

impl std::fmt::Debug for Dest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dest").field(&self.path).finish()
    }
}

/// What [`Dest::activity`] saw: equal marks mean that nothing moved in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity(u64);

/// The lock of a DEST, held until dropped. The kernel drops it with the process.
#[derive(Debug)]
pub struct DestLock {
    _file: OwnedFd,
}

fn open_error(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotADirectory => Error::Usage(format!("`{}` is not a folder", path.display())),
        _ => storage(&format!("cannot open `{}`", path.display()), error),
    }
}

/// Makes DEST and its missing parents. Links on the way are the user's choice.
fn make_path(path: &Path) -> io::Result<()> {
    let mut at = PathBuf::new();
    for component in path.components() {
        at.push(component);
        let Component::Normal(name) = component else { continue };
        let parent = at.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if at.exists() {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
        beneath::make_folder(parent.as_fd(), utf8(name)?)?;
    }
    Ok(())
}

fn utf8(name: &OsStr) -> io::Result<&str> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, "a new folder's name must be UTF-8");
    std::str::from_utf8(name.as_bytes()).map_err(|_| refused())
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The kernel's; a file system that cannot sync folders (EINVAL) counts as one that need not.
pub(super) fn sync_folder(folder: impl AsFd) -> io::Result<()> {
    #[cfg(test)]
    seen::note(&folder);
    match rustix::fs::fsync(folder) {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes a file's data, size and mode durable (`fsync`).
pub(super) fn sync_file(file: &File) -> io::Result<()> {
    #[cfg(test)]
    seen::note(file);
    file.sync_all()
}

/// An unlink of what is not there has reached its end.
pub(super) fn absent_is_fine(result: rustix::io::Result<()>) -> io::Result<()> {
    gone(result).map(drop)
}

/// As [`absent_is_fine`]; whether it was there.
pub(super) fn gone(result: rustix::io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What `name` in `folder` is now, without following it; `None` when it is not there.
pub(super) fn stat_name(folder: impl AsFd, name: &str) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether `name` in `folder` still is the file behind `file`.
pub(super) fn is_same_file(folder: impl AsFd, name: &str, file: BorrowedFd<'_>) -> io::Result<bool> {
    let ours = rustix::fs::fstat(file)?;
    let same = |there: Stat| there.st_dev == ours.st_dev && there.st_ino == ours.st_ino;
    Ok(stat_name(folder, name)?.is_some_and(same))
}

/// Whether these are the data of a file only this name reaches.
pub(super) fn is_plain_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink <= 1
}

/// The size in a `Stat`, in bytes.
pub(super) fn stat_size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// What a test's thread has synced: a disk tells nobody what it would have lost.
#[cfg(test)]
pub(crate) mod seen {
    use std::cell::RefCell;
    use std::os::fd::AsFd;

    thread_local! {
        static SYNCED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }

    pub(in crate::disk) fn note(file: impl AsFd) {
        let number = rustix::fs::fstat(file).expect("it is open").st_ino;
        SYNCED.with_borrow_mut(|synced| synced.push(number));
    }

    /// The numbers of the files and folders that were synced since the last call, in order.
    pub(crate) fn take() -> Vec<u64> {
        SYNCED.take()
    }
}
