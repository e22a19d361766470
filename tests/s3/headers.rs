//! What a web server's headers state of a file, and that pulls are held to it.

use std::fs;

use crate::resolve_with;
use crate::rig::dray::Dray;
use crate::rig::fake::{Asked, Fake, Reply, reply};
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::{folder, nginx};

const SIZE: u64 = 3 * MIB + 17;

fn content() -> (Content, Vec<u8>) {
    let content = Content::new(41, SIZE);
    let mut bytes = Vec::new();
    content.write_to(&mut bytes);
    (content, bytes)
}

fn sums(bytes: &[u8]) -> [(&'static str, String, &'static str); 6] {
    use crc_fast::{CrcAlgorithm, checksum};
    let base64 = |sum: &[u8]| aws_smithy_types::base64::encode(sum);
    let crc32c = u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).expect("32 bits").to_be_bytes();
    let crc32 = u32::try_from(checksum(CrcAlgorithm::Crc32IsoHdlc, bytes)).expect("32 bits").to_be_bytes();
    let crc64 = checksum(CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes();
    let (sha256, md5) = digests(bytes);
    [
        ("x-goog-hash", format!("crc32c={},md5={}", base64(&crc32c), base64(&md5)), "crc32c"),
        ("x-amz-checksum-crc32", base64(&crc32), "crc32"),
        ("x-amz-checksum-crc64nvme", base64(&crc64), "crc64nvme"),
        ("Repr-Digest", format!("sha-256=:{}:", base64(&sha256)), "sha256"),
        ("Digest", format!("SHA-256={}", base64(&sha256)), "sha256"),
        ("Content-MD5", base64(&md5), "md5"),
    ]
}

/// SHA-256 and MD5, by coreutils.
fn digests(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    fs::write(file.path(), bytes).expect("write");
    let sum = |program: &str| {
        let output = std::process::Command::new(program).arg(file.path()).output().expect("coreutils");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let digits = text.split_whitespace().next().expect("a sum");
        let pairs = digits.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect::<Vec<u8>>()
    };
    (sum("sha256sum"), sum("md5sum"))
}

/// A web server of one file that says `name: value` of it.
fn server(bytes: Vec<u8>, name: &'static str, value: String) -> Fake {
    Fake::start(move |asked| file(asked, &bytes).header(name, value.clone()))
}

fn file(asked: &Asked, bytes: &[u8]) -> Reply {
    let whole = reply(200, bytes).header("ETag", "\"e\"").header("Accept-Ranges", "bytes");
    let Some((first, last)) = asked.range() else { return whole };
    let last = last.min(bytes.len() - 1);
    reply(206, &bytes[first..=last])
        .header("ETag", "\"e\"")
        .header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
}

#[test]
fn a_file_is_proven_by_what_the_headers_of_its_server_state() {
    let (content, bytes) = content();
    for (name, value, check) in sums(&bytes) {
        let server = server(bytes.clone(), name, value);
        let dest = folder();
        let words = ["--require", "origin"];
        let run = Dray::pull(&server.url("/model.bin"), dest.path()).args(words).run();
        run.assert_sealed();
        Expected::of([("model.bin", &content)]).assert_sealed(dest.path());
        let file = run.file("model.bin");
        assert_eq!(
            (&file["assurance"], &file["checks"][0]["name"]),
            (&"origin".into(), &check.into()),
            "{name}: {file}"
        );
    }
}

#[test]
fn what_nginx_is_told_to_state_is_compared() {
    let nginx = nginx();
    let (content, bytes) = content();
    content.write_file(&nginx.root().join("stating/model.bin"));
    for (parameter, header) in [("repr", "Repr-Digest"), ("md5", "Content-MD5"), ("goog", "x-goog-hash")] {
        let stated = |bytes: &[u8]| sums(bytes).into_iter().find(|(name, ..)| *name == header).expect("a sum");
        let (_, value, check) = stated(&bytes);
        let dest = folder();
        let url = |value: &str| nginx.http(&format!("stating/model.bin?{parameter}={value}"));
        let run = Dray::pull(&url(&value), dest.path()).run();
        run.assert_sealed();
        let file = run.file("model.bin");
        assert_eq!(
            (&file["assurance"], &file["checks"][0]["name"]),
            (&"origin".into(), &check.into()),
            "{header}: {file}"
        );
        Expected::of([("model.bin", &content)]).assert_sealed(dest.path());
        let (_, wrong, _) = stated(&bytes[1..]);
        let dest = folder();
        Dray::pull(&url(&wrong), dest.path()).run().assert_fails(5);
        assert_eq!(tree(dest.path()).len(), 0, "{header}");
    }
}

#[test]
fn bytes_that_do_not_match_a_header_exit_5_and_are_not_published() {
    let (_, bytes) = content();
    for (name, value, _) in sums(&bytes) {
        let mut flipped = bytes.clone();
        flipped[2_000_003] ^= 1;
        let server = server(flipped, name, value);
        let dest = folder();
        Dray::pull(&server.url("/model.bin"), dest.path()).run().assert_fails(5);
        assert_eq!(tree(dest.path()).len(), 0, "{name}");
    }
}

#[test]
fn headers_that_cannot_be_read_are_no_statement_and_no_failure() {
    let (content, bytes) = content();
    for (name, value) in [
        ("Repr-Digest", "sha-256=:AAAA:"),
        ("Digest", "SHA-256"),
        ("Content-MD5", "not base64!"),
        ("x-goog-hash", "crc32c=,md5="),
        ("x-amz-checksum-crc32c", "AAAAAA==-3"),
        ("X-Linked-Etag", "\"25f9e794323b453885f5181f1b624d0b\""),
    ] {
        let server = server(bytes.clone(), name, value.to_owned());
        let dest = folder();
        let run = Dray::pull(&server.url("/model.bin"), dest.path()).run();
        assert_eq!(run.assert_sealed()["assurance"], "hashed", "{name}");
        Expected::of([("model.bin", &content)]).assert_sealed(dest.path());
    }
}

#[test]
fn only_a_server_that_shows_to_be_s3_has_an_etag_that_is_md5() {
    const MD5: &str = "\"25f9e794323b453885f5181f1b624d0b\"";
    for (id, stated) in [("x-amz-request-id", 1), ("x-request-id", 0)] {
        let server = Fake::start(move |_| reply(200, "content").header("ETag", MD5).header(id, "17"));
        let (manifest, _) = resolve_with(&server.url("/f"), &[]).expect("resolved");
        assert_eq!(manifest.entries[0].stated.len(), stated, "{id}");
    }
}

#[test]
fn the_sum_of_an_encoded_or_partial_reply_is_not_the_files() {
    let (_, bytes) = content();
    let [(google, value, _), ..] = sums(&bytes);
    let encoded = value.clone();
    let encoded =
        Fake::start(move |_| reply(200, "content").header("Content-Encoding", "gzip").header(google, encoded.clone()));
    let (manifest, _) = resolve_with(&encoded.url("/f"), &[]).expect("resolved");
    assert_eq!(manifest.entries[0].stated, []);
    // HEAD is refused, as presigned links do: the reply to the first byte is about that byte.
    let partial = Fake::start(move |asked| match asked.range() {
        None => reply(403, ""),
        Some(_) => file(asked, &bytes).header(google, value.clone()),
    });
    let (manifest, _) = resolve_with(&partial.url("/f"), &[]).expect("resolved");
    assert_eq!((manifest.entries[0].size, manifest.entries[0].stated.len()), (Some(SIZE), 0));
}
