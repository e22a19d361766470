//! Checkpoints: data sync, then journal records, then the pieces are durable. One at a time, never retried.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Failure;
use crate::journal::record::{PROOFS_PER_RECORD, Record};
use crate::schedule::files::{File, Stage};
use crate::schedule::pieces::Place;
use crate::schedule::scheduler::{Course, Scheduler, Storage};
use crate::schedule::{Action, CheckpointId, FileIndex, Now};

/// Files that are whole but for a checkpoint make one due at this number.
const WHOLE_FILES: u32 = 16;
/// A whole file waits this long for others to share its checkpoint.
const WHOLE_WAIT: Duration = Duration::from_millis(100);
/// A written piece waits this long at most.
const DIRTY_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Settle {
    state: State,
    /// Files with pieces written since the last checkpoint began.
    dirty: BTreeSet<FileIndex>,
    pub(super) dirty_bytes: u64,
    dirty_since: Option<Now>,
    /// Files whose claims must be dropped by the next append.
    drops: Vec<FileIndex>,
    /// Sealed files the journal does not know as sealed.
    seals: Vec<FileIndex>,
    whole_files: u32,
    whole_since: Option<Now>,
    next_id: u64,
    clean: Clean,
}

/// Whether the journal still needs to be told of an orderly stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clean {
    /// It claims nothing.
    Pointless,
    Needed,
    Told,
}

#[derive(Debug)]
enum State {
    Idle,
    Syncing(Batch),
    Synced(Batch),
    Appending(Batch),
}

#[derive(Debug)]
struct Batch {
    id: CheckpointId,
    pieces: Vec<(FileIndex, Vec<u64>)>,
    drops: Vec<FileIndex>,
}

impl Settle {
    pub(super) fn new(files: &[File]) -> Self {
        let claims = files.iter().any(|file| file.claimed);
        let drops = (0..files.len()).filter(|index| files[*index].stale).collect();
        Self {
            state: State::Idle,
            dirty: BTreeSet::new(),
            dirty_bytes: 0,
            dirty_since: None,
            drops,
            seals: Vec::new(),
            whole_files: 0,
            whole_since: None,
            next_id: 0,
            clean: if claims { Clean::Needed } else { Clean::Pointless },
        }
    }

    /// Whether no checkpoint is under way.
    pub(super) fn idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The pieces of the checkpoint under way, by file.
    pub(super) fn settling(&self) -> impl Iterator<Item = (FileIndex, &[u64])> {
        let batch = match &self.state {
            State::Idle => None,
            State::Syncing(batch) | State::Synced(batch) | State::Appending(batch) => Some(batch),
        };
        batch.into_iter().flat_map(|batch| &batch.pieces).map(|(index, pieces)| (*index, pieces.as_slice()))
    }

    pub(super) fn wake_at(&self) -> Option<Now> {
        if !self.idle() {
            return None;
        }
        let whole = self.whole_since.map(|since| since + WHOLE_WAIT);
        let dirty = self.dirty_since.map(|since| since + DIRTY_WAIT);
        whole.into_iter().chain(dirty).min()
    }

    pub(super) fn note_written(&mut self, now: Now, index: FileIndex, bytes: u64) {
        self.dirty.insert(index);
        self.dirty_bytes += bytes;
        self.dirty_since.get_or_insert(now);
    }

    pub(super) fn note_whole(&mut self, now: Now) {
        self.whole_files += 1;
        self.whole_since.get_or_insert(now);
    }

    pub(super) fn note_drop(&mut self, index: FileIndex) {
        self.drops.push(index);
    }

    pub(super) fn note_sealed(&mut self, index: FileIndex) {
        self.seals.push(index);
    }

    /// Takes back `bytes` of a file whose written pieces will never be settled.
    pub(super) fn forgive(&mut self, index: FileIndex, bytes: u64) {
        self.dirty.remove(&index);
        self.dirty_bytes -= bytes;
        if self.dirty.is_empty() {
            (self.dirty_since, self.whole_since, self.whole_files) = (None, None, 0);
        }
    }

