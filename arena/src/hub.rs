//! A Hugging Face Hub on loopback: its API, its files, and a CDN at another port behind signed links that expire.
//!
//! In: [`Repo`]s. Out: an endpoint for `HF_ENDPOINT`, a log of what each side was asked, and knobs to turn while serving.
//! Holds: the CDN answers only links that the Hub signed; the log is bounded.

mod answer;
mod reply;
mod repo;
mod state;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

pub use self::repo::{Access, Kept, Repo};
pub use self::state::{HubSeen, Side};
use self::state::{Shared, State, Throttle};
use crate::pool::Pool;
use crate::serve::Server;

/// A running Hub with its CDN; dropping it stops both.
pub struct HubArena {
    hub: Server,
    cdn: Server,
    shared: Arc<Shared>,
}

impl HubArena {
    /// Serves `repos` on two free ports of 127.0.0.1.
    ///
    /// # Errors
    /// Whatever binding the ports or starting the threads gave.
    pub fn start(repos: impl IntoIterator<Item = Repo>) -> io::Result<Self> {
        let cdn_shared: Arc<Mutex<Option<Arc<Shared>>>> = Arc::default();
        let late = Arc::clone(&cdn_shared);
        let cdn = Server::start("arena-cdn", move |stream| {
            let shared = late.lock().unwrap_or_else(PoisonError::into_inner).clone();
            connection(shared, Side::Cdn, stream)
        })?;
        let repos = repos.into_iter().map(|repo| (repo.place(), repo)).collect();
        let state = State {
            repos,
            token: None,
            page: 1000,
            throttled: Throttle::default(),
            moved: None,
            heads_refused: false,
            link_uses: None,
            links: Vec::new(),
            cdn: cdn.address().to_string(),
            log: Vec::new(),
        };
        let shared = Arc::new(Shared { pool: Pool::default(), state: Mutex::new(state) });
        *cdn_shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&shared));
        let serving = Arc::clone(&shared);
        let hub = Server::start("arena-hub", move |stream| connection(Some(Arc::clone(&serving)), Side::Hub, stream))?;
        Ok(Self { hub, cdn, shared })
    }

    /// What `HF_ENDPOINT` is to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.hub.address())
    }

    /// Host and port of the CDN itself.
    pub fn cdn(&self) -> String {
        self.cdn.address().to_string()
    }

    /// Names another host and port in the links signed from now on: something that stands before the CDN.
    pub fn name_cdn(&self, place: &str) {
        self.shared.state().cdn = place.to_owned();
    }

    /// Everything asked so far, the first 65,536 requests at least.
    pub fn log(&self) -> Vec<HubSeen> {
        self.shared.state().log.clone()
    }

    /// Accepts this token; private and gated repositories need one.
    pub fn set_token(&self, token: &str) {
        self.shared.state().token = Some(token.to_owned());
    }

    /// Cuts trees into pages of `entries`.
    pub fn set_page(&self, entries: usize) {
        self.shared.state().page = entries.max(1);
    }

    /// Answers the Hub's next requests whose target has `what` in it by 429 with `Retry-After`.
    pub fn throttle(&self, what: &str, answers: u32, seconds: u64) {
        self.shared.state().throttled = Throttle { what: what.to_owned(), answers, seconds };
    }

    /// Answers targets that have `from` in them by 307, with `to` in its place: a path, or another origin.
    pub fn redirect(&self, from: &str, to: &str) {
        self.shared.state().moved = Some((from.to_owned(), to.to_owned()));
    }

    /// Answers every HEAD by a bare 403 from now on, as some mirrors and proxies do.
    pub fn refuse_heads(&self) {
        self.shared.state().heads_refused = true;
    }

    /// Lets each signed link answer so many requests, then 403 as an expired one.
    pub fn set_link_uses(&self, uses: u32) {
        self.shared.state().link_uses = Some(uses);
    }

    /// Puts a repository, or another state of it, while serving.
    pub fn put(&self, repo: Repo) {
        self.shared.state().repos.insert(repo.place(), repo);
    }
}

/// Serves one connection until the client is done with it.
async fn connection(shared: Option<Arc<Shared>>, side: Side, stream: tokio::net::TcpStream) {
    // Nobody knows the CDN's port before the Hub is there to name it.
    let Some(shared) = shared else { return };
    let answering = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { answer::answer(&shared, side, request).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    // A client that goes away in mid-body is an everyday event, and the log shows what it asked.
    drop(http.serve_connection(TokioIo::new(stream), answering).await);
}
