//! SHA-256 and Git's ids, which need a file's bytes in order: compared in every pull, and read back only where they must.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dray_arena::{HubArena, Kept, Repo, Side};
use rustix::process::Signal;
use serde_json::Value;

use crate::client::python;
use crate::rig::dray::{Dray, Run};
use crate::rig::folder;
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::server::wait_until;
use crate::{Model, asked, committed, hub_of, pull, start};

const PRINT: &str = "
import hashlib, sys
for path in sys.argv[1:]:
    data = open(path, 'rb').read()
    git = hashlib.sha1(b'blob %d\\0' % len(data) + data).hexdigest()
    print(hashlib.sha256(data).hexdigest(), git)
";

/// SHA-256 and Git's id of each file, as Python computes them.
fn python_sums(dest: &Path, names: &[String]) -> BTreeMap<String, [String; 2]> {
    let paths = names.iter().map(|name| dest.join(name));
    let output = Command::new(python()).args(["-c", PRINT]).args(paths).output().expect("run python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let pair = |line: &str| line.split_once(' ').map(|(sha256, git)| [sha256.to_owned(), git.to_owned()]);
    names.iter().cloned().zip(text.lines().map(|line| pair(line).expect("two sums"))).collect()
}

/// Name and result of each file's only check.
fn checks(run: &Run) -> BTreeMap<String, (String, String)> {
    let files = run.report()["files"].as_array().expect("files");
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let check = |file: &Value| {
        assert_eq!(file["checks"].as_array().map(Vec::len), Some(1), "{file}");
        let check = &file["checks"][0];
        (word(&file["path"]), (word(&check["name"]), word(&check["result"])))
    };
    files.iter().map(check).collect()
}

/// What the last line of `--progress json` says was read back, in bytes.
fn read_back(run: &Run) -> u64 {
    let mut lines = run.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).rev();
    let last = lines.find(|line| line["event"] == "progress").expect("progress");
    last["bytes"]["read"].as_u64().expect("a count")
}

fn shards(count: u64, size: u64) -> Vec<(String, Content)> {
    (0..count).map(|number| (format!("model-{number}.safetensors"), Content::new(50 + number, size))).collect()
}

fn hub_of_shards(shards: &[(String, Content)]) -> HubArena {
    let served = |content: &Content| {
        let mut bytes = Vec::new();
        content.write_to(&mut bytes);
        dray_arena::Content::bytes(bytes)
    };
    let files = shards.iter().map(|(name, content)| (name.as_str(), served(content), Kept::Lfs));
    start([Repo::model("org/model").with_commit("main", files)])
}

fn expected(shards: &[(String, Content)]) -> Expected {
    Expected::of(shards.iter().map(|(name, content)| (name.as_str(), content)))
}

#[test]
fn every_file_of_a_repository_is_compared_with_what_the_hub_states() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let dest = folder();
    let run = pull(&hub, "hf://org/model", dest.path()).args(["--require", "origin"]).run();
    assert_eq!(run.assert_sealed()["assurance"], "origin");
    model.expected().assert_sealed(dest.path());
    let name = |kept| if kept == Kept::Lfs { "sha256" } else { "git-sha1" };
    let found = checks(&run);
    for (path, _, kept) in model.files() {
        assert_eq!(found[path], (name(kept).to_owned(), "matched".to_owned()), "{path}");
    }
    let plan = Dray::new(["plan", "hf://org/model", "--json"]).env("HF_ENDPOINT", hub.endpoint()).run();
    let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
    let names: Vec<String> = model.files().map(|(path, _, _)| path.to_owned()).to_vec();
    let sums = python_sums(dest.path(), &names);
    for file in plan["files"].as_array().expect("files") {
        let stated = &file["stated"][0];
        let place = usize::from(stated["name"] != "sha256");
        assert_eq!(stated["value"], sums[file["path"].as_str().expect("a path")][place], "{file}");
    }
}

