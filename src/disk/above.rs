//! The folders above DEST: their names are made durable too, and once for all the models below them.
//!
//! In: the open DEST of each model, when it is about to be sealed. Out: names that survive a power cut. Holds: a DEST's
//! own name is durable only after a sync of its parent that began when the name was there; the names above that parent
//! are made durable by the first model below it, and by every one while that has not succeeded.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::parts::SyncedFolder;

/// Folders above DEST whose names are made durable at most.
const ANCESTORS_MAX: usize = 64;

/// Folders that are remembered, each with an open descriptor; others are synced by every model.
const FOLDERS_MAX: usize = 64;

/// What is known of the folders above the models of one run.
#[derive(Debug, Default)]
pub struct Above(Mutex<Vec<Arc<Folder>>>);

/// A folder that has a DEST beneath it. It is kept open, so that its number stays its own.
#[derive(Debug)]
struct Folder {
    number: (u64, u64),
    names: SyncedFolder,
    /// Its own name is durable, and those of all above it.
    settled: AtomicBool,
}

impl Above {
    /// Makes the name of `dir` durable, and those of its parents: a run killed before may have made them unsynced.
    ///
    /// # Errors
    /// The kernel's, or that an earlier sync of one of these folders failed.
    pub(super) fn sync(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        let mut passed: Vec<Arc<Folder>> = Vec::new();
        for _ in 0..ANCESTORS_MAX {
            let at = passed.last().map_or(dir, |folder| folder.names.as_fd());
            let Some(folder) = self.parent(at)? else { break };
            folder.names.sync_name(folder.names.note_name())?;
            if folder.settled.load(Ordering::Acquire) {
                break;
            }
            passed.push(folder);
        }
        passed.iter().for_each(|folder| folder.settled.store(true, Ordering::Release));
        Ok(())
    }

    /// The folder that `at` is in; `None` where the file system ends, or where it is not ours to read and so was not
    /// made by us.
    fn parent(&self, at: BorrowedFd<'_>) -> io::Result<Option<Arc<Folder>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = match rustix::fs::openat(at, "..", flags, Mode::empty()) {
            Ok(above) => above,
            Err(Errno::ACCESS | Errno::PERM) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (here, there) = (rustix::fs::fstat(at)?, rustix::fs::fstat(&above)?);
        let ends = here.st_dev != there.st_dev || here.st_ino == there.st_ino;
        Ok((!ends).then(|| self.folder((there.st_dev, there.st_ino), above)))
    }

    fn folder(&self, number: (u64, u64), opened: OwnedFd) -> Arc<Folder> {
        // Whoever panicked here left the list whole.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = known.iter().find(|folder| folder.number == number) {
            return Arc::clone(folder);
        }
        let names = SyncedFolder::new(opened);
        let folder = Arc::new(Folder { number, names, settled: AtomicBool::new(false) });
        if known.len() < FOLDERS_MAX {
            known.push(Arc::clone(&folder));
        }
        folder
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;
    use crate::disk::Dest;
    use crate::disk::dest::seen;

    fn number(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    /// The folders that were synced for `dest`, in order.
    fn synced(above: &Above, dest: &Path) -> io::Result<Vec<u64>> {
        let opened = Dest::open(dest).unwrap();
        seen::take();
        above.sync(opened.dir()).map(|()| seen::take())
    }

    #[test]
    fn the_first_model_syncs_all_that_is_above_and_each_other_its_own_parent() {
        let root = tempfile::tempdir().unwrap();
        let into = root.path().join("a/into");
        let above = Above::default();
        let first = synced(&above, &into.join("x")).unwrap();
        assert_eq!(first[..3], [number(&into), number(&root.path().join("a")), number(root.path())]);
        for name in ["y", "z", "x"] {
            assert_eq!(synced(&above, &into.join(name)).unwrap(), [number(&into)], "{name}");
        }
        let nested = synced(&above, &into.join("llm/v")).unwrap();
        assert_eq!(nested, [number(&into.join("llm")), number(&into)], "a new folder's own name is synced too");
        assert_eq!(synced(&Above::default(), &into.join("x")).unwrap(), first, "another run knows nothing");
    }

    #[test]
    fn a_parent_that_moved_elsewhere_is_synced_there() {
        let root = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| root.path().join(name));
        fs::create_dir_all(&to).unwrap();
        let above = Above::default();
        synced(&above, &from.join("x")).unwrap();
        fs::rename(from.join("x"), to.join("x")).unwrap();
        assert_eq!(synced(&above, &to.join("x")).unwrap(), [number(&to), number(root.path())]);
    }

    #[test]
    fn after_a_failed_sync_no_model_below_is_sealed() {
        let root = tempfile::tempdir().unwrap();
        let into = root.path().join("into");
        let above = Above::default();
        synced(&above, &into.join("x")).unwrap();
        above.0.lock().unwrap()[0].names.fail_next();
        assert!(synced(&above, &into.join("y")).is_err());
        assert!(synced(&above, &into.join("x")).is_err(), "the kernel tells of a lost name only once");
    }

    #[test]
    fn a_sync_that_runs_serves_those_who_came_before_it() {
        let root = tempfile::tempdir().unwrap();
        let above = Above::default();
        let names: Vec<_> = (0..24).map(|number| root.path().join(format!("into/{number}"))).collect();
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| synced(&above, name).unwrap());
            }
        });
        let known = above.0.lock().unwrap();
        assert!(known.iter().all(|folder| folder.names.counted().0 == folder.names.counted().1), "{known:?}");
    }
}
