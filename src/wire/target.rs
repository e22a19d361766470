//! Remembers where a source redirected to, so that each span does not pay the hop.
//!
//! In: where a source led, and when. Out: where to ask, and whose turn it is to find out.
//! Holds: what is remembered is bounded; of those who need a new target of one source, one asks and the others wait.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Mutex as Turns, OwnedMutexGuard};
use tokio::time::{Instant, timeout};

use super::address::Class;
use super::url::{Origin, Url};

/// How long a target is believed. Signed targets live for minutes to hours.
const KEPT: Duration = Duration::from_secs(60);

/// Sources remembered at once.
const SOURCES_MAX: usize = 256;

/// Origins that are known to redirect; further ones are asked without turns.
const ORIGINS_MAX: usize = 64;

/// Whether the access's own headers go along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// Still at the origin they are bound to.
    Own,
    /// Another origin was on the way: they stay behind, for good.
    Left,
}

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    /// The URL of this hop.
    pub(super) url: Url,
    /// The class of the peer that named it; `None` for the user.
    pub(super) namer: Option<Class>,
    /// Whether the access's headers go along.
    pub(super) bound: Bound,
    /// Redirects followed to get here.
    pub(super) hops: u32,
}

/// Sources and where they led.
#[derive(Debug, Default)]
pub(super) struct Targets(HashMap<Url, (Hop, Instant)>);

impl Targets {
    /// Where `source` led, unless that is too long ago.
    pub(super) fn recall(&self, source: &Url, now: Instant) -> Option<Hop> {
        let (hop, since) = self.0.get(source)?;
        (now.duration_since(*since) < KEPT).then(|| hop.clone())
    }

    /// Notes where `source` led when it was asked at `since`; a later answer stays. The oldest is forgotten when there
    /// are too many.
    pub(super) fn remember(&mut self, source: &Url, hop: Hop, since: Instant) {
        if self.0.get(source).is_some_and(|(_, known)| since < *known) {
            return;
        }
        if SOURCES_MAX <= self.0.len() && !self.0.contains_key(source) {
            let oldest = self.0.iter().min_by_key(|(_, (_, since))| *since).map(|(url, _)| url.clone());
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(source.clone(), (hop, since));
    }

    /// Asks `source` itself next time, unless it has led elsewhere than to `target` meanwhile.
    pub(super) fn forget(&mut self, source: &Url, target: &Url) {
        if self.0.get(source).is_some_and(|(hop, _)| hop.url == *target) {
            self.0.remove(source);
        }
    }
}

/// What all lanes of a run know of redirects. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Redirects(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    targets: Targets,
    /// Origins of sources that have redirected.
    origins: HashSet<Origin>,
    /// Who asks each source for a new target; gone when nobody asks or waits.
    turns: HashMap<Url, Weak<Turns<()>>>,
}

/// The right to ask a source; the next in turn finds out what came of it.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Redirects {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Targets::recall`].
    pub(super) fn recall(&self, source: &Url) -> Option<Hop> {
        self.known().targets.recall(source, Instant::now())
    }

    /// As [`Targets::remember`].
    pub(super) fn remember(&self, source: &Url, hop: Hop, since: Instant) {
        self.known().targets.remember(source, hop, since);
    }

    /// Notes that `source` redirects, wherever it leads.
    pub(super) fn redirected(&self, source: &Url) {
        let mut known = self.known();
        if known.origins.len() < ORIGINS_MAX {
            known.origins.insert(source.origin());
        }
    }

    /// As [`Targets::forget`].
    pub(super) fn forget(&self, source: &Url, target: &Url) {
        self.known().targets.forget(source, target);
    }

    /// Waits for the turn to ask `source`; at once and without one where sources of its origin do not redirect, and
    /// after `patience`, when whoever asks has come to nothing.
    pub(super) async fn turn(&self, source: &Url, patience: Duration) -> Option<Turn> {
        let turns = {
            let mut known = self.known();
            if !known.origins.contains(&source.origin()) {
                return None;
            }
            known.turns.retain(|_, turns| 0 < turns.strong_count());
            let current = known.turns.get(source).and_then(Weak::upgrade);
            current.unwrap_or_else(|| {
                let fresh = Arc::default();
                known.turns.insert(source.clone(), Arc::downgrade(&fresh));
                fresh
            })
        };
        timeout(patience, turns.lock_owned()).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_age_and_are_bounded() {
        let url = |n: usize| Url::parse(&format!("http://h/{n}")).unwrap();
        let hop = |n| Hop { url: url(n), namer: None, bound: Bound::Own, hops: 1 };
        let mut targets = Targets::default();
        let mut now = Instant::now();
        for n in 0..=SOURCES_MAX {
            targets.remember(&url(n), hop(n), now);
            now += Duration::from_millis(1);
        }
        assert_eq!(targets.0.len(), SOURCES_MAX);
        assert_eq!(targets.recall(&url(0), now), None);
        assert_eq!(targets.recall(&url(1), now), Some(hop(1)));
        targets.remember(&url(1), hop(7), now - Duration::from_secs(30));
        targets.forget(&url(1), &url(2));
        assert_eq!(targets.recall(&url(1), now), Some(hop(1)), "it has led elsewhere since");
        targets.forget(&url(1), &url(1));
        assert_eq!(targets.recall(&url(1), now), None);
        assert_eq!(targets.recall(&url(2), now + KEPT), None);
    }

    #[tokio::test]
    async fn one_asks_and_the_others_wait_where_sources_redirect() {
        let source = Url::parse("http://h/1").unwrap();
        let other = Url::parse("http://h/2").unwrap();
        let redirects = Redirects::default();
        let patience = Duration::from_millis(20);
        assert!(redirects.turn(&source, patience).await.is_none(), "nothing redirects yet");
        redirects.redirected(&source);
        let turn = redirects.turn(&source, patience).await;
        assert!(turn.is_some());
        assert!(redirects.turn(&source, patience).await.is_none(), "somebody asks");
        assert!(redirects.turn(&other, patience).await.is_some(), "each source has its own");
        drop(turn);
        assert!(redirects.turn(&source, patience).await.is_some());
    }
}
