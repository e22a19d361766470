//! The figures of a trace as plots and tables need them. Pure.
//!
//! In: ticks and spans as they were read, from anybody. Out: rates, bands, percentiles, histograms. Holds: every number
//! is finite, not negative and bounded, and every list is as long as its caller says, whatever the trace holds.

use crate::bench::trace::{SpanEnd, Tick, Trace};

/// Bytes of a GiB, as a number to divide by.
pub(super) const GIB: f64 = 1_073_741_824.0;

/// More than any figure of a page can be.
const FIGURE_MAX: f64 = 1e12;

/// Brakes that are told apart: more than there are.
const SHARES_MAX: usize = 16;

/// A line stands for at most so many requests: more than a run has.
const WEIGHT_MAX: u64 = 1 << 32;

/// A number from outside as one that can be drawn.
pub(super) fn tame(figure: f64) -> f64 {
    if figure.is_finite() { figure.clamp(0.0, FIGURE_MAX) } else { 0.0 }
}

/// A count as a number.
#[expect(clippy::cast_precision_loss, reason = "display only: a u64 loses nothing that matters in an f64")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

/// The same of a length.
pub(super) fn real_len(length: usize) -> f64 {
    real(u64::try_from(length).unwrap_or(u64::MAX))
}

/// A trace with its times in order.
pub(super) struct Run<'a> {
    pub(super) trace: &'a Trace,
    /// Ticks whose time does not run backwards.
    pub(super) ticks: Vec<(f64, &'a Tick)>,
    /// Seconds of the whole.
    pub(super) seconds: f64,
}

/// A stretch of time that one brake held.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) brake: String,
}

/// What is under way between two ticks, in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) received: f64,
    pub(super) durable: f64,
    /// Processors that were busy.
    pub(super) user: f64,
    pub(super) system: f64,
}

impl<'a> Run<'a> {
    pub(super) fn of(trace: &'a Trace) -> Self {
        let mut ticks: Vec<(f64, &Tick)> = Vec::with_capacity(trace.ticks.len());
        for tick in &trace.ticks {
            let at = tame(tick.at);
            if ticks.last().is_none_or(|(last, _)| *last <= at) {
                ticks.push((at, tick));
            }
        }
        let last = ticks.last().map_or(0.0, |(at, _)| *at);
        let spans = trace.spans.iter().map(|span| tame(span.at)).fold(last, f64::max);
        let seconds = trace.end.as_ref().map_or(spans, |end| tame(end.seconds).max(last));
        Self { trace, ticks, seconds }
    }

    /// Rates over at most `most` stretches of about the same length.
    pub(super) fn rates(&self, most: usize) -> Vec<Rate> {
        let least = self.seconds / real_len(most.max(1));
        let mut rates: Vec<Rate> = Vec::new();
        let Some(mut before) = self.ticks.first().copied() else { return rates };
        for (place, (at, tick)) in self.ticks.iter().enumerate() {
            let step = at - before.0;
            let last = place + 1 == self.ticks.len();
            // What a run finds durable when it begins was not fetched by it.
            let begins = !runs(before.1) && runs(tick);
            if 0.0 < step && (begins || least <= step || last) {
                let rate = |now: u64, then: u64| if begins { 0.0 } else { tame(real(now.saturating_sub(then)) / step) };
                let busy = |now: f64, then: f64| tame((tame(now) - tame(then)) / step);
                rates.push(Rate {
                    from: before.0,
                    to: *at,
                    received: rate(tick.received, before.1.received),
                    durable: rate(tick.durable, before.1.durable),
                    user: busy(tick.cpu_user, before.1.cpu_user),
                    system: busy(tick.cpu_system, before.1.cpu_system),
                });
            }
            if begins || rates.last().is_some_and(|rate| rate.to == *at) {
                before = (*at, *tick);
            }
        }
        rates
    }

