//! HTTP/1.1 text: the request we send, the head we accept, and how its body is framed. Pure.
//!
//! Holds: a head is at most [`HEAD_BYTES_MAX`] and [`HEADERS_MAX`] lines; a length that can be read in two
//! ways is refused; nothing with a line break in it reaches a request.

use super::body::Framing;
use super::redirect;
use super::url::Url;
use super::{Asked, Coding, Settings};
use crate::error::{Failure, FailureKind};
use crate::secret::Secret;

/// Bytes of a reply's head, interim replies apart.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// Header lines of a reply.
pub const HEADERS_MAX: usize = 128;

/// Interim (1xx) replies skipped before the real one.
pub const INTERIM_MAX: u32 = 16;

/// The status line and header lines of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Three digits.
    pub status: u16,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor: u8,
    /// Names in lower case; values as they came, invalid UTF-8 replaced.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The values of a header, by its lower-case name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a header, by its lower-case name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Whether a comma-separated header holds a token, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    }
}

fn bad(detail: impl Into<String>) -> Failure {
    Failure::new(FailureKind::BadReply, detail)
}

/// How the request line names the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Path and query, to the origin itself.
    Path,
    /// The whole URL, to a forwarding proxy.
    Whole,
}

/// A GET of `url` for what was `asked`. `extra` are headers bound to this very origin (or its proxy).
///
/// # Errors
/// `Refused` when a header holds a line break or another character that HTTP forbids.
pub fn request(
    url: &Url,
    form: Form,
    asked: &Asked,
    settings: &Settings,
    extra: &[(String, Secret)],
) -> Result<Vec<u8>, Failure> {
    let target = match form {
        Form::Path => url.expose_target(),
        Form::Whole => url.expose(),
    };
    let mut out = Vec::with_capacity(512 + target.len());
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(&mut out, "Host", url.host_header())?;
    line(&mut out, "User-Agent", &settings.user_agent)?;
    line(&mut out, "Accept", "*/*")?;
    let coding = match asked.coding {
        Coding::Identity | Coding::Kept => "identity",
        Coding::Stored => "gzip",
    };
    line(&mut out, "Accept-Encoding", coding)?;
    line(&mut out, "Connection", "keep-alive")?;
    if let Some(range) = asked.range {
        line(&mut out, "Range", &format!("bytes={range}"))?;
    }
    match (&asked.version.etag, &asked.version.last_modified) {
        (Some(etag), _) => line(&mut out, "If-Match", etag)?,
        (None, Some(date)) => line(&mut out, "If-Unmodified-Since", date)?,
        (None, None) => {}
    }
    for (name, value) in extra {
        // A signer lists `host` and the like among its headers; ours say the same.
        if !redirect::may_forward(name) && !name.eq_ignore_ascii_case("connection") {
            line(&mut out, name, value.expose())?;
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// Appends one header line.
///
/// # Errors
/// `Refused` when the name is no token or the value holds a control character; the value is not repeated.
pub fn line(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), Failure> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Failure::new(FailureKind::Refused, "a request header has no proper name"));
    }
    if value.bytes().any(|byte| byte == 0x7f || (byte < b' ' && byte != b'\t')) {
        return Err(Failure::new(
            FailureKind::Refused,
            format!("the value of header {name} holds a control character"),
        ));
    }
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    Ok(())
}

/// Reads one reply head from the front of `bytes`: the head and its length, or `None` while it is incomplete.
///
/// # Errors
/// `BadReply` for what is not HTTP/1, and beyond [`HEAD_BYTES_MAX`] or [`HEADERS_MAX`].
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut reply = httparse::Response::new(&mut lines);
    let status = reply.parse(bytes).map_err(|error| match error {
        httparse::Error::TooManyHeaders => bad(format!("the reply has more than {HEADERS_MAX} headers")),
        error => bad(format!("the reply is not HTTP/1.1: {error}")),
    })?;
    let used = match status {
        httparse::Status::Complete(used) if used <= HEAD_BYTES_MAX => used,
        httparse::Status::Partial if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        _ => return Err(bad(format!("the reply's head is longer than {HEAD_BYTES_MAX} bytes"))),
    };
    let (Some(status), Some(minor)) = (reply.code, reply.version) else {
        return Err(bad("the reply has no status"));
    };
    let headers = reply
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned()))
        .collect();
    Ok(Some((Head { status, minor, headers }, used)))
}

