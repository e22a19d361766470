//! An origin with a seeded temper: versioned objects, and a swarm of faults of which each seed draws some.

use std::time::Duration;

use crate::error::FailureKind;
use crate::manifest::{Ranges, Stated};
use crate::schedule::rng::Rng;
use crate::schedule::{FilePlan, Now};
use crate::sim::content::Edition;
use crate::units::{PIECE_BYTES, piece_count};

#[derive(Debug)]
pub(super) struct Object {
    pub(super) version: u32,
    pub(super) sizes: Vec<u64>,
    /// Serves ranges; else every reply is the whole object.
    pub(super) ranged: bool,
    /// Says its size before the body.
    pub(super) sized: bool,
    /// What is stated about it.
    pub(super) stated: Statement,
    /// How many ranged pieces were delivered wrong.
    pub(super) flips: u64,
}

/// What the origin says of an object's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statement {
    None,
    /// A digest that pieces fold to.
    Digest,
    /// A sum that needs the bytes in order.
    Sha256,
    Both,
}

/// What a swarm can switch on; each a rate per thousand requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Reset,
    ShortBody,
    Stall,
    SlowDown,
    SlowDownFor,
    Unavailable,
    UnavailableFor,
    Whole,
    WrongRange,
    Flip,
    Expired,
    Unreachable,
    Denied,
    Missing,
    Change,
    /// One server still has another version: it says "changed" though nothing did.
    Lagging,
}

pub(super) const FAULTS: [Fault; 16] = [
    Fault::Reset,
    Fault::ShortBody,
    Fault::Stall,
    Fault::SlowDown,
    Fault::SlowDownFor,
    Fault::Unavailable,
    Fault::UnavailableFor,
    Fault::Whole,
    Fault::WrongRange,
    Fault::Flip,
    Fault::Expired,
    Fault::Unreachable,
    Fault::Denied,
    Fault::Missing,
    Fault::Change,
    Fault::Lagging,
];

/// How a reply goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fate {
    /// Time to the first byte, or to the failure.
    pub(super) latency: Duration,
    /// Pieces that arrive before the end.
    pub(super) pieces: u64,
    /// How it ends.
    pub(super) failure: Option<FailureKind>,
    /// A piece (counted from the reply's first) whose bytes are wrong.
    pub(super) flip: Option<(u64, u64)>,
    /// Silence before the failure shows.
    pub(super) silence: Duration,
}

#[derive(Debug)]
pub(super) struct SimOrigin {
    pub(super) objects: Vec<Object>,
    pub(super) rates: Vec<(Fault, u64)>,
    /// Exactly this request (counted from 1) meets this fault.
    pub(super) fail_at: Option<(u64, Fault)>,
    /// Nobody answers before this.
    pub(super) dead_until: Now,
    pub(super) requests: u64,
    pub(super) seen: Vec<Fault>,
    pub(super) stall_timeout: Duration,
    pub(super) rng: Rng,
}

impl SimOrigin {
    pub(super) fn size(&self, edition: Edition) -> u64 {
        let versions = usize::try_from(edition.version).unwrap_or(usize::MAX);
        self.objects[object_slot(edition)].sizes.get(versions).copied().unwrap_or(0)
    }

    pub(super) fn current(&self, object: u32) -> Edition {
        Edition { object, version: self.objects[slot(object)].version }
    }

    /// What a listing says of `object` now.
    pub(super) fn plan(&self, object: u32) -> FilePlan {
        let edition = self.current(object);
        let state = &self.objects[slot(object)];
        let size = self.size(edition);
        FilePlan {
            id: edition.id(),
            name: format!("file-{object}"),
            size: state.sized.then_some(size),
            ranges: if state.sized { Ranges::Assumed } else { Ranges::Refused },
            stated: match state.stated {
                Statement::None => Vec::new(),
                Statement::Digest => vec![Stated::Blake3(edition.digest(size))],
                Statement::Sha256 => vec![edition.sha256(size)],
                Statement::Both => vec![edition.sha256(size), Stated::Blake3(edition.digest(size))],
            },
            held: Vec::new(),
            sealed: false,
            computed: Vec::new(),
        }
    }

    /// The fault that this request meets, if any.
    fn draw(&mut self, now: Now) -> Option<Fault> {
        self.requests += 1;
        let planned = self.fail_at.filter(|(request, _)| *request == self.requests).map(|(_, fault)| fault);
        let mut fault = planned;
        let mut draw = self.rng.below(1000);
        for (drawn, rate) in &self.rates {
            if draw < *rate {
                fault = fault.or(Some(*drawn));
                break;
            }
            draw -= rate;
        }
        let fault = if now < self.dead_until { Some(Fault::Unreachable) } else { fault };
        if let Some(fault) = fault.filter(|fault| !self.seen.contains(fault)) {
            self.seen.push(fault);
        }
        fault
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(500 + self.rng.below(60_000))
    }

