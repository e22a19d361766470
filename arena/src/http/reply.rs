//! What goes back: a good reply, then what the faults make of it. Pure: nothing is sent here.
//!
//! In: a request, the object it names, the origin's options, the faults. Out: a [`Reply`].

use std::time::Duration;

use bytes::Bytes;

use super::request::{Seen, Verdict, Wanted};
use super::{Head, Options, Ranges};
use crate::content::Content;
use crate::fault::Fault;
use crate::pool::Pool;

/// Filler headers stop here: a client that takes this much takes anything.
const FILLER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One filler header's value.
const FILLER_BYTES: usize = 4096;

/// The boundary of a `multipart/byteranges` reply.
const BOUNDARY: &str = "arena-part";

/// A reply ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
    pub(super) framing: Framing,
    pub(super) pace: Option<Pace>,
    pub(super) cut: Option<Cut>,
    pub(super) delay: Duration,
    pub(super) interim: u32,
    /// Bytes on the wire after the body, framed by nothing.
    pub(super) extra: u64,
    pub(super) connection: Connection,
    pub(super) start: StartLine,
    range: Option<ContentRange>,
}

/// A body: bytes of an object, between a lead and a tail that only multipart replies have.
#[derive(Clone, Debug)]
pub(super) struct Body {
    lead: Bytes,
    content: Content,
    start: u64,
    len: u64,
    tail: Bytes,
    edits: Vec<Edit>,
}

/// Damage to the object's bytes, by offset in the object.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Flip(u64),
    Zero(u64, u64),
}

/// How the body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
}

/// How fast the body goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    Drip(Duration),
    Rate(u64),
}

/// Where a reply stops early, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) point: Point,
    pub(super) end: End,
}

/// The place of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    BeforeHeaders,
    Body(u64),
}

/// The manner of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Reset,
    Stall,
}

/// What becomes of the connection after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Keep,
    Close,
}

/// Whether the status line is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartLine {
    Http,
    Garbage,
}

#[derive(Clone, Debug)]
struct ContentRange {
    first: u64,
    last: u64,
    total: String,
}

impl Body {
    fn of(content: Content, start: u64, len: u64) -> Self {
        Self { lead: Bytes::new(), content, start, len, tail: Bytes::new(), edits: Vec::new() }
    }

    /// Bytes of the body.
    pub(super) fn len(&self) -> u64 {
        self.lead.len() as u64 + self.len + self.tail.len() as u64
    }

    /// Some bytes from `at` on, at most `max` and at least one inside the body.
    pub(super) fn chunk(&self, pool: &Pool, at: u64, max: u64) -> Bytes {
        let lead = self.lead.len() as u64;
        if at < lead {
            return slice(&self.lead, at, max);
        }
        let inside = at - lead;
        if self.len <= inside {
            return slice(&self.tail, inside - self.len, max);
        }
        let offset = self.start + inside;
        let chunk = pool.chunk(&self.content, offset, max.min(self.len - inside));
        self.damage(offset, chunk)
    }

    fn damage(&self, offset: u64, chunk: Bytes) -> Bytes {
        let end = offset + chunk.len() as u64;
        let touches = |edit: &Edit| match *edit {
            Edit::Flip(at) => offset <= at && at < end,
            Edit::Zero(at, len) => at < end && offset < at.saturating_add(len),
        };
        if !self.edits.iter().any(touches) {
            return chunk;
        }
        let mut bytes = chunk.to_vec();
        for edit in self.edits.iter().filter(|edit| touches(edit)) {
            match *edit {
                Edit::Flip(at) => bytes[index(at - offset)] ^= 1,
                Edit::Zero(at, len) => {
                    let from = at.max(offset) - offset;
                    let to = at.saturating_add(len).min(end) - offset;
                    bytes[index(from)..index(to)].fill(0);
                }
            }
        }
        bytes.into()
    }
}

/// An offset inside a chunk, which fits a `usize` as the chunk does.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn slice(bytes: &Bytes, at: u64, max: u64) -> Bytes {
    let at = usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
    let len = usize::try_from(max).map_or(bytes.len(), |max| max.min(bytes.len() - at));
    bytes.slice(at..at + len)
}

