//! What lands where: whole repositories, folders, single files, datasets, pages, patterns, pairs.

use std::collections::BTreeSet;

use dray_arena::{HubSeen, Kept, Repo, Side};
use serde_json::Value;

use crate::rig::dray::Dray;
use crate::rig::folder;
use crate::rig::oracle::{Content, Expected, change_times, tree};
use crate::{Model, asked, committed, hub_of, pull, start};

#[test]
fn a_repository_lands_whole_and_a_second_run_asks_for_no_data() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let dest = folder();
    let run = pull(&hub, "hf://org/model", dest.path()).run();
    let report = run.assert_sealed();
    model.expected().assert_sealed(dest.path());
    assert_eq!(report["assurance"], "origin");
    assert_eq!(report["source"], "hf://org/model");
    let resolved = report["resolved"].as_str().expect("resolved");
    let commit = resolved.strip_prefix("hf://org/model:").expect("a commit");
    assert_eq!(commit.len(), 40, "{resolved}");
    let data = asked(&hub, Side::Hub, "/resolve/");
    assert!(data.iter().all(|seen| seen.target.contains(commit)), "every file is asked for at the commit");
    let before = (asked(&hub, Side::Cdn, "").len(), change_times(dest.path()));
    pull(&hub, "hf://org/model:main", dest.path()).run().assert_sealed();
    assert_eq!((asked(&hub, Side::Cdn, "").len(), change_times(dest.path())), before);
    // The first byte of one file tells whether the files may be had.
    let is_data = |seen: &&HubSeen| !seen.headers.contains("range: bytes=0-0\n");
    let gets = asked(&hub, Side::Hub, "/resolve/").iter().filter(is_data).count();
    assert_eq!(gets, data.iter().filter(is_data).count());
}

#[test]
fn revisions_folders_and_files_land_below_what_was_named() {
    let (old, new) = (Model::new(1), Model::new(2));
    let repo = committed(Repo::model("org/model"), "v1.0", &old.files());
    let repo = committed(committed(repo, "refs/pr/3", &old.files()), "feature/x", &old.files());
    let repo = committed(repo, "main", &new.files());
    let (first, last) = (repo.commit("v1.0").unwrap().to_owned(), repo.commit("main").unwrap().to_owned());
    let hub = start([repo]);
    let whole = |model: &Model| model.expected();
    let below = |model: &Model| {
        Expected::of([("deep/part.bin", &model.deep), ("odd name+%41#.txt", &model.odd), ("__init__.py", &model.empty)])
    };
    for (source, expected) in [
        ("hf://org/model".to_owned(), whole(&new)),
        ("hf://models/org/model@main".to_owned(), whole(&new)),
        ("hf://org/model:v1.0".to_owned(), whole(&old)),
        (format!("hf://org/model:{first}"), whole(&old)),
        (format!("hf://org/model:{}", &last[..8]), whole(&new)),
        ("hf://org/model:refs/pr/3".to_owned(), whole(&old)),
        ("hf://org/model@feature%2Fx".to_owned(), whole(&old)),
        ("hf://org/model/sub".to_owned(), below(&new)),
        ("hf://org/model:v1.0/sub/".to_owned(), below(&old)),
        ("hf://org/model:refs/pr/3/sub/deep".to_owned(), Expected::of([("part.bin", &old.deep)])),
        ("hf://org/model/model.safetensors".to_owned(), Expected::of([("model.safetensors", &new.weights)])),
        ("hf://org/model:v1.0/sub/deep/part.bin".to_owned(), Expected::of([("part.bin", &old.deep)])),
        ("hf://org/model/sub/odd name+%41#.txt".to_owned(), Expected::of([("odd name+%41#.txt", &new.odd)])),
        ("hf://org/model/sub/__init__.py".to_owned(), Expected::of([("__init__.py", &new.empty)])),
    ] {
        let dest = folder();
        let run = pull(&hub, &source, dest.path()).run();
        assert_eq!(run.code(), 0, "{source}: {}", run.stderr);
        expected.assert_sealed(dest.path());
    }
}

#[test]
fn datasets_are_apart_from_models_of_the_same_name() {
    let (model, data) = (Model::new(1), Content::new(9, 5000));
    let dataset = [("train/data.parquet", &data, Kept::Lfs), ("README.md", &model.readme, Kept::Git)];
    let hub = start([
        committed(Repo::model("org/model"), "main", &model.files()),
        committed(Repo::dataset("org/model"), "main", &dataset),
    ]);
    let dest = folder();
    pull(&hub, "hf://datasets/org/model", dest.path()).run().assert_sealed();
    Expected::of([("train/data.parquet", &data), ("README.md", &model.readme)]).assert_sealed(dest.path());
    let dest = folder();
    pull(&hub, "hf://datasets/org/model/train", dest.path()).run().assert_sealed();
    Expected::of([("data.parquet", &data)]).assert_sealed(dest.path());
}

