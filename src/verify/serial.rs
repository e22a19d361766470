//! Sums that need a file's bytes in order: fed as pieces arrive, completed by reading what was missed.
//!
//! In: statements, then bytes at their offsets. Out: the same statements as the bytes make them. Pure.
//! Holds: a stretch takes each of its bytes once and in order; bytes ahead of where it is are left out.

use std::sync::Arc;

use sha2::Digest as _;

use super::wide;
use crate::manifest::{Composite, CompositeSum, Stated};
use crate::units::{ByteRange, PIECE_BYTES, piece_count};

/// The statements worth comparing among `stated`: the one place that says which are not.
///
/// A CRC of the whole object folds from pieces in any order. Where there is one, MD5, SHA-1, Git's ids and sums over
/// parts would cost an ordered read and say no more about damage on the way. SHA-256 and pins are always compared.
/// Of the 32-bit CRCs a piece carries one: CRC-32C counts.
pub fn needed(stated: &[Stated]) -> Vec<Stated> {
    let folds = stated.iter().any(|one| matches!(one, Stated::Crc64Nvme(_) | Stated::Crc32c(_) | Stated::Crc32(_)));
    let castagnoli = stated.iter().any(|one| matches!(one, Stated::Crc32c(_)));
    let of_parts = |sum: fn(&CompositeSum) -> bool| {
        stated.iter().any(|one| matches!(one, Stated::Composite(composite) if sum(&composite.sum)))
    };
    let castagnoli_of_parts = of_parts(|sum| matches!(sum, CompositeSum::Crc32c(_)));
    let keep = |one: &&Stated| match one {
        Stated::Crc64Nvme(_) | Stated::Crc32c(_) | Stated::Sha256(_) | Stated::Blake3(_) | Stated::Sealed(_) => true,
        Stated::Crc32(_) => !castagnoli,
        Stated::Sha1(_) | Stated::Md5(_) | Stated::GitBlob(_) => !folds,
        Stated::Composite(composite) => match composite.sum {
            CompositeSum::Sha256(_) => true,
            CompositeSum::Crc32(_) => !folds && !castagnoli_of_parts,
            CompositeSum::Crc32c(_) | CompositeSum::Crc64Nvme(_) | CompositeSum::Sha1(_) => !folds,
        },
    };
    stated.iter().filter(keep).cloned().collect()
}

/// Whether comparing it needs the bytes in order: nothing folds it from pieces.
pub fn is_serial(stated: &Stated) -> bool {
    match stated {
        Stated::Sha256(_) | Stated::Sha1(_) | Stated::Md5(_) | Stated::GitBlob(_) => true,
        Stated::Composite(composite) => !folds(composite),
        Stated::Crc64Nvme(_) | Stated::Crc32c(_) | Stated::Crc32(_) | Stated::Blake3(_) | Stated::Sealed(_) => false,
    }
}

/// Whether a sum over parts is folded from pieces: a CRC whose parts end where pieces do.
pub(super) fn folds(composite: &Composite) -> bool {
    let crc = matches!(composite.sum, CompositeSum::Crc32(_) | CompositeSum::Crc32c(_) | CompositeSum::Crc64Nvme(_));
    crc && ends_with_pieces(composite)
}

fn ends_with_pieces(composite: &Composite) -> bool {
    let inner = composite.ends.split_last().map_or(&[][..], |(_, inner)| inner);
    inner.iter().all(|end| end.is_multiple_of(PIECE_BYTES))
}

/// The pieces at which the ordered parts of a file of `size` bytes end, ascending; each part may be read beside the
/// others. Empty when nothing stated needs an order.
pub fn stretches(size: u64, stated: &[Stated]) -> Arc<[u64]> {
    let mut parts: Option<&Composite> = None;
    for one in stated.iter().filter(|one| is_serial(one)) {
        match one {
            Stated::Composite(composite) if parts.is_none() && fits(composite, size) && ends_with_pieces(composite) => {
                parts = Some(composite);
            }
            // The whole in one go; so also where the parts of two uploads differ or cut pieces.
            _ => return Arc::new([piece_count(size)]),
        }
    }
    parts.map_or_else(|| Arc::new([]) as Arc<[u64]>, |parts| parts.ends.iter().map(|end| piece_count(*end)).collect())
}

/// Whether the parts are those of an object of `size` bytes.
fn fits(composite: &Composite, size: u64) -> bool {
    composite.ends.is_sorted() && composite.ends.last() == Some(&size)
}