impl Reply {
    /// The reply of an origin that does everything right within its options.
    pub(super) fn good(seen: &Seen, content: Option<&Content>, options: &Options) -> Self {
        let head = seen.method == "HEAD";
        match options.head {
            _ if !head && seen.method != "GET" => return Self::text(405, "text/plain", String::new()),
            Head::Refused403 if head => return Self::text(403, "text/plain", "no HEAD here\n".to_owned()),
            Head::Refused405 if head => return Self::text(405, "text/plain", "no HEAD here\n".to_owned()),
            _ => {}
        }
        let Some(content) = content else { return Self::s3_error(404, "NoSuchKey") };
        let verdict = seen.conditions(content, options.validators);
        let mut reply = match verdict {
            Verdict::Failed => return Self::s3_error(412, "PreconditionFailed"),
            Verdict::NotModified => Self::with_body(304, Body::of(content.clone(), 0, 0)),
            Verdict::Proceed | Verdict::IgnoreRange => Self::whole(content),
        };
        if verdict == Verdict::Proceed && options.ranges == Ranges::Served {
            match seen.wanted(content.size()) {
                Wanted::Whole => {}
                Wanted::Span(start, end) => {
                    reply = Self::with_body(206, Body::of(content.clone(), start, end - start));
                    let total = content.size().to_string();
                    reply.range = Some(ContentRange { first: start, last: end - 1, total });
                }
                Wanted::Unsatisfiable => {
                    let mut refused = Self::s3_error(416, "InvalidRange");
                    refused.set("Content-Range", format!("bytes */{}", content.size()));
                    return refused;
                }
            }
        }
        reply.describe(content, options);
        reply
    }

    fn describe(&mut self, content: &Content, options: &Options) {
        if options.ranges == Ranges::Served {
            self.set("Accept-Ranges", "bytes".to_owned());
        }
        if let Some(etag) = options.validators.etag(content) {
            self.set("ETag", etag);
        }
        if let Some(modified) = options.validators.modified(content) {
            self.set("Last-Modified", httpdate::fmt_http_date(modified));
        }
        self.set("Content-Type", "application/octet-stream".to_owned());
        self.headers.extend(options.headers.iter().cloned());
    }

    fn whole(content: &Content) -> Self {
        Self::with_body(200, Body::of(content.clone(), 0, content.size()))
    }

