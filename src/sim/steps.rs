//! The disk work of a life: opening, syncing, sealing and publishing, step by step, each of which may be the last.

use crate::error::{Failure, FailureKind};
use crate::manifest::Stated;
use crate::schedule::{Event, FILE_SEAL, FileIndex, FileStep, Kept, MODEL_SEAL, ModelStep};
use crate::sim::content::{Edition, PIECE_ON_DISK, SECTOR_BYTES};
use crate::sim::disk::{Barrier, DiskFault, Folder, Handle, Name};
use crate::sim::marks::Mark;
use crate::sim::origin::pieces_of;
use crate::sim::process::{Happening, Process, failed, fault};
use crate::sim::world::{Canary, Stop};

impl Process<'_> {
    pub(super) fn open(&mut self, file: FileIndex) -> Result<Result<(), Failure>, Stop> {
        let view = self.scheduler.file(file);
        let name = self.part_name(file);
        // One more piece stands for the padding of the last direct write.
        let length = view.size().map_or(0, |size| (pieces_of(size) + 1) * PIECE_ON_DISK);
        let disk = &mut self.world.disk;
        let opened = match disk.find(name) {
            // Nobody goes on with such a part.
            Some(_) if name == Name::Piece => disk.unlink(name).and_then(|()| disk.create(name, SECTOR_BYTES)),
            Some(handle) => Ok(handle),
            None if name == Name::Piece => disk.create(name, SECTOR_BYTES),
            None => disk.create(name, SECTOR_BYTES).inspect(|_| self.parts_folder_dirty = true),
        };
        let reserved =
            opened.and_then(|handle| disk.set_length(handle, length.max(disk.length(handle))).map(|()| handle));
        match reserved {
            Ok(handle) => {
                self.parts.insert(file, handle);
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(fault("open", error)?)),
        }
    }

    fn part_name(&self, file: FileIndex) -> Name {
        match self.kept.get(&file) {
            Some(Kept::Unjournaled) => Name::Piece,
            Some(Kept::Journaled) | None => Name::Part(self.scheduler.file(file).id()),
        }
    }

    pub(super) fn sync(&mut self, handles: &[(Handle, Barrier)]) -> Result<Result<(), Failure>, Stop> {
        let canary = self.world.canary;
        if canary == Some(Canary::JournalBeforeData) {
            return Ok(Ok(()));
        }
        let disk = &mut self.world.disk;
        let mut result = if self.parts_folder_dirty { disk.sync_folder(Folder::Parts) } else { Ok(()) };
        for (handle, barrier) in handles {
            let mut synced = disk.sync(*handle, *barrier);
            if synced.is_err_and(|error| error != DiskFault::Crash) && canary == Some(Canary::SyncRetried) {
                synced = disk.sync(*handle, *barrier);
            }
            result = result.and(synced);
        }
        match result {
            Ok(()) => {
                self.parts_folder_dirty = false;
                Ok(Ok(()))
            }
            Err(error) => {
                // What it lost is lost to a killed run too.
                self.world.noted.clear();
                Ok(Err(fault("sync", error)?))
            }
        }
    }

    pub(super) fn restated(&mut self, file: FileIndex, failure: Option<FailureKind>) -> Result<(), Stop> {
        let edition = Edition::of(self.scheduler.file(file).id());
        let result = match failed(failure) {
            Err(failure) => Err(failure),
            Ok(()) => {
                let plan = self.world.origin.plan(edition.object);
                self.world.marks.set(Mark::Restarted);
                if self.parts.remove(&file).is_some()
                    && plan.id != edition.id()
                    && let Err(error) = self.world.disk.unlink(Name::Part(edition.id()))
                    && error == DiskFault::Crash
                {
                    return Err(Stop::Crash);
                }
                Ok(plan)
            }
        };
        self.tell(Event::Restated { file, result })
    }

    /// Reads the part file back in order.
    pub(super) fn hash(&mut self, file: FileIndex) -> Result<Vec<Stated>, Failure> {
        let view = self.scheduler.file(file);
        let lost = || Failure::new(FailureKind::Disk, "a part to be hashed is not open");
        let handle = self.parts.get(&file).copied().ok_or_else(lost)?;
        let trusted = self.world.canary == Some(Canary::HashTrusted);
        let computed = if trusted {
            view.stated().to_vec()
        } else {
            vec![self.world.sha256(handle, pieces_of(view.size().unwrap_or(0)))]
        };
        self.world.marks.set(Mark::Hashed);
        self.hashed.insert(file, computed.clone());
        Ok(computed)
    }

    pub(super) fn seal(&mut self, file: FileIndex, step: usize) -> Result<(), Stop> {
        let done = self.seal_step(file, FILE_SEAL[step]);
        let result = match done {
            Ok(()) if step + 1 < FILE_SEAL.len() => {
                let delay = self.disk_delay();
                self.after(delay, Happening::Seal(file, step + 1));
                return Ok(());
            }
            Ok(()) => Ok(()),
            Err(error) => Err(fault("seal", error)?),
        };
        self.parts.remove(&file);
        self.tell(Event::Sealed { file, result })
    }

    fn seal_step(&mut self, file: FileIndex, step: FileStep) -> Result<(), DiskFault> {
        let view = self.scheduler.file(file);
        let handle = self.parts.get(&file).copied().ok_or(DiskFault::Io)?;
        let edition = Edition::of(view.id());
        let length = pieces_of(view.size().unwrap_or(0)) * PIECE_ON_DISK;
        let name = self.part_name(file);
        let disk = &mut self.world.disk;
        match step {
            FileStep::Truncate => {
                let kept = self.world.canary == Some(Canary::ReceiptKept);
                if !self.receipt_gone && !kept && disk.find(Name::Receipt).is_some() {
                    disk.unlink(Name::Receipt)?;
                    disk.sync_folder(Folder::State)?;
                }
                self.receipt_gone = true;
                disk.set_length(handle, length)
            }
            FileStep::SetMode => Ok(()),
            FileStep::Sync if self.world.canary == Some(Canary::SealUnsynced) => Ok(()),
            FileStep::Sync if self.world.canary == Some(Canary::PieceUnsynced) && name == Name::Piece => Ok(()),
            FileStep::Sync => disk.sync_all(handle),
            FileStep::Rename => {
                if name == Name::Piece {
                    self.world.marks.set(Mark::SealedUnkept);
                }
                disk.rename(name, Name::Final(edition.object))
            }
        }
    }

    pub(super) fn publish(&mut self, step: usize) -> Result<(), Stop> {
        let done = self.publish_step(step);
        let result = match done {
            Ok(()) if step + 1 < MODEL_SEAL.len() => {
                let delay = self.disk_delay();
                self.after(delay, Happening::Publish(step + 1));
                return Ok(());
            }
            Ok(()) => Ok(()),
            Err(error) => Err(fault("publish", error)?),
        };
        self.tell(Event::Published { result })
    }

    fn publish_step(&mut self, step: usize) -> Result<(), DiskFault> {
        let canary = self.world.canary;
        match MODEL_SEAL[step] {
            ModelStep::SyncFolders
                if matches!(canary, Some(Canary::FoldersUnsynced | Canary::ReceiptBeforeFolders)) =>
            {
                Ok(())
            }
            ModelStep::SyncFolders => self.world.disk.sync_folder(Folder::Dest),
            ModelStep::AddNames | ModelStep::WriteTree => Ok(()),
            ModelStep::WriteReceipt => {
                let ids: Vec<_> =
                    (0..self.world.origin.objects.len()).map(|file| self.scheduler.file(file).id()).collect();
                self.world.write_receipt(&ids)?;
                if canary == Some(Canary::ReceiptBeforeFolders) {
                    self.world.disk.sync_folder(Folder::Dest)
                } else {
                    Ok(())
                }
            }
            ModelStep::RemoveJournal => {
                self.world.noted.clear();
                self.world.disk.unlink(Name::Written)?;
                self.world.disk.unlink(Name::Journal)
            }
        }
    }
}
