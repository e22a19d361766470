//! What a killed run has written and only listed: taken over as soon as the disk itself gives it back.
//!
//! Holds: a piece is taken only when its part file was synced, then read past the page cache, and its bytes are what the
//! list says; the folder of part files is synced with it. So all that the next journal claims is durable.

use std::collections::BTreeMap;

use crate::disk::{Dest, scan};
use crate::engine::read::{ReadBytes, ReadProofs};
use crate::engine::resume::is_told_apart;
use crate::error::{self, Error};
use crate::journal::file::WrittenFile;
use crate::journal::record::Replay;
use crate::manifest::{FileId, Manifest};
use crate::schedule::resume::{Unclaimed, add, unclaimed};
use crate::units::piece_count;
use crate::verify::{self, Sums};

/// Adds to `replay` what is listed of files that may be continued, and counts what was read into `tally`.
///
/// # Errors
/// Storage errors. A list that cannot be read is none.
pub(super) fn take(dest: &Dest, manifest: &Manifest, replay: &mut Replay, tally: &ReadBytes) -> Result<(), Error> {
    let listed = WrittenFile::read(dest);
    if listed.is_empty() {
        return Ok(());
    }
    let pinned = manifest.entries.iter().filter(|entry| is_told_apart(entry));
    let planned: BTreeMap<FileId, (Option<u64>, Sums)> =
        pinned.map(|entry| (entry.id(&manifest.source), (entry.size, Sums::of(&entry.stated)))).collect();
    let sizes = planned.iter().map(|(id, (size, _))| (*id, *size)).collect();
    let mut any = false;
    for file in unclaimed(replay, &listed, &sizes) {
        let sums = planned.get(&file.id).map_or(Sums::default(), |(_, sums)| *sums);
        let found = found(dest, file, sums, tally).map_err(|error| error::storage("read back a part file", &error))?;
        any |= !found.pieces.is_empty();
        add(replay, &found);
    }
    if any { dest.sync_parts().map_err(|error| error::storage("sync the part files' folder", &error)) } else { Ok(()) }
}

/// The pieces of `file` that are on disk as listed, durable, with the proofs of what was read.
fn found(dest: &Dest, mut file: Unclaimed, sums: Sums, tally: &ReadBytes) -> std::io::Result<Unclaimed> {
    let listed = std::mem::take(&mut file.pieces);
    let Some(part) = dest.open_part(&file.id)? else { return Ok(file) };
    part.sync()?;
    let wanted: Vec<u64> = listed.iter().map(|(piece, _)| *piece).collect();
    let proofs = ReadProofs::new(usize::try_from(piece_count(file.size)).unwrap_or(usize::MAX));
    scan::pieces(&part, file.size, &wanted, |piece, bytes| {
        tally.add(bytes);
        proofs.put(piece, verify::prove_piece(Some(file.size), piece, bytes, sums));
    })?;
    let mut read = proofs.into_inner();
    let mut proof_of = |piece: u64| read.get_mut(usize::try_from(piece).ok()?)?.take();
    for (piece, claim) in listed {
        file.pieces.extend(proof_of(piece).filter(|read| read.cv == claim.cv).map(|read| (piece, read)));
    }
    Ok(file)
}
