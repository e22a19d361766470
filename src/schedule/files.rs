//! One file of the run: what is known of it, where its pieces are, and which step comes next.

use std::sync::Arc;

use crate::manifest::{Digest, FileId, Ranges, Stated};
use crate::schedule::pieces::{Pieces, Place, Run};
use crate::schedule::stretches::Stretches;
use crate::schedule::{FilePlan, Kept};
use crate::units::{PIECE_BYTES, piece_count, piece_range};
use crate::verify::{self, Check};

/// A file's life, in order; [`Stage::Draining`] and [`Stage::Dropping`] lead back to an earlier stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not begun.
    Planned,
    /// Its part file is being opened.
    Opening,
    /// Spans may be asked.
    Active,
    /// Nothing new is asked; outstanding spans and a running checkpoint end first.
    Draining(After),
    /// Its pieces are forgotten; the journal must say so before bytes are overwritten.
    Dropping,
    /// The origin is asked what the object is now.
    Restating,
    /// Every piece is durable; sums that need the bytes in order are being completed.
    Hashing,
    /// Every piece is durable and the statements match.
    Proven { digest: Digest },
    /// Its sealing is under way.
    Sealing { digest: Digest },
    /// It has its final name.
    Sealed { digest: Digest },
}

/// What a drained file turns to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Asking what the object is now: it changed.
    Restat,
    /// Starting over, with the pieces forgotten.
    StartOver,
}

/// What proving a file came to.
#[derive(Debug)]
pub(super) enum Proof {
    Matches,
    /// A statement does not match; the second time with the same digest, asking again is pointless.
    Differs {
        check: Check,
        again: bool,
    },
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) id: FileId,
    pub(super) name: Box<str>,
    pub(super) size: Option<u64>,
    pub(super) ranges: Ranges,
    pub(super) stated: Vec<Stated>,
    pub(super) pieces: Pieces,
    pub(super) stage: Stage,
    /// Outstanding spans.
    pub(super) spans: u32,
    /// Pieces written since the last checkpoint began.
    pub(super) dirty: Vec<u64>,
    /// Part of the running checkpoint.
    pub(super) settling: bool,
    /// The journal names this content under this file's number.
    pub(super) declared: bool,
    /// The journal claims pieces of it.
    pub(super) claimed: bool,
    /// The journal's claims are void and must be dropped before a byte is overwritten.
    pub(super) stale: bool,
    /// Whether the journal hears of its pieces.
    pub(super) kept: Kept,
    /// A write or sync failed: never synced again, nothing more is claimed.
    pub(super) poisoned: bool,
    /// A range was answered as a range.
    pub(super) ranged: bool,
    /// Asked again because the content was wrong: idle connections are not trusted.
    pub(super) distrusted: bool,
    /// How often its signed access was renewed; a span remembers which one it used.
    pub(super) access: u32,
    /// Renewals since the last written piece.
    pub(super) renewals: u32,
    /// How often the object changed.
    pub(super) restarts: u32,
    /// How often it was asked again because a statement did not match.
    pub(super) refetches: u32,
    /// The furthest a stream got, in pieces.
    pub(super) stream_best: u64,
    /// What the content hashed to when it last failed a statement.
    pub(super) mismatched: Option<Digest>,
    pub(super) checks: Vec<Check>,
    /// Which pieces an ordered sum wants next.
    pub(super) stretches: Stretches,
    /// What the bytes in order came to, once that was computed of these pieces.
    pub(super) computed: Option<Vec<Stated>>,
    /// How often its pieces were let go of: what was hashed in order before is void.
    pub(super) attempt: u32,
}

impl File {
    pub(super) fn new(plan: FilePlan) -> Self {
        let pieces = Pieces::new(plan.size.map_or(0, piece_count), &plan.held);
        let claimed = 0 < pieces.count(Place::Durable);
        let stretches = Stretches::new(plan.size.map_or(Arc::new([]), |size| verify::stretches(size, &plan.stated)));
        let mut file = Self {
            id: plan.id,
            name: plan.name.into_boxed_str(),
            size: plan.size,
            ranges: plan.ranges,
            stated: plan.stated,
            pieces,
            stage: Stage::Planned,
            spans: 0,
            dirty: Vec::new(),
            settling: false,
            declared: claimed || plan.sealed,
            claimed,
            stale: false,
            kept: Kept::Journaled,
            poisoned: false,
            ranged: false,
            distrusted: false,
            access: 0,
            renewals: 0,
            restarts: 0,
            refetches: 0,
            stream_best: 0,
            mismatched: None,
            checks: Vec::new(),
            stretches,
            computed: (!plan.computed.is_empty()).then_some(plan.computed),
            attempt: 0,
        };
        if plan.sealed {
            file.adopt_sealed();
        }
        if file.streams() && !file.all_durable() {
            file.forget();
        }
        file
    }

