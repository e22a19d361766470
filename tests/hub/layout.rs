//! `--layout hub`: what dray writes, the Hub's own client finds without a network; what the client writes, dray goes on with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dray_arena::{HubArena, Kept, Repo, Side};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::python;
use crate::rig::dray::Dray;
use crate::rig::folder;
use crate::rig::oracle::{Content, MIB, change_times, flip_bit, hash_file, tree};
use crate::rig::server::wait_until;
use crate::{Model, asked, committed, hub_of, start};

const OFFLINE: &str = include_str!("offline.py");

const ONLINE: &str = "
import sys
from huggingface_hub import snapshot_download
cache, name, revision = sys.argv[1:]
snapshot_download(name, revision=revision, cache_dir=cache)
";

const SHARDS: &str = "
import sys, numpy
from safetensors.numpy import save_file
for number in range(2):
    tensors = {f'layer.{number}.{name}': numpy.full((256, 100), number + 1, dtype='float32') for name in 'ab'}
    save_file(tensors, f'{sys.argv[1]}/{number}.safetensors')
";

/// A pull of `source` into the cache at `cache`.
fn pull(hub: &HubArena, source: &str, cache: &Path) -> Dray {
    crate::pull(hub, source, cache).args(["--layout", "hub"])
}

/// Python under a clean environment, whose Hub is at `endpoint`; what it prints.
fn run_python(code: &str, words: &[&str], cache: &Path, endpoint: &str) -> String {
    let home = folder();
    let output = Command::new(python())
        .args(["-c", code])
        .args(words)
        .env_clear()
        .env("HOME", home.path())
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HUB_CACHE", cache)
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .output()
        .expect("run python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What the real client finds of a revision, asking nobody.
fn offline(cache: &Path, (kind, name, revision): (&str, &str, &str)) -> Value {
    let cache = cache.canonicalize().expect("a cache");
    let words = [cache.to_str().expect("UTF-8"), kind, name, revision];
    let found = run_python(OFFLINE, &words, &cache, "http://127.0.0.1:9");
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["warnings"], json!([]), "the client finds nothing odd");
    found
}

/// Holds the files that the client finds of `(kind, name, revision)` to their contents; the commit they are of.
fn assert_found(cache: &Path, place: (&str, &str, &str), files: &[(&str, &Content)]) -> String {
    let found = offline(cache, place);
    let digests: BTreeMap<&str, blake3::Hash> =
        paths(&found).map(|(path, at)| (path, hash_file(Path::new(at)))).collect();
    let expected: BTreeMap<&str, blake3::Hash> = files.iter().map(|(path, content)| (*path, content.blake3)).collect();
    assert_eq!(digests, expected, "{place:?}");
    found["commit"].as_str().expect("a commit").to_owned()
}

/// Paths in the repository, and where the client found them.
fn paths(found: &Value) -> impl Iterator<Item = (&str, &str)> {
    let files = found["files"].as_object().expect("files");
    files.iter().map(|(path, at)| (path.as_str(), at.as_str().expect("a path")))
}

fn named(model: &Model) -> Vec<(&'static str, &Content)> {
    model.files().map(|(path, content, _)| (path, content)).to_vec()
}

/// The blob behind `path` at `main`.
fn blob(cache: &Path, path: &str) -> PathBuf {
    let commit = fs::read_to_string(repository(cache).join("refs/main")).expect("a ref");
    let link = repository(cache).join("snapshots").join(commit).join(path);
    link.parent().expect("a parent").join(fs::read_link(&link).expect("a link")).canonicalize().expect("a blob")
}

/// The folder of `org/model`.
fn repository(cache: &Path) -> PathBuf {
    cache.join("models--org--model")
}

#[test]
fn the_real_client_reads_a_pulled_cache_and_opens_its_shards_offline() {
    let shards = folder();
    run_python(SHARDS, &[shards.path().to_str().expect("UTF-8")], shards.path(), "http://127.0.0.1:9");
    let shard = |number: u32| fs::read(shards.path().join(format!("{number}.safetensors"))).expect("a shard");
    let map = json!({"weight_map": {"layer.0.a": "model-1.safetensors"}}).to_string().into_bytes();
    let files = [
        ("config.json", b"{}".to_vec(), Kept::Git),
        ("model.safetensors.index.json", map, Kept::Git),
        ("model-1.safetensors", shard(0), Kept::Lfs),
        ("deep/er/model-2.safetensors", shard(1), Kept::Lfs),
        // The same bytes again: one blob.
        ("copy.safetensors", shard(0), Kept::Lfs),
    ];
    let served = files.clone().map(|(path, bytes, kept)| (path, dray_arena::Content::bytes(bytes), kept));
    let hub = start([Repo::model("org/shards").with_commit("main", served)]);
    let around = folder();
    let cache = around.path().join("a cache");
    let run = pull(&hub, "hf://org/shards", &cache).run();
    let report = run.assert_sealed();
    let found = offline(&cache, ("model", "org/shards", "main"));
    let bytes: BTreeMap<&str, Vec<u8>> = paths(&found).map(|(path, at)| (path, fs::read(at).expect("read"))).collect();
    assert_eq!(bytes, files.iter().map(|(path, bytes, _)| (*path, bytes.clone())).collect());
    let sums = json!({"layer.0.a": 25600.0, "layer.0.b": 25600.0, "layer.1.a": 51200.0, "layer.1.b": 51200.0});
    assert_eq!(found["tensors"], sums);
    let commit = found["commit"].as_str().expect("a commit");
    assert_eq!(found["revisions"], json!({commit: ["main"]}));
    // What the report says lies where it says.
    assert_eq!(report["resolved"], format!("hf://org/shards:{commit}"));
    assert_eq!(report["dest"], cache.join("models--org--shards").to_str().expect("UTF-8"));
    let blobs: BTreeSet<&str> =
        report["files"].as_array().expect("files").iter().filter_map(|f| f["path"].as_str()).collect();
    assert_eq!(blobs.len(), 4);
    assert!(blobs.iter().all(|blob| cache.join("models--org--shards").join(blob).is_file()));
    assert_eq!(
        fs::read_to_string(cache.join("models--org--shards").join("refs/main")).expect("a ref"),
        commit,
        "no line's end"
    );
    assert_eq!(fs::read_dir(&cache).expect("the cache").count(), 1, "nothing else is in the cache");
    let words = [Path::new("verify"), &cache.join("models--org--shards")];
    Dray::new(words).run().assert_code(0);
    let before =
        (hub.log().len(), links(&cache.join("models--org--shards")), change_times(&cache.join("models--org--shards")));
    let again = pull(&hub, "hf://org/shards", &cache).run();
    again.assert_sealed();
    assert_eq!(again.count("requests.total"), 0, "a second run asks for no data");
    assert_eq!(
        (links(&cache.join("models--org--shards")), change_times(&cache.join("models--org--shards"))),
        (before.1, before.2),
        "and writes nothing"
    );
}

/// Each link beneath `root`, where it leads, and its inode.
fn links(root: &Path) -> BTreeMap<String, (PathBuf, u64)> {
    use std::os::unix::fs::MetadataExt;
    let link = |name: String| {
        let path = root.join(&name);
        let target = fs::read_link(&path).ok()?;
        Some((name, (target, path.symlink_metadata().expect("metadata").ino())))
    };
    tree(root).into_iter().filter_map(link).collect()
}

#[test]
fn revisions_folders_files_and_datasets_keep_the_repositorys_paths() {
    let (old, new, data) = (Model::new(1), Model::new(2), Content::new(9, 5000));
    let repo = committed(Repo::model("org/model"), "v1.0", &old.files());
    let repo = committed(committed(repo, "feature/x", &old.files()), "main", &new.files());
    let first = repo.commit("v1.0").expect("a commit").to_owned();
    let dataset = committed(Repo::dataset("org/model"), "main", &[("train/a b.parquet", &data, Kept::Lfs)]);
    let hub = start([repo, dataset]);
    let below = |model: &'static str, files: &[(&'static str, &Content)]| -> Vec<(&'static str, Content)> {
        files
            .iter()
            .filter(|(path, _)| path.starts_with(model))
            .map(|(path, content)| (*path, (*content).clone()))
            .collect()
    };
    let short = &first[..8];
    for (source, revision, refs, files) in [
        ("hf://org/model:v1.0".to_owned(), "v1.0", vec!["v1.0"], below("", &named(&old))),
        ("hf://org/model@feature%2Fx".to_owned(), "feature/x", vec!["feature/x"], below("", &named(&old))),
        (format!("hf://org/model:{first}"), first.as_str(), vec![], below("", &named(&old))),
        (format!("hf://org/model:{short}"), short, vec![short], below("", &named(&old))),
        ("hf://org/model/sub".to_owned(), "main", vec!["main"], below("sub/", &named(&new))),
        ("hf://org/model/sub/deep/part.bin".to_owned(), "main", vec!["main"], below("sub/deep/", &named(&new))),
    ] {
        let cache = folder();
        pull(&hub, &source, cache.path()).run().assert_sealed();
        let files: Vec<(&str, &Content)> = files.iter().map(|(path, content)| (*path, content)).collect();
        let commit = assert_found(cache.path(), ("model", "org/model", revision), &files);
        let found = offline(cache.path(), ("model", "org/model", commit.as_str()));
        assert_eq!(found["revisions"], json!({ commit: refs }), "{source}");
    }
    let cache = folder();
    pull(&hub, "hf://datasets/org/model", cache.path()).run().assert_sealed();
    pull(&hub, "hf://org/model/config.json", cache.path()).run().assert_sealed();
    assert_found(cache.path(), ("dataset", "org/model", "main"), &[("train/a b.parquet", &data)]);
    assert_found(cache.path(), ("model", "org/model", "main"), &[("config.json", &new.config)]);
}

