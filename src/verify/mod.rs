//! Proof of content: piece hashes as BLAKE3 subtrees, their merge into the ordinary digest, and foldable checksums.
//!
//! Pure: bytes and numbers in, hashes and verdicts out.
//! Holds: the root of a file's pieces is the ordinary BLAKE3 of its bytes, whatever order the pieces came in.

mod merge;
mod piece;
mod serial;
mod sums;
pub mod tree;

pub use merge::{root, root_of};
pub use piece::{prove_piece, prove_sole_piece};
pub use serial::{Serial, is_serial, needed, stretches};
pub use sums::{checks, stated_text};

use crate::manifest::{CompositeSum, Stated};

/// A BLAKE3 chaining value of one piece (or the root hash when the file has only one piece).
pub type Cv = [u8; 32];

/// What was computed of one piece while its slab was hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceProof {
    /// The piece's subtree hash.
    pub cv: Cv,
    /// CRC-64/NVME of the piece's bytes; 0 when no statement asks for it.
    pub crc64nvme: u64,
    /// The 32-bit CRC of the piece's bytes that a statement asks for ([`Sums::crc32`]); 0 when none does.
    pub crc32: u32,
}

impl PieceProof {
    /// Whether it has every sum that `sums` asks for; if not, the piece must be read again before they can be folded.
    ///
    /// A claim of an earlier run lacks a sum that the store states only now. A sum that is 0 by chance
    /// counts as missing: that costs one piece.
    pub fn carries(&self, sums: Sums) -> bool {
        (!sums.crc64nvme || self.crc64nvme != 0) && (sums.crc32.is_none() || self.crc32 != 0)
    }
}

/// Which foldable checksums a file's statements ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// CRC-64/NVME is stated.
    pub crc64nvme: bool,
    /// Which 32-bit CRC is stated. A store states one of them: of two, CRC-32C counts.
    pub crc32: Option<Crc32>,
}

/// The 32-bit CRCs that stores state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crc32 {
    /// CRC-32C, of Castagnoli.
    Castagnoli,
    /// CRC-32 of ISO-HDLC, as zip has it.
    IsoHdlc,
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
        let stated = serial::needed(stated);
        let has = |full: fn(&Stated) -> bool, part: fn(&CompositeSum) -> bool| {
            let folded = |one: &Stated| matches!(one, Stated::Composite(all) if part(&all.sum) && serial::folds(all));
            stated.iter().any(|one| full(one) || folded(one))
        };
        let castagnoli = has(|one| matches!(one, Stated::Crc32c(_)), |sum| matches!(sum, CompositeSum::Crc32c(_)));
        let iso_hdlc = has(|one| matches!(one, Stated::Crc32(_)), |sum| matches!(sum, CompositeSum::Crc32(_)));
        Self {
            crc64nvme: has(|one| matches!(one, Stated::Crc64Nvme(_)), |sum| matches!(sum, CompositeSum::Crc64Nvme(_))),
            crc32: if castagnoli { Some(Crc32::Castagnoli) } else { iso_hdlc.then_some(Crc32::IsoHdlc) },
        }
    }
}

/// A length as `u64`, the type of every size and offset here.
pub(crate) fn wide(len: usize) -> u64 {
    // No supported target has pointers of more than 64 bits.
    u64::try_from(len).unwrap_or(u64::MAX)
}
