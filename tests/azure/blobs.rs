//! What is listed and where it lands, checksums, odd names, filters: Azurite.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::rig::azure::Container;
use crate::rig::dray::Dray;
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::{azurite, folder};

/// Puts a few bytes under each name, and says what they are.
fn put_names(container: &Container, names: &[&str]) -> BTreeMap<String, Content> {
    let files = names.iter().zip(0..).map(|(name, seed)| ((*name).to_owned(), Content::new(seed, 10 + seed)));
    let files: BTreeMap<String, Content> = files.collect();
    container.put_all(&files.iter().map(|(name, content)| (name.as_str(), content)).collect::<Vec<_>>());
    files
}

fn assert_pulls(container: &Container, path: &str, expected: &Expected) {
    let dest = folder();
    let run = container.pull(path, dest.path()).run();
    assert_eq!(run.assert_sealed()["assurance"], "origin", "{path}");
    expected.assert_sealed(dest.path());
}

#[test]
fn a_prefix_takes_whole_segments_only() {
    let container = azurite().container("segments");
    let files = put_names(&container, &["m/a", "m/sub/b", "m-v2/a", "m2/a", "mm", "x/m/a"]);
    let expected = Expected::of([("a", &files["m/a"]), ("sub/b", &files["m/sub/b"])]);
    for path in ["m", "m/"] {
        assert_pulls(&container, path, &expected);
    }
}

#[test]
fn an_exact_blob_lands_under_its_base_name_alone() {
    let container = azurite().container("exact");
    let files = put_names(&container, &["m/weights", "m/weights.index", "m/weights-v2", "top", "m/weights/below"]);
    assert_pulls(&container, "m/weights", &Expected::of([("weights", &files["m/weights"])]));
    assert_pulls(&container, "top", &Expected::of([("top", &files["top"])]));
    assert_pulls(&container, "m/weights/", &Expected::of([("below", &files["m/weights/below"])]));
}

#[test]
fn a_container_without_a_path_gives_every_blob_by_every_name_of_it() {
    let container = azurite().container("root-of-container");
    let expected = Expected { files: put_names(&container, &["config.json", "deep/er/still/file", "m/a"]) };
    assert_pulls(&container, "", &expected);
    for uri in [
        "az://drayrig/root-of-container",
        "https://drayrig.blob.core.windows.net/root-of-container",
        "https://drayrig.z12.blob.storage.azure.net/root-of-container/",
        "wasbs://root-of-container@drayrig.blob.core.windows.net",
        "abfss://root-of-container@drayrig.dfs.core.windows.net/",
    ] {
        let dest = folder();
        container.here(Dray::pull(uri, dest.path())).run().assert_sealed();
        expected.assert_sealed(dest.path());
    }
}

#[test]
fn odd_names_arrive_under_their_own_names() {
    let container = azurite().container("odd-names");
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
        "dots..inside",
    ];
    let blobs: Vec<String> = names.iter().map(|name| format!("m/{name}")).collect();
    let files = put_names(&container, &blobs.iter().map(String::as_str).collect::<Vec<_>>());
    assert_pulls(&container, "m", &Expected::of(files.iter().map(|(name, content)| (&name[2..], content))));
    for name in
        ["m/with space", "m/percent%sign", "m/question?mark=1&two", "m/hash#tag", "m/日本/モデル", "m/plus+sign"]
    {
        let base = name.rsplit('/').next().expect("a name");
        assert_pulls(&container, name, &Expected::of([(base, &files[name])]));
    }
    let dest = folder();
    let url = container.url("m/question%3Fmark=1%26two");
    container.here(Dray::pull(&url, dest.path())).run().assert_sealed();
    Expected::of([("question?mark=1&two", &files["m/question?mark=1&two"])]).assert_sealed(dest.path());
}

#[test]
fn folder_markers_are_no_files_and_empty_blobs_are() {
    let container = azurite().container("folders");
    let (empty, some) = (Content::new(0, 0), Content::new(1, 5));
    container.put_all(&[("m/", &empty), ("m/sub/", &empty), ("m/sub/a", &some), ("m/empty", &empty)]);
    for folder in ["m", "m/sub", "m/none"] {
        container.put_with(folder, &empty, &[("x-ms-meta-hdi_isfolder", "true")]);
    }
    assert_pulls(&container, "m", &Expected::of([("sub/a", &some), ("empty", &empty)]));
    let dest = folder();
    container.pull("m/empty", dest.path()).run().assert_sealed();
    Expected::of([("empty", &empty)]).assert_sealed(dest.path());
}

#[test]
fn a_prefix_of_2500_blobs_arrives_whole() {
    let container = azurite().container("many-blobs");
    let name = |i: u64| format!("part-{:02}/file-{i}", i % 13);
    let files: BTreeMap<String, Content> = (0..2_500).map(|i| (name(i), Content::new(i, i % 3_000))).collect();
    let blobs: Vec<String> = files.keys().map(|name| format!("m/{name}")).collect();
    container.put_all(&blobs.iter().map(String::as_str).zip(files.values()).collect::<Vec<_>>());
    assert_pulls(&container, "m", &Expected { files });
}