    /// Answers a request for `pieces` pieces of `edition`; `ranged` when it asked for a range.
    pub(super) fn answer(&mut self, now: Now, edition: Edition, pieces: u64, ranged: bool) -> Fate {
        let fault = self.draw(now);
        let slot = object_slot(edition);
        if fault == Some(Fault::Change) {
            self.change(slot);
        }
        let mut fate = Fate { latency: self.latency(), pieces, failure: None, flip: None, silence: Duration::ZERO };
        let part = self.rng.below(pieces + 1);
        let after = Duration::from_millis(self.rng.below(5000));
        if fault == Some(Fault::Unreachable) {
            return refuse(fate, FailureKind::Unreachable);
        }
        if self.current(edition.object) != edition {
            return refuse(fate, FailureKind::Changed);
        }
        if ranged && !self.objects[slot].ranged {
            return refuse(fate, FailureKind::RangeIgnored);
        }
        match fault {
            None | Some(Fault::Change | Fault::Unreachable) => fate,
            Some(Fault::Reset | Fault::ShortBody) => Fate { pieces: part, failure: Some(FailureKind::Broken), ..fate },
            Some(Fault::Stall) => {
                Fate { pieces: part, failure: Some(FailureKind::Stalled), silence: self.stall_timeout, ..fate }
            }
            Some(Fault::SlowDown) => refuse(fate, FailureKind::Throttled { retry_after: None }),
            Some(Fault::SlowDownFor) => refuse(fate, FailureKind::Throttled { retry_after: Some(after) }),
            Some(Fault::Unavailable) => refuse(fate, FailureKind::Unavailable { retry_after: None }),
            Some(Fault::UnavailableFor) => refuse(fate, FailureKind::Unavailable { retry_after: Some(after) }),
            Some(Fault::Whole) if ranged => refuse(fate, FailureKind::RangeIgnored),
            Some(Fault::Whole) => fate,
            Some(Fault::WrongRange) => refuse(fate, FailureKind::BadReply),
            Some(Fault::Flip) => {
                // Without a statement nobody can tell a byte changed on the wire.
                if self.objects[slot].stated != Statement::None && 0 < pieces {
                    self.objects[slot].flips += 1;
                    fate.flip = Some((self.rng.below(pieces), self.objects[slot].flips));
                }
                fate
            }
            Some(Fault::Expired) => refuse(fate, FailureKind::Expired),
            Some(Fault::Denied) => refuse(fate, FailureKind::Denied),
            Some(Fault::Missing) => refuse(fate, FailureKind::Missing),
            Some(Fault::Lagging) => refuse(fate, FailureKind::Changed),
        }
    }

    /// Answers a request that carries no content (renewal, restat).
    pub(super) fn answer_control(&mut self, now: Now) -> (Duration, Option<FailureKind>) {
        let latency = self.latency();
        let failure = match self.draw(now) {
            Some(Fault::Reset | Fault::ShortBody | Fault::WrongRange) => Some(FailureKind::Broken),
            Some(Fault::Stall) => Some(FailureKind::Stalled),
            Some(Fault::SlowDown | Fault::SlowDownFor) => Some(FailureKind::Throttled { retry_after: None }),
            Some(Fault::Unavailable | Fault::UnavailableFor) => Some(FailureKind::Unavailable { retry_after: None }),
            Some(Fault::Unreachable) => Some(FailureKind::Unreachable),
            Some(Fault::Denied) => Some(FailureKind::Denied),
            Some(Fault::Whole | Fault::Flip | Fault::Expired | Fault::Missing | Fault::Change | Fault::Lagging)
            | None => None,
        };
        (latency, failure)
    }

    fn change(&mut self, slot: usize) {
        let size = draw_size(&mut self.rng, 6);
        let object = &mut self.objects[slot];
        object.version += 1;
        object.sizes.push(size);
    }
}

fn refuse(fate: Fate, failure: FailureKind) -> Fate {
    Fate { pieces: 0, failure: Some(failure), ..fate }
}

pub(super) fn slot(object: u32) -> usize {
    usize::try_from(object).unwrap_or(usize::MAX)
}

fn object_slot(edition: Edition) -> usize {
    slot(edition.object)
}

/// A size of at most `pieces_max` pieces, often on or next to a piece's edge.
pub(super) fn draw_size(rng: &mut Rng, pieces_max: u64) -> u64 {
    let pieces = rng.below(pieces_max + 1);
    let size = match rng.below(4) {
        0 => pieces * PIECE_BYTES,
        1 => pieces * PIECE_BYTES + 1,
        2 => (pieces * PIECE_BYTES).saturating_sub(1),
        _ => pieces * PIECE_BYTES + rng.below(PIECE_BYTES),
    };
    size.min(pieces_max * PIECE_BYTES)
}

pub(super) fn pieces_of(size: u64) -> u64 {
    piece_count(size)
}