/// The ordered sums of one file under way.
#[derive(Debug)]
pub struct Serial {
    size: Option<u64>,
    stated: Vec<Stated>,
    tracks: Vec<Track>,
}

impl Serial {
    /// Sums for what of `stated` needs an order; `None` when nothing does. `size` in bytes, `None` for a stream.
    pub fn new(size: Option<u64>, stated: &[Stated]) -> Option<Self> {
        let stated: Vec<Stated> = stated.iter().filter(|one| is_serial(one)).cloned().collect();
        let tracks = stated.iter().filter_map(|one| Track::of(one, size)).collect();
        (!stated.is_empty()).then_some(Self { size, stated, tracks })
    }

    /// A stream ended with `size` bytes: sums that need the size first begin now, and must read everything again.
    pub fn sized(&mut self, size: u64) {
        if self.size.is_some() {
            return;
        }
        self.size = Some(size);
        for track in &mut self.tracks {
            track.stretches.iter_mut().for_each(|stretch| stretch.end = stretch.end.min(size));
        }
        let kept: Vec<Stated> = self.tracks.iter().map(|track| track.stated.clone()).collect();
        let missing = self.stated.iter().filter(|one| !kept.contains(one));
        self.tracks.extend(missing.filter_map(|one| Track::of(one, Some(size))));
    }

    /// Takes `bytes`, which stand at `offset`, into every stretch that has come as far.
    pub fn feed(&mut self, offset: u64, bytes: &[u8]) {
        self.tracks.iter_mut().for_each(|track| track.feed(offset, bytes));
    }

    /// The first byte that is still wanted, and where its stretch ends; `None` when every sum is complete.
    pub fn wanted(&self) -> Option<ByteRange> {
        self.tracks.iter().filter_map(Track::wanted).min_by_key(|range| range.start)
    }

    /// The statements as the bytes make them, once nothing is [wanted](Serial::wanted) any more.
    ///
    /// One whose parts are not those of this file is left out: it cannot match.
    pub fn into_computed(self) -> Vec<Stated> {
        if self.wanted().is_some() {
            return Vec::new();
        }
        self.tracks.into_iter().map(Track::into_computed).collect()
    }
}

/// One statement's stretches.
#[derive(Debug)]
struct Track {
    stated: Stated,
    algorithm: Algorithm,
    stretches: Vec<Stretch>,
}

impl Track {
    /// `None` when it cannot begin: the size is not known, or the parts are not this file's.
    fn of(stated: &Stated, size: Option<u64>) -> Option<Self> {
        let whole = |algorithm: Algorithm| (algorithm, vec![Stretch::new(0, size.unwrap_or(u64::MAX))]);
        let (algorithm, stretches) = match stated {
            Stated::Sha256(_) => whole(Algorithm::Sha256),
            Stated::Sha1(_) => whole(Algorithm::Sha1),
            Stated::Md5(_) => whole(Algorithm::Md5),
            Stated::GitBlob(_) => whole(Algorithm::GitBlob(size?)),
            Stated::Composite(composite) => {
                let starts = [0].into_iter().chain(composite.ends.iter().copied());
                let parts = starts.zip(composite.ends.iter()).map(|(start, end)| Stretch::new(start, *end));
                (Algorithm::of(&composite.sum), fits(composite, size?).then(|| parts.collect())?)
            }
            Stated::Crc64Nvme(_) | Stated::Crc32c(_) | Stated::Crc32(_) | Stated::Blake3(_) | Stated::Sealed(_) => {
                return None;
            }
        };
        Some(Self { stated: stated.clone(), algorithm, stretches })
    }

    fn feed(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + wide(bytes.len());
        let first = self.stretches.partition_point(|stretch| stretch.end <= offset);
        for stretch in self.stretches[first..].iter_mut().take_while(|stretch| stretch.start < end) {
            let until = end.min(stretch.end);
            if offset <= stretch.next && stretch.next < until {
                // Both lie within `bytes`, whose length is a usize.
                let [from, to] = [stretch.next - offset, until - offset].map(|at| usize::try_from(at).unwrap_or(0));
                stretch.take(self.algorithm, &bytes[from..to]);
            }
        }
    }

    fn wanted(&self) -> Option<ByteRange> {
        let behind = self.stretches.iter().find(|stretch| stretch.next < stretch.end)?;
        Some(ByteRange::new(behind.next, behind.end))
    }