#[test]
fn every_size_matches_the_stated_md5_by_every_way_to_the_disk() {
    let container = azurite().container("sizes");
    let sizes = [0, 1, MIB - 1, MIB, MIB + 1, 8 * MIB, 8 * MIB + 1, 40 * MIB + 3];
    let files: BTreeMap<String, Content> =
        sizes.iter().map(|size| (format!("size-{size}"), Content::new(*size + 7, *size))).collect();
    container.put_all(&files.iter().map(|(name, content)| (name.as_str(), content)).collect::<Vec<_>>());
    let expected = Expected { files };
    for rung in ["uring", "threads", "buffered"] {
        let dest = folder();
        let run = container.pull("", dest.path()).args(["--io", rung, "--require", "origin"]).run();
        run.assert_sealed();
        expected.assert_sealed(dest.path());
        for path in expected.files.keys() {
            let file = run.file(path);
            assert_eq!((&file["assurance"], &file["checks"][0]["name"]), (&"origin".into(), &"md5".into()), "{file}");
        }
    }
}

#[test]
fn bytes_that_do_not_match_the_stated_md5_exit_5() {
    let container = azurite().container("restated");
    let content = Content::new(1, 3 * MIB);
    container.put_all(&[("m/weights", &content)]);
    container.restate("m/weights", "AAECAwQFBgcICQoLDA0ODw==");
    let dest = folder();
    let run = container.pull("m", dest.path()).run();
    assert!(run.assert_fails(5).contains("md5"), "{}", run.last_line());
    assert!(!tree(dest.path()).contains("weights"));
}

#[test]
fn a_blob_with_a_coding_arrives_as_it_is_stored() {
    let container = azurite().container("codings");
    // Not coded at all: whoever tried to decode it would fail.
    let (large, small) = (Content::new(3, 20 * MIB + 5), Content::new(4, 100));
    container.put_with("m/large.gz", &large, &[("x-ms-blob-content-encoding", "gzip")]);
    container.put_with("m/small", &small, &[("x-ms-blob-content-encoding", "br")]);
    assert_pulls(&container, "m", &Expected::of([("large.gz", &large), ("small", &small)]));
}

#[test]
fn what_is_not_there_exits_3() {
    let container = azurite().container("absent");
    put_names(&container, &["m/a"]);
    for uri in [container.uri("n"), container.uri("m/a/"), container.uri("m/"), "az://drayrig/no-such/m".to_owned()] {
        let dest = folder();
        let run = container.here(Dray::pull(&uri, dest.path())).args(["--ignore", "a"]).run();
        run.assert_fails(3);
        assert_eq!(tree(dest.path()).len(), 0, "{uri}");
    }
}

#[test]
fn filters_choose_among_a_folders_blobs() {
    let container = azurite().container("globs");
    let files = put_names(&container, &["m/a.safetensors", "m/b.safetensors", "m/b.bin", "m/config.json"]);
    let dest = folder();
    let wanted = ["--allow", "*.safetensors", "--allow", "*.json", "--ignore", "b.*"];
    container.pull("m", dest.path()).args(wanted).run().assert_sealed();
    let expected = [("a.safetensors", &files["m/a.safetensors"]), ("config.json", &files["m/config.json"])];
    Expected::of(expected).assert_sealed(dest.path());
}

#[test]
fn unsafe_names_refuse_the_whole_plan() {
    // Azurite reads `m/../x` and backslashes as paths; the fake store of `faults` has such names.
    for (number, name) in ["m/.dray/receipt.json", "m//a"].iter().enumerate() {
        let container = azurite().container(&format!("unsafe-{number}"));
        put_names(&container, &["m/good", name]);
        let around = folder();
        let dest = around.path().join("dest");
        container.pull("m", &dest).run().assert_fails(6);
        assert_eq!(tree(around.path()).iter().filter(|path| !path.starts_with("dest/.dray/")).count(), 0, "{name}");
    }
}

#[test]
fn a_plan_names_etag_and_md5_and_a_lock_demands_the_bytes() {
    let container = azurite().container("plans");
    let content = Content::new(1, 5 * MIB);
    container.put_all(&[("m/weights", &content)]);
    let run = container.here(Dray::new(["plan", &container.uri("m"), "--json"])).run();
    run.assert_code(0);
    let plan: Value = serde_json::from_str(&run.stdout).expect("one JSON document");
    assert_eq!(plan["source"], container.uri("m"), "{plan}");
    let file = &plan["files"][0];
    assert!(file["version"]["etag"].as_str().is_some_and(|etag| etag.starts_with("\"0x")), "{plan}");
    assert_eq!(file["stated"][0]["name"], "md5", "{plan}");
    let exact = container.here(Dray::new(["plan", &container.uri("m/weights"), "--json"])).run();
    let exact: Value = serde_json::from_str(&exact.stdout).expect("one JSON document");
    for key in ["version", "stated", "size"] {
        assert_eq!(exact["files"][0][key], file[key], "a list and a HEAD say the same: {key}");
    }
    let around = folder();
    let lock = around.path().join("model.lock");
    let lock = lock.to_str().expect("UTF-8");
    container.here(Dray::new(["lock", &container.uri("m"), "-o", lock])).run().assert_code(0);
    let pinned = |dest: &str| container.pull("m", &around.path().join(dest)).args(["--pin", lock]).run();
    assert_eq!(pinned("same").assert_sealed()["assurance"], "pinned");
    container.put_all(&[("m/weights", &Content::new(2, 5 * MIB))]);
    pinned("other").assert_fails(5);
}
