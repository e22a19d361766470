//! The Hub's own client downloads the same repositories: what the arena answers is what a real client expects.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use dray_arena::{Access, HubArena, Kept, Repo};
use serde_json::Value;

use crate::rig::dray::Dray;
use crate::rig::folder;
use crate::rig::oracle::{Content, hash_file, tree};
use crate::{Model, TOKEN, committed, pull, start};

const DOWNLOAD: &str = "
import sys
from huggingface_hub import snapshot_download
kind, name, revision, dest = sys.argv[1:]
snapshot_download(name, repo_type=kind, revision=revision, local_dir=dest)
";

/// The Python of the venv that `scripts/hub-deps.sh` makes.
pub(crate) fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |dir| root.join(dir));
    let venv = std::env::var_os("DRAY_HUB_VENV").map_or(target.join("hub-venv"), PathBuf::from);
    let path = venv.join("bin/python");
    assert!(path.exists(), "{} is missing: run scripts/hub-deps.sh", path.display());
    path
}

/// Downloads by the real client into `dest`, and removes what it notes there.
fn download(hub: &HubArena, (kind, name, revision): (&str, &str, &str), dest: &Path) {
    let home = folder();
    let output = Command::new(python())
        .args(["-c", DOWNLOAD, kind, name, revision])
        .arg(dest)
        .env_clear()
        .env("HOME", home.path())
        .env("HF_ENDPOINT", hub.endpoint())
        .env("HF_TOKEN", TOKEN)
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .output()
        .expect("run python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(dest.join(".cache")).expect("the client's notes");
}

#[test]
fn the_real_client_and_dray_make_the_same_tree() {
    let (old, new, data) = (Model::new(1), Model::new(2), Content::new(9, 3 << 20));
    let repo = Repo::model("org/model").with_access(Access::Private);
    let repo = committed(committed(repo, "v1", &old.files()), "main", &new.files());
    let gated = committed(Repo::model("org/gated").with_access(Access::Gated), "main", &old.files());
    let dataset = committed(Repo::dataset("org/data"), "main", &[("train/a b.parquet", &data, Kept::Lfs)]);
    let hub = start([repo, gated, dataset]);
    hub.set_token(TOKEN);
    hub.set_page(3);
    for (kind, name, revision, source) in [
        ("model", "org/model", "main", "hf://org/model"),
        ("model", "org/model", "v1", "hf://org/model:v1"),
        ("model", "org/gated", "main", "hf://org/gated"),
        ("dataset", "org/data", "main", "hf://datasets/org/data"),
    ] {
        let (theirs, ours) = (folder(), folder());
        download(&hub, (kind, name, revision), theirs.path());
        pull(&hub, source, ours.path()).env("HF_TOKEN", TOKEN).run().assert_sealed();
        let names: BTreeSet<String> = tree(theirs.path());
        assert!(!names.is_empty());
        assert_eq!(tree(ours.path()), names, "{source}");
        for name in names {
            assert_eq!(hash_file(&ours.path().join(&name)), hash_file(&theirs.path().join(&name)), "{source}: {name}");
        }
    }
}

#[test]
fn the_hubs_own_command_brings_the_same_bytes_as_a_peer_of_a_bench() {
    let (old, new) = (Model::new(1), Model::new(2));
    let repo = committed(Repo::model("org/model"), "v1", &old.files());
    let hub = start([committed(repo, "main", &new.files())]);
    let programs = python();
    for (uri, files) in [("hf://org/model", 7), ("hf://org/model:v1/sub", 3), ("hf://org/model/model.safetensors", 1)] {
        let dest = folder();
        let words = ["bench", "pull", "--rounds", "2", "--io", "threads", "--peers", "hf", "--json", "-", uri];
        let run = Dray::new(words).args([dest.path()]).env("HF_ENDPOINT", hub.endpoint());
        // The arena names Xet's chunks and has no store of them.
        let run = run.env("HF_HUB_DISABLE_XET", "1");
        let run = run.env("DRAY_BENCH_PATH", programs.parent().expect("a folder")).run();
        run.assert_code(0);
        let report: Value = serde_json::from_str(&run.stdout).expect("a report");
        assert_eq!(report["work"]["files"], files);
        let rows = report["rows"].as_array().expect("rows");
        let seen: Vec<_> = rows.iter().map(|row| (&row["name"], &row["failed"], &row["durable"])).collect();
        let name = |name: &str| Value::from(name);
        let (own, peer, yes, no) = (name("dray threads hf"), name("hf hf"), true.into(), false.into());
        assert_eq!(seen, [(&own, &Value::Null, &yes), (&peer, &Value::Null, &no)], "{uri}");
        assert!(rows.iter().all(|row| row["samples"].as_array().map(Vec::len) == Some(2)), "{uri}: {report:#}");
    }
}
