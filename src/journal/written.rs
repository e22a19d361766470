//! The written list: which pieces are written and not durable yet, for a run that comes after a killed one. Pure.
//! Byte table: docs/journal.md.
//!
//! In: all such pieces with their proofs. Out: the bytes of one whole list and where they belong; [`decode`] gives the
//! latest list back. Holds: the list claims nothing: a reader takes a piece only when the disk itself gives its bytes.
//! Two places take turns, so that a list that is cut off in the middle leaves the one before.

use crate::manifest::FileId;
use crate::verify::{PieceProof, wide};

/// Pieces a list can name; more are left out.
pub const PIECES_MAX: usize = 256;

/// Bytes kept for one list; the other begins behind them.
pub const PLACE_BYTES: usize = 24 << 10;

const MAGIC: [u8; 8] = *b"dray-wrt";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 24;
const ENTRY_BYTES: usize = 80;
const CRC_BYTES: usize = 4;

const _: () = assert!(HEAD_BYTES + PIECES_MAX * ENTRY_BYTES + CRC_BYTES <= PLACE_BYTES);

/// A piece that is written, durable or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenPiece {
    /// Names the file's content and place.
    pub id: FileId,
    /// Bytes of the file.
    pub size: u64,
    /// Its index in the file.
    pub piece: u64,
    /// What was computed of the bytes that were written.
    pub proof: PieceProof,
}

/// Where list number `number` (from 1) belongs in the file, in bytes.
pub fn offset(number: u64) -> u64 {
    number % 2 * wide(PLACE_BYTES)
}

/// The bytes of list number `number`.
pub fn encode(number: u64, pieces: &[WrittenPiece]) -> Vec<u8> {
    let pieces = &pieces[..pieces.len().min(PIECES_MAX)];
    let mut bytes = Vec::with_capacity(HEAD_BYTES + pieces.len() * ENTRY_BYTES + CRC_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    // At most PIECES_MAX.
    bytes.extend(u32::try_from(pieces.len()).unwrap_or(0).to_le_bytes());
    bytes.extend(number.to_le_bytes());
    for WrittenPiece { id, size, piece, proof } in pieces {
        bytes.extend(id.0);
        bytes.extend(size.to_le_bytes());
        bytes.extend(piece.to_le_bytes());
        bytes.extend(proof.cv);
        bytes.extend(proof.crc64nvme.to_le_bytes());
        bytes.extend(proof.crc32.to_le_bytes());
        bytes.extend([0; 4]);
    }
    let crc = crc_fast::crc32_iscsi(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// The latest whole list in the content of the file; empty where there is none.
pub fn decode(content: &[u8]) -> Vec<WrittenPiece> {
    let second = content.get(PLACE_BYTES..).unwrap_or(&[]);
    let lists = [content, second].into_iter().filter_map(decode_place);
    lists.max_by_key(|(number, _)| *number).map(|(_, pieces)| pieces).unwrap_or_default()
}

fn decode_place(bytes: &[u8]) -> Option<(u64, Vec<WrittenPiece>)> {
    let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let count = usize::try_from(u32::from_le_bytes(part(head, 12)?)).ok().filter(|count| *count <= PIECES_MAX)?;
    if part(head, 0)? != MAGIC || part(head, 8)? != VERSION.to_le_bytes() {
        return None;
    }
    let end = HEAD_BYTES + count * ENTRY_BYTES;
    let (list, crc) = (bytes.get(..end)?, part::<CRC_BYTES>(bytes, end)?);
    if crc_fast::crc32_iscsi(list).to_le_bytes() != crc {
        return None;
    }
    let (entries, _) = list[HEAD_BYTES..].as_chunks::<ENTRY_BYTES>();
    let pieces = entries.iter().map(decode_entry).collect::<Option<_>>()?;
    Some((u64::from_le_bytes(part(head, 16)?), pieces))
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> Option<WrittenPiece> {
    let proof = PieceProof {
        cv: part(bytes, 32)?,
        crc64nvme: u64::from_le_bytes(part(bytes, 64)?),
        crc32: u32::from_le_bytes(part(bytes, 72)?),
    };
    let [size, piece] = [part(bytes, 16)?, part(bytes, 24)?].map(u64::from_le_bytes);
    Some(WrittenPiece { id: FileId(part(bytes, 0)?), size, piece, proof })
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(count: u64) -> Vec<WrittenPiece> {
        let one = |piece: u64| WrittenPiece {
            id: FileId([u8::try_from(piece % 7).unwrap(); 16]),
            size: piece << 32,
            piece,
            proof: PieceProof { cv: *blake3::hash(&piece.to_le_bytes()).as_bytes(), crc64nvme: !piece, crc32: 5 },
        };
        (0..count).map(one).collect()
    }

    /// A file after these lists, each with its number.
    fn file(lists: &[(u64, u64)]) -> Vec<u8> {
        let mut content = vec![0; 2 * PLACE_BYTES];
        for (number, count) in lists {
            let (start, bytes) = (usize::try_from(offset(*number)).unwrap(), encode(*number, &pieces(*count)));
            content[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        content
    }

    #[test]
    fn the_latest_list_is_read_back() {
        for lists in [&[(1, 3)][..], &[(1, 9), (2, 0)], &[(1, 2), (2, 200), (3, 7)], &[(8, 256)]] {
            let count = lists.last().unwrap().1;
            assert_eq!(decode(&file(lists)), pieces(count), "{lists:?}");
        }
        assert_eq!(decode(&file(&[(1, 300)])), pieces(256), "more than a list can name");
        assert_eq!(decode(&[]), []);
        assert_eq!(decode(&vec![0; 2 * PLACE_BYTES]), []);
    }

    #[test]
    fn a_list_that_is_not_whole_leaves_the_one_before() {
        let whole = file(&[(1, 5), (2, 40)]);
        let (start, len) = (usize::try_from(offset(2)).unwrap(), encode(2, &pieces(40)).len());
        for at in 0..len {
            let mut spoiled = whole.clone();
            spoiled[start + at] ^= 1;
            assert_eq!(decode(&spoiled), pieces(5), "byte {at}");
        }
        let short = &file(&[(2, 5), (3, 40)])[..PLACE_BYTES + len - 1];
        assert_eq!(decode(short), pieces(5));
    }

    #[test]
    fn the_bytes_are_those_of_the_table() {
        let bytes = encode(3, &pieces(2)[1..]);
        assert_eq!((offset(3), offset(4), bytes.len()), (24 << 10, 0, 24 + 80 + 4));
        assert_eq!(&bytes[..24], b"dray-wrt\x01\0\0\0\x01\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(
            &bytes[24..56],
            b"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\0\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0"
        );
        assert_eq!(&bytes[56..88], blake3::hash(&1_u64.to_le_bytes()).as_bytes());
        assert_eq!(&bytes[88..104], b"\xfe\xff\xff\xff\xff\xff\xff\xff\x05\0\0\0\0\0\0\0");
    }
}