    /// Active and allowed requests: at most about `most` ticks, the busiest of each stretch.
    pub(super) fn requests(&self, most: usize) -> Vec<(f64, f64, f64)> {
        let stride = self.ticks.len().div_ceil(most.max(1)).max(1);
        let groups = self.ticks.chunks(stride);
        groups
            .map(|group| {
                let most = |of: fn(&Tick) -> u64| real(group.iter().map(|(_, tick)| of(tick)).max().unwrap_or(0));
                let at = group.first().map_or(0.0, |(at, _)| *at);
                (at, tame(most(|tick| tick.active)), tame(most(|tick| tick.allowed)))
            })
            .collect()
    }

    /// Stretches by brake while requests might run. Each tick speaks of the time since the one before.
    pub(super) fn bands(&self) -> Vec<Band> {
        let mut bands: Vec<Band> = Vec::new();
        for pair in self.ticks.windows(2) {
            let ((from, before), (to, tick)) = (pair[0], pair[1]);
            if !runs(tick) && !runs(before) {
                continue;
            }
            match bands.last_mut() {
                Some(band) if band.brake == tick.brake && from <= band.to => band.to = to,
                _ => bands.push(Band { from, to, brake: tick.brake.clone() }),
            }
        }
        bands
    }

    /// Share of each brake by the bands, longest first, where the report is missing.
    pub(super) fn shares(&self) -> Vec<(String, f64)> {
        let of_report = self.trace.end.as_ref().map(|end| &end.shares).filter(|shares| !shares.is_empty());
        let mut shares: Vec<(String, f64)> = match of_report {
            Some(shares) => shares.iter().map(|(word, share)| (word.clone(), tame(*share))).collect(),
            None => {
                let bands = self.bands();
                let total: f64 = bands.iter().map(|band| band.to - band.from).sum();
                let mut sums = std::collections::BTreeMap::<String, f64>::new();
                for band in bands {
                    *sums.entry(band.brake).or_default() += (band.to - band.from) / total.max(f64::MIN_POSITIVE);
                }
                sums.into_iter().map(|(word, share)| (word, tame(share))).collect()
            }
        };
        shares.retain(|(_, share)| 0.005 <= *share);
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        shares.truncate(SHARES_MAX);
        shares
    }

    /// When requests were repeated: times, and how many there were.
    pub(super) fn retries(&self) -> Vec<(f64, u64)> {
        let pairs = self.ticks.windows(2).map(|pair| (pair[1].0, pair[1].1.retried.saturating_sub(pair[0].1.retried)));
        pairs.filter(|(_, count)| 0 < *count).collect()
    }

    /// When bytes first came.
    pub(super) fn first_bytes(&self) -> Option<f64> {
        self.ticks.iter().find(|(_, tick)| 0 < tick.received).map(|(at, _)| *at)
    }
}

/// Whether the schedule runs at this tick.
fn runs(tick: &Tick) -> bool {
    0 < tick.allowed
}

/// Bands that can be told apart: of each `most`th part of the time, the brake that held it longest.
pub(super) fn visible(bands: &[Band], most: u32) -> Vec<Band> {
    let (Some(first), Some(last)) = (bands.first(), bands.last()) else { return Vec::new() };
    if bands.len() <= usize::try_from(most).unwrap_or(usize::MAX) {
        return bands.to_vec();
    }
    let width = (last.to - first.from) / f64::from(most.max(1));
    let mut kept: Vec<Band> = Vec::new();
    let mut next = 0;
    for part in 0..most {
        let (from, to) = (first.from + width * f64::from(part), first.from + width * f64::from(part + 1));
        next += bands[next..].iter().take_while(|band| band.to <= from).count();
        let mut held = std::collections::BTreeMap::<&str, f64>::new();
        for band in bands[next..].iter().take_while(|band| band.from < to) {
            *held.entry(&band.brake).or_default() += band.to.min(to) - band.from.max(from);
        }
        let Some((brake, _)) = held.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
        match kept.last_mut() {
            Some(band) if band.brake == brake => band.to = to,
            _ => kept.push(Band { from, to, brake: brake.to_owned() }),
        }
    }
    kept
}

