//! What a run can take over from the one before: from a journal's claims to plans, and back to a journal's first records.
//!
//! A run never continues an old journal: it writes a new one that begins with [`claims`] of its plans, syncs it and
//! renames it over the old one. File numbers are then this run's, and refuted claims are gone.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::record::{PROOFS_PER_RECORD, Record, Replay, ReplayedFile};
use crate::journal::written::WrittenPiece;
use crate::manifest::FileId;
use crate::schedule::settle::number;
use crate::schedule::{FileIndex, FilePlan};
use crate::units::piece_count;
use crate::verify::{self, PieceProof};

/// What is found on disk of one planned file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Present {
    /// Its part file (named after its id) exists.
    pub part: bool,
    /// Size of what has its final name, whoever put it there.
    pub published: Option<u64>,
}

/// Where the bytes that a journal claims of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// In its part file. Renaming takes that name away, so while it exists the file is not published.
    Part,
    /// Under its final name.
    Published,
    /// Nowhere: the claims are void.
    Nowhere,
}

/// Where the bytes of a claimed file are.
///
/// After an unclean stop a file may be published before the journal says so; its claims are then read back
/// anyway, which tells it from a stranger of the same size.
pub fn whereabouts(claimed: &ReplayedFile, clean: bool, present: Present) -> Whereabouts {
    let whole = claimed.size.is_some_and(|size| {
        u64::try_from(claimed.held.len()).is_ok_and(|held| held == piece_count(size))
            && claimed.held.iter().all(Option::is_some)
    });
    let sealed = claimed.sealed.is_some() || !clean;
    if present.part {
        Whereabouts::Part
    } else if whole && sealed && present.published.is_some() && present.published == claimed.size {
        Whereabouts::Published
    } else {
        Whereabouts::Nowhere
    }
}

/// Adds to `plans` (nothing held) what `replay` claims and the disk confirms.
///
/// `refuted` lists the pieces that were read back and are not as claimed; after an unclean stop every claimed
/// piece must have been read back from where [`whereabouts`] says.
pub fn adopt(
    plans: &mut [FilePlan],
    replay: &Replay,
    present: impl Fn(FileIndex) -> Present,
    refuted: &BTreeSet<(FileIndex, u64)>,
) {
    let known: BTreeMap<FileId, &ReplayedFile> = replay.files.iter().map(|file| (file.id, file)).collect();
    for (index, plan) in plans.iter_mut().enumerate() {
        let Some(claimed) = known.get(&plan.id) else { continue };
        // A stream whose end nobody saw starts over.
        let Some(size) = claimed.size.filter(|size| plan.size.is_none_or(|planned| planned == *size)) else { continue };
        let place = whereabouts(claimed, replay.clean, present(index));
        if place == Whereabouts::Nowhere {
            continue;
        }
        let good = |(piece, proof): (u64, &Option<PieceProof>)| proof.filter(|_| !refuted.contains(&(index, piece)));
        let held: Vec<Option<PieceProof>> = (0..).zip(&claimed.held).map(good).collect();
        let intact = held.iter().all(Option::is_some);
        if place == Whereabouts::Published && !intact {
            // A damaged file under its final name cannot be mended in place.
            continue;
        }
        plan.size = Some(size);
        plan.held = held;
        plan.sealed = place == Whereabouts::Published;
    }
}

/// Pieces of one file that may be on disk though the journal does not claim them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclaimed {
    /// The file.
    pub id: FileId,
    /// Its bytes.
    pub size: u64,
    /// Indexes, ascending, with what must be found there.
    pub pieces: Vec<(u64, PieceProof)>,
}

