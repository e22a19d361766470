//! Keys and the paths they become: whole segments, odd characters, refusals.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::rig::dray::Dray;
use crate::rig::oracle::{Content, Expected, KIB, tree};
use crate::rig::s3::Bucket;
use crate::rig::{folder, moto, weed};

/// Puts a few bytes under each key, and says what they are.
fn put_keys(bucket: &Bucket, keys: &[&str]) -> BTreeMap<String, Content> {
    let files: Vec<(&str, Content)> =
        keys.iter().enumerate().map(|(i, key)| (*key, Content::new(i as u64, 10 + i as u64))).collect();
    let objects: Vec<_> = files.iter().map(|(key, content)| (*key, content)).collect();
    bucket.put(&objects);
    files.into_iter().map(|(key, content)| (key.to_owned(), content)).collect()
}

fn assert_pulls(bucket: &Bucket, src: &str, expected: &Expected) {
    let dest = folder();
    Dray::pull(src, dest.path()).s3(&bucket.endpoint).run().assert_sealed();
    expected.assert_sealed(dest.path());
}

/// The pull is refused as a whole: exit 6, no file at all, nothing beside DEST.
fn assert_refused(bucket: &Bucket, src: &str) {
    let around = folder();
    let dest = around.path().join("dest");
    let run = Dray::pull(src, &dest).s3(&bucket.endpoint).run();
    run.assert_fails(6);
    assert_eq!(tree(around.path()).iter().filter(|path| !path.starts_with("dest/.dray/")).count(), 0);
}

#[test]
fn a_prefix_takes_whole_segments_only() {
    let bucket = weed().bucket("segments");
    let files = put_keys(&bucket, &["m/a", "m/sub/b", "m-v2/a", "m2/a", "mm", "x/m/a"]);
    let expected = Expected::of([("a", &files["m/a"]), ("sub/b", &files["m/sub/b"])]);
    for path in ["m", "m/"] {
        assert_pulls(&bucket, &bucket.uri(path), &expected);
    }
}

#[test]
fn an_exact_key_lands_under_its_base_name_alone() {
    let bucket = weed().bucket("exact");
    let files = put_keys(&bucket, &["m/weights", "m/weights.index", "m/weights-v2", "top"]);
    assert_pulls(&bucket, &bucket.uri("m/weights"), &Expected::of([("weights", &files["m/weights"])]));
    assert_pulls(&bucket, &bucket.uri("top"), &Expected::of([("top", &files["top"])]));
}

#[test]
fn a_bucket_without_a_path_gives_every_key() {
    let bucket = weed().bucket("root-of-bucket");
    let keys = ["config.json", "deep/er/still/file", "m/a"];
    let expected = Expected { files: put_keys(&bucket, &keys) };
    assert_pulls(&bucket, "s3://root-of-bucket", &expected);
    assert_pulls(&bucket, "s3://root-of-bucket/", &expected);
}

