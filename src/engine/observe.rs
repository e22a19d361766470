//! What the outside sees of a run: phases, snapshots, and who watches them.
//!
//! Holds: whatever a run waits for, its observer is called several times a second, unless the control thread itself
//! hangs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::Failure;
use crate::report::Report;
use crate::schedule::{self, Brake, Progress, SpanId};

/// How often an observer sees the run.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Asking the source what it holds.
    #[default]
    Resolving,
    /// Waiting for another process that works on the directory.
    Waiting,
    /// Looking at what is on disk; after an unclean stop, reading it back.
    Reading,
    /// Fetching, writing, sealing.
    Fetching,
    /// Reading the members out of an archive that is whole.
    Unpacking,
    /// Writing the receipt.
    Publishing,
    /// Done: the directory is whole.
    Sealed,
    /// Done: the run failed or was stopped.
    Stopped,
}

impl Phase {
    /// Every phase, in the order of a run.
    pub const ALL: [Self; 8] = [
        Self::Resolving,
        Self::Waiting,
        Self::Reading,
        Self::Fetching,
        Self::Unpacking,
        Self::Publishing,
        Self::Sealed,
        Self::Stopped,
    ];

    /// The word in lines and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolving => "resolving",
            Self::Waiting => "waiting",
            Self::Reading => "reading",
            Self::Fetching => "fetching",
            Self::Unpacking => "unpacking",
            Self::Publishing => "publishing",
            Self::Sealed => "sealed",
            Self::Stopped => "stopped",
        }
    }

    /// How much a phase tells of several runs at once, most first: bytes that come, then files that are finished, then
    /// waits, and what has ended last.
    fn telling(self) -> u8 {
        match self {
            Self::Fetching => 0,
            Self::Unpacking => 1,
            Self::Publishing => 2,
            Self::Reading => 3,
            Self::Waiting => 4,
            Self::Resolving => 5,
            Self::Stopped => 6,
            Self::Sealed => 7,
        }
    }

    /// Whether nothing follows.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Sealed | Self::Stopped)
    }
}

/// What an observer sees several times a second. Counts are of this run alone.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What the run is doing.
    pub phase: Phase,
    /// Time since the run began.
    pub elapsed: Duration,
    /// The scheduler's own count.
    pub progress: Progress,
    /// What holds the run back just now.
    pub brake: Brake,
    /// Slabs that hold bytes, and how many there are.
    pub slabs: (usize, usize),
    /// Bytes read back from disk.
    pub read_bytes: u64,
    /// Signs of life that no other count shows: another process that holds the directory moves, members are unpacked.
    pub moves: u64,
    /// Syncs of part files.
    pub data_syncs: Durations,
    /// Syncs of the journal.
    pub journal_syncs: Durations,
}

impl Snapshot {
    /// A run that began at `started` and has fetched nothing yet.
    pub fn early(phase: Phase, started: Instant) -> Self {
        Self { phase, elapsed: started.elapsed(), ..Self::default() }
    }

    /// Several runs at once as one: their counts added up, in the phase of the one that tells most of what goes on.
    /// Their slabs are those of one crew.
    pub fn together<'a>(runs: impl Iterator<Item = &'a Self>) -> Self {
        let mut runs: Vec<&Self> = runs.collect();
        runs.sort_by_key(|run| run.phase.telling());
        let Some((first, others)) = runs.split_first() else { return Self::default() };
        others.iter().fold((*first).clone(), |sum, run| Self {
            phase: sum.phase,
            elapsed: sum.elapsed.max(run.elapsed),
            progress: sum.progress.plus(&run.progress),
            brake: sum.brake,
            slabs: sum.slabs.max(run.slabs),
            read_bytes: sum.read_bytes + run.read_bytes,
            moves: sum.moves + run.moves,
            data_syncs: sum.data_syncs.plus(&run.data_syncs),
            journal_syncs: sum.journal_syncs.plus(&run.journal_syncs),
        })
    }
}

/// Watches a run: a progress bar, log lines, metrics, nothing.
pub trait Observer {
    /// Called several times a second.
    fn tick(&mut self, snapshot: &Snapshot);
    /// One line worth telling: a wait for another process, a fallback, a changed object.
    fn note(&mut self, line: &str);
    /// The summary of a run that sealed its directory: two or three lines.
    fn end(&mut self, summary: &str);
    /// The same of one directory of several; more follow.
    fn summary(&mut self, summary: &str) {
        self.note(summary);
    }
    /// A data request ended.
    fn span(&mut self, _: &EndedSpan) {}
    /// What the run left for machines, whether it went well or not.
    fn report(&mut self, _: &Report) {}
}

/// A data request that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedSpan {
    /// Time since the run began, at its end.
    pub at: Duration,
    /// From its order to its end, the last write included.
    pub took: Duration,
    /// Bytes that it was to bring; 0 of a stream whose length is not known.
    pub bytes: u64,
    /// The lane that it was given to.
    pub lane: usize,
    /// How it ended, in the words of the metrics.
    pub outcome: schedule::Outcome,
}

/// The data requests under way: no more than the window allows.
#[derive(Default)]
pub(super) struct UnderWay(BTreeMap<SpanId, (Duration, u64, usize)>);

impl UnderWay {
    /// A request was ordered at `now`.
    pub(super) fn begin(&mut self, span: SpanId, now: Duration, bytes: u64, lane: usize) {
        self.0.insert(span, (now, bytes, lane));
    }

