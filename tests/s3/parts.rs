//! Stores that deny, lie about, or change what a sum over parts needs; and what an ETag is.

use std::sync::atomic::{AtomicU32, Ordering};

use dray::manifest::{Composite, CompositeSum, Stated};

use crate::resolve_at;
use crate::rig::fake::{Asked, Fake, Reply, reply};
use crate::{is_attributes, is_list, refusal};

const CRC32C: &str = "4waSgw==";
const KEY: &str = "/bucket/m";

/// How a store answers GetObjectAttributes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Attributes {
    Lists,
    /// This many parts a page.
    Pages(usize),
    /// One part, and always more to come.
    Endless,
    Denied,
    Unknown,
    /// As a store that does not know the word: the object itself.
    Object,
    /// Parts without their sizes.
    Sizeless,
    /// The list of another version.
    Changed,
    /// Parts that make up another object.
    Lies,
}

/// How a store answers a HEAD by part number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Numbers {
    Tells,
    /// As a HEAD of the whole.
    Ignored,
    Denied,
    /// The object is another by now.
    Changed,
    /// Part sizes that do not make up the object.
    Lies,
    /// One byte too many from the middle on, as far as `Content-Range` tells.
    Shifted,
}

/// A store with one object in parts of `sizes`.
struct Store {
    sizes: Vec<u64>,
    attributes: Attributes,
    numbers: Numbers,
}

impl Store {
    fn size(&self) -> u64 {
        self.sizes.iter().sum()
    }

    fn start(self) -> Fake {
        Fake::start(move |asked| self.answer(asked))
    }

    fn answer(&self, asked: &Asked) -> Reply {
        assert_eq!(asked.path, KEY, "one object is asked about");
        if is_attributes(asked) {
            return self.attributes(asked);
        }
        assert_eq!(asked.method, "HEAD");
        match asked.parameter("partNumber") {
            None => self.head(),
            Some(number) => self.part(asked, number.parse().expect("a number")),
        }
    }

    fn head(&self) -> Reply {
        let count = self.sizes.len();
        reply(200, "")
            .header("Content-Length", self.size().to_string())
            .header("ETag", format!("\"e-{count}\""))
            .header("x-amz-checksum-crc32c", format!("{CRC32C}-{count}"))
            .header("x-amz-checksum-type", "COMPOSITE")
    }

    fn attributes(&self, asked: &Asked) -> Reply {
        let count = self.sizes.len();
        let marker: usize = asked.header("x-amz-part-number-marker").parse().unwrap_or(0);
        let (page, etag) = match self.attributes {
            Attributes::Denied => return refusal(403, "AccessDenied"),
            Attributes::Unknown => return refusal(501, "NotImplemented"),
            Attributes::Object => return reply(200, vec![7; 1 << 16]).times(64),
            Attributes::Pages(page) => (page, format!("e-{count}")),
            Attributes::Endless => (1, format!("e-{count}")),
            Attributes::Changed => (count, format!("other-{count}")),
            Attributes::Lists | Attributes::Sizeless | Attributes::Lies => (count, format!("e-{count}")),
        };
        let part = |(index, size): (usize, &u64)| {
            let size = match self.attributes {
                Attributes::Sizeless => String::new(),
                Attributes::Lies => format!("<Size>{}</Size>", size + 1),
                _ => format!("<Size>{size}</Size>"),
            };
            format!("<Part><PartNumber>{}</PartNumber>{size}</Part>", index + 1)
        };
        let listed: String = self.sizes.iter().enumerate().skip(marker).take(page).map(part).collect();
        let next = marker + page;
        let more = next < count || self.attributes == Attributes::Endless;
        let next = if self.attributes == Attributes::Endless { 0 } else { next };
        reply(
            200,
            format!(
                "<?xml version=\"1.0\"?><GetObjectAttributesResponse><ETag>{etag}</ETag><ObjectParts><PartsCount>{count}</PartsCount>\
                 <IsTruncated>{more}</IsTruncated><NextPartNumberMarker>{next}</NextPartNumberMarker>{listed}</ObjectParts></GetObjectAttributesResponse>"
            ),
        )
    }

