//! The file `tree.b3`: the piece hashes of a sealed model, so that `dray verify` can name the bad pieces.
//!
//! In: bytes or a [`Tree`]. Out: the other. Pure. Byte table: docs/journal.md.
//! Holds: a tree says nothing of its own; [`Tree::proves`] holds it against the receipt's digests.

use super::{Cv, wide};
use crate::manifest::Digest;
use crate::units;

const MAGIC: [u8; 8] = *b"dray-b3t";
const VERSION: u32 = 1;
const CV_BYTES: usize = 32;
const HEAD_BYTES: usize = 24;
const COUNT_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

/// The piece hashes of a model's files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// One list of hashes per file, in the receipt's order; an empty file has none.
    pub files: Vec<Vec<Cv>>,
}

/// Why a `tree.b3` cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Not a tree file.
    #[error("not a tree file")]
    WrongFormat,
    /// Written by another version of dray.
    #[error("tree file has version {found}, not {VERSION}")]
    WrongVersion {
        /// The version in its head.
        found: u32,
    },
    /// Its length or its checksum is wrong.
    #[error("tree file is damaged")]
    Damaged,
}

impl Tree {
    /// Whether these are the hashes of exactly these files (size and digest, in order): each list merges to its digest.
    pub fn proves(&self, files: &[(u64, Digest)]) -> bool {
        let proves_one = |(cvs, (size, digest)): (&Vec<Cv>, &(u64, Digest))| {
            units::piece_count(*size) == wide(cvs.len()) && super::root_of(*size, cvs.iter().copied()) == *digest
        };
        self.files.len() == files.len() && self.files.iter().zip(files).all(proves_one)
    }
}

/// The bytes of `tree.b3`.
pub fn encode(tree: &Tree) -> Vec<u8> {
    let pieces: usize = tree.files.iter().map(Vec::len).sum();
    let len = HEAD_BYTES + tree.files.len() * COUNT_BYTES + pieces * CV_BYTES + CRC_BYTES;
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&wide(tree.files.len()).to_le_bytes());
    for cvs in &tree.files {
        bytes.extend_from_slice(&wide(cvs.len()).to_le_bytes());
    }
    for cv in tree.files.iter().flatten() {
        bytes.extend_from_slice(cv);
    }
    let crc = crc_fast::crc32_iscsi(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads `tree.b3` back. Every count is held against the input's length before anything is allocated for it.
///
/// # Errors
/// Any [`TreeError`]; without a tree `dray verify` works from the digests alone.
pub fn decode(bytes: &[u8]) -> Result<Tree, TreeError> {
    let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(TreeError::WrongFormat)?;
    let mut reader = Reader(body);
    if reader.array() != Some(MAGIC) {
        return Err(TreeError::WrongFormat);
    }
    let version = u32::from_le_bytes(reader.array().ok_or(TreeError::Damaged)?);
    if version != VERSION {
        return Err(TreeError::WrongVersion { found: version });
    }
    let intact = crc_fast::crc32_iscsi(body) == u32::from_le_bytes(*crc);
    let files = if intact { reader.files() } else { None };
    files.map(|files| Tree { files }).ok_or(TreeError::Damaged)
}

/// The bytes not read yet. `None`: there are fewer than asked for.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// `count` items of `N` bytes each.
    fn table<const N: usize>(&mut self, count: [u8; COUNT_BYTES]) -> Option<&'a [[u8; N]]> {
        let count = usize::try_from(u64::from_le_bytes(count)).ok()?;
        let (table, rest) = self.0.split_at_checked(count.checked_mul(N)?)?;
        self.0 = rest;
        Some(table.as_chunks().0)
    }

    /// Everything behind the version, to the last byte.
    fn files(mut self) -> Option<Vec<Vec<Cv>>> {
        let reserved = self.array()? == [0; 4];
        let count = self.array()?;
        let counts = self.table(count)?;
        let files = counts.iter().map(|count| self.table(*count).map(<[Cv]>::to_vec)).collect::<Option<_>>()?;
        (reserved && self.0.is_empty()).then_some(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{self, Sums};

    const CONTENTS: [&[u8]; 4] = [b"", b"config", &[1; (2 << 20) + 9], b"config"];

    fn model() -> Tree {
        let cvs = |content: &&[u8]| {
            let prove =
                |(index, piece)| verify::prove_piece(Some(wide(content.len())), index, piece, Sums::default()).cv;
            (0..).zip(content.chunks(1 << 20)).map(prove).collect()
        };
        Tree { files: CONTENTS.iter().map(cvs).collect() }
    }

    /// What a receipt says of the model.
    fn told() -> Vec<(u64, Digest)> {
        CONTENTS.iter().map(|content| (wide(content.len()), Digest(*blake3::hash(content).as_bytes()))).collect()
    }

    /// `bytes` with the checksum its content asks for.
    fn resummed(mut bytes: Vec<u8>) -> Vec<u8> {
        let body = bytes.len() - CRC_BYTES;
        let crc = crc_fast::crc32_iscsi(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn a_tree_reads_back_as_it_was_written() {
        for tree in [Tree::default(), Tree { files: vec![vec![]; 3] }, model()] {
            assert_eq!(decode(&encode(&tree)), Ok(tree));
        }
    }

    #[test]
    fn no_changed_byte_and_no_cut_passes() {
        let bytes = encode(&model());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            let expected = match at {
                0..8 => TreeError::WrongFormat,
                8..12 => TreeError::WrongVersion { found: 1 ^ (0x10 << (8 * (at - 8))) },
                _ => TreeError::Damaged,
            };
            assert_eq!(decode(&changed), Err(expected), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
            let mended = decode(&resummed(changed)).is_ok_and(|tree| tree.proves(&told()));
            assert!(!mended || bytes.len() - CRC_BYTES <= at, "byte {at}, checksum mended");
        }
        assert_eq!(decode(&resummed([bytes.as_slice(), &[0]].concat())), Err(TreeError::Damaged));
    }

    #[test]
    fn counts_beyond_the_input_are_refused_before_anything_is_allocated() {
        let bytes = encode(&model());
        for (at, count) in
            [16, 24, 48].into_iter().flat_map(|at| [5, 1 << 32, u64::MAX / 8, u64::MAX].map(|count| (at, count)))
        {
            let mut hostile = bytes.clone();
            hostile[at..at + 8].copy_from_slice(&count.to_le_bytes());
            assert_eq!(decode(&resummed(hostile)), Err(TreeError::Damaged), "{count} at byte {at}");
        }
    }

    #[test]
    fn a_tree_proves_only_the_files_its_hashes_merge_to() {
        assert!(model().proves(&told()));
        let mut swapped = model();
        swapped.files[2].swap(0, 1);
        assert!(!swapped.proves(&told()));
        let mut longer = told();
        longer[1].0 += 1 << 20;
        assert!(!model().proves(&longer));
        assert!(!model().proves(&told()[..3]));
        assert!(Tree::default().proves(&[]));
    }
}
