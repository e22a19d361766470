//! Giving files their final names, and making names durable.
//!
//! In: parts whose content is proven. Out: published files beneath DEST. Holds: a final name is absent, old or new
//! at every instant; only a regular file is ever replaced; the caller keeps the order of `FILE_SEAL`.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::beneath;
use super::dest::{self, Dest, Links};
use super::part::{PIECE, PartFile};
use super::window;
use crate::error::{Failure, FailureKind};
use crate::manifest::{FileId, SafePath};
use crate::schedule::FileStep;

/// Mode of published files, whatever the umask or the origin says.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// The journal's name beneath the state folder.
pub(super) const JOURNAL: &str = "journal";

/// The name of the list of written pieces beneath the state folder.
pub(crate) const WRITTEN: &str = "written";

impl Dest {
    /// Does one step of sealing `part` as `path`. Blocks.
    ///
    /// # Errors
    /// `Refused` when something other than a regular file has the final name, or a folder on the way is a link;
    /// `DiskFull` or `Disk` else, after which the part is poisoned.
    pub fn seal_step(&self, step: FileStep, part: &PartFile, path: &SafePath, size: u64) -> Result<(), Failure> {
        let done = match step {
            // Most files end on the alignment and need no cut: asking is cheaper than changing an inode that is clean.
            FileStep::Truncate => {
                part.sync_by(|file| if file.metadata()?.len() == size { Ok(()) } else { file.set_len(size) })
            }
            FileStep::SetMode => part.sync_by(|file| Ok(rustix::fs::fchmod(file, FILE_MODE)?)),
            FileStep::Sync => part.sync_all().inspect(|()| {
                if !part.direct() {
                    window::forget_cached(part.file(), 0, 0);
                }
            }),
            FileStep::Rename => return self.rename_part(part, path),
        };
        done.map_err(|error| Failure::disk(&format!("cannot seal `{}`", path.as_str()), &error))
    }

    fn rename_part(&self, part: &PartFile, path: &SafePath) -> Result<(), Failure> {
        let failed = |error: io::Error| seal_error(path, &error);
        part.check().map_err(failed)?;
        let parts = part.folder();
        if !dest::is_same_file(parts, &part.name(), part.file()).map_err(failed)? {
            return Err(Failure::new(FailureKind::Disk, format!("the part file of `{}` is gone", path.as_str())));
        }
        let (folders, name) = beneath::split(path.as_str());
        let folder = self.make_folder_of(folders).map_err(failed)?;
        let flags = match dest::stat_name(&folder, name).map_err(failed)? {
            None => RenameFlags::NOREPLACE,
            Some(there) => match FileType::from_raw_mode(there.st_mode) {
                FileType::RegularFile => RenameFlags::empty(),
                FileType::Symlink if self.links == Links::Replaced => RenameFlags::empty(),
                _ => return Err(refused(path)),
            },
        };
        match rustix::fs::renameat_with(parts, part.name(), &folder, name, flags) {
            // No NOREPLACE on this file system: the look above has to do.
            Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(parts, part.name(), &folder, name),
            Err(Errno::EXIST) => return Err(refused(path)),
            ended => ended,
        }
        .map_err(|error| failed(error.into()))
    }

    pub(super) fn make_folder_of(&self, folders: Option<&str>) -> io::Result<OwnedFd> {
        match folders {
            Some(folders) => beneath::make_folders(self.dir(), folders),
            None => self.dir().try_clone_to_owned(),
        }
    }

    fn open_folder_of(&self, folders: Option<&str>) -> io::Result<OwnedFd> {
        match folders {
            Some(folders) => beneath::open_folder(self.dir(), folders),
            None => self.dir().try_clone_to_owned(),
        }
    }