    /// Takes a file that already has its final name, unless its content is not what is stated now.
    fn adopt_sealed(&mut self) {
        if !self.pieces.all_durable() || self.size.is_none() {
            return;
        }
        match (self.prove(), self.stage) {
            (Proof::Matches, Stage::Proven { digest }) => self.stage = Stage::Sealed { digest },
            _ => {
                self.forget();
                self.stage = Stage::Planned;
            }
        }
    }

    /// Replaces the plan after the object changed; nothing of the old content counts.
    pub(super) fn replan(&mut self, plan: FilePlan) {
        let (restarts, attempt) = (self.restarts, self.attempt + 1);
        let stale = self.claimed || self.stale;
        *self = Self { restarts, attempt, ..Self::new(plan) };
        self.stale = stale;
        self.declared = false;
    }

    /// Lets go of every piece. Claims in the journal become stale.
    pub(super) fn forget(&mut self) {
        assert!(self.spans == 0 && !self.settling, "pieces of a busy file were forgotten");
        self.stale |= self.claimed;
        self.dirty.clear();
        self.computed = None;
        self.attempt += 1;
        self.stretches.restart();
        // A stream's pieces appear as they are written.
        let count = if self.streams() { 0 } else { self.pieces.len() };
        self.pieces = Pieces::new(count, &[]);
    }

    /// Whether no piece and no range stands between this file and its proof.
    pub(super) fn all_durable(&self) -> bool {
        self.size.is_some_and(|size| self.pieces.len() == piece_count(size)) && self.pieces.all_durable()
    }

    /// Every piece is written, some not durable yet: a checkpoint completes it.
    pub(super) fn whole(&self) -> bool {
        self.size.is_some_and(|size| self.pieces.len() == piece_count(size)) && self.pieces.whole()
    }

    /// Hashes the durable pieces together and compares the statements; the stage becomes `Proven` when all match.
    pub(super) fn prove(&mut self) -> Proof {
        assert!(self.all_durable(), "a file was proven before all of it was durable");
        let size = self.size.unwrap_or(0);
        let digest = verify::root(size, self.pieces.proofs());
        let computed = self.computed.as_deref().unwrap_or_default();
        self.checks = verify::checks(size, self.pieces.proofs(), &self.stated, computed);
        match self.checks.iter().find(|check| !check.matches) {
            None => {
                self.stage = Stage::Proven { digest };
                Proof::Matches
            }
            Some(check) => {
                let again = self.mismatched == Some(digest);
                self.mismatched = Some(digest);
                Proof::Differs { check: check.clone(), again }
            }
        }
    }

    /// Whether a statement waits for its bytes to be hashed in order.
    pub(super) fn to_hash(&self) -> bool {
        self.computed.is_none() && self.stated.iter().any(verify::is_serial)
    }

    pub(super) fn piece_bytes(&self, piece: u64) -> u64 {
        self.size.map_or(PIECE_BYTES, |size| piece_range(size, piece).len())
    }

    /// Pieces that still have to be asked for.
    pub(super) fn to_ask(&self) -> u64 {
        self.pieces.count(Place::Waiting) + self.pieces.count(Place::Parked)
    }

    /// The next run of waiting pieces, at most `count_max`; where sums need an order, one that continues it.
    pub(super) fn next_run(&mut self, count_max: u64) -> Option<Run> {
        if self.stretches.is_empty() {
            return self.pieces.next_run(count_max);
        }
        self.stretches.next_at_front(&self.pieces, count_max)
    }

    /// As [`File::next_run`], ahead of an ordered sum: what it brings is read back.
    pub(super) fn next_run_ahead(&mut self, count_max: u64) -> Option<Run> {
        self.stretches.next_ahead(&self.pieces, count_max)
    }

    /// Whether its content is asked in one reply.
    pub(super) fn streams(&self) -> bool {
        self.ranges == Ranges::Refused || self.size.is_none()
    }

    pub(super) fn sealed(&self) -> Option<Digest> {
        match self.stage {
            Stage::Sealed { digest } => Some(digest),
            _ => None,
        }
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        match self.stage {
            Stage::Proven { digest } | Stage::Sealing { digest } | Stage::Sealed { digest } => Some(digest),
            _ => None,
        }
    }
}
