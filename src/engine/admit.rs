//! `--formats` on disk: files are looked at where they are durable, before any file of the model is published.
//!
//! In: a [`Pull`] and one of its files, in a part or under its final name. Out: nothing, or why it is refused.

use std::io;
use std::path::Path;

use crate::disk::scan::ScanFile;
use crate::disk::{Dest, PartFile, Probe, SLAB_BYTES, Slab, SlabPool};
use crate::engine::Pull;
use crate::engine::resume::RECEIPT;
use crate::error::{Error, Failure, FailureKind, storage};
use crate::formats::{self, Allowed};
use crate::manifest::{Entry, FileId, Receipt, SafePath};
use crate::schedule::{FilePlan, FileStep};
use crate::units::PIECE_BYTES;
use crate::unpack::Input;
use crate::verify::wide;

/// Looks at a file that is whole in `part`, or under its final name where it has none.
///
/// # Errors
/// As [`formats::admit`].
pub(super) fn part(pull: &Pull, dest: &Dest, entry: &Entry, part: Option<&PartFile>) -> Result<(), Error> {
    let Some(allowed) = &pull.formats else { return Ok(()) };
    match part {
        Some(part) => of_part(dest, &part.id(), &entry.path, entry.size.unwrap_or(0), allowed),
        None => of_published(dest, &entry.path, allowed),
    }
}

/// Looks at all files of a sealed directory, which have their final names.
///
/// # Errors
/// As [`formats::admit`].
pub(super) fn all_published(receipt: &Receipt, dest: &Dest, allowed: Option<&Allowed>) -> Result<(), Error> {
    let Some(allowed) = allowed else { return Ok(()) };
    receipt.files.iter().try_for_each(|file| of_published(dest, &file.path, allowed))
}

/// Looks at the files that an earlier run gave their final names.
///
/// # Errors
/// As [`formats::admit`].
pub(super) fn sealed(pull: &Pull, dest: &Dest, plans: &[FilePlan]) -> Result<(), Error> {
    let Some(allowed) = &pull.formats else { return Ok(()) };
    let mut entries = pull.manifest.entries.iter().zip(plans).filter(|(_, plan)| plan.sealed);
    entries.try_for_each(|(entry, _)| of_published(dest, &entry.path, allowed))
}

/// A file that is admitted and sealed but for its name.
#[derive(Debug, Clone)]
pub(super) struct Unnamed {
    pub(super) id: FileId,
    pub(super) path: SafePath,
    pub(super) size: u64,
}

/// Gives admitted files their final names. From the first one on, the old receipt would lie.
///
/// # Errors
/// The disk's.
pub(super) fn name_all(dest: &Dest, files: &[Unnamed], probe: &Probe) -> Result<(), Failure> {
    if files.is_empty() {
        return Ok(());
    }
    dest.state_remove(RECEIPT).map_err(|error| Failure::disk("remove the old receipt", &error))?;
    for Unnamed { id, path, size } in files {
        let part = dest.part_open(id, None, probe)?;
        if !part.adopted() {
            return Err(Failure::new(FailureKind::Disk, format!("the part file of `{path}` is gone")));
        }
        dest.seal_step(FileStep::Rename, &part, path, *size)?;
    }
    Ok(())
}

/// Looks at the part of `id`, of which the first `size` bytes are the file at `path`.
///
/// # Errors
/// As [`formats::admit`]; [`Error::Storage`] when it is not there.
pub(super) fn of_part(dest: &Dest, id: &FileId, path: &SafePath, size: u64, allowed: &Allowed) -> Result<(), Error> {
    let file = dest.open_part(id).map_err(|error| failed(path, &error))?;
    looked(file, path, size, allowed)
}

/// Looks at the published file at `path`.
///
/// # Errors
/// As [`formats::admit`]; [`Error::Storage`] when it is not there.
pub(super) fn of_published(dest: &Dest, path: &SafePath, allowed: &Allowed) -> Result<(), Error> {
    let size = dest.file_size(path).map_err(|error| failed(path, &error))?;
    let file = dest.open_published(path).map_err(|error| failed(path, &error))?;
    looked(file, path, size.unwrap_or(0), allowed)
}

/// Looks at a file anywhere on this machine, which is to be called `name`.
///
/// # Errors
/// As [`formats::admit`].
pub fn admit_local(file: &Path, name: &str, allowed: &Allowed) -> Result<(), Error> {
    let failed = |error: io::Error| crate::origin::local::failed(file, &error);
    let about = std::fs::metadata(file).map_err(failed)?;
    if !about.is_file() {
        return Err(Error::Policy(format!("`{}` is no regular file: refused", file.display())));
    }
    let mut look = Look::new(ScanFile::open_local(file).map_err(failed)?, about.len()).map_err(failed)?;
    formats::admit(name, &mut look, allowed)
}

fn looked(file: Option<ScanFile>, path: &SafePath, size: u64, allowed: &Allowed) -> Result<(), Error> {
    let file = file.ok_or_else(|| Error::Storage(format!("`{path}` is gone")))?;
    let mut look = Look::new(file, size).map_err(|error| failed(path, &error))?;
    formats::admit(path.as_str(), &mut look, allowed)
}

fn failed(path: &SafePath, error: &io::Error) -> Error {
    storage(&format!("look at `{path}`"), error)
}

/// A file, one piece of it in memory.
struct Look {
    file: ScanFile,
    size: u64,
    slab: Vec<Slab>,
    /// First byte in the slab, and how many there are.
    window: (u64, u64),
}

impl Look {
    fn new(file: ScanFile, size: u64) -> io::Result<Self> {
        let pool = SlabPool::new(PIECE_BYTES)?;
        Ok(Self { file, size, slab: pool.try_lease().into_iter().collect(), window: (0, 0) })
    }
}

impl Input for Look {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.size <= offset || buffer.is_empty() {
            return Ok(0);
        }
        let (start, len) = self.window;
        if offset < start || start + len <= offset {
            let start = offset - offset % PIECE_BYTES;
            let read = self.file.read_step(start, self.size, &mut self.slab)?;
            self.window = (start, wide(read));
        }
        let (start, len) = self.window;
        let Some(skip) = offset.checked_sub(start).filter(|skip| *skip < len) else { return Ok(0) };
        let from = usize::try_from(skip).map_err(io::Error::other)?;
        let count = usize::try_from(len - skip).map_or(SLAB_BYTES, |left| left.min(SLAB_BYTES)).min(buffer.len());
        let slab = self.slab.first().ok_or_else(|| io::Error::other("no memory to look at a file"))?;
        buffer[..count].copy_from_slice(&slab[from..from + count]);
        Ok(count)
    }
}
