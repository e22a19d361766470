//! The harness's own folder below DEST, and what is done to it before each run.
//!
//! In: DEST. Out: a [`Place`] to run in. Holds: nothing of anybody else's is touched; the folder goes with the harness,
//! and one that a killed harness left goes with the next.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, create_dir, remove_dir, remove_dir_all, rename};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::bench::Stop;
use crate::bench::contender::Place;
use crate::bench::landed;
use crate::bench::machine::Machine;
use crate::disk::place;
use crate::error::{Error, storage};

/// What the harness's own folders begin with.
const OWN: &str = "dray-bench-";

/// A run that left so many files and folders leaves its folder until the harness ends: ext4 without a journal looks
/// through the inodes freed in the last minutes for each new file, so each contender would pay for those before it.
const ENTRIES_ASIDE_MIN: u64 = 32;

/// The part of the free space that such folders may take together.
const ASIDE_OF_FREE: u64 = 4;

/// Files and folders in all of them: inodes are few on some disks.
const ENTRIES_ASIDE_MAX: u64 = 100_000;

/// Bytes of one write of [`Ground::touch`].
const TOUCH_BYTES: u64 = 4 << 20;

/// What is known of the page cache when a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cache {
    /// As the runs before left it; nothing of DEST is in it, as each run begins with an empty folder.
    Warm,
    /// The kernel was told to drop all it can.
    Dropped,
}

/// Folders that are kept: how many, with how many files and folders, and their bytes on the disk.
#[derive(Debug, Clone, Copy, Default)]
struct Aside {
    folders: u32,
    entries: u64,
    bytes: u64,
}

/// DEST while it is measured.
#[derive(Debug)]
pub struct Ground {
    dest: PathBuf,
    made: bool,
    own: PathBuf,
    place: Place,
    /// Folders of former runs that are kept.
    aside: Cell<Aside>,
    /// Bytes that they may take.
    aside_bytes_max: u64,
    // Held until the end: one harness at a time measures a disk.
    _lock: File,
}

impl Ground {
    /// Takes `dest`, which is empty or not there yet, and makes a folder in it.
    ///
    /// # Errors
    /// `Usage` when somebody's files are in it or another harness is; `Storage` when it cannot be written.
    pub fn take(dest: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| storage(&dest.display().to_string(), &error);
        let made = !dest.exists();
        std::fs::create_dir_all(dest).map_err(failed)?;
        let dest = dest.canonicalize().map_err(failed)?;
        let lock = File::open(&dest).map_err(failed)?;
        let busy = |_| Error::Usage(format!("{}: another bench is at work there", dest.display()));
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(busy)?;
        let mut left = Vec::new();
        for entry in std::fs::read_dir(&dest).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if entry.file_type().map_err(failed)?.is_dir() && is_own(&name) {
                left.push(entry.path());
            } else if name != "lost+found" {
                // A new file system has that one.
                let text = "is not empty: a bench wants a folder of its own";
                return Err(Error::Usage(format!("{} {text}", dest.display())));
            }
        }
        // Nothing is removed before all of it is known to be ours.
        left.iter().try_for_each(remove_dir_all).map_err(failed)?;
        let own = dest.join(format!("{OWN}{}", std::process::id()));
        // Keys lie in it while an arena runs.
        DirBuilder::new().mode(0o700).create(&own).map_err(failed)?;
        let place = Place { dest: own.join("run"), scratch: own.join("scratch") };
        create_dir(&place.scratch).map_err(failed)?;
        // Memory is not for keeping, and tmpfs knows no such search.
        let in_memory = Machine::at(&dest).file_system.starts_with("tmpfs ");
        let free = if in_memory { 0 } else { place::free_bytes(&dest).map_err(failed)? };
        let (aside, aside_bytes_max) = (Cell::default(), free / ASIDE_OF_FREE);
        Ok(Self { dest, made, own, place, aside, aside_bytes_max, _lock: lock })
    }

    /// Where runs take place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Empties the folder of the next run, and the page cache where that is asked for.
    /// Says what was done about the cache, in the words of [`crate::bench::Work::cache`].
    ///
    /// # Errors
    /// `Storage` when the folder cannot be emptied.
    pub fn clear(&self, cache: Cache) -> Result<&'static str, Error> {
        let dest = &self.place.dest;
        let failed = |error: io::Error| storage(&dest.display().to_string(), &error);
        if dest.exists() && !self.keeps_aside(dest).map_err(failed)? {
            remove_dir_all(dest).map_err(failed)?;
        }
        create_dir(dest).map_err(failed)?;
        // What the run before left to write is not the next one's burden.
        rustix::fs::sync();
        Ok(match cache {
            Cache::Warm => "warm",
            // The dropping needs root; an emptied DEST has no pages in either case.
            Cache::Dropped => match std::fs::write("/proc/sys/vm/drop_caches", "3") {
                Ok(()) => "dropped",
                Err(_) => "dropped of DEST alone: the rest needs root",
            },
        })
    }

    /// Writes `bytes` and removes them: of a DEST in memory, the next run's pages are then ones that this machine has.
    /// The host of a virtual machine may have to find each page that the guest has not used for a while, which costs
    /// several times the page itself and is else the burden of whichever run comes to it first.
    ///
    /// # Errors
    /// `Interrupted`; `DiskFull` or `Storage` when they cannot be written or removed.
    pub fn touch(&self, bytes: u64, stop: &Stop) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        let path = self.place.scratch.join("touched");
        let failed = |error: io::Error| storage(&path.display().to_string(), &error);
        let mut touched = File::create_new(&path).map_err(failed)?;
        let zeros = vec![0; usize::try_from(TOUCH_BYTES.min(bytes)).unwrap_or(0)];
        let wrote = (0..bytes.div_ceil(TOUCH_BYTES)).try_for_each(|_| {
            stop.check()?;
            touched.write_all(&zeros).map_err(failed)
        });
        std::fs::remove_file(&path).map_err(failed)?;
        wrote
    }

    /// Moves a run's folder out of the way, where that is worth its space.
    fn keeps_aside(&self, run: &Path) -> io::Result<bool> {
        let kept = self.aside.get();
        // What cannot be counted is not kept.
        let Ok((entries, bytes)) = landed::space(run) else { return Ok(false) };
        let (all, bytes) = (kept.entries + entries, kept.bytes.saturating_add(bytes));
        if entries < ENTRIES_ASIDE_MIN || ENTRIES_ASIDE_MAX < all || self.aside_bytes_max < bytes {
            return Ok(false);
        }
        rename(run, self.own.join(format!("aside-{}", kept.folders)))?;
        self.aside.set(Aside { folders: kept.folders + 1, entries: all, bytes });
        Ok(true)
    }
}

