//! What crosses the wire beside the bytes themselves: requests, heads, chunk lines.

use std::sync::Arc;

use dray::manifest::Version;
use dray::secret::Secret;
use dray::units::{ByteRange, MIB};
use dray::wire::body::{Body, Framing, Want};
use dray::wire::{Asked, Settings, Url, check, http1, tls};

/// A range of the object that every head below answers for.
pub(crate) fn asked() -> Asked {
    let version =
        Version { etag: Some("\"33a64df551425fcc55e4d42a148795d9f25f89d4-128\"".to_owned()), ..Version::default() };
    Asked { range: Some(ByteRange::new(16 * MIB, 32 * MIB)), size: Some(1 << 34), version, ..Asked::default() }
}

/// The head of S3's answer to it, as S3 writes it.
pub(crate) fn head() -> Vec<u8> {
    let lines = [
        "HTTP/1.1 206 Partial Content",
        "x-amz-id-2: 7HFMxJ0eR5yV9bq0oXqBzN3sQf5mGm1r0n2cH1QW8Zk3Yp0t5uV6wX7yZ8aB9cD0eF1gH2iJ3kL=",
        "x-amz-request-id: 4442587FB7D0A2F9",
        "Date: Mon, 23 Nov 2026 01:02:03 GMT",
        "Last-Modified: Sun, 22 Nov 2026 09:08:07 GMT",
        "ETag: \"33a64df551425fcc55e4d42a148795d9f25f89d4-128\"",
        "x-amz-server-side-encryption: AES256",
        "Accept-Ranges: bytes",
        "Content-Range: bytes 16777216-33554431/17179869184",
        "Content-Type: binary/octet-stream",
        "Content-Length: 16777216",
        "Server: AmazonS3",
        "\r\n",
    ];
    lines.join("\r\n").into_bytes()
}

/// Parses a head, finds how its body ends and judges it; its body's length.
pub(crate) fn read_head(head: &[u8], asked: &Asked) -> u64 {
    let (head, _) = http1::parse_head(head).expect("a good head").expect("a whole head");
    assert_eq!(http1::framing(&head), Ok(Framing::Length(16 * MIB)));
    let accepted = check::check(&head, asked, &[], std::time::SystemTime::UNIX_EPOCH).expect("what was asked");
    accepted.length.expect("a length")
}

/// Settings of any client, and a signed URL.
pub(crate) fn signed() -> (Settings, Url) {
    let settings = Settings::new(Arc::new(tls::client_config(&[]).expect("built-in roots")));
    let url = format!(
        "https://bucket.s3.eu-central-1.amazonaws.com/models/large/model-00001-of-00128.safetensors?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={}",
        "ab".repeat(32)
    );
    (settings, Url::parse(&url).expect("a URL"))
}

/// Writes a ranged GET; its bytes.
pub(crate) fn build_request(settings: &Settings, url: &Url, asked: &Asked, extra: &[(String, Secret)]) -> usize {
    http1::request(url, http1::Form::Path, asked, settings, extra).expect("good headers").len()
}

/// A body of `chunks` chunks of 1 KiB.
pub(crate) fn chunked(chunks: u64) -> Vec<u8> {
    let chunk = [b"400\r\n".as_slice(), &[7; 1 << 10], b"\r\n"].concat();
    let mut body = chunk.repeat(usize::try_from(chunks).expect("a few thousand"));
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

/// Takes the data out of a chunked body without copying it; how much there was.
pub(crate) fn unframe(mut bytes: &[u8]) -> u64 {
    let mut body = Body::new(Framing::Chunked);
    let mut data = 0;
    loop {
        match body.want() {
            Want::Data(most) => {
                let here = u64::try_from(bytes.len()).expect("fits").min(most);
                body.took(here);
                data += here;
                bytes = &bytes[usize::try_from(here).expect("fits")..];
            }
            Want::Framing => {
                let used = body.feed(bytes).expect("good framing");
                assert!(0 < used, "the body is cut short");
                bytes = &bytes[used..];
            }
            Want::End => return data,
        }
    }
}
