//! How many spans may be outstanding: doubled while the delivery rate grows, settled at the plateau, cut on throttling,
//! halved once where this machine holds them up and fewer are as fast.
//!
//! In: delivered bytes, which of them this machine held up, and throttle answers with their times. Out: a width.
//! Holds: 1 ≤ width ≤ the bound that memory and [`CONNECTIONS_MAX`] set.

use std::time::Duration;

use crate::limits::{CONNECTIONS_MAX, Limits};
use crate::schedule::Now;
use crate::units::PIECE_BYTES;

/// A round shorter than this says nothing about a rate.
const ROUND_MIN: Duration = Duration::from_millis(100);
/// A round is judged after this long even if little arrived.
const ROUND_MAX: Duration = Duration::from_secs(1);
/// Rounds between two probes of a settled window.
const PROBE_ROUNDS: u32 = 20;
/// From this percentage of a round's bytes that waited for slabs, writes or syncs, more spans would only wait as well.
const HELD_PERCENT: u64 = 25;
/// Throttle answers within this time belong to one cut.
const CUT_PAUSE: Duration = Duration::from_millis(500);
/// After a cut the window grows by one in this time.
const REGROW: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The user fixed the width.
    Fixed,
    /// Doubling; what the width before gave.
    Growing { before: Option<(usize, u64)> },
    /// At the plateau for this many rounds.
    Settled { rounds: u32, next: Probe },
    /// Trying half as many before any growth, as this machine held `from` up, which gave `rate`.
    Narrowing { from: usize, rate: u64 },
    /// Trying another width; `from` gave `rate`.
    Probing { from: usize, rate: u64, direction: Probe },
    /// After a throttle: one more per [`REGROW`], up to `target`.
    Regrowing { target: usize, since: Now },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Up,
    Down,
}

#[derive(Debug)]
pub(super) struct Window {
    width: usize,
    width_max: usize,
    /// The user's own width.
    fixed: Option<usize>,
    mode: Mode,
    /// Whether half as many may still be tried.
    may_narrow: bool,
    round_start: Now,
    round_bytes: u64,
    /// Those of the round that this machine held up.
    held_bytes: u64,
    /// The width just changed: the running round mixes old and new.
    warming: bool,
    /// The window was not the limit at some moment of the round.
    slack: bool,
    cut_at: Option<Now>,
}

