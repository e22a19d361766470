//! The minimal lane: one object from socket to disk by code that does nothing else.
//!
//! In: an object of known size, and how to ask for it. Out: a row for each set of steps; the file under its name.
//! Holds: the file gets its name after its last byte is synced; nothing is retried, journaled or scheduled; whatever
//! fails ends the run, and leaves nothing behind; a file that is there already is refused, and that of the round before
//! goes before the clock starts.

mod connect;
mod job;
mod landing;
mod ring;
mod run;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::IoWish;
use crate::manifest::{SafePath, Version};
use crate::wire::{self, Access};

pub use run::run;

/// What to fetch, how, and which steps of it.
#[derive(Debug)]
pub struct LaneWork {
    /// The source, without secrets.
    pub source: String,
    /// Where the object is.
    pub access: Access,
    /// Its bytes.
    pub size: u64,
    /// What pins it.
    pub version: Version,
    /// Trust and timeouts. Proxies and rate limits are not heard.
    pub wire: Arc<wire::Settings>,
    /// The folder it lands in.
    pub dest: PathBuf,
    /// Its name there.
    pub name: SafePath,
    /// Threads, or sets of threads where they block.
    pub lanes: usize,
    /// Connections of all lanes together: at least one of each.
    pub connections: usize,
    /// Bytes of one request: whole writes of 4 MiB.
    pub span_bytes: u64,
    /// The way to the disk.
    pub io: IoWish,
    /// Sets of steps to measure, in turn.
    pub steps: Vec<Steps>,
    /// Runs of each.
    pub rounds: u32,
}

/// Which steps are taken of each piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    /// It is received and dropped.
    Receive,
    /// It is received and hashed.
    ReceiveHash,
    /// It is received and written.
    ReceiveWrite,
    /// It is received, hashed and written.
    All,
}

impl Steps {
    fn hashes(self) -> bool {
        matches!(self, Self::ReceiveHash | Self::All)
    }

    fn writes(self) -> bool {
        matches!(self, Self::ReceiveWrite | Self::All)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::ReceiveHash => "receive + hash",
            Self::ReceiveWrite => "receive + write",
            Self::All => "receive + hash + write",
        }
    }
}
