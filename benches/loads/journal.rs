//! The journal of one file, piece after piece.

use dray::journal::record::{PROOFS_PER_RECORD, Record};
use dray::manifest::FileId;
use dray::verify::PieceProof;

/// The records of a file of `pieces` pieces.
pub(crate) fn records(pieces: u64) -> Vec<Record> {
    let proof = PieceProof { cv: [0xc5; 32], crc64nvme: 7, crc32: 9 };
    let some = |first| Record::Pieces { file: 0, first, proofs: vec![proof; PROOFS_PER_RECORD] };
    let file = Record::File { file: 0, id: FileId([1; 16]), size: Some(pieces << 20) };
    std::iter::once(file).chain((0..pieces).step_by(PROOFS_PER_RECORD).map(some)).collect()
}
