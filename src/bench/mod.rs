//! The harness: what this machine allows, what dray makes of it, what its peers make of it, and pages that show it.
//!
//! In: an origin, a directory, the programs to compare. Out: a [`BenchReport`], tables and pages.
//! Holds: every figure is a median of several runs in turn; nothing is asserted about time.

pub mod child;
pub mod contender;
pub mod floors;
pub mod ground;
pub mod landed;
pub mod machine;
pub mod nearest;
pub mod own;
pub mod page;
pub mod peers;
pub mod recorder;
pub mod report;
pub mod rounds;
mod stop;
pub mod table;
mod threads;
pub mod trace;

pub use recorder::Recorder;
pub use report::{BenchReport, Kind, Row, SCHEMA, Sample, Spread, Work};
pub use stop::Stop;
