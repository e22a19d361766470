//! The Hugging Face Hub: the arena's, with its CDN at another port behind signed links.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dray_arena::{Access, Content as Served, HubArena, Kept, Repo};

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
    repo: Mutex<Repo>,
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
        let repo = Mutex::new(Repo::model("org/model").with_access(Access::Private));
        let this = Self { arena, front, cdn, token, files: Mutex::default(), repo };
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
        let mut repo = self.repo.lock().expect("the repository");
        *repo = repo.clone().with_commit("main", all);
        self.arena.put(repo.clone());
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
        States::Checksum
    }

    fn replaced(&self) -> Replaced {
        Replaced::StaysReadable
    }

    /// Links to the CDN end.
    fn expiring(&self, after: usize) -> Option<Expiring> {
        // Links are numbered from 0, one for each file that is resolved; those of before the end are over.
        let (resolved, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let renewals = Arc::new(AtomicUsize::new(0));
        let (links, ended, count) = (resolved.clone(), over.clone(), renewals.clone());
        self.front.judge(move |asked| {
            if !asked.target.contains("/resolve/") {
                return None;
            }
            links.fetch_add(1, Ordering::SeqCst);
            let renewal = 0 < ended.load(Ordering::SeqCst);
            count.fetch_add(usize::from(renewal), Ordering::SeqCst);
            renewal.then_some(Fault::Late(None))
        });
        let mut asked_for = 0;
        self.cdn.judge(move |asked| {
            let link: usize = asked.target.split("canary-link-").nth(1)?.split('&').next()?.parse().ok()?;
            asked_for += 1;
            if asked_for == after + 1 {
                over.store(resolved.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            let words = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
            (link < over.load(Ordering::SeqCst)).then(|| Fault::status(403, words))
        });
        let (source, endpoint, token) = (self.uri("m/weights"), self.front.url(""), self.token.clone());
        Some(Expiring {
            pull: Box::new(move |dest| Dray::pull(&source, dest).env("HF_ENDPOINT", endpoint).env("HF_TOKEN", token)),
            renewals: Box::new(move || renewals.load(Ordering::SeqCst)),
            secrets: Vec::new(),
        })
    }
}
