//! What models that are pulled at once look like together: one progress over all of them, and whose CPU time it was.
//!
//! In: the snapshots of each. Out: one snapshot several times a second, lines as they come, CPU seconds by model.
//! Holds: no count falls when a model ends; the CPU seconds of all models are no more than the process took.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::engine::{Observer, Phase, Snapshot};
use crate::manifest::Manifest;
use crate::schedule::Progress;

/// How often the progress of all is shown: as often as a pull tells of its own.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// The progress of a run over all its models.
pub(super) struct Board {
    state: RefCell<State>,
    started: Instant,
}

struct State {
    observer: Box<dyn Observer>,
    /// Of models whose turn has not come: what is to be done.
    ahead: Progress,
    /// Of models that have ended.
    past: Progress,
    /// Bytes that those read back.
    read_bytes: u64,
    under_way: BTreeMap<usize, Member>,
    shown: Option<Duration>,
    ledger: Ledger,
}

/// One model under way.
struct Member {
    planned: Progress,
    last: Snapshot,
}

/// The observer of one model.
struct Seat {
    board: Rc<Board>,
    number: usize,
}

impl Board {
    /// A board that shows on `observer` what comes of models.
    pub(super) fn new(observer: Box<dyn Observer>, started: Instant) -> Rc<Self> {
        let state = State {
            observer,
            ahead: Progress::default(),
            past: Progress::default(),
            read_bytes: 0,
            under_way: BTreeMap::new(),
            shown: None,
            ledger: Ledger::default(),
        };
        Rc::new(Self { state: RefCell::new(state), started })
    }

    /// Takes in what is to come.
    pub(super) fn plan(&self, manifest: &Manifest) {
        let mut state = self.state.borrow_mut();
        state.ahead = state.ahead.plus(&planned(manifest));
    }

    /// A line that is of no model under way.
    pub(super) fn note(&self, line: &str) {
        self.state.borrow_mut().observer.note(line);
    }

    /// The model of this `number` begins, expected by its `manifest`, when the process has taken `cpu_seconds`.
    pub(super) fn begin(
        self: &Rc<Self>,
        number: usize,
        manifest: Option<&Manifest>,
        cpu_seconds: f64,
    ) -> Box<dyn Observer> {
        let mut state = self.state.borrow_mut();
        let planned = manifest.map(planned).unwrap_or_default();
        state.ahead.bytes_total = state.ahead.bytes_total.saturating_sub(planned.bytes_total);
        state.ahead.files_total = state.ahead.files_total.saturating_sub(planned.files_total);
        state.under_way.insert(number, Member { planned, last: Snapshot::default() });
        state.ledger.begin(number, cpu_seconds);
        Box::new(Seat { board: self.clone(), number })
    }

    /// The model has ended, when the process has taken `cpu_seconds`; how many of them were its own.
    pub(super) fn leave(&self, number: usize, cpu_seconds: f64) -> f64 {
        let mut state = self.state.borrow_mut();
        if let Some(member) = state.under_way.remove(&number) {
            let progress = Progress { spans: 0, window: 0, ..member.progress() };
            state.past = state.past.plus(&progress);
            state.read_bytes += member.last.read_bytes;
        }
        state.ledger.end(number, cpu_seconds)
    }

    /// Nothing follows: the last of the progress.
    pub(super) fn end(&self, phase: Phase) {
        let mut state = self.state.borrow_mut();
        let (elapsed, progress, read_bytes) = (self.started.elapsed(), state.past, state.read_bytes);
        let sum = Snapshot { phase, elapsed, progress, read_bytes, ..Snapshot::default() };
        state.observer.tick(&sum);
    }
}

impl Member {
    fn progress(&self) -> Progress {
        let told = self.last.progress;
        // Before its plan is made a pull counts nothing, and one that is refused never does.
        if told.files_total == 0 { told.plus(&self.planned) } else { told }
    }
}

impl State {
    fn show(&mut self, elapsed: Duration) {
        if self.shown.is_some_and(|shown| elapsed < shown + SHOWN_EVERY) {
            return;
        }
        self.shown = Some(elapsed);
        let progress =
            self.under_way.values().fold(self.ahead.plus(&self.past), |sum, member| sum.plus(&member.progress()));
        let told = Snapshot::together(self.under_way.values().map(|member| &member.last));
        // The end of one model is not the end of all.
        let phase = if told.phase.is_last() { Phase::Fetching } else { told.phase };
        let read_bytes = self.read_bytes + told.read_bytes;
        self.observer.tick(&Snapshot { phase, elapsed, progress, read_bytes, ..told });
    }
}

