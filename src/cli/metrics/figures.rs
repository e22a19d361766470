//! What is shown: the sums over the pulls of this process, and whether anything moves.
//!
//! In: snapshots of one pull after another. Out: [`View`]s.
//! Holds: a count never falls while the process lives; what moved last is judged by the server's own clock, so that a
//! control thread that hangs does not pass for one that works.

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
    /// The pulls before this one.
    past: Sums,
    now: Snapshot,
    brakes: [Duration; Brake::ALL.len()],
    mark: Mark,
    moved: Instant,
}

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
            now: Snapshot::default(),
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

    /// Another pull begins: what the last one counted is kept.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.past = state.past.plus(&state.now);
        state.now = Snapshot::default();
    }

    /// Takes in what the pull under way has come to.
    pub(super) fn take(&self, snapshot: &Snapshot) {
        let mut state = self.state();
        let stretch = snapshot.elapsed.saturating_sub(state.now.elapsed);
        if matches!(snapshot.phase, Phase::Fetching | Phase::Publishing)
            && let Some(slot) = Brake::ALL.iter().position(|brake| *brake == snapshot.brake)
        {
            state.brakes[slot] += stretch;
        }
        if snapshot.phase == Phase::Sealed && state.now.phase != Phase::Sealed {
            state.sealed += 1;
        }
        state.now = snapshot.clone();
    }

    /// Notes whether anything moved since the last look. The server calls this several times a second.
    pub(super) fn look(&self, now: Instant) {
        let (received, answers) = (self.counters.received(), self.counters.answers());
        let mut state = self.state();
        let progress = &state.now.progress;
        let mark = Mark {
            phase: state.now.phase,
            models: state.sealed,
            received,
            answers,
            durable: progress.bytes_durable,
            fetched: progress.bytes_fetched,
            read: state.now.read_bytes,
            files: progress.files_done,
            others: state.now.moves,
        };
        if mark != state.mark {
            (state.mark, state.moved) = (mark, now);
        }
    }

    /// Everything now.
    pub(super) fn view(&self, now: Instant) -> View {
        self.look(now);
        let state = self.state();
        View {
            sums: state.past.plus(&state.now),
            now: state.now.clone(),
            models: state.models,
            sealed: state.sealed,
            brakes: state.brakes,
            idle: now.saturating_duration_since(state.moved),
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
