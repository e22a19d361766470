//! Where each piece of a file is, and its proof: 49 bytes a piece.
//!
//! Holds: a piece is in exactly one state; every change names the state it leaves.

use crate::verify::PieceProof;

/// Where one piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody works on it.
    Waiting,
    /// Part of a span that failed and is asked again later.
    Parked,
    /// Part of an outstanding span.
    InFlight,
    /// Hashed and written, not durable.
    Written,
    /// Durable, and its proof is in the journal; written, of a file that is kept without one.
    Durable,
}

const PLACES: usize = 5;
const NO_PROOF: PieceProof = PieceProof { cv: [0; 32], crc64nvme: 0, crc32: 0 };

/// Consecutive pieces of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) count: u64,
}

impl Run {
    pub(super) fn indexes(self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }
}

/// The pieces of one file.
#[derive(Debug)]
pub(super) struct Pieces {
    proofs: Vec<PieceProof>,
    places: Vec<Place>,
    counts: [u64; PLACES],
    /// No piece before this one is waiting.
    scan: usize,
}

fn slot(place: Place) -> usize {
    match place {
        Place::Waiting => 0,
        Place::Parked => 1,
        Place::InFlight => 2,
        Place::Written => 3,
        Place::Durable => 4,
    }
}

/// A piece index as a slice index; one beyond memory fails the bounds check that follows.
fn at(piece: u64) -> usize {
    usize::try_from(piece).unwrap_or(usize::MAX)
}

fn wide(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}

impl Pieces {
    /// `count` pieces, those in `held` durable already.
    pub(super) fn new(count: u64, held: &[Option<PieceProof>]) -> Self {
        let length = at(count);
        let mut pieces = Self {
            proofs: vec![NO_PROOF; length],
            places: vec![Place::Waiting; length],
            counts: [count, 0, 0, 0, 0],
            scan: 0,
        };
        for (index, proof) in held.iter().take(length).enumerate() {
            if let Some(proof) = proof {
                pieces.proofs[index] = *proof;
                pieces.places[index] = Place::Durable;
                pieces.counts[slot(Place::Durable)] += 1;
                pieces.counts[slot(Place::Waiting)] -= 1;
            }
        }
        pieces
    }

    pub(super) fn len(&self) -> u64 {
        wide(self.places.len())
    }

    pub(super) fn count(&self, place: Place) -> u64 {
        self.counts[slot(place)]
    }

    /// Neither asked for, nor on the way, nor to be asked: all written or durable.
    pub(super) fn whole(&self) -> bool {
        self.count(Place::Written) + self.count(Place::Durable) == self.len()
    }

    pub(super) fn all_durable(&self) -> bool {
        self.count(Place::Durable) == self.len()
    }

    pub(super) fn place(&self, piece: u64) -> Place {
        self.places[at(piece)]
    }

    /// Proofs by piece; only those of written and durable pieces mean anything.
    pub(super) fn proofs(&self) -> &[PieceProof] {
        &self.proofs
    }

    pub(super) fn proof(&self, piece: u64) -> PieceProof {
        self.proofs[at(piece)]
    }

    pub(super) fn shift(&mut self, piece: u64, from: Place, to: Place) {
        let index = at(piece);
        assert!(self.places[index] == from, "piece {piece} is {:?}, not {from:?}", self.places[index]);
        self.places[index] = to;
        self.counts[slot(from)] -= 1;
        self.counts[slot(to)] += 1;
        if to == Place::Waiting {
            self.scan = self.scan.min(index);
        }
    }

    pub(super) fn written(&mut self, piece: u64, proof: PieceProof) {
        self.shift(piece, Place::InFlight, Place::Written);
        self.proofs[at(piece)] = proof;
    }

    /// Makes room for `count` pieces of a stream: the new ones are in flight.
    pub(super) fn grow(&mut self, count: u64) {
        let length = at(count);
        if self.places.len() < length {
            self.counts[slot(Place::InFlight)] += wide(length - self.places.len());
            self.places.resize(length, Place::InFlight);
            self.proofs.resize(length, NO_PROOF);
        }
    }

    /// The first run of waiting pieces, at most `count_max` long.
    pub(super) fn next_run(&mut self, count_max: u64) -> Option<Run> {
        if self.count(Place::Waiting) == 0 {
            return None;
        }
        while self.places.get(self.scan).is_some_and(|place| *place != Place::Waiting) {
            self.scan += 1;
        }
        self.waiting_from(wide(self.scan), self.len(), count_max)
    }

    /// The waiting pieces from `first`, itself one, to the next that is not, to `end`, or to `count_max`.
    pub(super) fn waiting_from(&self, first: u64, end: u64, count_max: u64) -> Option<Run> {
        let rest = self.places.get(at(first)..at(end))?;
        let length = rest.iter().take(at(count_max)).take_while(|place| **place == Place::Waiting).count();
        (0 < length).then(|| Run { first, count: wide(length) })
    }

    /// The pieces of `run` that are still in flight, as runs.
    pub(super) fn in_flight(&self, run: Run) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for piece in run.indexes() {
            if self.place(piece) != Place::InFlight {
                continue;
            }
            match runs.last_mut() {
                Some(last) if last.first + last.count == piece => last.count += 1,
                _ => runs.push(Run { first: piece, count: 1 }),
            }
        }
        runs
    }
}
