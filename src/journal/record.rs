//! The journal's format: fixed-size records, chained and checksummed. Pure. Byte table: docs/journal.md.
//!
//! In: [`Record`]s. Out: the bytes to append; [`replay`] turns them back into claims.
//! Holds: a record is bound to its attempt, its place and everything before it, so bytes of another
//! journal, a stale sector or a swap never count.

use crate::manifest::{Digest, FileId};
use crate::units::PIECE_BYTES;
use crate::verify::{PieceProof, wide};

pub use super::replay::{Replay, ReplayedFile, replay};

/// Bytes of the header and of every record: one sector, so that a torn write spoils whole records only.
pub const RECORD_BYTES: usize = 512;

/// Pieces one record can carry.
pub const PROOFS_PER_RECORD: usize = 8;

/// A file's size is below 2^63, as everywhere in dray.
pub(super) const SIZE_MAX: u64 = (1 << 63) - 1;

const MAGIC: [u8; 8] = *b"dray-jnl";
const VERSION: u32 = 1;
const PROOF_BYTES: usize = 44;

// Offsets in a record. Its first 40 bytes are the frame, the body follows, the checksum ends it.
const AT_SEQ: usize = 0;
const AT_KIND: usize = 8;
const AT_COUNT: usize = 9;
const AT_FILE: usize = 12;
const AT_CHAIN: usize = 16;
const AT_SYNCED: usize = 32;
const AT_BODY: usize = 40;
const AT_CRC: usize = 508;

const KIND_FILE: u8 = 1;
const KIND_PIECES: u8 = 2;
const KIND_DROPPED: u8 = 3;
const KIND_SEALED: u8 = 4;
const KIND_CLEAN: u8 = 5;

/// One record's bytes.
pub(super) type Slot = [u8; RECORD_BYTES];

/// One claim. A record in the journal means durable, nothing weaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// From here on `file` is this number's content. Declared before its first pieces; again after a restart of the file.
    File {
        /// The number later records call it by; any number not in use, or one that starts over.
        file: u32,
        /// Names content and place.
        id: FileId,
        /// Bytes; `None` until a stream without length has ended.
        size: Option<u64>,
    },
    /// Consecutive pieces of `file` from `first` on are durable with these proofs (1 to 8).
    Pieces {
        /// A declared file that is not sealed.
        file: u32,
        /// Index of the first piece.
        first: u64,
        /// One proof per piece; a later claim of a piece replaces an earlier one.
        proofs: Vec<PieceProof>,
    },
    /// Nothing claimed of `file` before counts any more (poisoned, changed, or refuted).
    Dropped {
        /// A declared file.
        file: u32,
    },
    /// `file` has its final name and this digest.
    Sealed {
        /// A declared file.
        file: u32,
        /// Its bytes; the declared size if there was one.
        size: u64,
        /// What its pieces merged to.
        digest: Digest,
    },
    /// An orderly stop: what is claimed was synced by a process that lived to say so.
    Clean,
}

/// Why journal bytes cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Too short for a header, or its sector was never written: nothing was ever claimed. Start a new journal.
    #[error("journal has no header")]
    NoHeader,
    /// Not a journal, or a header that was damaged after it was written.
    #[error("not a journal")]
    WrongFormat,
    /// Written by another version of dray.
    #[error("journal has version {found}, not {VERSION}")]
    WrongVersion {
        /// The version in its header.
        found: u32,
    },
    /// A record that was durable is not what was written, or claims what cannot be.
    #[error("journal is damaged at byte {offset}")]
    Damaged {
        /// Where the first bad record starts.
        offset: u64,
    },
}

/// The header of a new journal; `attempt` is random and never used for another journal.
pub fn encode_header(attempt: [u8; 16]) -> [u8; RECORD_BYTES] {
    let mut slot = [0; RECORD_BYTES];
    put(&mut slot, 0, &MAGIC);
    put(&mut slot, 8, &VERSION.to_le_bytes());
    put(&mut slot, 16, &attempt);
    put(&mut slot, 32, &PIECE_BYTES.to_le_bytes());
    let crc = crc_fast::crc32_iscsi(&slot[..AT_CRC]);
    put(&mut slot, AT_CRC, &crc.to_le_bytes());
    slot
}

