//! What happened, as a running hash (same seed, same hash) and, when asked for, as lines.

use crate::schedule::{Action, Event, Now};

#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    loud: bool,
}

impl Trace {
    pub(super) fn new(loud: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, loud }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn mark(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    fn marks(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.mark(*number));
    }

    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        if self.loud {
            eprintln!("{}", line());
        }
    }

    pub(super) fn action(&mut self, now: Now, action: &Action) {
        self.say(|| format!("{now:>12.6?} -> {action:?}"));
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        match action {
            Action::Open { file, .. } => self.marks(&[1, micros, wide(*file)]),
            Action::Fetch { span, file, range, lane, .. } => {
                let (start, end) = range.map_or((0, 0), |range| (range.start, range.end));
                self.marks(&[2, micros, span.0, wide(*file), start, end, wide(*lane)]);
            }
            Action::SyncData { checkpoint, files } => self.marks(&[3, micros, checkpoint.0, wide(files.len())]),
            Action::Append { checkpoint, records } => self.marks(&[4, micros, checkpoint.0, wide(records.len())]),
            Action::Note { pieces } => self.marks(&[11, micros, wide(pieces.len())]),
            Action::Renew { file } => self.marks(&[5, micros, wide(*file)]),
            Action::Restat { file } => self.marks(&[6, micros, wide(*file)]),
            Action::Seal { file, size, digest } => self.marks(&[7, micros, wide(*file), *size, u64::from(digest.0[0])]),
            Action::Hash { file } => self.marks(&[10, micros, wide(*file)]),
            Action::Publish => self.marks(&[8, micros]),
            Action::Finish { result } => {
                self.marks(&[9, micros, result.as_ref().err().map_or(0, |error| error.exit_code().into())])
            }
        }
    }

    pub(super) fn event(&self, now: Now, event: &Event) {
        self.say(|| match event {
            Event::Written { span, file, piece, .. } => {
                format!("{now:>12.6?} <- Written {span:?} file {file} piece {piece}")
            }
            other => format!("{now:>12.6?} <- {other:?}"),
        });
    }
}
