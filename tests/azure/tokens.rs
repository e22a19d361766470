//! Bearer tokens: client secret, workload identity, managed identity. And who may see them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::assert_silent;
use crate::rig::dray::{Dray, Run};
use crate::rig::fake::{Asked, Fake, Reply, reply};
use crate::rig::folder;
use crate::rig::nginx::{Nginx, Options};
use crate::shelf::{ACCOUNT, CONTAINER, Shelf, endpoint, is_media, refusal};

const BLOB: &[u8] = b"the weights of a very small model";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";

fn shelf() -> Shelf {
    Shelf::of(&[("m/weights", BLOB), ("m/config", b"{}")])
}

/// The token that is issued as number `n`.
fn token(n: usize) -> String {
    format!("canary-access-token-{n}")
}

/// An issuer that gives a new token each time, good for `seconds`, to whom `knows` knows.
fn issuer(seconds: u64, knows: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> Fake {
    let issued = AtomicUsize::new(0);
    Fake::start(move |asked| {
        if !knows(asked) {
            let text = format!("AADSTS7000215: canary-words {}", asked.body);
            let refusal = json!({"error": "invalid_client", "error_description": text, "error_codes": [7000215]});
            return reply(401, refusal.to_string());
        }
        let token = token(issued.fetch_add(1, Ordering::Relaxed));
        reply(200, json!({"token_type": "Bearer", "expires_in": seconds, "access_token": token}).to_string())
    })
}

/// TLS in front of an issuer.
fn secured(issuer: &Fake) -> Nginx {
    Nginx::start(&Options { limit_rate: "2m", upstream: Some(issuer.host()) })
}

/// A store that lets in who bears token number `n`, and repeats what it was shown to everybody else.
fn store(good: impl Fn(usize) -> bool + Send + Sync + 'static) -> Fake {
    Fake::start(move |asked| {
        let shown = asked.header("authorization");
        let number = shown.strip_prefix("Bearer canary-access-token-").and_then(|number| number.parse().ok());
        if number.is_some_and(&good) {
            assert_eq!(asked.header("x-ms-version"), "2021-12-02");
            return shelf().answer(asked);
        }
        refusal(401, "InvalidAuthenticationInfo", &format!("Server failed to authenticate {shown}"))
    })
}

fn pull(store: &Fake, dest: &Path) -> Dray {
    Dray::pull(&format!("az://{ACCOUNT}/{CONTAINER}/m"), dest)
        .env("AZURE_STORAGE_ENDPOINT", endpoint(store))
        .env("DRAY_LOG", "trace")
}

/// As a service principal with a secret.
fn with_secret(dray: Dray, authority: &Nginx) -> Dray {
    dray.env("AZURE_AUTHORITY_HOST", authority.s3_tls())
        .env("SSL_CERT_FILE", authority.ca())
        .env("AZURE_TENANT_ID", TENANT)
        .env("AZURE_CLIENT_ID", "the-client")
        .env("AZURE_CLIENT_SECRET", "canary-client-secret")
}

fn assert_pulled(run: &Run, dest: &Path) {
    run.assert_sealed();
    assert_eq!(fs::read(dest.join("weights")).expect("weights"), BLOB);
}

fn knows_the_secret(asked: &Asked) -> bool {
    asked.path == format!("/{TENANT}/oauth2/v2.0/token")
        && asked.body.contains("client_secret=canary-client-secret")
        && asked.body.contains("client_id=the-client")
        && asked.body.contains("scope=https%3A%2F%2Fstorage.azure.com%2F.default")
}

#[test]
fn a_client_secret_buys_one_token_that_goes_to_the_store_alone() {
    let issuer = issuer(3600, knows_the_secret);
    let (authority, store, dest) = (secured(&issuer), store(|n| n == 0), folder());
    let run = with_secret(pull(&store, dest.path()), &authority).run();
    assert_pulled(&run, dest.path());
    assert_silent(&run, dest.path(), &["canary-access", "canary-client-secret"]);
    assert_eq!(issuer.asked().len(), 1, "one for lists and bytes");
    assert!(store.asked().iter().all(|asked| !asked.body.contains("canary") && asked.path.starts_with("/acc/models")));
}

#[test]
fn kserves_older_names_stand_for_the_newer_ones() {
    let issuer = issuer(3600, knows_the_secret);
    let (authority, store, dest) = (secured(&issuer), store(|n| n == 0), folder());
    let run = pull(&store, dest.path())
        .env("AZURE_AUTHORITY_HOST", authority.s3_tls())
        .env("SSL_CERT_FILE", authority.ca())
        .env("AZ_TENANT_ID", TENANT)
        .env("AZ_CLIENT_ID", "the-client")
        .env("AZ_CLIENT_SECRET", "canary-client-secret")
        .env("AZURE_CLIENT_SECRET", "another")
        .run();
    assert_pulled(&run, dest.path());
}

#[test]
fn a_token_that_is_refused_is_renewed_once_for_lists_and_once_for_bytes() {
    // The first is never good; the second for lists alone.
    let issuer = issuer(3600, knows_the_secret);
    let store = Fake::start(|asked| {
        let shown = asked.header("authorization").to_owned();
        let good = if is_media(asked) { shown.ends_with("-2") } else { shown.ends_with("-1") };
        if good { shelf().answer(asked) } else { refusal(401, "InvalidAuthenticationInfo", &shown) }
    });
    let (authority, dest) = (secured(&issuer), folder());
    let run = with_secret(pull(&store, dest.path()), &authority).run();
    assert_pulled(&run, dest.path());
    assert_eq!(issuer.asked().len(), 3, "one for both files");
    assert_silent(&run, dest.path(), &["canary-access", "canary-client-secret"]);
}

#[test]
fn a_token_that_never_opens_exits_4_and_names_its_variables() {
    let issuer = issuer(3600, knows_the_secret);
    let (authority, store, dest) = (secured(&issuer), store(|_| false), folder());
    let run = with_secret(pull(&store, dest.path()), &authority).run();
    let line = run.assert_fails(4);
    assert!(line.contains("AZURE_CLIENT_SECRET") && line.contains("InvalidAuthenticationInfo"), "{line}");
    assert_silent(&run, dest.path(), &["canary"]);
    assert!(store.asked().len() <= 4, "{}", store.asked().len());
}

#[test]
fn an_issuer_that_refuses_exits_4_and_its_words_are_not_repeated() {
    let issuer = issuer(3600, |_| false);
    let (authority, store, dest) = (secured(&issuer), store(|_| true), folder());
    let run = with_secret(pull(&store, dest.path()), &authority).run();
    let line = run.assert_fails(4);
    for word in ["AZURE_CLIENT_SECRET", "401", "invalid_client", "AADSTS7000215"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_silent(&run, dest.path(), &["canary"]);
    assert_eq!((store.asked().len(), issuer.asked().len()), (0, 1));
}

#[test]
fn an_issuer_that_is_down_is_asked_again_and_then_exits_7() {
    let times = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&times);
    let good = issuer(3600, knows_the_secret);
    let flaky = Fake::start(move |_| match counted.fetch_add(1, Ordering::Relaxed) {
        0 => reply(503, "canary-text"),
        _ => reply(200, json!({"token_type": "Bearer", "expires_in": 3600, "access_token": token(0)}).to_string()),
    });
    let (authority, store, dest) = (secured(&flaky), store(|n| n == 0), folder());
    assert_pulled(&with_secret(pull(&store, dest.path()), &authority).run(), dest.path());
    drop(good);

    let down = Fake::start(|_| reply(503, "canary-text"));
    let (authority, dest) = (secured(&down), folder());
    let run = with_secret(pull(&store, dest.path()), &authority).within(Duration::from_secs(30)).run();
    assert!(run.assert_fails(7).contains("503"), "{}", run.last_line());
    assert_silent(&run, dest.path(), &["canary"]);
}

#[test]
fn an_answer_that_is_no_token_exits_4_without_repeating_it() {
    let odd = Fake::start(|_| reply(200, "{\"canary\": 1}"));
    let (authority, store, dest) = (secured(&odd), store(|_| true), folder());
    let run = with_secret(pull(&store, dest.path()), &authority).run();
    run.assert_fails(4);
    assert_silent(&run, dest.path(), &["canary"]);
}

#[test]
fn a_workload_identity_reads_its_file_again_for_each_token() {
    let around = folder();
    let file = around.path().join("token");
    fs::write(&file, "canary-assertion-1").expect("write");
    let rotated = file.clone();
    let issuer = issuer(3600, |asked| {
        asked.body.contains("client_assertion=canary-assertion-") && asked.body.contains("jwt-bearer")
    });
    // The first token is refused; by then the cluster has written another file.
    let store = Fake::start(move |asked| {
        if asked.header("authorization").ends_with("-0") {
            fs::write(&rotated, "canary-assertion-2").expect("write");
            return refusal(401, "InvalidAuthenticationInfo", "Lifetime validation failed. The token is expired.");
        }
        shelf().answer(asked)
    });
    let authority = secured(&issuer);
    let dest = around.path().join("dest");
    let run = pull(&store, &dest)
        .env("AZURE_AUTHORITY_HOST", authority.s3_tls())
        .env("SSL_CERT_FILE", authority.ca())
        .env("AZURE_TENANT_ID", TENANT)
        .env("AZURE_CLIENT_ID", "the-client")
        .env("AZURE_FEDERATED_TOKEN_FILE", &file)
        .run();
    assert_pulled(&run, &dest);
    let asked = issuer.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].body.contains("canary-assertion-2"), "{}", asked[1].body);
    assert_silent(&run, &dest, &["canary"]);
}

