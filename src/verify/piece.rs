//! Hashes one piece while its slab is hot.

use blake3::hazmat::HasherExt;

use super::{Crc32, Cv, PieceProof, Sums, wide};
use crate::units::{self, PIECE_BYTES};

/// Hashes piece `index` of a file of `size` bytes (`None`: not known yet).
///
/// The only piece of a file of at most one piece gets the file's root hash, every other its subtree hash.
/// With `None`, piece 0 is taken as part of a longer file. BLAKE3 marks its root, so only the stream's next
/// byte or its end tells whether that holds: a caller waits for one of them before it proves piece 0, and
/// calls [`prove_sole_piece`] at the end.
///
/// # Panics
/// When `bytes` cannot be that piece: empty, longer than a piece, or not the length `size` gives it.
pub fn prove_piece(size: Option<u64>, index: u64, bytes: &[u8], sums: Sums) -> PieceProof {
    let hasher = absorb(index, bytes);
    let Some(size) = size else {
        return proof(hasher.finalize_non_root(), bytes, sums);
    };
    let range = units::piece_range(size, index);
    assert_eq!(range.len(), wide(bytes.len()), "piece {index} of {size} bytes");
    let cv = if PIECE_BYTES < size { hasher.finalize_non_root() } else { hasher.finalize().into() };
    proof(cv, bytes, sums)
}

/// Hashes the only piece of a stream that turned out to end with it: as [`prove_piece`] with its length as size.
///
/// # Panics
/// When `bytes` is empty (such a stream has no pieces) or longer than a piece.
pub fn prove_sole_piece(bytes: &[u8], sums: Sums) -> PieceProof {
    proof(absorb(0, bytes).finalize().into(), bytes, sums)
}

/// A hasher that has read `bytes` at the offset of piece `index`.
fn absorb(index: u64, bytes: &[u8]) -> blake3::Hasher {
    assert!(!bytes.is_empty() && wide(bytes.len()) <= PIECE_BYTES, "a piece of {} bytes", bytes.len());
    assert!(index < units::piece_count(1 << 63), "piece {index} starts beyond 2^63 bytes");
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index * PIECE_BYTES).update(bytes);
    hasher
}

fn proof(cv: Cv, bytes: &[u8], sums: Sums) -> PieceProof {
    PieceProof {
        cv,
        crc64nvme: if sums.crc64nvme { crc_fast::crc64_nvme(bytes) } else { 0 },
        crc32: match sums.crc32 {
            Some(Crc32::Castagnoli) => crc_fast::crc32_iscsi(bytes),
            Some(Crc32::IsoHdlc) => crc_fast::crc32_iso_hdlc(bytes),
            None => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Sums = Sums { crc64nvme: true, crc32: Some(Crc32::Castagnoli) };

    #[test]
    fn the_only_piece_hashes_to_the_digest_of_the_file() {
        for size in [1, 63, 1023, 1024, 1025, 2048, 65_537, (1 << 20) - 1, 1 << 20] {
            let bytes = vec![7; size];
            let proof = prove_piece(Some(wide(size)), 0, &bytes, ALL);
            assert_eq!(proof.cv, *blake3::hash(&bytes).as_bytes(), "{size} bytes");
        }
    }

    #[test]
    fn piece_0_of_a_stream_depends_on_what_follows() {
        for size in [1, 1024, 1025, 1 << 20] {
            let bytes = vec![3; size];
            let sole = prove_sole_piece(&bytes, ALL);
            assert_eq!(sole, prove_piece(Some(wide(size)), 0, &bytes, ALL), "{size} bytes");
            assert_ne!(sole.cv, prove_piece(None, 0, &bytes, ALL).cv, "{size} bytes");
        }
        let whole = vec![3; 1 << 20];
        assert_eq!(prove_piece(None, 0, &whole, ALL), prove_piece(Some((1 << 20) + 1), 0, &whole, ALL));
    }

    #[test]
    fn later_pieces_hash_the_same_with_and_without_a_known_size() {
        let bytes = vec![9; 1000];
        let size = 5 * PIECE_BYTES + 1000;
        assert_eq!(prove_piece(Some(size), 5, &bytes, ALL), prove_piece(None, 5, &bytes, ALL));
    }

    #[test]
    fn sums_nobody_asked_for_stay_zero() {
        let proof = prove_piece(Some(9), 0, b"123456789", Sums::default());
        assert_eq!((proof.crc64nvme, proof.crc32), (0, 0));
        assert!(proof.carries(Sums::default()) && !proof.carries(ALL));
        let proof = prove_piece(Some(9), 0, b"123456789", ALL);
        assert!(proof.carries(ALL));
        // The check values of the CRC catalogue.
        assert_eq!((proof.crc64nvme, proof.crc32), (0xae8b_1486_0a79_9888, 0xe306_9283));
        let iso = Sums { crc64nvme: false, crc32: Some(Crc32::IsoHdlc) };
        assert_eq!(prove_piece(Some(9), 0, b"123456789", iso).crc32, 0xcbf4_3926);
    }

    #[test]
    #[should_panic(expected = "piece 1 of 1048577 bytes")]
    fn a_piece_of_the_wrong_length_is_a_defect() {
        prove_piece(Some(PIECE_BYTES + 1), 1, b"xx", ALL);
    }

    #[test]
    #[should_panic(expected = "a piece of 0 bytes")]
    fn an_empty_piece_is_a_defect() {
        prove_piece(None, 0, b"", ALL);
    }

    #[test]
    #[should_panic(expected = "starts beyond 2^63 bytes")]
    fn a_piece_beyond_any_file_is_a_defect() {
        prove_piece(None, u64::MAX, b"x", ALL);
    }
}
