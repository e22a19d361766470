//! What is listed and where it lands, checksums, odd names, filters: fake-gcs-server.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::rig::dray::Dray;
use crate::rig::gcs::Bucket;
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::{fake_gcs, folder};

/// Puts a few bytes under each name, and says what they are.
fn put_names(bucket: &Bucket, names: &[&str]) -> BTreeMap<String, Content> {
    let files = names.iter().zip(0..).map(|(name, seed)| ((*name).to_owned(), Content::new(seed, 10 + seed)));
    let files: BTreeMap<String, Content> = files.collect();
    bucket.put(&files.iter().map(|(name, content)| (name.as_str(), content)).collect::<Vec<_>>());
    files
}

fn assert_pulls(bucket: &Bucket, path: &str, expected: &Expected) {
    let dest = folder();
    let run = bucket.pull(path, dest.path()).run();
    assert_eq!(run.assert_sealed()["assurance"], "origin", "{path}");
    expected.assert_sealed(dest.path());
}

#[test]
fn a_prefix_takes_whole_segments_only() {
    let bucket = fake_gcs().bucket("segments");
    let files = put_names(&bucket, &["m/a", "m/sub/b", "m-v2/a", "m2/a", "mm", "x/m/a"]);
    let expected = Expected::of([("a", &files["m/a"]), ("sub/b", &files["m/sub/b"])]);
    for path in ["m", "m/"] {
        assert_pulls(&bucket, path, &expected);
    }
}

#[test]
fn an_exact_object_lands_under_its_base_name_alone() {
    let bucket = fake_gcs().bucket("exact");
    let files = put_names(&bucket, &["m/weights", "m/weights.index", "m/weights-v2", "top", "m/weights/below"]);
    assert_pulls(&bucket, "m/weights", &Expected::of([("weights", &files["m/weights"])]));
    assert_pulls(&bucket, "top", &Expected::of([("top", &files["top"])]));
    assert_pulls(&bucket, "m/weights/", &Expected::of([("below", &files["m/weights/below"])]));
}

#[test]
fn a_bucket_without_a_path_gives_every_object() {
    let bucket = fake_gcs().bucket("root-of-bucket");
    let expected = Expected { files: put_names(&bucket, &["config.json", "deep/er/still/file", "m/a"]) };
    assert_pulls(&bucket, "", &expected);
    let dest = folder();
    bucket.here(Dray::pull("gs://root-of-bucket", dest.path())).run().assert_sealed();
    expected.assert_sealed(dest.path());
}

#[test]
fn odd_names_arrive_under_their_own_names() {
    let bucket = fake_gcs().bucket("odd-names");
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
        "hash#123",
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
        "dots..inside",
    ];
    let objects: Vec<String> = names.iter().map(|name| format!("m/{name}")).collect();
    let files = put_names(&bucket, &objects.iter().map(String::as_str).collect::<Vec<_>>());
    assert_pulls(&bucket, "m", &Expected::of(files.iter().map(|(name, content)| (&name[2..], content))));
    for name in
        ["m/with space", "m/percent%sign", "m/question?mark=1&two", "m/hash#123", "m/日本/モデル", "m/plus+sign"]
    {
        let base = name.rsplit('/').next().expect("a name");
        assert_pulls(&bucket, name, &Expected::of([(base, &files[name])]));
    }
}

#[test]
fn folder_objects_are_no_files_and_empty_objects_are() {
    let bucket = fake_gcs().bucket("folders");
    let (empty, some) = (Content::new(0, 0), Content::new(1, 5));
    bucket.put(&[("m/", &empty), ("m/sub/", &empty), ("m/none/", &empty), ("m/sub/a", &some), ("m/empty", &empty)]);
    assert_pulls(&bucket, "m", &Expected::of([("sub/a", &some), ("empty", &empty)]));
    let dest = folder();
    let run = bucket.pull("m/empty", dest.path()).run();
    run.assert_sealed();
    assert_eq!(run.file("empty")["assurance"], "origin", "nothing has a checksum too");
    Expected::of([("empty", &empty)]).assert_sealed(dest.path());
}

#[test]
fn a_prefix_of_2500_objects_arrives_whole() {
    let bucket = fake_gcs().bucket("many-objects");
    let name = |i: u64| format!("part-{:02}/file-{i}", i % 13);
    let files: BTreeMap<String, Content> = (0..2_500).map(|i| (name(i), Content::new(i, i % 3_000))).collect();
    let objects: Vec<String> = files.keys().map(|name| format!("m/{name}")).collect();
    bucket.put(&objects.iter().map(String::as_str).zip(files.values()).collect::<Vec<_>>());
    assert_pulls(&bucket, "m", &Expected { files });
}

