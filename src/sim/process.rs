//! One life of the engine, as far as the scheduler can tell: it runs actions against the disk and the origin and
//! answers with events, until it finishes, is killed, or breaks a promise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::error::{Error, Failure, FailureKind};
use crate::journal::written::WrittenPiece;
use crate::limits::Limits;
use crate::manifest::Stated;
use crate::schedule::{AHEAD_PIECES_MAX, Action, CheckpointId, Event, FileIndex, Kept, Now, Scheduler, SpanId};
use crate::sim::content::{Edition, PIECE_ON_DISK, SECTOR_BYTES, Stamp, proof, sectors};
use crate::sim::disk::{Barrier, DiskFault, Handle, Wrote};
use crate::sim::marks::Mark;
use crate::sim::origin::{Fate, pieces_of};
use crate::sim::world::{Canary, End, Stop, World};
use crate::units::{ByteRange, PIECE_BYTES};
use crate::verify;

/// Happenings after which a life that has not ended is taken to run in circles.
const STEPS_MAX: u64 = 200_000;

/// What a life is told from outside.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Orders {
    /// SIGTERM at this time.
    pub(super) stop_at: Option<Now>,
    /// The power goes before this happening.
    pub(super) crash_at_step: Option<u64>,
    /// A life that runs longer breaks the promise to end.
    pub(super) time_max: Option<Duration>,
}

/// A span under way.
#[derive(Debug)]
pub(super) struct Reply {
    file: FileIndex,
    edition: Edition,
    handle: Handle,
    next: u64,
    end: u64,
    fate: Fate,
    first: u64,
    whole: bool,
    writing: u32,
    /// The gate kept its next piece waiting.
    held: bool,
    ended: Option<Result<(), Failure>>,
}

/// What happens next, at its time.
#[derive(Debug)]
pub(super) enum Happening {
    Body(SpanId),
    Wrote { span: SpanId, piece: u64, stamp: Stamp, wrote: Wrote },
    Opened(FileIndex),
    Synced(CheckpointId, Vec<(Handle, Barrier)>),
    Appended(CheckpointId),
    Noted(Vec<WrittenPiece>),
    Renewed(FileIndex, Option<FailureKind>),
    Restated(FileIndex, Option<FailureKind>),
    Hash(FileIndex),
    Seal(FileIndex, usize),
    Publish(usize),
    StopAsked,
}

pub(super) struct Process<'w> {
    pub(super) world: &'w mut World,
    pub(super) scheduler: Scheduler,
    pub(super) now: Now,
    queue: BTreeMap<(Now, u64), Happening>,
    queued: u64,
    replies: BTreeMap<SpanId, Reply>,
    /// Spans that wait for the right to receive one more piece.
    gate_queue: VecDeque<SpanId>,
    gate_writing: u64,
    pub(super) parts: BTreeMap<FileIndex, Handle>,
    /// Whether the journal speaks of each file that was opened.
    pub(super) kept: BTreeMap<FileIndex, Kept>,
    /// Names of part files may be in the cache only.
    pub(super) parts_folder_dirty: bool,
    pub(super) receipt_gone: bool,
    /// What was last found of each file's bytes in order.
    pub(super) hashed: BTreeMap<FileIndex, Vec<Stated>>,
    /// Written pieces of each file's attempt, held ones included.
    written: Vec<(u32, BTreeSet<u64>)>,
    /// Written pieces that no list has named, by file and attempt.
    unlisted: BTreeSet<(FileIndex, u32, u64)>,
    steps: u64,
    halted: bool,
}

pub(super) fn fault(what: &str, fault: DiskFault) -> Result<Failure, Stop> {
    match fault {
        DiskFault::Crash => Err(Stop::Crash),
        DiskFault::Full => Ok(Failure::new(FailureKind::DiskFull, what)),
        DiskFault::Io => Ok(Failure::new(FailureKind::Disk, what)),
    }
}