impl Observer for Seat {
    fn tick(&mut self, snapshot: &Snapshot) {
        let mut state = self.board.state.borrow_mut();
        if let Some(member) = state.under_way.get_mut(&self.number) {
            member.last = snapshot.clone();
        }
        state.show(self.board.started.elapsed());
    }

    fn note(&mut self, line: &str) {
        self.board.note(line);
    }

    fn end(&mut self, summary: &str) {
        // Of this model: others go on.
        self.board.state.borrow_mut().observer.summary(summary);
    }
}

fn planned(manifest: &Manifest) -> Progress {
    Progress { bytes_total: manifest.total_bytes(), files_total: manifest.entries.len(), ..Progress::default() }
}

/// Whose CPU time it was: what the process takes is parted evenly among the models that are under way.
#[derive(Default)]
struct Ledger {
    at: f64,
    under_way: BTreeMap<usize, f64>,
}

impl Ledger {
    fn begin(&mut self, number: usize, cpu_seconds: f64) {
        self.share(cpu_seconds);
        self.under_way.insert(number, 0.0);
    }

    fn end(&mut self, number: usize, cpu_seconds: f64) -> f64 {
        self.share(cpu_seconds);
        self.under_way.remove(&number).unwrap_or(0.0)
    }

    fn share(&mut self, cpu_seconds: f64) {
        let count = u32::try_from(self.under_way.len()).unwrap_or(u32::MAX).max(1);
        let each = (cpu_seconds - self.at).max(0.0) / f64::from(count);
        self.under_way.values_mut().for_each(|seconds| *seconds += each);
        self.at = cpu_seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kept(Rc<RefCell<Vec<Snapshot>>>);

    impl Observer for Kept {
        fn tick(&mut self, snapshot: &Snapshot) {
            self.0.borrow_mut().push(snapshot.clone());
        }
        fn note(&mut self, _: &str) {}
        fn end(&mut self, _: &str) {}
    }

    fn told(phase: Phase, fetched: u64, total: u64) -> Snapshot {
        let progress =
            Progress { bytes_total: total, bytes_fetched: fetched, files_total: 1, spans: 1, ..Progress::default() };
        Snapshot { phase, progress, ..Snapshot::default() }
    }

    #[test]
    fn the_progress_is_of_all_models_and_never_falls() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let board = Board::new(Box::new(Kept(seen.clone())), Instant::now());
        board.state.borrow_mut().ahead = Progress { bytes_total: 100, files_total: 1, ..Progress::default() };
        let last = |phase, fetched, total, spans| {
            board.state.borrow_mut().shown = None;
            board.state.borrow_mut().show(Duration::ZERO);
            let last = seen.borrow().last().cloned().unwrap();
            let found = (last.phase, last.progress.bytes_fetched, last.progress.bytes_total, last.progress.spans);
            assert_eq!(found, (phase, fetched, total, spans));
        };
        let (mut one, mut two) = (board.begin(1, None, 0.0), board.begin(2, None, 0.0));
        one.tick(&told(Phase::Reading, 0, 10));
        two.tick(&told(Phase::Fetching, 7, 20));
        last(Phase::Fetching, 7, 130, 2);
        two.tick(&told(Phase::Sealed, 20, 20));
        last(Phase::Reading, 20, 130, 2);
        board.leave(2, 0.0);
        last(Phase::Reading, 20, 130, 1);
        one.tick(&told(Phase::Stopped, 3, 10));
        last(Phase::Fetching, 23, 130, 1);
        board.leave(1, 0.0);
        last(Phase::Resolving, 23, 130, 0);
    }

    #[test]
    fn ticks_of_many_models_are_shown_as_seldom_as_those_of_one() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let board = Board::new(Box::new(Kept(seen.clone())), Instant::now());
        for number in 0..100 {
            board.begin(number, None, 0.0).tick(&told(Phase::Fetching, 0, 1));
        }
        let most = board.started.elapsed().as_millis() / SHOWN_EVERY.as_millis() + 1;
        assert!(u128::try_from(seen.borrow().len()).unwrap() <= most);
    }

    #[test]
    fn cpu_time_is_parted_among_those_under_way_and_counted_once() {
        let mut ledger = Ledger::default();
        // Two seconds before anything began are nobody's.
        ledger.begin(1, 2.0);
        ledger.begin(2, 3.0);
        ledger.begin(3, 5.0);
        assert_eq!(ledger.end(1, 8.0), 1.0 + 1.0 + 1.0);
        assert_eq!(ledger.end(3, 9.0), 1.0 + 0.5);
        assert_eq!(ledger.end(2, 9.0), 1.0 + 1.0 + 0.5);
        ledger.begin(4, 20.0);
        assert_eq!(ledger.end(4, 21.0), 1.0);
        assert_eq!(ledger.end(9, 30.0), 0.0);
    }
}
