//! The wire against a raw TCP server that misbehaves on demand: every fault a reply can have, seen from the caller.

#[path = "wire/records.rs"]
mod records;
#[path = "wire/server.rs"]
mod server;
#[path = "wire/tls.rs"]
mod tls_and_tunnels;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dray::error::{Failure, FailureKind};
use dray::manifest::Version;
use dray::schedule::Connection;
use dray::secret::Secret;
use dray::units::ByteRange;
use dray::wire::{Access, Asked, Class, Client, Coding, Policy, Settings, Url, proxy, rate, tls};

use server::{Server, Then};

/// The stall timeout of tests about stalls; the others have one that a busy machine does not reach.
const STALL: Duration = Duration::from_millis(600);

fn access(url: &str) -> Access {
    Access { url: Url::parse(url).unwrap(), headers: Vec::new(), policy: Policy::Configured, coding: Coding::Identity }
}

fn settings() -> Settings {
    let mut settings = Settings::new(Arc::new(tls::client_config(&[]).unwrap()));
    settings.stall_timeout = Duration::from_secs(20);
    settings.connect_timeout = Duration::from_secs(20);
    settings
}

fn client() -> Client {
    Client::new(Arc::new(settings()))
}

fn impatient() -> Client {
    Client::new(Arc::new(Settings { stall_timeout: STALL, ..settings() }))
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The object every server has: byte `n` depends on all of `n`.
fn content(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|n| u8::try_from((n * 31 + (n >> 8) * 7 + (n >> 16)) % 251).unwrap()).collect()
}

/// Bytes 10-29 of 100, pinned by ETag `"e"`.
fn asked() -> Asked {
    let version = Version { etag: Some("\"e\"".to_owned()), ..Version::default() };
    Asked { range: Some(ByteRange::new(10, 30)), size: Some(100), version, ..Asked::default() }
}

const GOOD_LINES: &str = "HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\nContent-Range: bytes 10-29/100\r\n";

/// A correct reply to [`asked`].
fn good() -> Vec<u8> {
    with_body(&format!("{GOOD_LINES}Content-Length: 20\r\n"), &content(10..30))
}

fn with_body(lines: &str, body: &[u8]) -> Vec<u8> {
    [lines.as_bytes(), b"\r\n", body].concat()
}

fn empty(status: &str, lines: &str) -> Vec<u8> {
    with_body(&format!("HTTP/1.1 {status}\r\n{lines}Content-Length: 0\r\n"), b"")
}

/// One whole GET: the bytes, or the failure after how many good ones.
async fn fetch(
    client: &Client,
    access: &Access,
    asked: &Asked,
    connection: Connection,
) -> Result<Vec<u8>, (Failure, usize)> {
    let mut reply = client.get(access, asked, connection).await.map_err(|failure| (failure, 0))?;
    let mut buf = vec![0; 64];
    match reply.fill(&mut buf).await {
        Ok(filled) => {
            reply.finish();
            buf.truncate(filled);
            Ok(buf)
        }
        Err(failure) => {
            let good = reply.filled_before_failure();
            assert_eq!(buf[..good], content(10..10 + good));
            Err((failure, good))
        }
    }
}

/// One GET of [`asked`] from `server` by a client of its own.
fn fetch_from(server: &Server) -> Result<Vec<u8>, (Failure, usize)> {
    run(fetch(&client(), &server.access("/o"), &asked(), Connection::Any))
}

/// Expects that `reply` fails as `kind` after `good` bytes in place.
fn check_fault(reply: impl Into<Vec<u8>>, then: Then, kind: FailureKind, good: usize) {
    let reply = reply.into();
    let shown = String::from_utf8_lossy(&reply[..reply.len().min(150)]).into_owned();
    let (failure, filled) = fetch_from(&Server::always(reply, then)).expect_err(&shown);
    assert_eq!((failure.kind, filled), (kind, good), "{failure}\n{shown}");
}