    fn part(&self, asked: &Asked, number: usize) -> Reply {
        let (size, count) = (self.size(), self.sizes.len());
        assert_eq!(asked.header("if-match"), format!("\"e-{count}\""), "pinned");
        let bytes = self.sizes[number - 1];
        let mut start: u64 = self.sizes[..number - 1].iter().sum();
        let bytes = match self.numbers {
            Numbers::Denied => return reply(403, ""),
            Numbers::Changed => return reply(412, ""),
            Numbers::Ignored => return self.head(),
            Numbers::Lies => bytes + 1,
            Numbers::Shifted if count / 2 < number && number < count => {
                start += 1;
                bytes
            }
            Numbers::Tells | Numbers::Shifted => bytes,
        };
        reply(206, "")
            .header("Content-Length", bytes.to_string())
            .header("Content-Range", format!("bytes {start}-{}/{size}", start + bytes - 1))
            .header("ETag", format!("\"e-{count}\""))
            .header("x-amz-mp-parts-count", count.to_string())
    }
}

/// The stated ends of the one object, `None` when nothing is stated; and the requests beside the first HEAD.
fn ends_at(sizes: &[u64], attributes: Attributes, numbers: Numbers) -> (Option<Vec<u64>>, usize) {
    let store = Store { sizes: sizes.to_vec(), attributes, numbers }.start();
    let manifest = resolve_at(&store.url(""), "s3://bucket/m").expect("resolved");
    let ends = match &manifest.entries[0].stated[..] {
        [] => None,
        [Stated::Composite(Composite { sum: CompositeSum::Crc32c(0xe306_9283), ends })] => Some(ends.to_vec()),
        other => panic!("{other:?}"),
    };
    // Without a statement the object is described again with all others.
    let heads = store.count(|asked| !is_attributes(asked) && asked.parameter("partNumber").is_none());
    let asked = store.asked().len() - heads;
    (ends, asked)
}

const EVEN: [u64; 5] = [8, 8, 8, 8, 3];
const ODD: [u64; 5] = [8, 7, 9, 8, 3];

#[test]
fn part_ends_come_from_attributes_or_from_part_numbers() {
    let even: Vec<u64> = vec![8, 16, 24, 32, 35];
    let odd: Vec<u64> = vec![8, 15, 24, 32, 35];
    for (attributes, numbers, by_even, by_odd) in [
        (Attributes::Lists, Numbers::Denied, 1, 1),
        (Attributes::Pages(2), Numbers::Denied, 3, 3),
        (Attributes::Denied, Numbers::Tells, 4, 8),
        (Attributes::Sizeless, Numbers::Tells, 4, 8),
        // The SDK repeats what no server could do a moment ago.
        (Attributes::Unknown, Numbers::Tells, 8, 12),
    ] {
        for (sizes, ends, requests) in [(EVEN, &even, by_even), (ODD, &odd, by_odd)] {
            let (found, asked) = ends_at(&sizes, attributes, numbers);
            assert_eq!(found.as_ref(), Some(ends), "{attributes:?} {sizes:?}");
            assert!(asked <= requests, "{attributes:?} {sizes:?}: {asked} requests");
        }
    }
    assert_eq!(ends_at(&[9], Attributes::Denied, Numbers::Denied), (Some(vec![9]), 0), "one part is the whole");
}

#[test]
fn a_store_that_cannot_tell_its_parts_states_no_sum_over_them() {
    for (attributes, numbers) in [
        (Attributes::Denied, Numbers::Denied),
        (Attributes::Denied, Numbers::Ignored),
        (Attributes::Denied, Numbers::Changed),
        (Attributes::Denied, Numbers::Lies),
        (Attributes::Changed, Numbers::Changed),
        (Attributes::Lies, Numbers::Tells),
        (Attributes::Object, Numbers::Ignored),
        (Attributes::Endless, Numbers::Ignored),
    ] {
        for sizes in [EVEN, ODD] {
            let (ends, asked) = ends_at(&sizes, attributes, numbers);
            assert_eq!(ends, None, "{attributes:?} {numbers:?}");
            assert!(asked <= 32, "{attributes:?} {numbers:?}: {asked} requests");
        }
    }
}

