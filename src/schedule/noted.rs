//! What SIGKILL may cost: written pieces are noted for the next run long before they are durable.
//!
//! A killed process leaves its writes to a kernel that lives on; only their proofs die with it. So the list of all
//! pieces that are written and not durable is written beside the journal now and then, unsynced, each time whole. Holds:
//! one list is under way at a time, none is when the run ends; a list that cannot be written costs nothing but itself.

use crate::error::Failure;
use crate::journal::written::{PIECES_MAX, WrittenPiece};
use crate::schedule::scheduler::{Course, ReadBack, Scheduler};
use crate::schedule::{Action, Kept};

/// So many pieces written since the last list make the next one due: a thread is woken for each list.
const DUE_PIECES: u64 = 16;

#[derive(Debug, Default)]
pub(super) struct Noted {
    state: State,
    /// Pieces written since the latest list was begun.
    since: u64,
    /// Pieces that are in no list but the one under way.
    under_way: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Busy,
    /// A list could not be written: no more are.
    Lost,
}

impl Noted {
    /// Whether a list is being written.
    pub(super) fn busy(&self) -> bool {
        self.state == State::Busy
    }

    pub(super) fn note_written(&mut self) {
        self.since += 1;
    }
}

impl Scheduler {
    /// A list, where enough pieces are in none.
    pub(super) fn next_note(&mut self) -> Option<Action> {
        let due = DUE_PIECES.min(self.bounds.unnoted_pieces.div_ceil(2));
        let idle = self.course == Course::Running && self.noted.state == State::Idle;
        if !idle || self.noted.since < due || !self.notes() {
            return None;
        }
        let pieces = self.written_pieces();
        self.noted = Noted { state: State::Busy, since: 0, under_way: self.noted.since };
        Some(Action::Note { pieces })
    }

    /// Whether lists make a difference: not where nothing is kept, nor where as much may be unsettled as unnoted, nor
    /// before there is a journal to read them beside.
    fn notes(&self) -> bool {
        let journaled = self.kept == Kept::Journaled || self.files.iter().any(|file| file.claimed);
        let kept = self.read_back == ReadBack::Possible && journaled;
        kept && self.bounds.unnoted_pieces < self.bounds.unsettled_pieces
    }

    pub(super) fn on_noted(&mut self, result: Result<(), Failure>) {
        assert!(self.noted.busy(), "a list was written that nobody asked for");
        self.noted.under_way = 0;
        self.noted.state = match result {
            Ok(()) => State::Idle,
            Err(_) => State::Lost,
        };
    }

    /// Every piece that is written and not durable, of files that another run can go on with.
    fn written_pieces(&self) -> Vec<WrittenPiece> {
        let fresh = self.open.iter().map(|index| (*index, self.files[*index].dirty.as_slice()));
        let mut listed = Vec::new();
        for (index, pieces) in self.settle.settling().chain(fresh) {
            let file = &self.files[index];
            let Some(size) = file.size else { continue };
            let listing =
                |piece: &u64| WrittenPiece { id: file.id, size, piece: *piece, proof: file.pieces.proof(*piece) };
            listed.extend(pieces.iter().map(listing));
        }
        listed.truncate(PIECES_MAX);
        listed
    }

    /// Rights that written pieces keep of the gate's `unnoted_bytes_max`: so many that neither SIGKILL nor a power cut
    /// costs more than it may.
    pub(super) fn rights(&self) -> u64 {
        let unsettled = self.meter.written_pieces - self.meter.settled_pieces;
        if !self.notes() || self.noted.state == State::Lost {
            return unsettled;
        }
        let unnoted = self.noted.since + self.noted.under_way;
        let beyond = self.bounds.unsettled_pieces - self.bounds.unnoted_pieces;
        unnoted.min(unsettled).max(unsettled.saturating_sub(beyond))
    }
}
