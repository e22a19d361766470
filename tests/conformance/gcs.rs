//! GCS: fake-gcs-server, asked with tokens that a service account's key signs, or that an issuer gives.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::between::{Asked, Between, Fault};
use super::site::{Expiring, Lists, Objects, Place, Site, States, canary};
use crate::rig::dray::Dray;
use crate::rig::gcs::Bucket;
use crate::rig::{fake_gcs, folder};

pub(crate) const GCS: Site = Site { name: "gs", open: |objects| Box::new(Gcs::open(objects)) };

/// Objects of a page: the emulator's own are larger than a test needs.
const PAGE: usize = 9;

struct Gcs {
    bucket: Bucket,
    front: Arc<Between>,
    around: tempfile::TempDir,
    key: String,
}

fn paged(target: &str) -> String {
    target.replace("maxResults=1000", &format!("maxResults={PAGE}"))
}

fn refusal(status: u16, message: &str, why: &str) -> Fault {
    let body = json!({"error": {"code": status, "message": message, "errors": [{"reason": why}]}});
    Fault::status(status, &body.to_string())
}

impl Gcs {
    fn open(objects: &Objects<'_>) -> Self {
        let bucket = fake_gcs().bucket(&canary("gcs"));
        let front = Arc::new(Between::rewriting(&bucket.host(), paged));
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .expect("run openssl; scripts/test-deps.sh installs it");
        let key = String::from_utf8(made.stdout).expect("PEM");
        let around = folder();
        let file = json!({
            "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": key,
            "client_email": "dray@p.iam.gserviceaccount.com", "client_id": "1",
            "token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
        });
        std::fs::write(around.path().join("key.json"), file.to_string()).expect("write");
        let this = Self { bucket, front, around, key };
        this.put(objects);
        this
    }
}

impl Place for Gcs {
    fn put(&self, objects: &Objects<'_>) {
        self.bucket.put(objects);
    }

    fn uri(&self, path: &str) -> String {
        self.bucket.uri(path)
    }

    fn here(&self, dray: Dray) -> Dray {
        dray.env("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", self.front.url("/storage/v1/"))
            .env("GOOGLE_APPLICATION_CREDENTIALS", self.around.path().join("key.json"))
    }

    fn front(&self) -> &Between {
        &self.front
    }

    fn canaries(&self) -> Vec<String> {
        self.key.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned).collect()
    }

    fn credentials(&self) -> &'static str {
        "GOOGLE_APPLICATION_CREDENTIALS"
    }

    fn is_list(&self, asked: &Asked) -> bool {
        asked.target.contains("/o?")
    }

    fn is_pinned(&self, asked: &Asked) -> bool {
        asked.target.contains("generation=")
    }

    fn lists(&self) -> Lists {
        Lists::Pages(PAGE)
    }

    fn states(&self) -> States {
        States::Checksum
    }

    fn denial(&self) -> Fault {
        refusal(403, "the caller does not have storage.objects.get access", "forbidden")
    }

    /// A user's refresh token, of which an issuer makes access tokens; the first is refused as Google refuses one.
    fn expiring(&self, after: usize) -> Option<Expiring> {
        let issued = Arc::new(AtomicUsize::new(0));
        let (count, token) = (Arc::clone(&issued), canary("access"));
        let (client, refresh) = (canary("client"), canary("refresh"));
        let secrets = vec![token.clone(), client.clone(), refresh.clone()];
        let first = format!("{token}1");
        let issuer = Between::alone(move |_| {
            let token = format!("{token}{}", count.fetch_add(1, Ordering::SeqCst) + 1);
            let body = json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"});
            Some(Fault::Late(Some(Box::new(Fault::status(200, &body.to_string())))))
        });
        let mut asked_for = 0;
        self.front.judge(move |asked| {
            if !asked.wants_bytes() || !asked.header("authorization").contains(&first) {
                return None;
            }
            asked_for += 1;
            let challenge = "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"";
            (after < asked_for).then(|| match refusal(401, "Invalid Credentials", "authError") {
                Fault::Answer { status, body, .. } => {
                    Fault::Answer { status, headers: vec![("WWW-Authenticate", challenge.to_owned())], body }
                }
                other => other,
            })
        });
        let file = self.around.path().join("user.json");
        let user = json!({
            "type": "authorized_user", "client_id": "client", "client_secret": client,
            "refresh_token": refresh, "token_uri": issuer.url("/token"),
        });
        std::fs::write(&file, user.to_string()).expect("write");
        let (source, endpoint) = (self.uri("m"), self.front.url("/storage/v1/"));
        Some(Expiring {
            pull: Box::new(move |dest| {
                Dray::pull(&source, dest)
                    .env("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", endpoint)
                    .env("GOOGLE_APPLICATION_CREDENTIALS", file)
            }),
            renewals: Box::new(move || {
                let _alive = &issuer;
                issued.load(Ordering::SeqCst) - 1
            }),
            secrets,
        })
    }
}
