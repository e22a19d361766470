//! What replies state about an object's bytes: S3's checksums, Google's hashes, RFC 9530's digests, MD5. Pure.
//!
//! In: headers, or the SDK's fields of the same names. Out: [`Stated`] of the whole, or a [`PartsSum`] whose part ends
//! are still to be found.
//! Holds: what is malformed, contradicts itself or is of another thing than the whole as stored states nothing; it is
//! never an error.

use crate::manifest::{CompositeSum, Stated};
use crate::origin::listing::base64_number;
use crate::wire::http1::{Head, decimal};

/// Most parts of one upload: S3's own bound.
pub(super) const PARTS_MAX: u32 = 10_000;

/// A sum over the sums of an upload's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartsSum {
    /// The stated value.
    pub(super) sum: CompositeSum,
    /// How many parts, from 1 to [`PARTS_MAX`].
    pub(super) parts: u32,
}

/// S3's checksum fields as a store wrote them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) crc64nvme: Option<&'a str>,
    pub(super) crc32c: Option<&'a str>,
    pub(super) crc32: Option<&'a str>,
    pub(super) sha256: Option<&'a str>,
    pub(super) sha1: Option<&'a str>,
    pub(super) md5: Option<&'a str>,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub(super) kind: Option<&'a str>,
    /// The strong ETag with its quotes.
    pub(super) etag: Option<&'a str>,
}

/// How an object is kept, as far as that changes what its ETag is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kept<'a> {
    /// `x-amz-server-side-encryption`.
    pub(super) encryption: Option<&'a str>,
    /// `x-amz-server-side-encryption-customer-algorithm`.
    pub(super) customer_algorithm: Option<&'a str>,
    /// `x-amz-storage-class`.
    pub(super) storage_class: Option<&'a str>,
}

/// What a reply is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// A HEAD, or a GET of all of it.
    Whole,
    /// A GET of a range: only what is defined to speak of the whole counts.
    Range,
}

impl Fields<'_> {
    /// What they state of the whole, and the sum over parts where that is all they state.
    pub(super) fn read(&self) -> (Vec<Stated>, Option<PartsSum>) {
        let whole = [
            self.whole(self.crc64nvme, Untyped::Whole).map(|sum| Stated::Crc64Nvme(u64::from_be_bytes(sum))),
            self.whole(self.crc32c, Untyped::ByEtag).map(|sum| Stated::Crc32c(u32::from_be_bytes(sum))),
            self.whole(self.crc32, Untyped::ByEtag).map(|sum| Stated::Crc32(u32::from_be_bytes(sum))),
            self.whole(self.sha256, Untyped::ByEtag).map(Stated::Sha256),
            self.whole(self.sha1, Untyped::ByEtag).map(Stated::Sha1),
            self.whole(self.md5, Untyped::ByEtag).map(Stated::Md5),
        ];
        let whole = best(whole.into_iter().flatten().collect());
        if !whole.is_empty() || !matches!(self.kind, None | Some("COMPOSITE")) {
            return (whole, None);
        }
        let sums = [
            self.parts(self.sha256, CompositeSum::Sha256),
            self.parts(self.sha1, CompositeSum::Sha1),
            self.parts(self.crc64nvme, |sum| CompositeSum::Crc64Nvme(u64::from_be_bytes(sum))),
            self.parts(self.crc32c, |sum| CompositeSum::Crc32c(u32::from_be_bytes(sum))),
            self.parts(self.crc32, |sum| CompositeSum::Crc32(u32::from_be_bytes(sum))),
        ];
        (whole, sums.into_iter().flatten().next())
    }

    fn whole<const N: usize>(&self, value: Option<&str>, untyped: Untyped) -> Option<[u8; N]> {
        let counts = match (self.kind, untyped) {
            (Some("FULL_OBJECT"), _) | (None, Untyped::Whole) => true,
            // Without its type, the sum of an object in parts is a sum of sums.
            (None, Untyped::ByEtag) => self.etag.is_none_or(|etag| !etag.contains('-')),
            (Some(_), _) => false,
        };
        value.filter(|_| counts).and_then(base64_number)
    }

    fn parts<const N: usize>(&self, value: Option<&str>, sum: fn([u8; N]) -> CompositeSum) -> Option<PartsSum> {
        let value = value?;
        let (value, count) = match value.rsplit_once('-') {
            Some((value, count)) => (value, count),
            // Some stores leave the number to the ETag.
            None if self.kind.is_some() => (value, self.etag?.trim_matches('"').rsplit_once('-')?.1),
            None => return None,
        };
        let parts = u32::try_from(decimal(count)?).ok().filter(|parts| (1..=PARTS_MAX).contains(parts))?;
        Some(PartsSum { sum: sum(base64_number(value)?), parts })
    }
}