/// The attempt id of a header.
pub(super) fn decode_header(slot: &Slot) -> Result<[u8; 16], JournalError> {
    if *slot == [0; RECORD_BYTES] {
        return Err(JournalError::NoHeader);
    }
    let crc = crc_fast::crc32_iscsi(&slot[..AT_CRC]).to_le_bytes();
    if take(slot, 0) != MAGIC || take(slot, AT_CRC) != crc {
        return Err(JournalError::WrongFormat);
    }
    let found = u32::from_le_bytes(take(slot, 8));
    if found != VERSION {
        return Err(JournalError::WrongVersion { found });
    }
    let attempt = take(slot, 16);
    if encode_header(attempt) != *slot {
        return Err(JournalError::WrongFormat);
    }
    Ok(attempt)
}

/// Turns records into the bytes that follow what the journal holds already.
///
/// If an append or its sync fails, the journal is not to be appended to again: the encoder has moved on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoder {
    attempt: [u8; 16],
    /// The number of the next record: its offset in records. The header is record 0.
    seq: u64,
    /// The hash of the record before.
    chain: [u8; 16],
}

impl Encoder {
    /// An encoder for a journal that holds nothing but [`encode_header`]`(attempt)`.
    pub fn new(attempt: [u8; 16]) -> Self {
        Self { attempt, seq: 1, chain: link(&encode_header(attempt)) }
    }

    /// The header of this encoder's journal.
    pub fn header(&self) -> [u8; RECORD_BYTES] {
        encode_header(self.attempt)
    }

    /// Where the next record belongs, in bytes: the length of the journal so far.
    pub fn offset(&self) -> u64 {
        self.seq * wide(RECORD_BYTES)
    }

    /// Encodes one record that is written and synced by itself; [`Encoder::encode_batch`] for several.
    ///
    /// # Panics
    /// When the record breaks a limit of the format: not 1 to 8 proofs, or a size of 2^63 bytes or more.
    pub fn encode(&mut self, record: &Record) -> [u8; RECORD_BYTES] {
        self.encode_after(self.seq, record)
    }

    /// Encodes records that are written together and made durable by one sync before the next batch.
    ///
    /// Each record names the first of its batch. A crash may keep any subset of an unsynced batch; by this
    /// [`replay`] tells such a tear from damage to records that were durable.
    ///
    /// # Panics
    /// As [`Encoder::encode`].
    pub fn encode_batch(&mut self, records: &[Record]) -> Vec<[u8; RECORD_BYTES]> {
        let first = self.seq;
        records.iter().map(|record| self.encode_after(first, record)).collect()
    }

    fn encode_after(&mut self, synced: u64, record: &Record) -> Slot {
        assert!(is_encodable(record), "a record beyond the journal's limits: {record:?}");
        let mut slot = encode_body(record);
        put(&mut slot, AT_SEQ, &self.seq.to_le_bytes());
        put(&mut slot, AT_CHAIN, &self.chain);
        put(&mut slot, AT_SYNCED, &synced.to_le_bytes());
        let crc = self.crc(&slot);
        put(&mut slot, AT_CRC, &crc);
        self.advance(&slot);
        slot
    }

    /// Whether `slot` is the next record of this journal.
    pub(super) fn follows(&self, slot: &Slot) -> bool {
        self.owns(slot) && seq(slot) == self.seq && take(slot, AT_CHAIN) == self.chain && synced(slot) <= self.seq
    }

    /// Whether `slot` was written as a record of this attempt, wherever it belongs.
    pub(super) fn owns(&self, slot: &Slot) -> bool {
        take(slot, AT_CRC) == self.crc(slot)
    }

    /// Takes `slot` as the newest record.
    pub(super) fn advance(&mut self, slot: &Slot) {
        self.chain = link(slot);
        self.seq += 1;
    }

    fn crc(&self, slot: &Slot) -> [u8; 4] {
        let mut input = [0; 16 + AT_CRC];
        input[..16].copy_from_slice(&self.attempt);
        input[16..].copy_from_slice(&slot[..AT_CRC]);
        crc_fast::crc32_iscsi(&input).to_le_bytes()
    }
}

/// The number a record gives itself.
pub(super) fn seq(slot: &Slot) -> u64 {
    u64::from_le_bytes(take(slot, AT_SEQ))
}

/// The number of the first record of its batch: everything before was durable when it was written.
pub(super) fn synced(slot: &Slot) -> u64 {
    u64::from_le_bytes(take(slot, AT_SYNCED))
}

/// Whether the format can hold `record`.
fn is_encodable(record: &Record) -> bool {
    match record {
        Record::File { size, .. } => size.is_none_or(|size| size <= SIZE_MAX),
        Record::Pieces { proofs, .. } => (1..=PROOFS_PER_RECORD).contains(&proofs.len()),
        Record::Sealed { size, .. } => *size <= SIZE_MAX,
        Record::Dropped { .. } | Record::Clean => true,
    }
}

