//! What every fuzz target checks of one input. `tests/fuzz_corpus.rs` runs the same over the corpus and its mutations.
//!
//! In: any bytes. Holds: no body panics; a panic is a found defect.

use std::collections::BTreeSet;
use std::time::SystemTime;

use dray::Error;
use dray::formats::{self, Allowed, Format};
use dray::journal::record::{self, Encoder, RECORD_BYTES, Record};
use dray::journal::written;
use dray::manifest::{SafePath, Version, receipt};
use dray::origin::pages::{self, Store};
use dray::units::ByteRange;
use dray::unpack::{self, Input, Kind, Sink};
use dray::uri::Source;
use dray::verify::tree;
use dray::wire::check::{self, Accepted};
use dray::wire::{Asked, http1};

/// A source shows itself in one line, and refusals are one line too.
pub(crate) fn source_uri_parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let shown = match Source::parse(text) {
        Ok(source) => {
            assert_eq!(format!("{source:?}"), source.canonical());
            source.canonical()
        }
        Err(error) => error.to_string(),
    };
    assert!(!shown.contains(['\n', '\r']), "{shown:?}");
}

/// A path that passed stays beneath its root and passes again as it is.
pub(crate) fn safe_path_parse(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    match SafePath::parse(name) {
        Ok(path) => {
            let text = path.as_str();
            assert!(!text.is_empty() && !text.contains(['\0', '\\', '\n']), "{text:?}");
            assert!(text.split('/').all(|part| !matches!(part, "" | "." | "..")), "{text:?}");
            assert_eq!(SafePath::parse(text), Ok(path.clone()));
        }
        Err(error) => assert!(!error.to_string().contains(['\n', '\r']), "{error}"),
    }
}

/// A reply that passes brings exactly what was asked, whatever its other headers say.
pub(crate) fn range_reply_check(data: &[u8]) {
    let Ok(Some((head, used))) = http1::parse_head(data) else { return };
    assert!(used <= data.len());
    let version = Version { etag: Some("\"v1\"".to_owned()), ..Version::default() };
    for (range, size) in [
        (Some((0, 10)), Some(100)),
        (Some((90, 100)), Some(100)),
        (Some((5, 6)), None),
        (None, Some(100)),
        (None, None),
    ] {
        let range = range.map(|(start, end)| ByteRange::new(start, end));
        let asked = Asked { range, size, version: version.clone(), ..Asked::default() };
        let Ok(accepted) = check::check(&head, &asked, &data[used..], SystemTime::UNIX_EPOCH) else { continue };
        let Accepted { size: told, length, version } = accepted;
        assert_eq!(head.status, if range.is_some() { 206 } else { 200 });
        assert!(size.is_none() || told == size, "{told:?}");
        assert!(range.is_none_or(|range| length == Some(range.len())), "{length:?}");
        assert!(version.etag.is_none_or(|etag| etag == "\"v1\""));
        let stated = head.first("content-range").and_then(check::content_range);
        assert!(range.is_none() || stated.is_some_and(|stated| stated.range == range), "{stated:?}");
    }
}

/// Replays the bytes as they are, and once more with the frames mended so that the bodies are reached.
pub(crate) fn journal_replay(data: &[u8]) {
    for journal in [data.to_vec(), mended(data)] {
        let Ok(mut replay) = record::replay(&journal) else { continue };
        let valid = usize::try_from(replay.valid_bytes).expect("within the input");
        assert!(valid <= journal.len() && valid.is_multiple_of(RECORD_BYTES));
        let held: usize = replay.files.iter().map(|file| file.held.len()).sum();
        assert!(held <= journal.len() + (1 << 20), "{held} places from {} bytes", journal.len());
        // What counts can be continued, and says the same again.
        let clean = replay.encoder.encode(&Record::Clean);
        let continued = record::replay(&[&journal[..valid], &clean].concat()).expect("a valid prefix and one record");
        assert_eq!((continued.files, continued.encoder, continued.clean), (replay.files, replay.encoder, true));
    }
}

