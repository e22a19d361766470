//! Decides what to do next: which span to ask, what to sync, when to seal, when to stop.
//!
//! In: a list of [`FilePlan`]s, then [`Event`]s. Out: [`Action`]s that fit the bounds. Pure: no clock,
//! sockets, files or threads; `now` and the seed are arguments, so the simulator and the engine drive the same code.
//! Holds: a piece is in exactly one of waiting, in flight, written, durable; a piece is called durable only
//! after `SyncData` and then `Append` of its proof succeeded, except of a file that is kept without a journal
//! ([`Kept`]); the receipt is the last thing written.

mod action;
mod event;
mod failures;
mod files;
mod kept;
mod meter;
mod noted;
mod outcomes;
mod pieces;
mod react;
pub mod resume;
mod retry;
pub(crate) mod rng;
mod scheduler;
mod settle;
mod steps;
mod stretches;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use crate::limits::Limits;
use crate::manifest::{FileId, Ranges, Stated};
use crate::verify::PieceProof;

pub use action::Action;
pub use event::Event;
pub use kept::{Kept, kept};
pub use meter::{Brake, FileView, Progress, Shares};
pub use outcomes::{Outcome, Outcomes};
pub use scheduler::Scheduler;
pub use steps::{FILE_SEAL, FileStep, MODEL_SEAL, ModelStep};
pub use stretches::AHEAD_PIECES_MAX;

/// Virtual or real time since the run began.
pub type Now = Duration;

/// A file's place in the manifest.
pub type FileIndex = usize;

/// Spans that a run within `limits` may have outstanding when it begins.
pub fn first_width(limits: &Limits) -> usize {
    window::Window::new(limits).width()
}

/// One assignment of a range to a lane; never reused within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub u64);

/// A data sync and the journal records it makes true; never reused within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckpointId(pub u64);

/// What the scheduler must know of a file before it starts.
#[derive(Debug, Clone)]
pub struct FilePlan {
    /// Names content and place; a changed object gets another.
    pub id: FileId,
    /// What errors call it.
    pub name: String,
    /// Bytes; `None` until a stream without length has ended.
    pub size: Option<u64>,
    /// Whether ranges may be asked.
    pub ranges: Ranges,
    /// What the digest and sums are compared with before sealing.
    pub stated: Vec<Stated>,
    /// Proofs of pieces that are durable already, by piece index; empty for none.
    pub held: Vec<Option<PieceProof>>,
    /// Already under its final name with `held` complete: only the receipt needs it.
    pub sealed: bool,
    /// With `sealed`: what its bytes, read in order, make of the statements that need that.
    pub computed: Vec<Stated>,
}

/// Which connection a span may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// An idle one, if there is one.
    Any,
    /// A new one: the last try on an old one failed.
    Fresh,
}
