//! Takes model weights from object stores to local disk: parallel, proven, resumable, in bounded memory.

pub mod error;
pub mod journal;
pub mod limits;
pub mod manifest;
pub mod schedule;
pub mod secret;
pub mod units;
pub mod verify;
