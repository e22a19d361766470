//! What the two servers know together, and what they were asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::repo::Repo;
use crate::pool::Pool;

/// Requests the log holds; later ones are served, not kept.
pub(super) const LOG_MAX: usize = 65_536;

/// Which of the two servers was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// API and `resolve`.
    Hub,
    /// Signed links.
    Cdn,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct HubSeen {
    /// Who was asked.
    pub side: Side,
    /// `GET`, `HEAD`, `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The Authorization header.
    pub authorization: Option<String>,
    /// Every header, a line each.
    pub headers: String,
    /// Status of the answer.
    pub status: u16,
}

/// What the two servers share.
pub(super) struct Shared {
    pub(super) pool: Pool,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) repos: HashMap<String, Repo>,
    pub(super) token: Option<String>,
    /// Entries of one page of a tree.
    pub(super) page: usize,
    /// What is answered by 429 from now on.
    pub(super) throttled: Throttle,
    /// Targets that have moved: what stands in them, and what took its place.
    pub(super) moved: Option<(String, String)>,
    /// Whether every HEAD is answered by a bare 403.
    pub(super) heads_refused: bool,
    /// Requests that one signed link answers; `None` for all.
    pub(super) link_uses: Option<u32>,
    /// Every link so far; its place is its signature.
    pub(super) links: Vec<Link>,
    /// Host and port of the CDN, as links name it.
    pub(super) cdn: String,
    pub(super) log: Vec<HubSeen>,
}

/// Answers that are 429.
#[derive(Clone, Debug, Default)]
pub(super) struct Throttle {
    /// Only targets in which this stands.
    pub(super) what: String,
    pub(super) answers: u32,
    /// What they ask to wait.
    pub(super) seconds: u64,
}

/// A signed link to one object.
pub(super) struct Link {
    pub(super) oid: String,
    pub(super) uses_left: Option<u32>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
