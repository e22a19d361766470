//! `STORAGE_CONFIG`, `STORAGE_OVERRIDE_CONFIG`, anonymous access, and the hints of upstream.

use dray_arena::Script;
use serde_json::{Value, json};

use super::row::Row;
use super::stores::{Stored, s3_origin, stored};
use crate::rig::moto;
use crate::rig::s3::{ACCESS_KEY, SECRET_KEY};
use crate::rig::server::free_ports;

const CONFIG: &str = "STORAGE_CONFIG";
const OVERRIDE: &str = "STORAGE_OVERRIDE_CONFIG";

pub(super) fn rows() -> Vec<Row> {
    let stored = stored();
    let mut rows = objects(stored);
    rows.extend(anonymous(stored));
    rows.extend(hints(stored));
    rows.extend(addressing());
    rows
}

fn config(endpoint: &str, secret: &str) -> Value {
    json!({"type": "s3", "access_key_id": ACCESS_KEY, "secret_access_key": secret, "endpoint_url": endpoint,
           "region": "us-east-1", "bucket": "elsewhere", "default_bucket": "elsewhere"})
}

fn objects(stored: &Stored) -> Vec<Row> {
    let endpoint = &stored.bucket.endpoint;
    let [closed] = free_ports();
    let closed = format!("http://127.0.0.1:{closed}");
    let takes = |name| stored.takes_plain(name);
    let fails = |name, last| stored.fails_plain(name, 4, last);
    let source = stored.bucket.uri("plain");
    let refuses = |name, last| Row::refuses(name, &[&source, "{0}"], 2, last);
    let right = config(endpoint, SECRET_KEY).to_string();
    let wrong = config(endpoint, "canary-canary").to_string();
    let other = json!({"type": "hdfs", "access_key_id": "x", "endpoint_url": closed}).to_string();
    let untyped = json!({"access_key_id": "x", "endpoint_url": closed}).to_string();
    let secret = json!({"secret_access_key": SECRET_KEY}).to_string();
    vec![
        takes("configuration/all-of-it").env(CONFIG, &right),
        takes("configuration/override-alone").env(OVERRIDE, &right),
        takes("configuration/wins-over-variables")
            .env(CONFIG, &right)
            .env("AWS_ENDPOINT_URL", &closed)
            .env("AWS_ACCESS_KEY_ID", "old")
            .env("AWS_SECRET_ACCESS_KEY", "canary"),
        takes("configuration/drops-the-token-of-another-key").env(CONFIG, &right).env("AWS_SESSION_TOKEN", "stale"),
        takes("configuration/absent-keys-leave-variables").keyed(endpoint).env(CONFIG, r#"{"type": "s3"}"#),
        takes("configuration/key-by-key")
            .keyed(&closed)
            .env(CONFIG, json!({"type": "s3", "endpoint_url": endpoint}).to_string()),
        takes("configuration/override-wins").env(CONFIG, &wrong).env(OVERRIDE, &secret),
        takes("configuration/another-type").keyed(endpoint).env(CONFIG, other),
        takes("configuration/no-type").keyed(endpoint).env(CONFIG, untyped),
        takes("configuration/empty-object").keyed(endpoint).env(CONFIG, "{}"),
        takes("configuration/empty-text").keyed(endpoint).env(CONFIG, ""),
        takes("configuration/for-each-pair").env(CONFIG, &right).also_plain(stored),
        fails("configuration/wrong-key", "refuses access").env(CONFIG, &wrong),
        fails("configuration/anonymous", "anonymous, as asked")
            .env(CONFIG, &right)
            .env(OVERRIDE, r#"{"anonymous": "True"}"#),
        refuses("configuration/no-json", "STORAGE_CONFIG is not a JSON object").env(CONFIG, "{canary"),
        refuses("configuration/an-array", "STORAGE_CONFIG is not a JSON object").env(CONFIG, r#"["canary"]"#),
        refuses("configuration/override-no-json", "STORAGE_OVERRIDE_CONFIG is not a JSON object")
            .env(OVERRIDE, "canary"),
    ]
}

impl Row {
    /// The same source once more, into DEST 1.
    fn also_plain(mut self, stored: &Stored) -> Self {
        self.argv.extend([stored.bucket.uri("plain"), "{1}".to_owned()]);
        self.dest(&stored.plain())
    }
}

fn anonymous(stored: &Stored) -> Vec<Row> {
    let endpoint = &stored.bucket.endpoint;
    let asked = "awsAnonymousCredential";
    let fails = |name| stored.fails_plain(name, 4, "anonymous, as asked").keyed(endpoint);
    let takes = |name| stored.takes_plain(name).keyed(endpoint);
    let public = moto().bucket("kserve-public");
    public.put_public(&[("model/config.json", &stored.config)]);
    vec![
        fails("configuration/anonymous-true").env(asked, "true"),
        fails("configuration/anonymous-in-any-case").env(asked, "TRUE"),
        takes("configuration/anonymous-false").env(asked, "false"),
        takes("configuration/anonymous-empty").env(asked, ""),
        Row::takes(
            "configuration/anonymous-for-a-public-bucket",
            public.uri("model"),
            &[("config.json", &stored.config)],
        )
        .env("AWS_ENDPOINT_URL", &public.endpoint)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env(asked, "true"),
        stored.fails_plain("configuration/no-credentials", 4, "refuses access").env("AWS_ENDPOINT_URL", endpoint),
    ]
}

/// Where the bucket's name goes: only one of the two finds anything at these servers.
fn addressing() -> Vec<Row> {
    let row = |name, bucket, host| {
        let (origin, content) = s3_origin(bucket, 1000, Script::calm());
        let place = origin.url("").replace("127.0.0.1", host);
        Row::takes(name, "s3://bucket/model", &[("weights.bin", &content)]).keyed(&place).origin(&origin)
    };
    let asked = "S3_USER_VIRTUAL_BUCKET";
    vec![
        row("configuration/bucket-in-the-path", "/bucket", "127.0.0.1"),
        row("configuration/bucket-in-the-path-on-demand", "/bucket", "127.0.0.1").env(asked, "False"),
        row("configuration/bucket-in-the-host", "", "localhost")
            .env(asked, "True")
            .dray_only("few resolvers of the C library know the names below localhost"),
    ]
}

fn hints(stored: &Stored) -> Vec<Row> {
    let row = |name, hints: &[(&'static str, &str)]| {
        let row = stored.takes_plain(name).keyed(&stored.bucket.endpoint);
        hints.iter().fold(row, |row, (name, value)| row.env(name, *value))
    };
    vec![
        row(
            "configuration/hints-of-s3",
            &[
                ("S3_CONNECT_TIMEOUT", "15"),
                ("S3_READ_TIMEOUT", "30"),
                ("S3_MAX_ATTEMPTS", "3"),
                ("S3_MAX_FILE_CONCURRENCY", "2"),
                ("S3_USE_ACCELERATE", "false"),
                ("S3_ENDPOINT", "nowhere.invalid"),
                ("S3_USE_HTTPS", "1"),
                ("S3_USER_VIRTUAL_BUCKET", "false"),
            ],
        ),
        row(
            "configuration/hints-of-the-webhook",
            &[
                ("HF_HUB_ENABLE_HF_TRANSFER", "1"),
                ("HF_XET_HIGH_PERFORMANCE", "1"),
                ("HF_XET_NUM_CONCURRENT_RANGE_GETS", "8"),
                ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
                ("TOKIO_WORKER_THREADS", "1"),
                ("AZURE_MAX_FILE_CONCURRENCY", "4"),
            ],
        ),
        row("configuration/not-confidential", &[("CONFIDENTIAL_ENABLED", "false")]),
        row("configuration/accelerated-elsewhere", &[("S3_USE_ACCELERATE", "true")]),
    ]
}
