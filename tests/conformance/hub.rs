//! The Hugging Face Hub: the arena's, with its CDN at another port behind signed links.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
        let (ended, renewals) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_over, count) = (ended.clone(), renewals.clone());
        self.front.judge(move |asked| {
            let renewal = is_over.load(Ordering::SeqCst) && asked.target.contains("/resolve/");
            count.fetch_add(usize::from(renewal), Ordering::SeqCst);
            renewal.then_some(Fault::Late(None))
        });
        let (mut links, mut asked_for) = (HashSet::new(), 0);
        self.cdn.judge(move |asked| {
            let link = asked.target.split("canary-link-").nth(1)?.split('&').next()?.to_owned();
            asked_for += 1;
            if asked_for <= after {
                links.insert(link);
                return None;
            }
            let over = links.contains(&link);
            ended.fetch_or(over, Ordering::SeqCst);
            let words = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
            over.then(|| Fault::status(403, words))
        });
        let (source, endpoint, token) = (self.uri("m/weights"), self.front.url(""), self.token.clone());
        Some(Expiring {
            pull: Box::new(move |dest| Dray::pull(&source, dest).env("HF_ENDPOINT", endpoint).env("HF_TOKEN", token)),
            renewals: Box::new(move || renewals.load(Ordering::SeqCst)),
            secrets: Vec::new(),
        })
    }
}