#[test]
fn every_byte_lands_in_place_whatever_the_framing_and_buffer() {
    let whole = content(0..30_011);
    let chunks = |size: usize| {
        let mut out = Vec::new();
        for chunk in whole.chunks(size) {
            out.extend(format!("{:x};ext=1\r\n", chunk.len()).into_bytes());
            out.extend(chunk);
            out.extend(b"\r\n");
        }
        [out, b"0\r\nTrailer: x\r\n\r\n".to_vec()].concat()
    };
    let ok = "HTTP/1.1 200 OK\r\n";
    let replies = [
        (with_body(&format!("{ok}Content-Length: 30011\r\n"), &whole), Then::Keep),
        (with_body(&format!("HTTP/1.1 100 Continue\r\n\r\n{ok}Content-Length: 30011\r\n"), &whole), Then::Keep),
        (with_body(&format!("{ok}Transfer-Encoding: chunked\r\n"), &chunks(1)), Then::Keep),
        (with_body(&format!("{ok}Transfer-Encoding: chunked\r\n"), &chunks(1000)), Then::Keep),
        (with_body(&format!("{ok}Transfer-Encoding: chunked\r\n"), &chunks(30_011)), Then::Keep),
        (with_body(ok, &whole), Then::Close),
        (with_body("HTTP/1.0 200 OK\r\n", &whole), Then::Close),
    ];
    for (reply, then) in replies {
        let server = Server::always(reply, then);
        for (size, planned) in [
            (1, None),
            (7, Some(30_011)),
            (4096, None),
            (8191, Some(30_011)),
            (30_011, None),
            (30_011, Some(30_011)),
            (50_000, None),
        ] {
            let asked = Asked { size: planned, ..Asked::default() };
            let got = run(async {
                let mut reply = client().get(&server.access("/o"), &asked, Connection::Any).await.unwrap();
                let (mut got, mut buf) = (Vec::new(), vec![0; size]);
                loop {
                    let filled = reply.fill(&mut buf).await.unwrap();
                    got.extend_from_slice(&buf[..filled]);
                    if filled < size {
                        return got;
                    }
                }
            });
            assert!(got == whole, "{} bytes in steps of {size}", got.len());
        }
    }
}

#[test]
fn broken_framing_never_passes() {
    use FailureKind::{BadReply, Broken};
    let sized = format!("{GOOD_LINES}Content-Length: 20\r\n");
    let chunked = format!("{GOOD_LINES}Transfer-Encoding: chunked\r\n");
    let part = content(10..14);
    check_fault(with_body(&sized, &part), Then::Close, Broken, 4);
    check_fault(with_body(&sized, &part), Then::Reset, Broken, 4);
    check_fault(with_body(&sized, b""), Then::Reset, Broken, 0);
    check_fault(with_body(GOOD_LINES, &part), Then::Close, Broken, 4);
    check_fault(with_body(GOOD_LINES, &content(10..31)), Then::Close, BadReply, 20);
    check_fault(with_body(&chunked, &[b"4\r\n", &part[..], b"\r\n"].concat()), Then::Close, Broken, 4);
    check_fault(with_body(&chunked, &[b"4\r\n", &part[..], b"\r\n0\r\n\r\n"].concat()), Then::Keep, Broken, 4);
    check_fault(
        with_body(&chunked, &[b"15\r\n", &content(10..31)[..], b"\r\n0\r\n\r\n"].concat()),
        Then::Keep,
        BadReply,
        20,
    );
    check_fault(with_body(&chunked, &[b"4\r\n", &part[..], b"XX"].concat()), Then::Keep, BadReply, 4);
    check_fault(with_body(&chunked, b"-4\r\n"), Then::Keep, BadReply, 0);
    check_fault("", Then::Close, Broken, 0);
    check_fault("", Then::Reset, Broken, 0);
    check_fault("HTTP/1.1 206 Par", Then::Close, Broken, 0);
    check_fault(with_body(&format!("{sized}Content-Length: 21\r\n"), &content(10..30)), Then::Keep, BadReply, 0);
    check_fault(with_body(&format!("{sized}Transfer-Encoding: chunked\r\n"), b"0\r\n\r\n"), Then::Keep, BadReply, 0);
    check_fault(with_body(&format!("{GOOD_LINES}Transfer-Encoding: gzip, chunked\r\n"), b""), Then::Keep, BadReply, 0);
    check_fault("HTTP/1.1 100 Continue\r\n\r\n".repeat(50), Then::Hang, BadReply, 0);
    check_fault("HTTP/1.1 101 Switching Protocols\r\n\r\n", Then::Hang, BadReply, 0);
    check_fault(format!("{sized}X: {}\r\n\r\n", "y".repeat(70_000)), Then::Hang, BadReply, 0);
    check_fault(format!("{sized}{}\r\n", "X: y\r\n".repeat(200)), Then::Hang, BadReply, 0);
    check_fault("220 ftp.example ready\r\n", Then::Hang, BadReply, 0);
}

