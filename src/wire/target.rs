//! Remembers where a source redirected to, so that each span does not pay the hop. Pure but for the clock given.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::address::Class;
use super::url::Url;

/// How long a target is believed. Signed targets live for minutes to hours.
const KEPT: Duration = Duration::from_secs(60);

/// Sources remembered at once.
const SOURCES_MAX: usize = 256;

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

    /// Notes where `source` led, once per [`KEPT`]; the oldest is forgotten when there are too many.
    pub(super) fn remember(&mut self, source: &Url, hop: Hop, now: Instant) {
        if self.recall(source, now).is_some_and(|known| known == hop) {
            return;
        }
        if SOURCES_MAX <= self.0.len() && !self.0.contains_key(source) {
            let oldest = self.0.iter().min_by_key(|(_, (_, since))| *since).map(|(url, _)| url.clone());
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(source.clone(), (hop, now));
    }

    /// Asks `source` itself next time.
    pub(super) fn forget(&mut self, source: &Url) {
        self.0.remove(source);
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
        targets.forget(&url(1));
        assert_eq!(targets.recall(&url(1), now), None);
        assert_eq!(targets.recall(&url(2), now + KEPT), None);
    }
}
