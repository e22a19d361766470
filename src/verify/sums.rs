//! Folds the pieces' CRCs into the file's and compares them with what is stated.

use super::{Check, PieceProof, serial};
use crate::manifest::{Composite, CompositeSum, Stated};
use crate::units::{self, PIECE_BYTES};

const CRC64NVME: Crc = Crc { poly: 0x9a6c_9329_ac4b_c9b5, one: 1 << 63 };
const CRC32C: Crc = Crc { poly: 0x82f6_3b78, one: 1 << 31 };
const CRC32: Crc = Crc { poly: 0xedb8_8320, one: 1 << 31 };

/// Compares every statement with what the proofs fold to, or with what was `computed` of the bytes in order.
///
/// # Panics
/// When the number of proofs is not the number of pieces of a file of `size` bytes.
pub fn checks(size: u64, proofs: &[PieceProof], stated: &[Stated], computed: &[Stated]) -> Vec<Check> {
    stated.iter().map(|stated| check(size, proofs, stated, computed)).collect()
}

fn check(size: u64, proofs: &[PieceProof], stated: &Stated, computed: &[Stated]) -> Check {
    let crc32 = |proof: &PieceProof| u64::from(proof.crc32);
    let matches = match stated {
        Stated::Crc64Nvme(sum) => CRC64NVME.fold(size, proofs.iter().map(|proof| proof.crc64nvme)) == *sum,
        Stated::Crc32c(sum) => CRC32C.fold(size, proofs.iter().map(crc32)) == u64::from(*sum),
        Stated::Crc32(sum) => CRC32.fold(size, proofs.iter().map(crc32)) == u64::from(*sum),
        Stated::Blake3(digest) | Stated::Sealed(digest) => super::root(size, proofs) == *digest,
        Stated::Composite(composite) if serial::folds(composite) => folded(size, proofs, composite),
        Stated::Sha256(_) | Stated::Sha1(_) | Stated::Md5(_) | Stated::GitBlob(_) | Stated::Composite(_) => {
            computed.contains(stated)
        }
    };
    Check { name: stated.name(), stated: stated_text(stated), matches }
}

/// Whether the CRCs of the parts, folded from their pieces, sum up to what is stated. Parts end where pieces do.
fn folded(size: u64, proofs: &[PieceProof], composite: &Composite) -> bool {
    if !composite.ends.is_sorted() || composite.ends.last() != Some(&size) {
        return false;
    }
    let (crc, wide): (&Crc, _) = match composite.sum {
        CompositeSum::Crc32(_) => (&CRC32, false),
        CompositeSum::Crc32c(_) => (&CRC32C, false),
        CompositeSum::Crc64Nvme(_) => (&CRC64NVME, true),
        CompositeSum::Sha1(_) | CompositeSum::Sha256(_) => return false,
    };
    let (mut start, mut rest, mut sums) = (0, proofs, Vec::new());
    for end in composite.ends.iter() {
        let pieces = usize::try_from(units::piece_count(end - start)).unwrap_or(usize::MAX);
        let (part, later) = rest.split_at(pieces);
        let sum = crc.fold(end - start, part.iter().map(|p| if wide { p.crc64nvme } else { u64::from(p.crc32) }));
        let bytes = sum.to_be_bytes();
        sums.extend_from_slice(if wide { &bytes } else { &bytes[4..] });
        (start, rest) = (*end, later);
    }
    match composite.sum {
        CompositeSum::Crc32(sum) => crc_fast::crc32_iso_hdlc(&sums) == sum,
        CompositeSum::Crc32c(sum) => crc_fast::crc32_iscsi(&sums) == sum,
        CompositeSum::Crc64Nvme(sum) => crc_fast::crc64_nvme(&sums) == sum,
        CompositeSum::Sha1(_) | CompositeSum::Sha256(_) => false,
    }
}

/// A statement's value as its store writes it: base64 of the big-endian sum, or a digest's
/// hexadecimal digits.
pub fn stated_text(stated: &Stated) -> String {
    match stated {
        Stated::Crc64Nvme(sum) => base64(&sum.to_be_bytes()),
        Stated::Crc32c(sum) | Stated::Crc32(sum) => base64(&sum.to_be_bytes()),
        Stated::Sha256(sum) => hex(sum),
        Stated::Sha1(sum) | Stated::GitBlob(sum) => hex(sum),
        Stated::Md5(sum) => hex(sum),
        Stated::Composite(composite) => composite_text(composite),
        Stated::Blake3(digest) | Stated::Sealed(digest) => digest.to_hex(),
    }
}

