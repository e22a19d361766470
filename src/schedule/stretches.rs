//! Which bytes of a file may be asked next when its sums need them in order.
//!
//! Holds: one span continues a stretch where it has come to; others run at most [`AHEAD_PIECES_MAX`] pieces past its
//! first piece that is not written, so that what is read back later stays bounded.

use std::sync::Arc;

use crate::schedule::pieces::{Pieces, Place, Run};

/// Pieces that spans may be past the first unwritten one of their stretch: eight spans of the largest size.
pub const AHEAD_PIECES_MAX: u64 = 128;

/// Spans that keep a usual network busy. While there are as many, none runs ahead of an ordered sum: what it brings
/// comes too early to be hashed and costs a second read.
pub(super) const STREAMS_ENOUGH: usize = 8;

/// The stretches of one file; none when nothing needs an order.
#[derive(Debug)]
pub(super) struct Stretches {
    /// The pieces at which stretches end, ascending.
    ends: Arc<[u64]>,
    /// No piece of its stretch before this one is unwritten.
    fronts: Vec<u64>,
    /// Every stretch before this one is written.
    first: usize,
}

impl Stretches {
    pub(super) fn new(ends: Arc<[u64]>) -> Self {
        let fronts = [0].into_iter().chain(ends.iter().copied()).take(ends.len()).collect();
        Self { ends, fronts, first: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.ends.len()).unwrap_or(u64::MAX)
    }

    /// All of them again from their first piece.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.ends.clone());
    }

    /// The first piece of the only stretch that may be unwritten.
    pub(super) fn front(&self) -> Option<u64> {
        match self.fronts.as_slice() {
            [front] => Some(*front),
            _ => None,
        }
    }

    /// Waiting pieces where a stretch has come to and nobody else brings them, at most `count_max`.
    pub(super) fn next_at_front(&mut self, pieces: &Pieces, count_max: u64) -> Option<Run> {
        for index in self.first..self.ends.len() {
            let (front, end) = self.advance(index, pieces);
            if front == end {
                self.first += usize::from(index == self.first);
            } else if pieces.place(front) == Place::Waiting {
                return pieces.waiting_from(front, end, count_max);
            }
        }
        None
    }

    /// Waiting pieces past the front of a stretch that somebody brings, at most `count_max`.
    pub(super) fn next_ahead(&mut self, pieces: &Pieces, count_max: u64) -> Option<Run> {
        for index in self.first..self.ends.len() {
            let (front, end) = self.advance(index, pieces);
            let end = end.min(front + AHEAD_PIECES_MAX);
            if let Some(first) = (front..end).find(|piece| pieces.place(*piece) == Place::Waiting) {
                return pieces.waiting_from(first, end, count_max);
            }
        }
        None
    }

    fn advance(&mut self, index: usize, pieces: &Pieces) -> (u64, u64) {
        let (front, end) = (&mut self.fronts[index], self.ends[index]);
        while *front < end && matches!(pieces.place(*front), Place::Written | Place::Durable) {
            *front += 1;
        }
        (*front, end)
    }
}
