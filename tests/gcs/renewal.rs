//! Tokens that end in mid-pull: replaced once for everybody who waits, or the end of the run when there is no other.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::assert_silent;
use crate::credentials::{federation, pull};
use crate::rig::dray::Dray;
use crate::rig::fake::{Asked, Fake, Reply, reply};
use crate::rig::folder;
use crate::rig::oracle::tree;
use crate::shelf::{Shelf, is_media};

const FILES: usize = 8;
const FILE_BYTES: usize = 9 << 20;

/// Reads that one token lets through.
const READS: usize = 5;

/// Times that a token ends.
const ENDS: usize = 2;

/// Which tokens were issued, and which the store lets in.
#[derive(Default)]
struct Door {
    issued: AtomicUsize,
    /// The first that is good; 0 and 1 are the same.
    good: AtomicUsize,
    reads: AtomicUsize,
}

impl Door {
    /// Another token, as an issuer's answer.
    fn issue(&self) -> Reply {
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        let token = json!({
            "access_token": format!("canary-token-{number}"), "expires_in": 3600, "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        });
        reply(200, token.to_string())
    }

    /// Refuses whoever has no good token, as Google words it; some reads later, all tokens so far end.
    fn refusal(&self, asked: &Asked) -> Option<Reply> {
        let number = asked.header("authorization").strip_prefix("Bearer canary-token-");
        let number = number.and_then(|number| number.parse::<usize>().ok());
        if number.is_none_or(|number| number < self.good.load(Ordering::SeqCst)) {
            return Some(invalid());
        }
        if is_media(asked) && (1..=ENDS).any(|end| self.reads.load(Ordering::SeqCst) + 1 == end * READS) {
            self.good.store(self.issued.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
        }
        if is_media(asked) {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        None
    }
}

fn invalid() -> Reply {
    let cause = json!({"message": "Invalid Credentials", "domain": "global", "reason": "authError"});
    reply(401, json!({"error": {"code": 401, "message": "Invalid Credentials", "errors": [cause]}}).to_string())
}

fn weights() -> Vec<u8> {
    (0..FILE_BYTES).map(|at| u8::try_from(at % 253).expect("a byte")).collect()
}

fn store(door: &Arc<Door>) -> Fake {
    let (door, bytes) = (Arc::clone(door), weights());
    let names: Vec<String> = (0..FILES).map(|number| format!("m/{number}")).collect();
    let shelf = Shelf::of(&names.iter().map(|name| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>());
    Fake::start(move |asked| door.refusal(asked).unwrap_or_else(|| shelf.answer(asked)))
}

/// What answers for the metadata service.
fn metadata(token: impl Fn() -> Reply + Send + Sync + 'static) -> Fake {
    Fake::start(move |asked| match asked.path.as_str() {
        "/" => reply(200, "").header("Metadata-Flavor", "Google"),
        "/computeMetadata/v1/instance/service-accounts/default/token" => token(),
        _ => reply(404, ""),
    })
}

fn assert_pulled(dray: Dray, dest: &Path, door: &Door, who: &str) {
    let run = dray.args(["--connections", "16"]).run();
    run.assert_sealed();
    for number in 0..FILES {
        assert!(fs::read(dest.join(number.to_string())).expect("a file") == weights(), "{who}: {number}");
    }
    assert!(FILES * 2 <= door.reads.load(Ordering::SeqCst), "{who}: several reads a file");
    let issued = door.issued.load(Ordering::SeqCst);
    assert!((1 + ENDS..=1 + 2 * ENDS).contains(&issued), "{who}: {issued} tokens for {ENDS} ends");
    assert_silent(&run, dest, &["canary-token"]);
}

#[test]
fn a_token_that_ends_is_replaced_once_for_all_files() {
    let around = folder();
    let dest = |name: &str| around.path().join(name);

    let door = Arc::new(Door::default());
    let (store_, issuing) = (store(&door), Arc::clone(&door));
    let issuer = Fake::start(move |_| issuing.issue());
    let key = federation(around.path(), &issuer);
    let dray = pull(&store_, &dest("federated")).env("GOOGLE_APPLICATION_CREDENTIALS", &key);
    assert_pulled(dray, &dest("federated"), &door, "federated");

    let door = Arc::new(Door::default());
    let (store_, issuing) = (store(&door), Arc::clone(&door));
    let metadata = metadata(move || issuing.issue());
    let dray = pull(&store_, &dest("machine")).env("GCE_METADATA_HOST", metadata.host());
    assert_pulled(dray, &dest("machine"), &door, "machine");
}

#[test]
fn a_token_that_is_dead_from_the_start_is_replaced_before_the_listing() {
    let door = Arc::new(Door::default());
    door.good.store(2, Ordering::SeqCst);
    let (store, issuing, dest) = (store(&door), Arc::clone(&door), folder());
    let metadata = metadata(move || issuing.issue());
    let dray = pull(&store, dest.path()).env("GCE_METADATA_HOST", metadata.host());
    assert_pulled(dray, dest.path(), &door, "dead");
}

#[test]
fn an_identity_that_is_revoked_in_mid_pull_exits_4_and_names_where_it_came_from() {
    let around = folder();
    let door = Arc::new(Door::default());
    let (store_, issuing) = (store(&door), Arc::clone(&door));
    let issuer = Fake::start(move |_| match issuing.issued.load(Ordering::SeqCst) {
        0 => issuing.issue(),
        _ => reply(400, json!({"error": "invalid_grant", "error_description": "canary-token-revoked"}).to_string()),
    });
    let key = federation(around.path(), &issuer);
    let dest = around.path().join("dest");
    let dray = pull(&store_, &dest).env("GOOGLE_APPLICATION_CREDENTIALS", &key).args(["--connections", "16"]);
    let run = dray.run();
    let line = run.assert_fails(4);
    for word in ["GOOGLE_APPLICATION_CREDENTIALS", "external_account", "invalid_grant"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_eq!(issuer.asked().len(), 2, "it is asked once more and not again");
    assert!(tree(&dest).len() < FILES);
    assert_silent(&run, &dest, &["canary-token"]);
}

#[test]
fn an_issuer_that_has_only_the_refused_token_exits_4_after_a_handful_of_requests() {
    let door = Arc::new(Door::default());
    let (store, dest) = (store(&door), folder());
    let metadata = metadata(|| {
        reply(200, json!({"access_token": "canary-token-1", "expires_in": 3600, "token_type": "Bearer"}).to_string())
    });
    door.issued.store(1, Ordering::SeqCst);
    let run = pull(&store, dest.path()).env("GCE_METADATA_HOST", metadata.host()).run();
    let line = run.assert_fails(4);
    assert!(line.contains("credentials from the metadata service"), "{line}");
    let tokens = metadata.asked().iter().filter(|asked| asked.path != "/").count();
    assert!(tokens <= 3, "{tokens} requests for tokens");
    assert_silent(&run, dest.path(), &["canary-token"]);
}

#[test]
fn the_project_that_pays_is_named_to_the_store_by_data_and_by_lists() {
    let around = folder();
    for (who, variable) in [("file", "GOOGLE_APPLICATION_CREDENTIALS"), ("machine", "GCE_METADATA_HOST")] {
        let door = Arc::new(Door::default());
        let (issuing, seen) = (Arc::clone(&door), Arc::clone(&door));
        let shelf = Shelf::of(&[("m/weights", b"weights")]);
        let store = Fake::start(move |asked| match asked.header("x-goog-user-project") {
            "payer" => seen.refusal(asked).unwrap_or_else(|| shelf.answer(asked)),
            _ => reply(400, "Bucket is a requester pays bucket but no user project provided."),
        });
        let issuer = Fake::start(move |asked| match asked.path.as_str() {
            "/" => reply(200, "").header("Metadata-Flavor", "Google"),
            _ => issuing.issue(),
        });
        let value = if who == "file" { federation(around.path(), &issuer) } else { issuer.host() };
        let dest = around.path().join(who);
        let dray = pull(&store, &dest).env(variable, value).env("GOOGLE_CLOUD_QUOTA_PROJECT", "payer");
        dray.run().assert_sealed();
        assert_eq!(fs::read(dest.join("weights")).expect("weights"), b"weights");
    }
}
