//! How data requests ended, counted. Pure.

use crate::error::FailureKind;

/// How one data request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All that was asked arrived.
    Delivered,
    /// It was cut after real progress, and its rest asked anew at once.
    Continued,
    /// The run stopped under it.
    Stopped,
    /// It failed.
    Failed(FailureKind),
}

/// Words by slot: the last ones are [`FailureKind`]'s.
const WORDS: [&str; 17] = [
    "delivered",
    "continued",
    "stopped",
    "broken",
    "stalled",
    "throttled",
    "unavailable",
    "unreachable",
    "bad_reply",
    "expired",
    "range_ignored",
    "changed",
    "denied",
    "missing",
    "refused",
    "disk_full",
    "disk",
];

impl Outcome {
    fn slot(self) -> usize {
        match self {
            Self::Delivered => 0,
            Self::Continued => 1,
            Self::Stopped => 2,
            Self::Failed(kind) => match kind {
                FailureKind::Broken => 3,
                FailureKind::Stalled => 4,
                FailureKind::Throttled { .. } => 5,
                FailureKind::Unavailable { .. } => 6,
                FailureKind::Unreachable => 7,
                FailureKind::BadReply => 8,
                FailureKind::Expired => 9,
                FailureKind::RangeIgnored => 10,
                FailureKind::Changed => 11,
                FailureKind::Denied => 12,
                FailureKind::Missing => 13,
                FailureKind::Refused => 14,
                FailureKind::DiskFull => 15,
                FailureKind::Disk => 16,
            },
        }
    }

    /// The word of this outcome in metrics.
    pub fn word(self) -> &'static str {
        WORDS[self.slot()]
    }
}

/// Data requests that ended, by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes([u64; WORDS.len()]);

impl Outcomes {
    /// Every word with its count, zeros included.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        WORDS.into_iter().zip(self.0)
    }

    /// All that ended.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The counts of both.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
        self
    }

    pub(super) fn note(&mut self, outcome: Outcome) {
        self.0[outcome.slot()] += 1;
    }
}