#[test]
fn bytes_behind_a_sized_body_are_never_taken_nor_the_connection_used_again() {
    let server = Server::always([good(), b"EXTRA".to_vec()].concat(), Then::Keep);
    run(async {
        let client = client();
        for _ in 0..2 {
            let got = fetch(&client, &server.access("/o"), &asked(), Connection::Any).await.unwrap();
            assert_eq!(got, content(10..30));
        }
    });
    assert_eq!(server.connections_used(), [0, 1]);
}

#[test]
fn only_the_asked_range_of_the_planned_version_passes() {
    use FailureKind::{BadReply, Changed, RangeIgnored};
    let ranged =
        |line: &str| with_body(&format!("HTTP/1.1 206 X\r\n{line}\r\nContent-Length: 20\r\n"), &content(10..30));
    assert_eq!(fetch_from(&Server::always(good(), Then::Keep)).unwrap(), content(10..30));
    check_fault(ranged("Content-Range: bytes 11-30/100"), Then::Keep, BadReply, 0);
    check_fault(ranged("Content-Range: bytes 10-29/*"), Then::Keep, BadReply, 0);
    check_fault(ranged("Content-Range: bytes 10-29/99\r\nETag: \"e\""), Then::Keep, BadReply, 0);
    check_fault(ranged("Content-Range: bytes 10-29/99"), Then::Keep, Changed, 0);
    check_fault(ranged("X: y"), Then::Keep, BadReply, 0);
    check_fault(ranged("Content-Type: multipart/byteranges; boundary=b"), Then::Keep, BadReply, 0);
    check_fault(ranged("Content-Range: bytes 10-29/100\r\nContent-Encoding: gzip"), Then::Keep, BadReply, 0);
    check_fault(ranged("Content-Range: bytes 10-29/100\r\nETag: \"other\""), Then::Keep, Changed, 0);
    check_fault(with_body("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n", &content(0..100)), Then::Keep, RangeIgnored, 0);
    check_fault(
        with_body("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n", b"hi"),
        Then::Keep,
        BadReply,
        0,
    );
    check_fault(empty("412 Precondition Failed", ""), Then::Keep, Changed, 0);
    check_fault(empty("416 X", "Content-Range: bytes */100\r\n"), Then::Keep, BadReply, 0);
    check_fault(empty("416 X", "Content-Range: bytes */9\r\n"), Then::Keep, Changed, 0);
    check_fault(empty("404 Not Found", ""), Then::Keep, FailureKind::Missing, 0);
}

