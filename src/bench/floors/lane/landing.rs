//! Where the minimal lane's file lands: a part in a folder of its own, then its name.

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LaneWork;
use crate::disk::{self, Dest, PartFile, Probe};
use crate::error::{Error, Failure, storage};
use crate::manifest::FileId;
use crate::schedule::FileStep;

/// A folder of its own within DEST, which goes however the run ends.
pub(super) struct Landing {
    pub(super) scratch: tempfile::TempDir,
    place: Dest,
    pub(super) probe: Probe,
    /// Where the file gets its name.
    named: PathBuf,
    /// Whether it has it: the run before put it there, and it goes unless it is kept.
    made: Cell<bool>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.made.get() {
            // A run that failed has no better use of this failure.
            drop(std::fs::remove_file(&self.named));
        }
    }
}

impl Landing {
    pub(super) fn open(work: &LaneWork) -> Result<Self, Error> {
        let named = work.dest.join(work.name.as_str());
        if named.symlink_metadata().is_ok() {
            return Err(Error::Usage(format!("`{}` is there already, and the lane replaces nothing", named.display())));
        }
        let dest = Dest::open(&work.dest)?;
        let failed = |error: std::io::Error| storage(&format!("cannot write in `{}`", work.dest.display()), &error);
        let scratch = tempfile::Builder::new().prefix(".dray-bench-").tempdir_in(dest.path()).map_err(failed)?;
        let place = Dest::open(scratch.path())?;
        let probe = disk::probe(&place, work.io)?;
        if probe.free_bytes < work.size {
            let (need, free) = (work.size, probe.free_bytes);
            return Err(Error::DiskFull(format!("`{}` has {free} bytes free, {need} are needed", work.dest.display())));
        }
        // Opened once beforehand: making the folders of parts is not the lane's work.
        place
            .part_open(&FileId([0xff; 16]), None, &probe)
            .map_err(|failure| Error::of(failure.kind, failure.detail))?;
        Ok(Self { scratch, place, probe, named, made: Cell::new(false) })
    }

    /// Removes what the run before left, before the clock of the next one starts.
    pub(super) fn clear(&self) -> Result<(), Error> {
        if !self.made.replace(false) {
            return Ok(());
        }
        let failed = |error| storage(&format!("cannot remove `{}`", self.named.display()), &error);
        std::fs::remove_file(&self.named).and_then(|()| synced(self.named.parent())).map_err(failed)
    }

    /// The file stays.
    pub(super) fn keep(&self) {
        self.made.set(false);
    }

    pub(super) fn part(&self, size: u64, round: u32) -> Result<Arc<PartFile>, Error> {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&round.to_le_bytes());
        let opened = self.place.part_open(&FileId(id), Some(size), &self.probe);
        opened.map(Arc::new).map_err(|failure| Error::of(failure.kind, failure.detail))
    }

    /// Cuts the padding off, syncs, renames and syncs the name.
    pub(super) fn seal(&self, part: &PartFile, work: &LaneWork) -> Result<(), Error> {
        for step in [FileStep::Truncate, FileStep::SetMode, FileStep::Sync, FileStep::Rename] {
            let done = self.place.seal_step(step, part, &work.name, work.size);
            done.map_err(|Failure { kind, detail }| Error::of(kind, detail))?;
        }
        let failed = |error| storage(&format!("cannot name `{}`", self.named.display()), &error);
        std::fs::rename(self.scratch.path().join(work.name.as_str()), &self.named).map_err(failed)?;
        self.made.set(true);
        synced(self.named.parent()).map_err(failed)
    }
}

fn synced(folder: Option<&Path>) -> std::io::Result<()> {
    folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
