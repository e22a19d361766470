//! Decides whether a reply is exactly what was asked. Pure.
//!
//! Holds: a range counts only as 206 with that very range of an object of the planned size and version,
//! unencoded; a reply to the whole object only as 200 of the planned size and version.

use std::time::SystemTime;

use super::http1::{self, Head};
use super::refusal;
use super::{Asked, Coding};
use crate::error::{Failure, FailureKind};
use crate::manifest::Version;
use crate::units::ByteRange;

/// What an accepted reply says of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Size of the whole object, where stated or planned.
    pub size: Option<u64>,
    /// Body bytes this reply must bring; `None` when only its end can tell.
    pub length: Option<u64>,
    /// The version the reply states.
    pub version: Version,
}

/// `Content-Range: bytes 0-9/100`, or `bytes */100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The bytes in the body; `None` for `*`.
    pub range: Option<ByteRange>,
    /// Size of the whole object; `None` for `*`.
    pub size: Option<u64>,
}

fn fail(kind: FailureKind, detail: impl Into<String>) -> Failure {
    Failure::new(kind, detail)
}

/// Compares a reply's head with what was asked. `error_body` and `now` serve replies that are refusals.
///
/// # Errors
/// What the reply is instead: see [`refusal::classify`] for statuses other than 2xx; `Changed` for another
/// version or size; `RangeIgnored` for the whole object instead of a range; `BadReply` for the rest.
pub fn check(head: &Head, asked: &Asked, error_body: &[u8], now: SystemTime) -> Result<Accepted, Failure> {
    if !matches!(head.status, 200..=299) {
        return Err(refusal::classify(head, asked, error_body, now));
    }
    let encodings = head.all("content-encoding").flat_map(|value| value.split(','));
    if let Some(coding) =
        encodings.map(str::trim).find(|coding| !is_plain(coding) && !is_as_stored(head, asked, coding))
    {
        let detail = format!("the reply is encoded as {}, which was not asked for", refusal::clean(coding));
        return Err(fail(FailureKind::BadReply, detail));
    }
    let version = version(head);
    let confirmed = compare(&asked.version, &version)?;
    let length = http1::content_length(head)?;
    match (head.status, asked.range) {
        (206, Some(range)) => partial(head, asked, range, length, confirmed).map(|size| Accepted {
            size,
            length: Some(range.len()),
            version,
        }),
        (200, None) => {
            agree(head, asked.size, length)?;
            let length = length.or(asked.size);
            Ok(Accepted { size: length, length, version })
        }
        (200, Some(_)) => {
            agree(head, asked.size, length)?;
            Err(fail(FailureKind::RangeIgnored, "the origin sent the whole object where a range was asked"))
        }
        (status, _) => Err(fail(FailureKind::BadReply, format!("status {status} does not answer the request"))),
    }
}

/// Codings that leave the bytes as they are. Some stores repeat the `aws-chunked` of the upload; it is gone by then.
fn is_plain(coding: &str) -> bool {
    ["", "identity", "aws-chunked"].iter().any(|plain| coding.eq_ignore_ascii_case(plain))
}

/// Whether the coding is the stored object's own and the stored bytes were asked for: a store that packs a plain
/// object on the way sends other bytes than it states.
fn is_as_stored(head: &Head, asked: &Asked, coding: &str) -> bool {
    let stored = head.first("x-goog-stored-content-encoding").unwrap_or(coding);
    match asked.coding {
        Coding::Identity => false,
        Coding::Stored => coding.eq_ignore_ascii_case("gzip") && stored.eq_ignore_ascii_case(coding),
        Coding::Kept => true,
    }
}

