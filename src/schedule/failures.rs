//! What each failure means: ask again, wait, renew, start over, or end the run.

use std::time::Duration;

use crate::error::{Error, Failure, FailureKind};
use crate::manifest::Ranges;
use crate::schedule::files::{After, Stage};
use crate::schedule::pieces::Place;
use crate::schedule::retry::{Alone, Among, History, Retry, Want, backoff, capped};
use crate::schedule::scheduler::{Course, Errand, ErrandKind, Scheduler, Span, Storage, UNREACHABLE_MAX};
use crate::schedule::{Connection, FileIndex, Now};

/// Throttle answers without a new piece that a span bears before they count as failed tries.
const THROTTLES_MAX: u32 = 20;
/// Renewals of one file without a new piece.
const RENEWALS_MAX: u32 = 3;
/// While nobody ever answered, tries stay this close together.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(2);

/// The error of a failure that ends the run; `subject` is a file or a step.
pub(super) fn error_of(subject: &str, failure: Failure) -> Error {
    Error::of(failure.kind, format!("{subject}: {}", failure.detail))
}

/// The error of a failed sync or append, whatever kind it was given.
pub(super) fn storage_error(subject: &str, failure: Failure) -> Error {
    let text = format!("{subject}: {}", failure.detail);
    if failure.kind == FailureKind::DiskFull { Error::DiskFull(text) } else { Error::Storage(text) }
}

impl Scheduler {
    /// Ends the run because of `index`; a storage failure poisons it first.
    pub(super) fn fail_file(&mut self, index: FileIndex, failure: Failure) {
        if matches!(failure.kind, FailureKind::Disk | FailureKind::DiskFull) {
            self.poison(index);
        }
        self.fail(error_of(&self.files[index].name, failure));
    }

    /// Nothing written to this file and not yet durable will ever be claimed, and it is never synced again.
    pub(super) fn poison(&mut self, index: FileIndex) {
        self.storage = self.storage.max(Storage::Failed);
        let file = &mut self.files[index];
        file.poisoned = true;
        let dirty = std::mem::take(&mut file.dirty);
        let bytes = dirty.iter().map(|piece| file.piece_bytes(*piece)).sum();
        self.meter.settled_pieces += u64::try_from(dirty.len()).unwrap_or(0);
        self.settle.forgive(index, bytes);
    }

    pub(super) fn on_span_failed(&mut self, span: Span, failure: Failure) {
        let index = span.file;
        if matches!(failure.kind, FailureKind::Disk | FailureKind::DiskFull) {
            self.give_back(&span, Place::Waiting);
            self.fail_file(index, failure);
            return;
        }
        if !matches!(failure.kind, FailureKind::Unreachable | FailureKind::Stalled | FailureKind::Broken) {
            (self.origin.answered, self.origin.unreachable_since) = (true, None);
        }
        if self.course != Course::Running || self.files[index].stage != Stage::Active {
            self.give_back(&span, Place::Waiting);
            self.after_settling(index);
            return;
        }
        match failure.kind {
            FailureKind::Throttled { retry_after } => self.on_throttled(span, &failure, retry_after),
            FailureKind::Unavailable { retry_after } => self.try_again(span, &failure, capped(retry_after)),
            FailureKind::Unreachable => {
                if !self.origin.answered && self.origin.unreachable_since.is_none() {
                    self.origin.unreachable_since = Some((self.clock, failure.clone()));
                }
                self.try_again(span, &failure, Duration::ZERO);
            }
            FailureKind::Broken | FailureKind::Stalled | FailureKind::BadReply => {
                self.try_again(span, &failure, Duration::ZERO)
            }
            FailureKind::Expired => self.on_expired(span, failure),
            FailureKind::RangeIgnored => self.on_range_ignored(span, &failure),
            FailureKind::Changed => self.on_changed(span, failure),
            FailureKind::Denied | FailureKind::Missing if span.history.verdict != Some(failure.kind) => {
                let history = History { verdict: Some(failure.kind), connection: Connection::Fresh, ..span.history };
                let wait = backoff(&mut self.rng, 1);
                self.park(&span, history, wait);
            }
            FailureKind::Denied | FailureKind::Missing | FailureKind::Refused => {
                self.give_back(&span, Place::Waiting);
                self.fail_file(index, failure);
            }
            FailureKind::Disk | FailureKind::DiskFull => unreachable!("handled above"),
        }
    }