/// An encodable record with its frame left zero.
fn encode_body(record: &Record) -> Slot {
    let mut slot = [0; RECORD_BYTES];
    match record {
        Record::File { file, id, size } => {
            head(&mut slot, KIND_FILE, u8::from(size.is_some()), *file);
            put(&mut slot, AT_BODY, &id.0);
            put(&mut slot, AT_BODY + 16, &size.unwrap_or(0).to_le_bytes());
        }
        Record::Pieces { file, first, proofs } => {
            head(&mut slot, KIND_PIECES, 0, *file);
            put(&mut slot, AT_BODY, &first.to_le_bytes());
            for (index, proof) in proofs.iter().enumerate() {
                let at = AT_BODY + 8 + index * PROOF_BYTES;
                slot[AT_COUNT] += 1;
                put(&mut slot, at, &proof.cv);
                put(&mut slot, at + 32, &proof.crc64nvme.to_le_bytes());
                put(&mut slot, at + 40, &proof.crc32.to_le_bytes());
            }
        }
        Record::Dropped { file } => head(&mut slot, KIND_DROPPED, 0, *file),
        Record::Sealed { file, size, digest } => {
            head(&mut slot, KIND_SEALED, 0, *file);
            put(&mut slot, AT_BODY, &size.to_le_bytes());
            put(&mut slot, AT_BODY + 8, &digest.0);
        }
        Record::Clean => head(&mut slot, KIND_CLEAN, 0, 0),
    }
    slot
}

/// Reads the body of a record whose frame is proven. `None` if no encoder writes such a body.
pub(super) fn decode_body(slot: &Slot) -> Option<Record> {
    let file = u32::from_le_bytes(take(slot, AT_FILE));
    let number = |at| u64::from_le_bytes(take(slot, at));
    let record = match slot[AT_KIND] {
        KIND_FILE => {
            let size = (slot[AT_COUNT] != 0).then(|| number(AT_BODY + 16));
            Record::File { file, id: FileId(take(slot, AT_BODY)), size }
        }
        KIND_PIECES => {
            let count = usize::from(slot[AT_COUNT]).min(PROOFS_PER_RECORD);
            let proofs = (0..count).map(|index| decode_proof(slot, AT_BODY + 8 + index * PROOF_BYTES)).collect();
            Record::Pieces { file, first: number(AT_BODY), proofs }
        }
        KIND_DROPPED => Record::Dropped { file },
        KIND_SEALED => Record::Sealed { file, size: number(AT_BODY), digest: Digest(take(slot, AT_BODY + 8)) },
        KIND_CLEAN => Record::Clean,
        _ => return None,
    };
    // One meaning, one form: reserved bytes and unused places are zero.
    let canonical = is_encodable(&record).then(|| encode_body(&record))?;
    let same =
        canonical[AT_KIND..AT_CHAIN] == slot[AT_KIND..AT_CHAIN] && canonical[AT_BODY..AT_CRC] == slot[AT_BODY..AT_CRC];
    same.then_some(record)
}

fn decode_proof(slot: &Slot, at: usize) -> PieceProof {
    PieceProof {
        cv: take(slot, at),
        crc64nvme: u64::from_le_bytes(take(slot, at + 32)),
        crc32: u32::from_le_bytes(take(slot, at + 40)),
    }
}

fn head(slot: &mut Slot, kind: u8, count: u8, file: u32) {
    slot[AT_KIND] = kind;
    slot[AT_COUNT] = count;
    put(slot, AT_FILE, &file.to_le_bytes());
}

/// What the next record says of this one.
fn link(slot: &Slot) -> [u8; 16] {
    let mut chain = [0; 16];
    chain.copy_from_slice(&blake3::hash(slot).as_bytes()[..16]);
    chain
}

fn put(slot: &mut Slot, at: usize, bytes: &[u8]) {
    slot[at..at + bytes.len()].copy_from_slice(bytes);
}