/// For how many requests the line of `span` stands.
pub(super) fn weight(span: &SpanEnd) -> u64 {
    span.of.clamp(1, WEIGHT_MAX)
}

/// A time, and how many requests took it.
pub(super) type Weighed = (f64, u64);

/// Requests that brought all they were to bring, and how long each took.
pub(super) fn latencies<'a>(spans: impl Iterator<Item = &'a SpanEnd>) -> Vec<Weighed> {
    let done = spans.filter(|span| span.end == "done");
    let mut seconds: Vec<Weighed> = done.map(|span| (tame(span.seconds), weight(span))).collect();
    seconds.sort_by(|a, b| a.0.total_cmp(&b.0));
    seconds
}

/// All requests of `sorted`.
pub(super) fn count(sorted: &[Weighed]) -> u64 {
    sorted.iter().map(|(_, count)| *count).fold(0, u64::saturating_add)
}

/// The value that `percent` of 100 do not exceed: the nearest rank of sorted figures.
pub(super) fn percentile(sorted: &[Weighed], percent: u64) -> Option<f64> {
    let rank = count(sorted).saturating_mul(percent).div_ceil(100).max(1);
    let mut below = 0u64;
    let reached = sorted.iter().find(|(_, count)| {
        below = below.saturating_add(*count);
        rank <= below
    });
    reached.map(|(seconds, _)| *seconds)
}

/// One bar of a histogram over powers of ten.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bar {
    /// Powers of ten of a second.
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) count: u64,
}

/// Shortest time that is told apart.
const SHORTEST: f64 = 1e-4;

/// A histogram of sorted times in `bars` bars of one width on a scale of powers of ten.
pub(super) fn histogram(sorted: &[Weighed], bars: u32) -> Vec<Bar> {
    let (Some((first, _)), Some((last, _))) = (sorted.first(), sorted.last()) else { return Vec::new() };
    let power = |seconds: f64| seconds.max(SHORTEST).log10();
    let (from, to) = ((power(*first) - 0.02).floor_to(0.1), (power(*last) + 0.02).ceil_to(0.1));
    let width = (to - from) / f64::from(bars.max(1));
    let edge = |bar: u32| from + width * f64::from(bar);
    (0..bars)
        .map(|bar| {
            let within =
                |seconds: f64| edge(bar) <= power(seconds) && (power(seconds) < edge(bar + 1) || bar + 1 == bars);
            let held = sorted.iter().filter(|(seconds, _)| within(*seconds)).map(|(_, count)| *count);
            Bar { from: edge(bar), to: edge(bar + 1), count: held.fold(0, u64::saturating_add) }
        })
        .collect()
}

/// Rounding to a step.
trait Step {
    fn floor_to(self, step: f64) -> f64;
    fn ceil_to(self, step: f64) -> f64;
}

impl Step for f64 {
    fn floor_to(self, step: f64) -> f64 {
        (self / step).floor() * step
    }