/// How the body after `head` ends (RFC 9112 §6.3), for the reply to a GET.
///
/// # Errors
/// `BadReply` for two different lengths, a length beside a transfer coding, and codings other than `chunked`.
pub fn framing(head: &Head) -> Result<Framing, Failure> {
    let length = content_length(head)?;
    let mut codings = head.all("transfer-encoding").peekable();
    if codings.peek().is_some() {
        if length.is_some() {
            return Err(bad("the reply has both Content-Length and Transfer-Encoding"));
        }
        let single = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        if !single || codings.next().is_some() || head.minor == 0 {
            return Err(bad("the reply has a transfer coding other than chunked"));
        }
    }
    if matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if head.first("transfer-encoding").is_some() {
        return Ok(Framing::Chunked);
    }
    Ok(length.map_or(Framing::UntilClose, Framing::Length))
}

/// The one length all `Content-Length` values agree on.
///
/// # Errors
/// `BadReply` when they do not, or are not plain decimal numbers below 2^63.
pub fn content_length(head: &Head) -> Result<Option<u64>, Failure> {
    let mut agreed = None;
    for value in head.all("content-length").flat_map(|value| value.split(',')) {
        let length = decimal(value.trim()).ok_or_else(|| bad("the reply's Content-Length is not a number"))?;
        if agreed.is_some_and(|known| known != length) {
            return Err(bad("the reply has two different Content-Lengths"));
        }
        agreed = Some(length);
    }
    Ok(agreed)
}

/// A plain decimal number below 2^63: no sign, no blank, at most 19 digits.
pub fn decimal(text: &str) -> Option<u64> {
    if text.is_empty() || 19 < text.len() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| *number < 1 << 63)
}

