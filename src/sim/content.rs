//! Symbolic content: a piece is a stamp of object, version, index and damage; its proof is a hash of what its sectors hold.

use sha2::Digest as _;

use crate::manifest::{Digest, FileId, Stated};
use crate::units::piece_count;
use crate::verify::{self, PieceProof};

/// Sectors of a piece: a write can be torn between them.
pub(super) const SECTORS: usize = 2;
/// Bytes of a sector of a data file: one stamp.
pub(super) const SECTOR_BYTES: usize = 8;
/// Bytes that stand for one piece on the simulated disk.
pub(super) const PIECE_ON_DISK: u64 = 16;

/// What a sector of a data file holds. Zero is what was never written.
pub(super) type Stamp = u64;

/// Which version of which object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edition {
    pub(super) object: u32,
    pub(super) version: u32,
}

impl Edition {
    /// The stamp of one piece; `flip` other than 0 is a byte changed on the way.
    pub(super) fn stamp(self, piece: u64, flip: u64) -> Stamp {
        (u64::from(self.object) + 1) << 52 | u64::from(self.version) << 40 | (piece & 0xffff_ffff) << 8 | (flip & 0xff)
    }

    pub(super) fn id(self) -> FileId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.object.to_le_bytes());
        id[4..8].copy_from_slice(&self.version.to_le_bytes());
        FileId(id)
    }

    pub(super) fn of(id: FileId) -> Self {
        let word = |at: usize| u32::from_le_bytes([id.0[at], id.0[at + 1], id.0[at + 2], id.0[at + 3]]);
        Self { object: word(0), version: word(4) }
    }

    /// The digest of this version as it is at the origin, with `size` bytes.
    pub(super) fn digest(self, size: u64) -> Digest {
        let proofs: Vec<PieceProof> =
            (0..piece_count(size)).map(|piece| proof(&sectors(self.stamp(piece, 0)))).collect();
        verify::root(size, &proofs)
    }

    /// What the origin states of this version's bytes in order.
    pub(super) fn sha256(self, size: u64) -> Stated {
        let pieces: Vec<_> = (0..piece_count(size)).map(|piece| sectors(self.stamp(piece, 0))).collect();
        sha256(pieces.iter().map(<[u8; SECTORS * SECTOR_BYTES]>::as_slice))
    }
}

/// What stands for SHA-256 of a file's bytes in order.
pub(super) fn sha256<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Stated {
    let mut hasher = sha2::Sha256::new();
    pieces.for_each(|piece| hasher.update(piece));
    Stated::Sha256(hasher.finalize().into())
}

/// A whole piece on disk.
pub(super) fn sectors(stamp: Stamp) -> [u8; SECTORS * SECTOR_BYTES] {
    let mut bytes = [0; SECTORS * SECTOR_BYTES];
    bytes[..SECTOR_BYTES].copy_from_slice(&stamp.to_le_bytes());
    bytes[SECTOR_BYTES..].copy_from_slice(&stamp.to_le_bytes());
    bytes
}

/// The proof of what a piece's sectors hold.
pub(super) fn proof(bytes: &[u8]) -> PieceProof {
    PieceProof { cv: *blake3::hash(bytes).as_bytes(), crc64nvme: 0, crc32: 0 }
}