#[test]
fn a_second_revision_joins_the_first_and_costs_only_what_changed() {
    let (old, readme) = (Model::new(1), Content::new(77, 4001));
    let repo = committed(Repo::model("org/model"), "main", &old.files());
    let hub = start([repo.clone()]);
    let cache = folder();
    pull(&hub, "hf://org/model", cache.path()).run().assert_sealed();
    let first = assert_found(cache.path(), ("model", "org/model", "main"), &named(&old));
    let new = Model { readme, ..Model::new(1) };
    // The weights have moved as well: what they are has not changed.
    let mut files = new.files();
    files[3].0 = "weights/model.safetensors";
    hub.put(committed(repo, "main", &files));
    let run = pull(&hub, "hf://org/model", cache.path()).run();
    run.assert_sealed();
    assert_eq!(run.count("bytes.fetched"), 4001);
    let moved: Vec<_> = files.iter().map(|(path, content, _)| (*path, *content)).collect();
    let second = assert_found(cache.path(), ("model", "org/model", "main"), &moved);
    assert_found(cache.path(), ("model", "org/model", &first), &named(&old));
    let found = offline(cache.path(), ("model", "org/model", "main"));
    assert_eq!(found["revisions"], json!({first: [], second: ["main"]}));
    Dray::new([Path::new("verify"), &repository(cache.path())]).run().assert_code(0);
}

