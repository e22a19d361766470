//! What SeaweedFS and moto state of objects: every checksum, of the whole and over parts.

use dray::manifest::{Manifest, Stated};
use serde_json::Value;

use crate::resolve_at;
use crate::rig::dray::Dray;
use crate::rig::oracle::{Content, Expected, MIB};
use crate::rig::s3::Bucket;
use crate::rig::{folder, moto, nginx_before_weed, weed};

const ALGORITHMS: [(&str, &str); 5] = [
    ("CRC64NVME", "ChecksumCRC64NVME"),
    ("CRC32C", "ChecksumCRC32C"),
    ("CRC32", "ChecksumCRC32"),
    ("SHA256", "ChecksumSHA256"),
    ("SHA1", "ChecksumSHA1"),
];

/// What `dray plan --json` says is stated of each file of `path`.
fn planned(bucket: &Bucket, path: &str) -> Value {
    let run = Dray::new(["plan", "--json", &bucket.uri(path)]).s3(&bucket.endpoint).run();
    run.assert_code(0);
    serde_json::from_str::<Value>(&run.stdout).expect("JSON")["files"].take()
}

/// Name and value of the only statement of the only file.
fn only_statement(bucket: &Bucket, path: &str) -> (String, String) {
    let files = planned(bucket, path);
    let stated = files[0]["stated"].as_array().expect("statements").clone();
    assert_eq!((files.as_array().map(Vec::len), stated.len()), (Some(1), 1), "{files}");
    let text = |name: &str| stated[0][name].as_str().expect("text").to_owned();
    (text("name"), text("value"))
}

