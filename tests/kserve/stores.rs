//! What the servers hold that several areas read.

use std::sync::{Arc, OnceLock};

use dray_arena::{FaultOrigin, Options, Script};

use super::row::Row;
use crate::rig::nginx::Nginx;
use crate::rig::oracle::{Content, MIB};
use crate::rig::s3::{ACCESS_KEY, Bucket, SECRET_KEY};
use crate::rig::{nginx, nginx_before_weed, weed};

/// Objects of the one bucket that most S3 rows read.
pub(crate) struct Stored {
    pub(crate) bucket: Bucket,
    pub(super) config: Content,
    pub(super) weights: Content,
    pub(super) deep: Content,
    pub(super) empty: Content,
    pub(super) other: Content,
}

pub(crate) fn stored() -> &'static Stored {
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
            ("plain/config.json", &stored.config),
            ("plain/weights.bin", &stored.weights),
            ("plain/sub/deep.bin", &stored.deep),
            ("model/weights.bin", &stored.weights),
            ("model-v2/other.bin", &stored.other),
            ("model.txt", &stored.config),
            ("zero/__init__.py", &stored.empty),
            ("zero/weights.bin", &stored.weights),
            ("zeroes/a/b", &stored.empty),
            ("packed/m.tar.gz", &stored.other),
            ("two/m.tar.gz", &stored.other),
            ("two/n.bin", &stored.config),
        ]);
        stored
    })
}

impl Stored {
    /// The files of `plain/`.
    pub(super) fn plain(&self) -> [(&'static str, &Content); 3] {
        [("config.json", &self.config), ("weights.bin", &self.weights), ("sub/deep.bin", &self.deep)]
    }

    /// A row that takes `plain/`.
    pub(super) fn takes_plain(&self, name: &'static str) -> Row {
        Row::takes(name, self.bucket.uri("plain"), &self.plain())
    }

    /// A row that asks for `plain/` and fails.
    pub(super) fn fails_plain(&self, name: &'static str, exit: i32, last: &'static str) -> Row {
        Row::fails(name, self.bucket.uri("plain"), exit, last)
    }
}

impl Row {
    /// Endpoint and keys by variables, as the webhook injects them.
    pub(super) fn keyed(self, endpoint: &str) -> Self {
        self.env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_DEFAULT_REGION", "us-east-1")
    }
}

/// Files of one web server.
pub(super) struct Site {
    pub(super) nginx: Nginx,
    pub(super) weights: Content,
    pub(super) small: Content,
    pub(super) empty: Content,
}

pub(super) fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let site = Site {
            nginx: nginx(),
            weights: Content::new(1, 2 * MIB + 1),
            small: Content::new(2, 300),
            empty: Content::new(3, 0),
        };
        let put = |content: &Content, path: &str| content.write_file(&site.nginx.root().join(path));
        for path in ["weights", "guarded/weights", "stored/blob-17", "moved/weights", "a name"] {
            put(&site.weights, path);
        }
        for path in ["typed/json/config.json", "typed/html/page.model", "m.tar.gz", "m.git", "site.github.io/file"] {
            put(&site.small, path);
        }
        put(&site.small, "model.pkl.gz");
        put(&site.empty, "empty");
        site
    })
}

/// nginx before SeaweedFS, with a certificate of a private authority.
pub(super) fn tls() -> &'static Nginx {
    static TLS: OnceLock<Nginx> = OnceLock::new();
    TLS.get_or_init(|| nginx_before_weed("100m"))
}

/// The path of the one file of an origin that misbehaves.
pub(super) const PATH: &str = "/models/weights.bin";

/// An origin of a row's own with one file, and that file.
pub(super) fn origin(size: u64, script: Script, options: Options) -> (Arc<FaultOrigin>, Content) {
    let content = Content::new(7, size);
    let mut bytes = Vec::new();
    content.write_to(&mut bytes);
    let served = dray_arena::Content::bytes(bytes);
    let origin = FaultOrigin::start_with(vec![(PATH.to_owned(), served)], script, options);
    (Arc::new(origin.expect("start the origin")), content)
}

/// The same as an S3 endpoint that checks no signature: `s3://bucket/model` holds `weights.bin`. `bucket` is the part
/// of each path that names the bucket: empty where the host does.
pub(super) fn s3_origin(bucket: &str, size: u64, script: Script) -> (Arc<FaultOrigin>, Content) {
    let content = Content::new(7, size);
    let mut bytes = Vec::new();
    content.write_to(&mut bytes);
    let served = dray_arena::Content::bytes(bytes);
    let listing = format!(
        "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bucket</Name>\
         <Prefix>model/</Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents>\
         <Key>model/weights.bin</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"{}\"</ETag>\
         <Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>",
        served.etag()
    );
    let listing = dray_arena::Content::bytes(listing);
    let at_root = if bucket.is_empty() { "/".to_owned() } else { bucket.to_owned() };
    let objects = vec![
        (at_root, listing.clone()),
        (format!("{bucket}/"), listing),
        (format!("{bucket}/model/weights.bin"), served),
    ];
    let origin = FaultOrigin::start_with(objects, script, Options::default()).expect("start the origin");
    (Arc::new(origin), content)
}
