//! A seeded world that drives the pure half: virtual time, an origin with faults, a disk that tears and forgets.
//!
//! In: a seed. Out: a [`Report`], or the promise that was broken. The same seed gives the same run, action by action.
//! It models content by stamps, not bytes; geometry, proofs, journal format and resume are the real ones.

mod content;
mod disk;
mod marks;
mod oracle;
mod origin;
mod process;
mod scenario;
mod steps;
mod torture;
mod trace;
mod world;

pub use marks::{Mark, Marks};
pub use torture::{Tally, every_crash, every_disk_failure, every_reply_failure, unreachable_origin};
pub use world::Canary;

/// How to run a seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Print every action and event to stderr.
    pub trace: bool,
    /// A bug to plant.
    pub canary: Option<Canary>,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Hash over every action with its time.
    pub trace_hash: u64,
    /// Processes it took.
    pub lives: u64,
    /// Happenings in all of them.
    pub steps: u64,
    /// Requests to the origin in all of them.
    pub requests: u64,
    /// Disk operations of the last one.
    pub disk_ops: u64,
    /// What all of them came across.
    pub marks: Marks,
}

/// Runs the scenario of `seed`.
///
/// # Errors
/// The promise that was broken, in words.
pub fn run(seed: u64, options: Options) -> Result<Report, String> {
    scenario::Scenario::of(seed, options).run()
}
