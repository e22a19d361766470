//! What a run can take over from the one before: from a journal's claims to plans, and back to a journal's first records.
//!
//! A run never continues an old journal: it writes a new one that begins with [`claims`] of its plans, syncs it and
//! renames it over the old one. File numbers are then this run's, and refuted claims are gone.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::record::{PROOFS_PER_RECORD, Record, Replay, ReplayedFile};
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