fn take<const N: usize>(slot: &Slot, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&slot[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/journal-v1.bin");
    const DOC: &str = include_str!("../../docs/journal.md");
    const ATTEMPT: [u8; 16] = *b"golden attempt 1";
    const PROOF: PieceProof = PieceProof { cv: [9; 32], crc64nvme: 8, crc32: 7 };

    /// One record of every kind, in two appends, with the real proofs of 1 MiB + 5 bytes of `d`.
    fn golden_batches() -> [Vec<Record>; 2] {
        let content = vec![b'd'; (1 << 20) + 5];
        let sums = crate::verify::Sums { crc64nvme: true, crc32: Some(crate::verify::Crc32::Castagnoli) };
        let size = wide(content.len());
        let prove = |(index, piece)| crate::verify::prove_piece(Some(size), index, piece, sums);
        let proofs = (0..).zip(content.chunks(1 << 20)).map(prove).collect();
        let digest = Digest(*blake3::hash(&content).as_bytes());
        let whole = Record::File { file: 0, id: FileId(*b"0123456789abcdef"), size: Some(size) };
        let stream = Record::File { file: 1, id: FileId(*b"fedcba9876543210"), size: None };
        let pieces = Record::Pieces { file: 0, first: 0, proofs };
        let end = vec![Record::Dropped { file: 1 }, Record::Sealed { file: 0, size, digest }, Record::Clean];
        [vec![whole, pieces, stream], end]
    }

    #[test]
    fn the_golden_journal_is_what_the_encoder_writes() {
        let mut journal = encode_header(ATTEMPT).to_vec();
        let mut encoder = Encoder::new(ATTEMPT);
        for batch in golden_batches() {
            assert_eq!(encoder.offset(), wide(journal.len()));
            journal.extend(encoder.encode_batch(&batch).as_flattened());
        }
        assert!(journal == GOLDEN, "the format changed: raise VERSION and add a golden file");
        let replay = replay(GOLDEN).unwrap();
        assert_eq!((replay.encoder, replay.clean), (encoder, true));
    }

    #[test]
    fn the_worked_example_in_the_docs_is_the_golden_journals_beginning() {
        let (_, example) = DOC.split_once("```hex\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let mut shown = vec![0; 3 * RECORD_BYTES];
        for line in example.lines().filter(|line| !line.is_empty()) {
            let (offset, rest) = line.split_once("  ").unwrap();
            let start = usize::from_str_radix(offset, 16).unwrap();
            let bytes = rest.split("  ").next().unwrap().split(' ');
            for (at, byte) in (start..).zip(bytes) {
                shown[at] = u8::from_str_radix(byte, 16).unwrap();
            }
        }
        assert!(shown == GOLDEN[..3 * RECORD_BYTES]);
    }

    #[test]
    fn a_batch_and_single_records_differ_only_in_what_they_call_synced() {
        let records = [Record::Dropped { file: 3 }, Record::Clean];
        let (mut one, mut all) = (Encoder::new(ATTEMPT), Encoder::new(ATTEMPT));
        let singles = [one.encode(&records[0]), one.encode(&records[1])];
        let batch = all.encode_batch(&records);
        assert_eq!(singles[0], batch[0]);
        assert_eq!(singles.each_ref().map(synced), [1, 2]);
        assert_eq!((synced(&batch[0]), synced(&batch[1])), (1, 1));
    }

    #[test]
    fn the_formats_limits_are_eight_proofs_and_two_to_the_sixty_third_bytes() {
        let few = |count| Record::Pieces { file: 0, first: 0, proofs: vec![PROOF; count] };
        let file = |size| Record::File { file: 0, id: FileId([0; 16]), size: Some(size) };
        let sealed = |size| Record::Sealed { file: 0, size, digest: Digest([0; 32]) };
        for record in [few(1), few(8), file(SIZE_MAX), sealed(SIZE_MAX)] {
            assert!(is_encodable(&record), "{record:?}");
        }
        for record in [few(0), few(9), few(256 + 8), file(1 << 63), sealed(u64::MAX)] {
            assert!(!is_encodable(&record), "{record:?}");
        }
    }

    #[test]
    #[should_panic(expected = "a record beyond the journal's limits")]
    fn a_record_beyond_the_limits_is_a_defect() {
        Encoder::new(ATTEMPT).encode(&Record::Pieces { file: 0, first: 0, proofs: vec![PROOF; 9] });
    }

    #[test]
    fn bodies_no_encoder_writes_do_not_decode() {
        let mut records = golden_batches().concat();
        records.push(Record::Pieces { file: 7, first: 9, proofs: vec![PROOF; 8] });
        for record in records {
            let slot = encode_body(&record);
            assert_eq!(decode_body(&slot), Some(record));
            // Every bit outside the frame means something or must be zero.
            for at in (AT_KIND..AT_CHAIN).chain(AT_BODY..AT_CRC) {
                let mut changed = slot;
                changed[at] ^= 0x80;
                assert_ne!(decode_body(&changed), decode_body(&slot), "byte {at}");
            }
        }
    }
}