#[test]
fn a_managed_identity_is_asked_for_by_its_client_id() {
    let metadata = Fake::start(|asked| {
        let good = asked.path == "/metadata/identity/oauth2/token"
            && asked.header("metadata") == "true"
            && asked.parameter("client_id") == Some("the-client")
            && asked.parameter("resource") == Some("https://storage.azure.com");
        if !good {
            return reply(400, json!({"error": "invalid_request", "error_description": "canary"}).to_string());
        }
        let until = 4_000_000_000_u64.to_string();
        reply(
            200,
            json!({"access_token": token(0), "expires_on": until, "resource": "x", "token_type": "Bearer"}).to_string(),
        )
    });
    let (store, dest) = (store(|n| n == 0), folder());
    let asked = |client: &str, dest: &Path| {
        pull(&store, dest)
            .env("AZURE_CLIENT_ID", client)
            .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", metadata.url("/"))
            .run()
    };
    let run = asked("the-client", dest.path());
    assert_pulled(&run, dest.path());
    assert_silent(&run, dest.path(), &["canary"]);
    let dest = folder();
    let line = asked("nobody", dest.path()).assert_fails(4).to_owned();
    assert!(line.contains("managed identity of AZURE_CLIENT_ID") && line.contains("invalid_request"), "{line}");
    assert!(!line.contains("canary"), "{line}");
}

