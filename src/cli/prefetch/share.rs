//! Which models are pulled at once: as many as the requests allow that one model would begin with. Pure.
//!
//! In: the bounds of the run, the models in their order. Out: what each may take of the bounds, or that it must wait.
//! Holds: what is taken together is never more than the bounds of one run; nothing overtakes a model that waits.

use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::schedule;
use crate::units::MIB;

/// Models at once: each holds open its folders, journal, part files, and a task at the disk.
pub(super) const MODELS_MAX: usize = 16;

/// Bytes of a file that a second request would be worth making for.
const SPAN_BYTES: u64 = 4 * MIB;

/// What is left of the requests of a run.
pub(super) struct Budget {
    requests: usize,
    free: usize,
}

/// What one model takes of the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// All of them: nothing else is pulled meanwhile.
    Whole,
    /// This many requests at once, and what goes with them.
    Part(usize),
}

impl Budget {
    /// Nothing taken yet of `limits`.
    pub(super) fn new(limits: &Limits) -> Self {
        let requests = schedule::first_width(limits).min(MODELS_MAX);
        Self { requests, free: requests }
    }

    /// What a model may use: of small files a request each, of a large one as many as there are.
    pub(super) fn share(&self, manifest: &Manifest) -> Share {
        let mut wanted = 0_usize;
        for entry in &manifest.entries {
            // A stream may be of any length.
            let Some(size) = entry.size else { return Share::Whole };
            let spans = usize::try_from(size.div_ceil(SPAN_BYTES)).unwrap_or(usize::MAX);
            wanted = wanted.saturating_add(spans.max(1));
        }
        if wanted < self.requests { Share::Part(wanted.max(1)) } else { Share::Whole }
    }

    /// Takes `share` if it is free.
    pub(super) fn take(&mut self, share: Share) -> bool {
        let requests = self.requests_of(share);
        let fits = requests <= self.free;
        if fits {
            self.free -= requests;
        }
        fits
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, share: Share) {
        self.free += self.requests_of(share);
    }

    /// The bounds of a model that has taken `share` of `limits`.
    pub(super) fn bounds(&self, limits: &Limits, share: Share) -> Limits {
        let Share::Part(requests) = share else { return limits.clone() };
        let part = |all: u64| {
            let [requests, of] = [requests, self.requests].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
            all / of.max(1) * requests
        };
        let [unsettled_bytes_max, unnoted_bytes_max] = [limits.unsettled_bytes_max, limits.unnoted_bytes_max].map(part);
        Limits { connections: Some(requests), unsettled_bytes_max, unnoted_bytes_max, ..limits.clone() }
    }

    fn requests_of(&self, share: Share) -> usize {
        match share {
            Share::Whole => self.requests,
            Share::Part(requests) => requests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Entry, Ranges, SafePath, Version};

    fn model(sizes: &[Option<u64>]) -> Manifest {
        let entry = |(number, size): (usize, &Option<u64>)| Entry {
            path: SafePath::parse(&format!("f{number}")).unwrap(),
            object: format!("o{number}"),
            size: *size,
            version: Version::default(),
            ranges: Ranges::Assumed,
            stated: Vec::new(),
        };
        Manifest { source: "s3://bkt/m".to_owned(), entries: sizes.iter().enumerate().map(entry).collect() }
    }

    fn limits(connections: Option<usize>, lanes: usize, memory: u64) -> Limits {
        Limits { connections, lanes, memory_bytes_max: memory, ..Limits::default() }
    }

    #[test]
    fn a_model_takes_the_requests_that_it_could_use() {
        let budget = Budget::new(&limits(None, 2, 64 * MIB));
        for (sizes, expected) in [
            (&[Some(MIB)][..], Share::Part(1)),
            (&[Some(0)], Share::Part(1)),
            (&[], Share::Part(1)),
            (&[Some(4 * MIB), Some(4 * MIB + 1)], Share::Part(3)),
            (&[Some(28 * MIB)], Share::Part(7)),
            (&[Some(28 * MIB + 1)], Share::Whole),
            (&[Some(1); 8], Share::Whole),
            (&[Some(u64::MAX), Some(u64::MAX)], Share::Whole),
            (&[Some(1), None], Share::Whole),
        ] {
            assert_eq!(budget.share(&model(sizes)), expected, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_taken_together_is_never_more_than_one_run_may_have() {
        for (limits, models) in [
            (limits(None, 1, 64 * MIB), 8),
            (limits(None, 2, 64 * MIB), 8),
            (limits(None, 3, 64 * MIB), 12),
            (limits(None, 9, 64 * MIB), 16),
            (limits(Some(5), 2, 64 * MIB), 5),
            (limits(Some(64), 2, 256 * MIB), 16),
            // Two requests for four slabs, then one model alone.
            (limits(None, 2, 4 * MIB), 2),
            (limits(Some(1), 2, 64 * MIB), 1),
        ] {
            let mut budget = Budget::new(&limits);
            let small = model(&[Some(MIB)]);
            let mut taken = Vec::new();
            loop {
                let share = budget.share(&small);
                if !budget.take(share) {
                    break;
                }
                taken.push(share);
                assert!(taken.len() <= 64, "no end");
            }
            assert_eq!(taken.len(), models, "{limits:?}");
            let bounds: Vec<Limits> = taken.iter().map(|share| budget.bounds(&limits, *share)).collect();
            let unsettled: u64 = bounds.iter().map(|bounds| bounds.unsettled_bytes_max).sum();
            assert!(unsettled <= limits.unsettled_bytes_max, "{unsettled} of {limits:?}");
            let unnoted: u64 = bounds.iter().map(|bounds| bounds.unnoted_bytes_max).sum();
            assert!(unnoted <= limits.unnoted_bytes_max, "{unnoted} of {limits:?}");
            if let (Some(most), true) = (limits.connections, 1 < models) {
                let requests: usize = bounds.iter().filter_map(|bounds| bounds.connections).sum();
                assert!(requests <= most, "{requests} of {limits:?}");
            }
            assert!(!budget.take(Share::Whole), "a large model waits for all of it");
            while let Some(share) = taken.pop() {
                assert!(!budget.take(Share::Whole), "not before the last of the others has ended");
                budget.give_back(share);
            }
            assert!(budget.take(Share::Whole), "and has it when the others have ended");
        }
    }

    #[test]
    fn a_model_alone_has_the_bounds_of_the_run() {
        let whole = limits(None, 2, 64 * MIB);
        let bounds = Budget::new(&whole).bounds(&whole, Share::Whole);
        assert_eq!((bounds.connections, bounds.unsettled_bytes_max), (None, whole.unsettled_bytes_max));
    }
}