/// `data` behind a header, each record with the number, chain and checksum that its place asks for.
fn mended(data: &[u8]) -> Vec<u8> {
    let attempt = [0x5a; 16];
    let mut journal = Encoder::new(attempt).header().to_vec();
    let (slots, torn) = data.get(RECORD_BYTES..).unwrap_or_default().as_chunks::<RECORD_BYTES>();
    for (seq, mut slot) in (1_u64..).zip(slots.iter().copied()) {
        let chain = blake3::hash(&journal[journal.len() - RECORD_BYTES..]);
        slot[..8].copy_from_slice(&seq.to_le_bytes());
        slot[16..32].copy_from_slice(&chain.as_bytes()[..16]);
        let crc = crc_fast::crc32_iscsi(&[&attempt, &slot[..RECORD_BYTES - 4]].concat());
        slot[RECORD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        journal.extend_from_slice(&slot);
    }
    journal.extend_from_slice(torn);
    journal
}

/// A receipt that passes is written and read back as the same.
pub(crate) fn receipt_parse(data: &[u8]) {
    match receipt::parse(data) {
        Ok(receipt) => assert_eq!(receipt::parse(&receipt.to_bytes()), Ok(receipt)),
        Err(error) => assert!(!error.to_string().contains(['\n', '\r']), "{error}"),
    }
}

/// There is one form of every tree: what decodes encodes to the same bytes. Also tried with its checksum mended.
pub(crate) fn tree_decode(data: &[u8]) {
    let body = data.len().saturating_sub(4);
    let crc = crc_fast::crc32_iscsi(&data[..body]).to_le_bytes();
    for bytes in [data, &[&data[..body], &crc].concat()] {
        if let Ok(tree) = tree::decode(bytes) {
            assert!(tree::encode(&tree) == bytes);
        }
    }
}

/// A list names no more than it may, and reads back as it was written. Also tried with its head and checksum mended.
pub(crate) fn written_decode(data: &[u8]) {
    assert!(written::decode(data).len() <= written::PIECES_MAX);
    let count = (data.len().saturating_sub(24) / 80).min(written::PIECES_MAX);
    let Some(list) = data.get(..24 + 80 * count) else { return };
    let mut mended = list.to_vec();
    mended[..12].copy_from_slice(&written::encode(1, &[])[..12]);
    mended[12..16].copy_from_slice(&u32::try_from(count).expect("few").to_le_bytes());
    let crc = crc_fast::crc32_iscsi(&mended).to_le_bytes();
    mended.extend(crc);
    let pieces = written::decode(&mended);
    assert_eq!(pieces.len(), count);
    assert_eq!(written::decode(&written::encode(1, &pieces)), pieces);
}

/// What a page says below a prefix is what it says in all, cut off in front; no name comes twice.
pub(crate) fn listing_read(data: &[u8]) {
    for store in [Store::Gcs, Store::Azure, Store::Hub] {
        match (pages::read(store, data, ""), pages::read(store, data, "m/")) {
            (Ok(all), Ok(below)) => {
                let names: BTreeSet<&str> = all.iter().map(|found| found.object.as_str()).collect();
                assert_eq!(names.len(), all.len(), "{store:?}");
                let cut = all.iter().filter_map(|found| found.object.strip_prefix("m/"));
                assert!(cut.eq(below.iter().map(|found| found.path.as_str())), "{store:?}");
                assert!(all.iter().all(|found| found.path == found.object), "{store:?}");
            }
            (Err(one), Err(other)) => {
                assert_eq!(one, other);
                assert!(!one.detail.contains(['\n', '\r']), "{one}");
            }
            (one, other) => panic!("{store:?}: a prefix decides whether a page is one: {one:?}, {other:?}"),
        }
    }
}

/// An archive in memory.
struct Archive<'a>(&'a [u8]);

impl Input for Archive<'_> {
    fn size(&self) -> u64 {
        u64::try_from(self.0.len()).expect("a length")
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Counts what comes out, and takes no more than a little.
#[derive(Default)]
struct Counted {
    left: Option<u64>,
    taken: u64,
}

impl Sink for Counted {
    fn begin(&mut self, path: SafePath, size: u64) -> Result<(), Error> {
        assert!(self.left.replace(size).is_none(), "{path} begins within another");
        assert_eq!(SafePath::parse(path.as_str()), Ok(path));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let count = u64::try_from(bytes.len()).expect("a length");
        let left = self.left.as_mut().expect("within a file");
        *left = left.checked_sub(count).expect("no more than was said");
        self.taken += count;
        if self.taken < 1 << 20 { Ok(()) } else { Err(Error::DiskFull("enough".to_owned())) }
    }

    fn end(&mut self) -> Result<(), Error> {
        assert_eq!(self.left.take(), Some(0));
        Ok(())
    }
}

/// What comes out has safe names and the size that was said; refusals are one line.
fn unpacks(kind: Kind, data: &[u8]) {
    let mut counted = Counted::default();
    match unpack::unpack(kind, &mut Archive(data), &mut counted) {
        Ok(()) => assert_eq!(counted.left, None),
        Err(error) => assert!(!error.to_string().contains(['\n', '\r']), "{error}"),
    }
}

/// A tar as it is, and with every header's checksum mended so that what is behind it is reached.
pub(crate) fn tar_unpack(data: &[u8]) {
    unpacks(Kind::Tar, data);
    let mut mended = data.to_vec();
    for block in mended.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    unpacks(Kind::Tar, &mended);
}

/// A zip.
pub(crate) fn zip_unpack(data: &[u8]) {
    unpacks(Kind::Zip, data);
}

/// What one format admits, all of them admit; a safetensors file that is admitted keeps its format's rules, and says so
/// under any name; refusals are one line.
pub(crate) fn formats_admit(data: &[u8]) {
    let admit = |name: &str, formats: &[Format]| formats::admit(name, &mut Archive(data), &Allowed::new(formats));
    for format in Format::ALL {
        match admit("file", &[format]) {
            Ok(()) => assert_eq!(admit("file", &Format::ALL), Ok(()), "{format:?}"),
            Err(error) => assert!(!error.to_string().contains(['\n', '\r']), "{error}"),
        }
    }
    let checked = formats::check_safetensors(&mut Archive(data));
    if admit("m.safetensors", &[Format::Safetensors]).is_ok() {
        assert_eq!(checked, Ok(()));
    }
    if let (Ok(()), Some((length, rest))) = (checked, data.split_first_chunk::<8>()) {
        let length = usize::try_from(u64::from_le_bytes(*length)).expect("a length");
        assert!(length <= rest.len() && rest.starts_with(b"{"));
    }
}
