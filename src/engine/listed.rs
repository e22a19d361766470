//! What a killed run has written and only listed: taken over as soon as the disk itself gives it back.
//!
//! Holds: a piece is taken only when the killed run's last write has landed in its part file, this was synced, and what
//! is read past the page cache is what the list says; the folder of part files is synced with it. So all that the next
//! journal claims is durable. Nothing of this ends a run: what cannot be taken is fetched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::disk::{Dest, scan};
use crate::engine::read::{ReadBytes, ReadProofs};
use crate::engine::resume::is_told_apart;
use crate::error::{self, Error};
use crate::journal::file::WrittenFile;
use crate::journal::record::Replay;
use crate::manifest::{FileId, Manifest};
use crate::schedule::resume::{Unclaimed, add, unclaimed};
use crate::verify::{self, PieceProof, Sums, wide};

/// How long writes of a killed process may take to land, in all its files, before what is left is given up.
const LANDING_MAX: Duration = Duration::from_secs(30);

/// Adds to `replay` what is listed of files that may be continued, and counts what was read into `tally`.
///
/// # Errors
/// Storage errors of the folder of part files.
pub(super) fn take(dest: &Dest, manifest: &Manifest, replay: &mut Replay, tally: &ReadBytes) -> Result<(), Error> {
    let listed = WrittenFile::read(dest);
    if listed.is_empty() {
        return Ok(());
    }
    let pinned = manifest.entries.iter().filter(|entry| is_told_apart(entry));
    let planned: BTreeMap<FileId, (Option<u64>, Sums)> =
        pinned.map(|entry| (entry.id(&manifest.source), (entry.size, Sums::of(&entry.stated)))).collect();
    let sizes = planned.iter().map(|(id, (size, _))| (*id, *size)).collect();
    let until = Instant::now() + LANDING_MAX;
    let mut any = false;
    for file in unclaimed(replay, &listed, &sizes) {
        let sums = planned.get(&file.id).map_or(Sums::default(), |(_, sums)| *sums);
        let found = found(dest, &file, until, sums, tally).unwrap_or_else(|error| {
            tracing::warn!(%error, "what a killed run has written is fetched again: its part file cannot be read back");
            Vec::new()
        });
        any |= !found.is_empty();
        add(replay, &Unclaimed { pieces: found, ..file });
    }
    if any { dest.sync_parts().map_err(|error| error::storage("sync the part files' folder", &error)) } else { Ok(()) }
}

