//! Merges piece hashes into the digest of the file: BLAKE3's left-balanced tree above the pieces.

use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::{Cv, PieceProof};
use crate::manifest::Digest;
use crate::units;

/// The ordinary BLAKE3 digest of a file of `size` bytes from the proofs of all its pieces in order.
///
/// # Panics
/// When the number of proofs is not the number of pieces.
pub fn root(size: u64, proofs: &[PieceProof]) -> Digest {
    root_of(size, proofs.iter().map(|proof| proof.cv))
}

/// As [`root`], from the hashes alone. Keeps one hash per level of the tree.
///
/// # Panics
/// When the number of hashes is not the number of pieces.
pub fn root_of(size: u64, cvs: impl Iterator<Item = Cv>) -> Digest {
    let mut spine = Spine::default();
    cvs.for_each(|cv| spine.push(cv));
    assert_eq!(spine.pieces, units::piece_count(size), "pieces of a file of {size} bytes");
    spine.root()
}

/// The complete subtrees to the left of the next piece, largest first, and the newest piece on top.
#[derive(Default)]
struct Spine {
    subtrees: Vec<Cv>,
    pieces: u64,
}

impl Spine {
    /// Adds the next piece. Merging waits until a further piece shows that the merge is not the root's.
    fn push(&mut self, cv: Cv) {
        let subtrees_complete = usize::try_from(self.pieces.count_ones()).unwrap_or(usize::MAX);
        while subtrees_complete < self.subtrees.len() {
            if let (Some(right), Some(left)) = (self.subtrees.pop(), self.subtrees.pop()) {
                self.subtrees.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
            }
        }
        self.subtrees.push(cv);
        self.pieces += 1;
    }

    fn root(mut self) -> Digest {
        let Some(mut right) = self.subtrees.pop() else {
            return Digest(blake3::hash(b"").into());
        };
        while let Some(left) = self.subtrees.pop() {
            if self.subtrees.is_empty() {
                return Digest(merge_subtrees_root(&left, &right, Mode::Hash).into());
            }
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        // The only piece: its hash is the root already.
        Digest(right)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::PIECE_BYTES;
    use crate::verify::{self, Sums};

    fn proofs(bytes: &[u8]) -> Vec<PieceProof> {
        let size = u64::try_from(bytes.len()).unwrap();
        let pieces = bytes.chunks(usize::try_from(PIECE_BYTES).unwrap());
        (0..).zip(pieces).map(|(index, piece)| verify::prove_piece(Some(size), index, piece, Sums::default())).collect()
    }

    /// The merged digest must be what one pass over the whole file gives.
    fn check(bytes: &[u8]) {
        let size = u64::try_from(bytes.len()).unwrap();
        assert_eq!(root(size, &proofs(bytes)).0, *blake3::hash(bytes).as_bytes(), "{size} bytes");
    }

    /// The tree as the paper defines it: the left part is the largest power of two that leaves something over.
    fn slow(cvs: &[Cv]) -> Cv {
        if let [only] = cvs {
            return *only;
        }
        let (left, right) = cvs.split_at(cvs.len().next_power_of_two() / 2);
        merge_subtrees_non_root(&slow(left), &slow(right), Mode::Hash)
    }

    fn slow_root(cvs: &[Cv]) -> Cv {
        let (left, right) = cvs.split_at(cvs.len().next_power_of_two() / 2);
        merge_subtrees_root(&slow(left), &slow(right), Mode::Hash).into()
    }

    #[test]
    fn an_empty_file_has_no_pieces_and_the_digest_of_nothing() {
        assert_eq!(root(0, &[]).to_hex(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }

    #[test]
    fn pieces_merge_to_the_whole_files_digest_at_every_boundary() {
        let mib = 1 << 20;
        for size in
            [0, 1, 1023, 1024, 1025, mib - 1, mib, mib + 1, 2 * mib, 2 * mib + 1, 3 * mib + 7, 5 * mib, 8 * mib - 1]
        {
            let bytes: Vec<u8> = (0..size).map(|i: usize| (i * 31 + i / 251).to_le_bytes()[0]).collect();
            check(&bytes);
        }
    }

    #[test]
    fn sixty_four_mebibytes_with_single_bytes_set_merge_to_the_digest() {
        let mut bytes = vec![0; 64 << 20];
        check(&bytes);
        for at in [0, 1 << 20, (33 << 20) + 5, (64 << 20) - 1] {
            bytes[at] = 0xa5;
        }
        check(&bytes);
    }

    #[test]
    fn a_stream_of_unknown_size_merges_to_the_digest() {
        let bytes = vec![0x5a; (2 << 20) + 3];
        let pieces = bytes.chunks(1 << 20);
        let proofs: Vec<_> =
            (0..).zip(pieces).map(|(index, piece)| verify::prove_piece(None, index, piece, Sums::default())).collect();
        assert_eq!(root((2 << 20) + 3, &proofs).0, *blake3::hash(&bytes).as_bytes());
    }

    #[test]
    fn the_spine_merges_as_the_recursive_tree_does() {
        for count in (2..=130_u64).chain([1000, 1023, 1024, 1025, 4097]) {
            let cvs: Vec<Cv> = (0..count).map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect();
            assert_eq!(root_of(count * PIECE_BYTES, cvs.iter().copied()).0, slow_root(&cvs), "{count} pieces");
        }
    }

    #[test]
    fn the_spine_stays_as_short_as_the_tree_is_high() {
        let mut spine = Spine::default();
        for _ in 0..100_000 {
            spine.push([1; 32]);
            assert!(spine.subtrees.len() <= 18);
        }
    }

    #[test]
    #[should_panic(expected = "pieces of a file of 1048577 bytes")]
    fn a_missing_piece_is_a_defect() {
        root_of(PIECE_BYTES + 1, [[0; 32]].into_iter());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_bytes_merge_to_their_digest(size in 0..6_usize << 20, fill: u8, marks: Vec<(prop::sample::Index, u8)>) {
            let mut bytes = vec![fill; size];
            for (at, mark) in marks {
                if let Some(at) = size.checked_sub(1).map(|_| at.index(size)) {
                    bytes[at] = mark;
                }
            }
            check(&bytes);
        }
    }
}