#[test]
fn a_tree_of_many_pages_is_read_to_its_end() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    hub.set_page(2);
    let dest = folder();
    pull(&hub, "hf://org/model", dest.path()).run().assert_sealed();
    model.expected().assert_sealed(dest.path());
    // Seven files and two folders.
    assert_eq!(asked(&hub, Side::Hub, "/tree/").len(), 5);
}

#[test]
fn patterns_choose_among_the_files_of_a_repository() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let all: Vec<&str> = model.files().map(|(path, _, _)| path).to_vec();
    let without = |gone: &[&str]| all.iter().copied().filter(|path| !gone.contains(path)).collect::<Vec<_>>();
    for (what, source, variables, taken) in [
        (
            "allowed",
            "hf://org/model",
            vec![("STORAGE_ALLOW_PATTERNS", "*.json,*.md")],
            vec!["config.json", "README.md"],
        ),
        ("ignored", "hf://org/model", vec![("STORAGE_IGNORE_PATTERNS", r#"["sub/*"]"#)], without(&all[4..])),
        ("flags", "hf://org/model", vec![("DRAY_IGNORE", "*.md,.git*")], without(&all[..2])),
        ("below a folder", "hf://org/model/sub", vec![("DRAY_ALLOW", "deep/*")], vec!["deep/part.bin"]),
        (
            "one file is named",
            "hf://org/model/config.json",
            vec![("STORAGE_ALLOW_PATTERNS", "*.bin")],
            vec!["config.json"],
        ),
    ] {
        let dest = folder();
        let dray = variables.iter().fold(pull(&hub, source, dest.path()), |dray, (name, value)| dray.env(name, value));
        let run = dray.run();
        assert_eq!(run.code(), 0, "{what}: {}", run.stderr);
        let taken: BTreeSet<String> = taken.into_iter().map(str::to_owned).collect();
        assert_eq!(tree(dest.path()), taken, "{what}");
    }
    let dest = folder();
    pull(&hub, "hf://org/model", dest.path()).env("STORAGE_ALLOW_PATTERNS", "*.gguf").run().assert_fails(3);
}

#[test]
fn pairs_of_kserve_take_the_hub_with_its_tuning_variables() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let around = folder();
    let dest = |name: &str| around.path().join(name);
    let (one, two) = (dest("one"), dest("two"));
    let words = ["hf://org/model".as_ref(), one.as_os_str(), "hf://org/model:main/sub/deep".as_ref(), two.as_os_str()];
    let tuning = [
        ("HF_HUB_ENABLE_HF_TRANSFER", "1"),
        ("HF_XET_HIGH_PERFORMANCE", "1"),
        ("HF_XET_NUM_CONCURRENT_RANGE_GETS", "8"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_HUB_DISABLE_XET", "0"),
        ("HF_HUB_ETAG_TIMEOUT", "10"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "10"),
        ("HF_HUB_CACHE", "/nonexistent/hub"),
        ("HF_HOME", "/nonexistent"),
        ("HF_HUB_OFFLINE", "0"),
    ];
    let dray = Dray::new(words).env("HF_ENDPOINT", hub.endpoint());
    let run = tuning.iter().fold(dray, |dray, (name, value)| dray.env(name, value)).run();
    assert_eq!((run.code(), run.stdout.as_str()), (0, ""), "{}", run.stderr);
    model.expected().assert_sealed(&one);
    Expected::of([("part.bin", &model.deep)]).assert_sealed(&two);
}

#[test]
fn plan_shows_sizes_and_the_names_of_contents() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let run =
        Dray::new(["plan", "hf://org/model/model.safetensors", "--json"]).env("HF_ENDPOINT", hub.endpoint()).run();
    run.assert_code(0);
    let plan: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let resolved = plan["resolved"].as_str().expect("resolved");
    assert!(resolved.starts_with("hf://org/model:") && resolved.ends_with("/model.safetensors"), "{plan}");
    let file = &plan["files"][0];
    assert_eq!(file["size"], model.weights.size, "{plan}");
    assert_eq!(file["version"]["content"].as_str().map(str::len), Some(64), "LFS's SHA-256: {plan}");
    let stated = serde_json::json!([{ "name": "sha256", "value": file["version"]["content"] }]);
    assert_eq!(file["stated"], stated, "{plan}");
    assert_eq!(asked(&hub, Side::Cdn, "").len(), 0);
}