/// The pieces of `file` that are on disk as listed, durable, with the proofs of what was read.
fn found(
    dest: &Dest,
    file: &Unclaimed,
    until: Instant,
    sums: Sums,
    tally: &ReadBytes,
) -> std::io::Result<Vec<(u64, PieceProof)>> {
    let Some((part, _locked)) = dest.open_part_alone(&file.id, until)? else { return Ok(Vec::new()) };
    part.sync()?;
    let wanted: Vec<u64> = file.pieces.iter().map(|(piece, _)| *piece).collect();
    let proofs = ReadProofs::new(wanted.len());
    scan::pieces(&part, file.size, &wanted, |piece, bytes| {
        tally.add(bytes);
        if let Ok(place) = wanted.binary_search(&piece) {
            proofs.put(wide(place), verify::prove_piece(Some(file.size), piece, bytes, sums));
        }
    })?;
    let read = proofs.into_inner().into_iter().zip(&file.pieces);
    let as_listed = |(read, (piece, listed)): (Option<PieceProof>, &(u64, PieceProof))| {
        read.filter(|read| read.cv == listed.cv).map(|read| (*piece, read))
    };
    Ok(read.filter_map(as_listed).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::seen;
    use crate::engine::resume;
    use crate::journal::record::{Encoder, Record, replay};
    use crate::journal::written::WrittenPiece;
    use crate::manifest::{Entry, Ranges, SafePath, Stated, Version};
    use crate::units::{MIB, piece_range};

    const SIZE: u64 = 3 * MIB + 5;

    fn content() -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        blake3::Hasher::new().update(b"listed").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn manifest(version: &str) -> Manifest {
        let entry = Entry {
            path: SafePath::parse("w").unwrap(),
            object: "w".to_owned(),
            size: Some(SIZE),
            version: Version { etag: (!version.is_empty()).then(|| version.to_owned()), ..Version::default() },
            ranges: Ranges::Assumed,
            stated: Vec::new(),
        };
        Manifest { source: "http://h/w".to_owned(), entries: vec![entry] }
    }

    /// What a run leaves that was killed with a part of `bytes` and all of its pieces listed, the first claimed too.
    fn killed(manifest: &Manifest, bytes: &[u8]) -> (tempfile::TempDir, Arc<Dest>, Replay) {
        let folder = tempfile::tempdir().unwrap();
        let dest = Arc::new(Dest::open(folder.path()).unwrap());
        let id = manifest.entries[0].id(&manifest.source);
        let range = |piece| {
            let range = piece_range(SIZE, piece);
            usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
        };
        let proof = |piece| verify::prove_piece(Some(SIZE), piece, &content()[range(piece)], Sums::default());
        let listed: Vec<_> = (0..4).map(|piece| WrittenPiece { id, size: SIZE, piece, proof: proof(piece) }).collect();
        WrittenFile::new(dest.clone()).write(&listed).unwrap();
        std::fs::create_dir(folder.path().join(".dray/parts")).unwrap();
        std::fs::write(folder.path().join(".dray/parts").join(id.to_hex()), bytes).unwrap();
        let records = [
            Record::File { file: 0, id, size: Some(SIZE) },
            Record::Pieces { file: 0, first: 0, proofs: vec![proof(0)] },
        ];
        let mut encoder = Encoder::new([1; 16]);
        let journal = [vec![encoder.header()], encoder.encode_batch(&records)].concat().concat();
        std::fs::write(folder.path().join(".dray/journal"), &journal).unwrap();
        (folder, dest, replay(&journal).unwrap())
    }

    fn held(replay: &Replay) -> Vec<bool> {
        replay.files[0].held.iter().map(Option::is_some).collect()
    }

    #[test]
    fn what_the_disk_has_is_taken_once_it_is_durable_and_nothing_else() {
        let mut bytes = content();
        bytes[usize::try_from(MIB).unwrap() + 7] ^= 1;
        let manifest = manifest("\"v1\"");
        let (folder, dest, mut replay) = killed(&manifest, &bytes);
        let tally = ReadBytes::default();
        seen::take();
        take(&dest, &manifest, &mut replay, &tally).unwrap();
        assert_eq!(held(&replay), [true, false, true, true], "one piece is not as listed");
        assert_eq!(tally.total(), SIZE - MIB, "what the journal claims is not read for the list");
        let number = |path: &str| std::os::unix::fs::MetadataExt::ino(&folder.path().join(path).metadata().unwrap());
        let part = format!(".dray/parts/{}", manifest.entries[0].id(&manifest.source).to_hex());
        let synced = seen::take();
        assert!(synced.contains(&number(".dray/parts")), "{synced:?}");
        assert!(synced.contains(&number(&part)), "{synced:?}");
    }

    #[test]
    fn a_part_that_is_short_or_gone_or_of_any_content_gives_nothing() {
        let pinned = manifest("\"v1\"");
        let (_folder, dest, mut replay) = killed(&pinned, &content()[..usize::try_from(2 * MIB).unwrap()]);
        take(&dest, &pinned, &mut replay, &ReadBytes::default()).unwrap();
        assert_eq!(held(&replay), [true, true]);
        let (_folder, dest, mut replay) = killed(&pinned, &content());
        dest.part_remove(&pinned.entries[0].id(&pinned.source)).unwrap();
        take(&dest, &pinned, &mut replay, &ReadBytes::default()).unwrap();
        assert_eq!(held(&replay), [true]);
        let unpinned = manifest("");
        let (_folder, dest, mut replay) = killed(&unpinned, &content());
        take(&dest, &unpinned, &mut replay, &ReadBytes::default()).unwrap();
        assert_eq!(held(&replay), [true], "it may be half of another content by now");
        let with_sum = Manifest {
            entries: vec![Entry { stated: vec![Stated::Crc32c(1)], ..unpinned.entries[0].clone() }],
            ..unpinned
        };
        let (_folder, dest, mut replay) = killed(&with_sum, &content());
        take(&dest, &with_sum, &mut replay, &ReadBytes::default()).unwrap();
        assert_eq!(held(&replay), [true; 4]);
        let sums = Sums::of(&with_sum.entries[0].stated);
        assert!(replay.files[0].held[1..].iter().flatten().all(|proof| proof.carries(sums)), "as they are stated now");
    }
    #[test]
    fn a_run_after_a_killed_one_holds_what_was_listed() {
        let manifest = manifest("\"v1\"");
        let (_folder, dest, _) = killed(&manifest, &content());
        let resumed = resume::resume(&dest, &manifest, None, &ReadBytes::default()).unwrap();
        assert!(resumed.plans[0].held.len() == 4 && resumed.plans[0].held.iter().all(Option::is_some));
        assert_eq!(resumed.refuted, 0);
        let (folder, dest, _) = killed(&manifest, &content());
        std::fs::remove_file(folder.path().join(".dray/written")).unwrap();
        let resumed = resume::resume(&dest, &manifest, None, &ReadBytes::default()).unwrap();
        assert_eq!(resumed.plans[0].held.iter().flatten().count(), 1, "what the journal claims");
    }

    #[test]
    fn a_part_that_a_dead_process_still_writes_is_waited_for() {
        let manifest = manifest("\"v1\"");
        let (folder, dest, _) = killed(&manifest, &content());
        let id = manifest.entries[0].id(&manifest.source);
        let held = std::fs::File::open(folder.path().join(".dray/parts").join(id.to_hex())).unwrap();
        held.lock().unwrap();
        assert!(dest.open_part_alone(&id, Instant::now()).unwrap().is_none());
        let landing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
        });
        let part = dest.open_part_alone(&id, Instant::now() + LANDING_MAX).unwrap().unwrap();
        landing.join().unwrap();
        assert!(dest.open_part_alone(&id, Instant::now()).unwrap().is_none(), "it stays locked");
        drop(part);
        assert!(dest.open_part_alone(&id, Instant::now()).unwrap().is_some());
    }
}
