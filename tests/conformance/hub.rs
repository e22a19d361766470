//! The Hugging Face Hub: the arena's, with its CDN at another port behind signed links.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use dray_arena::{Content as Served, HubArena, Kept, Repo};

use super::between::{Asked, Between, Fault};
use super::site::{Expiring, Lists, Objects, Place, Replaced, Site, States, bytes, canary};
use crate::rig::dray::Dray;
use crate::rig::oracle::Content;

pub(crate) const HUB: Site = Site { name: "hf", open: |objects| Box::new(Hub::open(objects)) };

/// Entries of a page.
const PAGE: usize = 9;

struct Hub {
    arena: HubArena,
    front: Arc<Between>,
    cdn: Arc<Between>,
    token: String,
    files: Mutex<BTreeMap<String, Content>>,
}

impl Hub {
    fn open(objects: &Objects<'_>) -> Self {
        let arena = HubArena::start([]).expect("start the arena");
        arena.set_page(PAGE);
        let token = format!("hf_{}", canary("token"));
        arena.set_token(&token);
        let front = Arc::new(Between::before(&arena.endpoint()));
        let cdn = Arc::new(Between::before(&arena.cdn()));
        arena.name_cdn(&cdn.host());
        let this = Self { arena, front, cdn, token, files: Mutex::default() };
        this.put(objects);
        this
    }
}

impl Place for Hub {
    /// A commit on top of what is there; all of it is in LFS.
    fn put(&self, objects: &Objects<'_>) {
        let mut files = self.files.lock().expect("the files");
        files.extend(objects.iter().map(|(key, content)| ((*key).to_owned(), (*content).clone())));
        let all: Vec<_> =
            files.iter().map(|(path, content)| (path.as_str(), Served::bytes(bytes(content)), Kept::Lfs)).collect();
        self.arena.put(Repo::model("org/model").with_access(dray_arena::Access::Private).with_commit("main", all));
    }

    fn uri(&self, path: &str) -> String {
        format!("hf://org/model/{path}").trim_end_matches('/').to_owned()
    }

    fn here(&self, dray: Dray) -> Dray {
        dray.env("HF_ENDPOINT", self.front.url("")).env("HF_TOKEN", &self.token)
    }

    fn front(&self) -> &Between {
        &self.front
    }

    fn data(&self) -> &Between {
        &self.cdn
    }

    fn canaries(&self) -> Vec<String> {
        vec![self.token.clone(), "canary-link-".to_owned()]
    }

    fn credentials(&self) -> &'static str {
        "HF_TOKEN"
    }

    fn is_list(&self, asked: &Asked) -> bool {
        asked.target.contains("/tree/")
    }

    /// Behind the link of a commit stands the content of that name.
    fn is_pinned(&self, asked: &Asked) -> bool {
        asked.target.starts_with("/repos/")
    }

    fn lists(&self) -> Lists {
        Lists::Pages(PAGE)
    }

    fn states(&self) -> States {
        States::Nothing
    }

    fn replaced(&self) -> Replaced {
        Replaced::StaysReadable
    }

    /// Links to the CDN end.
    fn expiring(&self, after: usize) -> Option<Expiring> {
        let mut asked_for = 0;
        let last_of_first = Arc::new(Mutex::new(None::<usize>));
        self.cdn.judge(move |asked| {
            let number = asked.target.split("canary-link-").nth(1)?.split('&').next()?.parse::<usize>().ok()?;
            asked_for += 1;
            if asked_for <= after {
                let mut last = last_of_first.lock().expect("a number");
                *last = Some(last.unwrap_or(0).max(number));
                return None;
            }
            let ended = last_of_first.lock().expect("a number").is_some_and(|last| number <= last);
            ended.then(|| {
                Fault::status(403, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
            })
        });
        let (source, endpoint, token) = (self.uri("m/weights"), self.front.url(""), self.token.clone());
        let front = Arc::clone(&self.front);
        Some(Expiring {
            pull: Box::new(move |dest| Dray::pull(&source, dest).env("HF_ENDPOINT", endpoint).env("HF_TOKEN", token)),
            issued: Box::new(move || {
                front.asked().iter().filter(|asked| asked.target.contains("/resolve/") && asked.wants_bytes()).count()
            }),
            issued_max: 4,
        })
    }
}
