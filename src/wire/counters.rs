//! Running totals of everything that goes over the network.
//!
//! In: what lanes and control requests do. Out: numbers that only grow, read by whoever shows a run.
//! Holds: the hot path takes no lock; a reply finds its origin's count once, when its head is accepted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::url::Origin;

/// Origins counted by name; a source of more redirects than this has the rest counted together.
const ORIGINS_MAX: usize = 64;

/// Totals over all lanes; clones share them, so that the runs of one process can count together.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    connections: AtomicU64,
    requests: AtomicU64,
    received: AtomicU64,
    answers: AtomicU64,
    /// Found by a walk: there are few, and a reply looks once.
    origins: Mutex<Vec<(Option<Origin>, Arc<AtomicU64>)>>,
}

/// Where the bytes of one reply are counted.
#[derive(Debug)]
pub(super) struct Tally {
    totals: Counters,
    origin: Arc<AtomicU64>,
}

impl Tally {
    /// Notes body bytes of the reply.
    pub(super) fn received(&self, bytes: u64) {
        self.totals.0.received.fetch_add(bytes, Ordering::Relaxed);
        self.origin.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Counters {
    /// Connections opened for data.
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Data requests sent, each redirect hop and silent repeat counted.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Body bytes received by data requests.
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Control requests that were answered: listings, HEADs, credentials.
    pub fn answers(&self) -> u64 {
        self.0.answers.load(Ordering::Relaxed)
    }

    /// Body bytes by the origin that sent them, redirect targets apart; `None` is every origin past the bound.
    pub fn by_origin(&self) -> Vec<(Option<Origin>, u64)> {
        let origins = self.0.origins.lock().unwrap_or_else(PoisonError::into_inner);
        origins.iter().map(|(origin, bytes)| (origin.clone(), bytes.load(Ordering::Relaxed))).collect()
    }

    /// Where a reply of `origin` is counted.
    pub(super) fn tally(&self, origin: Origin) -> Tally {
        let mut origins = self.0.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let name = if origins.len() < ORIGINS_MAX || origins.iter().any(|(known, _)| known.as_ref() == Some(&origin)) {
            Some(origin)
        } else {
            None
        };
        let known = origins.iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes.clone());
        let origin = known.unwrap_or_else(|| {
            let bytes = Arc::new(AtomicU64::new(0));
            origins.push((name, bytes.clone()));
            bytes
        });
        Tally { totals: self.clone(), origin }
    }

    pub(super) fn connected(&self) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn asked(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a control request was answered.
    pub fn answered(&self) {
        self.0.answers.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Scheme;

    fn origin(number: usize) -> Origin {
        Origin { scheme: Scheme::Https, host: format!("host-{number}"), port: 443 }
    }

    #[test]
    fn bytes_are_counted_by_origin_and_origins_are_bounded() {
        let counters = Counters::default();
        for number in (0..ORIGINS_MAX + 5).chain(0..2) {
            counters.tally(origin(number)).received(10);
        }
        let by_origin = counters.by_origin();
        assert_eq!(by_origin.len(), ORIGINS_MAX + 1);
        let of = |name: Option<Origin>| by_origin.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes);
        assert_eq!(of(Some(origin(0))), Some(20));
        assert_eq!(of(Some(origin(9))), Some(10));
        assert_eq!(of(None), Some(50), "the rest counts together");
        assert_eq!(counters.received(), by_origin.iter().map(|(_, bytes)| bytes).sum::<u64>());
    }
}