impl Window {
    pub(super) fn new(limits: &Limits) -> Self {
        // Half of the slabs fill from sockets while the other half is written.
        let by_memory = usize::try_from(limits.memory_bytes_max / PIECE_BYTES / 2).unwrap_or(CONNECTIONS_MAX);
        let width_max = by_memory.clamp(1, CONNECTIONS_MAX);
        let fixed = limits.connections.map(|width| width.clamp(1, width_max));
        let (width, mode) = match fixed {
            Some(width) => (width, Mode::Fixed),
            None => ((4 * limits.lanes).max(8), Mode::Growing { before: None }),
        };
        let width = width.clamp(1, width_max);
        Self {
            width,
            width_max,
            fixed,
            mode,
            may_narrow: true,
            round_start: Now::ZERO,
            round_bytes: 0,
            held_bytes: 0,
            warming: true,
            slack: false,
            cut_at: None,
        }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Whether a throttle answer holds the width down.
    pub(super) fn throttled(&self) -> bool {
        matches!(self.mode, Mode::Regrowing { .. })
    }

    /// Tells that fewer spans than allowed are outstanding: this round proves nothing.
    pub(super) fn note_slack(&mut self) {
        self.slack = true;
    }

    /// Tells of received bytes whose span waited for this machine: for a slab, a write or durability.
    pub(super) fn note_held(&mut self, bytes: u64) {
        self.held_bytes += bytes;
    }

    pub(super) fn delivered(&mut self, now: Now, bytes: u64) {
        self.round_bytes += bytes;
        let elapsed = now.saturating_sub(self.round_start);
        let enough = u64::try_from(self.width).unwrap_or(u64::MAX) * 2 * PIECE_BYTES;
        if elapsed < ROUND_MIN || (self.round_bytes < enough && elapsed < ROUND_MAX) {
            return;
        }
        let nanos = elapsed.as_nanos().max(1);
        let rate = u64::try_from(u128::from(self.round_bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX);
        let held = self.round_bytes * HELD_PERCENT <= self.held_bytes * 100;
        let (warming, slack) = (self.warming, self.slack);
        (self.round_start, self.round_bytes, self.warming, self.slack) = (now, 0, false, false);
        self.held_bytes = 0;
        match self.mode {
            _ if warming => {}
            // What asks for less than it may cannot tell whether half is enough.
            Mode::Narrowing { from, .. } if slack => {
                self.resize(from);
                self.mode = Mode::Growing { before: None };
            }
            _ if slack => {}
            _ => self.judge(rate, held),
        }
        self.regrow(now);
    }

    /// A throttle answer halves the width, once for all answers of one burst.
    pub(super) fn cut(&mut self, now: Now) {
        if self.cut_at.is_some_and(|at| now < at + CUT_PAUSE) {
            return;
        }
        self.cut_at = Some(now);
        // A width that is only tried is not what the origin refused.
        let width = if let Mode::Narrowing { from, .. } = self.mode { from } else { self.width };
        let target = match self.mode {
            Mode::Regrowing { target, .. } => target,
            // What was reached without a throttle is too much; come back to three quarters of it.
            _ => self.fixed.unwrap_or((width * 3 / 4).max(1)),
        };
        self.resize((width / 2).max(1));
        self.mode = Mode::Regrowing { target, since: now };
    }

    fn resize(&mut self, width: usize) {
        self.width = width.clamp(1, self.width_max);
        self.warming = true;
    }

    /// Draws the conclusion of a round that gave `rate`. One that this machine `held` up is no reason for more spans.
    fn judge(&mut self, rate: u64, held: bool) {
        let beats = |percent: u128, other: u64| u128::from(other) * percent <= u128::from(rate) * 100;
        self.mode = match self.mode {
            Mode::Fixed | Mode::Regrowing { .. } => return,
            Mode::Growing { before: None } if held && self.may_narrow && 1 < self.width => {
                let from = self.width;
                self.may_narrow = false;
                self.resize(from / 2);
                Mode::Narrowing { from, rate }
            }
            Mode::Growing { before: None } if held => return,
            Mode::Narrowing { from, rate: other } => {
                if !beats(95, other) {
                    self.resize(from);
                }
                Mode::Growing { before: None }
            }
            Mode::Growing { before } if !held && before.is_none_or(|(_, other)| beats(120, other)) => self.double(rate),
            Mode::Growing { before: Some((width, other)) } if !beats(105, other) => {
                self.resize(width);
                Mode::Settled { rounds: 0, next: Probe::Down }
            }
            Mode::Growing { .. } => Mode::Settled { rounds: 0, next: Probe::Up },
            Mode::Settled { rounds, next } if rounds < PROBE_ROUNDS => Mode::Settled { rounds: rounds + 1, next },
            Mode::Settled { next, .. } => self.probe(rate, if held { Probe::Down } else { next }),
            Mode::Probing { from, rate: other, direction } => {
                let keep = match direction {
                    Probe::Up => beats(105, other),
                    Probe::Down => beats(98, other),
                };
                if !keep {
                    self.resize(from);
                }
                let next = if direction == Probe::Up { Probe::Down } else { Probe::Up };
                Mode::Settled { rounds: 0, next }
            }
        };
    }

    fn double(&mut self, rate: u64) -> Mode {
        if self.width_max <= self.width {
            return Mode::Settled { rounds: 0, next: Probe::Down };
        }
        let before = Some((self.width, rate));
        self.resize(self.width * 2);
        Mode::Growing { before }
    }

    fn probe(&mut self, rate: u64, direction: Probe) -> Mode {
        let from = self.width;
        let step = (from / 4).max(1);
        match direction {
            Probe::Up => self.resize(from + step),
            Probe::Down => self.resize(from.saturating_sub(step)),
        }
        Mode::Probing { from, rate, direction }
    }

    fn regrow(&mut self, now: Now) {
        let Mode::Regrowing { target, since } = self.mode else { return };
        if now < since + REGROW {
            return;
        }
        if target <= self.width {
            let settled = Mode::Settled { rounds: 0, next: Probe::Up };
            self.mode = if self.fixed.is_some() { Mode::Fixed } else { settled };
        } else {
            self.resize(self.width + 1);
            self.mode = Mode::Regrowing { target, since: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: Option<usize>, memory_mib: u64) -> Limits {
        Limits { connections, memory_bytes_max: memory_mib * PIECE_BYTES, ..Limits::default() }
    }

    /// Lets an origin that gives each connection `each` bytes a second, `total` at most, serve for `seconds`.
    fn serve(window: &mut Window, now: &mut Now, each: u64, total: u64, seconds: u64) {
        let end = *now + Duration::from_secs(seconds);
        while *now < end {
            let rate = (u64::try_from(window.width()).unwrap() * each).min(total);
            *now += Duration::from_millis(10);
            window.delivered(*now, rate / 100);
        }
    }

    #[test]
    fn width_follows_the_memory_bound() {
        for (memory, width) in [(1, 1), (2, 1), (4, 2), (8, 4), (64, 8)] {
            assert_eq!(Window::new(&limits(None, memory)).width(), width, "{memory} MiB");
        }
        assert_eq!(Window::new(&limits(Some(200), 1024)).width(), CONNECTIONS_MAX);
    }

    #[test]
    fn width_doubles_while_the_rate_grows_and_settles_at_the_plateau() {
        let (mut window, mut now) = (Window::new(&limits(None, 256)), Now::ZERO);
        serve(&mut window, &mut now, 50 << 20, 700 << 20, 3);
        assert!((14..=32).contains(&window.width()), "{}", window.width());
    }

    #[test]
    fn more_that_does_not_help_is_stepped_back() {
        let (mut window, mut now) = (Window::new(&limits(None, 256)), Now::ZERO);
        serve(&mut window, &mut now, 200 << 20, 800 << 20, 2);
        assert_eq!(window.width(), 8);
    }

    #[test]
    fn what_this_machine_holds_up_adds_no_spans() {
        // (percent of the bytes held up, width after the origin would have served 14 spans)
        for (held, least, most) in [(0, 14, 32), (24, 14, 32), (25, 8, 8), (100, 8, 8)] {
            let (mut window, mut now) = (Window::new(&limits(None, 256)), Now::ZERO);
            while now < Duration::from_secs(3) {
                let bytes = (u64::try_from(window.width()).unwrap() * (50 << 20)).min(700 << 20) / 100;
                now += Duration::from_millis(10);
                window.note_held(bytes * held / 100);
                window.delivered(now, bytes);
            }
            assert!((least..=most).contains(&window.width()), "{held} %: {}", window.width());
            // Freed, it grows as it would have at first.
            serve(&mut window, &mut now, 50 << 20, 700 << 20, 3);
            assert!((14..=32).contains(&window.width()), "{held} %, then free: {}", window.width());
        }
    }

    #[test]
    fn half_as_many_are_left_where_this_machine_holds_up_what_they_bring_as_fast() {
        // (bytes a second of each connection and of all, width in the end)
        for (each, total, expected) in [(200 << 20, 700 << 20, 4), (174 << 20, 700 << 20, 4), (160 << 20, 700 << 20, 8)]
        {
            let (mut window, mut now, mut narrowest) = (Window::new(&limits(None, 256)), Now::ZERO, usize::MAX);
            while now < Duration::from_secs(2) {
                let bytes = (u64::try_from(window.width()).unwrap() * each).min(total) / 100;
                now += Duration::from_millis(10);
                window.note_held(bytes / 2);
                window.delivered(now, bytes);
                narrowest = narrowest.min(window.width());
            }
            assert_eq!((narrowest, window.width()), (4, expected), "{each} of {total}");
        }
        let (mut fixed, mut now) = (Window::new(&limits(Some(8), 256)), Now::ZERO);
        while now < Duration::from_secs(2) {
            now += Duration::from_millis(10);
            fixed.note_held(4 << 20);
            fixed.delivered(now, 4 << 20);
            assert_eq!(fixed.width(), 8, "the user's own");
        }
    }

    /// A window that tries half as many since this machine held up the first rounds, and the time.
    fn narrowing() -> (Window, Now) {
        let (mut window, mut now) = (Window::new(&limits(None, 256)), Now::ZERO);
        while window.width() == 8 && now < Duration::from_secs(2) {
            now += Duration::from_millis(10);
            window.note_held(4 << 20);
            window.delivered(now, 4 << 20);
        }
        assert_eq!(window.width(), 4);
        (window, now)
    }

    #[test]
    fn half_as_many_that_were_only_tried_stay_neither_beside_slack_nor_after_a_throttle() {
        let (mut slack, mut now) = narrowing();
        let end = now + Duration::from_secs(1);
        while now < end {
            now += Duration::from_millis(10);
            slack.note_slack();
            slack.delivered(now, 4 << 20);
        }
        assert_eq!(slack.width(), 8);
        let (mut cut, now) = narrowing();
        cut.cut(now);
        assert!(matches!(cut.mode, Mode::Regrowing { target: 6, .. }), "{:?}", cut.mode);
        assert_eq!(cut.width(), 4);
    }

    #[test]
    fn throttling_halves_once_per_burst_and_regrows_slowly() {
        let (mut window, mut now) = (Window::new(&limits(Some(16), 256)), Duration::from_secs(1));
        for _ in 0..9 {
            window.cut(now);
        }
        assert_eq!(window.width(), 8);
        serve(&mut window, &mut now, 10 << 20, 1 << 30, 4);
        assert!((10..=12).contains(&window.width()), "{}", window.width());
        serve(&mut window, &mut now, 10 << 20, 1 << 30, 30);
        assert_eq!(window.width(), 16);
    }
}