#[test]
fn refusals_are_read_and_told_in_one_line_without_secrets() {
    let document = |code: &str, message: &str| {
        let xml = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        move |status: &str| {
            with_body(&format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", xml.len()), xml.as_bytes())
        }
    };
    let throttled = FailureKind::Throttled { retry_after: None };
    check_fault(document("SlowDown", "Reduce your rate")("503 Slow Down"), Then::Keep, throttled, 0);
    check_fault(document("ExpiredToken", "x")("400 Bad Request"), Then::Keep, FailureKind::Expired, 0);
    check_fault(document("AccessDenied", "Request has expired")("403 Forbidden"), Then::Keep, FailureKind::Expired, 0);
    let capped = FailureKind::Throttled { retry_after: Some(Duration::from_secs(60)) };
    check_fault(empty("429 X", "Retry-After: 1000000000\r\n"), Then::Keep, capped, 0);
    let unavailable = FailureKind::Unavailable { retry_after: None };
    check_fault(with_body("HTTP/1.1 502 Bad Gateway\r\n", b"<html>oops</html>"), Then::Close, unavailable, 0);

    let server = Server::always(
        document("AccessDenied", "no\r\nsuch canary-token, canary-signature")("403 Forbidden"),
        Then::Keep,
    );
    let mut access = server.access("/o?X-Amz-Signature=canary-signature");
    access.headers.push(("Authorization".to_owned(), Secret::new("Bearer canary-token")));
    let (failure, _) = run(fetch(&client(), &access, &asked(), Connection::Any)).unwrap_err();
    let want = format!("http://{}/o: 403 Forbidden: AccessDenied: no such (secret), (secret)", server.address);
    assert_eq!(failure, Failure::new(FailureKind::Denied, want));
    assert!(server.requests()[0].contains("Authorization: Bearer canary-token\r\n"));
}

#[test]
fn stalls_end_within_the_timeout() {
    let sized = format!("{GOOD_LINES}Content-Length: 20\r\n");
    for (reply, then, good) in [
        (Vec::new(), Then::Hang, 0),
        (b"HTTP/1.1 206 Partial".to_vec(), Then::Hang, 0),
        (b"HTTP/1.1 206 Partial\r\nX: ".to_vec(), Then::Drip, 0),
        (with_body(&sized, b""), Then::Hang, 0),
        (with_body(&sized, &content(10..14)), Then::Hang, 4),
        (with_body(&format!("{GOOD_LINES}Transfer-Encoding: chunked\r\n"), b"14;x="), Then::Drip, 0),
        (with_body(GOOD_LINES, &content(10..30)), Then::Hang, 20),
    ] {
        let started = Instant::now();
        let server = Server::always(reply, then);
        let (failure, filled) = run(fetch(&impatient(), &server.access("/o"), &asked(), Connection::Any)).unwrap_err();
        assert_eq!((failure.kind, filled), (FailureKind::Stalled, good), "{failure}");
        assert!(STALL <= started.elapsed() && started.elapsed() < STALL * 20, "{:?}", started.elapsed());
    }
    // An error document that never ends must not hold up its failure.
    let server = Server::always("HTTP/1.1 500 X\r\nContent-Length: 1000000000\r\n\r\nx", Then::Hang);
    let (failure, _) = run(fetch(&impatient(), &server.access("/o"), &asked(), Connection::Any)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable { retry_after: None });
    let server = Server::always("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", Then::Drip);
    run(async {
        let mut reply = impatient().get(&server.access("/o"), &Asked::default(), Connection::Any).await.unwrap();
        // One byte a call must not make a drip look lively.
        let failure = loop {
            if let Err(failure) = reply.fill(&mut [0]).await {
                break failure;
            }
        };
        assert_eq!(failure.kind, FailureKind::Stalled);
        assert!(reply.delivered() < 100);
    });
}

#[test]
fn connections_are_reused_only_after_whole_bodies() {
    let server = Server::start(|index, _| (good(), if index == 2 { Then::Close } else { Then::Keep }));
    run(async {
        let client = client();
        let access = server.access("/o");
        for connection in [Connection::Any, Connection::Any, Connection::Any, Connection::Any, Connection::Fresh] {
            assert_eq!(fetch(&client, &access, &asked(), connection).await.unwrap(), content(10..30));
        }
        drop(client.get(&access, &asked(), Connection::Any).await.unwrap());
        assert_eq!(fetch(&client, &access, &asked(), Connection::Any).await.unwrap(), content(10..30));
    });
    // Request 3 finds its connection closed; 4 asked for a fresh one; 5 was dropped half-read, 6 takes the other.
    assert_eq!(server.connections_used(), [0, 0, 0, 1, 2, 2, 1]);
}

#[test]
fn a_reused_connection_that_dies_before_the_reply_is_replaced_once() {
    let server = Server::start(|index, _| match index {
        0 => (good(), Then::Keep),
        1 => (Vec::new(), Then::Close),
        2 => (good(), Then::Keep),
        _ => (Vec::new(), Then::Close),
    });
    let shared = Arc::new(settings());
    run(async {
        let client = Client::new(Arc::clone(&shared));
        let access = server.access("/o");
        for _ in 0..2 {
            assert_eq!(fetch(&client, &access, &asked(), Connection::Any).await.unwrap(), content(10..30));
        }
        let (failure, _) = fetch(&client, &access, &asked(), Connection::Any).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Broken);
    });
    assert_eq!(server.connections_used(), [0, 0, 1, 1, 2]);
    let counters = &shared.counters;
    assert_eq!((counters.connections(), counters.requests(), counters.received()), (3, 5, 40));
}