    fn ceil_to(self, step: f64) -> f64 {
        (self / step).ceil() * step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(at: f64, received: u64, durable: u64, allowed: u64, brake: &str) -> Tick {
        Tick { at, received, durable, allowed, active: allowed, brake: brake.to_owned(), ..Tick::default() }
    }

    fn trace(ticks: Vec<Tick>) -> Trace {
        Trace { head: crate::bench::trace::Head::default(), ticks, spans: Vec::new(), end: None }
    }

    #[test]
    fn rates_are_of_what_came_in_this_run() {
        let trace = trace(vec![
            tick(0.0, 0, 0, 0, "network"),
            tick(1.0, 0, 500, 8, "network"),
            tick(2.0, 100, 500, 8, "network"),
            tick(4.0, 100, 700, 8, "disk"),
        ]);
        let run = Run::of(&trace);
        let shown: Vec<_> = run.rates(100).iter().map(|rate| (rate.to, rate.received, rate.durable)).collect();
        assert_eq!(shown, [(1.0, 0.0, 0.0), (2.0, 100.0, 0.0), (4.0, 0.0, 100.0)]);
        assert_eq!(run.rates(1).len(), 2);
    }

    #[test]
    fn bands_join_and_shares_add_up() {
        let brakes = ["origin", "disk", "disk", "network", "disk"];
        let ticks = brakes.iter().zip(0u32..).map(|(brake, at)| tick(f64::from(at), 0, 0, 8, brake));
        let trace = trace(ticks.collect());
        let run = Run::of(&trace);
        let shown: Vec<_> = run.bands().into_iter().map(|band| (band.from, band.to, band.brake)).collect();
        let expected = [(0.0, 2.0, "disk"), (2.0, 3.0, "network"), (3.0, 4.0, "disk")];
        assert_eq!(shown, expected.map(|(from, to, brake)| (from, to, brake.to_owned())));
        assert_eq!(run.shares(), [("disk".to_owned(), 0.75), ("network".to_owned(), 0.25)]);
    }

    #[test]
    fn bands_too_short_to_be_seen_give_way_to_what_held_longest() {
        let band = |from: u32, to: u32, brake: &str| Band {
            from: f64::from(from),
            to: f64::from(to),
            brake: brake.to_owned(),
        };
        let turns = |start: u32, long: &str, short: &str| -> Vec<Band> {
            let pair = |at: u32| [band(at, at + 9, long), band(at + 9, at + 10, short)];
            (start..start + 100).step_by(10).flat_map(pair).collect()
        };
        let bands = [turns(0, "disk", "network"), turns(100, "origin", "disk")].concat();
        assert_eq!(visible(&bands, 10), [band(0, 100, "disk"), band(100, 200, "origin")]);
        assert_eq!(visible(&bands, 40), bands);
        assert!(visible(&[], 10).is_empty());
    }

    #[test]
    fn numbers_of_any_kind_are_tamed() {
        for (figure, expected) in [(f64::NAN, 0.0), (f64::INFINITY, 0.0), (-3.0, 0.0), (1e300, FIGURE_MAX), (2.5, 2.5)]
        {
            assert_eq!(tame(figure), expected, "{figure}");
        }
        let odd = trace(vec![tick(5.0, 9, 9, 1, "x"), tick(-1.0, 0, 0, 1, "x"), tick(1e300, u64::MAX, 0, 1, "x")]);
        let run = Run::of(&odd);
        assert_eq!(run.ticks.len(), 2);
        assert!(run.rates(10).iter().all(|rate| rate.received.is_finite() && rate.durable.is_finite()));
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<Weighed> = (1..=200).map(|at| (f64::from(at), 1)).collect();
        for (percent, expected) in [(50, 100.0), (95, 190.0), (99, 198.0), (100, 200.0)] {
            assert_eq!(percentile(&sorted, percent), Some(expected), "{percent}");
        }
        assert_eq!(percentile(&[(7.0, 1)], 50), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_line_that_stands_for_several_counts_as_they_would() {
        let lines = [(1.0, 3), (2.0, 1), (5.0, 4), (9.0, 2)];
        let each: Vec<Weighed> = [1.0, 1.0, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0, 9.0, 9.0].map(|at| (at, 1)).to_vec();
        for percent in [1, 30, 31, 40, 41, 50, 80, 81, 99, 100] {
            assert_eq!(percentile(&lines, percent), percentile(&each, percent), "{percent}");
        }
        assert_eq!(histogram(&lines, 24), histogram(&each, 24));
        let odd = |of: u64| weight(&SpanEnd { of, ..SpanEnd::default() });
        assert_eq!([odd(0), odd(4), odd(u64::MAX)], [1, 4, WEIGHT_MAX]);
    }

    #[test]
    fn a_histogram_holds_every_time_once() {
        for times in [vec![0.5], vec![0.0, 1e-9, 3.0, 3.0, 250.0], (1..500).map(|n| f64::from(n) / 7.0).collect()] {
            let weighed: Vec<Weighed> = times.iter().map(|at| (*at, 1)).collect();
            let bars = histogram(&weighed, 24);
            assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), times.len() as u64, "{times:?}");
        }
        assert!(histogram(&[], 24).is_empty());
    }
}
