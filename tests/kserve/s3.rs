//! Pairs from S3: mapping, filters, credentials, `STORAGE_CONFIG`, trust.

use std::fs;
use std::sync::OnceLock;

use serde_json::json;

use crate::Row;
use crate::rig::oracle::{Content, MIB};
use crate::rig::s3::{ACCESS_KEY, Bucket, SECRET_KEY};
use crate::rig::server::free_ports;
use crate::rig::{folder, moto, nginx_before_weed, weed};

/// Objects of the one bucket that these rows read.
struct Stored {
    bucket: Bucket,
    config: Content,
    weights: Content,
    deep: Content,
    empty: Content,
    other: Content,
}

fn stored() -> &'static Stored {
    static STORED: OnceLock<Stored> = OnceLock::new();
    STORED.get_or_init(|| {
        let stored = Stored {
            bucket: weed().bucket("kserve"),
            config: Content::new(1, 300),
            weights: Content::new(2, 2 * MIB + 1),
            deep: Content::new(3, 77),
            empty: Content::new(4, 0),
            other: Content::new(5, 99),
        };
        stored.bucket.put(&[
            ("model/config.json", &stored.config),
            ("model/weights.bin", &stored.weights),
            ("model/sub/deep.bin", &stored.deep),
            ("model/__init__.py", &stored.empty),
            ("model-v2/other.bin", &stored.other),
            ("packed/m.tar.gz", &stored.other),
            ("two/m.tar.gz", &stored.other),
            ("two/n.bin", &stored.config),
            ("star/*.bin", &stored.other),
        ]);
        stored
    })
}

impl Stored {
    fn model(&self) -> [(&'static str, &Content); 4] {
        [
            ("config.json", &self.config),
            ("weights.bin", &self.weights),
            ("sub/deep.bin", &self.deep),
            ("__init__.py", &self.empty),
        ]
    }
}

impl Row<'_> {
    /// Endpoint and keys by variables, as the webhook injects them.
    pub(super) fn keyed(self, endpoint: &str) -> Self {
        self.env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_DEFAULT_REGION", "us-east-1")
    }
}

#[test]
fn keys_are_mapped_below_the_prefix() {
    let stored = stored();
    let uri = |path: &str| stored.bucket.uri(path);
    let endpoint = &stored.bucket.endpoint;
    let rows = [
        Row::takes("a prefix, and no sibling of it", uri("model"), &stored.model()),
        Row::takes("a prefix with a slash", uri("model/"), &stored.model()),
        Row::takes(
            "an exact object lands under its basename",
            uri("model/sub/deep.bin"),
            &[("deep.bin", &stored.deep)],
        ),
        Row::takes("a folder within", uri("model/sub"), &[("deep.bin", &stored.deep)]),
        Row::takes("a star is a character", uri("star/*.bin"), &[("*.bin", &stored.other)]),
        Row::takes(
            "an archive among others stays packed",
            uri("two"),
            &[("m.tar.gz", &stored.other), ("n.bin", &stored.config)],
        ),
        Row::fails("a lone archive that is none", uri("packed"), 5, "the archive is damaged"),
        Row::fails("the same by its key", uri("packed/m.tar.gz"), 5, "the archive is damaged"),
        Row::fails("a prefix without objects", uri("mod"), 3, "`mod`"),
        Row::fails("a bucket that is not there", "s3://no-such-bucket/model".to_owned(), 3, "no-such-bucket"),
    ];
    rows.into_iter().for_each(|row| drop(row.keyed(endpoint).check()));
}

