//! When a failed span is asked again: exponential backoff with full jitter, and a budget that success refills.

use std::time::Duration;

use crate::error::FailureKind;
use crate::schedule::pieces::Run;
use crate::schedule::rng::Rng;
use crate::schedule::{Connection, FileIndex, Now};

/// First backoff; each further one doubles.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest backoff. A Retry-After may ask for more, up to [`RETRY_AFTER_MAX`].
const BACKOFF_MAX: Duration = Duration::from_secs(20);
/// Longest wait an origin can impose.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Retries that may run ahead of success, in quarters: with none left they go one at a time.
const BUDGET_MAX: u32 = 64 * COST;
/// What a retry costs, in pieces that must arrive to earn it back.
const COST: u32 = 4;

/// The wait before try number `tries` (counted from 1): a random share of an exponential bound.
pub(super) fn backoff(rng: &mut Rng, tries: u32) -> Duration {
    let bound = BACKOFF_FIRST.saturating_mul(1 << tries.clamp(1, 16).saturating_sub(1)).min(BACKOFF_MAX);
    let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rng.below(millis + 1))
}

/// The wait an origin asked for, within reason.
pub(super) fn capped(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or(Duration::ZERO).min(RETRY_AFTER_MAX)
}

/// How a span has fared so far; carried from try to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct History {
    /// Consecutive failed tries without a new piece.
    pub(super) tries: u32,
    /// Consecutive throttle answers without a new piece.
    pub(super) throttles: u32,
    /// The final-looking answer (denied, missing) the last try got: the same again ends the run.
    pub(super) verdict: Option<FailureKind>,
    /// Which connection the next try may use.
    pub(super) connection: Connection,
}

impl History {
    pub(super) fn new(connection: Connection) -> Self {
        Self { tries: 0, throttles: 0, verdict: None, connection }
    }
}

/// What to ask: consecutive pieces, or the whole object in one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Part(Run),
    Whole,
}

/// A failed request that waits for its next try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    pub(super) file: FileIndex,
    pub(super) want: Want,
    pub(super) not_before: Now,
    pub(super) history: History,
}

/// Bounds how many retries may run ahead of success.
#[derive(Debug)]
pub(super) struct Budget(u32);

impl Budget {
    pub(super) fn new() -> Self {
        Self(BUDGET_MAX)
    }

    pub(super) fn earn(&mut self) {
        self.0 = (self.0 + 1).min(BUDGET_MAX);
    }

    /// Whether one more retry may go. When nothing else is outstanding it is a probe, and free.
    pub(super) fn covers(&self, alone: Alone) -> bool {
        COST <= self.0 || alone == Alone::Yes
    }

    pub(super) fn pay(&mut self) {
        self.0 = self.0.saturating_sub(COST);
    }
}

/// Which retries may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    All,
    /// Only what the origin denied or missed the last time.
    Repeated,
}

/// Whether any other span is outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alone {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_within_its_bound_and_repeats_by_seed() {
        let series = |seed| (1..=40).map(|tries| backoff(&mut Rng::new(seed), tries)).collect::<Vec<_>>();
        assert_eq!(series(7), series(7));
        for (tries, bound) in [(1, 100), (2, 200), (5, 1600), (9, 20_000), (40, 20_000)] {
            let longest = (0..500).map(|seed| backoff(&mut Rng::new(seed), tries)).max().unwrap();
            assert!(longest <= Duration::from_millis(bound), "{tries}: {longest:?}");
            assert!(Duration::from_millis(bound * 9 / 10) <= longest, "{tries}: {longest:?}");
        }
    }

    #[test]
    fn retry_after_is_capped_at_a_minute() {
        assert_eq!(capped(Some(Duration::from_secs(1_000_000))), Duration::from_secs(60));
        assert_eq!(capped(None), Duration::ZERO);
    }

    #[test]
    fn an_empty_budget_lets_one_probe_through_and_fills_by_success() {
        let mut budget = Budget::new();
        while budget.covers(Alone::No) {
            budget.pay();
        }
        assert!(budget.covers(Alone::Yes));
        (0..COST).for_each(|_| budget.earn());
        assert!(budget.covers(Alone::No));
    }
}