/// What the written list of a killed run adds to the journal's claims, of files that are `planned` with that size; of a
/// stream, which is planned without one, the journal must know it.
///
/// Nothing after an orderly stop, which has claimed all there was. Each piece still has to be made durable and then
/// read from the disk before [`add`] may take it.
pub fn unclaimed(replay: &Replay, listed: &[WrittenPiece], planned: &BTreeMap<FileId, Option<u64>>) -> Vec<Unclaimed> {
    let known: BTreeMap<FileId, &ReplayedFile> = replay.files.iter().map(|file| (file.id, file)).collect();
    let fits = |listed: &&WrittenPiece| {
        let known = known.get(&listed.id);
        let claimable = known.is_none_or(|file| {
            let claim = usize::try_from(listed.piece).ok().and_then(|piece| file.held.get(piece));
            file.sealed.is_none() && claim.is_none_or(Option::is_none)
        });
        let sizes = [planned.get(&listed.id).copied().flatten(), known.and_then(|file| file.size)];
        let sized = sizes.iter().flatten().all(|size| *size == listed.size) && sizes != [None, None];
        let within = planned.contains_key(&listed.id) && listed.piece < piece_count(listed.size);
        !replay.clean && claimable && sized && within
    };
    let mut files: BTreeMap<FileId, (u64, BTreeMap<u64, PieceProof>)> = BTreeMap::new();
    for WrittenPiece { id, size, piece, proof } in listed.iter().filter(fits) {
        files.entry(*id).or_insert_with(|| (*size, BTreeMap::new())).1.insert(*piece, *proof);
    }
    let of_file = |(id, (size, pieces)): (FileId, (u64, BTreeMap<_, _>))| {
        let pieces = pieces.into_iter().collect();
        Unclaimed { id, size, pieces }
    };
    files.into_iter().map(of_file).collect()
}

/// Takes pieces that were found on disk, durable, into what `replay` claims.
pub fn add(replay: &mut Replay, found: &Unclaimed) {
    let place = replay.files.iter().position(|file| file.id == found.id).unwrap_or_else(|| {
        let file = replay.files.iter().map(|file| file.file.saturating_add(1)).max().unwrap_or(0);
        let unclaimed = ReplayedFile { file, id: found.id, size: Some(found.size), held: Vec::new(), sealed: None };
        replay.files.push(unclaimed);
        replay.files.len() - 1
    });
    let held = &mut replay.files[place].held;
    for (piece, proof) in &found.pieces {
        let Ok(piece) = usize::try_from(*piece) else { continue };
        held.resize(held.len().max(piece + 1), None);
        held[piece] = Some(*proof);
    }
}