    fn on_throttled(&mut self, span: Span, failure: &Failure, retry_after: Option<Duration>) {
        self.window.cut(self.clock);
        self.origin.throttles = self.origin.throttles.saturating_add(1);
        let wait = backoff(&mut self.rng, self.origin.throttles).max(capped(retry_after));
        self.origin.quiet_until = self.origin.quiet_until.max(self.clock + wait);
        let throttles = span.history.throttles + 1;
        if THROTTLES_MAX < throttles {
            let history = History { throttles: 0, ..span.history };
            return self.try_again(Span { history, ..span }, failure, wait);
        }
        let history = History { throttles, ..span.history };
        self.park(&span, history, wait);
    }

    fn on_expired(&mut self, span: Span, failure: Failure) {
        let index = span.file;
        let file = &self.files[index];
        let current = span.access == file.access;
        if current && RENEWALS_MAX <= file.renewals {
            self.give_back(&span, Place::Waiting);
            self.fail_file(index, failure);
            return;
        }
        if current && !self.errands.contains_key(&index) {
            let errand = Errand { kind: ErrandKind::Renew, tries: 0, not_before: self.clock, outstanding: false };
            self.errands.insert(index, errand);
        }
        let history = span.history;
        self.park(&span, history, Duration::ZERO);
    }

    /// The first reply tells whether ranges are served. Where they were, one server of many misbehaves: ask again.
    fn on_range_ignored(&mut self, span: Span, failure: &Failure) {
        let file = &mut self.files[span.file];
        let last_try = self.bounds.attempts_max <= span.history.tries + 1;
        if span.want == Want::Whole || (file.ranged && !last_try) {
            return self.try_again(span, failure, Duration::ZERO);
        }
        file.ranges = Ranges::Refused;
        self.drain(span, After::StartOver);
    }

    fn on_changed(&mut self, span: Span, failure: Failure) {
        let index = span.file;
        let file = &mut self.files[index];
        file.restarts += 1;
        if self.bounds.restarts_max < file.restarts {
            self.give_back(&span, Place::Waiting);
            self.fail_file(index, failure);
            return;
        }
        self.drain(span, After::Restat);
    }

    /// Lets the file's outstanding spans end before it turns to `after`.
    fn drain(&mut self, span: Span, after: After) {
        let index = span.file;
        self.give_back(&span, Place::Waiting);
        self.files[index].stage = Stage::Draining(after);
        self.after_settling(index);
    }

    /// Asks again after a backoff, unless the span has had all its tries.
    fn try_again(&mut self, span: Span, failure: &Failure, wait: Duration) {
        let index = span.file;
        let progressed = match span.want {
            Want::Part(_) => 0 < span.written,
            Want::Whole => self.files[index].stream_best < span.written,
        };
        let tries = if progressed { 1 } else { span.history.tries + 1 };
        let never_answered = self.origin.unreachable_since.is_some();
        if self.bounds.attempts_max <= tries && !never_answered {
            self.give_back(&span, Place::Waiting);
            let text = format!("{}: {}; given up after {tries} tries", self.files[index].name, failure.detail);
            self.fail(Error::Network(text));
            return;
        }
        let pause = backoff(&mut self.rng, tries);
        let pause = if never_answered { pause.min(UNREACHABLE_PAUSE) } else { pause };
        let connection = match failure.kind {
            FailureKind::Unavailable { .. } => span.history.connection,
            _ => Connection::Fresh,
        };
        self.park(&span, History { tries, connection, ..span.history }, pause.max(wait));
    }