#[test]
fn redirects_are_followed_by_the_rules() {
    let target = Server::always(good(), Then::Keep);
    let place = format!("http://localhost:{}/signed?sig=1", target.address.port());
    let source = Server::start(move |_, text| {
        let location = match text.split(' ').nth(1).unwrap() {
            "/far" => place.clone(),
            "/near" => "far?x".to_owned(),
            "/far?x" => "/far".to_owned(),
            "/file" => "file:///etc/passwd".to_owned(),
            "/metadata" => "http://169.254.169.254/latest".to_owned(),
            "/name" => "http://metadata.google.internal/".to_owned(),
            "/none" => return (empty("302 Found", ""), Then::Keep),
            other => format!("{other}x"),
        };
        (empty("302 Found", &format!("Location: {location}\r\n")), Then::Keep)
    });
    let with_secrets = |target: &str| {
        let headers = ["Authorization", "X-Amz-Security-Token"].map(|name| (name.to_owned(), Secret::new("canary")));
        Access { headers: headers.to_vec(), ..source.access(target) }
    };
    run(async {
        let client = client();
        for _ in 0..3 {
            assert_eq!(
                fetch(&client, &with_secrets("/near"), &asked(), Connection::Any).await.unwrap(),
                content(10..30)
            );
        }
        for (target, kind) in [
            ("/loop", FailureKind::Refused),
            ("/file", FailureKind::Refused),
            ("/metadata", FailureKind::Refused),
            ("/name", FailureKind::Refused),
            ("/none", FailureKind::BadReply),
        ] {
            let (failure, _) = fetch(&client, &with_secrets(target), &asked(), Connection::Any).await.unwrap_err();
            assert_eq!(failure.kind, kind, "{target}: {failure}");
        }
    });
    let (asked_source, asked_target) = (source.requests(), target.requests());
    // Three hops once, then the target alone; six requests for the endless chain; one each for the rest.
    assert_eq!((asked_source.len(), asked_target.len()), (3 + 6 + 4, 3));
    assert!(asked_source.iter().all(|text| text.contains("Authorization: canary\r\n")));
    for text in asked_target {
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("\r\nRange: bytes=10-29\r\n") && text.contains("\r\nIf-Match: \"e\"\r\n"), "{text}");
        assert!(text.contains("\r\nAccept-Encoding: identity\r\n"), "{text}");
    }
}