#[test]
fn a_killed_pull_shows_no_snapshot_and_its_next_run_completes_it() {
    let (weights, config) = (Content::new(1, 48 * MIB), Content::new(2, 500));
    let files = [("model.safetensors.bin", &weights, Kept::Lfs), ("config.json", &config, Kept::Git)];
    let hub = start([committed(Repo::model("org/model"), "main", &files)]);
    let cache = folder();
    let running =
        pull(&hub, "hf://org/model", cache.path()).args(["--limit-rate", "16MiB", "--connections", "1"]).spawn();
    wait_until("data is asked for", Duration::from_secs(60), || 3 <= asked(&hub, Side::Cdn, "").len());
    running.signal(Signal::KILL);
    assert!(running.wait().killed());
    let left = tree(&repository(cache.path()));
    assert!(left.iter().all(|name| name.starts_with("blobs/")), "{left:?}");
    let run = pull(&hub, "hf://org/model", cache.path()).run();
    run.assert_sealed();
    assert!(0 < run.count("bytes.reused"), "{}", run.report());
    let expected: Vec<_> = files.iter().map(|(path, content, _)| (*path, *content)).collect();
    assert_found(cache.path(), ("model", "org/model", "main"), &expected);
}

#[test]
fn links_and_refs_that_are_missing_or_wrong_are_put_right_without_data() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let cache = folder();
    pull(&hub, "hf://org/model", cache.path()).run().assert_sealed();
    let at = |name: &str| repository(cache.path()).join(name);
    let commit = fs::read_to_string(at("refs/main")).expect("a ref");
    let snapshot = at("snapshots").join(&commit);
    for (what, harm) in [
        (
            "a death before the names",
            (|at, _| {
                fs::remove_dir_all(at.join("snapshots")).expect("remove");
                fs::remove_dir_all(at.join("refs")).expect("remove");
            }) as fn(&Path, &Path),
        ),
        ("a death before the receipt", |at, _| fs::remove_file(at.join(".dray/receipt.json")).expect("remove")),
        ("another tool's choice", |at, snapshot| {
            fs::remove_file(snapshot.join("config.json")).expect("remove");
            symlink("/etc/hostname", snapshot.join("config.json")).expect("link");
            fs::write(at.join("refs/main"), "0".repeat(40)).expect("write");
        }),
    ] {
        harm(&repository(cache.path()), &snapshot);
        let run = pull(&hub, "hf://org/model", cache.path()).run();
        run.assert_sealed();
        if what != "a death before the receipt" {
            assert_eq!(run.count("bytes.fetched"), 0, "{what}");
        }
        assert_eq!(assert_found(cache.path(), ("model", "org/model", "main"), &named(&model)), commit, "{what}");
    }
}

