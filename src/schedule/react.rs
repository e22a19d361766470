//! What each event changes.

use crate::error::{Error, Failure, FailureKind};
use crate::manifest::Stated;
use crate::schedule::files::{After, Proof, Stage};
use crate::schedule::meter::Meter;
use crate::schedule::pieces::Place;
use crate::schedule::retry::Want;
use crate::schedule::scheduler::{Course, Errand, ErrandKind, Scheduler};
use crate::schedule::{Connection, Event, FileIndex, FilePlan, Kept, Now, Outcome, SpanId};
use crate::units::piece_count;
use crate::verify::PieceProof;

/// How often a file whose statement does not match is asked again.
const REFETCHES_MAX: u32 = 2;

impl Scheduler {
    /// Takes in what happened at `now`. Then ask [`Scheduler::next_action`] until it has none.
    pub fn on_event(&mut self, now: Now, event: Event) {
        self.tick(now);
        match event {
            Event::Received { bytes, held } => {
                self.meter.received_bytes += bytes;
                self.meter.bytes_at = self.clock;
                if held {
                    self.window.note_held(bytes);
                }
            }
            Event::Continued { span } => {
                assert!(self.spans.contains_key(&span), "a span went on that is not outstanding");
                self.meter.requests += 1;
                self.meter.retried += 1;
                self.meter.outcomes.note(Outcome::Continued);
            }
            Event::Written { span, file, piece, proof } => self.on_written(span, file, piece, proof),
            Event::Sized { span, file, size } => self.on_sized(span, file, size),
            Event::Ended { span, result } => self.on_ended(span, result),
            Event::Opened { file, result } => self.on_opened(file, result),
            Event::DataSynced { checkpoint, result } => self.on_data_synced(checkpoint, result),
            Event::Appended { checkpoint, result } => self.on_appended(checkpoint, result),
            Event::Noted { result } => self.on_noted(result),
            Event::Renewed { file, result } => self.on_renewed(file, result),
            Event::Restated { file, result } => self.on_restated(file, result),
            Event::Hashed { file, result } => self.on_hashed(file, result),
            Event::Sealed { file, result } => self.on_sealed(file, result),
            Event::Published { result } => self.on_published(result),
            Event::StopAsked { error } => self.fail(error),
        }
    }

    fn on_opened(&mut self, index: FileIndex, result: Result<(), Failure>) {
        self.pending.opens -= 1;
        let file = &mut self.files[index];
        assert!(file.stage == Stage::Opening, "a file was opened that nobody asked for");
        if let Err(failure) = result {
            self.fail_file(index, failure);
            return;
        }
        file.stage = if file.stale { Stage::Dropping } else { Stage::Active };
        if file.all_durable() {
            self.prove(index);
        }
    }

    fn on_written(&mut self, id: SpanId, index: FileIndex, piece: u64, proof: PieceProof) {
        let now = self.clock;
        let span = self.spans.get_mut(&id);
        let Some(span) = span.filter(|span| span.file == index) else {
            unreachable!("a piece was written by no span of its file")
        };
        span.written += 1;
        (span.history.throttles, span.history.verdict) = (0, None);
        let file = &mut self.files[index];
        match span.want {
            Want::Part(run) => assert!(run.indexes().contains(&piece), "a piece outside its span was written"),
            Want::Whole => file.pieces.grow(piece + 1),
        }
        file.ranged |= span.want != Want::Whole;
        file.pieces.written(piece, proof);
        file.renewals = 0;
        let bytes = file.piece_bytes(piece);
        if file.poisoned {
            self.meter.settled_pieces += 1;
        } else if file.kept == Kept::Unjournaled {
            file.pieces.shift(piece, Place::Written, Place::Durable);
            self.meter.settled_pieces += 1;
        } else {
            file.dirty.push(piece);
            self.noted.note_written();
            self.settle.note_written(now, index, bytes);
            if file.whole() {
                self.settle.note_whole(now);
            }
        }
        self.meter.written_bytes += bytes;
        self.meter.written_pieces += 1;
        self.meter.bytes_at = now;
        self.window.delivered(now, bytes);
        self.budget.earn();
        self.note_success();
    }

