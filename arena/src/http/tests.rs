//! Every fault as a plain socket sees it: no HTTP library in between to hide or repair it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::*;
use crate::fault::{On, Rule, When};

/// Size of the object at `/m`.
const SIZE: u64 = 600_000;

/// What came back before the connection ended or fell silent.
struct Raw {
    bytes: Vec<u8>,
    end: Result<(), ErrorKind>,
}

impl Raw {
    fn head(&self) -> &str {
        let end = self.bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        std::str::from_utf8(&self.bytes[..end]).unwrap()
    }

    fn body(&self) -> &[u8] {
        let end = self.bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        &self.bytes[end + 4..]
    }

    fn status(&self) -> u16 {
        self.head().split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head().lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| *found == name).map(|(_, value)| value).collect()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.body()).unwrap()
    }
}

fn object() -> Content {
    Content::generated(11, SIZE)
}

fn origin(script: Script) -> FaultOrigin {
    origin_with(script, Options::default())
}

fn origin_with(script: Script, options: Options) -> FaultOrigin {
    let objects = vec![("/m".to_owned(), object()), ("/m?list".to_owned(), Content::bytes("listing"))];
    FaultOrigin::start_with(objects, script, options).unwrap()
}

/// One request on a connection of its own; gives up on a silent server after 200 ms.
fn ask(address: SocketAddr, method: &str, target: &str, headers: &str) -> Raw {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut buf = vec![0; 65_536];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return Raw { bytes, end: Ok(()) },
            Ok(n) => bytes.extend_from_slice(&buf[..n]),
            Err(e) => return Raw { bytes, end: Err(e.kind()) },
        }
    }
}

/// A GET of bytes 100 to 300,099 under one fault.
fn ranged(fault: Fault) -> Raw {
    let origin = origin(Script::always(fault));
    ask(origin.server.address(), "GET", "/m", "Range: bytes=100-300099\r\n")
}

fn good_body() -> Vec<u8> {
    object().range(100, 300_000)
}

#[test]
fn a_calm_origin_serves_ranges_heads_and_queries() {
    let origin = origin(Script::calm());
    let address = origin.server.address();
    let part = ask(address, "GET", "/m?sig=1", "Range: bytes=100-300099\r\n");
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers("Content-Range"), ["bytes 100-300099/600000"]);
    assert_eq!(part.headers("Content-Length"), ["300000"]);
    assert!(part.body() == good_body());
    let whole = ask(address, "GET", "/m", "");
    assert_eq!((whole.status(), whole.headers("Accept-Ranges")), (200, vec!["bytes"]));
    assert!(whole.body() == object().range(0, SIZE as usize));
    let head = ask(address, "HEAD", "/m", "");
    assert_eq!((head.status(), head.headers("Content-Length"), head.body().len()), (200, vec!["600000"], 0));
    assert_eq!(head.headers("ETag"), [format!("\"{}\"", object().etag())]);
    assert_eq!(ask(address, "GET", "/m?list", "").text(), "listing");
    assert_eq!(ask(address, "GET", "/none", "").status(), 404);
    assert_eq!(ask(address, "POST", "/m", "").status(), 405);
    let beyond = ask(address, "GET", "/m", "Range: bytes=600000-\r\n");
    assert_eq!((beyond.status(), beyond.headers("Content-Range")), (416, vec!["bytes */600000"]));
    assert_eq!(ask(address, "GET", "/m", "If-Match: \"x\"\r\n").status(), 412);
    assert_eq!(ask(address, "GET", "/m", "If-Match: *\r\n").status(), 200);
}