/// As S3 writes it: the value in base64, a dash and the number of parts.
fn composite_text(composite: &Composite) -> String {
    let value = match &composite.sum {
        CompositeSum::Crc32(sum) | CompositeSum::Crc32c(sum) => base64(&sum.to_be_bytes()),
        CompositeSum::Crc64Nvme(sum) => base64(&sum.to_be_bytes()),
        CompositeSum::Sha1(sum) => base64(sum),
        CompositeSum::Sha256(sum) => base64(sum),
    };
    format!("{value}-{}", composite.ends.len())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A reflected CRC whose initial value and final xor are the same, so that sums combine linearly:
/// `crc(a ‖ b) = crc(a) · x^(8·len(b)) + crc(b)`, and the sum of nothing is 0.
///
/// `crc_fast::checksum_combine` rebuilds its matrices on every call, which costs tens of microseconds
/// a piece; here the multiplier of a whole piece is found once (bench `crc_fold`).
struct Crc {
    /// The polynomial, lowest power at the top bit.
    poly: u64,
    /// The polynomial 1: the top bit.
    one: u64,
}

impl Crc {
    /// The sum of a file of `size` bytes from the sums of its pieces.
    fn fold(&self, size: u64, sums: impl Iterator<Item = u64>) -> u64 {
        let pieces = units::piece_count(size);
        let whole = self.shift(PIECE_BYTES);
        let last = self.shift(units::piece_range(size, pieces.saturating_sub(1)).len());
        let (folded, count) = sums.fold((0, 0), |(sum, index), piece| {
            let shift = if index + 1 < pieces { whole } else { last };
            (self.times(sum, shift) ^ piece, index + 1)
        });
        assert_eq!(count, pieces, "sums of a file of {size} bytes");
        folded
    }

    /// `x^(8·bytes)` modulo the polynomial, by repeated squaring.
    fn shift(&self, mut bytes: u64) -> u64 {
        let (mut power, mut square) = (self.one, self.one >> 8);
        while bytes != 0 {
            if bytes & 1 == 1 {
                power = self.times(power, square);
            }
            square = self.times(square, square);
            bytes >>= 1;
        }
        power
    }

    /// The product of two polynomials modulo this one.
    fn times(&self, a: u64, mut b: u64) -> u64 {
        let (mut product, mut power) = (0, self.one);
        while power != 0 {
            // Masks, not branches: the bits are random, a branch would be mispredicted half the time.
            product ^= b & u64::from(a & power != 0).wrapping_neg();
            b = (b >> 1) ^ (self.poly & (b & 1).wrapping_neg());
            power >>= 1;
        }
        product
    }
}

/// Standard base64 with padding, as S3 and GCS write checksums.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(group.get(i).copied().unwrap_or(0)));
        for (digit, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let padding = group.len() < digit;
            text.push(if padding { '=' } else { char::from(DIGITS[bits >> shift & 63]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use crc_fast::CrcAlgorithm;
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::Digest;
    use crate::verify::{self, Crc32, Sums};

    /// A reflected CRC bit by bit, with `ones` as initial value and final xor.
    fn naive(bytes: &[u8], poly: u64, ones: u64) -> u64 {
        let step = |sum: u64, _| if sum & 1 == 1 { sum >> 1 ^ poly } else { sum >> 1 };
        ones ^ bytes.iter().fold(ones, |sum, byte| (0..8).fold(sum ^ u64::from(*byte), step))
    }

    fn naive_crc64(bytes: &[u8]) -> u64 {
        naive(bytes, 0xad93_d235_94c9_3659_u64.reverse_bits(), u64::MAX)
    }

    fn naive_crc32c(bytes: &[u8]) -> u32 {
        u32::try_from(naive(bytes, u64::from(0x1edc_6f41_u32.reverse_bits()), u64::from(u32::MAX))).unwrap()
    }

    fn naive_crc32(bytes: &[u8]) -> u32 {
        u32::try_from(naive(bytes, u64::from(0x04c1_1db7_u32.reverse_bits()), u64::from(u32::MAX))).unwrap()
    }

    fn proofs(bytes: &[u8]) -> Vec<PieceProof> {
        proofs_with(bytes, Crc32::Castagnoli)
    }

    fn proofs_with(bytes: &[u8], crc32: Crc32) -> Vec<PieceProof> {
        let size = u64::try_from(bytes.len()).unwrap();
        let sums = Sums { crc64nvme: true, crc32: Some(crc32) };
        (0..)
            .zip(bytes.chunks(1 << 20))
            .map(|(index, piece)| verify::prove_piece(Some(size), index, piece, sums))
            .collect()
    }

    #[test]
    fn the_oracle_gives_the_catalogues_check_values() {
        assert_eq!(naive_crc64(b"123456789"), 0xae8b_1486_0a79_9888);
        assert_eq!(naive_crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(naive_crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn true_statements_match_and_false_ones_do_not_at_every_boundary() {
        let mib = 1 << 20;
        for size in [0, 1, 9, mib - 1, mib, mib + 1, 3 * mib + 7] {
            let bytes: Vec<u8> = (0..size).map(|i: usize| (i * 131 + i / 509).to_le_bytes()[0]).collect();
            let (crc64, crc32c) = (naive_crc64(&bytes), naive_crc32c(&bytes));
            let digest = Digest(*blake3::hash(&bytes).as_bytes());
            let stated = [
                Stated::Crc64Nvme(crc64),
                Stated::Crc32c(crc32c),
                Stated::Blake3(digest),
                Stated::Crc64Nvme(crc64 ^ 1 << 63),
                Stated::Crc32c(crc32c ^ 1),
                Stated::Blake3(Digest([0; 32])),
            ];
            let checks = checks(u64::try_from(size).unwrap(), &proofs(&bytes), &stated, &[]);
            let matches: Vec<bool> = checks.iter().map(|check| check.matches).collect();
            assert_eq!(matches, [true, true, true, false, false, false], "{size} bytes");
            let crc32 = naive_crc32(&bytes);
            let stated = [Stated::Crc32(crc32), Stated::Crc32(crc32 ^ 1 << 31)];
            let checks =
                super::checks(u64::try_from(size).unwrap(), &proofs_with(&bytes, Crc32::IsoHdlc), &stated, &[]);
            assert_eq!([true, false], [checks[0].matches, checks[1].matches], "{size} bytes");
        }
    }

    #[test]
    fn crcs_over_parts_fold_from_pieces_where_parts_end_with_them() {
        let (mib, size) = (1 << 20, (5 << 20) + 77);
        let bytes: Vec<u8> = (0..size).map(|i: usize| (i * 131 + i / 509).to_le_bytes()[0]).collect();
        let composite = |sum, ends: &[usize]| {
            Stated::Composite(Composite { sum, ends: ends.iter().map(|end| verify::wide(*end)).collect() })
        };
        for ends in [&[2 * mib, 4 * mib, size][..], &[mib, size], &[size]] {
            let starts = [0].into_iter().chain(ends.iter().copied());
            let parts: Vec<&[u8]> = starts.zip(ends).map(|(start, end)| &bytes[start..*end]).collect();
            let over32 =
                |sum: fn(&[u8]) -> u32| sum(&parts.iter().flat_map(|part| sum(part).to_be_bytes()).collect::<Vec<_>>());
            let crc64 = naive_crc64(&parts.iter().flat_map(|part| naive_crc64(part).to_be_bytes()).collect::<Vec<_>>());
            for (sum, other, crc32) in [
                (CompositeSum::Crc32(over32(naive_crc32)), CompositeSum::Crc32(1), Crc32::IsoHdlc),
                (CompositeSum::Crc32c(over32(naive_crc32c)), CompositeSum::Crc32c(1), Crc32::Castagnoli),
                (CompositeSum::Crc64Nvme(crc64), CompositeSum::Crc64Nvme(1), Crc32::Castagnoli),
            ] {
                let stated = [composite(sum, ends), composite(other, ends), composite(sum, &[mib, 2 * mib])];
                let found = checks(verify::wide(size), &proofs_with(&bytes, crc32), &stated, &[]);
                let matches: Vec<bool> = found.iter().map(|check| check.matches).collect();
                assert_eq!(matches, [true, false, false], "{sum:?} {ends:?}");
                assert_eq!(found[0].stated.rsplit('-').next(), Some(ends.len().to_string().as_str()));
                let asked = Sums::of(&stated[..1]);
                assert_eq!(
                    (asked.crc64nvme, asked.crc32),
                    match sum {
                        CompositeSum::Crc64Nvme(_) => (true, None),
                        _ => (false, Some(crc32)),
                    }
                );
            }
        }
    }

    #[test]
    fn statements_are_shown_as_stores_write_them() {
        let bytes = b"123456789";
        let stated = [Stated::Crc64Nvme(0xae8b_1486_0a79_9888), Stated::Crc32c(0xe306_9283)];
        let shown: Vec<_> =
            checks(9, &proofs(bytes), &stated, &[]).into_iter().map(|check| (check.name, check.stated)).collect();
        assert_eq!(shown, [("crc64nvme", "rosUhgp5mIg=".to_owned()), ("crc32c", "4waSgw==".to_owned())]);
    }

    #[test]
    fn base64_pads_as_rfc_4648_shows() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    #[should_panic(expected = "sums of a file of 1048577 bytes")]
    fn a_missing_piece_is_a_defect() {
        checks(PIECE_BYTES + 1, &proofs(b"x"), &[Stated::Crc32c(0)], &[]);
    }

    proptest! {
        #[test]
        fn shifted_sums_combine_as_matrices_do(a: u64, b: u64, bytes in 0..1_u64 << 44) {
            let expected = crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, a, b, bytes);
            prop_assert_eq!(CRC64NVME.times(a, CRC64NVME.shift(bytes)) ^ b, expected);
            let (a, b) = (a >> 32, b >> 32);
            let expected = crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, a, b, bytes);
            prop_assert_eq!(CRC32C.times(a, CRC32C.shift(bytes)) ^ b, expected);
            let expected = crc_fast::checksum_combine(CrcAlgorithm::Crc32IsoHdlc, a, b, bytes);
            prop_assert_eq!(CRC32.times(a, CRC32.shift(bytes)) ^ b, expected);
        }
    }
}
