//! S3: the arena's endpoint, which checks signatures, and SeaweedFS, which nobody here wrote.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dray_arena::{Bucket, Content as Served, S3Arena};

use super::between::{Asked, Between, Fault};
use super::site::{Expiring, Holds, Lists, Objects, Place, Site, States, bytes, canary};
use crate::rig::dray::Dray;
use crate::rig::s3::{ACCESS_KEY, SECRET_KEY};
use crate::rig::{s3, weed};

pub(crate) const ARENA: Site = Site { name: "s3", open: |objects| Box::new(Arena::open(objects)) };
pub(crate) const WEED: Site = Site { name: "s3-weed", open: |objects| Box::new(Weed::open(objects)) };

const BUCKET: &str = "bucket";

struct Arena {
    arena: Arc<S3Arena>,
    front: Arc<Between>,
    token: String,
}

impl Arena {
    fn open(objects: &Objects<'_>) -> Self {
        let arena = S3Arena::start([Bucket::new(BUCKET)]).expect("start the arena");
        let front = Arc::new(Between::before(&arena.endpoint()));
        let this = Self { arena: Arc::new(arena), front, token: canary("session") };
        this.put(objects);
        this
    }
}

fn is_list(asked: &Asked) -> bool {
    asked.target.contains("list-type=2")
}

fn document(status: u16, code: &str) -> Fault {
    Fault::status(status, &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>"))
}

impl Place for Arena {
    fn put(&self, objects: &Objects<'_>) {
        for (key, content) in objects {
            self.arena.put(BUCKET, key, Served::bytes(bytes(content)));
        }
    }

    fn uri(&self, path: &str) -> String {
        format!("s3://{BUCKET}/{path}")
    }

    fn here(&self, dray: Dray) -> Dray {
        dray.env("AWS_ENDPOINT_URL", self.front.url(""))
            .env("AWS_ACCESS_KEY_ID", self.arena.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.arena.secret_key())
            .env("AWS_SESSION_TOKEN", &self.token)
            .env("AWS_REGION", "us-east-1")
    }

    fn front(&self) -> &Between {
        &self.front
    }

    fn canaries(&self) -> Vec<String> {
        vec![self.arena.access_key().to_owned(), self.arena.secret_key().to_owned(), self.token.clone()]
    }

    fn credentials(&self) -> &'static str {
        "AWS_ACCESS_KEY_ID"
    }

    fn is_list(&self, asked: &Asked) -> bool {
        is_list(asked)
    }

    fn is_pinned(&self, asked: &Asked) -> bool {
        asked.header("if-match").starts_with('"')
    }

    fn lists(&self) -> Lists {
        Lists::Pages(1000)
    }

    fn states(&self) -> States {
        States::Checksum
    }

    fn denial(&self) -> Fault {
        document(403, "AccessDenied")
    }

    /// The credentials of a container, whose first session is refused as expired.
    fn expiring(&self, after: usize) -> Option<Expiring> {
        let issued = Arc::new(AtomicUsize::new(0));
        let (count, first) = (Arc::clone(&issued), self.token.clone());
        let keys = (self.arena.access_key().to_owned(), self.arena.secret_key().to_owned());
        let issuer = Between::alone(move |_| {
            let token = format!("{first}{}", count.fetch_add(1, Ordering::SeqCst) + 1);
            let body = serde_json::json!({
                "AccessKeyId": keys.0, "SecretAccessKey": keys.1, "Token": token, "Expiration": "2099-01-01T00:00:00Z",
            });
            Some(Fault::Late(Some(Box::new(Fault::status(200, &body.to_string())))))
        });
        let (first, mut asked_for) = (format!("{}1", self.token), 0);
        self.front.judge(move |asked| {
            if !asked.wants_bytes() || !asked.everything().contains(&first) {
                return None;
            }
            asked_for += 1;
            (after < asked_for).then(|| document(403, "ExpiredToken"))
        });
        let (endpoint, url) = (self.front.url(""), issuer.url("/credentials"));
        let source = self.uri("m");
        Some(Expiring {
            pull: Box::new(move |dest| {
                Dray::pull(&source, dest)
                    .env("AWS_ENDPOINT_URL", endpoint)
                    .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
                    .env("AWS_REGION", "us-east-1")
            }),
            renewals: Box::new(move || {
                let _alive = &issuer;
                issued.load(Ordering::SeqCst) - 1
            }),
            secrets: vec![self.token.clone()],
        })
    }
}

/// A folder of the one bucket: a bucket takes SeaweedFS seconds to make.
struct Weed {
    folder: String,
    front: Between,
}

fn bucket() -> &'static s3::Bucket {
    static BUCKET: OnceLock<s3::Bucket> = OnceLock::new();
    BUCKET.get_or_init(|| weed().bucket("conformance"))
}

impl Weed {
    fn open(objects: &Objects<'_>) -> Self {
        let this = Self { folder: canary("folder"), front: Between::before(&weed().address()) };
        this.put(objects);
        this
    }
}

impl Place for Weed {
    fn put(&self, objects: &Objects<'_>) {
        let keys: Vec<String> = objects.iter().map(|(key, _)| format!("{}/{key}", self.folder)).collect();
        let objects: Vec<_> = keys.iter().zip(objects).map(|(key, (_, content))| (key.as_str(), *content)).collect();
        bucket().put_stating("CRC64NVME", &objects);
    }

    fn uri(&self, path: &str) -> String {
        bucket().uri(&format!("{}/{path}", self.folder))
    }

    fn here(&self, dray: Dray) -> Dray {
        dray.s3(&self.front.url(""))
    }

    fn front(&self) -> &Between {
        &self.front
    }

    fn canaries(&self) -> Vec<String> {
        vec![ACCESS_KEY.to_owned(), SECRET_KEY.to_owned()]
    }

    fn credentials(&self) -> &'static str {
        "AWS_ACCESS_KEY_ID"
    }

    fn is_list(&self, asked: &Asked) -> bool {
        is_list(asked)
    }

    fn is_pinned(&self, asked: &Asked) -> bool {
        asked.header("if-match").starts_with('"')
    }

    fn lists(&self) -> Lists {
        Lists::Pages(1000)
    }

    fn holds(&self) -> Holds {
        Holds::SafeNames
    }

    fn states(&self) -> States {
        States::Checksum
    }

    fn denial(&self) -> Fault {
        document(403, "AccessDenied")
    }

    fn expiring(&self, _: usize) -> Option<Expiring> {
        None
    }
}
