//! The scheduler's state, and the order in which it decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::error::{Error, Failure};
use crate::journal::written::PIECES_MAX;
use crate::limits::Limits;
use crate::schedule::files::{File, Stage};
use crate::schedule::meter::Meter;
use crate::schedule::noted::Noted;
use crate::schedule::pieces::{Place, Run};
use crate::schedule::retry::{Among, Budget, History, Retry, Want};
use crate::schedule::rng::Rng;
use crate::schedule::settle::Settle;
use crate::schedule::stretches::STREAMS_ENOUGH;
use crate::schedule::window::Window;
use crate::schedule::{Action, FileIndex, FilePlan, Kept, Now, SpanId};
use crate::units::{MIB, PIECE_BYTES};
use crate::verify::wide;

/// Files that may be open at once: enough to keep many small ones in flight, far below any descriptor limit.
pub(super) const OPEN_MAX: usize = 32;

/// Decides what a run does next. Feed it every [`Event`](crate::schedule::Event), then take actions until there is none.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) bounds: Bounds,
    /// By [`FileIndex`].
    pub(super) files: Vec<File>,
    /// Files that hold a part file open or wait for one, in manifest order.
    pub(super) open: BTreeSet<FileIndex>,
    /// The first file never opened.
    pub(super) unopened: FileIndex,
    /// Files to open once more: their object changed.
    pub(super) reopen: VecDeque<FileIndex>,
    pub(super) spans: BTreeMap<SpanId, Span>,
    pub(super) retries: Vec<Retry>,
    pub(super) errands: BTreeMap<FileIndex, Errand>,
    /// Outstanding spans by lane.
    pub(super) lanes: Vec<usize>,
    pub(super) window: Window,
    pub(super) budget: Budget,
    pub(super) origin: OriginHealth,
    pub(super) settle: Settle,
    pub(super) noted: Noted,
    /// Durable files whose ordered sums are to be completed.
    pub(super) hashing: VecDeque<FileIndex>,
    pub(super) sealing: VecDeque<FileIndex>,
    pub(super) pending: Pending,
    pub(super) course: Course,
    pub(super) storage: Storage,
    pub(super) rng: Rng,
    pub(super) next_span: u64,
    pub(super) meter: Meter,
    pub(super) read_back: ReadBack,
    pub(super) kept: Kept,
    /// The latest time seen; time never runs backwards.
    pub(super) clock: Now,
}

/// The limits the decisions use, in pieces.
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) span_pieces_min: u64,
    pub(super) span_pieces_max: u64,
    pub(super) checkpoint_bytes: u64,
    pub(super) unsettled_pieces: u64,
    pub(super) unnoted_pieces: u64,
    pub(super) attempts_max: u32,
    pub(super) restarts_max: u32,
}

/// An outstanding span.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) file: FileIndex,
    pub(super) want: Want,
    pub(super) lane: usize,
    pub(super) access: u32,
    pub(super) written: u64,
    pub(super) history: History,
}

/// A question about one file that is not a span: renew its access, or ask what it is now.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) kind: ErrandKind,
    pub(super) tries: u32,
    pub(super) not_before: Now,
    pub(super) outstanding: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrandKind {
    Renew,
    Restat,
}

/// Whether bytes that came ahead of an ordered sum can be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadBack {
    Possible,
    Impossible,
}

/// What the origin's answers say about all of it.
#[derive(Debug, Default)]
pub(super) struct OriginHealth {
    /// It answered something at least once.
    pub(super) answered: bool,
    /// When it was first found unreachable, while it never answered.
    pub(super) unreachable_since: Option<(Now, Failure)>,
    /// Asked to slow down: no request before this.
    pub(super) quiet_until: Now,
    /// Throttle answers since the last success.
    pub(super) throttles: u32,
}

/// Outstanding actions besides spans and the checkpoint.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) opens: u32,
    pub(super) hashes: u32,
    pub(super) seals: u32,
    pub(super) errands: u32,
}

/// What writes, syncs and appends have shown so far, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Storage {
    Sound,
    /// A write or data sync failed: an orderly stop cannot be claimed.
    Failed,
    /// An append failed: nothing is claimed any more.
    JournalLost,
}

/// Where the run as a whole is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Course {
    Running,
    /// It failed or was stopped: everything outstanding drains.
    Ending {
        error: Error,
    },
    /// The receipt is being written: from here on only its outcome counts.
    Publishing,
    Published {
        result: Result<(), Error>,
    },
    Finished,
}