    /// Takes a published file back as the part of `id`, to repair it, and makes that durable.
    ///
    /// # Errors
    /// `NotFound` when `path` is no regular file, else the kernel's.
    pub fn withdraw(&self, path: &SafePath, id: &FileId) -> io::Result<()> {
        if self.file_size(path)?.is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no regular file has this name"));
        }
        let (folders, name) = beneath::split(path.as_str());
        let folder = self.open_folder_of(folders)?;
        let parts = self.parts_folder()?;
        rustix::fs::renameat(&folder, name, &**parts, id.to_hex())?;
        dest::sync_folder(&**parts)?;
        dest::sync_folder(&folder)
    }

    /// Makes the names of `paths` durable: each of their folders once, deepest first, then DEST and what is above it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync_folders<'a>(&self, paths: impl Iterator<Item = &'a SafePath>) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for path in paths {
            let mut rest = path.as_str();
            while let (Some(folder), _) = beneath::split(rest) {
                if !folders.insert((Reverse(folder.matches('/').count()), folder)) {
                    break;
                }
                rest = folder;
            }
        }
        for (_, folder) in folders {
            dest::sync_folder(beneath::open_folder(self.dir(), folder)?)?;
        }
        dest::sync_folder(self.dir())?;
        self.above.sync(self.dir())
    }

    /// Removes journal, list of written pieces, parts, a packed archive and lock file: their loss does not matter once the receipt is there. The last step of a run.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_journal(&self) -> io::Result<()> {
        let state = match self.state_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            ended => ended?,
        };
        let unfinished = self.remove_names()?;
        let parts = self.remove_parts_folder()?;
        let packed = dest::stat_name(state, super::stage::PACKED)?.is_some();
        if packed {
            self.remove_packed()?;
        }
        // The lock's holder calls this last; whoever waits for the old file looks again for the name.
        let lock = dest::gone(rustix::fs::unlinkat(state, dest::LOCK, AtFlags::empty()))?;
        // What a run before has removed unsynced may come back, and is as harmless as it was.
        if unfinished || parts || packed || lock { dest::sync_folder(state) } else { Ok(()) }
    }

    /// Removes the journal and the parts of an unfinished pull.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_unfinished(&self) -> io::Result<()> {
        self.remove_names().map(drop)
    }

    /// As [`Dest::remove_unfinished`]; whether a name in the state folder went.
    fn remove_names(&self) -> io::Result<bool> {
        let state = match self.state_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            ended => ended?,
        };
        let mut any = false;
        // The journal last: it tells a later run that there is something to remove.
        for name in [PIECE, "journal.tmp", WRITTEN, JOURNAL] {
            any |= dest::gone(rustix::fs::unlinkat(state, name, AtFlags::empty()))?;
        }
        self.parts()?.iter().try_for_each(|id| self.part_remove(id))?;
        Ok(any)
    }

    /// The size of the regular file at `path`, or `None` when there is none or something else.
    ///
    /// # Errors
    /// The kernel's.
    pub fn file_size(&self, path: &SafePath) -> io::Result<Option<u64>> {
        let opened = beneath::open(self.dir(), path.as_str(), OFlags::PATH, Mode::empty());
        let there = match opened.as_ref().map_err(io::Error::kind) {
            Ok(file) => rustix::fs::fstat(file)?,
            Err(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            // A folder on the way is a link.
            Err(_) if is_link_error(&opened) => return Ok(None),
            Err(_) => return opened.map(|_| None),
        };
        let regular = FileType::from_raw_mode(there.st_mode) == FileType::RegularFile;
        Ok(regular.then(|| dest::stat_size(&there)))
    }
}

fn is_link_error<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::LOOP.raw_os_error()))
}

pub(super) fn refused(path: &SafePath) -> Failure {
    Failure::new(FailureKind::Refused, format!("`{}` exists and is no regular file; it is left alone", path.as_str()))
}

pub(super) fn seal_error(path: &SafePath, error: &io::Error) -> Failure {
    let crooked = [Errno::LOOP, Errno::NOTDIR].map(|errno| Some(errno.raw_os_error()));
    if crooked.contains(&error.raw_os_error()) {
        let detail = format!("a folder of `{}` is a link or no folder; it is left alone", path.as_str());
        return Failure::new(FailureKind::Refused, detail);
    }
    Failure::disk(&format!("cannot seal `{}`", path.as_str()), error)
}
