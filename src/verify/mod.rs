//! Proof of content: piece hashes as BLAKE3 subtrees, their merge into the ordinary digest, and foldable checksums.
//!
//! Pure: bytes and numbers in, hashes and verdicts out.

use crate::manifest::{Digest, Stated};

/// A BLAKE3 chaining value of one piece (or the root hash when the file has only one piece).
pub type Cv = [u8; 32];

/// What was computed of one piece while its slab was hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceProof {
    /// The piece's subtree hash.
    pub cv: Cv,
    /// CRC-64/NVME of the piece's bytes; 0 when no statement asks for it.
    pub crc64nvme: u64,
    /// CRC-32C of the piece's bytes; 0 when no statement asks for it.
    pub crc32c: u32,
}

/// Which foldable checksums a file's statements ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// CRC-64/NVME is stated.
    pub crc64nvme: bool,
    /// CRC-32C is stated.
    pub crc32c: bool,
}

/// What a statement came to when it was compared with the computed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The statement's name: `crc64nvme`, `crc32c`, `blake3`.
    pub name: &'static str,
    /// What was stated, as the store writes it.
    pub stated: String,
    /// Whether the computed value equals it.
    pub matches: bool,
}

impl Sums {
    /// The sums that `stated` needs.
    pub fn of(stated: &[Stated]) -> Self {
        Self {
            crc64nvme: stated.iter().any(|s| matches!(s, Stated::Crc64Nvme(_))),
            crc32c: stated.iter().any(|s| matches!(s, Stated::Crc32c(_))),
        }
    }
}

/// Hashes piece `index` of a file of `size` bytes (`None`: not known yet, then piece 0 is taken as part of a longer file).
pub fn prove_piece(size: Option<u64>, index: u64, bytes: &[u8], sums: Sums) -> PieceProof {
    let _ = (size, index, bytes, sums);
    todo!()
}

/// The ordinary BLAKE3 digest of a file of `size` bytes from the proofs of all its pieces in order.
pub fn root(size: u64, proofs: &[PieceProof]) -> Digest {
    let _ = (size, proofs);
    todo!()
}

/// Compares every statement with what the proofs fold to.
pub fn checks(size: u64, proofs: &[PieceProof], stated: &[Stated]) -> Vec<Check> {
    let _ = (size, proofs, stated);
    todo!()
}