#[test]
fn the_real_client_and_dray_add_to_one_cache_in_turns() {
    let (old, new) = (Model::new(1), Model { readme: Content::new(77, 4001), ..Model::new(1) });
    let repo = committed(committed(Repo::model("org/model"), "v1", &old.files()), "v2", &new.files());
    let hub = start([repo]);
    for (first, second) in [("v1", "v2"), ("v2", "v1")] {
        let cache = folder();
        let client = |revision| {
            let words = [cache.path().to_str().expect("UTF-8"), "org/model", revision];
            run_python(ONLINE, &words, cache.path(), &hub.endpoint());
        };
        let ours = |revision| pull(&hub, &format!("hf://org/model:{revision}"), cache.path()).run();
        let before = asked(&hub, Side::Cdn, "").len();
        if first == "v1" {
            ours(first).assert_sealed();
            let fetched = asked(&hub, Side::Cdn, "").len();
            assert!(before < fetched);
            client(second);
            assert_eq!(asked(&hub, Side::Cdn, "").len(), fetched, "the client takes dray's blobs for its own");
        } else {
            client(first);
            let fetched = asked(&hub, Side::Cdn, "").len();
            ours(second).assert_sealed();
            assert_eq!(asked(&hub, Side::Cdn, "").len(), fetched, "dray takes the client's blobs once they are hashed");
        }
        assert_found(cache.path(), ("model", "org/model", "v1"), &named(&old));
        assert_found(cache.path(), ("model", "org/model", "v2"), &named(&new));
        ours("v2").assert_sealed();
        assert_found(cache.path(), ("model", "org/model", "v1"), &named(&old));
        Dray::new([Path::new("verify"), &repository(cache.path())]).run().assert_code(0);
    }
}

