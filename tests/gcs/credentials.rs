//! As whom the store is asked: files of each kind, the metadata service, nobody. And who may see the token.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::assert_silent;
use crate::rig::dray::{Dray, Run};
use crate::rig::fake::{Asked, Fake, Reply, reply};
use crate::rig::folder;
use crate::rig::oracle::tree;
use crate::shelf::{BUCKET, Shelf, is_media, refusal};

const TOKEN: &str = "canary-access-token";
const OBJECT: &[u8] = b"the weights of a very small model";

fn shelf() -> Shelf {
    Shelf::of(&[("m/weights", OBJECT)])
}

/// A store that lets in who bears [`TOKEN`], and repeats what it was shown to everybody else.
fn store() -> Fake {
    Fake::start(|asked| {
        let shown = asked.header("authorization");
        if shown == format!("Bearer {TOKEN}") { shelf().answer(asked) } else { refusal(401, &format!("bad: {shown}")) }
    })
}

fn token(asked: &Asked) -> Reply {
    let known = asked.header("metadata-flavor") == "Google";
    if !known { reply(403, "") } else { reply(200, issued().to_string()) }
}

fn issued() -> Value {
    json!({
        "access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    })
}

/// A metadata service that answers for a token by `answer`.
fn metadata(answer: fn(&Asked) -> Reply) -> Fake {
    Fake::start(move |asked| match asked.path.as_str() {
        "/" => reply(200, "").header("Metadata-Flavor", "Google"),
        "/computeMetadata/v1/instance/service-accounts/default/token" => answer(asked),
        _ => reply(404, ""),
    })
}

/// A pull of the folder `m` at `store`, everything logged.
pub(crate) fn pull(store: &Fake, dest: &Path) -> Dray {
    Dray::pull(&format!("gs://{BUCKET}/m"), dest)
        .env("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", store.url("/storage/v1/"))
        .env("DRAY_LOG", "trace")
}

fn assert_pulled(run: &Run, dest: &Path) {
    assert_eq!(run.assert_sealed()["assurance"], "origin");
    assert_eq!(fs::read(dest.join("weights")).expect("weights"), OBJECT);
}

/// Writes a file of credentials and returns its path.
fn file(folder: &Path, content: &Value) -> String {
    let path = folder.join("key.json");
    fs::write(&path, content.to_string()).expect("write");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_token_of_the_metadata_service_goes_to_the_store_and_nowhere_else() {
    let (store, metadata, dest) = (store(), metadata(token), folder());
    let run = pull(&store, dest.path()).env("GCE_METADATA_HOST", metadata.host()).run();
    assert_pulled(&run, dest.path());
    assert_silent(&run, dest.path(), &[TOKEN]);
    let asked = store.asked();
    assert!(asked.iter().all(|asked| asked.header("authorization") == format!("Bearer {TOKEN}")), "{asked:?}");
    assert!(metadata.asked().iter().all(|asked| asked.header("authorization").is_empty()));
    let media: Vec<&Asked> = asked.iter().filter(|asked| is_media(asked)).collect();
    assert!(!media.is_empty());
    for asked in media {
        assert_eq!((asked.parameter("generation"), asked.header("accept-encoding")), (Some("17"), "gzip"), "{asked:?}");
    }
}

#[test]
fn a_refused_token_exits_4_and_names_its_source_without_the_token() {
    let (store, metadata, dest) =
        (Fake::start(|asked| refusal(403, &format!("no: {:?}", asked.headers))), metadata(token), folder());
    let run = pull(&store, dest.path()).env("GCE_METADATA_HOST", metadata.host()).run();
    let line = run.assert_fails(4);
    assert!(line.contains("credentials from the metadata service") && line.contains("403"), "{line}");
    assert_silent(&run, dest.path(), &[TOKEN]);
    assert!(store.asked().len() <= 2, "once with the token and once as nobody: {:?}", store.asked());
}

#[test]
fn a_machines_account_without_rights_still_reads_a_public_bucket() {
    let store = Fake::start(|asked| {
        if asked.header("authorization").is_empty() { shelf().answer(asked) } else { refusal(403, "no rights") }
    });
    let (metadata, dest) = (metadata(token), folder());
    let run = pull(&store, dest.path()).env("GCE_METADATA_HOST", metadata.host()).run();
    assert_pulled(&run, dest.path());
    let refused = store.asked().iter().filter(|asked| !asked.header("authorization").is_empty()).count();
    assert_eq!(refused, 1, "it is not tried again for every request");
}

#[test]
fn a_machine_without_an_account_reads_as_nobody() {
    let store = Fake::start(|asked| shelf().answer(asked));
    let (metadata, dest) = (metadata(|_| reply(404, "no account")), folder());
    let run = pull(&store, dest.path()).env("GCE_METADATA_HOST", metadata.host()).run();
    assert_pulled(&run, dest.path());
    assert!(store.asked().iter().all(|asked| asked.header("authorization").is_empty()));
}

#[test]
fn a_metadata_service_that_is_none_costs_a_short_wait() {
    let closed = { Fake::start(|_| reply(200, "")).host() };
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = (silent.local_addr().expect("a bound port").to_string(), silent);
    // Another cloud's: it answers, and not as Google's.
    let other = Fake::start(|_| reply(200, issued().to_string()));
    for host in [closed, silent.0.clone(), other.host()] {
        let store = Fake::start(|asked| shelf().answer(asked));
        let dest = folder();
        let run = pull(&store, dest.path()).env("GCE_METADATA_HOST", &host).run();
        assert_pulled(&run, dest.path());
        assert!(run.seconds < 8.0, "{host}: {} s", run.seconds);
    }
    let dest = folder();
    let refusing = Fake::start(|_| refusal(401, "Anonymous caller does not have storage.objects.list access"));
    let run = pull(&refusing, dest.path()).env("NO_GCE_CHECK", "true").run();
    let line = run.assert_fails(4);
    assert!(line.contains("no credentials are configured (GOOGLE_APPLICATION_CREDENTIALS"), "{line}");
    assert!(line.contains("Anonymous caller"), "{line}");
}

#[test]
fn an_emulator_is_asked_without_credentials() {
    let (store, metadata, around) = (Fake::start(|asked| shelf().answer(asked)), metadata(token), folder());
    let run = pull(&store, &around.path().join("dest"))
        .env("STORAGE_EMULATOR_HOST", store.url(""))
        .env("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
        .env("GCE_METADATA_HOST", metadata.host())
        .run();
    assert_pulled(&run, &around.path().join("dest"));
    assert!(store.asked().iter().all(|asked| asked.header("authorization").is_empty()));
    assert_eq!(metadata.asked().len(), 0);
}

fn private_key() -> String {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .expect("run openssl; scripts/test-deps.sh installs it");
    String::from_utf8(made.stdout).expect("PEM")
}

#[test]
fn a_service_accounts_key_signs_and_is_never_shown() {
    let store = Fake::start(|asked| match asked.header("authorization").strip_prefix("Bearer ey") {
        Some(_) => shelf().answer(asked),
        None => refusal(401, "who are you"),
    });
    let (around, pem) = (folder(), private_key());
    let key = file(
        around.path(),
        &json!({
            "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": pem,
            "client_email": "dray@p.iam.gserviceaccount.com", "client_id": "1",
            "token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
        }),
    );
    let dest = around.path().join("dest");
    let run = pull(&store, &dest).env("GOOGLE_APPLICATION_CREDENTIALS", &key).run();
    assert_pulled(&run, &dest);
    let shown = store.asked()[0].header("authorization").to_owned();
    let jwt = shown.strip_prefix("Bearer ").expect("a bearer token");
    let signature = jwt.rsplit('.').next().expect("a signature");
    let line = pem.lines().nth(3).expect("a line of the key");
    assert_silent(&run, &dest, &[jwt, signature, line]);
}

/// A file of workload identity federation: a token in a file, exchanged at `issuer`.
pub(crate) fn federation(folder: &Path, issuer: &Fake) -> String {
    let subject = folder.join("subject");
    fs::write(&subject, "canary-subject-token").expect("write");
    file(
        folder,
        &json!({
            "type": "external_account", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
            "token_url": issuer.url("/sts"), "credential_source": { "file": subject },
        }),
    )
}

#[test]
fn a_federated_identity_is_exchanged_for_a_token() {
    let issuer = Fake::start(|asked| {
        let good = asked.body.contains("canary-subject-token") && asked.body.contains("devstorage.read_only");
        if good { reply(200, issued().to_string()) } else { reply(400, "") }
    });
    let (store, around) = (store(), folder());
    let dest = around.path().join("dest");
    let key = federation(around.path(), &issuer);
    let run = pull(&store, &dest).env("GOOGLE_APPLICATION_CREDENTIALS", &key).run();
    assert_pulled(&run, &dest);
    assert_silent(&run, &dest, &[TOKEN, "canary-subject-token"]);
    assert!(store.asked().iter().all(|asked| !format!("{asked:?}").contains("canary-subject")));
}

#[test]
fn an_issuer_that_refuses_exits_4_and_its_words_are_not_repeated() {
    let issuer = Fake::start(|asked| {
        let echo = json!({"error": "invalid_grant", "error_description": asked.body});
        reply(400, echo.to_string())
    });
    let (store, around) = (store(), folder());
    let key = federation(around.path(), &issuer);
    let dest = around.path().join("dest");
    let run = pull(&store, &dest).env("GOOGLE_APPLICATION_CREDENTIALS", &key).run();
    let line = run.assert_fails(4);
    for word in ["GOOGLE_APPLICATION_CREDENTIALS", "external_account", "400", "invalid_grant"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_silent(&run, &dest, &["canary-subject-token"]);
    assert_eq!((store.asked().len(), tree(&dest).len()), (0, 0));
}

#[test]
fn an_issuer_that_is_down_is_asked_again_and_then_exits_7() {
    let times = AtomicUsize::new(0);
    let issuer = Fake::start(move |_| match times.fetch_add(1, Ordering::Relaxed) {
        0 => reply(503, ""),
        _ => reply(200, issued().to_string()),
    });
    let (store, around) = (store(), folder());
    let dest = around.path().join("dest");
    let key = federation(around.path(), &issuer);
    assert_pulled(&pull(&store, &dest).env("GOOGLE_APPLICATION_CREDENTIALS", &key).run(), &dest);

    let down = Fake::start(|_| reply(503, "canary-text"));
    let key = federation(around.path(), &down);
    let dest = around.path().join("other");
    let run = pull(&store, &dest).env("GOOGLE_APPLICATION_CREDENTIALS", &key).within(Duration::from_secs(30)).run();
    assert!(run.assert_fails(7).contains("503"), "{}", run.last_line());
    assert_silent(&run, &dest, &["canary-text"]);
}

#[test]
fn gclouds_own_file_refreshes_a_users_token() {
    let issuer = Fake::start(|asked| {
        if asked.body.contains("canary-refresh") { reply(200, issued().to_string()) } else { reply(400, "") }
    });
    let (store, home) = (store(), folder());
    let gcloud = home.path().join(".config/gcloud");
    fs::create_dir_all(&gcloud).expect("create folder");
    let user = json!({
        "type": "authorized_user", "client_id": "client", "client_secret": "canary-client-secret",
        "refresh_token": "canary-refresh-token", "token_uri": issuer.url("/token"),
    });
    fs::write(gcloud.join("application_default_credentials.json"), user.to_string()).expect("write");
    let dest = home.path().join("dest");
    let run = pull(&store, &dest).env("HOME", home.path()).run();
    assert_pulled(&run, &dest);
    assert_silent(&run, &dest, &[TOKEN, "canary-client-secret", "canary-refresh-token"]);
    assert!(issuer.asked().iter().all(|asked| !asked.body.contains("devstorage")), "a user's own scopes hold");
}

#[test]
fn a_file_that_is_no_credentials_exits_2_before_the_store_is_asked() {
    let (store, around) = (store(), folder());
    for content in [
        json!({"type": "canary secret"}),
        json!("canary"),
        json!({"type": "pigeon_post", "private_key": "canary"}),
        json!({"type": "service_account", "private_key": "canary"}),
        json!({"type": "service_account", "private_key": "canary", "private_key_id": "canary", "client_email": "x"}),
    ] {
        let dest = around.path().join("dest");
        let key = file(around.path(), &content);
        let run = pull(&store, &dest).env("GOOGLE_APPLICATION_CREDENTIALS", &key).run();
        let line = run.assert_fails(2);
        assert!(line.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{line}");
        assert_silent(&run, &dest, &["canary"]);
    }
    let run = pull(&store, around.path()).env("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/key.json").run();
    run.assert_fails(2);
    assert_eq!(store.asked().len(), 0);
}
