//! What is shown: the sums over the pulls of this process, and whether anything moves.
//!
//! In: snapshots of pulls, one after another or several at once. Out: [`View`]s.
//! Holds: a count never falls while the process lives; what moved last is judged by the server's own clock, so that a
//! control thread that hangs does not pass for one that works.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::{Durations, Phase, Snapshot};
use crate::schedule::{Brake, Outcomes};
use crate::wire::Counters;

/// Shared by the observer, which writes five times a second, and the server.
pub(super) struct Figures {
    counters: Counters,
    stall: Duration,
    state: Mutex<State>,
}

struct State {
    models: usize,
    sealed: usize,
    /// The pulls that have ended, but for those that nothing followed yet.
    past: Sums,
    now: BTreeMap<Run, Snapshot>,
    begun: u64,
    brakes: [Duration; Brake::ALL.len()],
    mark: Mark,
    moved: Instant,
}

/// One pull of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run(pub(super) u64);

/// Counts that add up over pulls.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    pub(super) bytes_planned: u64,
    pub(super) bytes_durable: u64,
    pub(super) bytes_fetched: u64,
    pub(super) bytes_reused: u64,
    pub(super) bytes_read: u64,
    pub(super) files_planned: u64,
    pub(super) files_sealed: u64,
    pub(super) requests_retried: u64,
    pub(super) outcomes: Outcomes,
    pub(super) data_syncs: Durations,
    pub(super) journal_syncs: Durations,
}

/// Whatever changes when a run gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mark {
    phase: Phase,
    models: usize,
    received: u64,
    answers: u64,
    durable: u64,
    fetched: u64,
    read: u64,
    files: usize,
    others: u64,
}

/// Everything at one moment.
pub(super) struct View {
    pub(super) sums: Sums,
    pub(super) now: Snapshot,
    pub(super) models: usize,
    pub(super) sealed: usize,
    pub(super) brakes: [Duration; Brake::ALL.len()],
    /// Time since anything moved.
    pub(super) idle: Duration,
    /// Above this, idleness is no health.
    pub(super) stall: Duration,
    pub(super) counters: Counters,
}

impl Sums {
    fn plus(&self, snapshot: &Snapshot) -> Self {
        let progress = &snapshot.progress;
        let count = |files: usize| u64::try_from(files).unwrap_or(u64::MAX);
        Self {
            bytes_planned: self.bytes_planned + progress.bytes_total,
            bytes_durable: self.bytes_durable + progress.bytes_durable,
            bytes_fetched: self.bytes_fetched + progress.bytes_fetched,
            bytes_reused: self.bytes_reused + progress.bytes_reused,
            bytes_read: self.bytes_read + snapshot.read_bytes,
            files_planned: self.files_planned + count(progress.files_total),
            files_sealed: self.files_sealed + count(progress.files_done),
            requests_retried: self.requests_retried + progress.requests_retried,
            outcomes: self.outcomes.plus(&progress.outcomes),
            data_syncs: self.data_syncs.plus(&snapshot.data_syncs),
            journal_syncs: self.journal_syncs.plus(&snapshot.journal_syncs),
        }
    }
}

impl Figures {
    /// Nothing done yet of `models` models; after `stall` without a move this process is not well.
    pub(super) fn new(models: usize, stall: Duration, counters: Counters) -> Self {
        let state = State {
            models,
            sealed: 0,
            past: Sums::default(),
            now: BTreeMap::new(),
            begun: 0,
            brakes: [Duration::ZERO; Brake::ALL.len()],
            mark: Mark::default(),
            moved: Instant::now(),
        };
        Self { counters, stall, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every field is whole at every step: a panic elsewhere cannot have broken it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another pull begins: what those before it counted is kept.
    pub(super) fn begin(&self) -> Run {
        let mut state = self.state();
        let ended: Vec<Run> = state.now.iter().filter(|(_, run)| run.phase.is_last()).map(|(run, _)| *run).collect();
        for run in ended {
            let last = state.now.remove(&run).unwrap_or_default();
            state.past = state.past.plus(&last);
        }
        state.begun += 1;
        let run = Run(state.begun);
        state.now.insert(run, Snapshot::default());
        run
    }

    /// Takes in what a pull under way has come to.
    pub(super) fn take(&self, run: Run, snapshot: &Snapshot) {
        let mut state = self.state();
        let under_way = state.now.values().filter(|run| !run.phase.is_last()).count();
        let mut kept = snapshot.clone();
        if kept.phase.is_last() {
            // What it held others hold now.
            (kept.slabs.0, kept.progress.spans, kept.progress.window) = (0, 0, 0);
        }
        let before = state.now.insert(run, kept).unwrap_or_default();
        // Time of the process, of which pulls at once have a part each.
        let stretch = snapshot.elapsed.saturating_sub(before.elapsed) / u32::try_from(under_way.max(1)).unwrap_or(1);
        if matches!(snapshot.phase, Phase::Fetching | Phase::Publishing)
            && let Some(slot) = Brake::ALL.iter().position(|brake| *brake == snapshot.brake)
        {
            state.brakes[slot] += stretch;
        }
        if snapshot.phase == Phase::Sealed && before.phase != Phase::Sealed {
            state.sealed += 1;
        }
    }

    /// Notes whether anything moved since the last look. The server calls this several times a second.
    pub(super) fn look(&self, at: Instant) {
        let (received, answers) = (self.counters.received(), self.counters.answers());
        let mut state = self.state();
        let now = Snapshot::together(state.now.values());
        let progress = &now.progress;
        let mark = Mark {
            phase: now.phase,
            models: state.sealed,
            received,
            answers,
            durable: progress.bytes_durable,
            fetched: progress.bytes_fetched,
            read: now.read_bytes,
            files: progress.files_done,
            others: now.moves,
        };
        if mark != state.mark {
            (state.mark, state.moved) = (mark, at);
        }
    }

    /// Everything now.
    pub(super) fn view(&self, at: Instant) -> View {
        self.look(at);
        let state = self.state();
        let now = Snapshot::together(state.now.values());
        View {
            sums: state.past.plus(&now),
            now,
            models: state.models,
            sealed: state.sealed,
            brakes: state.brakes,
            idle: at.saturating_duration_since(state.moved),
            stall: self.stall,
            counters: self.counters.clone(),
        }
    }
}

impl View {
    /// Whether every model is sealed.
    pub(super) fn ready(&self) -> bool {
        self.models <= self.sealed
    }

    /// Whether something moved within the stall timeout, or nothing has to any more.
    pub(super) fn healthy(&self) -> bool {
        self.ready() || self.idle < self.stall
    }
}
