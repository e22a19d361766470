//! Proofs of pieces, all different.

use dray::verify::PieceProof;

/// `pieces` of them.
pub(crate) fn proofs(pieces: u64) -> Vec<PieceProof> {
    let proof = |i: u64| PieceProof { cv: *blake3::hash(&i.to_le_bytes()).as_bytes(), crc64nvme: i << 40, crc32: 7 };
    (0..pieces).map(proof).collect()
}