    /// Puts what a span did not bring aside until `wait` is over.
    fn park(&mut self, span: &Span, history: History, wait: Duration) {
        let index = span.file;
        let not_before = self.clock + wait;
        match span.want {
            Want::Part(_) => {
                let left = self.give_back(span, Place::Parked);
                let retries =
                    left.into_iter().map(|run| Retry { file: index, want: Want::Part(run), not_before, history });
                self.retries.extend(retries);
                self.after_settling(index);
            }
            Want::Whole => {
                let file = &mut self.files[index];
                file.stream_best = file.stream_best.max(span.written);
                self.retries.push(Retry { file: index, want: Want::Whole, not_before, history });
                // A broken stream starts over from its first byte.
                file.stage = Stage::Draining(After::StartOver);
                self.after_settling(index);
            }
        }
    }

    /// Takes the pieces a span did not bring out of flight.
    fn give_back(&mut self, span: &Span, to: Place) -> Vec<super::pieces::Run> {
        let Want::Part(run) = span.want else { return Vec::new() };
        let pieces = &mut self.files[span.file].pieces;
        let left = pieces.in_flight(run);
        for piece in left.iter().flat_map(|run| run.indexes()) {
            pieces.shift(piece, Place::InFlight, to);
        }
        left
    }

    /// The retry that has been due longest, if its file can be asked and the budget covers it.
    pub(super) fn take_due_retry(&mut self, among: Among) -> Option<Retry> {
        let alone = if self.spans.is_empty() { Alone::Yes } else { Alone::No };
        if !self.budget.covers(alone) {
            return None;
        }
        let due = |retry: &Retry| {
            let asked = among == Among::All || retry.history.verdict.is_some();
            retry.not_before <= self.clock && asked && self.askable(retry.file)
        };
        let candidates = self.retries.iter().enumerate().filter(|(_, retry)| due(retry));
        let (place, _) = candidates.min_by_key(|(place, retry)| (retry.not_before, *place))?;
        self.budget.pay();
        Some(self.retries.remove(place))
    }

    /// Repeats a renewal or a restat after a backoff, or ends the run.
    pub(super) fn retry_errand(&mut self, index: FileIndex, errand: Errand, failure: Failure) {
        if self.course != Course::Running {
            return;
        }
        let tries = errand.tries + 1;
        let wait = match failure.kind {
            FailureKind::Throttled { retry_after } | FailureKind::Unavailable { retry_after } => capped(retry_after),
            FailureKind::Broken | FailureKind::Stalled | FailureKind::Unreachable | FailureKind::BadReply => {
                Duration::ZERO
            }
            // A restat that says "changed" met yet another version: ask again.
            FailureKind::Changed => Duration::ZERO,
            FailureKind::Expired
            | FailureKind::RangeIgnored
            | FailureKind::Denied
            | FailureKind::Missing
            | FailureKind::Refused
            | FailureKind::DiskFull
            | FailureKind::Disk => return self.fail_file(index, failure),
        };
        if self.bounds.attempts_max <= tries {
            return self.fail_file(index, failure);
        }
        let wait = backoff(&mut self.rng, tries).max(wait);
        self.errands.insert(index, Errand { tries, not_before: self.clock + wait, outstanding: false, ..errand });
    }

    pub(super) fn unreachable_deadline(&self) -> Option<Now> {
        self.origin.unreachable_since.as_ref().map(|(since, _)| *since + UNREACHABLE_MAX)
    }

    /// Ends the run when nobody ever answered for [`UNREACHABLE_MAX`].
    pub(super) fn give_up_unreachable(&mut self) {
        if self.unreachable_deadline().is_some_and(|deadline| deadline <= self.clock)
            && let Some((_, failure)) = self.origin.unreachable_since.take()
        {
            self.fail(Error::Network(failure.detail));
        }
    }
}
