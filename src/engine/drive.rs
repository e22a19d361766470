//! The driver: turns the scheduler's actions into orders and tasks, and their answers into events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::audit;
use crate::disk::{self, Dest, PartFile, Probe};
use crate::engine::admit::Unnamed;
use crate::engine::crew::{Crew, Lanes};
use crate::engine::gate::Gate;
use crate::engine::lane::{Lane, Order, Shared};
use crate::engine::observe::{TICK, UnderWay};
use crate::engine::ordered::{Ordered, Sources};
use crate::engine::prepare::{Prepared, Work, prepare};
use crate::engine::signals::{late, within};
use crate::engine::tasks::{Message, Opening, Purpose, Sealing, Signed, Tasks};
use crate::engine::waits::{Judge, Waits};
use crate::engine::{Observer, Outcome, Phase, Pull, Signals, Snapshot, admit, demand, publish, resume};
use crate::error::{Error, Failure, FailureKind};
use crate::journal::file::{JournalFile, WrittenFile};
use crate::schedule::{Action, Connection, Event, FileIndex, FilePlan, Kept, Scheduler, SpanId};
use crate::units::{ByteRange, PIECE_BYTES};
use crate::verify::Sums;
use crate::wire::{Access, Asked};

/// Events on their way to the driver; lanes wait when it is behind.
const EVENTS_MAX: usize = 1024;

/// After a stop is asked, the run ends within this time even when a disk hangs.
pub(super) const STOP_GRACE: Duration = Duration::from_millis(4500);

/// A signed access is renewed this long before it ends.
const RENEW_AHEAD: Duration = Duration::from_secs(60);

/// What the driver knows of one file beside the scheduler.
#[derive(Default)]
struct FileState {
    part: Option<Arc<PartFile>>,
    access: Option<(Arc<Access>, Option<Instant>)>,
    signing: bool,
    ordered: Option<Arc<Ordered>>,
    /// Orders that wait for an access.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    span: SpanId,
    range: Option<ByteRange>,
    lane: usize,
    connection: Connection,
}

/// One run.
struct Driver<'a> {
    pull: &'a mut Pull,
    observer: &'a mut dyn Observer,
    dest: Arc<Dest>,
    probe: Arc<Probe>,
    scheduler: Scheduler,
    files: Vec<FileState>,
    lanes: Lanes,
    /// The lane that the scheduler's first one is.
    first_lane: usize,
    shared: Arc<Shared>,
    tasks: Tasks,
    journal: Option<JournalFile>,
    list: Option<WrittenFile>,
    phase: Phase,
    sources: Sources,
    /// Gate rights that written pieces hold.
    kept_rights: u64,
    stop: watch::Sender<bool>,
    /// Why a stop was asked.
    stop_asked: Option<Error>,
    receipt_removed: bool,
    /// Files that are sealed but for their names: with `--formats` none has its name before all are admitted.
    unnamed: Vec<Unnamed>,
    adopted: resume::Adopted,
    judge: Judge,
    under_way: UnderWay,
    result: Option<Result<(), Error>>,
}

/// Runs `pull` to its end, in `place` where it is given and else in the DEST that the pull names.
pub(super) async fn run(pull: Pull, place: Option<Arc<Dest>>, observer: &mut dyn Observer) -> Outcome {
    let mut signals = match Signals::watch() {
        Ok(signals) => signals,
        Err(error) => return Outcome { report: publish::empty_report(&pull, &error), result: Err(error) },
    };
    let crew = match pull.crew.clone().map_or_else(|| Crew::new(&pull.limits).map(Arc::new), Ok) {
        Ok(crew) => crew,
        Err(error) => return unstarted(&pull, &error, observer),
    };
    match within(pull.deadline(), signals.unless(prepare(&pull, place, &crew, observer))).await {
        Ok(Prepared::Current(receipt)) => {
            let outcome = publish::current(&pull, &receipt);
            observer.tick(&publish::current_snapshot(&pull, &outcome.report));
            outcome
        }
        Ok(Prepared::Work(work)) => drive(pull, *work, crew, signals, observer).await,
        Err(error) => {
            observer.tick(&Snapshot::early(Phase::Stopped, pull.started));
            Outcome { report: publish::empty_report(&pull, &error), result: Err(error) }
        }
    }
}

fn unstarted(pull: &Pull, error: &std::io::Error, observer: &mut dyn Observer) -> Outcome {
    observer.tick(&Snapshot::early(Phase::Stopped, pull.started));
    let error = Error::Internal(format!("the lanes could not be started: {error}"));
    Outcome { report: publish::empty_report(pull, &error), result: Err(error) }
}