    /// A request ended at `at`; of a run that is `stopping`, a failure says nothing of the request.
    pub(super) fn end(
        &mut self,
        span: SpanId,
        at: Duration,
        result: &Result<(), Failure>,
        stopping: Option<&crate::error::Error>,
    ) -> Option<EndedSpan> {
        let (began, bytes, lane) = self.0.remove(&span)?;
        let outcome = match (result, stopping) {
            (Ok(()), _) => schedule::Outcome::Delivered,
            (Err(_), Some(_)) => schedule::Outcome::Stopped,
            (Err(failure), None) => schedule::Outcome::Failed(failure.kind),
        };
        Some(EndedSpan { at, took: at.saturating_sub(began), bytes, lane, outcome })
    }
}

/// An observer that looks away.
pub struct Unobserved;

impl Observer for Unobserved {
    fn tick(&mut self, _: &Snapshot) {}
    fn note(&mut self, _: &str) {}
    fn end(&mut self, _: &str) {}
}

/// Does `work` while `observer` sees what `look` sees.
pub async fn observed<T>(observer: &mut dyn Observer, look: impl Fn() -> Snapshot, work: impl Future<Output = T>) -> T {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return result,
            _ = tick.tick() => observer.tick(&look()),
        }
    }
}

/// Upper bounds of [`Durations`]' buckets: from a disk's cache to a disk in trouble.
pub const DURATION_BOUNDS: [Duration; 8] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(16),
    Duration::from_millis(64),
    Duration::from_millis(256),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(16),
];

/// How long things of one kind took, in buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Durations {
    /// By [`DURATION_BOUNDS`], each count apart from the others; the last one is what took longer than all bounds.
    pub counts: [u64; DURATION_BOUNDS.len() + 1],
    /// The sum of all.
    pub total: Duration,
}

impl Durations {
    /// The counts of both.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        Self { total: self.total + other.total, ..self }
    }

    /// How long one took, taken all together; `None` before the first.
    pub(super) fn mean(&self) -> Option<Duration> {
        let count = u32::try_from(self.counts.iter().sum::<u64>()).unwrap_or(u32::MAX);
        self.total.checked_div(count)
    }
}

/// [`Durations`] that threads add to.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    counts: [AtomicU64; DURATION_BOUNDS.len() + 1],
    total_micros: AtomicU64,
}

impl Stopwatch {
    /// Does `work` and notes how long it took.
    pub(super) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        self.note(began.elapsed());
        result
    }

    fn note(&self, took: Duration) {
        let slot = DURATION_BOUNDS.iter().take_while(|bound| **bound < took).count();
        self.counts[slot].fetch_add(1, Ordering::Relaxed);
        self.total_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was noted so far.
    pub(super) fn durations(&self) -> Durations {
        Durations {
            counts: std::array::from_fn(|slot| self.counts[slot].load(Ordering::Relaxed)),
            total: Duration::from_micros(self.total_micros.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_first_bucket_that_holds_them() {
        let stopwatch = Stopwatch::default();
        for (millis, slot) in [(0, 0), (1, 0), (2, 1), (16, 2), (17, 3), (16_000, 7), (16_001, 8), (1 << 40, 8)] {
            let before = stopwatch.durations();
            stopwatch.note(Duration::from_millis(millis));
            let after = stopwatch.durations();
            assert_eq!(after.counts[slot], before.counts[slot] + 1, "{millis} ms");
            assert_eq!(after.counts.iter().sum::<u64>(), before.counts.iter().sum::<u64>() + 1);
        }
        let twice = stopwatch.durations().plus(&stopwatch.durations());
        assert_eq!(twice.total, stopwatch.durations().total * 2);
    }

    #[test]
    fn runs_at_once_add_up_and_the_one_that_fetches_speaks_for_them() {
        let run = |phase, spans, leased| Snapshot {
            phase,
            elapsed: Duration::from_secs(u64::try_from(spans).unwrap()),
            progress: Progress { spans, bytes_fetched: 10, files_total: 2, ..Progress::default() },
            brake: if phase == Phase::Fetching { Brake::Disk } else { Brake::Network },
            slabs: (leased, 64),
            read_bytes: 3,
            ..Snapshot::default()
        };
        let runs = [run(Phase::Sealed, 0, 9), run(Phase::Fetching, 1, 7), run(Phase::Reading, 4, 8)];
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let sum = Snapshot::together(order.iter().map(|place| &runs[*place]));
            assert_eq!((sum.phase, sum.brake, sum.slabs, sum.read_bytes), (Phase::Fetching, Brake::Disk, (9, 64), 9));
            assert_eq!((sum.progress.spans, sum.progress.bytes_fetched, sum.progress.files_total), (5, 30, 6));
            assert_eq!(sum.elapsed, Duration::from_secs(4));
        }
        assert_eq!(Snapshot::together([].iter()).phase, Phase::Resolving);
    }

    struct Told(tokio::sync::mpsc::Sender<Phase>);

    impl Observer for Told {
        fn tick(&mut self, snapshot: &Snapshot) {
            self.0.try_send(snapshot.phase).unwrap();
        }
        fn note(&mut self, _: &str) {}
        fn end(&mut self, _: &str) {}
    }

    #[test]
    fn work_is_seen_for_as_long_as_it_takes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (told, mut heard) = tokio::sync::mpsc::channel(8);
        let started = Instant::now();
        let phases = runtime.block_on(async {
            let work = async { (heard.recv().await, heard.recv().await, heard.recv().await) };
            observed(&mut Told(told), || Snapshot::early(Phase::Waiting, started), work).await
        });
        assert_eq!(phases, (Some(Phase::Waiting), Some(Phase::Waiting), Some(Phase::Waiting)));
        assert!(TICK * 2 <= started.elapsed());
    }
}