impl Scheduler {
    /// A scheduler for `files`, in manifest order. The same seed and events give the same actions.
    ///
    /// The journal must claim of each file exactly what its plan says is held (see [`resume`](crate::schedule::resume)).
    pub fn new(limits: &Limits, files: Vec<FilePlan>, seed: u64) -> Self {
        let (span_bytes_min, span_bytes_max) = limits.span_bytes;
        let bounds = Bounds {
            // Half the usual least: near the end shorter spans keep all connections busy, below that requests cost more than they gain.
            span_pieces_min: (span_bytes_min.min(span_bytes_max) / PIECE_BYTES / 2).max(1),
            span_pieces_max: (span_bytes_max / PIECE_BYTES).max(1),
            // The gate lets `unsettled_bytes_max` in: a checkpoint must begin well before it is full, also where
            // nothing can be noted.
            checkpoint_bytes: (16 * MIB).min(limits.unsettled_bytes_max.min(limits.unnoted_bytes_max) / 2).max(1),
            unsettled_pieces: (limits.unsettled_bytes_max / PIECE_BYTES).clamp(1, wide(PIECES_MAX)),
            unnoted_pieces: (limits.unnoted_bytes_max.min(limits.unsettled_bytes_max) / PIECE_BYTES).max(1),
            attempts_max: limits.attempts_max.max(1),
            restarts_max: limits.restarts_max,
        };
        let files: Vec<File> = files.into_iter().map(File::new).collect();
        let (meter, settle) = (Meter::new(&files), Settle::new(&files));
        Self {
            bounds,
            files,
            open: BTreeSet::new(),
            unopened: 0,
            reopen: VecDeque::new(),
            spans: BTreeMap::new(),
            retries: Vec::new(),
            errands: BTreeMap::new(),
            lanes: vec![0; limits.lanes.max(1)],
            window: Window::new(limits),
            budget: Budget::new(),
            origin: OriginHealth::default(),
            settle,
            noted: Noted::default(),
            hashing: VecDeque::new(),
            sealing: VecDeque::new(),
            pending: Pending::default(),
            course: Course::Running,
            storage: Storage::Sound,
            rng: Rng::new(seed),
            next_span: 0,
            meter,
            read_back: ReadBack::Possible,
            kept: Kept::Journaled,
            clock: Now::ZERO,
        }
    }

    /// For a run that keeps no bytes: where sums need an order, every byte is asked in that order.
    #[must_use]
    pub fn in_order(self) -> Self {
        Self { read_back: ReadBack::Impossible, ..self }
    }

    /// The next thing to do, if any. Ask until `None` after every event and at [`Scheduler::wake_at`].
    pub fn next_action(&mut self, now: Now) -> Option<Action> {
        self.tick(now);
        self.give_up_unreachable();
        if let Some(action) = self.next_checkpoint_step() {
            return Some(action);
        }
        if let Some(action) = self.next_note() {
            return Some(action);
        }
        if self.course == Course::Running {
            let action = self
                .next_seal()
                .or_else(|| self.next_hash())
                .or_else(|| self.next_errand())
                .or_else(|| self.next_open())
                .or_else(|| self.next_fetch());
            if action.is_some() {
                return action;
            }
        }
        if let Some(action) = self.next_idle_checkpoint() {
            return Some(action);
        }
        self.next_ending()
    }

    /// The next time at which something can happen without an event.
    pub fn wake_at(&self) -> Option<Now> {
        let running = self.course == Course::Running;
        let blocked_until = self.origin.quiet_until;
        let settle = self.settle.wake_at().filter(|_| running);
        let retries = self.retries.iter().filter(|_| running).map(|retry| retry.not_before.max(blocked_until));
        let errands =
            self.errands.values().filter(|errand| running && !errand.outstanding).map(|errand| errand.not_before);
        let quiet = running.then_some(blocked_until);
        let deadline = self.unreachable_deadline().filter(|_| running);
        retries.chain(errands).chain(quiet).chain(deadline).chain(settle).filter(|at| self.clock < *at).min()
    }

    /// Why the run is ending, once it is: every outstanding span should be made to end now, each with its `Ended`.
    pub fn stopping(&self) -> Option<&Error> {
        match &self.course {
            Course::Ending { error } => Some(error),
            Course::Running | Course::Publishing | Course::Published { .. } | Course::Finished => None,
        }
    }

    /// Moves the clock and charges the time that passed to what held the run back.
    pub(super) fn tick(&mut self, now: Now) {
        if self.clock < now {
            let brake = self.brake();
            self.meter.charge(brake, now - self.clock);
            self.clock = now;
        }
    }

