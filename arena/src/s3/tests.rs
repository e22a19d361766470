//! The endpoint over a plain socket, signed by a second, independent hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::*;

/// Status, header lines and body of one reply.
struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn exchange(arena: &S3Arena, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
    let mut stream = TcpStream::connect(arena.server.address()).unwrap();
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", arena.server.address());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    let split = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let headers = String::from_utf8(raw[..split].to_vec()).unwrap();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, headers, body: raw[split + 4..].to_vec() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `20260101T000000Z` of now, from the parts of an HTTP date.
fn amz_now() -> String {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let part: Vec<&str> = date.split(' ').collect();
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(part[2]).unwrap() / 3 + 1;
    format!("{}{month:02}{}T{}Z", part[3], part[1], part[4].replace(':', ""))
}

/// A presigned target; `query` holds further `name=value` pairs, sorted after `X-Amz-…`.
fn presigned(arena: &S3Arena, method: &str, path: &str, query: &str) -> String {
    let (now, host) = (amz_now(), arena.server.address());
    let scope = format!("{}/us-east-1/s3/aws4_request", &now[..8]);
    let credential = format!("{}/{scope}", arena.access_key()).replace('/', "%2F");
    let mut all = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={now}\
         &X-Amz-Expires=600&X-Amz-SignedHeaders=host"
    );
    if !query.is_empty() {
        all = format!("{all}&{query}");
    }
    let canonical = format!("{method}\n{path}\n{all}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
    let digest = hex(&Sha256::digest(canonical.as_bytes()));
    let mut key = hmac(format!("AWS4{}", arena.secret_key()).as_bytes(), &now[..8]);
    for part in ["us-east-1", "s3", "aws4_request"] {
        key = hmac(&key, part);
    }
    let signature = hex(&hmac(&key, &format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}")));
    format!("{path}?{all}&X-Amz-Signature={signature}")
}

fn signed(arena: &S3Arena, method: &str, path: &str, query: &str, headers: &[(&str, &str)]) -> Reply {
    exchange(arena, method, &presigned(arena, method, path, query), headers)
}

fn bucket() -> Bucket {
    Bucket::new("weights")
        .with("m/a.bin", Content::generated(1, 700_001))
        .with("m/b/c.bin", Content::bytes(&b"123456789"[..]))
        .with("m/empty", Content::bytes(""))
        .with("m/old", Content::bytes("old").without_checksum())
        .with("m/sp ace+&.bin", Content::bytes("x"))
}

#[test]
fn unsigned_and_badly_signed_requests_are_refused() {
    let arena = S3Arena::start([bucket()]).unwrap();
    for target in ["/weights/m/a.bin", "/weights?list-type=2", "/weights/none", "/nowhere/none"] {
        let reply = exchange(&arena, "GET", target, &[]);
        assert_eq!(reply.status, 403, "{target}");
        assert!(reply.text().contains("<Code>AccessDenied</Code>"), "{}", reply.text());
    }
    // Signed for another object, so well formed but not a signature of this request.
    let forged = presigned(&arena, "GET", "/weights/m/old", "").replace("m/old", "m/a.bin");
    assert_eq!(exchange(&arena, "GET", &forged, &[]).status, 403);
    let stranger = presigned(&arena, "GET", "/weights/m/a.bin", "").replace(arena.access_key(), "SOMEBODY");
    let reply = exchange(&arena, "GET", &stranger, &[]);
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("<Code>InvalidAccessKeyId</Code>"), "{}", reply.text());
    assert_eq!(arena.requests(), Counts { all: 6, ..Counts::default() });
}

#[test]
fn a_whole_get_gives_the_object_and_its_sum_on_demand() {
    let arena = S3Arena::start([bucket()]).unwrap();
    let content = Content::generated(1, 700_001);
    let plain = signed(&arena, "GET", "/weights/m/a.bin", "", &[]);
    assert_eq!((plain.status, plain.header("x-amz-checksum-crc64nvme")), (200, None));
    assert_eq!(plain.header("content-length"), Some("700001"));
    assert!(plain.body == content.range(0, 700_001));
    let summed = signed(&arena, "GET", "/weights/m/a.bin", "", &[("x-amz-checksum-mode", "ENABLED")]);
    assert_eq!(summed.header("x-amz-checksum-crc64nvme"), Some(content.crc64nvme_base64().as_str()));
    assert_eq!(summed.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    assert_eq!(arena.requests(), Counts { all: 2, get: 2, bytes_sent: 1_400_002, ..Counts::default() });
}

#[test]
fn a_range_gives_206_without_a_sum() {
    let arena = S3Arena::start([bucket()]).unwrap();
    let content = Content::generated(1, 700_001);
    for (range, start, end) in
        [("bytes=0-0", 0, 0), ("bytes=300000-699999", 300_000, 699_999), ("bytes=-5", 699_996, 700_000)]
    {
        let headers = [("Range", range), ("x-amz-checksum-mode", "ENABLED")];
        let reply = signed(&arena, "GET", "/weights/m/a.bin", "", &headers);
        assert_eq!(reply.status, 206);
        let stated = format!("bytes {start}-{end}/700001");
        assert_eq!(reply.header("content-range"), Some(stated.as_str()));
        assert_eq!(reply.header("x-amz-checksum-crc64nvme"), None);
        assert!(reply.body == content.range(start, (end - start + 1) as usize));
    }
    let beyond = signed(&arena, "GET", "/weights/m/a.bin", "", &[("Range", "bytes=700001-")]);
    assert_eq!(beyond.status, 416);
}

#[test]
fn a_head_states_size_version_and_sum() {
    let arena = S3Arena::start([bucket()]).unwrap();
    let mode = [("x-amz-checksum-mode", "ENABLED")];
    let reply = signed(&arena, "HEAD", "/weights/m/b/c.bin", "", &mode);
    assert_eq!(reply.status, 200);
    assert!(reply.body.is_empty());
    assert_eq!(reply.header("content-length"), Some("9"));
    assert_eq!(reply.header("x-amz-checksum-crc64nvme"), Some("rosUhgp5mIg="));
    assert_eq!(reply.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    assert_eq!(reply.header("last-modified"), Some("Thu, 01 Jan 2026 00:00:00 GMT"));
    let etag = format!("\"{}\"", Content::bytes(&b"123456789"[..]).etag());
    assert_eq!(reply.header("etag"), Some(etag.as_str()));
    assert_eq!(signed(&arena, "HEAD", "/weights/m/old", "", &mode).header("x-amz-checksum-crc64nvme"), None);
    assert_eq!(signed(&arena, "HEAD", "/weights/m/empty", "", &[]).header("content-length"), Some("0"));
    assert_eq!(signed(&arena, "HEAD", "/weights/none", "", &[]).status, 404);
}

#[test]
fn conditions_hold_a_reader_to_one_version() {
    let arena = S3Arena::start([bucket()]).unwrap();
    let etag = format!("\"{}\"", Content::generated(1, 700_001).etag());
    let get = |headers: &[(&str, &str)]| signed(&arena, "GET", "/weights/m/a.bin", "", headers);
    assert_eq!(get(&[("If-Match", &etag), ("Range", "bytes=0-9")]).status, 206);
    assert_eq!(get(&[("If-None-Match", &etag)]).status, 304);
    assert_eq!(get(&[("If-Unmodified-Since", "Thu, 01 Jan 2026 00:00:00 GMT")]).status, 200);
    assert_eq!(get(&[("If-Unmodified-Since", "Wed, 31 Dec 2025 23:59:59 GMT")]).status, 412);
    arena.put("weights", "m/a.bin", Content::generated(2, 700_001));
    let changed = get(&[("If-Match", &etag), ("Range", "bytes=0-9")]);
    assert_eq!(changed.status, 412);
    assert!(changed.text().contains("<Code>PreconditionFailed</Code>"));
    arena.remove("weights", "m/a.bin");
    assert_eq!(get(&[]).status, 404);
}

#[test]
fn listings_page_and_fold() {
    let arena = S3Arena::start([bucket()]).unwrap();
    let list = |query: &str| signed(&arena, "GET", "/weights", query, &[]);
    let folded = list("delimiter=%2F&list-type=2&prefix=m%2F");
    assert_eq!(folded.status, 200);
    assert!(folded.text().contains("<CommonPrefixes><Prefix>m/b/</Prefix></CommonPrefixes>"), "{}", folded.text());
    assert!(folded.text().contains("<KeyCount>5</KeyCount>"));
    let first = list("list-type=2&max-keys=2");
    assert!(first.text().contains("<IsTruncated>true</IsTruncated>"));
    let token = first.text().split("NextContinuationToken>").nth(1).unwrap().trim_end_matches("</");
    let second = list(&format!("continuation-token={token}&list-type=2&max-keys=2"));
    assert!(second.text().contains("<Key>m/empty</Key>"), "{}", second.text());
    // As S3 listed in 2006, which older clients still ask for.
    let first = list("max-keys=2");
    let marker = first.text().split("NextMarker>").nth(1).unwrap().trim_end_matches("</").replace('/', "%2F");
    assert!(list(&format!("marker={marker}&max-keys=2")).text().contains("<Key>m/empty</Key>"), "{marker}");
    let encoded = list("encoding-type=url&list-type=2&prefix=m%2Fsp");
    assert!(encoded.text().contains("<Key>m/sp%20ace%2B%26.bin</Key>"), "{}", encoded.text());
    let missing = signed(&arena, "GET", "/nowhere", "list-type=2", &[]);
    assert!(missing.text().contains("<Code>NoSuchBucket</Code>"));
    assert_eq!((missing.status, arena.requests().list), (404, 7));
    let missing = signed(&arena, "GET", "/weights/none", "", &[]);
    assert!(missing.text().contains("<Code>NoSuchKey</Code>"));
    assert_eq!(missing.status, 404);
    let spaced = signed(&arena, "GET", "/weights/m/sp%20ace%2B%26.bin", "", &[]);
    assert_eq!((spaced.status, spaced.text()), (200, "x"));
}

#[test]
fn the_demo_serves_a_model_and_stops_when_dropped() {
    let arena = demo(ModelSpec { total_bytes: 1 << 20, files: 2, seed: 5 }).unwrap();
    let model = Model::new(ModelSpec { total_bytes: 1 << 20, files: 2, seed: 5 }).unwrap();
    for object in model.objects() {
        let reply = signed(&arena, "GET", &format!("/demo/model/{}", object.name), "", &[]);
        assert!(reply.body == object.content.range(0, object.content.size() as usize), "{}", object.name);
    }
    let address = arena.server.address();
    drop(arena);
    assert!(TcpStream::connect(address).is_err());
}
