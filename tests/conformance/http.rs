//! A web server: the arena's, behind a login, bound headers and a signed query.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dray_arena::{Content as Served, FaultOrigin, Script};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::between::{Asked, Between, Fault};
use super::site::{Expiring, Lists, Objects, Place, Site, States, bytes, canary};
use crate::rig::dray::Dray;

pub(crate) const HTTP: Site = Site { name: "http", open: |objects| Box::new(Web::open(objects)) };

const SEGMENTS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

struct Web {
    origin: FaultOrigin,
    front: Arc<Between>,
    password: String,
    cookie: String,
    token: String,
    signature: String,
}

fn path_of(key: &str) -> String {
    format!("/{}", utf8_percent_encode(key, SEGMENTS))
}

impl Web {
    fn open(objects: &Objects<'_>) -> Self {
        let origin = FaultOrigin::start(Vec::new(), Script::calm()).expect("start the arena");
        let front = Arc::new(Between::before(&origin.url("")));
        let this = Self {
            origin,
            front,
            password: canary("password"),
            cookie: canary("cookie"),
            token: canary("header"),
            signature: canary("query"),
        };
        this.put(objects);
        this
    }
}

impl Place for Web {
    fn put(&self, objects: &Objects<'_>) {
        for (key, content) in objects {
            self.origin.put(&path_of(key), Served::bytes(bytes(content)));
        }
    }

    fn uri(&self, path: &str) -> String {
        let (host, path) = (self.front.host(), path_of(path));
        format!("http://user:{}@{host}{path}?X-Amz-Signature={}", self.password, self.signature)
    }

    fn here(&self, dray: Dray) -> Dray {
        let headers = serde_json::json!({"Cookie": self.cookie, "X-Token": self.token});
        dray.env("127.0.0.1-headers", headers.to_string())
    }

    fn front(&self) -> &Between {
        &self.front
    }

    fn canaries(&self) -> Vec<String> {
        vec![self.password.clone(), self.cookie.clone(), self.token.clone(), self.signature.clone()]
    }

    fn credentials(&self) -> &'static str {
        "127.0.0.1-headers"
    }

    fn is_list(&self, _: &Asked) -> bool {
        false
    }

    fn is_pinned(&self, asked: &Asked) -> bool {
        asked.header("if-match").starts_with('"')
    }

    fn lists(&self) -> Lists {
        Lists::Nothing
    }

    fn states(&self) -> States {
        States::Nothing
    }

    /// A source that redirects to a signed link, whose signature ends.
    fn expiring(&self, after: usize) -> Option<Expiring> {
        let store = Arc::new(Between::before(&self.origin.url("")));
        let link = canary("link");
        let (ended, renewals) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (first, signature) = (format!("{link}1"), link.clone());
        let (is_over, count, place) = (ended.clone(), renewals.clone(), store.host());
        self.front.judge(move |asked| {
            let path = asked.target.split('?').next().unwrap_or_default();
            let number = 1 + u32::from(is_over.load(Ordering::SeqCst));
            count.fetch_add(usize::from(1 < number), Ordering::SeqCst);
            let link = Fault::redirect(&format!("http://{place}{path}?sig={signature}{number}"));
            Some(if 1 < number { Fault::Late(Some(Box::new(link))) } else { link })
        });
        let mut asked_for = 0;
        store.judge(move |asked| {
            if !asked.wants_bytes() || !asked.target.contains(&first) {
                return None;
            }
            asked_for += 1;
            ended.fetch_or(after < asked_for, Ordering::SeqCst);
            (after < asked_for).then(|| Fault::status(403, "Request has expired"))
        });
        let source = self.uri("m/weights");
        Some(Expiring {
            pull: Box::new(move |dest| Dray::pull(&source, dest)),
            renewals: Box::new(move || {
                let _alive = &store;
                renewals.load(Ordering::SeqCst)
            }),
            secrets: vec![link],
        })
    }
}
