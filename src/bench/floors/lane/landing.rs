//! Where the minimal lane's file lands: a part in a folder of its own, then its name.

use std::fs::File;
use std::path::Path;
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
}

impl Landing {
    pub(super) fn open(work: &LaneWork) -> Result<Self, Error> {
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
        Ok(Self { scratch, place, probe })
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
        let (from, to) = (self.scratch.path().join(work.name.as_str()), work.dest.join(work.name.as_str()));
        let synced = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all());
        let named = std::fs::rename(from, &to).and_then(|()| synced(&work.dest));
        named.map_err(|error| storage(&format!("cannot name `{}`", to.display()), &error))
    }
}