#[test]
fn odd_keys_arrive_under_their_own_names() {
    let bucket = weed().bucket("odd-keys");
    let names = [
        "with space",
        "plus+sign",
        "percent%sign",
        "encoded%20space",
        "encoded%2Fslash",
        "日本/モデル",
        "émoji-🚚",
        "question?mark=1&two",
        "hash#tag",
        "quote'\"",
        "semi;colon",
        "equals=",
        "at@sign",
        "brackets[1]{2}(3)",
        "tilde~",
        "star*",
        "dollar$",
        "comma,",
        "colon:",
        "amp&amp;",
        "less<more>",
        ".hidden",
        "-dash",
        "pipe|caret^grave`",
    ];
    let keys: Vec<String> = names.iter().map(|name| format!("m/{name}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let files = put_keys(&bucket, &keys);
    assert_eq!(bucket.keys(), files.keys().cloned().collect::<Vec<_>>(), "the server keeps each key as it is");
    let expected = Expected::of(files.iter().map(|(key, content)| (&key[2..], content)));
    assert_pulls(&bucket, &bucket.uri("m"), &expected);
}

#[test]
fn folder_keys_are_no_files_and_empty_objects_are() {
    let bucket = weed().bucket("folders");
    let empty = Content::new(0, 0);
    let some = Content::new(1, 5);
    bucket.put(&[("m/", &empty), ("m/sub/", &empty), ("m/none/", &empty), ("m/sub/a", &some), ("m/empty", &empty)]);
    assert_pulls(&bucket, &bucket.uri("m"), &Expected::of([("sub/a", &some), ("empty", &empty)]));
}

#[test]
fn a_prefix_of_2500_keys_arrives_whole() {
    let bucket = weed().bucket("many-keys");
    let name = |i: u64| format!("part-{:02}/file-{i}", i % 13);
    let files: Vec<(String, Content)> = (0..2_500).map(|i| (name(i), Content::new(i, i % 3_000))).collect();
    let keys: Vec<String> = files.iter().map(|(name, _)| format!("m/{name}")).collect();
    let objects: Vec<_> = keys.iter().zip(&files).map(|(key, (_, content))| (key.as_str(), content)).collect();
    bucket.put(&objects);
    let expected = Expected { files: files.into_iter().collect() };
    assert_pulls(&bucket, &bucket.uri("m"), &expected);
}

#[test]
fn allow_and_ignore_choose_among_the_keys() {
    let bucket = weed().bucket("globs");
    let files = put_keys(&bucket, &["m/a.safetensors", "m/b.safetensors", "m/b.bin", "m/config.json"]);
    let dest = folder();
    let run = Dray::pull(&bucket.uri("m"), dest.path())
        .s3(&bucket.endpoint)
        .args(["--allow", "*.safetensors", "--allow", "*.json", "--ignore", "b.*"])
        .run();
    run.assert_sealed();
    let expected = [("a.safetensors", &files["m/a.safetensors"]), ("config.json", &files["m/config.json"])];
    Expected::of(expected).assert_sealed(dest.path());
    let dest = folder();
    let run = Dray::pull(&bucket.uri("m"), dest.path()).s3(&bucket.endpoint).args(["--allow", "*.gguf"]).run();
    run.assert_fails(3);
}

#[test]
fn names_that_differ_in_case_alone_are_refused_as_a_whole() {
    let bucket = weed().bucket("case");
    put_keys(&bucket, &["m/Weights.bin", "m/weights.bin", "m/other"]);
    assert_refused(&bucket, &bucket.uri("m"));
}

#[test]
fn a_backslash_in_a_name_is_refused_as_a_whole() {
    // SeaweedFS turns it into a slash.
    let bucket = moto().bucket("backslash");
    put_keys(&bucket, &["m/bad\\name", "m/good"]);
    assert_eq!(bucket.keys(), ["m/bad\\name", "m/good"]);
    assert_refused(&bucket, &bucket.uri("m"));
}

#[test]
fn a_name_that_climbs_out_is_refused_as_a_whole() {
    for (bucket, key) in [("climb-one", "m/../../evil"), ("climb-two", "m/a/../b"), ("climb-three", "m/..")] {
        // SeaweedFS takes no such key.
        let bucket = moto().bucket(bucket);
        put_keys(&bucket, &["m/good", key]);
        assert!(bucket.keys().contains(&key.to_owned()), "moto keeps {key}");
        assert_refused(&bucket, &bucket.uri("m"));
    }
}

#[test]
fn a_name_that_another_needs_as_a_folder_is_refused_as_a_whole() {
    let bucket = moto().bucket("file-and-folder");
    put_keys(&bucket, &["m/a", "m/a/b"]);
    assert_eq!(bucket.keys(), ["m/a", "m/a/b"]);
    assert_refused(&bucket, &bucket.uri("m"));
}

#[test]
fn the_state_folders_own_name_is_refused_as_a_whole() {
    let bucket = weed().bucket("state-name");
    put_keys(&bucket, &["m/good", "m/.dray/receipt.json"]);
    assert_refused(&bucket, &bucket.uri("m"));
}

#[test]
fn a_link_in_the_destination_is_not_followed() {
    let bucket = weed().bucket("link");
    put_keys(&bucket, &["m/sub/a"]);
    let around = folder();
    let [dest, outside] = ["dest", "outside"].map(|name| around.path().join(name));
    fs::create_dir(&dest).expect("create folder");
    fs::create_dir(&outside).expect("create folder");
    std::os::unix::fs::symlink(&outside, dest.join("sub")).expect("link");
    let run = Dray::pull(&bucket.uri("m"), &dest).s3(&bucket.endpoint).run();
    assert_ne!(run.code(), 0, "a link inside DEST leads out of it");
    assert_eq!(tree(&outside).len(), 0, "nothing outside DEST is touched");
}

#[test]
fn a_plan_lists_paths_and_sizes_and_fetches_nothing() {
    let bucket = weed().bucket("plan");
    let files = put_keys(&bucket, &["m/a", "m/sub/b"]);
    let large = Content::new(9, 70 * KIB);
    bucket.put(&[("m/large", &large)]);
    let run = Dray::new(["plan", &bucket.uri("m"), "--json"]).s3(&bucket.endpoint).run();
    run.assert_code(0);
    let plan: Value = serde_json::from_str(&run.stdout).expect("stdout is one JSON document");
    let mut sizes = BTreeMap::new();
    collect_sizes(&plan, &mut sizes);
    let expected = [("a", files["m/a"].size), ("sub/b", files["m/sub/b"].size), ("large", large.size)];
    assert_eq!(sizes, expected.map(|(path, size)| (path.to_owned(), size)).into(), "{plan}");

    let shown = Dray::new(["plan", &bucket.uri("m")]).s3(&bucket.endpoint).run();
    shown.assert_code(0);
    assert!(["a", "sub/b", "large"].iter().all(|path| shown.stdout.contains(path)), "{}", shown.stdout);
    Dray::new(["plan", &bucket.uri("absent")]).s3(&bucket.endpoint).run().assert_fails(3);
    assert!(!Path::new(".dray").exists(), "a plan leaves no state");
}

fn collect_sizes(document: &Value, into: &mut BTreeMap<String, u64>) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| collect_sizes(item, into)),
        Value::Object(fields) => {
            if let (Some(path), Some(size)) = (fields.get("path"), fields.get("size")) {
                into.insert(path.as_str().expect("a path").into(), size.as_u64().expect("a size"));
            }
            fields.values().for_each(|value| collect_sizes(value, into));
        }
        _ => {}
    }
}