    /// Ends the run with `error` unless it is ending already: the first reason counts.
    pub(super) fn fail(&mut self, error: Error) {
        if self.course == Course::Running {
            self.course = Course::Ending { error };
            self.retries.clear();
            self.errands.retain(|_, errand| errand.outstanding);
        }
    }

    /// No action is unanswered, except perhaps a checkpoint's.
    pub(super) fn drained(&self) -> bool {
        let Pending { opens, hashes, seals, errands } = self.pending;
        self.spans.is_empty() && [opens, hashes, seals, errands] == [0; 4]
    }

    fn next_seal(&mut self) -> Option<Action> {
        let index = self.sealing.pop_front()?;
        let file = &mut self.files[index];
        let Stage::Proven { digest } = file.stage else { unreachable!("a file left its proof before it was sealed") };
        assert!(file.all_durable() && file.spans == 0, "a file was sealed before all of it was durable");
        file.stage = Stage::Sealing { digest };
        self.pending.seals += 1;
        Some(Action::Seal { file: index, size: file.size.unwrap_or(0), digest })
    }

    fn next_hash(&mut self) -> Option<Action> {
        let index = self.hashing.pop_front()?;
        let file = &self.files[index];
        assert!(file.stage == Stage::Hashing && file.all_durable() && file.spans == 0, "a busy file was hashed");
        self.pending.hashes += 1;
        Some(Action::Hash { file: index })
    }

    fn next_errand(&mut self) -> Option<Action> {
        let clock = self.clock;
        let (index, errand) =
            self.errands.iter_mut().find(|(_, errand)| !errand.outstanding && errand.not_before <= clock)?;
        errand.outstanding = true;
        self.pending.errands += 1;
        Some(match errand.kind {
            ErrandKind::Renew => Action::Renew { file: *index },
            ErrandKind::Restat => Action::Restat { file: *index },
        })
    }

    fn next_open(&mut self) -> Option<Action> {
        if OPEN_MAX <= self.open.len() {
            return None;
        }
        let lookahead = u64::try_from(self.window.width()).unwrap_or(1) * self.bounds.span_pieces_max * 2;
        if lookahead <= self.reachable_pieces() && self.reopen.is_empty() {
            return None;
        }
        let index = match self.reopen.pop_front() {
            Some(index) => index,
            None => self.next_unopened()?,
        };
        let kept = self.keeping(index);
        (self.files[index].stage, self.files[index].kept) = (Stage::Opening, kept);
        self.open.insert(index);
        self.pending.opens += 1;
        Some(Action::Open { file: index, kept })
    }

    fn next_unopened(&mut self) -> Option<FileIndex> {
        while self.files.get(self.unopened).is_some_and(|file| file.stage != Stage::Planned) {
            self.unopened += 1;
        }
        let index = self.unopened;
        let file = self.files.get(index)?;
        self.unopened += 1;
        self.meter.planned_pieces -= file.to_ask();
        Some(index)
    }

    /// Pieces of open files that still have to be asked for.
    fn opened_pieces(&self) -> u64 {
        self.open.iter().map(|index| self.files[*index].to_ask()).sum()
    }

    /// As [`Scheduler::opened_pieces`]; of a file whose sums need an order only what one span a stretch comes to, twice.
    fn reachable_pieces(&self) -> u64 {
        let reach = |index: &FileIndex| {
            let file = &self.files[*index];
            let ordered =
                (!file.stretches.is_empty()).then(|| file.stretches.count() * self.bounds.span_pieces_max * 2);
            file.to_ask().min(ordered.unwrap_or(u64::MAX))
        };
        self.open.iter().map(reach).sum()
    }

    fn next_fetch(&mut self) -> Option<Action> {
        if self.clock < self.origin.quiet_until {
            return None;
        }
        let doubted = self.doubted();
        let width = if doubted { 1 } else { self.window.width() };
        if width <= self.spans.len() {
            return None;
        }
        if let Some(retry) = self.take_due_retry(if doubted { Among::Repeated } else { Among::All }) {
            self.meter.retried += 1;
            return Some(self.issue(retry.file, retry.want, retry.history, Place::Parked));
        }
        if doubted {
            return None;
        }
        let fresh = self.take_fresh();
        if fresh.is_none() {
            self.window.note_slack();
        }
        let (file, want) = fresh?;
        let history = History::new(self.connection_for(file));
        Some(self.issue(file, want, history, Place::Waiting))
    }