async fn drive(mut pull: Pull, work: Work, crew: Arc<Crew>, signals: Signals, observer: &mut dyn Observer) -> Outcome {
    let (event_tx, events) = mpsc::channel(EVENTS_MAX);
    let (message_tx, messages) = mpsc::channel(EVENTS_MAX);
    let (stop, stop_rx) = watch::channel(false);
    let rights = pull.limits.unnoted_bytes_max.min(pull.limits.unsettled_bytes_max) / PIECE_BYTES;
    let rights = usize::try_from(rights).unwrap_or(usize::MAX >> 4);
    let lanes = match crew.lanes(work.probe.rung) {
        Ok(lanes) => lanes,
        Err(error) => return unstarted(&pull, &error, observer),
    };
    let shared = Arc::new(Shared {
        pool: crew.pool.clone(),
        gate: Gate::new(rights),
        wire: pull.wire.clone(),
        events: event_tx,
        waits: Waits::default(),
        stop: stop_rx,
    });
    let scheduler = Scheduler::new(&pull.limits, work.resumed.plans, pull.seed);
    let scheduler = if pull.io == disk::IoWish::Discard { scheduler.in_order() } else { scheduler };
    let scheduler = if work.kept == Kept::Unjournaled { scheduler.unjournaled() } else { scheduler };
    let files = pull.manifest.entries.iter().map(|_| FileState::default()).collect();
    let kept = (pull.io != disk::IoWish::Discard).then(|| work.dest.clone());
    let sources = Sources { dest: kept, stop: stop.subscribe(), tally: work.read_back };
    let list = WrittenFile::new(work.dest.clone());
    let mut driver = Driver {
        dest: work.dest,
        probe: work.probe,
        scheduler,
        files,
        lanes,
        first_lane: crew.turn(),
        shared,
        tasks: Tasks::new(message_tx, crew.hands.clone(), work.lock),
        journal: Some(work.journal),
        list: Some(list),
        phase: Phase::Fetching,
        sources,
        kept_rights: 0,
        stop,
        stop_asked: None,
        receipt_removed: !work.had_receipt,
        unnamed: Vec::new(),
        adopted: work.resumed.adopted,
        judge: Judge::new(disk::place::cpu_seconds(), pull.wire.counters.received(), pull.limits.rate_bytes_max),
        under_way: UnderWay::default(),
        result: None,
        pull: &mut pull,
        observer,
    };
    let result = driver.run(events, messages, signals).await;
    driver.finish(result, crew)
}