    fn into_computed(self) -> Stated {
        let algorithm = self.algorithm;
        let sums: Vec<Sum> = self.stretches.into_iter().map(|stretch| stretch.sum(algorithm)).collect();
        let whole = || sums.first().copied().unwrap_or(Sum::Crc(0));
        let of_parts = || {
            let mut over = Hasher::new(algorithm);
            sums.iter().for_each(|sum| sum.add_to(algorithm, &mut over));
            over.finish()
        };
        match (self.stated, algorithm) {
            (Stated::Composite(composite), _) => {
                Stated::Composite(Composite { sum: of_parts().of_kind(&composite.sum), ..composite })
            }
            (Stated::Sha256(_), _) => Stated::Sha256(whole().sha256()),
            (Stated::Sha1(_), _) => Stated::Sha1(whole().sha1()),
            (Stated::GitBlob(_), _) => Stated::GitBlob(whole().sha1()),
            (Stated::Md5(_), _) => Stated::Md5(whole().md5()),
            (other, _) => other,
        }
    }
}

/// Consecutive bytes that are hashed in order.
#[derive(Debug)]
struct Stretch {
    start: u64,
    /// The next byte it takes.
    next: u64,
    end: u64,
    state: State,
}

/// Of ten thousand parts few are under way at once: only those hold a hasher.
#[derive(Debug)]
enum State {
    Untouched,
    Running(Box<Hasher>),
    Done(Sum),
}

impl Stretch {
    fn new(start: u64, end: u64) -> Self {
        Self { start, next: start, end, state: State::Untouched }
    }

    fn take(&mut self, algorithm: Algorithm, bytes: &[u8]) {
        if let State::Untouched = self.state {
            self.state = State::Running(Box::new(Hasher::new(algorithm)));
        }
        if let State::Running(hasher) = &mut self.state {
            hasher.update(bytes);
        }
        self.next += wide(bytes.len());
        if self.next == self.end {
            self.state = State::Done(std::mem::replace(&mut self.state, State::Untouched).sum(algorithm));
        }
    }

    fn sum(self, algorithm: Algorithm) -> Sum {
        self.state.sum(algorithm)
    }
}