/// Whether the connection may carry another request after this reply.
pub fn keeps_alive(head: &Head, framing: Framing) -> bool {
    if framing == Framing::UntilClose || head.has_token("connection", "close") {
        return false;
    }
    1 <= head.minor || head.has_token("connection", "keep-alive")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Version;
    use crate::units::ByteRange;

    fn head(lines: &str) -> Head {
        parse_head(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes()).unwrap().unwrap().0
    }

    fn settings() -> Settings {
        Settings::new(std::sync::Arc::new(super::super::tls::client_config(&[]).unwrap()))
    }

    #[test]
    fn a_request_pins_the_version_and_asks_for_identity() {
        let url = Url::parse("https://h.example:8443/a%20b?X-Amz-Signature=s").unwrap();
        let version = Version { etag: Some("\"e\"".to_owned()), ..Version::default() };
        let asked = Asked { range: Some(ByteRange::new(10, 20)), size: Some(30), version, ..Asked::default() };
        let extra = [("Authorization".to_owned(), Secret::new("Bearer t")), ("host".to_owned(), Secret::new("evil"))];
        let bytes = request(&url, Form::Path, &asked, &settings(), &extra).unwrap();
        let want = format!(
            "GET /a%20b?X-Amz-Signature=s HTTP/1.1\r\nHost: h.example:8443\r\nUser-Agent: dray/{}\r\nAccept: */*\r\n\
             Accept-Encoding: identity\r\nConnection: keep-alive\r\nRange: bytes=10-19\r\nIf-Match: \"e\"\r\n\
             Authorization: Bearer t\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), want);
    }

    #[test]
    fn stored_bytes_are_asked_for_as_gzip() {
        let url = Url::parse("http://h/").unwrap();
        let asked = Asked { coding: Coding::Stored, ..Asked::default() };
        let text = String::from_utf8(request(&url, Form::Path, &asked, &settings(), &[]).unwrap()).unwrap();
        assert!(text.contains("\r\nAccept-Encoding: gzip\r\n") && !text.contains("identity"), "{text}");
    }

    #[test]
    fn a_date_pins_only_where_there_is_no_etag() {
        let url = Url::parse("http://h/").unwrap();
        let version = Version { last_modified: Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()), ..Version::default() };
        let asked = Asked { version, ..Asked::default() };
        let text = String::from_utf8(request(&url, Form::Whole, &asked, &settings(), &[]).unwrap()).unwrap();
        assert!(text.starts_with("GET http://h/ HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("\r\nIf-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{text}");
        assert!(!text.contains("Range"), "{text}");
    }

    #[test]
    fn line_breaks_in_headers_are_refused_without_being_repeated() {
        let url = Url::parse("http://h/").unwrap();
        for (name, value) in [
            ("x", "canary\r\nEvil: 1"),
            ("x", "canary\n"),
            ("x", "canary\0"),
            ("x y", "canary"),
            ("", "canary"),
            ("x:", "canary"),
        ] {
            let extra = [(name.to_owned(), Secret::new(value))];
            let failure = request(&url, Form::Path, &Asked::default(), &settings(), &extra).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Refused);
            assert!(!failure.detail.contains("canary"), "{failure}");
        }
        let version = Version { etag: Some("\"a\r\nb\"".to_owned()), ..Version::default() };
        let asked = Asked { version, ..Asked::default() };
        assert!(request(&url, Form::Path, &asked, &settings(), &[]).is_err());
    }

    #[test]
    fn heads_parse_once_complete_and_are_bounded() {
        let whole = b"HTTP/1.1 206 Partial Content\r\nETag:  \"x\" \r\nX: \xff\r\n\r\nBODY";
        let (head, used) = parse_head(whole).unwrap().unwrap();
        assert_eq!((head.status, head.minor, used), (206, 1, whole.len() - 4));
        assert_eq!(head.first("etag"), Some("\"x\""));
        for cut in 0..whole.len() - 4 {
            assert_eq!(parse_head(&whole[..cut]).unwrap(), None, "{cut}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(HEAD_BYTES_MAX));
        let many = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(HEADERS_MAX + 1));
        for text in [
            long.as_str(),
            many.as_str(),
            "\x15\x03\x01\x00\x02",
            "SSH-2.0-x\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
        ] {
            let failure = parse_head(text.as_bytes()).unwrap_err();
            assert_eq!(failure.kind, FailureKind::BadReply, "{:.30}", text);
        }
    }

    #[test]
    fn framing_follows_one_unambiguous_statement() {
        for (lines, want) in [
            ("Content-Length: 5\r\n", Some(Framing::Length(5))),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Some(Framing::Length(5))),
            ("Content-Length: 5, 5\r\n", Some(Framing::Length(5))),
            ("Transfer-Encoding: Chunked\r\n", Some(Framing::Chunked)),
            ("", Some(Framing::UntilClose)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
            ("Content-Length: 5, 6\r\n", None),
            ("Content-Length: +5\r\n", None),
            ("Content-Length: -5\r\n", None),
            ("Content-Length: 0x5\r\n", None),
            ("Content-Length: \r\n", None),
            ("Content-Length: 99999999999999999999\r\n", None),
            ("Content-Length: 9223372036854775808\r\n", None),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", None),
            ("Transfer-Encoding: gzip, chunked\r\n", None),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", None),
            ("Transfer-Encoding: identity\r\n", None),
        ] {
            assert_eq!(framing(&head(lines)).ok(), want, "{lines}");
        }
    }

    #[test]
    fn a_connection_lives_on_only_when_both_its_version_and_framing_allow() {
        let sized = Framing::Length(1);
        let old = |lines: &str| Head { minor: 0, ..head(lines) };
        assert!(keeps_alive(&head(""), sized));
        assert!(!keeps_alive(&head("Connection: Close\r\n"), sized));
        assert!(!keeps_alive(&head("Connection: x, close\r\n"), sized));
        assert!(!keeps_alive(&head(""), Framing::UntilClose));
        assert!(!keeps_alive(&old(""), sized));
        assert!(keeps_alive(&old("Connection: keep-alive\r\n"), sized));
    }
}
