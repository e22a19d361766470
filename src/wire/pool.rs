//! Idle connections of one lane.
//!
//! Holds: at most [`IDLE_MAX`], none older than [`IDLE_TIME_MAX`], none whose peer has closed or spoken.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use super::address::{self, Class};
use super::link::{Key, Link};

/// Idle connections kept by one lane.
const IDLE_MAX: usize = 32;

/// How long one may idle. Servers close after 5 s (Node) to 75 s (nginx).
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// Idle connections, oldest first.
#[derive(Default)]
pub(super) struct Pool(Vec<(Link, Instant)>);

impl Pool {
    /// Keeps a connection that carried its last reply to the end.
    pub(super) fn put(&mut self, mut link: Link, now: Instant) {
        if !link.is_quiet() {
            return;
        }
        if IDLE_MAX <= self.0.len() {
            self.0.remove(0);
        }
        self.0.push((link, now));
    }

    /// The youngest live connection for `key` that a peer of class `namer` may lead to.
    pub(super) fn take(&mut self, key: &Key, namer: Option<Class>, now: Instant) -> Option<Link> {
        self.0.retain(|(_, since)| now.duration_since(*since) < IDLE_TIME_MAX);
        loop {
            let fits = |link: &Link| link.key == *key && namer.is_none_or(|namer| address::permits(namer, link.class));
            let index = self.0.iter().rposition(|(link, _)| fits(link))?;
            let (mut link, _) = self.0.remove(index);
            if link.is_quiet() {
                return Some(link);
            }
        }
    }
}

/// The client of small requests, once an origin has made one: who shares the settings shares its connections.
#[derive(Debug, Default)]
pub struct SmallClient(pub(crate) OnceLock<reqwest::Client>);