#[test]
fn patterns_choose_among_the_files_of_a_prefix() {
    let stored = stored();
    let uri = |path: &str| stored.bucket.uri(path);
    let row = |what: &'static str, allow: &str, ignore: &str, names: &[&'static str]| {
        let files: Vec<_> = stored.model().into_iter().filter(|(name, _)| names.contains(name)).collect();
        assert_eq!(files.len(), names.len(), "{what}");
        let row = Row::takes(what, uri("model"), &files);
        row.env("STORAGE_ALLOW_PATTERNS", allow).env("STORAGE_IGNORE_PATTERNS", ignore)
    };
    let exact = [("weights.bin", &stored.weights)];
    let rows = [
        row("a JSON array", r#"["*.json", "*.py"]"#, "", &["config.json", "__init__.py"]),
        row("a JSON string", r#""*.json""#, "", &["config.json"]),
        row(
            "between commas, a star crosses folders",
            " *.bin , *.json",
            "",
            &["weights.bin", "sub/deep.bin", "config.json"],
        ),
        row("ignored only", "", r#"["sub/*", "*.py"]"#, &["config.json", "weights.bin"]),
        row("ignored wins", "*.bin", "sub/*", &["weights.bin"]),
        row("beside a flag's variable", "*.bin", "", &["weights.bin"]).env("DRAY_IGNORE", "sub/*"),
        Row::fails("nothing passes", uri("model"), 3, "filters").env("STORAGE_ALLOW_PATTERNS", "*.gguf"),
        Row::takes("an exact object is not filtered", uri("model/weights.bin"), &exact)
            .env("STORAGE_ALLOW_PATTERNS", "*.json"),
    ];
    rows.into_iter().for_each(|row| drop(row.keyed(&stored.bucket.endpoint).check()));
}

fn config(endpoint: &str, secret: &str) -> serde_json::Value {
    json!({"type": "s3", "access_key_id": ACCESS_KEY, "secret_access_key": secret, "endpoint_url": endpoint,
           "region": "us-east-1", "bucket": "elsewhere", "default_bucket": "elsewhere"})
}

#[test]
fn the_storage_configuration_stands_in_for_variables() {
    let stored = stored();
    let endpoint = &stored.bucket.endpoint;
    let [closed] = free_ports();
    let takes = |what| Row::takes(what, stored.bucket.uri("model"), &stored.model());
    let fails = |what, exit, last| Row::fails(what, stored.bucket.uri("model"), exit, last);
    let right = config(endpoint, SECRET_KEY).to_string();
    let wrong = config(endpoint, "canary-canary").to_string();
    let other = json!({"type": "hdfs", "access_key_id": "x", "endpoint_url": format!("http://127.0.0.1:{closed}")});
    let rows = [
        takes("all of it").env("STORAGE_CONFIG", &right),
        takes("it wins over variables")
            .env("STORAGE_CONFIG", &right)
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{closed}"))
            .env("AWS_SECRET_ACCESS_KEY", "wrong")
            .env("AWS_SESSION_TOKEN", "stale"),
        takes("the override wins over it")
            .env("STORAGE_CONFIG", &wrong)
            .env("STORAGE_OVERRIDE_CONFIG", json!({"secret_access_key": SECRET_KEY}).to_string()),
        takes("another type changes nothing").keyed(endpoint).env("STORAGE_CONFIG", other.to_string()),
        fails("a wrong key", 4, "refuses access").env("STORAGE_CONFIG", &wrong),
        fails("anonymous by override", 4, "anonymous, as asked")
            .env("STORAGE_CONFIG", &right)
            .env("STORAGE_OVERRIDE_CONFIG", r#"{"anonymous": "True"}"#),
    ];
    for row in rows {
        let run = row.check();
        assert!(!run.stderr.contains("canary"), "{}", run.stderr);
    }
    let row = Row { trees: vec![None], ..fails("it is no JSON", 2, "STORAGE_CONFIG is not a JSON object") };
    let run = row.env("STORAGE_CONFIG", "{canary").check();
    assert!(!run.stderr.contains("canary"), "{}", run.stderr);
}

#[test]
fn anonymous_is_asked_for_by_name() {
    let stored = stored();
    let uri = stored.bucket.uri("model");
    let endpoint = &stored.bucket.endpoint;
    for (value, exit) in [("true", 4), ("TRUE", 4), ("false", 0), ("", 0)] {
        let trees = vec![Some(if exit == 0 { stored.model().to_vec() } else { Vec::new() })];
        let row = Row { what: "anonymous", sources: vec![uri.clone()], exit, trees, ..Row::default() };
        row.keyed(endpoint).env("awsAnonymousCredential", value).check();
    }
    let public = moto().bucket("kserve-public");
    public.put_public(&[("model/config.json", &stored.config)]);
    Row::takes("a public bucket", public.uri("model"), &[("config.json", &stored.config)])
        .env("AWS_ENDPOINT_URL", &public.endpoint)
        .env("awsAnonymousCredential", "true")
        .check();
}

#[test]
fn private_authorities_and_no_verification() {
    let stored = stored();
    let nginx = nginx_before_weed("100m");
    let uri = || stored.bucket.uri("model");
    let mount = folder();
    fs::copy(nginx.ca(), mount.path().join("cabundle.crt")).expect("copy the CA");
    let mounted = mount.path().to_str().expect("UTF-8");
    let ca = nginx.ca().to_str().expect("UTF-8").to_owned();
    let takes = |what| Row::takes(what, uri(), &stored.model()).keyed(&nginx.s3_tls());
    let fails = |what, exit, last| Row::fails(what, uri(), exit, last).keyed(&nginx.s3_tls());
    let configured = json!({"type": "s3", "verify_ssl": "0"}).to_string();
    let rows = [
        fails("an unknown authority", 7, "certificate"),
        takes("S3_VERIFY_SSL=false").env("S3_VERIFY_SSL", "False"),
        takes("S3_VERIFY_SSL=0").env("S3_VERIFY_SSL", "0"),
        fails("S3_VERIFY_SSL=1", 7, "certificate").env("S3_VERIFY_SSL", "1"),
        takes("verify_ssl of the storage configuration").env("STORAGE_CONFIG", configured),
        takes("AWS_CA_BUNDLE").env("AWS_CA_BUNDLE", &ca),
        takes("ca_bundle of the storage configuration")
            .env("STORAGE_CONFIG", json!({"type": "s3", "ca_bundle": ca}).to_string()),
        takes("the mounted bundle")
            .env("CA_BUNDLE_CONFIGMAP_NAME", "bundle")
            .env("CA_BUNDLE_VOLUME_MOUNT_POINT", mounted),
        fails("a mount without its name", 7, "certificate").env("CA_BUNDLE_VOLUME_MOUNT_POINT", mounted),
        fails("a mounted bundle that is missing", 2, "/nonexistent/cabundle.crt")
            .env("CA_BUNDLE_CONFIGMAP_NAME", "bundle")
            .env("CA_BUNDLE_VOLUME_MOUNT_POINT", "/nonexistent"),
        takes("AWS_CA_BUNDLE before a mounted bundle that is missing")
            .env("AWS_CA_BUNDLE", &ca)
            .env("CA_BUNDLE_CONFIGMAP_NAME", "bundle")
            .env("CA_BUNDLE_VOLUME_MOUNT_POINT", "/nonexistent"),
        takes("no bundle is looked at without verification")
            .env("S3_VERIFY_SSL", "false")
            .env("AWS_CA_BUNDLE", "/nonexistent/ca.pem"),
        fails("AWS_CA_BUNDLE that is missing", 2, "/nonexistent/ca.pem").env("AWS_CA_BUNDLE", "/nonexistent/ca.pem"),
    ];
    rows.into_iter().for_each(|row| drop(row.check()));
}

#[test]
fn hints_of_upstream_change_nothing() {
    let stored = stored();
    let hints = [
        ("S3_CONNECT_TIMEOUT", "15"),
        ("S3_READ_TIMEOUT", "30"),
        ("S3_MAX_ATTEMPTS", "3"),
        ("S3_MAX_FILE_CONCURRENCY", "4"),
        ("S3_USE_ACCELERATE", "true"),
        ("S3_ENDPOINT", "nowhere.invalid"),
        ("S3_USE_HTTPS", "1"),
        ("HF_HUB_ENABLE_HF_TRANSFER", "1"),
        ("HF_XET_HIGH_PERFORMANCE", "1"),
        ("HF_XET_NUM_CONCURRENT_RANGE_GETS", "8"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TOKIO_WORKER_THREADS", "1"),
        ("CONFIDENTIAL_ENABLED", "false"),
    ];
    let row = Row::takes("hints", stored.bucket.uri("model"), &stored.model()).keyed(&stored.bucket.endpoint);
    hints.into_iter().fold(row, |row, (name, value)| row.env(name, value)).check();
}