    /// Whether the origin denied or missed something and was not asked again yet: until then one request at a time.
    fn doubted(&self) -> bool {
        let histories =
            self.retries.iter().map(|retry| &retry.history).chain(self.spans.values().map(|span| &span.history));
        histories.into_iter().any(|history| history.verdict.is_some())
    }

    /// Whether new spans of this file may be asked now.
    pub(super) fn askable(&self, index: FileIndex) -> bool {
        self.files[index].stage == Stage::Active && !self.errands.contains_key(&index)
    }

    /// The next waiting run, in manifest order, sized so that all connections stay busy until the end.
    fn take_fresh(&mut self) -> Option<(FileIndex, Want)> {
        let left = self.meter.planned_pieces + self.opened_pieces();
        let width = u64::try_from(self.window.width()).unwrap_or(1);
        let pieces_max = (left / width).clamp(self.bounds.span_pieces_min, self.bounds.span_pieces_max);
        let candidates: Vec<FileIndex> = self.open.iter().copied().filter(|index| self.askable(*index)).collect();
        for index in candidates.iter().copied() {
            let whole_waits = self.retries.iter().any(|retry| retry.file == index && retry.want == Want::Whole);
            let file = &mut self.files[index];
            if !file.streams() {
                if let Some(run) = file.next_run(pieces_max) {
                    return Some((index, Want::Part(run)));
                }
            } else if file.spans == 0 && file.pieces.len() == 0 && !whole_waits {
                return Some((index, Want::Whole));
            }
        }
        self.take_ahead(&candidates, pieces_max)
    }

    /// A run ahead of a file's ordered sum, where too few spans would be outstanding otherwise and enough is left of
    /// the file for that to matter.
    fn take_ahead(&mut self, candidates: &[FileIndex], pieces_max: u64) -> Option<(FileIndex, Want)> {
        if self.read_back == ReadBack::Impossible || STREAMS_ENOUGH <= self.spans.len() {
            return None;
        }
        let left_min = self.bounds.span_pieces_max * 2;
        candidates.iter().find_map(|index| {
            let file = &mut self.files[*index];
            let worthwhile = !file.streams() && left_min < file.to_ask();
            let run = worthwhile.then(|| file.next_run_ahead(pieces_max))??;
            Some((*index, Want::Part(run)))
        })
    }

    /// Sends `want` out; its pieces leave `from`.
    fn issue(&mut self, index: FileIndex, want: Want, history: History, from: Place) -> Action {
        assert!(self.spans.len() < self.window.width(), "more spans are outstanding than the window allows");
        let id = SpanId(self.next_span);
        self.next_span += 1;
        let lane = self.lanes.iter().enumerate().min_by_key(|(_, load)| **load).map_or(0, |(lane, _)| lane);
        let file = &mut self.files[index];
        let range = match want {
            Want::Part(run) => {
                run.indexes().for_each(|piece| file.pieces.shift(piece, from, Place::InFlight));
                Some(span_range(file, run))
            }
            Want::Whole => None,
        };
        file.spans += 1;
        self.lanes[lane] += 1;
        self.meter.requests += 1;
        self.spans.insert(id, Span { file: index, want, lane, access: file.access, written: 0, history });
        Action::Fetch { span: id, file: index, range, lane, connection: history.connection }
    }

    /// What is left once nothing is outstanding: publish, or end.
    fn next_ending(&mut self) -> Option<Action> {
        if !self.drained() || !self.settle.idle() || self.noted.busy() {
            return None;
        }
        match &self.course {
            Course::Running if self.meter.files_done == self.files.len() => {
                self.course = Course::Publishing;
                Some(Action::Publish)
            }
            Course::Ending { error } => {
                let result = Err(error.clone());
                self.course = Course::Finished;
                Some(Action::Finish { result })
            }
            Course::Published { result } => {
                let result = result.clone();
                self.course = Course::Finished;
                Some(Action::Finish { result })
            }
            Course::Running | Course::Publishing | Course::Finished => None,
        }
    }
}

pub(super) fn span_range(file: &File, run: Run) -> crate::units::ByteRange {
    let end = (run.first + run.count) * PIECE_BYTES;
    crate::units::ByteRange::new(run.first * PIECE_BYTES, file.size.map_or(end, |size| size.min(end)))
}

/// After this long without any answer from an origin that nobody ever reached, the run ends.
pub(super) const UNREACHABLE_MAX: Duration = Duration::from_secs(12);