    fn due(&self, now: Now, checkpoint_bytes: u64) -> bool {
        !self.drops.is_empty()
            || checkpoint_bytes <= self.dirty_bytes
            || WHOLE_FILES <= self.whole_files
            || self.whole_since.is_some_and(|since| since + WHOLE_WAIT <= now)
            || self.dirty_since.is_some_and(|since| since + DIRTY_WAIT <= now)
    }
}

impl Scheduler {
    /// The checkpoint step that is due by bytes, time or files, or the append that follows a data sync.
    pub(super) fn next_checkpoint_step(&mut self) -> Option<Action> {
        if matches!(self.settle.state, State::Synced(_)) {
            return self.next_append();
        }
        let due = self.course == Course::Running
            && self.settle.idle()
            && self.settle.due(self.clock, self.bounds.checkpoint_bytes);
        if due { self.begin_checkpoint() } else { None }
    }

    /// A checkpoint when nothing else can happen: whatever is written is settled at once.
    pub(super) fn next_idle_checkpoint(&mut self) -> Option<Action> {
        if !self.settle.idle() || self.storage == Storage::JournalLost {
            return None;
        }
        let dirty = !self.settle.dirty.is_empty();
        let all_sealed = self.meter.files_done == self.files.len();
        let worthwhile = match &self.course {
            Course::Running => {
                self.spans.is_empty()
                    && self.pending.opens == 0
                    && (dirty || (all_sealed && !self.settle.seals.is_empty()))
            }
            Course::Ending { .. } => {
                let records = dirty || !self.settle.drops.is_empty() || !self.settle.seals.is_empty();
                self.drained() && (records || self.clean_due())
            }
            Course::Publishing | Course::Published { .. } | Course::Finished => false,
        };
        if worthwhile { self.begin_checkpoint() } else { None }
    }

    fn clean_due(&self) -> bool {
        self.settle.clean == Clean::Needed && self.storage == Storage::Sound
    }

    fn begin_checkpoint(&mut self) -> Option<Action> {
        let id = CheckpointId(self.settle.next_id);
        self.settle.next_id += 1;
        let mut pieces = Vec::new();
        for index in std::mem::take(&mut self.settle.dirty) {
            let file = &mut self.files[index];
            assert!(!file.poisoned, "a poisoned file was to be synced");
            let mut written = std::mem::take(&mut file.dirty);
            written.sort_unstable();
            file.settling = true;
            pieces.push((index, written));
        }
        let settle = &mut self.settle;
        (settle.dirty_bytes, settle.dirty_since, settle.whole_files, settle.whole_since) = (0, None, 0, None);
        let files: Vec<FileIndex> = pieces.iter().map(|(index, _)| *index).collect();
        let batch = Batch { id, pieces, drops: Vec::new() };
        if files.is_empty() {
            settle.state = State::Synced(batch);
            return self.next_append();
        }
        settle.state = State::Syncing(batch);
        Some(Action::SyncData { checkpoint: id, files })
    }

    fn next_append(&mut self) -> Option<Action> {
        let State::Synced(mut batch) = std::mem::replace(&mut self.settle.state, State::Idle) else { return None };
        let mut records = Vec::new();
        batch.drops = std::mem::take(&mut self.settle.drops);
        for index in &batch.drops {
            records.push(Record::Dropped { file: number(*index) });
            self.files[*index].declared = false;
        }
        self.release_poisoned(&mut batch);
        for (index, pieces) in &batch.pieces {
            self.declare(*index, &mut records);
            claim(&self.files[*index], *index, pieces, &mut records);
        }
        for index in std::mem::take(&mut self.settle.seals) {
            self.declare(index, &mut records);
            if let (Some(digest), Some(size)) = (self.files[index].sealed(), self.files[index].size) {
                records.push(Record::Sealed { file: number(index), size, digest });
            }
        }
        if !records.is_empty() && self.settle.clean == Clean::Pointless {
            self.settle.clean = Clean::Needed;
        }
        let last = matches!(self.course, Course::Ending { .. }) && self.drained() && self.settle.dirty.is_empty();
        if last && self.clean_due() {
            records.push(Record::Clean);
            self.settle.clean = Clean::Told;
        }
        if records.is_empty() {
            return None;
        }
        let checkpoint = batch.id;
        self.settle.state = State::Appending(batch);
        Some(Action::Append { checkpoint, records })
    }

