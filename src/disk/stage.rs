//! What an archive needs before its members are published: a place for it while it is packed, and a writer of pieces.
//!
//! In: a DEST; pieces in file order. Out: a DEST within it; bytes written by the thread that asks.
//! Holds: the packed archive lies in the state folder, which no served name reaches; nothing is removed through a link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::backend::Rung;
use super::batch::Batch;
use super::beneath;
use super::dest::{self, Dest};
use super::part::PartFile;
use super::slab::Slab;
use super::threads;
use super::window::Window;

/// The folder of an archive that is to be unpacked, beneath the state folder.
pub(super) const PACKED: &str = "packed";

/// Folders within each other below [`PACKED`]: a path's 32, its own, and its state's two.
const DEPTH_MAX: u32 = 40;

/// Entries of one folder there: an archive, its state, and what earlier ones of other names left.
const ENTRIES_MAX: usize = 1 << 20;

impl Dest {
    /// The place within this DEST where an archive is kept while it is packed, made if it is missing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn packed(&self) -> io::Result<Self> {
        let state = self.state_folder()?;
        let folder = beneath::make_folder(state, PACKED)?;
        dest::sync_folder(state)?;
        Ok(self.within(&format!("{}/{PACKED}", dest::STATE), folder))
    }

    /// As [`Dest::packed`], or `None` when there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn packed_existing(&self) -> io::Result<Option<Self>> {
        match self.state_existing().and_then(|state| beneath::open_folder(state, PACKED)) {
            Ok(folder) => Ok(Some(self.within(&format!("{}/{PACKED}", dest::STATE), folder))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes [`Dest::packed`] and everything in it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_packed(&self) -> io::Result<()> {
        match self.state_existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            state => remove(state?, PACKED, DEPTH_MAX),
        }
    }
}

/// Removes the folder `name` beneath `dir` with all it holds; links in it are removed, not followed.
fn remove(dir: BorrowedFd<'_>, name: &str, depth: u32) -> io::Result<()> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(io::Error::other("the state folder holds folders that are not ours"));
    };
    let Some(there) = dest::stat_name(dir, name)? else { return Ok(()) };
    if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
        return dest::absent_is_fine(rustix::fs::unlinkat(dir, name, AtFlags::empty()));
    }
    let folder = beneath::open_folder(dir, name)?;
    for entry in Dir::read_from(&folder)?.take(ENTRIES_MAX) {
        let entry = entry?;
        let Ok(inner) = entry.file_name().to_str() else {
            return Err(io::Error::other("the state folder holds files that are not ours"));
        };
        if !matches!(inner, "." | "..") {
            remove(folder.as_fd(), inner, depth)?;
        }
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes pieces of parts one after the other, from the thread that calls.
pub struct PieceWriter {
    window: Option<Window>,
}

impl PieceWriter {
    /// A writer in the way of `rung`; a ring is none for one write at a time, so it writes directly instead.
    pub fn new(rung: Rung) -> Self {
        Self { window: (rung == Rung::Buffered).then(|| Window::new(1)) }
    }

    /// Writes the first `filled` bytes of `slab` at `offset`, which is the start of a piece. Blocks.
    ///
    /// Written is not durable. A direct write is padded with zeros, which sealing cuts off.
    ///
    /// # Errors
    /// The kernel's, after which the part is poisoned; or that it was poisoned before.
    pub fn write(&mut self, part: &Arc<PartFile>, offset: u64, slab: Slab, filled: usize) -> io::Result<()> {
        self.write_batch(part, offset, vec![(slab, filled)])
    }

    /// As [`PieceWriter::write`], of 1 to 4 consecutive slabs in one call; all but the last must be full.
    ///
    /// # Errors
    /// As [`PieceWriter::write`].
    pub fn write_batch(&mut self, part: &Arc<PartFile>, offset: u64, slabs: Vec<(Slab, usize)>) -> io::Result<()> {
        part.check()?;
        let mut batch = Batch::new(part.align(), offset, slabs)?;
        let written = batch.left();
        if let Err(error) = threads::write_all(part, &mut batch) {
            part.poison();
            return Err(error);
        }
        self.window.as_mut().map_or(Ok(()), |window| window.wrote(part, offset, written))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_packed_goes_and_what_its_links_name_stays() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dest = Dest::open(folder.path()).unwrap();
        assert!(dest.packed_existing().unwrap().is_none());
        dest.remove_packed().unwrap();
        let packed = dest.packed().unwrap();
        packed.state_write("receipt.json", b"{}").unwrap();
        let at = folder.path().join(".dray/packed");
        fs::create_dir_all(at.join("a/b/c")).unwrap();
        fs::write(at.join("a/b/m.tar"), "y").unwrap();
        symlink(outside.path(), at.join("a/out")).unwrap();
        dest.remove_packed().unwrap();
        assert!(!at.exists() && outside.path().join("kept").exists());
        symlink(outside.path(), &at).unwrap();
        assert!(dest.packed().is_err() && dest.packed_existing().is_err(), "a link is no place for an archive");
        dest.remove_packed().unwrap();
        assert!(!at.exists() && outside.path().join("kept").exists());
    }
}
