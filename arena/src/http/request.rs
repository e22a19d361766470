//! Requests as they come in: head lines, ranges and conditions. Pure.

use std::time::SystemTime;

use crate::content::Content;
use crate::http::Validators;

/// One request as the origin saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `GET`, `HEAD` or whatever came.
    pub method: String,
    /// The request target: path and query.
    pub target: String,
    /// Headers in order, names as they were written.
    pub headers: Vec<(String, String)>,
    /// Number of the connection, from 0, in the order of acceptance.
    pub connection: u64,
    /// Status of the reply; `None` until it is sent, or when none is.
    pub status: Option<u16>,
    /// Body bytes written to the socket so far.
    pub sent: u64,
}

/// What the conditions of a request ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// `If-Range` does not hold: the whole object.
    IgnoreRange,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Which bytes of an object a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All: no range, or one this origin does not understand.
    Whole,
    /// From the first to before the second offset.
    Span(u64, u64),
    /// 416.
    Unsatisfiable,
}

impl Seen {
    /// Reads a request head without its empty line; `None` when it is not HTTP/1.
    pub(super) fn parse(head: &[u8], connection: u64) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        if !version.starts_with("HTTP/1.") {
            return None;
        }
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        });
        Some(Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.collect::<Option<_>>()?,
            connection,
            status: None,
            sent: 0,
        })
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The Range header.
    pub fn range(&self) -> Option<&str> {
        self.header("range")
    }

    /// Whether the client means to use the connection again.
    pub(super) fn keeps_alive(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The bytes of an object of `size` that the Range header names.
    pub(crate) fn wanted(&self, size: u64) -> Wanted {
        self.range().and_then(|range| parse_range(range, size)).unwrap_or(Wanted::Whole)
    }

    /// Weighs the conditions against `content`, in the order of RFC 9110, section 13.2.2.
    pub(crate) fn conditions(&self, content: &Content, validators: Validators) -> Verdict {
        let etag = validators.etag(content);
        let modified = validators.modified(content);
        if let (Some(wanted), Some(etag)) = (self.header("if-match"), &etag) {
            // Strong comparison: a weak ETag matches nothing here.
            if wanted != "*" && (etag.starts_with("W/") || !lists(wanted, etag)) {
                return Verdict::Failed;
            }
        } else if let (Some(since), Some(modified)) = (self.date("if-unmodified-since"), modified)
            && since < modified
        {
            return Verdict::Failed;
        }
        if let (Some(known), Some(etag)) = (self.header("if-none-match"), &etag) {
            let bare = |tag: &str| tag.trim_start_matches("W/").to_owned();
            if known == "*" || lists(&bare(known), &bare(etag)) {
                return Verdict::NotModified;
            }
        }
        match (self.header("if-range"), &etag) {
            (Some(wanted), Some(etag)) if wanted != etag => Verdict::IgnoreRange,
            _ => Verdict::Proceed,
        }
    }

    fn date(&self, name: &str) -> Option<SystemTime> {
        httpdate::parse_http_date(self.header(name)?).ok()
    }
}

/// Whether a comma-separated list of ETags holds this one.
fn lists(list: &str, etag: &str) -> bool {
    list.split(',').any(|one| one.trim() == etag)
}

/// `None` for what RFC 9110 lets a server ignore: other units, bad syntax, several ranges.
fn parse_range(range: &str, size: u64) -> Option<Wanted> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first, last) {
        ("", suffix) => (size.saturating_sub(suffix.parse().ok()?), size),
        (first, "") => (first.parse().ok()?, size),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(size))
        }
    };
    Some(if start < end { Wanted::Span(start, end) } else { Wanted::Unsatisfiable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[&str]) -> Seen {
        let lines: String = lines.iter().map(|line| format!("\r\n{line}")).collect();
        Seen::parse(format!("GET /m?x=1 HTTP/1.1{lines}").as_bytes(), 0).unwrap()
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (range, wanted) in [
            ("bytes=0-0", Wanted::Span(0, 1)),
            ("bytes=3-", Wanted::Span(3, 10)),
            ("bytes=3-99", Wanted::Span(3, 10)),
            ("bytes=-4", Wanted::Span(6, 10)),
            ("bytes=-99", Wanted::Span(0, 10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ] {
            assert_eq!(request(&[&format!("Range: {range}")]).wanted(10), wanted, "{range}");
        }
        assert_eq!(request(&["Host: h"]).wanted(10), Wanted::Whole);
    }

    #[test]
    fn conditions_follow_the_validators() {
        let content = Content::bytes("x").with_etag("v1");
        for (line, validators, verdict) in [
            ("If-Match: \"v1\"", Validators::Strong, Verdict::Proceed),
            ("If-Match: \"v0\", \"v1\"", Validators::Strong, Verdict::Proceed),
            ("If-Match: *", Validators::Strong, Verdict::Proceed),
            ("If-Match: \"v2\"", Validators::Strong, Verdict::Failed),
            ("If-Match: W/\"v1\"", Validators::Weak, Verdict::Failed),
            ("If-Match: \"v2\"", Validators::None, Verdict::Proceed),
            ("If-None-Match: \"v1\"", Validators::Strong, Verdict::NotModified),
            ("If-None-Match: \"v1\"", Validators::Weak, Verdict::NotModified),
            ("If-None-Match: \"v2\"", Validators::Strong, Verdict::Proceed),
            ("If-Range: \"v2\"", Validators::Strong, Verdict::IgnoreRange),
            ("If-Unmodified-Since: Thu, 01 Jan 2026 00:00:00 GMT", Validators::Strong, Verdict::Proceed),
            ("If-Unmodified-Since: Wed, 31 Dec 2025 23:59:59 GMT", Validators::ModifiedOnly, Verdict::Failed),
            ("If-Unmodified-Since: Wed, 31 Dec 2025 23:59:59 GMT", Validators::None, Verdict::Proceed),
        ] {
            assert_eq!(request(&[line]).conditions(&content, validators), verdict, "{line}");
        }
    }

    #[test]
    fn what_is_not_http_is_no_request() {
        for head in ["", "GET /", "GET / HTTP/2", "GET / HTTP/1.1\r\nno colon"] {
            assert_eq!(Seen::parse(head.as_bytes(), 0), None, "{head:?}");
        }
        assert_eq!(request(&[]).method, "GET");
        assert_eq!(request(&["A: b"]).path(), "/m");
    }
}
