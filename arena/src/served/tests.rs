use std::io::{Read, Write};
use std::time::Instant;

use super::*;

const SIZE: u64 = 3 << 20;

fn served(ports: &[Port], weather: Weather) -> (Served, Content) {
    let content = Content::tiled(1, SIZE);
    let objects = vec![("a/weights.bin".to_owned(), content.clone())];
    let options = ServedOptions { objects, ports: ports.to_vec(), weather, threads: 2, seed: 1 };
    (Served::start(options).unwrap(), content)
}

/// One GET on a connection of its own: the head, the body, and whether the connection ended in an error.
fn get(served: &Served, path: &str, headers: &str) -> (String, Vec<u8>, bool) {
    let origin = served.origin(Port::Http).unwrap();
    let mut stream = std::net::TcpStream::connect(origin.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut bytes = Vec::new();
    let broken = stream.read_to_end(&mut bytes).is_err();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    let body = bytes.split_off(end);
    (String::from_utf8(bytes).unwrap().to_lowercase(), body, broken)
}

#[test]
fn objects_ranges_and_refusals_are_what_was_asked_for() {
    let (served, content) = served(&[Port::Http], Weather::default());
    let etag = format!("\"{}\"", content.etag());
    let whole = content.range(0, SIZE as usize);
    for (path, headers, status, from, len) in [
        ("/a/weights.bin", String::new(), "200 ok", 0, whole.len()),
        ("/a/weights.bin?signed=1", "Range: bytes=7-16\r\n".to_owned(), "206 ", 7, 10),
        ("/a/weights.bin", format!("Range: bytes=1048576-\r\nIf-Match: {etag}\r\n"), "206 ", 1 << 20, 2 << 20),
        ("/a/weights.bin", format!("Range: bytes={SIZE}-\r\n"), "416 ", 0, 0),
    ] {
        let (head, body, _) = get(&served, path, &headers);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{path} {headers}: {head}");
        assert!(head.contains(&format!("content-length: {len}\r\n")), "{head}");
        assert_eq!(body, whole[from..from + len], "{path} {headers}");
    }
    assert!(get(&served, "/a/weights.bin", "If-Match: \"other\"\r\n").0.starts_with("http/1.1 412"));
    assert!(get(&served, "/nothing", "").0.starts_with("http/1.1 404"));
    assert_eq!(served.met(), Met { requests: 6, ..Met::default() });
    assert_eq!((served.origin(Port::S3), served.authority()), (None, None));
}

#[test]
fn delay_and_pace_hold_on_each_connection() {
    let rtt = Duration::from_millis(60);
    let weather = Weather { rtt, per_connection: NonZeroU64::new(12 << 20), faults: 0.0 };
    let (served, content) = served(&[Port::Http], weather);
    let began = Instant::now();
    let (_, body, _) = get(&served, "/a/weights.bin", "");
    // 3 MiB at 12 MiB/s, after a connection's delay and a reply's; a step and the slack may go before their time.
    assert!(2 * rtt + Duration::from_millis(200) <= began.elapsed(), "{:?}", began.elapsed());
    assert_eq!(body, content.range(0, SIZE as usize));
}

#[test]
fn the_mix_of_faults_is_the_one_that_is_stated() {
    let (served, _) = served(&[], Weather { faults: 1.0, ..Weather::default() });
    for _ in 0..20_000 {
        served.state.course("/a/weights.bin");
    }
    let Met { stalls, resets, slow_downs, slow_firsts, .. } = served.met();
    for (met, expected) in [(stalls, 100), (resets, 100), (slow_downs, 200), (slow_firsts, 200)] {
        assert!((expected / 2..expected * 2).contains(&met), "{:?}", served.met());
    }
}

#[test]
fn faults_are_seen_by_the_client() {
    let (served, content) = served(&[Port::Http], Weather::default());
    let ask = |fault| {
        *served.state.script.lock().unwrap() = Script::always(fault);
        get(&served, "/a/weights.bin", "Range: bytes=5-65540\r\n")
    };
    let (head, body, broken) = ask(Fault::ResetMidBody { after: 1000 });
    assert!(broken && head.contains("content-length: 65536\r\n"), "{head}");
    assert_eq!(body, content.range(5, body.len()));
    assert!(body.len() <= 1000);
    let (head, body, _) = ask(Fault::Status503 { retry_after: None });
    assert!(head.starts_with("http/1.1 503") && String::from_utf8_lossy(&body).contains("SlowDown"), "{head}");
    let began = Instant::now();
    let (_, body, _) = ask(Fault::Latency(Duration::from_millis(80)));
    assert!(Duration::from_millis(80) <= began.elapsed() && body.len() == 65_536);
    assert_eq!((served.met().resets, served.met().slow_downs, served.met().slow_firsts), (1, 1, 1));
}

#[test]
fn a_silence_has_no_end_that_the_client_sees() {
    let (served, _) = served(&[Port::Http], Weather::default());
    *served.state.script.lock().unwrap() = Script::always(Fault::StallMidBody { after: 1000 });
    let origin = served.origin(Port::Http).unwrap();
    let mut stream = std::net::TcpStream::connect(origin.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream.write_all(b"GET /a/weights.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    assert_eq!(stream.read_to_end(&mut bytes).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(1000 <= bytes.len() && bytes.len() < 2000, "{}", bytes.len());
}