#[test]
fn an_expired_target_is_asked_for_again_at_its_source_once() {
    let target = Server::start(|_, text| match text.starts_with("GET /fresh") {
        true => (good(), Then::Keep),
        false => (empty("403 Forbidden", ""), Then::Keep),
    });
    let place = target.address;
    let source = Server::start(move |index, _| {
        let target = if index == 0 { "old" } else { "fresh" };
        (empty("307 X", &format!("Location: http://{place}/{target}\r\n")), Then::Keep)
    });
    assert_eq!(fetch_from(&source).unwrap(), content(10..30));
    assert_eq!((source.requests().len(), target.requests().len()), (2, 2));

    let refusing = Server::always(empty("403 Forbidden", ""), Then::Keep);
    let place = refusing.address;
    let source = Server::always(empty("307 X", &format!("Location: http://{place}/x\r\n")), Then::Keep);
    assert_eq!(fetch_from(&source).unwrap_err().0.kind, FailureKind::Denied);
    assert_eq!(refusing.requests().len(), 2);
}

#[test]
fn a_public_origin_may_not_name_this_machine() {
    let server = Server::always(good(), Then::Keep);
    run(async {
        let client = client();
        // An idle connection there must not open the door either.
        fetch(&client, &server.access("/o"), &asked(), Connection::Any).await.unwrap();
        for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"] {
            let url = format!("http://{host}:{}/o", server.address.port());
            let named = Access { policy: Policy::NamedBy(Class::Public), ..access(&url) };
            let (failure, _) = fetch(&client, &named, &asked(), Connection::Any).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Refused, "{host}");
        }
        let inside = Access { policy: Policy::NamedBy(Class::Private), ..server.access("/o") };
        assert!(fetch(&client, &inside, &asked(), Connection::Any).await.is_ok());
    });
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn unreachable_peers_fail_in_words() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{closed}/"), "http://no-such-host.invalid/".to_owned()] {
        let mut settings = settings();
        settings.connect_timeout = Duration::from_millis(500);
        let (failure, _) =
            run(fetch(&Client::new(Arc::new(settings)), &access(&url), &asked(), Connection::Any)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    }
}

#[test]
fn the_rate_limit_holds_and_is_no_stall() {
    let body = content(0..24_000);
    let server = Server::always(with_body("HTTP/1.1 200 OK\r\nContent-Length: 24000\r\n", &body), Then::Keep);
    let mut settings = settings();
    // 16 KiB take twice the stall timeout at this rate.
    settings.rate = Some(rate::Limiter::new(40_000).into());
    settings.stall_timeout = STALL;
    let client = Client::new(Arc::new(settings));
    let started = Instant::now();
    run(async {
        let mut reply = client.get(&server.access("/o"), &Asked::default(), Connection::Any).await.unwrap();
        let mut buf = vec![0; 24_000];
        assert_eq!(reply.fill(&mut buf).await, Ok(24_000));
        assert!(buf == body);
    });
    // 600 ms less the burst of 100 ms.
    assert!(Duration::from_millis(450) <= started.elapsed(), "{:?}", started.elapsed());
}

#[test]
fn http_is_forwarded_by_its_whole_url() {
    let proxy = Server::always(good(), Then::Keep);
    let mut settings = settings();
    settings.proxies =
        proxy::Proxies::new(Some(&format!("http://me:pw@{}", proxy.address)), None, Some("direct.example")).unwrap();
    let target = access("http://origin.example/o?q");
    assert_eq!(
        run(fetch(&Client::new(Arc::new(settings)), &target, &asked(), Connection::Any)).unwrap(),
        content(10..30)
    );
    let text = &proxy.requests()[0];
    assert!(text.starts_with("GET http://origin.example/o?q HTTP/1.1\r\nHost: origin.example\r\n"), "{text}");
    assert!(text.contains("\r\nProxy-Authorization: Basic bWU6cHc=\r\n"), "{text}");
}