    /// A write of these files failed after their sync began: nothing of them is claimed.
    fn release_poisoned(&mut self, batch: &mut Batch) {
        let (files, meter) = (&mut self.files, &mut self.meter);
        batch.pieces.retain(|(index, pieces)| {
            let file = &mut files[*index];
            if file.poisoned {
                file.settling = false;
                meter.settled_pieces += len(pieces);
            }
            !file.poisoned
        });
    }

    /// Names a file's content before the first claim; what is durable of it already is claimed again.
    fn declare(&mut self, index: FileIndex, records: &mut Vec<Record>) {
        let file = &mut self.files[index];
        if !file.declared {
            file.declared = true;
            records.push(Record::File { file: number(index), id: file.id, size: file.size });
            let durable: Vec<u64> =
                (0..file.pieces.len()).filter(|piece| file.pieces.place(*piece) == Place::Durable).collect();
            claim(file, index, &durable, records);
        }
    }

    pub(super) fn on_data_synced(&mut self, id: CheckpointId, result: Result<(), Failure>) {
        let State::Syncing(batch) = std::mem::replace(&mut self.settle.state, State::Idle) else {
            unreachable!("a data sync ended that nobody asked for")
        };
        assert!(batch.id == id, "another data sync ended than the one under way");
        match result {
            Ok(()) => self.settle.state = State::Synced(batch),
            Err(failure) => {
                for (index, pieces) in batch.pieces {
                    self.files[index].settling = false;
                    self.meter.settled_pieces += len(&pieces);
                    self.poison(index);
                }
                self.fail(super::failures::storage_error("data sync", failure));
            }
        }
    }

    pub(super) fn on_appended(&mut self, id: CheckpointId, result: Result<(), Failure>) {
        let State::Appending(batch) = std::mem::replace(&mut self.settle.state, State::Idle) else {
            unreachable!("an append ended that nobody asked for")
        };
        assert!(batch.id == id, "another append ended than the one under way");
        if let Err(failure) = result {
            self.storage = Storage::JournalLost;
            self.fail(super::failures::storage_error("journal", failure));
            return;
        }
        for index in batch.drops {
            let file = &mut self.files[index];
            (file.stale, file.claimed) = (false, false);
            if file.stage == Stage::Dropping {
                file.stage = Stage::Active;
            }
        }
        for (index, pieces) in batch.pieces {
            let file = &mut self.files[index];
            (file.settling, file.claimed) = (false, true);
            for piece in &pieces {
                file.pieces.shift(*piece, Place::Written, Place::Durable);
                self.meter.durable_bytes += file.piece_bytes(*piece);
            }
            self.meter.settled_pieces += len(&pieces);
            self.after_settling(index);
        }
    }
}

/// Claims `pieces` (sorted) in runs of consecutive ones.
fn claim(file: &File, index: FileIndex, pieces: &[u64], records: &mut Vec<Record>) {
    let mut rest = pieces;
    while let Some(first) = rest.first().copied() {
        let run =
            (first..).zip(rest).take(PROOFS_PER_RECORD).take_while(|(expected, piece)| expected == *piece).count();
        let (now, later) = rest.split_at(run);
        let proofs = now.iter().map(|piece| file.pieces.proof(*piece)).collect();
        records.push(Record::Pieces { file: number(index), first, proofs });
        rest = later;
    }
}

fn len(pieces: &[u64]) -> u64 {
    u64::try_from(pieces.len()).unwrap_or(u64::MAX)
}

/// A file's number in the journal: its place in the manifest, which a plan bounds far below 2^32.
pub(super) fn number(index: FileIndex) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
