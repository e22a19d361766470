//! `dray lock`, and pulls that demand what it wrote.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::rig::dray::{Dray, Run};
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::s3::Bucket;
use crate::rig::server::wait_until;
use crate::rig::{folder, nginx, weed};

fn lock(source: &str, output: &Path) -> Dray {
    Dray::new([Path::new("lock"), Path::new(source), Path::new("-o"), output])
}

fn pull(bucket: &Bucket, dest: &Path, pin: &Path) -> Run {
    let dray = Dray::pull(&bucket.uri("model"), dest).s3(&bucket.endpoint);
    dray.args([Path::new("--pin"), pin, Path::new("--require"), Path::new("pinned")]).run()
}

fn model() -> Expected {
    let contents = [Content::new(1, 21 * MIB + 9), Content::new(2, 0), Content::new(3, 700)];
    Expected::of(["weights.bin", "__init__.py", "sub/config.json"].into_iter().zip(&contents))
}

fn stored(name: &str) -> (Bucket, Expected) {
    let (bucket, expected) = (weed().bucket(name), model());
    let keys: Vec<(String, &Content)> =
        expected.files.iter().map(|(path, content)| (format!("model/{path}"), content)).collect();
    bucket.put(&keys.iter().map(|(key, content)| (key.as_str(), *content)).collect::<Vec<_>>());
    (bucket, expected)
}

#[test]
fn a_lock_holds_what_a_pull_would_find_and_nothing_else_is_left() {
    let (bucket, expected) = stored("lock-holds");
    let around = folder();
    let output = around.path().join("model.lock");
    let run = lock(&bucket.uri("model"), &output).s3(&bucket.endpoint).run();
    run.assert_code(0);
    assert_eq!(run.stdout, "");
    assert_eq!(tree(around.path()).into_iter().collect::<Vec<_>>(), ["model.lock"]);
    let lock: Value = serde_json::from_slice(&fs::read(&output).expect("a lock")).expect("JSON");
    for (path, content) in &expected.files {
        let file = lock["files"].as_array().expect("files").iter().find(|file| file["path"] == **path);
        let file = file.unwrap_or_else(|| panic!("{path} in {lock}"));
        assert_eq!(file["blake3"], content.blake3.to_string(), "{path}");
        assert!(file["version"]["etag"].is_string(), "{path}: {file}");
    }
    let dest = folder();
    let run = pull(&bucket, dest.path(), &output);
    assert_eq!(run.assert_sealed()["assurance"], "pinned");
    expected.assert_sealed(dest.path());
}

#[test]
fn a_proof_is_held_to_a_lock_and_to_what_is_required() {
    let (bucket, _) = stored("lock-verify");
    let (around, dest) = (folder(), folder());
    let (right, wrong) = (around.path().join("right.lock"), around.path().join("wrong.lock"));
    lock(&bucket.uri("model"), &right).s3(&bucket.endpoint).run().assert_code(0);
    lock(&bucket.uri("model/sub"), &wrong).s3(&bucket.endpoint).run().assert_code(0);
    Dray::pull(&bucket.uri("model"), dest.path()).s3(&bucket.endpoint).run().assert_sealed();
    let verify = |flags: &[&str]| Dray::new([Path::new("verify"), dest.path()]).args(flags).run();
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    verify(&["--pin", &text(&right), "--require", "pinned"]).assert_code(0);
    // The store states the MD5 of what was put in one part.
    verify(&["--require", "origin"]).assert_code(0);
    bucket.put_multipart("silent/weights", &Content::new(5, 6 * MIB), 5 * MIB, None);
    let silent = folder();
    Dray::pull(&bucket.uri("silent"), silent.path()).s3(&bucket.endpoint).run().assert_sealed();
    let silent = Dray::new([Path::new("verify"), silent.path()]).args(["--require", "origin"]).run();
    assert!(silent.assert_fails(5).contains("--require"), "nothing is stated of an upload in parts without sums");
    assert!(verify(&["--pin", &text(&wrong)]).assert_fails(5).contains("not as pinned"));
    assert!(verify(&["--require", "pinned"]).assert_fails(5).contains("--require"));
}

#[test]
fn a_model_that_is_not_as_locked_is_refused() {
    let (bucket, expected) = stored("lock-changed");
    let around = folder();
    let output = around.path().join("model.lock");
    lock(&bucket.uri("model"), &output).s3(&bucket.endpoint).run().assert_code(0);
    let size = expected.files["weights.bin"].size;
    bucket.put(&[("model/weights.bin", &Content::new(9, size))]);
    let dest = folder();
    assert!(pull(&bucket, dest.path(), &output).assert_fails(5).contains("weights.bin"));
    assert!(!dest.path().join("weights.bin").exists() && !dest.path().join(".dray/receipt.json").exists());
    bucket.put(&[("model/more.bin", &Content::new(9, 5))]);
    assert!(pull(&bucket, dest.path(), &output).assert_fails(5).contains("more.bin"));
}

#[test]
fn a_lock_goes_to_stdout_and_replaces_an_older_one_whole() {
    let nginx = nginx();
    let content = Content::new(4, 3 * MIB);
    content.write_file(&nginx.root().join("weights"));
    let run = lock(&nginx.http("weights"), Path::new("-")).run();
    run.assert_code(0);
    let lock_out: Value = serde_json::from_str(&run.stdout).expect("JSON on stdout");
    assert_eq!(lock_out["files"][0]["blake3"], content.blake3.to_string());
    let around = folder();
    let output = around.path().join("model.lock");
    fs::write(&output, "an older lock").expect("write");
    lock(&nginx.http("absent"), &output).run().assert_fails(3);
    assert_eq!(fs::read_to_string(&output).expect("read"), "an older lock");
    lock(&nginx.http("weights"), &output).run().assert_code(0);
    let lock_file: Value = serde_json::from_slice(&fs::read(&output).expect("read")).expect("JSON");
    assert_eq!(lock_file, lock_out);
    lock(&nginx.http("weights"), &around.path().join("no/such/folder.lock")).run().assert_fails(2);
}

#[test]
fn a_stopped_lock_leaves_no_trace() {
    let nginx = nginx();
    Content::new(5, 24 * MIB).write_file(&nginx.root().join("weights"));
    let around = folder();
    let output = around.path().join("model.lock");
    let running = lock(&nginx.http("weights"), &output).env("DRAY_LIMIT_RATE", "4MiB").spawn();
    wait_until("bytes flow", Duration::from_secs(30), || {
        0 < nginx.bytes_sent("weights") || !tree(around.path()).is_empty()
    });
    running.signal(Signal::TERM);
    running.wait().assert_fails(143);
    assert_eq!(tree(around.path()).len(), 0);
    assert_eq!(fs::read_dir(around.path()).expect("list").count(), 0, "the scratch folder is gone");
}