    fn note_success(&mut self) {
        let origin = &mut self.origin;
        (origin.answered, origin.unreachable_since, origin.throttles) = (true, None, 0);
    }

    fn on_sized(&mut self, id: SpanId, index: FileIndex, size: u64) {
        let whole = self.spans.get(&id).is_some_and(|span| span.file == index && span.want == Want::Whole);
        assert!(whole, "a size was told by no stream of its file");
        let file = &mut self.files[index];
        // A size that does not fit its pieces is left out: the span's end will find the stream wanting.
        if file.size.is_none() && file.pieces.len() == piece_count(size) && file.pieces.whole() {
            file.size = Some(size);
            // Its claims were made without a size; they are made again with it.
            file.declared = false;
            self.meter.bytes_total += size;
            self.settle.note_whole(self.clock);
        }
    }

    fn on_ended(&mut self, id: SpanId, result: Result<(), Failure>) {
        let Some(span) = self.spans.remove(&id) else { unreachable!("a span ended that is not outstanding") };
        self.lanes[span.lane] -= 1;
        let index = span.file;
        self.files[index].spans -= 1;
        let failure = match result {
            Ok(()) => {
                self.note_success();
                self.unfulfilled(&span)
                    .then(|| Failure::new(FailureKind::BadReply, "the reply ended without all its bytes"))
            }
            Err(failure) => Some(failure),
        };
        self.meter.outcomes.note(match &failure {
            None => Outcome::Delivered,
            Some(_) if self.stopping().is_some() => Outcome::Stopped,
            Some(failure) => Outcome::Failed(failure.kind),
        });
        match failure {
            Some(failure) => self.on_span_failed(span, failure),
            None => self.after_settling(index),
        }
    }

    fn on_renewed(&mut self, index: FileIndex, result: Result<(), Failure>) {
        self.pending.errands -= 1;
        let Some(errand) = self.errands.remove(&index) else {
            unreachable!("an access was renewed that nobody asked for")
        };
        match result {
            Ok(()) => {
                let file = &mut self.files[index];
                file.access += 1;
                file.renewals += 1;
                self.after_settling(index);
            }
            Err(failure) => self.retry_errand(index, errand, failure),
        }
    }

    fn on_restated(&mut self, index: FileIndex, result: Result<FilePlan, Failure>) {
        self.pending.errands -= 1;
        let Some(errand) = self.errands.remove(&index) else {
            unreachable!("an object was restated that nobody asked for")
        };
        let plan = match result {
            Ok(plan) => plan,
            Err(failure) => return self.retry_errand(index, errand, failure),
        };
        let file = &mut self.files[index];
        assert!(file.stage == Stage::Restating, "a file was restated while it was in use");
        self.meter.bytes_total -= file.size.unwrap_or(0);
        file.replan(plan);
        self.meter.bytes_total += file.size.unwrap_or(0);
        if file.stale {
            self.settle.note_drop(index);
        }
        self.open.remove(&index);
        self.reopen.push_back(index);
    }

    fn on_hashed(&mut self, index: FileIndex, result: Result<Vec<Stated>, Failure>) {
        self.pending.hashes -= 1;
        let file = &mut self.files[index];
        assert!(file.stage == Stage::Hashing, "a file was hashed that nobody asked for");
        if self.course != Course::Running {
            return;
        }
        match result {
            Ok(computed) => {
                file.computed = Some(computed);
                self.prove(index);
            }
            Err(failure) => self.fail_file(index, failure),
        }
    }

