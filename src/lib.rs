//! Takes model weights from object stores to local disk: parallel, proven, resumable, in bounded memory.
//!
//! [`engine::pull`] is the whole of it; [`cli`] is the command line on top. docs/architecture.md has the map.

#![deny(unsafe_code, missing_docs, unreachable_pub)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::let_underscore_must_use, clippy::cast_possible_truncation)
)]

pub mod audit;
pub mod bench;
pub mod cli;
#[expect(unsafe_code, reason = "memory that the kernel writes from: each block has its argument")]
pub mod disk;
pub mod engine;
pub mod error;
pub mod formats;
pub mod journal;
pub mod limits;
pub mod manifest;
pub mod origin;
pub mod plan;
pub mod report;
pub mod resolve;
pub mod schedule;
pub mod secret;
#[cfg(feature = "sim")]
pub mod sim;
pub mod units;
pub mod unpack;
pub mod uri;
pub mod verify;
pub mod wire;

pub use engine::{Outcome, Pull, pull};
pub use error::Error;