pub(super) fn failed(kind: Option<FailureKind>) -> Result<(), Failure> {
    kind.map_or(Ok(()), |kind| Err(Failure::new(kind, format!("{kind:?}"))))
}

impl<'w> Process<'w> {
    pub(super) fn new(world: &'w mut World, scheduler: Scheduler, held: Vec<BTreeSet<u64>>) -> Self {
        let attempts = (0..held.len()).map(|file| scheduler.file(file).attempt()).collect::<Vec<_>>();
        let trusting = world.canary == Some(Canary::AdoptedTrusted);
        Self {
            world,
            scheduler,
            now: Now::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            replies: BTreeMap::new(),
            gate_queue: VecDeque::new(),
            gate_writing: 0,
            parts: BTreeMap::new(),
            kept: BTreeMap::new(),
            // A process that was killed may have left adopted names in the cache only.
            parts_folder_dirty: !trusting,
            receipt_gone: false,
            hashed: BTreeMap::new(),
            written: attempts.into_iter().zip(held).collect(),
            unlisted: BTreeSet::new(),
            steps: 0,
            halted: false,
        }
    }

    /// Runs to the end of this life.
    pub(super) fn run(&mut self, orders: &Orders) -> Result<End, Stop> {
        if let Some(at) = orders.stop_at {
            self.queue.insert((at, 0), Happening::StopAsked);
        }
        loop {
            if let Some(result) = self.act()? {
                return Ok(End::Finished(result));
            }
            self.steps += 1;
            self.world.steps = self.steps;
            if orders.crash_at_step == Some(self.steps) {
                return Err(Stop::Crash);
            }
            self.check_time(orders)?;
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wake = self.scheduler.wake_at();
            self.now = match (next, wake) {
                (None, None) => return Err(Stop::broken("it hangs: nothing is outstanding and nothing is planned")),
                (Some(at), None) | (None, Some(at)) => at.max(self.now),
                (Some(next), Some(wake)) => next.min(wake).max(self.now),
            };
            if next.is_some_and(|next| next <= self.now)
                && let Some((_, happening)) = self.queue.pop_first()
            {
                self.happen(happening)?;
            }
        }
    }

    fn check_time(&self, orders: &Orders) -> Result<(), Stop> {
        if STEPS_MAX < self.steps {
            return Err(Stop::broken("it runs in circles"));
        }
        match orders.time_max {
            Some(time_max) if time_max < self.now => Err(Stop::broken("without faults it takes too long")),
            _ => Ok(()),
        }
    }

