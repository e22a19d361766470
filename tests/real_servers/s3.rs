//! Pulls by S3: sizes, statements, rungs, failures, versions.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dray_arena::{FaultOrigin, Script};
use serde_json::Value;

use crate::rig::dray::{Dray, Run};
use crate::rig::oracle::{Content, Expected, KIB, MIB, change_times, tree};
use crate::rig::s3::{ACCESS_KEY, Bucket, SECRET_KEY};
use crate::rig::server::{free_ports, wait_until};
use crate::rig::{folder, moto, nginx_before_weed, weed};
use crate::{RUNGS, border_files};

fn pull(bucket: &Bucket, path: &str, dest: &Path) -> Run {
    Dray::pull(&bucket.uri(path), dest).s3(&bucket.endpoint).run()
}

fn put_border_files(bucket: &Bucket) -> Expected {
    let files = border_files();
    let keys: Vec<String> = files.iter().map(|(name, _)| format!("model/{name}")).collect();
    let objects: Vec<_> = keys.iter().zip(&files).map(|(key, (_, content))| (key.as_str(), content)).collect();
    bucket.put(&objects);
    Expected { files: files.into_iter().collect() }
}

#[test]
fn sizes_at_piece_and_span_borders_are_identical_on_every_rung() {
    let bucket = weed().bucket("borders");
    let expected = put_border_files(&bucket);
    for rung in RUNGS {
        let dest = folder();
        let run = Dray::pull(&bucket.uri("model"), dest.path()).s3(&bucket.endpoint).args(["--io", rung]).run();
        let report = run.assert_sealed();
        assert_eq!(report["io"]["backend"], rung, "{report}");
        assert_eq!(report["io"]["direct"], rung != "buffered", "{report}");
        assert_eq!(run.count("bytes.total"), expected.total());
        assert_eq!(run.count("bytes.fetched"), expected.total());
        expected.assert_sealed(dest.path());
    }
}

#[test]
fn a_multipart_object_is_proven_by_the_crc64nvme_its_store_states() {
    let bucket = weed().bucket("multipart");
    let content = Content::new(100, 100 * MIB);
    bucket.put_multipart("model/weights", &content, 8 * MIB, Some(("CRC64NVME", "FULL_OBJECT")));
    assert_eq!(bucket.head("model/weights")["ChecksumType"], "FULL_OBJECT");
    let dest = folder();
    let run = pull(&bucket, "model", dest.path());
    run.assert_sealed();
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
    let file = run.file("weights");
    assert_eq!(file["assurance"], "origin", "{file}");
    assert_names_check(file, "crc64nvme");
    assert_eq!(file["blake3"], content.blake3.to_string());
    assert!(run.count("rss_bytes_max") <= 128 * MIB, "memory: {}", run.report());
}

#[test]
fn a_single_put_is_proven_by_the_checksum_its_store_states() {
    let bucket = weed().bucket("single-sums");
    for algorithm in ["CRC64NVME", "CRC32", "CRC32C", "SHA256"] {
        let content = Content::new(101, 3 * MIB + 5);
        let key = format!("{algorithm}/weights");
        bucket.put_stating(algorithm, &[(&key, &content)]);
        let dest = folder();
        let run = pull(&bucket, algorithm, dest.path());
        run.assert_sealed();
        Expected::of([("weights", &content)]).assert_sealed(dest.path());
        if ["CRC64NVME", "CRC32C"].contains(&algorithm) {
            assert_eq!(run.file("weights")["assurance"], "origin", "{algorithm}: {}", run.report());
            assert_names_check(run.file("weights"), &algorithm.to_lowercase());
        }
    }
}

fn assert_names_check(file: &Value, name: &str) {
    let checks = file["checks"].as_array().expect("checks");
    let named = checks.iter().any(|check| check.to_string().to_lowercase().contains(name));
    assert!(named, "{name} is among {checks:?}");
}

#[test]
fn a_composite_or_absent_checksum_is_never_called_origin_unless_recomputed() {
    let bucket = weed().bucket("composite");
    let content = Content::new(102, 24 * MIB + 3);
    bucket.put_multipart("model/composite", &content, 8 * MIB, Some(("CRC32C", "COMPOSITE")));
    bucket.put_multipart("model/silent", &content, 8 * MIB, None);
    let dest = folder();
    let run = pull(&bucket, "model", dest.path());
    run.assert_sealed();
    Expected::of([("composite", &content), ("silent", &content)]).assert_sealed(dest.path());
    assert_eq!(run.file("silent")["assurance"], "hashed", "{}", run.report());
    let composite = run.file("composite");
    let recomputed = composite["checks"].to_string().contains("crc32c");
    assert_eq!(composite["assurance"] == "origin", recomputed, "{composite}");
}