impl Driver<'_> {
    fn now(&self) -> Duration {
        self.pull.started.elapsed()
    }

    async fn run(
        &mut self,
        mut events: mpsc::Receiver<Event>,
        mut messages: mpsc::Receiver<Message>,
        mut signals: Signals,
    ) -> Result<(), Error> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop_by: Option<Instant> = None;
        let deadline = self.pull.deadline();
        loop {
            self.act();
            if let Some(result) = self.result.take() {
                return result;
            }
            let wake = self.wake_at(if stop_by.is_some() { stop_by } else { deadline });
            tokio::select! {
                biased;
                asked = signals.next() => self.stop(asked, &mut stop_by),
                Some(message) = messages.recv() => self.on_message(message),
                Some(event) = events.recv() => {
                    self.on_event(event);
                    // Drain what is there: one pass of decisions serves a whole burst.
                    while let Ok(event) = events.try_recv() {
                        self.on_event(event);
                    }
                }
                _ = tick.tick() => {
                    self.tick();
                    if self.lanes.iter().any(Lane::ended) {
                        // Its spans will never be answered.
                        self.stop(Error::Internal("a lane ended in mid-run".to_owned()), &mut stop_by);
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            match (stop_by, deadline) {
                (Some(by), _) if by <= Instant::now() => return Err(self.stopped_with()),
                (None, Some(deadline)) if deadline <= Instant::now() => {
                    self.stop(late(), &mut stop_by);
                }
                _ => {}
            }
        }
    }

    fn wake_at(&self, bound: Option<Instant>) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let own = self.scheduler.wake_at().map_or(far, |at| self.pull.started + at);
        bound.map_or(own, |bound| bound.min(own))
    }

    fn stop(&mut self, error: Error, stop_by: &mut Option<Instant>) {
        if stop_by.is_none() {
            *stop_by = Some(Instant::now() + STOP_GRACE);
            self.stop_asked = Some(error.clone());
            self.halt_lanes();
            let now = self.now();
            self.scheduler.on_event(now, Event::StopAsked { error });
        }
    }

    fn stopped_with(&self) -> Error {
        // Once it publishes, the scheduler stops for nothing.
        let reason = self.scheduler.stopping().or(self.stop_asked.as_ref()).cloned();
        reason.unwrap_or_else(|| Error::Internal("the run did not stop in time".to_owned()))
    }

    /// Spans end at once; `Ended` comes for each all the same.
    fn halt_lanes(&self) {
        self.stop.send_replace(true);
    }

    fn tick(&mut self) {
        let progress = self.scheduler.progress();
        let received = self.shared.wire.counters.received();
        let (brake, stretch) =
            self.judge.verdict(&self.shared.waits, &self.lanes, &progress, disk::place::cpu_seconds(), received);
        if let Some(brake) = brake {
            self.scheduler.charge(brake, stretch);
        }
        let snapshot = Snapshot {
            phase: self.phase,
            elapsed: self.now(),
            progress,
            brake: brake.unwrap_or(progress.brake),
            slabs: (self.shared.pool.leased(), self.shared.pool.capacity()),
            read_bytes: self.sources.tally.total(),
            moves: 0,
            data_syncs: self.tasks.syncs().data.durations(),
            journal_syncs: self.tasks.syncs().journal.durations(),
        };
        self.observer.tick(&snapshot);
    }

    fn on_event(&mut self, event: Event) {
        let written = if let Event::Written { file, .. } = &event { Some(*file) } else { None };
        self.kept_rights += u64::from(written.is_some());
        if let Event::Ended { result: Err(failure), span } = &event {
            tracing::debug!(span = span.0, kind = ?failure.kind, detail = %failure.detail, "a span ended early");
        }
        let now = self.now();
        if let Event::Ended { span, result } = &event
            && let Some(ended) = self.under_way.end(*span, now, result, self.scheduler.stopping())
        {
            self.observer.span(&ended);
        }
        self.scheduler.on_event(now, event);
        written.into_iter().for_each(|file| self.follow(file));
        let kept = self.scheduler.progress().kept_rights;
        if kept < self.kept_rights {
            self.shared.gate.give_back(usize::try_from(self.kept_rights - kept).unwrap_or(0));
            self.kept_rights = kept;
        }
        if self.scheduler.stopping().is_some() {
            self.halt_lanes();
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                if let Event::Sealed { file, result: Ok(()) } = &event {
                    publish::record_digest(self.pull, &self.scheduler, *file, &self.adopted);
                    self.files[*file] = FileState::default();
                }
                self.on_event(event);
            }
            Message::Opened { file, id, result } => {
                let result = result.map(|part| {
                    debug_assert_eq!(part.id(), id);
                    self.files[file].part = Some(part);
                });
                self.on_event(Event::Opened { file, result });
            }
            Message::Appended { checkpoint, journal, result } => {
                self.journal = Some(journal);
                self.on_event(Event::Appended { checkpoint, result });
            }
            Message::Noted { list, result } => {
                if let Err(failure) = &result {
                    tracing::warn!(detail = %failure.detail, "written pieces are not listed; SIGKILL may cost more now");
                }
                self.list = Some(list);
                self.on_event(Event::Noted { result });
            }
            Message::Signed { file, purpose, result } => self.on_signed(file, &purpose, result),
            Message::Refused { file, error } => {
                // The reason first: a failure alone could not say that a file is damaged.
                self.on_event(Event::StopAsked { error: error.clone() });
                let result = Err(Failure::new(FailureKind::Refused, error.to_string()));
                self.on_event(Event::Sealed { file, result });
            }
            Message::Restated { file, result } => {
                let result = result.and_then(|entry| self.restart(file, entry));
                self.on_event(Event::Restated { file, result });
            }
        }
    }

    fn on_signed(&mut self, file: FileIndex, purpose: &Purpose, result: Result<Signed, Failure>) {
        let state = &mut self.files[file];
        state.signing = false;
        let outcome = result.map(|(access, valid_for)| {
            let renew_at = valid_for.map(|valid| Instant::now() + valid.saturating_sub(RENEW_AHEAD).max(valid / 2));
            state.access = Some((Arc::new(access), renew_at));
        });
        let waiting = std::mem::take(&mut state.waiting);
        for order in waiting {
            match &outcome {
                Ok(()) => self.order(file, order),
                Err(failure) => self.on_event(Event::Ended { span: order.span, result: Err(failure.clone()) }),
            }
        }
        if matches!(purpose, Purpose::Renewal(_)) {
            self.on_event(Event::Renewed { file, result: outcome });
        }
    }

    /// Takes the object's new version into the manifest and says how to start over.
    fn restart(&mut self, file: FileIndex, mut entry: crate::manifest::Entry) -> Result<FilePlan, Failure> {
        let old = &self.pull.manifest.entries[file];
        entry.path = old.path.clone();
        entry.stated.extend(old.stated.iter().filter(|stated| stated.is_digest()).cloned());
        demand::check(self.pull.require, &entry.path, &entry.stated)
            .map_err(|error| Failure::new(FailureKind::Changed, error.to_string()))?;
        self.observer.note(&format!("`{}` changed at its source; starting it over as the new version", entry.path));
        let plan = resume::fresh_plan(&self.pull.manifest, &entry);
        self.pull.manifest.entries[file] = entry;
        // The same content again is continued in the same part file: the journal still speaks of it.
        if let Some(part) = std::mem::take(&mut self.files[file]).part
            && part.id() != plan.id
            && let Err(error) = self.dest.part_remove(&part.id())
        {
            tracing::warn!(%error, "the part file of the old version could not be removed");
        }
        Ok(plan)
    }

    /// Orders that wait for a signature end at once when the run does.
    fn end_waiting(&mut self) {
        let waiting: Vec<Waiting> = self.files.iter_mut().flat_map(|file| std::mem::take(&mut file.waiting)).collect();
        for order in waiting {
            let stopped = Failure::new(FailureKind::Broken, "stopped");
            self.on_event(Event::Ended { span: order.span, result: Err(stopped) });
        }
    }

    /// Executes everything the scheduler wants done now.
    fn act(&mut self) {
        if self.scheduler.stopping().is_some() {
            self.end_waiting();
        }
        while self.result.is_none() {
            let now = self.now();
            let Some(action) = self.scheduler.next_action(now) else { break };
            self.execute(action);
        }
        self.tasks.start();
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Open { file, kept } => {
                let view = self.scheduler.file(file);
                let (id, size) = (view.id(), view.size());
                self.tasks.open(Opening { dest: self.dest.clone(), probe: self.probe.clone(), file, id, size, kept });
            }
            Action::Fetch { span, file, range, lane, connection } => {
                let lane = (self.first_lane + lane) % self.lanes.len();
                let bytes = range.map(|range| range.len()).or(self.scheduler.file(file).size()).unwrap_or(0);
                self.under_way.begin(span, self.now(), bytes, lane);
                self.order(file, Waiting { span, range, lane, connection })
            }
            Action::SyncData { checkpoint, files } => {
                let parts: Option<Vec<_>> = files.iter().map(|file| self.files[*file].part.clone()).collect();
                match parts {
                    Some(parts) => self.tasks.sync(checkpoint, parts),
                    None => {
                        let lost = Failure::new(FailureKind::Disk, "a part file was to be synced that is not open");
                        self.on_event(Event::DataSynced { checkpoint, result: Err(lost) });
                    }
                }
            }
            Action::Append { checkpoint, records } => match self.journal.take() {
                Some(journal) => self.tasks.append(checkpoint, journal, records),
                None => {
                    let lost = Failure::new(FailureKind::Disk, "the journal is gone");
                    self.on_event(Event::Appended { checkpoint, result: Err(lost) });
                }
            },
            Action::Note { pieces } => match self.list.take() {
                Some(list) => self.tasks.note(list, pieces),
                None => {
                    let lost = Failure::new(FailureKind::Disk, "the list of written pieces is gone");
                    self.on_event(Event::Noted { result: Err(lost) });
                }
            },
            Action::Renew { file } => {
                let refused = self.files[file].access.take().map(|(access, _)| access);
                self.sign(file, Purpose::Renewal(refused));
            }
            Action::Restat { file } => {
                self.tasks.restat(self.pull.origin.clone(), file, self.pull.manifest.entries[file].clone())
            }
            Action::Hash { file } => self.hash(file),
            Action::Seal { file, size, .. } => self.seal(file, size),
            Action::Publish => self.publish(),
            Action::Finish { result } => {
                let place = || self.pull.origin.describe();
                self.result = Some(result.map_err(|error| error.with_place(place)));
            }
        }
    }

    /// Sends an order to its lane, after signing where that is needed.
    fn order(&mut self, file: FileIndex, waiting: Waiting) {
        let state = &mut self.files[file];
        let access = state
            .access
            .as_ref()
            .filter(|(_, renew_at)| renew_at.is_none_or(|at| Instant::now() < at))
            .map(|(access, _)| access.clone());
        let Some(access) = access else {
            state.waiting.push_back(waiting);
            if !state.signing {
                self.sign(file, Purpose::Order);
            }
            return;
        };
        let view = self.scheduler.file(file);
        let Some(part) = state.part.clone() else {
            let failure = Failure::new(FailureKind::Disk, "a span was asked before its part file was open");
            return self.on_event(Event::Ended { span: waiting.span, result: Err(failure) });
        };
        let entry = &self.pull.manifest.entries[file];
        let version = entry.version.clone();
        let asked = Asked { range: waiting.range, size: view.size(), version, coding: access.coding };
        let order = Order {
            span: waiting.span,
            file,
            part,
            access,
            asked,
            connection: waiting.connection,
            sums: Sums::of(view.stated()),
            ordered: Ordered::of(&mut state.ordered, &view),
            shared: self.shared.clone(),
        };
        // The channel holds more orders than the window; a full or closed one means a lane has died.
        if self.lanes[waiting.lane].orders.try_send(order).is_err() {
            let failure = Failure::new(FailureKind::Disk, "a lane has died");
            self.on_event(Event::Ended { span: waiting.span, result: Err(failure) });
        }
    }

    fn sign(&mut self, file: FileIndex, purpose: Purpose) {
        let state = &mut self.files[file];
        state.signing = true;
        state.access = None;
        self.tasks.sign(self.pull.origin.clone(), file, self.pull.manifest.entries[file].clone(), purpose);
    }

    fn hash(&mut self, file: FileIndex) {
        let view = self.scheduler.file(file);
        let (size, ordered) = (view.size().unwrap_or(0), Ordered::of(&mut self.files[file].ordered, &view));
        let Some(ordered) = ordered else {
            return self.on_event(Event::Hashed { file, result: Ok(Vec::new()) });
        };
        match ordered.computed(size) {
            Some(computed) => self.on_event(Event::Hashed { file, result: Ok(computed) }),
            None => self.tasks.hash(file, ordered, size, self.sources.of(view.id())),
        }
    }

    /// Reads back beside the spans what came too early for the sums of `file`.
    fn follow(&self, file: FileIndex) {
        let view = self.scheduler.file(file);
        if let (Some(ordered), Some(written)) = (&self.files[file].ordered, view.written_in_order())
            && ordered.follows(written)
        {
            self.tasks.follow(ordered.clone(), written, self.sources.of(view.id()));
        }
    }

    fn seal(&mut self, file: FileIndex, size: u64) {
        let Some(part) = self.files[file].part.take() else {
            let result = Err(Failure::new(FailureKind::Disk, "a file was to be sealed without its part"));
            return self.on_event(Event::Sealed { file, result });
        };
        let path = self.pull.manifest.entries[file].path.clone();
        if let Some(allowed) = self.pull.formats.clone() {
            let unnamed = Unnamed { id: part.id(), path, size };
            self.unnamed.push(unnamed.clone());
            return self.tasks.admit(self.dest.clone(), file, part, unnamed, allowed);
        }
        if !self.receipt_removed {
            // From the first new name on, the old receipt would lie.
            if let Err(error) = self.dest.state_remove(resume::RECEIPT) {
                let result = Err(Failure::disk("remove the old receipt", &error));
                return self.on_event(Event::Sealed { file, result });
            }
            self.receipt_removed = true;
        }
        self.tasks.seal(Sealing { dest: self.dest.clone(), file, part, path, size });
    }

    fn publish(&mut self) {
        self.phase = Phase::Publishing;
        self.tick();
        let publication = publish::Publication::of(self.pull, &self.scheduler, &self.adopted);
        let dest = self.dest.clone();
        (self.journal, self.list) = (None, None);
        let (unnamed, probe) = (std::mem::take(&mut self.unnamed), self.probe.clone());
        self.tasks.finish(move || admit::name_all(&dest, &unnamed, &probe).and_then(|()| publication.run(&dest)));
    }

    /// Dismisses the crew, unless others work with it, and writes down how it went.
    fn finish(mut self, mut result: Result<(), Error>, crew: Arc<Crew>) -> Outcome {
        let published = result.is_ok();
        self.halt_lanes();
        self.lanes = Lanes::default();
        // A lane stuck in a hanging disk must not hold up a forced stop.
        if result.is_ok()
            && let Some(own) = Arc::into_inner(crew)
            && let Err(error) = own.dismiss()
        {
            result = Err(Error::Internal(format!("a lane ended badly: {error}")));
        }
        let report =
            publish::report(self.pull, Some(&self.scheduler), Some(&self.probe), result.as_ref().err(), &self.adopted);
        // Digests alone publish nothing.
        if published && self.pull.io != disk::IoWish::Discard {
            publish::record(self.pull, &report, audit::Receipt::Written);
        }
        self.phase = if result.is_ok() { Phase::Sealed } else { Phase::Stopped };
        self.tick();
        Outcome { report, result }
    }
}