#[test]
fn nobodys_pull_does_not_ask_the_machine() {
    let metadata = Fake::start(|_| reply(500, ""));
    let (store, dest) = (Fake::start(|asked| shelf().answer(asked)), folder());
    let run = pull(&store, dest.path()).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", metadata.url("")).run();
    assert_pulled(&run, dest.path());
    assert_eq!(metadata.asked().len(), 0);
    assert!(store.asked().iter().all(|asked| asked.header("authorization").is_empty()));
}

#[test]
fn identities_that_are_half_set_exit_2_and_name_what_is_missing() {
    let (store, dest) = (store(|_| true), folder());
    let secret = ("AZURE_CLIENT_SECRET", "canary");
    let (client, tenant) = (("AZURE_CLIENT_ID", "c"), ("AZURE_TENANT_ID", TENANT));
    for (word, variables) in [
        ("AZURE_TENANT_ID", &[client, secret][..]),
        ("AZURE_TENANT_ID", &[client, ("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent")]),
        ("AZURE_FEDERATED_TOKEN_FILE", &[client, tenant, ("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent")]),
        ("AZURE_AUTHORITY_HOST", &[client, tenant, secret, ("AZURE_AUTHORITY_HOST", "http://127.0.0.1:1")]),
        ("plain http", &[client, tenant, secret, ("AZURE_STORAGE_ENDPOINT", "http://azurite.example/acc")]),
    ] {
        let mut run = pull(&store, dest.path());
        for (name, value) in variables {
            run = run.env(name, value);
        }
        let run = run.run();
        let line = run.assert_fails(2);
        assert!(line.contains(word) && !line.contains("canary"), "{line}");
    }
    assert_eq!(store.asked().len(), 0);
}

#[test]
fn a_redirect_of_the_store_takes_no_token_along() {
    let elsewhere = Fake::start(|asked| shelf().answer(asked));
    let target = elsewhere.url("");
    let issuer = issuer(3600, knows_the_secret);
    let store = Fake::start(move |asked| -> Reply {
        if is_media(asked) {
            return reply(307, "").header("Location", format!("{target}{}", asked.path));
        }
        shelf().answer(asked)
    });
    let (authority, dest) = (secured(&issuer), folder());
    let run = with_secret(pull(&store, dest.path()), &authority).run();
    assert_pulled(&run, dest.path());
    assert!(!elsewhere.asked().is_empty());
    assert!(elsewhere.asked().iter().all(|asked| asked.header("authorization").is_empty()));
}