    fn on_sealed(&mut self, index: FileIndex, result: Result<(), Failure>) {
        self.pending.seals -= 1;
        let file = &mut self.files[index];
        let Stage::Sealing { digest } = file.stage else { unreachable!("a file was sealed that nobody asked for") };
        match result {
            Ok(()) => {
                file.stage = Stage::Sealed { digest };
                self.open.remove(&index);
                self.meter.files_done += 1;
                match file.kept {
                    Kept::Journaled => self.settle.note_sealed(index),
                    // It is durable only now.
                    Kept::Unjournaled => self.meter.durable_bytes += file.size.unwrap_or(0),
                }
            }
            Err(failure) => self.fail_file(index, failure),
        }
    }

    fn on_published(&mut self, result: Result<(), Failure>) {
        assert!(self.course == Course::Publishing, "a model was published that nobody asked for");
        let result = result.map_err(|failure| super::failures::error_of("the model", failure));
        self.course = Course::Published { result };
    }

    /// Goes on with a file after its spans, its checkpoint or its access changed.
    pub(super) fn after_settling(&mut self, index: FileIndex) {
        if self.course != Course::Running {
            return;
        }
        let file = &mut self.files[index];
        let quiet = file.spans == 0 && !file.settling;
        match file.stage {
            Stage::Active if quiet && file.all_durable() => self.prove(index),
            Stage::Draining(After::Restat) if quiet && !self.errands.contains_key(&index) => {
                file.stage = Stage::Restating;
                self.set_aside(index);
                self.files[index].forget();
                let errand = Errand { kind: ErrandKind::Restat, tries: 0, not_before: self.clock, outstanding: false };
                self.errands.insert(index, errand);
            }
            Stage::Draining(After::StartOver) if quiet => self.start_over(index),
            _ => {}
        }
    }

    /// Forgets every piece of a drained file and asks for all of it again, once the journal knows.
    fn start_over(&mut self, index: FileIndex) {
        self.set_aside(index);
        let file = &mut self.files[index];
        file.forget();
        if file.stale {
            file.stage = Stage::Dropping;
            self.settle.note_drop(index);
        } else {
            file.stage = Stage::Active;
        }
    }

    /// Takes a file's pieces and part retries out of all accounts before they are forgotten.
    fn set_aside(&mut self, index: FileIndex) {
        let file = &self.files[index];
        let dirty_bytes = file.dirty.iter().map(|piece| file.piece_bytes(*piece)).sum();
        self.settle.forgive(index, dirty_bytes);
        Meter::forget(&mut self.meter, file);
        self.retries.retain(|retry| retry.file != index || retry.want == Want::Whole);
    }

    /// Compares a durable file with its statements: on to its seal, or once more from the start. Before that, sums that
    /// need its bytes in order are completed.
    fn prove(&mut self, index: FileIndex) {
        let file = &mut self.files[index];
        if file.to_hash() {
            file.stage = Stage::Hashing;
            self.hashing.push_back(index);
            return;
        }
        match file.prove() {
            Proof::Matches => self.sealing.push_back(index),
            Proof::Differs { check, again } if again || REFETCHES_MAX <= file.refetches => {
                let what = if again { "twice the same other bytes arrived" } else { "and asking again did not help" };
                self.fail(Error::Integrity(format!(
                    "{}: the content does not match the stated {} {} ({what})",
                    self.files[index].name, check.name, check.stated
                )));
            }
            Proof::Differs { .. } => {
                file.refetches += 1;
                file.distrusted = true;
                file.stage = Stage::Draining(After::StartOver);
                self.after_settling(index);
            }
        }
    }

    /// The connection a first try of this file may use.
    pub(super) fn connection_for(&self, index: FileIndex) -> Connection {
        if self.files[index].distrusted { Connection::Fresh } else { Connection::Any }
    }

    /// Whether pieces that the span should have brought are missing.
    fn unfulfilled(&self, span: &super::scheduler::Span) -> bool {
        let file = &self.files[span.file];
        match span.want {
            Want::Part(run) => run.indexes().any(|piece| file.pieces.place(piece) == Place::InFlight),
            Want::Whole => !file.whole(),
        }
    }
}
