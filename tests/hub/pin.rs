//! One commit from start to end: branches that move, links that expire, kills, limits in mid-pull.

use std::time::Duration;

use dray_arena::{HubArena, Kept, Repo, Side};
use rustix::process::Signal;
use serde_json::Value;

use crate::rig::folder;
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::server::wait_until;
use crate::{Model, asked, committed, hub_of, pull, start};

/// Slow enough for something to happen in mid-pull.
const RATE: &str = "24MiB";

fn wait_for_data(hub: &HubArena, requests: usize) {
    wait_until("data is asked for", Duration::from_secs(60), || requests <= asked(hub, Side::Cdn, "").len());
}

#[test]
fn a_branch_that_moves_in_mid_pull_ends_as_the_planned_commit() {
    let names = ["1.bin", "2.bin", "3.bin", "4.bin"];
    let shards = |seed: u64| (seed..seed + 4).map(|seed| Content::new(seed, 12 * MIB)).collect::<Vec<_>>();
    let (old, new) = (shards(10), shards(20));
    let commit = |repo, shards: &[Content]| {
        let files: Vec<_> = names.into_iter().zip(shards).map(|(name, shard)| (name, shard, Kept::Lfs)).collect();
        committed(repo, "main", &files)
    };
    let repo = commit(Repo::model("org/model"), &old);
    let hub = start([repo.clone()]);
    let dest = folder();
    let slowed = ["--limit-rate", RATE, "--connections", "1"];
    let running = pull(&hub, "hf://org/model", dest.path()).args(slowed).spawn();
    wait_for_data(&hub, 1);
    hub.put(commit(repo, &new));
    let moved_at = asked(&hub, Side::Hub, "/resolve/").len();
    running.wait().assert_sealed();
    assert!(moved_at < asked(&hub, Side::Hub, "/resolve/").len(), "files were asked for after the move");
    Expected::of(names.into_iter().zip(&old)).assert_sealed(dest.path());
    pull(&hub, "hf://org/model", dest.path()).run().assert_sealed();
    Expected::of(names.into_iter().zip(&new)).assert_sealed(dest.path());
}

#[test]
fn a_new_commit_costs_only_what_changed() {
    let (old, readme) = (Model::new(1), Content::new(77, 4001));
    let repo = committed(Repo::model("org/model"), "main", &old.files());
    let hub = start([repo.clone()]);
    let dest = folder();
    pull(&hub, "hf://org/model", dest.path()).run().assert_sealed();
    let new = Model { readme, ..Model::new(1) };
    hub.put(committed(repo, "main", &new.files()));
    let before = asked(&hub, Side::Cdn, "").len();
    let run = pull(&hub, "hf://org/model", dest.path()).run();
    run.assert_sealed();
    new.expected().assert_sealed(dest.path());
    assert_eq!(asked(&hub, Side::Cdn, "").len(), before, "no weights are fetched again");
    assert_eq!(run.count("bytes.fetched"), 4001);
}

#[test]
fn a_killed_pull_resumes_even_when_the_branch_has_moved_on() {
    let (weights, readme, later) = (Content::new(1, 96 * MIB), Content::new(2, 500), Content::new(3, 501));
    let files = |readme| [("model.safetensors", &weights, Kept::Lfs), ("README.md", readme, Kept::Git)];
    let repo = committed(Repo::model("org/model"), "main", &files(&readme));
    let hub = start([repo.clone()]);
    let dest = folder();
    let dray = pull(&hub, "hf://org/model", dest.path()).args(["--limit-rate", RATE, "--connections", "1"]);
    let running = dray.spawn();
    wait_for_data(&hub, 3);
    running.signal(Signal::KILL);
    assert!(running.wait().killed());
    assert!(!tree(dest.path()).contains("model.safetensors"));
    hub.put(committed(repo, "main", &files(&later)));
    let run = pull(&hub, "hf://org/model", dest.path()).run();
    run.assert_sealed();
    Expected::of([("model.safetensors", &weights), ("README.md", &later)]).assert_sealed(dest.path());
    assert!(0 < run.count("bytes.reused"), "{}", run.report());
}

#[test]
fn an_expired_link_is_asked_for_again_at_its_source() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    hub.set_link_uses(1);
    let dest = folder();
    let run = pull(&hub, "hf://org/model", dest.path()).args(["--connections", "1"]).run();
    run.assert_sealed();
    model.expected().assert_sealed(dest.path());
    let answers = asked(&hub, Side::Cdn, "");
    let expired = answers.iter().filter(|seen| seen.status == 403).count();
    let good = answers.iter().filter(|seen| seen.status == 206 || seen.status == 200).count();
    assert!(0 < expired, "the links did expire: {answers:?}");
    assert!(expired <= good, "each refusal is followed by a new link: {expired} of {}", answers.len());
}

#[test]
fn limits_are_waited_out_for_listings_and_for_files() {
    for (what, answers) in [("/api/", 2), ("/resolve/", 3)] {
        let model = Model::new(1);
        let hub = hub_of(&model);
        hub.throttle(what, answers, 1);
        let dest = folder();
        let run = pull(&hub, "hf://org/model", dest.path()).run();
        run.assert_sealed();
        model.expected().assert_sealed(dest.path());
        assert!(1.0 <= run.seconds, "{what}: Retry-After is heeded");
        let refused = asked(&hub, Side::Hub, what).iter().filter(|seen| seen.status == 429).count();
        assert_eq!(refused, usize::try_from(answers).unwrap(), "{what}");
    }
}

#[test]
fn a_renamed_repository_is_followed_within_the_hub() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    hub.redirect("/old/name", "/org/model");
    hub.set_token("right");
    let dest = folder();
    pull(&hub, "hf://old/name", dest.path()).env("HF_TOKEN", "right").run().assert_sealed();
    model.expected().assert_sealed(dest.path());
    assert!(hub.log().iter().all(|seen| seen.authorization.is_some() == (seen.side == Side::Hub)));
}

#[test]
fn the_audit_log_names_the_commit_and_the_kind_of_credential() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let around = folder();
    let log = around.path().join("audit.jsonl");
    let dray = pull(&hub, "hf://org/model/config.json", &around.path().join("dest"));
    dray.env("DRAY_AUDIT", &log).run().assert_sealed();
    let text = std::fs::read_to_string(&log).expect("the audit log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let act = |name: &str| lines.iter().find(|line| line["act"] == name).unwrap_or_else(|| panic!("{name}: {text}"));
    assert_eq!(act("credential")["kind"], "anonymous");
    let commit = act("registry")["version"].as_str().expect("a commit");
    assert_eq!(act("registry")["answered"], format!("hf://org/model:{commit}/config.json"));
}
