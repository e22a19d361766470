//! The journal's format: fixed-size records, chained and checksummed. Pure. Byte table: docs/journal.md.

use crate::manifest::{Digest, FileId};
use crate::verify::PieceProof;

/// Pieces one record can carry.
pub const PROOFS_PER_RECORD: usize = 8;

/// One claim. A record in the journal means durable, nothing weaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// From here on `file` is this number's content. Declared before its first pieces; again after a restart of the file.
    File { file: u32, id: FileId, size: Option<u64> },
    /// Consecutive pieces of `file` from `first` on are durable with these proofs (1 to 8).
    Pieces { file: u32, first: u64, proofs: Vec<PieceProof> },
    /// Nothing claimed of `file` before counts any more (poisoned, changed, or refuted).
    Dropped { file: u32 },
    /// `file` has its final name and this digest.
    Sealed { file: u32, size: u64, digest: Digest },
    /// An orderly stop: what is claimed was synced by a process that lived to say so.
    Clean,
}