/// The checks of a 206; the object's size.
fn partial(
    head: &Head,
    asked: &Asked,
    range: ByteRange,
    length: Option<u64>,
    confirmed: Confirmed,
) -> Result<Option<u64>, Failure> {
    let bad = |detail: String| Err(fail(FailureKind::BadReply, detail));
    if head.all("content-type").any(|value| value.to_ascii_lowercase().starts_with("multipart/")) {
        return bad("the reply is in several parts where one range was asked".to_owned());
    }
    let mut stated = head.all("content-range");
    let (Some(text), None) = (stated.next(), stated.next()) else {
        return bad("the reply does not have exactly one Content-Range".to_owned());
    };
    let Some(ContentRange { range: Some(got), size }) = content_range(text) else {
        return bad(format!("the reply's Content-Range is `{}`", refusal::clean(text)));
    };
    match (asked.size, size) {
        (Some(_), None) => return bad("the reply's Content-Range does not state the object's size".to_owned()),
        (Some(planned), Some(size)) if planned != size => {
            let detail = format!("the object has {size} bytes, planned were {planned}");
            // The same strong ETag with another size is a reply that contradicts itself, not a new version.
            let kind = match confirmed {
                Confirmed::ByEtag => FailureKind::BadReply,
                Confirmed::NoEtag => FailureKind::Changed,
            };
            return Err(fail(kind, detail));
        }
        _ => {}
    }
    if got != range {
        return bad(format!("asked for bytes {range}, the reply has {got}"));
    }
    if length.is_some_and(|length| length != range.len()) {
        return bad(format!("the reply's Content-Length is not that of bytes {range}"));
    }
    Ok(size)
}

/// Compares the length of a whole-object reply with the planned size.
fn agree(head: &Head, planned: Option<u64>, length: Option<u64>) -> Result<(), Failure> {
    let (Some(planned), Some(length)) = (planned, length) else { return Ok(()) };
    if planned == length {
        return Ok(());
    }
    let document = head.first("content-type").is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("xml") || value.contains("html")
    });
    // S3 sends errors with status 200, captive portals send pages; neither has an ETag.
    if document && head.first("etag").is_none() {
        return Err(fail(FailureKind::BadReply, "the reply is an XML or HTML page, not the object"));
    }
    Err(fail(FailureKind::Changed, format!("the object has {length} bytes, planned were {planned}")))
}

/// Whether a reply repeated the planned strong ETag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmed {
    ByEtag,
    NoEtag,
}

/// Compares the version a reply states with the planned one; what the reply leaves out cannot differ.
fn compare(planned: &Version, got: &Version) -> Result<Confirmed, Failure> {
    let changed = |what: &str, planned: &str, got: &str| {
        let detail =
            format!("the object changed: {what} is {}, planned was {}", refusal::clean(got), refusal::clean(planned));
        Err(fail(FailureKind::Changed, detail))
    };
    if let (Some(planned), Some(got)) = (&planned.version_id, &got.version_id)
        && planned != got
    {
        return changed("its version id", planned, got);
    }
    if let (Some(planned), Some(got)) = (&planned.etag, &got.etag) {
        return if opaque(planned) == opaque(got) { Ok(Confirmed::ByEtag) } else { changed("its ETag", planned, got) };
    }
    if let (Some(planned), Some(got)) = (&planned.last_modified, &got.last_modified)
        && planned != got
    {
        return changed("its Last-Modified", planned, got);
    }
    Ok(Confirmed::NoEtag)
}

/// An ETag without its weakness mark: proxies weaken tags of bytes they do not change.
fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

fn version(head: &Head) -> Version {
    let owned = |name: &str| head.first(name).map(str::to_owned);
    let version_id = owned("x-amz-version-id").or_else(|| owned("x-goog-generation"));
    Version { etag: owned("etag"), version_id, last_modified: owned("last-modified"), content: None }
}