/// Whether a folder of this name is one that a harness made: by its process's number.
fn is_own(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix(OWN));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

impl Drop for Ground {
    fn drop(&mut self) {
        let gone = remove_dir_all(&self.own);
        if let Err(error) = gone {
            tracing::warn!(%error, path = %self.own.display(), "the bench's folder stays");
        }
        if self.made {
            // Somebody else may have put something there meanwhile; then it stays.
            remove_dir(&self.dest).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bench_takes_an_empty_folder_alone_and_leaves_nothing() {
        let around = tempfile::tempdir().unwrap();
        let dest = around.path().join("new/dest");
        let ground = Ground::take(&dest).unwrap();
        assert!(matches!(Ground::take(&dest), Err(Error::Usage(_))));
        std::fs::write(ground.place().scratch.join("x"), "x").unwrap();
        assert_eq!(ground.clear(Cache::Warm).unwrap(), "warm");
        std::fs::write(ground.place().dest.join("x"), "x").unwrap();
        ground.clear(Cache::Warm).unwrap();
        assert_eq!(std::fs::read_dir(&ground.place().dest).unwrap().count(), 0);
        drop(ground);
        assert!(!dest.exists());
    }

    #[test]
    fn runs_of_many_files_stay_while_there_is_room_and_go_with_the_bench() {
        let around = tempfile::tempdir().unwrap();
        let dest = around.path().join("dest");
        let mut ground = Ground::take(&dest).unwrap();
        let run = |ground: &Ground, files: u32| {
            ground.clear(Cache::Warm).unwrap();
            let place = &ground.place().dest;
            (0..files).for_each(|file| std::fs::write(place.join(file.to_string()), [7; 5000]).unwrap());
        };
        let kept = |ground: &Ground| {
            let names = std::fs::read_dir(&ground.own).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().starts_with("aside-")).count()
        };
        ground.aside_bytes_max = u64::MAX;
        run(&ground, 31);
        run(&ground, 32);
        assert_eq!(kept(&ground), 0, "too few files");
        run(&ground, 32);
        assert_eq!((kept(&ground), ground.aside.get().entries), (1, 32));
        assert_eq!(std::fs::read_dir(ground.own.join("aside-0")).unwrap().count(), 32);
        // Blocks count, not lengths: twice 32 files of two blocks each.
        ground.aside_bytes_max = ground.aside.get().bytes + 32 * 5000;
        assert!(32 * 5000 < ground.aside.get().bytes);
        run(&ground, 0);
        assert_eq!(kept(&ground), 1, "no room");
        ground.aside_bytes_max = u64::MAX;
        ground.aside.set(Aside { entries: ENTRIES_ASIDE_MAX - 31, ..ground.aside.get() });
        run(&ground, 32);
        run(&ground, 0);
        assert_eq!(kept(&ground), 1, "too many files in all");
        drop(ground);
        assert!(!dest.exists());
    }

    #[test]
    fn what_is_touched_is_given_back() {
        let around = tempfile::tempdir().unwrap();
        let ground = Ground::take(&around.path().join("dest")).unwrap();
        let stop = Stop::default();
        stop.ask(15);
        assert_eq!(ground.touch(0, &stop), Ok(()));
        assert_eq!(ground.touch(9 << 20, &stop), Err(Error::Interrupted { signal: 15 }));
        assert_eq!(ground.touch(9 << 20, &Stop::default()), Ok(()));
        assert_eq!(std::fs::read_dir(&ground.place().scratch).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_bench_left_goes_and_what_is_anybody_elses_stays() {
        let dest = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dest.path().join("dray-bench-1/run")).unwrap();
        drop(Ground::take(dest.path()).unwrap());
        assert_eq!(std::fs::read_dir(dest.path()).unwrap().count(), 0);
        let notes = dest.path().join("dray-bench-notes");
        std::fs::create_dir_all(&notes).unwrap();
        std::fs::create_dir_all(dest.path().join("dray-bench-1/run")).unwrap();
        assert!(matches!(Ground::take(dest.path()), Err(Error::Usage(_))));
        assert_eq!(std::fs::read_dir(dest.path()).unwrap().count(), 2);
        std::fs::remove_dir(notes).unwrap();
        for name in ["model.bin", "dray-bench-2"] {
            std::fs::write(dest.path().join(name), "mine").unwrap();
            assert!(matches!(Ground::take(dest.path()), Err(Error::Usage(_))));
            assert_eq!(std::fs::read_dir(dest.path()).unwrap().count(), 2, "{name}");
            std::fs::remove_file(dest.path().join(name)).unwrap();
        }
    }
}