#[test]
fn other_bytes_than_stated_exit_5_after_a_second_try_and_are_not_published() {
    let model = Model::new(1);
    for (path, name, other) in [
        ("model.safetensors", "sha256", Content::new(9, model.weights.size)),
        ("config.json", "git-sha1", Content::new(9, model.config.size)),
    ] {
        let mut bytes = Vec::new();
        other.write_to(&mut bytes);
        let repo = committed(Repo::model("org/model"), "main", &model.files());
        let hub = start([repo.claiming(path, &dray_arena::Content::bytes(bytes))]);
        let dest = folder();
        let run = pull(&hub, "hf://org/model", dest.path()).run();
        let line = run.assert_fails(5);
        assert!(line.contains(path) && line.contains(name) && line.contains("twice"), "{line}");
        let check = &run.file(path)["checks"][0];
        assert_eq!((&check["name"], &check["result"]), (&name.into(), &"mismatch".into()), "{}", run.report());
        assert!(!tree(dest.path()).contains(path), "{path}");
        assert!(!dest.path().join(".dray/receipt.json").exists());
    }
}

#[test]
fn a_killed_pull_ends_as_well_known_as_one_in_one_go() {
    let (weights, readme) = (Content::new(1, 96 * MIB), Content::new(2, 500));
    let files = [("a/README.md", &readme, Kept::Git), ("model.safetensors", &weights, Kept::Lfs)];
    let hub = start([committed(Repo::model("org/model"), "main", &files)]);
    let dest = folder();
    let slowed = ["--limit-rate", "24MiB", "--connections", "2"];
    let running = pull(&hub, "hf://org/model", dest.path()).args(slowed).spawn();
    wait_until("data is asked for", Duration::from_secs(60), || 4 <= asked(&hub, Side::Cdn, "").len());
    wait_until("a file is published", Duration::from_secs(60), || tree(dest.path()).contains("a/README.md"));
    running.signal(Signal::KILL);
    assert!(running.wait().killed());
    assert!(!tree(dest.path()).contains("model.safetensors"));
    let run = pull(&hub, "hf://org/model", dest.path()).args(["--require", "origin", "--progress", "json"]).run();
    assert_eq!(run.assert_sealed()["assurance"], "origin");
    Expected::of(files.map(|(path, content, _)| (path, content))).assert_sealed(dest.path());
    assert!(0 < run.count("bytes.reused"), "{}", run.report());
    assert!(run.count("bytes.reused") <= read_back(&run), "what is held is read once");
    assert!(checks(&run).values().all(|(_, result)| result == "matched"));
}

#[test]
fn a_lock_of_a_repository_is_vouched_for_by_its_store() {
    let shards = shards(3, 24 * MIB + 5);
    let hub = hub_of_shards(&shards);
    let around = folder();
    let lock = around.path().join("model.lock");
    let words = [Path::new("lock"), Path::new("hf://org/model"), Path::new("-o"), &lock];
    Dray::new(words).args(["--connections", "8"]).env("HF_ENDPOINT", hub.endpoint()).run().assert_code(0);
    let text: Value = serde_json::from_slice(&std::fs::read(&lock).expect("a lock")).expect("JSON");
    let files = text["files"].as_array().expect("files");
    assert_eq!(files.len(), 3);
    for file in files {
        assert_eq!((&file["assurance"], &file["checks"]), (&"origin".into(), &serde_json::json!(["sha256"])), "{text}");
    }
}

#[test]
fn many_shards_without_faults_are_hashed_in_flight_and_never_read_back() {
    let shards = shards(8, 20 * MIB + 3);
    let hub = hub_of_shards(&shards);
    for rung in ["auto", "buffered"] {
        let dest = folder();
        let flags = ["--connections", "16", "--progress", "json", "--io", rung];
        let run = pull(&hub, "hf://org/model", dest.path()).args(flags).run();
        assert_eq!(run.assert_sealed()["assurance"], "origin");
        expected(&shards).assert_sealed(dest.path());
        assert_eq!(read_back(&run), 0, "{rung}");
    }
}

#[test]
fn one_large_file_comes_over_several_connections_and_is_read_back_at_most_once() {
    let shards = shards(1, 100 * MIB + 3);
    let hub = hub_of_shards(&shards);
    let dest = folder();
    let flags = ["--connections", "8", "--progress", "json", "--limit-rate", "80MiB"];
    let run = pull(&hub, "hf://org/model", dest.path()).args(flags).run();
    assert_eq!(run.assert_sealed()["assurance"], "origin");
    expected(&shards).assert_sealed(dest.path());
    let ports = asked(&hub, Side::Cdn, "").len();
    assert!(8 <= ports, "{ports} requests");
    let (read, size) = (read_back(&run), shards[0].1.size);
    // A task and the last look may both read the step at which they meet.
    assert!(0 < read && read <= size + 8 * MIB, "{read} of {size} bytes");
    assert!(run.resident_max < 96 << 20, "{} bytes resident", run.resident_max);
}
