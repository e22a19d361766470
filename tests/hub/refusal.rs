//! What is refused: names nobody has, doors that are closed, settings that cannot be meant.

use dray_arena::{Access, Content, FaultOrigin, Options, Repo, Script, Side};

use crate::rig::dray::Dray;
use crate::rig::folder;
use crate::rig::oracle::tree;
use crate::{Model, TOKEN, asked, committed, pull, start};

/// A pull that fails, what it was given, and what the last line says.
struct Row<'a> {
    source: &'a str,
    token: Option<&'a str>,
    exit: i32,
    says: Vec<&'a str>,
}

fn row<'a>(source: &'a str, token: Option<&'a str>, exit: i32, says: &[&'a str]) -> Row<'a> {
    Row { source, token, exit, says: says.to_vec() }
}

#[test]
fn missing_private_and_gated_repositories_say_what_to_do() {
    let model = Model::new(1);
    let repo = |id: &str, access| committed(Repo::model(id).with_access(access), "main", &model.files());
    let hub = start([
        repo("org/model", Access::Public),
        repo("org/private", Access::Private),
        repo("org/gated", Access::Gated),
        repo("org/closed", Access::GatedForAll),
        Repo::model("org/empty").with_commit("main", []),
    ]);
    hub.set_token(TOKEN);
    let page = format!("{}/org/gated", hub.endpoint());
    let rows = [
        row("hf://org/none", None, 3, &["`org/none` is not found", "HF_TOKEN"]),
        row("hf://org/none", Some(TOKEN), 3, &["`org/none` is not found", "no right"]),
        row("hf://org/private", None, 3, &["if it is private, set HF_TOKEN"]),
        row("hf://org/model:v9", None, 3, &["no revision `v9`"]),
        row("hf://org/model/sub/absent.bin", None, 3, &["neither a file nor a folder `sub/absent.bin`"]),
        row("hf://org/model/sub/de", None, 3, &["neither a file nor a folder"]),
        row("hf://org/empty", None, 3, &["no files"]),
        row("hf://org/model:0123456789012345678901234567890123456789", None, 3, &["no revision"]),
        row("hf://org/gated", None, 4, &["gated", &page, "HF_TOKEN"]),
        row("hf://org/gated/config.json", None, 4, &["gated", &page]),
        row("hf://org/closed", Some(TOKEN), 4, &["gated", "no access"]),
        row("hf://org/model", Some("hf_canaryOfAnotherPlace"), 4, &["does not accept the token"]),
    ];
    for Row { source, token, exit, says } in rows {
        let dest = folder();
        let before = hub.log().len();
        let dray = pull(&hub, source, dest.path());
        let run = token.into_iter().fold(dray, |dray, token| dray.env("HF_TOKEN", token)).run();
        let line = run.assert_fails(exit);
        assert!(says.iter().all(|part| line.contains(part)), "{source}: {line}");
        assert!(!run.stderr.contains("canary"), "{source}: {}", run.stderr);
        assert_eq!(tree(dest.path()).len(), 0, "{source}");
        assert!(hub.log().len() - before <= 5, "{source}: a handful of requests");
    }
    assert_eq!(asked(&hub, Side::Cdn, "").len(), 0, "nothing was fetched");
    for (source, token) in [("hf://org/private", TOKEN), ("hf://org/gated", TOKEN)] {
        let dest = folder();
        pull(&hub, source, dest.path()).env("HF_TOKEN", token).run().assert_sealed();
        model.expected().assert_sealed(dest.path());
    }
}

#[test]
fn a_server_that_refuses_every_head_still_serves_and_still_tells_of_gates() {
    let model = Model::new(1);
    let gated = committed(Repo::model("org/gated").with_access(Access::Gated), "main", &model.files());
    let hub = start([committed(Repo::model("org/model"), "main", &model.files()), gated]);
    hub.refuse_heads();
    let dest = folder();
    pull(&hub, "hf://org/model", dest.path()).run().assert_sealed();
    model.expected().assert_sealed(dest.path());
    let dest = folder();
    assert!(pull(&hub, "hf://org/gated", dest.path()).run().assert_fails(4).contains("is gated"));
    assert_eq!(tree(dest.path()).len(), 0);
}