/// Reads a `Content-Range` of bytes; `None` for anything malformed or empty.
pub fn content_range(text: &str) -> Option<ContentRange> {
    let (unit, rest) = text.trim().split_once(' ')?;
    let (range, size) = rest.trim_start().split_once('/')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let size = if size == "*" { None } else { Some(http1::decimal(size)?) };
    if range == "*" {
        return Some(ContentRange { range: None, size });
    }
    let (first, last) = range.split_once('-')?;
    let (first, last) = (http1::decimal(first)?, http1::decimal(last)?);
    if last < first || size.is_some_and(|size| size <= last) {
        return None;
    }
    Some(ContentRange { range: Some(ByteRange::new(first, last + 1)), size })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANNED_ETAG: &str = "\"e1\"";

    fn head(text: &str) -> Head {
        let text = format!("HTTP/1.1 {}\r\n\r\n", text.replace('\n', "\r\n"));
        http1::parse_head(text.as_bytes()).unwrap().unwrap().0
    }

    fn verdict(reply: &str, asked: &Asked) -> Result<Accepted, FailureKind> {
        check(&head(reply), asked, &[], SystemTime::UNIX_EPOCH).map_err(|failure| failure.kind)
    }

    /// Bytes 10-19 of 100, pinned by a strong ETag.
    fn ranged() -> Asked {
        let version =
            Version { etag: Some(PLANNED_ETAG.to_owned()), version_id: Some("v1".to_owned()), ..Version::default() };
        Asked { range: Some(ByteRange::new(10, 20)), size: Some(100), version, ..Asked::default() }
    }

    fn by_date() -> Asked {
        let version = Version { last_modified: Some("Mon".to_owned()), ..Version::default() };
        Asked { version, ..ranged() }
    }

    fn whole() -> Asked {
        Asked { range: None, ..ranged() }
    }

    #[test]
    fn exactly_the_asked_range_is_accepted() {
        for reply in [
            "206 X\nContent-Range: bytes 10-19/100\nContent-Length: 10\nETag: \"e1\"",
            "206 X\nContent-Range: Bytes 10-19/100",
            "206 X\nContent-Range: bytes 10-19/100\nTransfer-Encoding: chunked\nETag: W/\"e1\"",
            "206 X\nContent-Range: bytes 10-19/100\nContent-Encoding: identity\nx-amz-version-id: v1",
            // Nodes of one origin may disagree about the date of the same content.
            "206 X\nContent-Range: bytes 10-19/100\nETag: \"e1\"\nLast-Modified: Tue",
        ] {
            let accepted = verdict(reply, &ranged()).unwrap();
            assert_eq!((accepted.size, accepted.length), (Some(100), Some(10)), "{reply}");
        }
        let unsized_ = Asked { size: None, ..ranged() };
        assert_eq!(verdict("206 X\nContent-Range: bytes 10-19/*", &unsized_).unwrap().size, None);
        assert_eq!(verdict("206 X\nContent-Range: bytes 10-19/77", &unsized_).unwrap().size, Some(77));
    }

    #[test]
    fn stored_codings_are_accepted_where_stored_bytes_were_asked() {
        let range = "206 X\nContent-Range: bytes 10-19/100";
        let stored = Asked { coding: Coding::Stored, ..ranged() };
        let kept = Asked { coding: Coding::Kept, ..ranged() };
        for (lines, asked, fine) in [
            ("Content-Encoding: gzip", &stored, true),
            ("Content-Encoding: GZIP\nx-goog-stored-content-encoding: gzip", &stored, true),
            ("x-goog-stored-content-encoding: identity", &stored, true),
            ("Content-Encoding: gzip\nx-goog-stored-content-encoding: identity", &stored, false),
            ("Content-Encoding: br", &stored, false),
            ("Content-Encoding: gzip, br", &stored, false),
            ("Content-Encoding: gzip, br", &kept, true),
            ("Content-Encoding: gzip", &ranged(), false),
        ] {
            let verdict = verdict(&format!("{range}\n{lines}"), asked).map(|_| ());
            assert_eq!(verdict, if fine { Ok(()) } else { Err(FailureKind::BadReply) }, "{lines}");
        }
    }

    #[test]
    fn another_generation_is_a_change() {
        let version = Version { version_id: Some("17".to_owned()), ..Version::default() };
        let asked = Asked { version, ..ranged() };
        let range = "206 X\nContent-Range: bytes 10-19/100";
        assert!(verdict(&format!("{range}\nx-goog-generation: 17\nETag: \"other\""), &asked).is_ok());
        assert_eq!(verdict(&format!("{range}\nx-goog-generation: 18"), &asked), Err(FailureKind::Changed));
        assert_eq!(verdict("404 X", &asked), Err(FailureKind::Changed));
        assert_eq!(verdict("404 X", &by_date()), Err(FailureKind::Missing));
    }

    #[test]
    fn any_other_206_is_a_bad_reply() {
        for lines in [
            "",
            "Content-Range: bytes 11-20/100",
            "Content-Range: bytes 10-18/100",
            "Content-Range: bytes 10-20/100",
            "Content-Range: bytes 0-9/100",
            "Content-Range: bytes 10-19/*",
            "Content-Range: bytes */100",
            "Content-Range: bytes 19-10/100",
            "Content-Range: bytes 10-19/15",
            "Content-Range: bytes 10-19",
            "Content-Range: bytes=10-19/100",
            "Content-Range: items 10-19/100",
            "Content-Range: bytes +10-19/100",
            "Content-Range: bytes 10-19/18446744073709551616",
            "Content-Range: bytes 10-19/100\nContent-Range: bytes 10-19/100",
            "Content-Range: bytes 10-19/100\nContent-Length: 11",
            "Content-Range: bytes 10-19/100\nContent-Type: multipart/byteranges; boundary=x",
            "Content-Range: bytes 10-19/100\nContent-Encoding: gzip",
            "Content-Range: bytes 10-19/100\nContent-Encoding: identity, br",
            "Content-Range: bytes 10-19/101\nETag: \"e1\"",
        ] {
            assert_eq!(verdict(format!("206 X\n{lines}").trim_end(), &ranged()), Err(FailureKind::BadReply), "{lines}");
        }
        for status in [201, 203, 204, 226] {
            assert_eq!(verdict(&format!("{status} X"), &ranged()), Err(FailureKind::BadReply));
        }
        assert_eq!(verdict("206 X\nContent-Range: bytes 0-99/100", &whole()), Err(FailureKind::BadReply));
    }

    #[test]
    fn another_version_is_a_change_whatever_the_status() {
        let range = "Content-Range: bytes 10-19/100";
        for reply in [
            format!("206 X\n{range}\nETag: \"e2\""),
            format!("206 X\n{range}\nETag: \"e1\"\nx-amz-version-id: v2"),
            "200 X\nETag: \"e2\"".to_owned(),
            "206 X\nContent-Range: bytes 10-19/101".to_owned(),
            "412 X".to_owned(),
            "416 X\nContent-Range: bytes */5".to_owned(),
            "416 X".to_owned(),
        ] {
            assert_eq!(verdict(&reply, &ranged()), Err(FailureKind::Changed), "{reply}");
        }
        assert_eq!(verdict(&format!("206 X\n{range}\nLast-Modified: Tue"), &by_date()), Err(FailureKind::Changed));
        assert!(verdict(&format!("206 X\n{range}\nLast-Modified: Mon\nETag: \"new\""), &by_date()).is_ok());
        assert!(verdict(&format!("206 X\n{range}"), &by_date()).is_ok());
    }

    #[test]
    fn the_whole_object_for_a_range_is_told_apart_from_pages_and_changes() {
        for (reply, kind) in [
            ("200 X\nContent-Length: 100", FailureKind::RangeIgnored),
            ("200 X", FailureKind::RangeIgnored),
            ("200 X\nContent-Length: 100\nContent-Type: text/html", FailureKind::RangeIgnored),
            ("200 X\nContent-Length: 99", FailureKind::Changed),
            ("200 X\nContent-Length: 99\nContent-Type: application/xml", FailureKind::BadReply),
            ("200 X\nContent-Length: 99\nContent-Type: text/html; charset=utf-8", FailureKind::BadReply),
            ("200 X\nContent-Length: 100\nContent-Encoding: gzip", FailureKind::BadReply),
        ] {
            assert_eq!(verdict(reply, &ranged()), Err(kind), "{reply}");
        }
    }

    #[test]
    fn whole_objects_must_have_the_planned_size() {
        let accepted = verdict("200 X\nContent-Length: 100\nETag: \"e1\"", &whole()).unwrap();
        assert_eq!((accepted.size, accepted.length), (Some(100), Some(100)));
        assert_eq!(verdict("200 X\nTransfer-Encoding: chunked", &whole()).unwrap().length, Some(100));
        let nothing_known = Asked::default();
        assert_eq!(verdict("200 X", &nothing_known).unwrap().length, None);
        assert_eq!(verdict("200 X\nContent-Length: 7", &nothing_known).unwrap().size, Some(7));
        for length in [0, 99, 101] {
            assert_eq!(verdict(&format!("200 X\nContent-Length: {length}"), &whole()), Err(FailureKind::Changed));
        }
        assert_eq!(
            verdict("200 X\nContent-Length: 99\nContent-Type: application/xml", &whole()),
            Err(FailureKind::BadReply)
        );
    }
}
