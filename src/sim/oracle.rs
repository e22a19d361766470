//! What must hold on the disk after every crash, and after every success.

use crate::sim::content::{Edition, PIECE_ON_DISK, proof, sectors};
use crate::sim::disk::{Handle, Name};
use crate::sim::origin::{pieces_of, slot};
use crate::sim::world::{Stop, World};

impl World {
    /// Checks what the disk shows now. After a crash that is all that survived.
    pub(super) fn check_disk(&self) -> Result<(), Stop> {
        self.check_journal()?;
        self.check_finals()?;
        if let Some(editions) = self.read_receipt()? {
            self.check_complete(&editions)?;
        }
        Ok(())
    }

    /// After exit 0: a receipt is there, and all it names is there.
    pub(super) fn check_sealed(&self) -> Result<(), Stop> {
        let editions = self.read_receipt()?.ok_or_else(|| Stop::broken("success without a receipt"))?;
        if editions.len() != self.origin.objects.len() {
            return Err(Stop::broken("the receipt leaves files out"));
        }
        self.check_complete(&editions)
    }

    /// A journaled piece is on the disk as its proof says.
    fn check_journal(&self) -> Result<(), Stop> {
        let Some(replay) = self.read_journal()? else { return Ok(()) };
        for file in &replay.files {
            let edition = Edition::of(file.id);
            let part = self.disk.find(Name::Part(file.id));
            let current = self.origin.current(edition.object) == edition;
            let Some(handle) = part.or_else(|| self.disk.find(Name::Final(edition.object)).filter(|_| current)) else {
                if current && file.held.iter().any(Option::is_some) {
                    return Err(Stop::broken(format!("journaled pieces of {edition:?} have no file")));
                }
                continue;
            };
            for (piece, held) in (0..).zip(&file.held) {
                if held.is_some_and(|held| self.piece(handle, piece).is_none_or(|bytes| proof(bytes) != held)) {
                    return Err(Stop::broken(format!("piece {piece} of {edition:?} is journaled but not on the disk")));
                }
            }
        }
        Ok(())
    }

    /// A final name shows a whole version or nothing.
    fn check_finals(&self) -> Result<(), Stop> {
        for name in self.disk.names() {
            let Name::Final(object) = name else { continue };
            let Some(handle) = self.disk.find(name) else { continue };
            let versions = (0..).take(self.origin.objects[slot(object)].sizes.len());
            if !versions.map(|version| Edition { object, version }).any(|edition| self.is_whole(handle, edition)) {
                return Err(Stop::broken(format!(
                    "the final name of file {object} shows something that is no version of it"
                )));
            }
        }
        Ok(())
    }

    fn check_complete(&self, editions: &[Edition]) -> Result<(), Stop> {
        for edition in editions {
            let whole =
                self.disk.find(Name::Final(edition.object)).is_some_and(|handle| self.is_whole(handle, *edition));
            if !whole {
                return Err(Stop::broken(format!("the receipt names {edition:?} but its file is not that")));
            }
        }
        Ok(())
    }

    fn is_whole(&self, handle: Handle, edition: Edition) -> bool {
        let pieces = pieces_of(self.origin.size(edition));
        let as_stated =
            |piece| self.piece(handle, piece).is_some_and(|bytes| bytes == sectors(edition.stamp(piece, 0)));
        self.disk.length(handle) == pieces * PIECE_ON_DISK && (0..pieces).all(as_stated)
    }
}