#[test]
fn a_hub_that_only_limits_is_a_network_error_in_the_end() {
    let hub = start([Repo::model("org/model").with_commit("main", [])]);
    hub.throttle("/api/", u32::MAX, 0);
    let dest = folder();
    let run = pull(&hub, "hf://org/model", dest.path()).run();
    assert!(run.assert_fails(7).contains("429"), "{}", run.last_line());
    assert_eq!(hub.log().len(), 6);
}

#[test]
fn settings_and_sources_that_cannot_be_meant_exit_2_unasked() {
    let hub = start([]);
    for (source, name, value, says) in [
        ("hf://org/model", "HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE"),
        ("hf://org/model", "HF_ENDPOINT", "hub.corp", "HF_ENDPOINT"),
        ("hf://org/model", "HF_TOKEN", "canary word", "HF_TOKEN"),
        ("hf://gpt2", "X", "x", "Invalid Hugging Face URI format"),
        ("hf:///model", "X", "x", "repository owner cannot be empty"),
        ("hf://org/", "X", "x", "model name cannot be empty"),
        ("hf://org/model:", "X", "x", "branch, tag or commit"),
        ("hf://spaces/org/app", "X", "x", "spaces"),
    ] {
        let dest = folder();
        let run = pull(&hub, source, dest.path()).env(name, value).run();
        let line = run.assert_fails(2);
        assert!(line.contains(says), "{source} {name}: {line}");
        assert!(!run.stderr.contains("canary"), "{}", run.stderr);
    }
    assert_eq!(hub.log().len(), 0);
}

#[test]
fn unsafe_names_in_a_tree_refuse_the_plan_before_any_file_is_asked_for() {
    let model = Model::new(1);
    for name in ["../escape", "/etc/passwd", "a\\b", ".dray/x", "readme.md"] {
        let mut files = model.files();
        files[2].0 = name;
        let hub = start([committed(Repo::model("org/model"), "main", &files)]);
        let around = folder();
        let dest = around.path().join("dest");
        pull(&hub, "hf://org/model", &dest).run().assert_fails(6);
        assert_eq!(asked(&hub, Side::Hub, "/resolve/").len(), 0, "{name}");
        assert_eq!(tree(around.path()).len(), 0, "{name}");
    }
}

#[test]
fn a_server_that_is_no_hub_is_a_network_error_in_bounded_memory() {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let described = format!(r#"{{"sha":"{COMMIT}"}}"#).into_bytes();
    let page = br#"[{"type":"file","path":"a","size":1,"oid":"x"}]"#.to_vec();
    let link = ("Link".to_owned(), "<https://huggingface.co/x?cursor=1>; rel=\"next\"".to_owned());
    let endless = vec![b' '; 64 << 20];
    for (what, description, tree, headers, says) in [
        ("a page for people", b"<html>".to_vec(), page.clone(), vec![], "not what a Hub answers"),
        ("no commit", b"{}".to_vec(), page.clone(), vec![], "names no commit"),
        ("an endless description", endless.clone(), page.clone(), vec![], "more than"),
        ("no tree", described.clone(), b"{}".to_vec(), vec![], "not what a Hub answers"),
        ("an endless page", described.clone(), endless, vec![], "more than"),
        ("a page that leads to itself", described, page, vec![link], "does not end"),
    ] {
        let objects = [("revision/main", description), (&format!("tree/{COMMIT}"), tree)];
        let objects = objects.map(|(path, body)| (format!("/api/models/org/model/{path}"), Content::bytes(body)));
        let options = Options { headers, ..Options::default() };
        let origin = FaultOrigin::start_with(objects.into(), Script::default(), options).expect("start the origin");
        let dest = folder();
        let run = Dray::pull("hf://org/model", dest.path()).env("HF_ENDPOINT", origin.url("")).run();
        let line = run.assert_fails(7);
        assert!(line.contains(says), "{what}: {line}");
        assert!(origin.requests() <= 4, "{what}: {} requests", origin.requests());
        assert!(origin.body_bytes_sent() < 40 << 20, "{what}: {} bytes", origin.body_bytes_sent());
    }
}