    fn with_body(status: u16, body: Body) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
            framing: Framing::Length,
            pace: None,
            cut: None,
            delay: Duration::ZERO,
            interim: 0,
            extra: 0,
            connection: Connection::Keep,
            start: StartLine::Http,
            range: None,
        }
    }

    fn text(status: u16, kind: &str, text: String) -> Self {
        let content = Content::bytes(text);
        let len = content.size();
        let mut reply = Self::with_body(status, Body::of(content, 0, len));
        reply.set("Content-Type", kind.to_owned());
        reply
    }

    fn s3_error(status: u16, code: &str) -> Self {
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
             <Message>arena: {code}</Message><RequestId>0000000000000000</RequestId></Error>"
        );
        Self::text(status, "application/xml", xml)
    }

    /// Bends the reply by one fault. Faults of the range apply to a 206 alone.
    pub(super) fn apply(&mut self, fault: &Fault) {
        self.replace(fault);
        self.shift_range(fault);
        self.spoil_body(fault);
        self.break_frame(fault);
    }

    /// Another reply in place of this one; its pace, delay and end stay as they are.
    fn replace(&mut self, fault: &Fault) {
        let other = match fault {
            Fault::Status503 { retry_after } => Self::s3_error(503, "SlowDown").retry_after(*retry_after),
            Fault::Status429 { retry_after } => {
                Self::text(429, "text/plain", "too many requests\n".to_owned()).retry_after(*retry_after)
            }
            Fault::Status500 => Self::s3_error(500, "InternalError"),
            Fault::StatusHtml { status } => {
                Self::text(*status, "text/html", format!("<html><body><h1>{status}</h1></body></html>\n"))
            }
            Fault::Status403Expired => Self::s3_error(403, "ExpiredToken"),
            Fault::AccessDenied403 => Self::s3_error(403, "AccessDenied"),
            Fault::NotFound404 => Self::s3_error(404, "NoSuchKey"),
            Fault::Xml200 => Self::s3_error(200, "InternalError"),
            Fault::Redirect { status, location } => {
                let mut reply = Self::text(*status, "text/plain", String::new());
                reply.set("Location", location.clone());
                reply
            }
            _ => return,
        };
        self.status = other.status;
        self.headers = other.headers;
        self.body = other.body;
        self.range = None;
    }

    fn retry_after(mut self, seconds: Option<u64>) -> Self {
        if let Some(seconds) = seconds {
            self.set("Retry-After", seconds.to_string());
        }
        self
    }

    fn shift_range(&mut self, fault: &Fault) {
        let Some(range) = &mut self.range else { return };
        match fault {
            Fault::WrongRange { shift } => {
                range.first = range.first.saturating_add(*shift);
                range.last = range.last.saturating_add(*shift);
            }
            Fault::WrongTotal => range.total = (self.body.content.size() + 1).to_string(),
            Fault::UnknownTotal => range.total = "*".to_owned(),
            Fault::MissingContentRange => self.range = None,
            Fault::ShorterRange { by } => {
                self.body.len = self.body.len.saturating_sub(*by).max(1);
                range.last = range.first + self.body.len - 1;
            }
            Fault::MultipartRanges => {
                let part = format!(
                    "--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
                    range.render()
                );
                self.body.lead = part.into();
                self.body.tail = format!("\r\n--{BOUNDARY}--\r\n").into();
                self.range = None;
                self.set("Content-Type", format!("multipart/byteranges; boundary={BOUNDARY}"));
            }
            Fault::Ok200ForRange => {
                self.status = 200;
                self.range = None;
                self.body.start = 0;
                self.body.len = self.body.content.size();
            }
            _ => {}
        }
    }

    fn spoil_body(&mut self, fault: &Fault) {
        match fault {
            // Only the object's bytes are damaged: an error text has no offsets in the object.
            Fault::FlipByte { at } if self.carries_object() => self.body.edits.push(Edit::Flip(*at)),
            Fault::ZeroBytes { at, len } if self.carries_object() => self.body.edits.push(Edit::Zero(*at, *len)),
            Fault::TooLong { extra } => self.body.len = self.body.len.saturating_add(*extra),
            Fault::ExtraBytes { extra } => self.extra = *extra,
            Fault::OtherEtag(etag) => self.set("ETag", format!("\"{etag}\"")),
            Fault::GzipEncoding => self.set("Content-Encoding", "gzip".to_owned()),
            Fault::Drip { every } => self.pace = Some(Pace::Drip(*every)),
            Fault::RateLimit { bytes_per_second } => self.pace = Some(Pace::Rate((*bytes_per_second).max(1))),
            Fault::Latency(delay) => self.delay += *delay,
            _ => {}
        }
    }

    fn break_frame(&mut self, fault: &Fault) {
        let cut = |point, end| Some(Cut { point, end });
        match fault {
            Fault::ShortBody { after } => self.cut = cut(Point::Body(*after), End::Fin),
            Fault::ResetMidBody { after } => self.cut = cut(Point::Body(*after), End::Reset),
            Fault::ResetAfterHeaders => self.cut = cut(Point::Body(0), End::Reset),
            Fault::CloseBeforeHeaders => self.cut = cut(Point::BeforeHeaders, End::Fin),
            Fault::StallNoHeaders => self.cut = cut(Point::BeforeHeaders, End::Stall),
            Fault::StallMidBody { after } => self.cut = cut(Point::Body(*after), End::Stall),
            Fault::ChunkedBody => self.framing = Framing::Chunked,
            Fault::ChunkedTruncated { after } => {
                self.framing = Framing::Chunked;
                self.cut = cut(Point::Body(*after), End::Fin);
            }
            Fault::TwoContentLengths => {
                let other = self.body.len() + 1;
                self.headers.push(("Content-Length".to_owned(), other.to_string()));
            }
            Fault::LengthAndChunked => {
                self.framing = Framing::Chunked;
                let len = self.body.len();
                self.headers.push(("Content-Length".to_owned(), len.to_string()));
            }
            Fault::HugeHeaders { bytes } => self.add_filler((*bytes).min(FILLER_BYTES_MAX)),
            Fault::InterimFlood { count } => self.interim = *count,
            Fault::Garbage => self.start = StartLine::Garbage,
            Fault::CloseConnectionEachTime => self.connection = Connection::Close,
            _ => {}
        }
    }

    fn add_filler(&mut self, bytes: usize) {
        for n in 0..bytes.div_ceil(FILLER_BYTES) {
            let len = FILLER_BYTES.min(bytes - n * FILLER_BYTES);
            self.headers.push((format!("X-Filler-{n}"), "f".repeat(len)));
        }
    }

    fn carries_object(&self) -> bool {
        // Our own texts are text or XML; the object never is.
        self.header("Content-Type").is_some_and(|kind| !kind.starts_with("text/") && kind != "application/xml")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        self.headers.retain(|(found, _)| found != name);
        self.headers.push((name.to_owned(), value));
    }

    /// The bytes before the body: interim replies, status line, headers.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut out = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(self.interim as usize);
        match self.start {
            StartLine::Http => out.push_str(&format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status))),
            StartLine::Garbage => out.push_str("SMTP ready, say hello\r\n"),
        }
        if let Some(range) = &self.range {
            out.push_str(&format!("Content-Range: {}\r\n", range.render()));
        }
        match self.framing {
            Framing::Length if self.status == 304 => {}
            Framing::Length => out.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
            Framing::Chunked => out.push_str("Transfer-Encoding: chunked\r\n"),
        }
        if self.connection == Connection::Close {
            out.push_str("Connection: close\r\n");
        }
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        out.into_bytes()
    }
}

impl ContentRange {
    fn render(&self) -> String {
        format!("bytes {}-{}/{}", self.first, self.last, self.total)
    }
}

/// The usual reason phrase; clients must not care.
fn reason(status: u16) -> &'static str {
    hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}
