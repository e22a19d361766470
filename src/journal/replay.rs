//! Reads a journal back into what is claimed of each file.

use std::collections::BTreeMap;

use super::record::{self, Encoder, JournalError, RECORD_BYTES, Record, SIZE_MAX, Slot};
use crate::manifest::{Digest, FileId};
use crate::units;
use crate::verify::{PieceProof, wide};

/// Places of unclaimed pieces that all files of a replay may hold together: 56 MiB of memory at most.
///
/// Claimed pieces are bounded by the journal's own length, holes between them by this.
const HOLES_MAX: usize = 1 << 20;

/// What a journal claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The journal's attempt id.
    pub attempt: [u8; 16],
    /// The declared files, in the order of their first declaration.
    pub files: Vec<ReplayedFile>,
    /// Whether the last process stopped in order: the last record is [`Record::Clean`] and nothing follows it.
    pub clean: bool,
    /// Bytes of the header and the records that count; cut the journal here before appending.
    pub valid_bytes: u64,
    /// Continues the journal at `valid_bytes`.
    pub encoder: Encoder,
}

/// What is claimed of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedFile {
    /// The number records call it by.
    pub file: u32,
    /// Names content and place.
    pub id: FileId,
    /// Bytes; `None` while a stream without length has not ended.
    pub size: Option<u64>,
    /// Proofs of the durable pieces by index, no longer than the highest claimed piece asks.
    pub held: Vec<Option<PieceProof>>,
    /// The digest of the file under its final name.
    pub sealed: Option<Digest>,
}

/// Reads journal bytes back into the pieces known to be durable.
///
/// A torn end is normal after a crash and is dropped; `Replay::valid_bytes` tells the caller where to
/// truncate. Damage to a record that was durable is an error: a hole could hide a `Dropped`.
/// A journal without a whole header is `NoHeader`, not an empty replay: there is no attempt to continue.
/// While a file's size is unknown its highest claimed piece is left out: whether that is whole, and
/// whether it is the only one (and so the root), shows only when a later one exists.
///
/// # Errors
/// `NoHeader`, `WrongFormat`, `WrongVersion`, or `Damaged` with the byte offset. Format: docs/journal.md.
pub fn replay(journal: &[u8]) -> Result<Replay, JournalError> {
    let (slots, torn) = journal.as_chunks::<RECORD_BYTES>();
    let (header, records) = slots.split_first().ok_or(JournalError::NoHeader)?;
    let attempt = record::decode_header(header)?;
    let mut encoder = Encoder::new(attempt);
    let mut claims = Claims::default();
    let mut last = None;
    for (position, slot) in records.iter().enumerate() {
        let offset = encoder.offset();
        if !encoder.follows(slot) {
            refuse_damage(&encoder, offset, &records[position..])?;
            break;
        }
        let record = record::decode_body(slot).ok_or(JournalError::Damaged { offset })?;
        last = Some(record == Record::Clean);
        claims.apply(record).ok_or(JournalError::Damaged { offset })?;
        encoder.advance(slot);
    }
    let valid_bytes = encoder.offset();
    let whole = valid_bytes == wide(journal.len()) && torn.is_empty();
    Ok(Replay { attempt, files: claims.into_files(), clean: last == Some(true) && whole, valid_bytes, encoder })
}

/// Tells a torn end from damage: `rest` starts with the first slot that is not the next record.
///
/// The slots after it may be any mixture of old, new and empty sectors of one unsynced append. But a record
/// written once the bad one was durable, or one of ours at another's place, no crash can make.
fn refuse_damage(encoder: &Encoder, offset: u64, rest: &[Slot]) -> Result<(), JournalError> {
    let bad = offset / wide(RECORD_BYTES);
    for (seq, slot) in (bad..).zip(rest) {
        if encoder.owns(slot) && (record::seq(slot) != seq || bad < record::synced(slot)) {
            return Err(JournalError::Damaged { offset });
        }
    }
    Ok(())
}

/// The claims so far.
#[derive(Default)]
struct Claims {
    files: Vec<ReplayedFile>,
    places: BTreeMap<u32, usize>,
    holes: usize,
}

impl Claims {
    /// Adds one record. `None` if it contradicts those before.
    fn apply(&mut self, record: Record) -> Option<()> {
        match record {
            Record::File { file, id, size } => {
                self.declare(ReplayedFile { file, id, size, held: Vec::new(), sealed: None })
            }
            Record::Pieces { file, first, proofs } => return self.claim(file, first, proofs),
            Record::Dropped { file } => self.forget(*self.places.get(&file)?),
            Record::Sealed { file, size, digest } => return self.seal(file, size, digest),
            Record::Clean => {}
        }
        Some(())
    }