#[test]
fn a_connection_is_kept_and_the_log_tells_what_was_asked() {
    let origin = origin(Script::calm());
    let mut stream = TcpStream::connect(origin.server.address()).unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /m HTTP/1.1\r\nrange: bytes=0-9\r\nX-Key: v\r\n\r\n").unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(&object().range(0, 10)) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
    }
    drop(stream);
    let log = origin.log();
    assert_eq!((log.len(), origin.requests(), origin.connections()), (3, 3, 1));
    assert_eq!((log[2].range(), log[2].header("x-key"), log[2].connection), (Some("bytes=0-9"), Some("v"), 0));
    assert_eq!((log[0].status, log[0].sent), (Some(206), 10));
    assert_eq!((origin.body_bytes_sent(), origin.body_bytes_sent_for("/m")), (30, 30));
}

#[test]
fn early_ends_come_where_they_were_ordered() {
    let short = ranged(Fault::ShortBody { after: 1000 });
    assert_eq!((short.body().len(), short.end, short.headers("Content-Length")), (1000, Ok(()), vec!["300000"]));
    let reset = ranged(Fault::ResetMidBody { after: 1000 });
    assert_eq!((reset.body().len(), reset.end), (1000, Err(ErrorKind::ConnectionReset)));
    let reset = ranged(Fault::ResetAfterHeaders);
    assert_eq!((reset.status(), reset.body().len(), reset.end), (206, 0, Err(ErrorKind::ConnectionReset)));
    let closed = ranged(Fault::CloseBeforeHeaders);
    assert_eq!((closed.bytes.len(), closed.end), (0, Ok(())));
    let silent = ranged(Fault::StallNoHeaders);
    assert_eq!((silent.bytes.len(), silent.end), (0, Err(ErrorKind::WouldBlock)));
    let stalled = ranged(Fault::StallMidBody { after: 1000 });
    assert_eq!((stalled.body().len(), stalled.end), (1000, Err(ErrorKind::WouldBlock)));
}

#[test]
fn a_stall_ends_at_its_bound() {
    let options = Options { stall_max: Duration::from_millis(50), ..Options::default() };
    let origin = origin_with(Script::always(Fault::StallNoHeaders), options);
    let silent = ask(origin.server.address(), "GET", "/m", "");
    assert_eq!((silent.bytes.len(), silent.end), (0, Ok(())));
}

#[test]
fn slow_replies_are_slow_and_right() {
    let origin = origin(
        Script::calm()
            .rule(Rule::new(Fault::Drip { every: Duration::from_millis(5) }).nth(1))
            .rule(Rule::new(Fault::RateLimit { bytes_per_second: 3_000_000 }).nth(2))
            .rule(Rule::new(Fault::Latency(Duration::from_millis(60))).nth(3)),
    );
    for (range, len, least) in [("0-9", 10, 45), ("0-299999", 300_000, 90), ("0-9", 10, 60)] {
        let begun = Instant::now();
        let reply = ask(origin.server.address(), "GET", "/m", &format!("Range: bytes={range}\r\n"));
        assert!(reply.body() == object().range(0, len));
        assert!(Duration::from_millis(least) <= begun.elapsed(), "{range}: {:?}", begun.elapsed());
    }
}

#[test]
fn refusals_carry_their_status_and_document() {
    for (fault, status, text) in [
        (Fault::Status503 { retry_after: Some(7) }, 503, "<Code>SlowDown</Code>"),
        (Fault::Status429 { retry_after: Some(7) }, 429, "too many"),
        (Fault::Status500, 500, "<Code>InternalError</Code>"),
        (Fault::StatusHtml { status: 502 }, 502, "<html>"),
        (Fault::Status403Expired, 403, "<Code>ExpiredToken</Code>"),
        (Fault::AccessDenied403, 403, "<Code>AccessDenied</Code>"),
        (Fault::NotFound404, 404, "<Code>NoSuchKey</Code>"),
        (Fault::Vanish, 404, "<Code>NoSuchKey</Code>"),
        (Fault::Xml200, 200, "<Code>InternalError</Code>"),
        (Fault::Redirect { status: 307, location: "/else".to_owned() }, 307, ""),
    ] {
        let reply = ranged(fault.clone());
        assert_eq!(reply.status(), status, "{fault:?}");
        assert!(reply.text().contains(text), "{fault:?}");
        assert_eq!(reply.headers("Content-Length"), [reply.body().len().to_string()]);
        let after = reply.headers("Retry-After");
        assert_eq!(after.is_empty(), !matches!(status, 429 | 503), "{fault:?}");
        assert_eq!(reply.headers("Location").is_empty(), status != 307);
    }
}