    pub(super) fn after(&mut self, delay: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), happening);
    }

    pub(super) fn disk_delay(&mut self) -> Duration {
        let slow = if self.world.rng.below(16) == 0 { 30 } else { 1 };
        Duration::from_micros(slow * (100 + self.world.rng.below(8000)))
    }

    pub(super) fn tell(&mut self, event: Event) -> Result<(), Stop> {
        self.world.trace.event(self.now, &event);
        self.scheduler.on_event(self.now, event);
        if self.scheduler.stopping().is_some() && !self.halted {
            self.halted = true;
            let spans: Vec<SpanId> = self.replies.keys().copied().collect();
            self.gate_queue.clear();
            for span in spans {
                self.end_body(span, Err(Failure::new(FailureKind::Broken, "stopped")))?;
            }
        }
        self.open_gate()
    }

    fn open_gate(&mut self) -> Result<(), Stop> {
        let Limits { unsettled_bytes_max, unnoted_bytes_max, .. } = self.world.limits;
        let [unsettled_max, rights] =
            [unsettled_bytes_max, unnoted_bytes_max.min(unsettled_bytes_max)].map(|bytes| (bytes / PIECE_BYTES).max(1));
        let unbounded = self.world.canary == Some(Canary::UnboundedGate);
        while unbounded || self.gate_writing + self.scheduler.progress().kept_rights < rights {
            let Some(span) = self.gate_queue.pop_front() else { break };
            self.receive(span)?;
        }
        if unsettled_max < self.gate_writing + self.scheduler.progress().unsettled_pieces {
            return Err(Stop::broken("more is unsettled than a power cut may cost"));
        }
        if rights < self.gate_writing + self.unnoted() && !self.world.disk.seen_io && !self.world.disk.seen_full {
            return Err(Stop::broken("more is unnoted than SIGKILL may cost"));
        }
        Ok(())
    }

    /// Pieces written that neither the journal nor the written list speaks of, counted one by one.
    fn unnoted(&self) -> u64 {
        let unknown = |(file, attempt, piece): &&(FileIndex, u32, u64)| {
            let view = self.scheduler.file(*file);
            view.attempt() == *attempt && !self.world.is_acknowledged(view.id(), *piece)
        };
        u64::try_from(self.unlisted.iter().filter(unknown).count()).unwrap_or(u64::MAX)
    }

    /// The list is written: a kill from here on does not cost what it names.
    fn noted(&mut self, pieces: &[WrittenPiece]) -> Result<(), Stop> {
        let result = match self.world.note(pieces) {
            Ok(()) => Ok(()),
            Err(error) => Err(fault("written list", error)?),
        };
        if result.is_ok() {
            let named: BTreeSet<_> = pieces.iter().map(|listed| (listed.id, listed.piece)).collect();
            let ids: Vec<_> = (0..self.written.len()).map(|file| self.scheduler.file(file).id()).collect();
            self.unlisted.retain(|(file, _, piece)| !named.contains(&(ids[*file], *piece)));
        }
        self.tell(Event::Noted { result })
    }

    fn act(&mut self) -> Result<Option<Result<(), Error>>, Stop> {
        while let Some(action) = self.scheduler.next_action(self.now) {
            self.world.trace.action(self.now, &action);
            if let Action::Finish { result } = action {
                // Bytes of a dropped reply may still be on their way; everything else was answered.
                let moot = |happening: &Happening| matches!(happening, Happening::StopAsked | Happening::Body(_));
                if !self.replies.is_empty() || !self.queue.values().all(moot) {
                    return Err(Stop::broken("it finished with work outstanding"));
                }
                let sound = !self.world.disk.seen_io && !self.world.disk.seen_full;
                if sound && 0 < self.gate_writing + self.scheduler.progress().unsettled_pieces {
                    return Err(Stop::broken("it finished with written pieces unsettled"));
                }
                return Ok(Some(result));
            }
            self.execute(action)?;
        }
        if self.scheduler.wake_at().is_some_and(|wake| wake <= self.now) {
            return Err(Stop::broken("it asks to be woken in the past"));
        }
        Ok(None)
    }

    fn execute(&mut self, action: Action) -> Result<(), Stop> {
        let delay = self.disk_delay();
        match action {
            Action::Open { file, kept } => {
                self.kept.insert(file, kept);
                self.after(delay, Happening::Opened(file));
            }
            Action::Fetch { span, file, range, .. } => self.fetch(span, file, range)?,
            Action::SyncData { checkpoint, files } => {
                let mut handles = Vec::new();
                for file in files {
                    let Some(handle) = self.parts.get(&file).copied() else {
                        return Err(Stop::broken("a file without a part is to be synced"));
                    };
                    handles.push((handle, self.world.disk.barrier(handle)));
                }
                self.after(delay, Happening::Synced(checkpoint, handles));
            }
            Action::Append { checkpoint, records } => {
                let written = self.world.append(&records);
                match written {
                    Ok(()) => self.after(delay, Happening::Appended(checkpoint)),
                    Err(error) => {
                        let failure = fault("journal write", error)?;
                        self.tell(Event::Appended { checkpoint, result: Err(failure) })?;
                    }
                }
            }
            Action::Note { pieces } => {
                self.world.noting = pieces.iter().map(|listed| (listed.id, listed.piece)).collect();
                self.after(delay, Happening::Noted(pieces));
            }
            Action::Renew { file } => {
                let (latency, failure) = self.world.origin.answer_control(self.now);
                self.after(latency, Happening::Renewed(file, failure));
            }
            Action::Restat { file } => {
                let (latency, failure) = self.world.origin.answer_control(self.now);
                self.after(latency, Happening::Restated(file, failure));
            }
            Action::Hash { file } => self.after(delay, Happening::Hash(file)),
            Action::Seal { file, size, digest } => {
                self.check_sealable(file, size, digest)?;
                self.after(delay, Happening::Seal(file, 0));
            }
            Action::Publish => self.after(delay, Happening::Publish(0)),
            Action::Finish { .. } => unreachable!("handled by the caller"),
        }
        Ok(())
    }

    fn check_sealable(&self, file: FileIndex, size: u64, digest: crate::manifest::Digest) -> Result<(), Stop> {
        let view = self.scheduler.file(file);
        if self.replies.values().any(|reply| reply.file == file) {
            return Err(Stop::broken("a file is sealed while spans of it are outstanding"));
        }
        let same = view.digest() == Some(digest) && view.size() == Some(size);
        let ordered = view.stated().iter().filter(|stated| verify::is_serial(stated));
        if ordered.clone().any(|stated| self.hashed.get(&file).is_none_or(|found| !found.contains(stated))) {
            return Err(Stop::broken("a file is sealed before its bytes in order were found to be as stated"));
        }
        if same { Ok(()) } else { Err(Stop::broken("a file is sealed as something else than it is")) }
    }

    fn fetch(&mut self, span: SpanId, file: FileIndex, range: Option<ByteRange>) -> Result<(), Stop> {
        let progress = self.scheduler.progress();
        if progress.window < progress.spans {
            return Err(Stop::broken("more spans are outstanding than the window allows"));
        }
        if progress.outcomes.total() + u64::try_from(progress.spans).unwrap_or(0) != progress.requests_total {
            return Err(Stop::broken("a request has neither an outcome nor a span"));
        }
        let view = self.scheduler.file(file);
        let edition = Edition::of(view.id());
        let Some(handle) = self.parts.get(&file).copied() else {
            return Err(Stop::broken("a span is asked before its part file is open"));
        };
        let whole_bytes = ByteRange::new(0, self.world.origin.size(edition));
        let asked = range.unwrap_or(whole_bytes);
        let first = asked.start / PIECE_BYTES;
        let end = first + pieces_of(asked.len());
        let aligned = asked.start.is_multiple_of(PIECE_BYTES)
            && (asked.end.is_multiple_of(PIECE_BYTES) || asked.end == whole_bytes.end);
        if !aligned || whole_bytes.end < asked.end || (range.is_some() && asked.is_empty()) {
            return Err(Stop::broken("a span is not made of whole pieces"));
        }
        let overlaps = |reply: &Reply| reply.file == file && first < reply.end && reply.first < end;
        if self.replies.values().any(overlaps) {
            return Err(Stop::broken("a piece is in two spans"));
        }
        if range.is_some() {
            self.check_order(file, first, end)?;
        }
        let mut fate = self.world.origin.answer(self.now, edition, end - first, range.is_some());
        let mut edition = edition;
        if self.world.canary == Some(Canary::VersionUnpinned) && fate.failure == Some(FailureKind::Changed) {
            edition = self.world.origin.current(edition.object);
            fate = Fate { failure: None, pieces: end - first, ..fate };
        }
        let reply = Reply {
            file,
            edition,
            handle,
            next: first,
            end,
            first,
            whole: range.is_none(),
            writing: 0,
            held: false,
            ended: None,
            fate,
        };
        let latency = reply.fate.latency;
        if reply.whole {
            self.world.marks.set(Mark::Streamed);
        }
        if self.scheduler.file(file).checks().iter().any(|check| !check.matches) {
            self.world.marks.set(Mark::Refetched);
        }
        self.replies.insert(span, reply);
        self.after(latency, Happening::Body(span));
        Ok(())
    }

    /// Where sums need an order, spans stay near the first piece that is missing; without reading back they begin there.
    fn check_order(&mut self, file: FileIndex, first: u64, end: u64) -> Result<(), Stop> {
        let view = self.scheduler.file(file);
        let (attempt, written) = &mut self.written[file];
        if *attempt != view.attempt() {
            (*attempt, *written) = (view.attempt(), BTreeSet::new());
        }
        if !view.stated().iter().any(verify::is_serial) {
            return Ok(());
        }
        let front = (0..).find(|piece| !written.contains(piece)).unwrap_or(0);
        if front < first {
            self.world.marks.set(Mark::Ahead);
        }
        if front + AHEAD_PIECES_MAX < end {
            return Err(Stop::broken("a span is too far ahead of an ordered sum"));
        }
        if self.world.in_order && front != first {
            return Err(Stop::broken("a span is out of order where nothing can be read back"));
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Stop> {
        match happening {
            Happening::Body(span) => self.body(span),
            Happening::Wrote { span, piece, stamp, wrote } => self.wrote(span, piece, stamp, wrote),
            Happening::Opened(file) => {
                let result = self.open(file)?;
                self.tell(Event::Opened { file, result })
            }
            Happening::Synced(checkpoint, handles) => {
                let result = self.sync(&handles)?;
                self.tell(Event::DataSynced { checkpoint, result })
            }
            Happening::Appended(checkpoint) => {
                let result = match self.world.sync_journal() {
                    Ok(()) => Ok(()),
                    Err(error) => Err(fault("journal sync", error)?),
                };
                self.tell(Event::Appended { checkpoint, result })
            }
            Happening::Noted(pieces) => self.noted(&pieces),
            Happening::Renewed(file, failure) => {
                self.world.marks.set(Mark::Renewed);
                self.tell(Event::Renewed { file, result: failed(failure) })
            }
            Happening::Restated(file, failure) => self.restated(file, failure),
            Happening::Hash(file) => {
                let result = self.hash(file);
                self.tell(Event::Hashed { file, result })
            }
            Happening::Seal(file, step) => self.seal(file, step),
            Happening::Publish(step) => self.publish(step),
            Happening::StopAsked => {
                self.world.stopped_at = Some(self.now);
                self.tell(Event::StopAsked { error: Error::Interrupted { signal: 15 } })
            }
        }
    }

    /// The next piece of a body arrives, or its end.
    fn body(&mut self, span: SpanId) -> Result<(), Stop> {
        let Some(reply) = self.replies.get_mut(&span).filter(|reply| reply.ended.is_none()) else { return Ok(()) };
        if reply.next < reply.first + reply.fate.pieces {
            self.gate_queue.push_back(span);
            self.open_gate()?;
            if !self.gate_queue.is_empty() {
                self.world.marks.set(Mark::GateClosed);
                let reply = self.replies.get_mut(&span).filter(|_| self.gate_queue.contains(&span));
                reply.into_iter().for_each(|reply| reply.held = true);
            }
            return Ok(());
        }
        match reply.fate.failure {
            None => self.end_body(span, Ok(())),
            Some(kind) if reply.fate.silence.is_zero() => self.end_body(span, failed(Some(kind))),
            Some(_) => {
                let silence = std::mem::take(&mut reply.fate.silence);
                self.after(silence, Happening::Body(span));
                Ok(())
            }
        }
    }

    /// A piece is received whole: it is hashed and its write begins.
    fn receive(&mut self, span: SpanId) -> Result<(), Stop> {
        let Some(reply) = self.replies.get_mut(&span).filter(|reply| reply.ended.is_none()) else { return Ok(()) };
        let piece = reply.next;
        reply.next += 1;
        let flip = reply.fate.flip.filter(|(at, _)| reply.first + at == piece).map_or(0, |(_, flip)| flip);
        let stamp = reply.edition.stamp(piece, flip);
        let handle = reply.handle;
        reply.writing += 1;
        let held = std::mem::take(&mut reply.held);
        self.gate_writing += 1;
        self.world.received_pieces += 1;
        let written = (reply.edition.id(), piece);
        self.world.noted.remove(&written);
        self.world.noting.remove(&written);
        match self.world.disk.write(handle, piece * PIECE_ON_DISK, &sectors(stamp)) {
            Ok(wrote) => {
                let delay = self.disk_delay();
                self.after(delay, Happening::Wrote { span, piece, stamp, wrote });
                let pause = Duration::from_micros(200 + self.world.rng.below(4000));
                self.after(pause, Happening::Body(span));
                self.world.trace.mark(piece);
                self.scheduler.on_event(self.now, Event::Received { bytes: PIECE_BYTES, held });
                Ok(())
            }
            Err(error) => {
                let failure = fault("write", error)?;
                self.gate_writing -= 1;
                if let Some(reply) = self.replies.get_mut(&span) {
                    reply.writing -= 1;
                }
                self.end_body(span, Err(failure))
            }
        }
    }

    fn wrote(&mut self, span: SpanId, piece: u64, stamp: Stamp, wrote: Wrote) -> Result<(), Stop> {
        let Some(reply) = self.replies.get_mut(&span) else { return Err(Stop::broken("a write outlived its span")) };
        if wrote == Wrote::Half && self.world.canary != Some(Canary::ShortWriteTaken) {
            // As the engine does: a short write goes on where it stopped.
            self.world.marks.set(Mark::ShortWrite);
            let offset = piece * PIECE_ON_DISK + u64::try_from(SECTOR_BYTES).unwrap_or(0);
            let rest = self.world.disk.write(reply.handle, offset, &stamp.to_le_bytes());
            return match rest {
                Ok(_) => {
                    let delay = self.disk_delay();
                    self.after(delay, Happening::Wrote { span, piece, stamp, wrote: Wrote::All });
                    Ok(())
                }
                Err(error) => {
                    let failure = fault("write", error)?;
                    reply.writing -= 1;
                    self.gate_writing -= 1;
                    if matches!(reply.ended, None | Some(Ok(()))) || reply.writing == 0 {
                        reply.ended = None;
                        return self.end_body(span, Err(failure));
                    }
                    reply.ended = Some(Err(failure));
                    Ok(())
                }
            };
        }
        reply.writing -= 1;
        self.gate_writing -= 1;
        let file = reply.file;
        self.written[file].1.insert(piece);
        let view = self.scheduler.file(file);
        // A stream whose end nobody saw starts over: there is nothing to note.
        if view.size().is_some() && self.kept.get(&file) == Some(&Kept::Journaled) {
            self.unlisted.insert((file, view.attempt(), piece));
        }
        self.tell(Event::Written { span, file, piece, proof: proof(&sectors(stamp)) })?;
        self.finish_reply(span)
    }

    /// No further byte of `span` comes. Its end is told when its writes are done.
    fn end_body(&mut self, span: SpanId, result: Result<(), Failure>) -> Result<(), Stop> {
        let Some(reply) = self.replies.get_mut(&span) else { return Ok(()) };
        if reply.ended.is_none() {
            reply.ended = Some(result);
        }
        self.finish_reply(span)
    }

    fn finish_reply(&mut self, span: SpanId) -> Result<(), Stop> {
        let done = self.replies.get(&span).is_some_and(|reply| reply.writing == 0 && reply.ended.is_some());
        if !done {
            return Ok(());
        }
        let Some(reply) = self.replies.remove(&span) else { return Ok(()) };
        let result = reply.ended.unwrap_or(Ok(()));
        if reply.whole && result.is_ok() && self.scheduler.file(reply.file).size().is_none() {
            let size = self.world.origin.size(reply.edition);
            self.tell(Event::Sized { span, file: reply.file, size })?;
        }
        self.tell(Event::Ended { span, result })
    }
}