#[test]
fn blobs_without_a_receipt_are_taken_when_they_hash_to_their_names_and_fetched_else() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let cache = folder();
    pull(&hub, "hf://org/model", cache.path()).run().assert_sealed();
    let weights = blob(cache.path(), "model.safetensors");
    let fetched = || {
        asked(&hub, Side::Cdn, "")
            .iter()
            .filter(|seen| seen.target.contains(weights.file_name().and_then(|n| n.to_str()).expect("a name")))
            .count()
    };
    for damaged in [false, true] {
        fs::remove_dir_all(repository(cache.path()).join(".dray")).expect("remove");
        if damaged {
            flip_bit(&weights, 7 * MIB + 3);
        }
        let before = fetched();
        let run = pull(&hub, "hf://org/model", cache.path()).run();
        run.assert_sealed();
        assert_eq!(before < fetched(), damaged, "{}", run.report());
        assert_eq!(
            run.file(&format!("blobs/{}", weights.file_name().and_then(|n| n.to_str()).expect("a name")))["size"],
            model.weights.size
        );
        assert_found(cache.path(), ("model", "org/model", "main"), &named(&model));
    }
}

#[test]
fn a_blob_in_the_clients_shared_store_gives_way_to_a_file_and_stays_there() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let cache = folder();
    pull(&hub, "hf://org/model", cache.path()).run().assert_sealed();
    let (blob, shared) = (blob(cache.path(), "model.safetensors"), cache.path().join("blobs/ab"));
    fs::create_dir_all(&shared).expect("create");
    fs::rename(&blob, shared.join("x")).expect("move");
    symlink("../../blobs/ab/x", &blob).expect("link");
    fs::remove_file(repository(cache.path()).join(".dray/receipt.json")).expect("remove");
    pull(&hub, "hf://org/model", cache.path()).run().assert_sealed();
    assert!(blob.symlink_metadata().expect("metadata").is_file());
    assert!(shared.join("x").is_file());
    Dray::new([Path::new("verify"), &repository(cache.path())]).run().assert_code(0);
}

#[test]
fn a_damaged_blob_is_found_and_repaired() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let cache = folder();
    pull(&hub, "hf://org/model", cache.path()).run().assert_sealed();
    flip_bit(&blob(cache.path(), "model.safetensors"), 7 * MIB + 3);
    let verify = || Dray::new([Path::new("verify"), &repository(cache.path())]);
    verify().run().assert_code(5);
    verify().args(["--repair"]).env("HF_ENDPOINT", hub.endpoint()).run().assert_code(0);
    verify().run().assert_code(0);
    assert_found(cache.path(), ("model", "org/model", "main"), &named(&model));
}

#[test]
fn a_repair_brings_bytes_back_and_leaves_links_and_refs_alone() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let cache = folder();
    pull(&hub, "hf://org/model", cache.path()).args(["--ignore", "sub/*"]).run().assert_sealed();
    let before = tree(cache.path());
    assert!(!before.iter().any(|path| path.contains("/sub/")), "{before:?}");
    flip_bit(&blob(cache.path(), "model.safetensors"), MIB);
    let repair = Dray::new([Path::new("verify"), &repository(cache.path()), Path::new("--repair")]);
    repair.env("HF_ENDPOINT", hub.endpoint()).run().assert_code(0);
    assert_eq!(tree(cache.path()), before, "no name for a file that nobody fetched");
    Dray::new([Path::new("verify"), &repository(cache.path())]).run().assert_code(0);
}

#[test]
fn a_blob_that_two_revisions_share_goes_on_where_the_other_stopped() {
    let (weights, note) = (Content::new(1, 64 * MIB), Content::new(2, 9));
    let first = [("model.safetensors", &weights, Kept::Lfs)];
    let second = [("a-note.txt", &note, Kept::Git), ("model.safetensors", &weights, Kept::Lfs)];
    let repo = committed(committed(Repo::model("org/model"), "v1", &first), "v2", &second);
    let hub = start([repo]);
    let cache = folder();
    let slowed = ["--limit-rate", "24MiB", "--connections", "2"];
    let running = pull(&hub, "hf://org/model:v1", cache.path()).args(slowed).spawn();
    wait_until("data is asked for", Duration::from_secs(60), || 4 <= asked(&hub, Side::Cdn, "").len());
    running.signal(Signal::TERM);
    running.wait().assert_code(143);
    let run = pull(&hub, "hf://org/model:v2", cache.path()).run();
    run.assert_sealed();
    assert!(0 < run.count("bytes.reused"), "{}", run.report());
}