#[test]
fn the_report_has_every_field_of_its_contract() {
    let bucket = weed().bucket("report");
    bucket.put(&[("model/a", &Content::new(103, MIB + 1)), ("model/b", &Content::new(104, 0))]);
    let dest = folder();
    let run = pull(&bucket, "model", dest.path());
    let report = run.assert_sealed();
    assert_eq!(report["schema"], "dray.report/1");
    for name in
        ["bytes.total", "bytes.fetched", "bytes.reused", "requests.total", "requests.retried", "requests.hedged"]
    {
        run.count(name);
    }
    for name in ["seconds", "cpu_seconds", "rss_bytes_max"] {
        assert!(report[name].is_number(), "{name}: {report}");
    }
    assert!(report["source"].is_string() && !report["resolved"].is_null(), "{report}");
    let verdict = report["bottleneck"]["verdict"].as_str().expect("a verdict");
    assert!(["network", "origin", "throttle", "disk", "cpu", "memory"].contains(&verdict), "{verdict}");
    assert!(report["bottleneck"]["shares"].is_object(), "{report}");
    assert!(report["io"]["direct"].is_boolean(), "{report}");
    assert_eq!(report["files"].as_array().map(Vec::len), Some(2));
    assert_eq!(run.file("a")["size"], MIB + 1);
}

#[test]
fn a_second_run_makes_no_data_request_and_no_write() {
    let nginx = nginx_before_weed("100m");
    let bucket = weed().bucket("second-run");
    let expected = put_border_files(&bucket);
    let dest = folder();
    let first = Dray::pull(&bucket.uri("model"), dest.path()).s3(&nginx.s3()).run();
    first.assert_sealed();
    let before = change_times(dest.path());
    let requests = nginx.requests("size-").iter().filter(|request| request.method == "GET").count();
    assert!(0 < requests, "the first run went by nginx");
    let second = Dray::pull(&bucket.uri("model"), dest.path()).s3(&nginx.s3()).run();
    second.assert_sealed();
    assert_eq!(second.count("bytes.fetched"), 0);
    assert_eq!(second.count("bytes.reused"), expected.total());
    let after = nginx.requests("size-").iter().filter(|request| request.method == "GET").count();
    assert_eq!(after, requests, "the second run asked for data");
    assert_eq!(change_times(dest.path()), before, "the second run wrote");
    expected.assert_sealed(dest.path());
}

#[test]
fn a_folder_in_tmpfs_is_written_buffered() {
    let bucket = weed().bucket("tmpfs");
    let expected = put_border_files(&bucket);
    let dest = tempfile::tempdir_in("/dev/shm").expect("a folder in tmpfs");
    let run = pull(&bucket, "model", dest.path());
    let report = run.assert_sealed();
    assert_eq!(report["io"]["direct"], false, "{report}");
    expected.assert_sealed(dest.path());
}

#[test]
fn moto_serves_the_same_bytes_over_many_pages() {
    let bucket = moto().bucket("second-opinion");
    let mut files = border_files();
    files.extend((0..1_100).map(|i| (format!("small/{i}"), Content::new(i, i % 700))));
    let objects: Vec<_> = files.iter().map(|(key, content)| (key.as_str(), content)).collect();
    bucket.put(&objects);
    let dest = folder();
    pull(&bucket, "", dest.path()).assert_sealed();
    Expected { files: files.into_iter().collect() }.assert_sealed(dest.path());
}

#[test]
fn a_wrong_secret_exits_4_after_a_handful_of_requests() {
    let nginx = nginx_before_weed("100m");
    let bucket = weed().bucket("wrong-secret");
    bucket.put(&[("model/a", &Content::new(105, KIB))]);
    let dest = folder();
    for uri in [bucket.uri("model"), bucket.uri("model/a")] {
        let run = Dray::pull(&uri, dest.path()).s3(&nginx.s3()).env("AWS_SECRET_ACCESS_KEY", "wrong").run();
        run.assert_fails(4);
        assert_ne!(run.report()["outcome"], "sealed");
    }
    let requests = nginx.requests("").len();
    assert!(requests <= 16, "{requests} requests for two refused runs");
    assert_eq!(tree(dest.path()).len(), 0);
}

#[test]
fn a_missing_bucket_or_key_exits_3_and_names_the_endpoint() {
    let bucket = weed().bucket("present");
    bucket.put(&[("model/a", &Content::new(106, KIB))]);
    for uri in ["s3://absent-bucket/model", "s3://present/absent", "s3://present/mod", "s3://present/model/absent"] {
        let dest = folder();
        let run = Dray::pull(uri, dest.path()).s3(&bucket.endpoint).run();
        let line = run.assert_fails(3);
        assert!(line.contains(&weed().address()), "names the endpoint: {line}");
        assert_eq!(tree(dest.path()).len(), 0);
    }
}

#[test]
fn a_refused_connection_exits_7_within_20_seconds() {
    let [port] = free_ports();
    let dest = folder();
    let endpoint = format!("http://127.0.0.1:{port}");
    let run = Dray::pull("s3://bucket/model", dest.path()).s3(&endpoint).within(Duration::from_secs(20)).run();
    run.assert_fails(7);
}