    fn declare(&mut self, new: ReplayedFile) {
        match self.places.get(&new.file) {
            Some(&place) => {
                self.forget(place);
                self.files[place] = new;
            }
            None => {
                self.places.insert(new.file, self.files.len());
                self.files.push(new);
            }
        }
    }

    fn forget(&mut self, place: usize) {
        let file = &mut self.files[place];
        self.holes -= file.held.iter().filter(|piece| piece.is_none()).count();
        file.held = Vec::new();
        file.sealed = None;
    }

    fn claim(&mut self, file: u32, first: u64, proofs: Vec<PieceProof>) -> Option<()> {
        let file = &mut self.files[*self.places.get(&file)?];
        let end = first.checked_add(wide(proofs.len()))?;
        if file.sealed.is_some() || units::piece_count(file.size.unwrap_or(SIZE_MAX)) < end {
            return None;
        }
        let first = usize::try_from(first).ok()?;
        let holes = first.saturating_sub(file.held.len());
        if HOLES_MAX - self.holes < holes {
            // Forgetting a claim costs a request; holding it would cost memory nobody promised.
            return Some(());
        }
        self.holes += holes;
        file.held.resize(file.held.len().max(first), None);
        for (index, proof) in (first..).zip(proofs) {
            match file.held.get_mut(index) {
                Some(piece) => self.holes -= usize::from(piece.replace(proof).is_none()),
                None => file.held.push(Some(proof)),
            }
        }
        Some(())
    }

    fn seal(&mut self, file: u32, size: u64, digest: Digest) -> Option<()> {
        let file = &mut self.files[*self.places.get(&file)?];
        let fits =
            file.size.is_none_or(|declared| declared == size) && wide(file.held.len()) <= units::piece_count(size);
        file.size = Some(size);
        file.sealed = Some(digest);
        fits.then_some(())
    }