#[test]
fn a_lock_of_the_repositorys_paths_is_demanded_of_the_cache() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let around = folder();
    let lock = around.path().join("model.lock");
    let words = [Path::new("lock"), Path::new("hf://org/model"), Path::new("-o"), &lock];
    Dray::new(words).env("HF_ENDPOINT", hub.endpoint()).run().assert_code(0);
    let pinned = [Path::new("--pin"), &lock, Path::new("--require"), Path::new("pinned")];
    let run = pull(&hub, "hf://org/model", &around.path().join("cache")).args(pinned).run();
    assert_eq!(run.assert_sealed()["assurance"], "pinned");
    let hub = hub_of(&Model::new(2));
    let cache = around.path().join("other");
    pull(&hub, "hf://org/model", &cache).args(pinned).run().assert_fails(5);
    assert!(tree(&repository(&cache)).iter().all(|name| name.starts_with("blobs/")), "no snapshot, no ref");
}

#[test]
fn what_is_no_repository_or_leads_elsewhere_is_refused() {
    let hub = hub_of(&Model::new(1));
    for source in ["s3://bucket/m", "gs://bucket/m", "https://host/m", "demo://1MiB", "models:/m/1"] {
        let dest = folder();
        let line = pull(&hub, source, dest.path()).run().assert_fails(2).to_owned();
        assert!(line.contains("--layout hub"), "{source}: {line}");
        assert_eq!(tree(dest.path()).len(), 0);
    }
    pull(&hub, "hf://org/model", folder().path()).args(["--unpack"]).run().assert_code(2);
    assert_eq!(hub.log().len(), 0, "nobody was asked");
    let outside = folder();
    for place in ["", "blobs", "snapshots", "refs"] {
        let cache = folder();
        let link = if place.is_empty() { repository(cache.path()) } else { repository(cache.path()).join(place) };
        fs::create_dir_all(link.parent().expect("a parent")).expect("create");
        symlink(outside.path(), &link).expect("link");
        pull(&hub, "hf://org/model", cache.path()).run().assert_fails(6);
        assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0, "{place}");
    }
    let model = Model::new(1);
    for name in ["../escape", "../../refs/main", "/etc/passwd", "a\\b"] {
        let mut files = model.files();
        files[2].0 = name;
        let hub = start([committed(Repo::model("org/model"), "main", &files)]);
        let around = folder();
        pull(&hub, "hf://org/model", &around.path().join("cache")).run().assert_fails(6);
        assert_eq!(tree(around.path()).len(), 0, "{name}");
    }
}

/// Lets a filter of the kernel refuse every `symlink`, as a file system without links does.
const WITHOUT_LINKS: &str = "
import ctypes, os, struct, sys
numbers = {'x86_64': (88, 266), 'aarch64': (36, 36)}[os.uname().machine]
program = [(0x20, 0, 0, 0)]
program += [(0x15, 0, 1, number) if i % 2 == 0 else (0x06, 0, 0, 0x50001) for number in numbers for i in (0, 1)]
program += [(0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in program))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
filters = Program(len(program), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(filters), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn a_file_system_without_links_is_told_before_anything_is_fetched() {
    let hub = hub_of(&Model::new(1));
    let cache = folder();
    let words = [
        "-c".as_ref(),
        WITHOUT_LINKS.as_ref(),
        env!("CARGO_BIN_EXE_dray").as_ref(),
        "pull".as_ref(),
        "hf://org/model".as_ref(),
        cache.path().as_os_str(),
        "--layout".as_ref(),
        "hub".as_ref(),
    ];
    let run = Dray::program(python(), words).env("HF_ENDPOINT", hub.endpoint()).run();
    let line = run.assert_fails(10);
    assert!(line.contains("symbolic links") && line.contains("--layout hub"), "{line}");
    assert_eq!(asked(&hub, Side::Cdn, "").len(), 0);
    assert_eq!(tree(&repository(cache.path())).len(), 0);
}