impl State {
    fn sum(self, algorithm: Algorithm) -> Sum {
        match self {
            Self::Untouched => Hasher::new(algorithm).finish(),
            Self::Running(hasher) => hasher.finish(),
            Self::Done(sum) => sum,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Algorithm {
    Sha256,
    Sha1,
    Md5,
    /// SHA-1 behind Git's head of a blob of so many bytes.
    GitBlob(u64),
    Crc32,
    Crc32c,
    Crc64Nvme,
}

impl Algorithm {
    fn of(sum: &CompositeSum) -> Self {
        match sum {
            CompositeSum::Crc32(_) => Self::Crc32,
            CompositeSum::Crc32c(_) => Self::Crc32c,
            CompositeSum::Crc64Nvme(_) => Self::Crc64Nvme,
            CompositeSum::Sha1(_) => Self::Sha1,
            CompositeSum::Sha256(_) => Self::Sha256,
        }
    }
}

enum Hasher {
    Sha256(sha2::Sha256),
    Sha1(sha1::Sha1),
    Md5(md5::Md5),
    Crc(crc_fast::Digest),
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        let crc = |algorithm| Self::Crc(crc_fast::Digest::new(algorithm));
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha1 => Self::Sha1(sha1::Sha1::new()),
            Algorithm::Md5 => Self::Md5(md5::Md5::new()),
            Algorithm::GitBlob(size) => {
                Self::Sha1(sha1::Sha1::new().chain_update("blob ").chain_update(size.to_string()).chain_update([0]))
            }
            Algorithm::Crc32 => crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(crc_fast::CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(crc_fast::CrcAlgorithm::Crc64Nvme),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Crc(digest) => digest.update(bytes),
        }
    }

    fn finish(self) -> Sum {
        match self {
            Self::Sha256(hasher) => Sum::Sha256(hasher.finalize().into()),
            Self::Sha1(hasher) => Sum::Sha1(hasher.finalize().into()),
            Self::Md5(hasher) => Sum::Md5(hasher.finalize().into()),
            Self::Crc(digest) => Sum::Crc(digest.finalize()),
        }
    }
}

/// What a stretch came to.
#[derive(Debug, Clone, Copy)]
enum Sum {
    Sha256([u8; 32]),
    Sha1([u8; 20]),
    Md5([u8; 16]),
    Crc(u64),
}

impl Sum {
    /// Adds it to a sum over parts, as the bytes that a store writes of it.
    fn add_to(&self, algorithm: Algorithm, over: &mut Hasher) {
        match self {
            Self::Sha256(sum) => over.update(sum),
            Self::Sha1(sum) => over.update(sum),
            Self::Md5(sum) => over.update(sum),
            Self::Crc(sum) if matches!(algorithm, Algorithm::Crc64Nvme) => over.update(&sum.to_be_bytes()),
            Self::Crc(_) => over.update(&self.crc32().to_be_bytes()),
        }
    }

    fn of_kind(self, like: &CompositeSum) -> CompositeSum {
        match like {
            CompositeSum::Crc32(_) => CompositeSum::Crc32(self.crc32()),
            CompositeSum::Crc32c(_) => CompositeSum::Crc32c(self.crc32()),
            CompositeSum::Crc64Nvme(_) => CompositeSum::Crc64Nvme(self.crc64()),
            CompositeSum::Sha1(_) => CompositeSum::Sha1(self.sha1()),
            CompositeSum::Sha256(_) => CompositeSum::Sha256(self.sha256()),
        }
    }

    fn crc64(self) -> u64 {
        let Self::Crc(sum) = self else { unreachable!("a CRC of another kind") };
        sum
    }

    fn crc32(self) -> u32 {
        u32::try_from(self.crc64()).unwrap_or(u32::MAX)
    }

    fn sha256(self) -> [u8; 32] {
        let Self::Sha256(sum) = self else { unreachable!("a SHA-256 of another kind") };
        sum
    }

    fn sha1(self) -> [u8; 20] {
        let Self::Sha1(sum) = self else { unreachable!("a SHA-1 of another kind") };
        sum
    }

    fn md5(self) -> [u8; 16] {
        let Self::Md5(sum) = self else { unreachable!("an MD5 of another kind") };
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::MIB;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        std::array::from_fn(byte)
    }

    fn composite(sum: CompositeSum, ends: &[u64]) -> Stated {
        Stated::Composite(Composite { sum, ends: ends.into() })
    }

    /// Every kind that needs an order, with values that are nothing's.
    fn kinds(size: u64) -> Vec<Stated> {
        let odd = [size / 3, size / 2, size];
        vec![
            Stated::Sha256([0; 32]),
            Stated::Sha1([0; 20]),
            Stated::Md5([0; 16]),
            Stated::GitBlob([0; 20]),
            composite(CompositeSum::Sha256([0; 32]), &odd),
            composite(CompositeSum::Sha1([0; 20]), &odd),
            composite(CompositeSum::Crc32(0), &odd),
            composite(CompositeSum::Crc32c(0), &odd),
            composite(CompositeSum::Crc64Nvme(0), &odd),
        ]
    }

    fn in_one_go(content: &[u8], stated: &[Stated]) -> Vec<Stated> {
        let mut serial = Serial::new(Some(wide(content.len())), stated).unwrap();
        serial.feed(0, content);
        serial.into_computed()
    }

    #[test]
    fn whole_sums_are_those_of_the_standards() {
        // FIPS 180, RFC 1321, and `git hash-object` of the same bytes.
        let abc = [
            Stated::Sha256(bytes("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")),
            Stated::Sha1(bytes("a9993e364706816aba3e25717850c26c9cd0d89d")),
            Stated::Md5(bytes("900150983cd24fb0d6963f7d28e17f72")),
            Stated::GitBlob(bytes("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f")),
        ];
        assert_eq!(in_one_go(b"abc", &kinds(3)[..4]), abc);
        let empty = [
            Stated::Sha256(bytes("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")),
            Stated::Sha1(bytes("da39a3ee5e6b4b0d3255bfef95601890afd80709")),
            Stated::Md5(bytes("d41d8cd98f00b204e9800998ecf8427e")),
            Stated::GitBlob(bytes("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")),
        ];
        let serial = Serial::new(Some(0), &kinds(0)[..4]).unwrap();
        assert_eq!(serial.wanted(), None);
        assert_eq!(serial.into_computed(), empty);
    }

    #[test]
    fn sums_over_parts_are_those_that_python_computes() {
        // hashlib and zlib over b"abc" + b"defgh" + b"i", each part's value as bytes, summed again.
        let ends = [3, 8, 9];
        let expected = [
            composite(
                CompositeSum::Sha256(bytes("66ded6ac955d1be852dd66df170358e508b76b522d773e768f06cc750e38315e")),
                &ends,
            ),
            composite(CompositeSum::Sha1(bytes("7bb526fe6af37b1d0312957400090efc0faddcbf")), &ends),
            composite(CompositeSum::Crc32(0xde6e_b585), &ends),
        ];
        let asked = [
            composite(CompositeSum::Sha256([0; 32]), &ends),
            composite(CompositeSum::Sha1([0; 20]), &ends),
            composite(CompositeSum::Crc32(0), &ends),
        ];
        assert_eq!(in_one_go(b"abcdefghi", &asked), expected);
    }

    #[test]
    fn parts_that_are_not_the_files_match_nothing() {
        for ends in [&[3, 8][..], &[8, 3, 9], &[3, 10]] {
            let asked = [composite(CompositeSum::Sha256([0; 32]), ends), Stated::Md5([0; 16])];
            let computed = in_one_go(b"abcdefghi", &asked);
            assert!(matches!(computed.as_slice(), [Stated::Md5(_)]), "{ends:?}");
        }
    }

    #[test]
    fn a_stream_gets_the_sums_that_need_its_size_from_a_second_look() {
        let mut serial = Serial::new(None, &kinds(3)[..4]).unwrap();
        serial.feed(0, b"ab");
        serial.feed(2, b"c");
        assert_eq!(serial.wanted(), Some(ByteRange::new(3, u64::MAX)));
        serial.sized(3);
        assert_eq!(serial.wanted(), Some(ByteRange::new(0, 3)), "for Git's id alone");
        serial.feed(0, b"abc");
        assert_eq!(serial.wanted(), None);
        assert_eq!(serial.into_computed(), in_one_go(b"abc", &kinds(3)[..4]));
    }

    #[test]
    fn a_full_crc_makes_ordered_sums_needless_but_never_sha_256() {
        let all = kinds(9);
        let aligned = composite(CompositeSum::Crc32c(0), &[MIB, 2 * MIB]);
        let names = |stated: &[Stated]| needed(stated).iter().map(Stated::name).collect::<Vec<_>>();
        assert_eq!(needed(&all).len(), all.len() - 1, "of the 32-bit sums over parts one");
        for crc in [Stated::Crc64Nvme(1), Stated::Crc32c(1), Stated::Crc32(1)] {
            let with = [&all[..], &[crc.clone(), Stated::Blake3(crate::manifest::Digest([0; 32]))]].concat();
            assert_eq!(names(&with), ["sha256", "sha256-composite", crc.name(), "blake3"]);
        }
        assert_eq!(names(&[Stated::Crc32(1), Stated::Crc32c(1)]), ["crc32c"]);
        assert_eq!(names(&[Stated::Md5([0; 16]), aligned.clone()]), ["md5", "crc32c-composite"]);
        assert!(!is_serial(&aligned) && all.iter().all(is_serial));
    }

    #[test]
    fn parts_that_end_with_pieces_are_read_side_by_side() {
        let parts = |ends: &[u64]| composite(CompositeSum::Sha256([0; 32]), ends);
        let size = 8 * MIB + 1;
        let check = |stated: &[Stated], expected: &[u64]| assert_eq!(stretches(size, stated).as_ref(), expected);
        check(&[], &[]);
        check(&[Stated::Crc32(1)], &[]);
        check(&[Stated::Sha256([0; 32])], &[9]);
        check(&[parts(&[4 * MIB, 8 * MIB, size])], &[4, 8, 9]);
        check(&[parts(&[4 * MIB, 8 * MIB, size]), Stated::Md5([0; 16])], &[9]);
        check(&[parts(&[4 * MIB + 1, size])], &[9]);
        check(&[parts(&[4 * MIB, size + 1])], &[9]);
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_and_a_second_look_give_the_sums_of_one_pass(
            content in prop::collection::vec(any::<u8>(), 0..5000),
            cut in 1..700_usize,
            order in any::<u64>(),
        ) {
            let size = wide(content.len());
            let mut pieces: Vec<(u64, &[u8])> = content.chunks(cut).enumerate().map(|(i, p)| (wide(i * cut), p)).collect();
            let key = |offset: u64| blake3::hash(&(offset ^ order).to_le_bytes()).as_bytes()[0];
            pieces.sort_by_key(|(offset, _)| key(*offset));
            let mut serial = Serial::new(Some(size), &kinds(size)).unwrap();
            pieces.iter().for_each(|(offset, piece)| serial.feed(*offset, piece));
            while let Some(range) = serial.wanted() {
                let start = usize::try_from(range.start).unwrap() / cut * cut;
                serial.feed(wide(start), &content[start..(start + cut).min(content.len())]);
                prop_assert!(serial.wanted().is_none_or(|now| range.start < now.start));
            }
            prop_assert_eq!(serial.into_computed(), in_one_go(&content, &kinds(size)));
        }
    }
}