#[test]
fn the_endpoint_comes_from_the_uri_where_the_environment_is_silent() {
    let bucket = weed().bucket("endpoint-in-uri");
    let content = Content::new(107, KIB);
    bucket.put(&[("model/a", &content)]);
    let expected = Expected::of([("a", &content)]);
    let uri = format!("{}?endpoint={}&defaultRegion=us-east-1", bucket.uri("model"), bucket.endpoint);
    let dest = folder();
    let run = Dray::pull(&uri, dest.path())
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .run();
    run.assert_sealed();
    expected.assert_sealed(dest.path());

    let [port] = free_ports();
    let uri = format!("{}?endpoint=http://127.0.0.1:{port}", bucket.uri("model"));
    let dest = folder();
    Dray::pull(&uri, dest.path()).s3(&bucket.endpoint).run().assert_sealed();
    expected.assert_sealed(dest.path());
}

#[test]
fn the_service_endpoint_wins_and_credentials_come_from_a_file() {
    let bucket = weed().bucket("credentials-file");
    let content = Content::new(108, KIB);
    bucket.put(&[("model/a", &content)]);
    let around = folder();
    let file = around.path().join("credentials");
    let text = format!("[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n");
    fs::write(&file, text).expect("write credentials");
    let [port] = free_ports();
    let dest = folder();
    let run = Dray::pull(&bucket.uri("model"), dest.path())
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_ENDPOINT_URL_S3", &bucket.endpoint)
        .env("AWS_SHARED_CREDENTIALS_FILE", &file)
        .env("AWS_REGION", "us-east-1")
        .run();
    run.assert_sealed();
    Expected::of([("a", &content)]).assert_sealed(dest.path());
}

#[test]
fn a_web_identity_never_goes_to_an_s3_endpoint_not_even_one_that_the_cluster_overrides() {
    let of_the_process = FaultOrigin::start(Vec::new(), Script::calm()).expect("start the endpoint");
    let of_the_cluster = FaultOrigin::start(Vec::new(), Script::calm()).expect("start the endpoint");
    let around = folder();
    let token = around.path().join("token");
    fs::write(&token, "CANARY-WEB-IDENTITY").expect("write the token");
    let [closed] = free_ports();
    let endpoint = of_the_cluster.url("");
    // STS is behind a proxy that is not there: the run fails, and what it asked until then is what counts.
    let run = Dray::new(["s3://bucket/model".as_ref(), around.path().join("model").as_os_str()])
        .env("AWS_ENDPOINT_URL", of_the_process.url(""))
        .env("STORAGE_CONFIG", r#"{"type": "s3"}"#)
        .env("STORAGE_OVERRIDE_CONFIG", format!(r#"{{"endpoint_url": "{}"}}"#, endpoint.trim_end_matches('/')))
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
        .env("AWS_REGION", "us-east-1")
        .env("HTTPS_PROXY", format!("http://127.0.0.1:{closed}"))
        .run();
    assert!(run.assert_fails(7).contains("sts.us-east-1.amazonaws.com"), "{}", run.last_line());
    assert_eq!((of_the_process.requests(), of_the_cluster.requests()), (0, 0), "somebody was handed the token");
}

#[test]
fn the_latest_of_several_versions_is_taken() {
    let bucket = weed().versioned_bucket("versions");
    let [old, new, gone] = [1, 2, 3].map(|seed| Content::new(seed, 2 * MIB + seed));
    bucket.put(&[("model/a", &old), ("model/gone", &gone)]);
    bucket.put(&[("model/a", &new)]);
    bucket.delete("model/gone");
    let dest = folder();
    pull(&bucket, "model", dest.path()).assert_sealed();
    Expected::of([("a", &new)]).assert_sealed(dest.path());
}

#[test]
fn an_object_overwritten_in_mid_pull_ends_as_one_version_whole_or_exit_8() {
    let nginx = nginx_before_weed("6m");
    let bucket = weed().bucket("overwritten");
    let [old, new] = [1, 2].map(|seed| Content::new(seed, 48 * MIB));
    bucket.put(&[("model/weights", &old)]);
    let dest = folder();
    let mut running =
        Dray::pull(&bucket.uri("model"), dest.path()).s3(&nginx.slow_s3()).args(["--connections", "2"]).spawn();
    wait_until("a first span arrived", Duration::from_secs(30), || {
        assert!(!running.has_ended(), "the pull ended before the object changed");
        nginx.logged("model/weights").iter().any(|request| MIB < request.bytes)
    });
    bucket.put(&[("model/weights", &new)]);
    let run = running.wait();
    if run.code() == 0 {
        run.assert_sealed();
        // The last span may have been answered before the new version was there: then it is the old one, whole.
        let whole = if run.file("weights")["blake3"] == old.blake3.to_string() { &old } else { &new };
        Expected::of([("weights", whole)]).assert_sealed(dest.path());
    } else {
        run.assert_fails(8);
        assert_eq!(tree(dest.path()).len(), 0, "nothing half has a final name");
    }
}