#[test]
fn ranges_go_wrong_as_ordered() {
    let ignored = ranged(Fault::Ok200ForRange);
    assert_eq!((ignored.status(), ignored.headers("Content-Range").len()), (200, 0));
    assert!(ignored.body() == object().range(0, SIZE as usize));
    for (fault, range, len) in [
        (Fault::WrongRange { shift: 1 }, Some("bytes 101-300100/600000"), 300_000),
        (Fault::WrongTotal, Some("bytes 100-300099/600001"), 300_000),
        (Fault::UnknownTotal, Some("bytes 100-300099/*"), 300_000),
        (Fault::MissingContentRange, None, 300_000),
        (Fault::ShorterRange { by: 1 }, Some("bytes 100-300098/600000"), 299_999),
        (Fault::TooLong { extra: 5 }, Some("bytes 100-300099/600000"), 300_005),
    ] {
        let reply = ranged(fault.clone());
        assert_eq!((reply.status(), reply.headers("Content-Range").first().copied()), (206, range), "{fault:?}");
        assert_eq!(reply.headers("Content-Length"), [len.to_string()], "{fault:?}");
        assert!(reply.body() == object().range(100, len), "{fault:?}");
    }
    let multipart = ranged(Fault::MultipartRanges);
    assert_eq!(multipart.headers("Content-Type"), ["multipart/byteranges; boundary=arena-part"]);
    assert!(multipart.body().windows(300_000).any(|w| w == good_body()));
    let extra = ranged(Fault::ExtraBytes { extra: 9 });
    assert_eq!((extra.headers("Content-Length"), extra.body().len()), (vec!["300000"], 300_009));
}

#[test]
fn damage_is_where_it_was_ordered_and_nowhere_else() {
    let differing = |reply: &Raw| -> Vec<usize> {
        let good = good_body();
        assert_eq!(reply.body().len(), good.len());
        (0..good.len()).filter(|&i| reply.body()[i] != good[i]).collect()
    };
    assert_eq!(differing(&ranged(Fault::FlipByte { at: 270_100 })), [270_000]);
    assert!(differing(&ranged(Fault::FlipByte { at: 99 })).is_empty());
    let zeroed = ranged(Fault::ZeroBytes { at: 262_200, len: 100 });
    assert!(zeroed.body()[262_100..262_200].iter().all(|&b| b == 0));
    assert!(differing(&zeroed).iter().all(|i| (262_100..262_200).contains(i)));
}