/// What a checksum without a type is.
#[derive(Clone, Copy)]
enum Untyped {
    /// CRC-64/NVME exists only over whole objects.
    Whole,
    /// Of the whole unless the ETag is that of an upload in parts.
    ByEtag,
}

impl Kept<'_> {
    /// The MD5 that S3's ETag is: of an object in one part, encrypted by the store's own keys or not at all.
    ///
    /// S3 writes it in lower case; 32 digits in upper case are another store's, which may mean something else.
    pub(super) fn md5_of(&self, etag: &str) -> Option<[u8; 16]> {
        let plain = self.encryption.is_none_or(|name| name == "AES256") && self.customer_algorithm.is_none();
        let directory = self.storage_class == Some("EXPRESS_ONEZONE");
        let digits = etag.strip_prefix('"')?.strip_suffix('"')?;
        let lower = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if !plain || directory || !lower {
            return None;
        }
        hex_number(digits)
    }
}

/// What the headers of a reply state of a file, whose body comes uncoded. The caller has seen that it does.
pub(super) fn of_reply(head: &Head, scope: Scope) -> Vec<Stated> {
    let mut stated: Vec<Stated> = Vec::new();
    for name in ["repr-digest", "digest"] {
        stated.extend(head.all(name).flat_map(|value| value.split(',')).filter_map(digest));
    }
    if scope == Scope::Whole {
        stated.extend(only(head, "content-md5").and_then(base64_number).map(Stated::Md5));
        // Google's hashes are of the bytes as stored, which a server that unpacks them does not send.
        if head.all("x-goog-stored-content-encoding").all(|coding| coding.trim().eq_ignore_ascii_case("identity")) {
            stated.extend(head.all("x-goog-hash").flat_map(|value| value.split(',')).filter_map(google_hash));
        }
        stated.extend(amazon_fields(head).read().0);
    }
    let stated = best(consistent(stated));
    if stated.is_empty() { amazon_md5(head).into_iter().collect() } else { stated }
}

fn amazon_fields(head: &Head) -> Fields<'_> {
    Fields {
        crc64nvme: only(head, "x-amz-checksum-crc64nvme"),
        crc32c: only(head, "x-amz-checksum-crc32c"),
        crc32: only(head, "x-amz-checksum-crc32"),
        sha256: only(head, "x-amz-checksum-sha256"),
        sha1: only(head, "x-amz-checksum-sha1"),
        md5: only(head, "x-amz-checksum-md5"),
        kind: only(head, "x-amz-checksum-type"),
        etag: only(head, "etag"),
    }
}

/// The MD5 that an ETag is, of a server that shows by its request id to be S3: any other's ETag means what it likes.
fn amazon_md5(head: &Head) -> Option<Stated> {
    head.first("x-amz-request-id").filter(|id| !id.trim().is_empty())?;
    let kept = Kept {
        encryption: head.first("x-amz-server-side-encryption"),
        customer_algorithm: head.first("x-amz-server-side-encryption-customer-algorithm"),
        storage_class: head.first("x-amz-storage-class"),
    };
    kept.md5_of(only(head, "etag")?).map(Stated::Md5)
}