/// The records that claim exactly what `plan` holds as file number `index`; nothing for a file of which nothing is held.
pub fn claims(index: FileIndex, plan: &FilePlan) -> Vec<Record> {
    let file = number(index);
    if !plan.sealed && plan.held.iter().all(Option::is_none) {
        return Vec::new();
    }
    let mut records = vec![Record::File { file, id: plan.id, size: plan.size }];
    let mut run: Vec<PieceProof> = Vec::new();
    let mut first = 0;
    // One hole past the end ends the last run.
    for (piece, proof) in (0..).zip(plan.held.iter().chain([&None])) {
        if run.len() == PROOFS_PER_RECORD || (proof.is_none() && !run.is_empty()) {
            records.push(Record::Pieces { file, first, proofs: std::mem::take(&mut run) });
        }
        if let Some(proof) = proof {
            first = if run.is_empty() { piece } else { first };
            run.push(*proof);
        }
    }
    let whole: Option<Vec<PieceProof>> = plan.held.iter().copied().collect();
    if let (true, Some(size), Some(proofs)) = (plan.sealed, plan.size, whole) {
        records.push(Record::Sealed { file, size, digest: verify::root(size, &proofs) });
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{Encoder, replay};
    use crate::manifest::{Digest, Ranges};
    use crate::units::MIB;

    fn proof(mark: u64) -> PieceProof {
        PieceProof { cv: *blake3::hash(&mark.to_le_bytes()).as_bytes(), crc64nvme: mark, crc32: 0 }
    }

    fn plan(number: u8, pieces: u64) -> FilePlan {
        FilePlan {
            id: FileId([number; 16]),
            name: String::new(),
            size: Some(pieces * MIB),
            ranges: Ranges::Assumed,
            stated: Vec::new(),
            held: Vec::new(),
            sealed: false,
            computed: Vec::new(),
        }
    }

    fn held(pieces: u64, holes: &[u64]) -> Vec<Option<PieceProof>> {
        (0..pieces).map(|piece| (!holes.contains(&piece)).then(|| proof(piece))).collect()
    }

    fn journal(records: &[Record]) -> Replay {
        let mut encoder = Encoder::new([5; 16]);
        let mut bytes = encoder.header().to_vec();
        bytes.extend(encoder.encode_batch(records).concat());
        replay(&bytes).unwrap()
    }

    const PART: Present = Present { part: true, published: None };
    const PUBLISHED: Present = Present { part: false, published: Some(3 * MIB) };

    #[test]
    fn claims_replay_to_the_plans_they_were_made_of() {
        let plans = [
            FilePlan { held: held(20, &[]), ..plan(0, 20) },
            FilePlan { held: held(19, &[0, 7, 8, 18]), ..plan(1, 19) },
            plan(2, 4),
            FilePlan { held: held(3, &[]), sealed: true, ..plan(3, 3) },
            FilePlan { sealed: true, ..plan(4, 0) },
        ];
        let records: Vec<Record> = plans.iter().enumerate().flat_map(|(index, plan)| claims(index, plan)).collect();
        let mut again: Vec<FilePlan> =
            plans.iter().map(|plan| FilePlan { held: Vec::new(), sealed: false, ..plan.clone() }).collect();
        let present = |index: FileIndex| Present { part: !plans[index].sealed, published: plans[index].size };
        adopt(&mut again, &journal(&records), present, &BTreeSet::new());
        for (made, read) in plans.iter().zip(&again) {
            let trimmed =
                |plan: &FilePlan| plan.held.iter().rposition(Option::is_some).map(|last| plan.held[..=last].to_vec());
            assert_eq!((trimmed(made), made.sealed), (trimmed(read), read.sealed));
        }
    }

    #[test]
    fn refuted_pieces_are_not_taken_over() {
        let records = claims(0, &FilePlan { held: held(3, &[]), ..plan(0, 3) });
        let mut plans = [plan(0, 3)];
        adopt(&mut plans, &journal(&records), |_| PART, &BTreeSet::from([(0, 1)]));
        assert_eq!(plans[0].held, held(3, &[1]));
        let mut published = [plan(0, 3)];
        adopt(&mut published, &journal(&records), |_| PUBLISHED, &BTreeSet::from([(0, 1)]));
        assert!(published[0].held.is_empty() && !published[0].sealed);
    }

    #[test]
    fn another_content_or_size_takes_nothing_over() {
        let records = claims(0, &FilePlan { held: held(3, &[]), ..plan(0, 3) });
        for mut other in [plan(9, 3), plan(0, 4)] {
            adopt(std::slice::from_mut(&mut other), &journal(&records), |_| PART, &BTreeSet::new());
            assert!(other.held.is_empty(), "{other:?}");
        }
    }

    /// What `unclaimed` leaves of pieces of file 0, of 3 pieces, beside `records`.
    fn left(records: &[Record], listed: &[(u64, u64)]) -> Vec<u64> {
        let listing = |(size, piece): &(u64, u64)| WrittenPiece {
            id: FileId([0; 16]),
            size: size * MIB,
            piece: *piece,
            proof: proof(*piece),
        };
        let listed: Vec<_> = listed.iter().map(listing).collect();
        let planned = BTreeMap::from([(FileId([0; 16]), Some(3 * MIB)), (FileId([1; 16]), None)]);
        let files = unclaimed(&journal(records), &listed, &planned);
        let pieces = |file: &Unclaimed| {
            assert_eq!((file.id, file.size), (FileId([0; 16]), 3 * MIB));
            assert!(file.pieces.iter().all(|(piece, found)| *found == proof(*piece)));
            file.pieces.iter().map(|(piece, _)| *piece).collect::<Vec<_>>()
        };
        files.iter().flat_map(pieces).collect()
    }

    #[test]
    fn only_what_nobody_claims_of_a_planned_file_is_looked_for() {
        let all = [(3, 2), (3, 0), (3, 1), (3, 3), (4, 1), (3, u64::MAX)];
        let claimed = claims(0, &FilePlan { held: held(3, &[1]), ..plan(0, 3) });
        let whole = FilePlan { held: held(3, &[]), sealed: true, ..plan(0, 3) };
        let id = FileId([0; 16]);
        assert_eq!(left(&[], &all), [0, 1, 2]);
        assert_eq!(left(&claimed, &all), [1]);
        assert_eq!(left(&claims(0, &whole), &all), [0; 0]);
        assert_eq!(left(&[Record::Clean], &all), [0; 0], "an orderly stop has claimed all there was");
        assert_eq!(left(&[Record::File { file: 0, id, size: Some(4 * MIB) }], &all), [0; 0], "of another size");
        let other = |size| WrittenPiece { id: FileId([1; 16]), size: 3 * MIB, piece: size, proof: proof(0) };
        let planned = BTreeMap::from([(FileId([1; 16]), None)]);
        assert_eq!(unclaimed(&journal(&[]), &[other(0)], &planned), [], "a stream whose end nobody saw");
        let sized = journal(&[Record::File { file: 4, id: FileId([1; 16]), size: Some(3 * MIB) }]);
        assert_eq!(unclaimed(&sized, &[other(0), other(1)], &planned)[0].pieces.len(), 2);
        assert_eq!(unclaimed(&sized, &[other(0)], &BTreeMap::new()), [], "no file of the plan");
    }

    #[test]
    fn what_was_found_is_claimed_beside_the_rest() {
        let mut replayed = journal(&claims(0, &FilePlan { held: held(3, &[1, 2]), ..plan(0, 3) }));
        let found = |id, pieces: &[u64]| Unclaimed {
            id: FileId([id; 16]),
            size: 3 * MIB,
            pieces: pieces.iter().map(|piece| (*piece, proof(*piece))).collect(),
        };
        add(&mut replayed, &found(0, &[2]));
        add(&mut replayed, &found(7, &[1]));
        let mut plans = [plan(0, 3), plan(7, 3)];
        adopt(&mut plans, &replayed, |_| PART, &BTreeSet::new());
        assert_eq!(plans[0].held, held(3, &[1]));
        assert_eq!(plans[1].held, [None, Some(proof(1))]);
    }

    #[test]
    fn bytes_are_looked_for_where_the_last_step_left_them() {
        let part_and_name = Present { part: true, published: Some(3 * MIB) };
        let other_size = Present { part: false, published: Some(3 * MIB - 1) };
        let sealed = Some(Digest([0; 32]));
        let cases = [
            (PART, None, false, Whereabouts::Part),
            (part_and_name, sealed, true, Whereabouts::Part),
            (PUBLISHED, sealed, true, Whereabouts::Published),
            (PUBLISHED, None, false, Whereabouts::Published),
            (PUBLISHED, None, true, Whereabouts::Nowhere),
            (other_size, sealed, false, Whereabouts::Nowhere),
            (Present::default(), sealed, true, Whereabouts::Nowhere),
        ];
        for (present, sealed, clean, place) in cases {
            let claimed =
                ReplayedFile { file: 0, id: FileId([0; 16]), size: Some(3 * MIB), held: held(3, &[]), sealed };
            assert_eq!(whereabouts(&claimed, clean, present), place, "{present:?} {sealed:?} {clean}");
        }
    }
}
