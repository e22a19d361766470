//! The token and the signed links: where they go, and that they show nowhere.

use std::fs;

use dray_arena::{Access, Repo, Side};

use crate::rig::folder;
use crate::rig::oracle::tree;
use crate::{Model, TOKEN, committed, hub_of, pull, start};

/// What begins every signature of the arena's CDN.
const SIGNATURE: &str = "canary-link";

#[test]
fn the_token_reaches_the_hub_alone_and_no_secret_is_written_down() {
    let model = Model::new(1);
    let repo = Repo::model("org/model").with_access(Access::Private);
    let hub = start([committed(repo, "main", &model.files())]);
    hub.set_token(TOKEN);
    hub.set_link_uses(1);
    let around = folder();
    let (dest, audit) = (around.path().join("dest"), around.path().join("audit.jsonl"));
    let dray = pull(&hub, "hf://org/model", &dest).env("HF_TOKEN", TOKEN).env("DRAY_LOG", "trace");
    let run = dray.env("DRAY_AUDIT", &audit).run();
    run.assert_sealed();
    model.expected().assert_sealed(&dest);
    for seen in hub.log() {
        let right = format!("Bearer {TOKEN}");
        match seen.side {
            Side::Hub => assert_eq!(seen.authorization.as_ref(), Some(&right), "{}", seen.target),
            Side::Cdn => assert!(!seen.headers.contains(TOKEN) && !seen.target.contains(TOKEN), "{}", seen.headers),
        }
    }
    let mut texts = vec![run.stderr.clone(), run.report().to_string()];
    texts.push(fs::read_to_string(&audit).expect("the audit log"));
    for name in tree(&dest.join(".dray")) {
        let bytes = fs::read(dest.join(".dray").join(name)).expect("state");
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    assert!(3 < texts.len());
    for text in texts {
        assert!(!text.contains(TOKEN) && !text.contains(SIGNATURE), "a secret shows: {text}");
    }
}

#[test]
fn a_hub_that_sends_us_elsewhere_keeps_the_token_from_there() {
    let model = Model::new(1);
    let other = hub_of(&model);
    let hub = start([]);
    hub.redirect("/", &format!("{}/", other.endpoint()));
    hub.set_token(TOKEN);
    let dest = folder();
    let run = pull(&hub, "hf://org/model", dest.path()).env("HF_TOKEN", TOKEN).run();
    run.assert_sealed();
    model.expected().assert_sealed(dest.path());
    assert!(hub.log().iter().all(|seen| seen.authorization.is_some()));
    for seen in other.log() {
        assert!(!seen.headers.contains(TOKEN), "{:?} {}", seen.side, seen.target);
    }
}

#[test]
fn tokens_come_from_files_and_may_be_switched_off() {
    let model = Model::new(1);
    let repo = Repo::model("org/model").with_access(Access::Private);
    let hub = start([committed(repo, "main", &model.files())]);
    hub.set_token(TOKEN);
    let home = folder();
    fs::write(home.path().join("token"), format!("{TOKEN}\n")).expect("write the token");
    let dest = folder();
    let named = home.path().join("token");
    pull(&hub, "hf://org/model", dest.path()).env("HF_HOME", home.path()).run().assert_sealed();
    let dest = folder();
    pull(&hub, "hf://org/model", dest.path()).env("HF_TOKEN_PATH", &named).run().assert_sealed();
    let dest = folder();
    let dray = pull(&hub, "hf://org/model", dest.path()).env("HF_HOME", home.path());
    dray.env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1").run().assert_fails(3);
}