#[test]
fn framing_breaks_as_ordered() {
    let chunks = |body: &[u8]| -> (Vec<u8>, usize) {
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(end) = body[at..].windows(2).position(|w| w == b"\r\n") {
            let len = usize::from_str_radix(std::str::from_utf8(&body[at..at + end]).unwrap(), 16).unwrap();
            out.extend_from_slice(&body[at + end + 2..at + end + 2 + len]);
            at += end + 2 + len + 2;
            if len == 0 {
                return (out, 1);
            }
        }
        (out, 0)
    };
    let chunked = ranged(Fault::ChunkedBody);
    assert_eq!(chunked.headers("Transfer-Encoding"), ["chunked"]);
    assert!(chunked.headers("Content-Length").is_empty());
    assert!(chunks(chunked.body()) == (good_body(), 1));
    let truncated = ranged(Fault::ChunkedTruncated { after: 1000 });
    assert!(chunks(truncated.body()) == (object().range(100, 1000), 0));
    assert_eq!(truncated.end, Ok(()));
    assert_eq!(ranged(Fault::TwoContentLengths).headers("Content-Length"), ["300000", "300001"]);
    let both = ranged(Fault::LengthAndChunked);
    assert_eq!((both.headers("Content-Length").len(), both.headers("Transfer-Encoding").len()), (1, 1));
    assert!(100_000 <= ranged(Fault::HugeHeaders { bytes: 100_000 }).head().len());
    let flood = ranged(Fault::InterimFlood { count: 5 });
    assert!(flood.bytes.starts_with("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(5).as_bytes()));
    assert!(ranged(Fault::Garbage).bytes.starts_with(b"SMTP"));
    assert_eq!(ranged(Fault::GzipEncoding).headers("Content-Encoding"), ["gzip"]);
    assert_eq!(ranged(Fault::CloseConnectionEachTime).headers("Connection"), ["close"]);
}

#[test]
fn a_version_change_lasts_and_breaks_the_pin() {
    let next = Content::generated(12, SIZE);
    let origin = origin(Script::once("/m", 2, Fault::VersionChange(next.clone())));
    let pin = format!("If-Match: \"{}\"\r\nRange: bytes=0-9\r\n", object().etag());
    let status = || ask(origin.server.address(), "GET", "/m", &pin).status();
    assert_eq!([status(), status(), status()], [206, 412, 412]);
    assert!(ask(origin.server.address(), "GET", "/m", "").body() == next.range(0, SIZE as usize));
    origin.put("/m", object());
    origin.set_script(Script::always(Fault::OtherEtag("z".to_owned())));
    assert_eq!(ask(origin.server.address(), "GET", "/m", &pin).headers("ETag"), ["\"z\""]);
    origin.remove("/m");
    assert_eq!(status(), 404);
}

#[test]
fn faults_of_one_request_add_up() {
    let script = Script::calm()
        .rule(Rule::new(Fault::FlipByte { at: 5 }).covering(5).when(When::First(1)))
        .rule(Rule::new(Fault::ShortBody { after: 8 }).first(1))
        .rule(Rule::new(Fault::Status500).on(On::Head));
    let origin = origin(script);
    let first = ask(origin.server.address(), "GET", "/m", "");
    let mut wrong = object().range(0, 8);
    wrong[5] ^= 1;
    assert_eq!(first.body(), wrong);
    assert!(ask(origin.server.address(), "GET", "/m", "").body() == object().range(0, SIZE as usize));
    assert_eq!(ask(origin.server.address(), "HEAD", "/m", "").status(), 500);
}

#[test]
fn an_origin_may_know_less_by_its_options() {
    let ask_with = |options: Options, method: &str| {
        let origin = origin_with(Script::calm(), options);
        ask(origin.server.address(), method, "/m", "Range: bytes=0-9\r\n")
    };
    let plain = ask_with(Options { ranges: Ranges::Ignored, ..Options::default() }, "GET");
    assert_eq!((plain.status(), plain.headers("Accept-Ranges").len(), plain.body().len()), (200, 0, 600_000));
    let weak = ask_with(Options { validators: Validators::Weak, ..Options::default() }, "GET");
    assert!(weak.headers("ETag")[0].starts_with("W/\""));
    let none = ask_with(Options { validators: Validators::None, ..Options::default() }, "GET");
    assert_eq!((none.headers("ETag").len(), none.headers("Last-Modified").len()), (0, 0));
    let dated = ask_with(Options { validators: Validators::ModifiedOnly, ..Options::default() }, "GET");
    assert_eq!((dated.headers("ETag").len(), dated.headers("Last-Modified").len()), (0, 1));
    for (head, status) in [(Head::Refused403, 403), (Head::Refused405, 405)] {
        assert_eq!(ask_with(Options { head, ..Options::default() }, "HEAD").status(), status);
        assert_eq!(ask_with(Options { head, ..Options::default() }, "GET").status(), 206);
    }
    let headers = vec![("x-goog-hash".to_owned(), "crc32c=AAAAAA==".to_owned())];
    let stated = ask_with(Options { headers, ..Options::default() }, "GET");
    assert_eq!(stated.headers("x-goog-hash"), ["crc32c=AAAAAA=="]);
}