/// As `dray` writes it: digests in hexadecimal digits, sums as S3 does.
fn as_shown(algorithm: &str, value: &str) -> String {
    if !algorithm.starts_with("SHA") {
        return value.to_owned();
    }
    let bytes = aws_smithy_types::base64::decode(value).expect("base64");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn each_checksum_of_a_single_put_is_stated_as_the_store_writes_it() {
    let content = Content::new(1, 3 * MIB + 5);
    for bucket in [weed().bucket("single"), moto().bucket("single")] {
        for (algorithm, field) in ALGORITHMS {
            let key = format!("{algorithm}/weights");
            bucket.put_stating(algorithm, &[(&key, &content)]);
            let head = bucket.head(&key);
            let value = head[field].as_str().unwrap_or_else(|| panic!("{algorithm} at {}: {head}", bucket.endpoint));
            let wanted = (algorithm.to_lowercase(), as_shown(algorithm, value));
            assert_eq!(only_statement(&bucket, algorithm), wanted, "{}", bucket.endpoint);
        }
    }
}

#[test]
fn an_object_without_a_checksum_is_stated_by_the_md5_of_its_etag() {
    let content = Content::new(2, 2 * MIB + 1);
    for bucket in [weed().bucket("etag"), moto().bucket("etag")] {
        bucket.put(&[("plain", &content)]);
        let head = bucket.head("plain");
        let etag = head["ETag"].as_str().expect("an ETag").trim_matches('"').to_owned();
        assert_eq!(only_statement(&bucket, "plain"), ("md5".to_owned(), etag), "{head}");
        bucket.put_multipart("parts", &content, 5 * MIB, None);
        let files = planned(&bucket, "parts");
        assert_eq!(files[0]["stated"].as_array().map(Vec::len), Some(0), "{}: {files}", bucket.endpoint);
    }
}

#[test]
fn a_sum_of_a_whole_upload_in_parts_costs_no_request_for_its_parts() {
    let nginx = nginx_before_weed("100m");
    let bucket = weed().bucket("full-object");
    let content = Content::new(3, 11 * MIB + 7);
    for (algorithm, field) in &ALGORITHMS[..3] {
        let key = format!("{algorithm}/weights");
        bucket.put_multipart(&key, &content, 5 * MIB + 11, Some((algorithm, "FULL_OBJECT")));
        let value = bucket.head(&key)[field].as_str().expect("a checksum").to_owned();
        assert_eq!(only_statement(&bucket, algorithm), (algorithm.to_lowercase(), value));
        let before = nginx.requests("").len();
        let seen = Bucket { endpoint: nginx.s3(), name: bucket.name.clone() };
        planned(&seen, &key);
        let asked = nginx.requests("").len() - before;
        assert!(asked <= 2, "{asked} requests for one file");
    }
}

/// The ends of the only file's parts, and its composite statement's name.
fn ends(manifest: &Manifest) -> (&'static str, Vec<u64>) {
    match &manifest.entries[0].stated[..] {
        [Stated::Composite(composite)] => (composite.sum.name(), composite.ends.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn summed(sizes: &[u64]) -> Vec<u64> {
    sizes.iter().scan(0, |end, size| Some(*end + size).inspect(|sum| *end = *sum)).collect()
}

/// Parts as uploads cut them: of one size, and each of its own; few borders are a piece's.
const CUTS: [&[u64]; 3] =
    [&[5 * MIB + 12_345, 5 * MIB + 12_345, 3], &[6 * MIB + 1, 5 * MIB + 7, 7 * MIB, 5 * MIB, 11], &[5 * MIB + 1]];

#[test]
fn sums_over_parts_are_stated_with_the_ends_that_were_uploaded() {
    let bucket = weed().versioned_bucket("composite-ends");
    for (algorithm, field) in &ALGORITHMS[1..] {
        for (index, sizes) in CUTS.into_iter().enumerate() {
            let content = Content::new(4, sizes.iter().sum());
            let key = format!("{algorithm}-{index}/weights");
            if index == 0 {
                // An older version, in other parts.
                bucket.put_parts(&key, &Content::new(8, CUTS[1].iter().sum()), CUTS[1], (algorithm, "COMPOSITE"));
            }
            bucket.put_parts(&key, &content, sizes, (algorithm, "COMPOSITE"));
            let head = bucket.head(&key);
            let manifest = resolve_at(&bucket.endpoint, &bucket.uri(&key)).expect("resolved");
            let name = format!("{}-composite", algorithm.to_lowercase());
            assert_eq!(ends(&manifest), (name.as_str(), summed(sizes)), "{algorithm} {sizes:?}: {head}");
            let value = head[field].as_str().expect("a checksum").to_owned();
            assert_eq!(only_statement(&bucket, &key), (name, value));
        }
    }
}

#[test]
fn pulls_are_proven_by_each_checksum_that_seaweedfs_states() {
    let bucket = weed().bucket("proven");
    let mut files = Vec::new();
    for (algorithm, _) in ALGORITHMS {
        let content = Content::new(5, 3 * MIB + 5);
        let name = format!("{algorithm}-single");
        bucket.put_stating(algorithm, &[(&format!("m/{name}"), &content)]);
        files.push((name, algorithm.to_lowercase(), content));
    }
    for (algorithm, _) in &ALGORITHMS[1..] {
        let content = Content::new(6, CUTS[1].iter().sum());
        let name = format!("{algorithm}-parts");
        bucket.put_parts(&format!("m/{name}"), &content, CUTS[1], (algorithm, "COMPOSITE"));
        files.push((name, format!("{}-composite", algorithm.to_lowercase()), content));
    }
    let plain = Content::new(7, 2 * MIB + 1);
    bucket.put(&[("m/plain", &plain)]);
    files.push(("plain".to_owned(), "md5".to_owned(), plain));
    let dest = folder();
    let run = Dray::pull(&bucket.uri("m"), dest.path()).s3(&bucket.endpoint).args(["--require", "origin"]).run();
    run.assert_sealed();
    for (name, check, _) in &files {
        let file = run.file(name);
        assert_eq!(file["assurance"], "origin", "{file}");
        let named = file["checks"].as_array().expect("checks").iter().any(|one| one["name"] == check.as_str());
        assert!(named, "{check} in {file}");
    }
    Expected { files: files.into_iter().map(|(name, _, content)| (name, content)).collect() }
        .assert_sealed(dest.path());
}