    fn into_files(mut self) -> Vec<ReplayedFile> {
        for file in self.files.iter_mut().filter(|file| file.size.is_none()) {
            file.held.pop();
            while file.held.last().is_some_and(Option::is_none) {
                file.held.pop();
            }
        }
        self.files
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const ATTEMPT: [u8; 16] = [0xa7; 16];
    const RECORD: usize = RECORD_BYTES;

    fn proof(mark: u64) -> PieceProof {
        let cv = *blake3::hash(&mark.to_le_bytes()).as_bytes();
        PieceProof { cv, crc64nvme: mark, crc32: u32::from_le_bytes([cv[0], cv[1], cv[2], cv[3]]) }
    }

    fn file(file: u32, pieces: u64) -> Record {
        Record::File { file, id: FileId([7; 16]), size: Some(pieces << 20) }
    }

    fn pieces(file: u32, first: u64, count: u64) -> Record {
        Record::Pieces { file, first, proofs: (first..first + count).map(proof).collect() }
    }

    /// A journal whose appends are these batches.
    fn journal(batches: &[&[Record]]) -> Vec<u8> {
        let mut encoder = Encoder::new(ATTEMPT);
        let mut bytes = record::encode_header(ATTEMPT).to_vec();
        for batch in batches {
            bytes.extend(encoder.encode_batch(batch).as_flattened());
        }
        bytes
    }

    /// A journal of single appends that uses every kind of record.
    fn small() -> Vec<u8> {
        let stream = Record::File { file: 1, id: FileId([8; 16]), size: None };
        let sealed = Record::Sealed { file: 0, size: 9 << 20, digest: Digest([3; 32]) };
        let records = [
            file(0, 9),
            pieces(0, 0, 8),
            stream,
            pieces(1, 0, 3),
            pieces(0, 8, 1),
            sealed,
            Record::Dropped { file: 1 },
            Record::Clean,
        ];
        let batches: Vec<&[Record]> = records.iter().map(std::slice::from_ref).collect();
        journal(&batches)
    }

    fn damaged(slot: usize) -> Result<Replay, JournalError> {
        Err(JournalError::Damaged { offset: wide(slot * RECORD) })
    }

    /// What `journal` claims when exactly `records` records count.
    fn prefix(journal: &[u8], records: usize) -> Replay {
        replay(&journal[..(1 + records) * RECORD]).unwrap()
    }

    /// Torn after `records` records: the claims of that prefix, and never a clean end.
    fn torn(journal: &[u8], records: usize) -> Result<Replay, JournalError> {
        Ok(Replay { clean: false, ..prefix(journal, records) })
    }

    #[test]
    fn a_journal_without_a_whole_header_is_told_apart() {
        let header = record::encode_header(ATTEMPT);
        for len in 0..RECORD {
            assert_eq!(replay(&header[..len]), Err(JournalError::NoHeader), "{len} bytes");
        }
        assert_eq!(replay(&[0; 2 * RECORD]), Err(JournalError::NoHeader));
        let empty = replay(&header).unwrap();
        assert_eq!((empty.files.len(), empty.clean, empty.valid_bytes), (0, false, 512));
    }

    #[test]
    fn a_changed_header_is_refused_byte_by_byte() {
        for at in 0..RECORD {
            let mut changed = small();
            changed[at] ^= 4;
            assert_eq!(replay(&changed), Err(JournalError::WrongFormat), "byte {at}");
        }
        let mut newer = record::encode_header(ATTEMPT);
        newer[8] = 2;
        let crc = crc_fast::crc32_iscsi(&newer[..508]).to_le_bytes();
        newer[508..].copy_from_slice(&crc);
        assert_eq!(replay(&newer), Err(JournalError::WrongVersion { found: 2 }));
    }

    #[test]
    fn a_journal_cut_anywhere_replays_as_its_whole_records() {
        let whole = small();
        for len in RECORD..whole.len() {
            let records = len / RECORD - 1;
            let expected = if len % RECORD == 0 { Ok(prefix(&whole, records)) } else { torn(&whole, records) };
            assert_eq!(replay(&whole[..len]), expected, "{len} bytes");
        }
        assert!(replay(&whole).unwrap().clean);
    }

    #[test]
    fn a_changed_byte_is_damage_or_a_torn_end_and_never_another_claim() {
        let whole = small();
        let last = whole.len() / RECORD - 1;
        for (at, bit) in (RECORD..whole.len()).flat_map(|at| [(at, 1), (at, 0x80), (at, 0xff)]) {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            let slot = at / RECORD;
            let expected = if slot < last { damaged(slot) } else { torn(&whole, last - 1) };
            assert_eq!(replay(&changed), expected, "byte {at}");
        }
    }

    #[test]
    fn records_swapped_repeated_or_left_out_are_damage() {
        let whole = small();
        let (slots, _) = whole.as_chunks::<RECORD>();
        let rebuilt = |order: &[usize]| order.iter().flat_map(|&slot| slots[slot]).collect::<Vec<u8>>();
        for at in 1..slots.len() - 1 {
            let mut order: Vec<usize> = (0..slots.len()).collect();
            order.swap(at, at + 1);
            assert_eq!(replay(&rebuilt(&order)), damaged(at), "swap at {at}");
            let mut order: Vec<usize> = (0..slots.len()).collect();
            order.insert(at, at);
            assert_eq!(replay(&rebuilt(&order)), damaged(at + 1), "repeat of {at}");
            let mut order: Vec<usize> = (0..slots.len()).collect();
            order.remove(at);
            assert_eq!(replay(&rebuilt(&order)), damaged(at), "without {at}");
        }
    }

    #[test]
    fn records_of_another_attempt_are_a_torn_end() {
        let whole = small();
        let mut other = Encoder::new([1; 16]);
        let foreign = other.encode_batch(&[file(0, 9), pieces(0, 0, 8)]);
        let mixed = [&whole[..2 * RECORD], foreign.as_flattened()].concat();
        assert_eq!(replay(&mixed), torn(&whole, 1));
        let mixed = [&whole[..2 * RECORD], &foreign[1], &[0; 99]].concat();
        assert_eq!(replay(&mixed), torn(&whole, 1));
    }

    #[test]
    fn any_subset_of_an_unsynced_batch_is_a_torn_end() {
        let first = [file(0, 64), pieces(0, 0, 8)];
        let batch = [pieces(0, 8, 8), pieces(0, 16, 8), pieces(0, 24, 8), pieces(0, 32, 8)];
        let whole = journal(&[&first, &batch]);
        for kept in 0..16_usize {
            let mut bytes = whole.clone();
            for lost in (0..4).filter(|record| kept >> record & 1 == 0) {
                bytes[(3 + lost) * RECORD..][..RECORD].fill(0);
            }
            let records = 2 + usize::try_from(kept.trailing_ones()).unwrap();
            let expected = if kept == 15 { Ok(prefix(&whole, 6)) } else { torn(&whole, records) };
            assert_eq!(replay(&bytes), expected, "kept {kept:04b}");
        }
        // A later append proves that the batch was durable.
        let mut bytes = journal(&[&first, &batch, &[Record::Clean]]);
        bytes[4 * RECORD] ^= 1;
        assert_eq!(replay(&bytes), damaged(4));
    }

    #[test]
    fn a_journal_is_continued_after_a_torn_end_over_stale_records() {
        let first = [file(0, 64), pieces(0, 0, 8)];
        let mut bytes = journal(&[&first, &[pieces(0, 8, 8), pieces(0, 16, 8), pieces(0, 24, 8)]]);
        bytes[3 * RECORD] ^= 1;
        let mut replayed = replay(&bytes).unwrap();
        assert_eq!(replayed.valid_bytes, wide(3 * RECORD));
        // The stale records behind the first new one are of this attempt, but of another chain.
        let new = replayed.encoder.encode_batch(&[pieces(0, 40, 1)]);
        bytes[3 * RECORD..4 * RECORD].copy_from_slice(&new[0]);
        let again = replay(&bytes).unwrap();
        assert_eq!(again.valid_bytes, wide(4 * RECORD));
        assert_eq!((again.encoder, again.files[0].held.len()), (replayed.encoder, 41));
    }

    #[test]
    fn records_that_contradict_those_before_are_damage() {
        let sealed = |size| Record::Sealed { file: 0, size, digest: Digest([0; 32]) };
        let stream = Record::File { file: 0, id: FileId([8; 16]), size: None };
        let cases: [&[Record]; 9] = [
            &[file(0, 9), pieces(1, 0, 1)],
            &[file(0, 9), Record::Dropped { file: 1 }],
            &[file(0, 9), Record::Sealed { file: 1, size: 0, digest: Digest([0; 32]) }],
            &[file(0, 9), pieces(0, 2, 8)],
            &[file(0, 9), Record::Pieces { file: 0, first: u64::MAX, proofs: vec![proof(0)] }],
            &[stream.clone(), Record::Pieces { file: 0, first: 1 << 43, proofs: vec![proof(0)] }],
            &[file(0, 9), sealed(8 << 20)],
            &[stream, pieces(0, 0, 3), sealed(2 << 20)],
            &[file(0, 9), sealed(9 << 20), pieces(0, 0, 1)],
        ];
        for case in cases {
            assert_eq!(replay(&journal(&[case])), damaged(case.len()), "{case:?}");
        }
    }

    #[test]
    fn a_file_starts_over_when_declared_again_and_forgets_when_dropped() {
        let held = |records: &[Record]| replay(&journal(&[records])).unwrap().files[0].held.clone();
        assert_eq!(held(&[file(0, 9), pieces(0, 0, 2), file(0, 5)]), []);
        assert_eq!(
            held(&[file(0, 9), pieces(0, 0, 2), Record::Dropped { file: 0 }, pieces(0, 1, 1)]),
            [None, Some(proof(1))]
        );
        let refetched = Record::Pieces { file: 0, first: 1, proofs: vec![proof(99)] };
        assert_eq!(held(&[file(0, 9), pieces(0, 0, 2), refetched]), [Some(proof(0)), Some(proof(99))]);
    }

    #[test]
    fn the_highest_piece_of_a_stream_counts_only_once_the_size_is_known() {
        let stream = Record::File { file: 0, id: FileId([8; 16]), size: None };
        let held = |records: &[Record]| replay(&journal(&[records])).unwrap().files[0].held.clone();
        assert_eq!(held(&[stream.clone(), pieces(0, 0, 1)]), []);
        assert_eq!(held(&[stream.clone(), pieces(0, 0, 1), pieces(0, 5, 1)]), [Some(proof(0))]);
        let sealed = Record::Sealed { file: 0, size: 7, digest: Digest([0; 32]) };
        assert_eq!(held(&[stream, pieces(0, 0, 1), sealed]), [Some(proof(0))]);
    }

    #[test]
    fn a_tiny_journal_never_makes_a_large_replay() {
        let huge = Record::File { file: 0, id: FileId([8; 16]), size: Some(SIZE_MAX) };
        let far = Record::Pieces { file: 0, first: (1 << 43) - 1, proofs: vec![proof(0)] };
        assert_eq!(replay(&journal(&[&[huge.clone(), far]])).unwrap().files[0].held, []);
        // Holes are bounded over all files together, and filling or dropping them gives the room back.
        let half = wide(HOLES_MAX / 2);
        let mut records = vec![huge.clone(), pieces(0, half, 1)];
        for file in 1..4 {
            records.push(Record::File { file, id: FileId([8; 16]), size: Some(SIZE_MAX) });
            records.push(pieces(file, half, 1));
        }
        records.extend([Record::Dropped { file: 0 }, pieces(3, half - 7, 8)]);
        let lens: Vec<usize> =
            replay(&journal(&[&records])).unwrap().files.iter().map(|file| file.held.len()).collect();
        assert_eq!(lens, [0, HOLES_MAX / 2 + 1, 0, HOLES_MAX / 2 + 1]);
    }

    /// Size, pieces and seal of one file.
    type Claimed = (Option<u64>, HashMap<u64, PieceProof>, Option<Digest>);

    /// Claims as a plain map: the oracle.
    #[derive(Default)]
    struct Model(HashMap<u32, Claimed>);

    impl Model {
        /// Applies `record` if it may be written.
        fn apply(&mut self, record: &Record) -> bool {
            match record {
                Record::File { file, size, .. } => {
                    self.0.insert(*file, (*size, HashMap::new(), None));
                }
                Record::Pieces { file, first, proofs } => {
                    let Some((size, held, None)) = self.0.get_mut(file) else { return false };
                    let end = first + wide(proofs.len());
                    if size.is_some_and(|size| size.div_ceil(1 << 20) < end) {
                        return false;
                    }
                    held.extend((*first..).zip(proofs.iter().copied()));
                }
                Record::Dropped { file } => {
                    let Some((_, held, sealed)) = self.0.get_mut(file) else { return false };
                    held.clear();
                    *sealed = None;
                }
                Record::Sealed { file, size, digest } => {
                    let Some((declared, held, sealed)) = self.0.get_mut(file) else { return false };
                    if declared.is_some_and(|declared| declared != *size)
                        || held.keys().any(|&piece| size.div_ceil(1 << 20) <= piece)
                    {
                        return false;
                    }
                    (*declared, *sealed) = (Some(*size), Some(*digest));
                }
                Record::Clean => {}
            }
            true
        }

        fn claims(&self, file: u32) -> Claimed {
            let (size, mut held, sealed) = self.0[&file].clone();
            if size.is_none() {
                let highest = held.keys().max().copied();
                held.retain(|&piece, _| Some(piece) != highest);
            }
            (size, held, sealed)
        }
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let number = 0..4_u32;
        let size = prop::option::of((0..40_u64 << 20).prop_map(|size| size >> 18 << 18));
        let proofs = prop::collection::vec((0..u64::MAX).prop_map(proof), 1..=8);
        prop_oneof![
            2 => (number.clone(), any::<[u8; 16]>(), size.clone()).prop_map(|(file, id, size)| Record::File { file, id: FileId(id), size }),
            8 => (number.clone(), 0..40_u64, proofs).prop_map(|(file, first, proofs)| Record::Pieces { file, first, proofs }),
            1 => number.clone().prop_map(|file| Record::Dropped { file }),
            2 => (number, size, any::<[u8; 32]>()).prop_map(|(file, size, digest)| Record::Sealed { file, size: size.unwrap_or(7), digest: Digest(digest) }),
            1 => Just(Record::Clean),
        ]
    }

    proptest! {
        #[test]
        fn any_history_replays_as_a_plain_map_holds_it(batches in prop::collection::vec(prop::collection::vec(any_record(), 0..9), 0..12), torn in 0..600_usize) {
            let mut model = Model::default();
            let mut encoder = Encoder::new(ATTEMPT);
            let mut bytes = record::encode_header(ATTEMPT).to_vec();
            let mut last = None;
            for mut batch in batches {
                batch.retain(|record| model.apply(record));
                last = batch.last().cloned().or(last);
                bytes.extend(encoder.encode_batch(&batch).as_flattened());
            }
            let valid_bytes = wide(bytes.len());
            bytes.resize(bytes.len() + torn, 0x42);
            let replay = replay(&bytes).unwrap();
            prop_assert_eq!((replay.valid_bytes, &replay.encoder), (valid_bytes, &encoder));
            prop_assert_eq!(replay.clean, last == Some(Record::Clean) && torn == 0);
            prop_assert_eq!(replay.files.len(), model.0.len());
            for file in replay.files {
                prop_assert!(file.held.last().is_none_or(Option::is_some));
                let held = (0..).zip(file.held).filter_map(|(index, piece)| Some((index, piece?))).collect();
                prop_assert_eq!((file.size, held, file.sealed), model.claims(file.file));
            }
        }
    }
}
