//! A folder that many names are made in, and which of them are durable: the part files', or one above many a DEST.
//!
//! In: names as they are made. Out: names that survive a power cut. Holds: a name counts as durable only after a sync of
//! the folder that began when the name was there; after a sync that failed no further name ever does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::dest;

/// The open folder.
#[derive(Debug)]
pub(super) struct SyncedFolder {
    folder: OwnedFd,
    /// Names that were made or found so far.
    made: AtomicU64,
    /// The first so many of them are durable.
    durable: AtomicU64,
    /// Whoever syncs the folder: those who come meanwhile find their names synced with his.
    turn: Mutex<Syncs>,
}

/// What syncs of the folder came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syncs {
    Good,
    /// With the kernel's number, where it had one.
    Failed(Option<i32>),
}

/// One name in the folder: how many there were with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameIn(u64);

impl SyncedFolder {
    pub(super) fn new(folder: OwnedFd) -> Self {
        Self { folder, made: AtomicU64::new(0), durable: AtomicU64::new(0), turn: Mutex::new(Syncs::Good) }
    }

    /// Notes a name that is in the folder now.
    pub(super) fn note_name(&self) -> NameIn {
        NameIn(self.made.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Makes `name` durable, and with it all that were noted before the kernel is asked. Blocks.
    ///
    /// # Errors
    /// The kernel's, or that an earlier sync of the folder failed.
    pub(super) fn sync_name(&self, name: NameIn) -> io::Result<()> {
        self.sync_name_by(name, |folder| dest::sync_folder(folder))
    }

    /// How many names there are, and how many of them are durable.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (u64, u64) {
        (self.made.load(Ordering::Acquire), self.durable.load(Ordering::Acquire))
    }

    /// A disk that fails in the next sync.
    #[cfg(test)]
    pub(super) fn fail_next(&self) {
        let failed = self.sync_name_by(self.note_name(), |_| Err(rustix::io::Errno::IO.into()));
        assert!(failed.is_err());
    }

    fn sync_name_by(&self, name: NameIn, sync: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<()> {
        let durable = || name.0 <= self.durable.load(Ordering::Acquire);
        if durable() {
            return Ok(());
        }
        let mut syncs = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if durable() {
            return Ok(());
        }
        if let Syncs::Failed(number) = *syncs {
            let unnumbered = || io::Error::other("a folder met an error when it was synced before");
            return Err(number.map_or_else(unnumbered, io::Error::from_raw_os_error));
        }
        // Before the sync begins: a name that is made while it runs may be missed by it.
        let made = self.made.load(Ordering::Acquire);
        match sync(self.folder.as_fd()) {
            Ok(()) => self.durable.store(made, Ordering::Release),
            Err(error) => {
                *syncs = Syncs::Failed(error.raw_os_error());
                return Err(error);
            }
        }
        Ok(())
    }
}

impl AsFd for SyncedFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn folder() -> SyncedFolder {
        SyncedFolder::new(std::fs::File::open(std::env::temp_dir()).unwrap().into())
    }

    /// How often the kernel was asked to make `name` durable.
    fn asked(folder: &SyncedFolder, name: NameIn, answer: io::Result<()>) -> (u32, io::Result<()>) {
        let mut asked = 0;
        let result = folder.sync_name_by(name, |_| {
            asked += 1;
            answer
        });
        (asked, result)
    }

    #[test]
    fn one_sync_makes_all_earlier_names_durable_and_no_later_one() {
        let folder = folder();
        let names: Vec<_> = (0..3).map(|_| folder.note_name()).collect();
        let mut late = None;
        folder
            .sync_name_by(names[1], |_| {
                late = Some(folder.note_name());
                Ok(())
            })
            .unwrap();
        for name in names {
            assert!(matches!(asked(&folder, name, Ok(())), (0, Ok(()))), "{name:?}");
        }
        let late = late.unwrap();
        assert!(matches!(asked(&folder, late, Ok(())), (1, Ok(()))), "made while the sync ran");
        assert!(matches!(asked(&folder, late, Ok(())), (0, Ok(()))));
    }

    #[test]
    fn after_a_failed_sync_no_further_name_is_durable() {
        let folder = folder();
        let early = folder.note_name();
        asked(&folder, early, Ok(())).1.unwrap();
        let (one, other) = (folder.note_name(), folder.note_name());
        let (count, result) = asked(&folder, one, Err(Errno::IO.into()));
        assert_eq!((count, result.unwrap_err().raw_os_error()), (1, Some(Errno::IO.raw_os_error())));
        for name in [one, other, folder.note_name()] {
            let (count, result) = asked(&folder, name, Ok(()));
            // A full disk stays a full disk.
            assert_eq!((count, result.unwrap_err().raw_os_error()), (0, Some(Errno::IO.raw_os_error())), "{name:?}");
        }
        assert!(matches!(asked(&folder, early, Ok(())), (0, Ok(()))), "what is durable stays so");
    }
}