#[test]
fn every_size_matches_the_stores_checksum_by_every_way_to_the_disk() {
    let bucket = fake_gcs().bucket("sizes");
    let sizes = [0, 1, MIB - 1, MIB, MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 40 * MIB + 3];
    let files: BTreeMap<String, Content> =
        sizes.iter().map(|size| (format!("size-{size}"), Content::new(*size + 7, *size))).collect();
    bucket.put(&files.iter().map(|(name, content)| (name.as_str(), content)).collect::<Vec<_>>());
    let expected = Expected { files };
    for rung in ["uring", "threads", "buffered"] {
        let dest = folder();
        let run = bucket.pull("", dest.path()).args(["--io", rung, "--require", "origin"]).run();
        run.assert_sealed();
        expected.assert_sealed(dest.path());
        for path in expected.files.keys() {
            let file = run.file(path);
            assert_eq!(
                (&file["assurance"], &file["checks"][0]["name"]),
                (&"origin".into(), &"crc32c".into()),
                "{file}"
            );
        }
        assert!(sizes.len() as u64 <= run.count("requests.total") + 1, "the empty one needs no request");
    }
}

#[test]
fn an_object_stored_as_gzip_arrives_as_it_is_stored() {
    let bucket = fake_gcs().bucket("gzip");
    // No gzip at all: whoever tried to decode it would fail.
    let (large, small) = (Content::new(3, 20 * MIB + 5), Content::new(4, 100));
    bucket.put_as_gzip("m/large.json.gz", &large);
    bucket.put_as_gzip("m/small", &small);
    assert_pulls(&bucket, "m", &Expected::of([("large.json.gz", &large), ("small", &small)]));
}

#[test]
fn what_is_not_there_exits_3() {
    let bucket = fake_gcs().bucket("absent");
    put_names(&bucket, &["m/a"]);
    for uri in [bucket.uri("n"), bucket.uri("m/a/"), bucket.uri("m/"), "gs://no-such-bucket/m".to_owned()] {
        let dest = folder();
        let run = bucket.here(Dray::pull(&uri, dest.path())).args(["--ignore", "a"]).run();
        run.assert_fails(3);
        assert_eq!(tree(dest.path()).len(), 0, "{uri}");
    }
}

#[test]
fn filters_choose_among_a_folders_objects() {
    let bucket = fake_gcs().bucket("globs");
    let files = put_names(&bucket, &["m/a.safetensors", "m/b.safetensors", "m/b.bin", "m/config.json"]);
    let dest = folder();
    let wanted = ["--allow", "*.safetensors", "--allow", "*.json", "--ignore", "b.*"];
    bucket.pull("m", dest.path()).args(wanted).run().assert_sealed();
    let expected = [("a.safetensors", &files["m/a.safetensors"]), ("config.json", &files["m/config.json"])];
    Expected::of(expected).assert_sealed(dest.path());
}

#[test]
fn kserves_filters_spare_an_object_that_was_named() {
    let bucket = fake_gcs().bucket("kserve-globs");
    let files = put_names(&bucket, &["m/a.bin", "m/b.json"]);
    let (around, pairs) = (folder(), [("m", "0", "a.bin"), ("m/b.json", "1", "b.json")]);
    let mut words = Vec::new();
    for (path, dest, _) in pairs {
        words.extend([bucket.uri(path), around.path().join(dest).display().to_string()]);
    }
    let run = bucket.here(Dray::new(&words)).env("STORAGE_ALLOW_PATTERNS", r#"["*.bin"]"#).run();
    run.assert_code(0);
    for (_, dest, name) in pairs {
        Expected::of([(name, &files[&format!("m/{name}")])]).assert_sealed(&around.path().join(dest));
    }
}

#[test]
fn unsafe_names_refuse_the_whole_plan() {
    for (number, name) in ["m/../../evil", "m/a/../b", "m/bad\\name", "m/.dray/receipt.json", "m//a"].iter().enumerate()
    {
        let bucket = fake_gcs().bucket(&format!("unsafe-{number}"));
        put_names(&bucket, &["m/good", name]);
        let around = folder();
        let dest = around.path().join("dest");
        bucket.pull("m", &dest).run().assert_fails(6);
        assert_eq!(tree(around.path()).iter().filter(|path| !path.starts_with("dest/.dray/")).count(), 0, "{name}");
    }
}

#[test]
fn a_plan_names_generation_and_checksum_and_a_lock_demands_them() {
    let bucket = fake_gcs().bucket("plans");
    let content = Content::new(1, 5 * MIB);
    bucket.put(&[("m/weights", &content)]);
    let run = bucket.here(Dray::new(["plan", &bucket.uri("m"), "--json"])).run();
    run.assert_code(0);
    let plan: Value = serde_json::from_str(&run.stdout).expect("one JSON document");
    let file = &plan["files"][0];
    assert!(
        file["version"]["version_id"].as_str().is_some_and(|generation| generation.parse::<u64>().is_ok()),
        "{plan}"
    );
    assert_eq!(file["stated"][0]["name"], "crc32c", "{plan}");
    let around = folder();
    let lock = around.path().join("model.lock");
    let lock = lock.to_str().expect("UTF-8");
    bucket.here(Dray::new(["lock", &bucket.uri("m"), "-o", lock])).run().assert_code(0);
    let pinned = |dest: &str| bucket.pull("m", &around.path().join(dest)).args(["--pin", lock]).run();
    assert_eq!(pinned("same").assert_sealed()["assurance"], "pinned");
    bucket.put(&[("m/weights", &Content::new(2, 5 * MIB))]);
    pinned("other").assert_fails(5);
}