/// A header's value where it is there once, or always the same.
fn only<'a>(head: &'a Head, name: &'a str) -> Option<&'a str> {
    let mut values = head.all(name).map(str::trim);
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// `sha-256=:…:` of `Repr-Digest`, `SHA-256=…` of the older `Digest`.
fn digest(member: &str) -> Option<Stated> {
    let (name, value) = member.trim().split_once('=')?;
    let value = value.split(';').next().unwrap_or(value).trim();
    let value = value.strip_prefix(':').and_then(|value| value.strip_suffix(':')).unwrap_or(value);
    match name.to_ascii_lowercase().as_str() {
        "sha-256" => base64_number(value).map(Stated::Sha256),
        "sha" => base64_number(value).map(Stated::Sha1),
        "md5" => base64_number(value).map(Stated::Md5),
        _ => None,
    }
}

fn google_hash(member: &str) -> Option<Stated> {
    match member.trim().split_once('=')? {
        ("crc32c", value) => base64_number(value).map(|sum| Stated::Crc32c(u32::from_be_bytes(sum))),
        ("md5", value) => base64_number(value).map(Stated::Md5),
        _ => None,
    }
}

/// Each statement once; of a kind that is stated with two values, none.
fn consistent(stated: Vec<Stated>) -> Vec<Stated> {
    let mut kept: Vec<Stated> = Vec::new();
    for one in &stated {
        let contradicted = stated.iter().any(|other| other.name() == one.name() && other != one);
        if !contradicted && !kept.contains(one) {
            kept.push(one.clone());
        }
    }
    kept
}

/// MD5 and SHA-1 count only where nothing else is stated: they prove no more and need the bytes in order.
fn best(stated: Vec<Stated>) -> Vec<Stated> {
    let is_weak = |stated: &Stated| matches!(stated, Stated::Sha1(_) | Stated::Md5(_));
    if stated.iter().all(is_weak) {
        return stated;
    }
    stated.into_iter().filter(|stated| !is_weak(stated)).collect()
}

fn hex_number<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != 2 * N || !digits.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRC32C: &str = "4waSgw==";
    const CRC32: &str = "y/Q5Jg==";
    const CRC64NVME: &str = "rosUhgp5mIg=";
    const SHA256: &str = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=";
    const SHA1: &str = "98O8HYCOBHMq32eZZczDTKeuNEE=";
    const MD5: &str = "JfnnlDI7RTiF9RgfG2JNCw==";
    const MD5_ETAG: &str = "\"25f9e794323b453885f5181f1b624d0b\"";

    fn names(stated: &[Stated]) -> Vec<&'static str> {
        stated.iter().map(Stated::name).collect()
    }

    fn fields<'a>(name: &str, value: &'a str, kind: Option<&'a str>, etag: &'a str) -> Fields<'a> {
        let mut fields = Fields { kind, etag: Some(etag), ..Fields::default() };
        let field = match name {
            "crc64nvme" => &mut fields.crc64nvme,
            "crc32c" => &mut fields.crc32c,
            "crc32" => &mut fields.crc32,
            "sha256" => &mut fields.sha256,
            "sha1" => &mut fields.sha1,
            "md5" => &mut fields.md5,
            other => panic!("{other}"),
        };
        *field = Some(value);
        fields
    }

    #[test]
    fn a_field_is_of_the_whole_by_its_type_or_by_the_etag() {
        let all = [
            ("crc64nvme", CRC64NVME),
            ("crc32c", CRC32C),
            ("crc32", CRC32),
            ("sha256", SHA256),
            ("sha1", SHA1),
            ("md5", MD5),
        ];
        for (name, value) in all {
            for (kind, etag, counts) in [
                (Some("FULL_OBJECT"), "\"e\"", true),
                (Some("FULL_OBJECT"), "\"e-3\"", true),
                (None, "\"e\"", true),
                (None, "\"e-3\"", name == "crc64nvme"),
                (Some("COMPOSITE"), "\"e\"", false),
                (Some("SOMETHING"), "\"e\"", false),
            ] {
                let (whole, parts) = fields(name, value, kind, etag).read();
                assert_eq!(names(&whole), if counts { vec![name] } else { vec![] }, "{name} {kind:?} {etag}");
                assert_eq!(parts, None, "{name} {kind:?} {etag}");
            }
        }
        let (whole, _) = fields("crc32", CRC32, None, "\"e\"").read();
        assert_eq!(whole, [Stated::Crc32(0xcbf4_3926)]);
    }

    #[test]
    fn a_sum_of_sums_knows_its_parts() {
        let typed = "4waSgw==-3";
        let sum = Some(PartsSum { sum: CompositeSum::Crc32c(0xe306_9283), parts: 3 });
        for (value, kind, etag, found) in [
            (typed, Some("COMPOSITE"), "\"e-3\"", sum),
            (typed, None, "\"e-3\"", sum),
            (CRC32C, Some("COMPOSITE"), "\"e-3\"", sum),
            (typed, Some("FULL_OBJECT"), "\"e-3\"", None),
            ("4waSgw==-0", Some("COMPOSITE"), "\"e-3\"", None),
            ("4waSgw==-10001", Some("COMPOSITE"), "\"e-3\"", None),
            ("4waSgw==-x", Some("COMPOSITE"), "\"e-3\"", None),
            ("4waS-3", Some("COMPOSITE"), "\"e-3\"", None),
            (CRC32C, None, "\"e-3\"", None),
        ] {
            assert_eq!(fields("crc32c", value, kind, etag).read(), (vec![], found), "{value} {kind:?}");
        }
        let sha256 = format!("{SHA256}-2");
        let (_, sum) = fields("sha256", &sha256, Some("COMPOSITE"), "\"e-2\"").read();
        assert_eq!(sum.map(|sum| (sum.sum.name(), sum.parts)), Some(("sha256-composite", 2)));
    }

    #[test]
    fn an_etag_is_md5_only_of_an_object_that_s3_keeps_plainly() {
        let plain = Kept::default();
        assert_eq!(plain.md5_of(MD5_ETAG).map(|md5| md5[0]), Some(0x25));
        let upper = MD5_ETAG.to_uppercase();
        for etag in
            ["\"25f9e794323b453885f5181f1b624d0b-1\"", "\"25f9\"", "\"\"", "25f9e794323b453885f5181f1b624d0b", &upper]
        {
            assert_eq!(plain.md5_of(etag), None, "{etag}");
        }
        for (kept, counts) in [
            (Kept { encryption: Some("AES256"), ..plain }, true),
            (Kept { encryption: Some("aws:kms"), ..plain }, false),
            (Kept { encryption: Some("aws:kms:dsse"), ..plain }, false),
            (Kept { customer_algorithm: Some("AES256"), ..plain }, false),
            (Kept { storage_class: Some("EXPRESS_ONEZONE"), ..plain }, false),
            (Kept { storage_class: Some("STANDARD_IA"), ..plain }, true),
        ] {
            assert_eq!(kept.md5_of(MD5_ETAG).is_some(), counts, "{kept:?}");
        }
    }

    fn check(headers: &[(&str, &str)], scope: Scope, want: &[&str]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = Head { status: 200, minor: 1, headers };
        assert_eq!(names(&of_reply(&head, scope)), want, "{head:?}");
    }

    #[test]
    fn headers_state_what_they_are_defined_to() {
        let repr = format!("sha-256=:{SHA256}:");
        let digests = format!("sha-512=:AAAA:, sha-256=:{SHA256}:;x=1");
        let old = format!("unixsum=1,SHA-256={SHA256}");
        let google = format!("crc32c={CRC32C},md5={MD5}");
        let google_md5 = format!("md5={MD5}");
        let (whole, range) = (Scope::Whole, Scope::Range);
        for (headers, in_whole, in_range) in [
            (vec![("repr-digest", repr.as_str())], vec!["sha256"], vec!["sha256"]),
            (vec![("repr-digest", &digests)], vec!["sha256"], vec!["sha256"]),
            (vec![("digest", &old)], vec!["sha256"], vec!["sha256"]),
            (vec![("content-md5", MD5)], vec!["md5"], vec![]),
            (vec![("x-goog-hash", &google)], vec!["crc32c"], vec![]),
            (vec![("x-goog-hash", &google_md5)], vec!["md5"], vec![]),
            (vec![("x-goog-hash", &google), ("x-goog-stored-content-encoding", "gzip")], vec![], vec![]),
            (vec![("x-goog-hash", &google), ("x-goog-stored-content-encoding", "identity")], vec!["crc32c"], vec![]),
            (vec![("x-amz-checksum-crc64nvme", CRC64NVME)], vec!["crc64nvme"], vec![]),
            (vec![("x-amz-checksum-crc32", CRC32), ("x-amz-checksum-type", "FULL_OBJECT")], vec!["crc32"], vec![]),
            (vec![("x-amz-checksum-crc32", CRC32), ("x-amz-checksum-type", "COMPOSITE")], vec![], vec![]),
            (vec![("content-md5", MD5), ("x-amz-checksum-sha256", SHA256)], vec!["sha256"], vec![]),
            (vec![("etag", MD5_ETAG)], vec![], vec![]),
            (vec![("etag", MD5_ETAG), ("x-amz-request-id", "1")], vec!["md5"], vec!["md5"]),
            (
                vec![("etag", MD5_ETAG), ("x-amz-request-id", "1"), ("x-amz-server-side-encryption", "aws:kms")],
                vec![],
                vec![],
            ),
            (vec![("x-linked-etag", MD5_ETAG), ("x-amz-request-id", "1")], vec![], vec![]),
        ] {
            check(&headers, whole, &in_whole);
            check(&headers, range, &in_range);
        }
    }

    #[test]
    fn malformed_and_contradicting_headers_state_nothing() {
        let (one, other) = (format!("sha-256=:{SHA256}:"), format!("sha-256={}", SHA256.replace('F', "G")));
        for headers in [
            vec![("repr-digest", "sha-256")],
            vec![("repr-digest", "sha-256=:AAAA:")],
            vec![("repr-digest", "")],
            vec![("repr-digest", ":::,=,,==")],
            vec![("content-md5", "potato")],
            vec![("x-goog-hash", "crc32c")],
            vec![("x-goog-hash", "crc32c=AAAAAAAA")],
            vec![("x-amz-checksum-crc32c", "AAAA")],
            vec![("repr-digest", one.as_str()), ("digest", &other)],
            vec![("x-amz-checksum-crc32c", CRC32C), ("x-amz-checksum-crc32c", "AAAAAA==")],
        ] {
            check(&headers, Scope::Whole, &[]);
        }
        check(&[("repr-digest", &one), ("digest", &one.replace(':', ""))], Scope::Whole, &["sha256"]);
    }
}