#[test]
fn parts_that_only_look_alike_are_asked_one_by_one() {
    // First, middle and last as if all were of one size; the ranges tell otherwise.
    let (ends, asked) = ends_at(&[8, 8, 8, 8, 8, 3], Attributes::Denied, Numbers::Shifted);
    assert_eq!((ends, asked <= 10), (Some(vec![8, 16, 24, 32, 40, 43]), true), "{asked}");
    let (ends, _) = ends_at(&[8, 9, 8, 7, 8, 3], Attributes::Denied, Numbers::Tells);
    assert_eq!(ends, Some(vec![8, 17, 25, 32, 40, 43]));
}

#[test]
fn thousands_of_different_parts_are_not_asked_one_by_one() {
    let sizes: Vec<u64> = (0..1_001).map(|index| 8 + index % 2).collect();
    let (ends, asked) = ends_at(&sizes, Attributes::Denied, Numbers::Tells);
    assert_eq!(ends, None);
    assert!(asked <= 8, "{asked} requests");
}

#[test]
fn attributes_that_are_denied_once_are_not_asked_of_every_file() {
    let heads = AtomicU32::new(0);
    let store = Fake::start(move |asked| {
        if is_list(asked) {
            let object = |n| format!("<Contents><Key>m/{n}</Key><ETag>&quot;e-2&quot;</ETag><Size>9</Size></Contents>");
            let listed: String = (0..40).map(object).collect();
            return reply(
                200,
                format!("<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"),
            );
        }
        if is_attributes(asked) {
            return refusal(403, "AccessDenied");
        }
        heads.fetch_add(1, Ordering::Relaxed);
        let whole = reply(if asked.parameter("partNumber").is_some() { 206 } else { 200 }, "");
        let whole = whole.header("ETag", "\"e-2\"").header("x-amz-checksum-type", "COMPOSITE");
        let whole = whole.header("x-amz-checksum-crc32c", format!("{CRC32C}-2")).header("x-amz-mp-parts-count", "2");
        match asked.parameter("partNumber") {
            None => whole.header("Content-Length", "9"),
            Some("1") => whole.header("Content-Length", "5").header("Content-Range", "bytes 0-4/9"),
            Some(_) => whole.header("Content-Length", "4").header("Content-Range", "bytes 5-8/9"),
        }
    });
    let manifest = resolve_at(&store.url(""), "s3://bucket/m/").expect("resolved");
    let composites =
        manifest.entries.iter().filter(|entry| matches!(&entry.stated[..], [Stated::Composite(_)])).count();
    assert_eq!((manifest.entries.len(), composites), (40, 40));
    let denied = store.count(is_attributes);
    assert!(denied <= 16, "{denied} requests for attributes: those that were under way");
}

#[test]
fn an_etag_states_no_md5_where_encryption_or_storage_make_it_something_else() {
    const MD5: &str = "\"25f9e794323b453885f5181f1b624d0b\"";
    for (header, value, stated) in [
        ("x-amz-storage-class", "STANDARD", 1),
        ("x-amz-server-side-encryption", "AES256", 1),
        ("x-amz-server-side-encryption", "aws:kms", 0),
        ("x-amz-server-side-encryption", "aws:kms:dsse", 0),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", 0),
        ("x-amz-storage-class", "EXPRESS_ONEZONE", 0),
        ("x-amz-checksum-crc32c", "potato", 1),
    ] {
        let store = Fake::start(move |_| {
            reply(200, "").header("Content-Length", "9").header("ETag", MD5).header(header, value)
        });
        let manifest = resolve_at(&store.url(""), "s3://bucket/m").expect("resolved");
        assert_eq!(manifest.entries[0].stated.len(), stated, "{header}: {value}");
        assert!(manifest.entries[0].stated.iter().all(|stated| stated.name() == "md5"));
    }
}
