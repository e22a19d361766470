//! Writes down a run while it goes on: `dray pull --trace`.
//!
//! In: what an observer sees, and the run's report. Out: lines of JSON (docs/trace.md) by a thread of its own.
//! Holds: a file that is slow or full costs lines and never the run, and the last line is not among them unless the file
//! fails or takes nothing for seconds; the lines of a run are bounded; a process that is killed leaves whole lines, and
//! the one it was at.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::bench::threads::Threads;
use crate::bench::trace::{End, Head, Line, SpanEnd, Tick};
use crate::disk::place::{Usage, usage};
use crate::engine::{EndedSpan, Observer, Phase, Snapshot};
use crate::report::Report;
use crate::schedule::Outcome;
use crate::units::PIECE_BYTES;

/// What a file that is slow may cost.
struct Patience {
    /// Lines on their way to the file.
    queue_max: usize,
    /// How long the end of a run waits for its last lines.
    end_wait: Duration,
}

/// A second of a fast run of small files, and a wait that nobody takes for a hang.
const PATIENCE: Patience = Patience { queue_max: 4096, end_wait: Duration::from_secs(2) };

/// Until then every tick is written; later one whenever this part of the run's time has passed.
const TICKS_WHOLE: Duration = Duration::from_secs(30 * 60);
const TICKS_PART: u32 = 1800;

/// So many requests are written; of twice as many every second, of four times as many every fourth.
const SPANS_WHOLE: u64 = 16_384;

/// Passes everything on, and writes it down.
pub struct Recorder {
    observer: Box<dyn Observer>,
    lines: Option<SyncSender<Vec<u8>>>,
    /// The last line, which waits for no room among the others.
    end: Arc<OnceLock<Vec<u8>>>,
    end_wait: Duration,
    written: Receiver<()>,
    failed: Arc<OnceLock<String>>,
    told: Told,
    lost: u64,
    threads: Threads,
    /// What the process had used when this run began.
    before: Usage,
    /// The most memory that was resident at a tick.
    rss_bytes_max: u64,
    last: Option<(Duration, Phase)>,
    spans: Thinner,
    failures: Thinner,
}

/// Whether the user has heard that the file could not be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    Once,
}

impl Recorder {
    /// Starts writing to `file`, `head` first.
    ///
    /// # Errors
    /// When the first line cannot be written, or no thread can be had.
    pub fn start(file: File, head: &Head, observer: Box<dyn Observer>) -> std::io::Result<Self> {
        Self::start_with(file, head, observer, PATIENCE)
    }

    fn start_with(
        mut file: impl Write + Send + 'static,
        head: &Head,
        observer: Box<dyn Observer>,
        patience: Patience,
    ) -> std::io::Result<Self> {
        file.write_all(&encoded(head)?)?;
        let (lines, queue) = sync_channel(patience.queue_max);
        let (done, written) = sync_channel(1);
        let end = Arc::new(OnceLock::new());
        let last = end.clone();
        let failed = Arc::new(OnceLock::new());
        let failure = failed.clone();
        std::thread::Builder::new().name("trace".to_owned()).spawn(move || {
            if let Err(error) = write_all(BufWriter::new(file), &queue, &last) {
                failure.get_or_init(|| error.to_string());
            }
            // Nobody waits any more where the run was given up.
            done.try_send(()).ok();
        })?;
        Ok(Self {
            observer,
            lines: Some(lines),
            end,
            end_wait: patience.end_wait,
            written,
            failed,
            told: Told::NotYet,
            lost: 0,
            threads: Threads::from_now(),
            before: usage(),
            rss_bytes_max: 0,
            last: None,
            spans: Thinner::default(),
            failures: Thinner::default(),
        })
    }

    fn write(&mut self, line: &Line) {
        let Some(lines) = &self.lines else { return };
        // A line of numbers and short words cannot fail to be written.
        let sent = encoded(line).is_ok_and(|line| lines.try_send(line).is_ok());
        self.lost += u64::from(!sent);
    }

    /// Leaves the last line where the writer finds it behind all others, and waits for it.
    fn finish(&mut self, end: End) {
        // A line of numbers and short words cannot fail to be written.
        let last = encoded(&Line { end: Some(end), ..Line::default() }).unwrap_or_default();
        self.end.get_or_init(|| last);
        self.lines = None;
        if self.written.recv_timeout(self.end_wait).is_err() {
            self.failed.get_or_init(|| "the file does not take its last lines".to_owned());
        }
        self.tell();
    }

    fn tell(&mut self) {
        if self.told == Told::NotYet
            && let Some(why) = self.failed.get()
        {
            self.told = Told::Once;
            self.observer.note(&format!("the trace could not be written further: {why}"));
        }
    }

    fn record(&mut self, snapshot: &Snapshot) {
        if !due(self.last, snapshot) {
            return;
        }
        self.last = Some((snapshot.elapsed, snapshot.phase));
        let time = self.threads.look();
        self.rss_bytes_max = self.rss_bytes_max.max(usage().rss_bytes);
        let progress = &snapshot.progress;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let tick = Tick {
            at: round(snapshot.elapsed, 1e3),
            phase: snapshot.phase.word().to_owned(),
            received: progress.bytes_received,
            durable: progress.bytes_durable,
            active: count(progress.spans),
            allowed: count(progress.window),
            brake: snapshot.brake.word().to_owned(),
            held_bytes: count(snapshot.slabs.0).saturating_mul(PIECE_BYTES),
            retried: progress.requests_retried,
            cpu_user: time.user,
            cpu_system: time.system,
        };
        self.write(&Line { tick: Some(tick), ..Line::default() });
    }
}

impl Observer for Recorder {
    fn tick(&mut self, snapshot: &Snapshot) {
        self.record(snapshot);
        self.tell();
        self.observer.tick(snapshot);
    }

    fn note(&mut self, line: &str) {
        self.observer.note(line);
    }

    fn end(&mut self, summary: &str) {
        self.observer.end(summary);
    }

    fn span(&mut self, span: &EndedSpan) {
        let done = span.outcome == Outcome::Delivered;
        let thinner = if done { &mut self.spans } else { &mut self.failures };
        if let Some(of) = thinner.take_next() {
            let end = SpanEnd {
                at: round(span.at, 1e3),
                seconds: round(span.took, 1e6),
                bytes: span.bytes,
                lane: span.lane,
                end: if done { "done" } else { span.outcome.word() }.to_owned(),
                of,
            };
            self.write(&Line { span: Some(end), ..Line::default() });
        }
        self.observer.span(span);
    }

    fn report(&mut self, report: &Report) {
        let end = End {
            outcome: report.outcome.clone(),
            error: report.error.clone(),
            seconds: report.seconds,
            bytes_total: report.bytes.total,
            bytes_fetched: report.bytes.fetched,
            bytes_reused: report.bytes.reused,
            requests: report.requests.total,
            retried: report.requests.retried,
            cpu_seconds: (report.cpu_seconds - self.before.cpu_seconds).max(0.0),
            rss_bytes_max: peak(self.before.rss_bytes_max, report.rss_bytes_max, self.rss_bytes_max),
            io: report.io.backend.to_owned(),
            verdict: report.bottleneck.verdict.to_owned(),
            shares: report.bottleneck.shares.iter().map(|(word, share)| ((*word).to_owned(), *share)).collect(),
            threads: self.threads.by_name(),
            lines_lost: self.lost,
        };
        self.finish(end);
        self.observer.report(report);
    }
}

/// Which of many are written: all at first, then a share that halves as they double.
#[derive(Default)]
struct Thinner {
    seen: u64,
}

impl Thinner {
    /// For how many the next one stands, if it is written.
    fn take_next(&mut self) -> Option<u64> {
        let number = self.seen;
        self.seen += 1;
        let stride = (number / SPANS_WHOLE + 1).next_power_of_two();
        number.is_multiple_of(stride).then_some(stride)
    }
}

/// The peak of this run: the process's own where it grew in this run, else the most that was seen.
fn peak(before: u64, now: u64, seen: u64) -> u64 {
    if before < now || seen == 0 { now } else { seen }
}

/// Whether a tick is to be written: a change of phase always is.
fn due(last: Option<(Duration, Phase)>, snapshot: &Snapshot) -> bool {
    let Some((at, phase)) = last else { return true };
    let gap = if snapshot.elapsed <= TICKS_WHOLE { Duration::ZERO } else { snapshot.elapsed / TICKS_PART };
    phase != snapshot.phase || at + gap <= snapshot.elapsed
}

fn round(time: Duration, parts: f64) -> f64 {
    (time.as_secs_f64() * parts).round() / parts
}

fn encoded(line: &impl serde::Serialize) -> std::io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes lines as they come until there are no more, then `last`; what waits together is written together.
fn write_all(
    mut file: BufWriter<impl Write>,
    queue: &Receiver<Vec<u8>>,
    last: &OnceLock<Vec<u8>>,
) -> std::io::Result<()> {
    while let Ok(line) = queue.recv() {
        file.write_all(&line)?;
        while let Ok(line) = queue.try_recv() {
            file.write_all(&line)?;
        }
        file.flush()?;
    }
    // A run that was given up has none.
    file.write_all(last.get().map_or(&[], Vec::as_slice))?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::trace::Trace;

    fn at(seconds: u64) -> Snapshot {
        Snapshot { phase: Phase::Fetching, elapsed: Duration::from_secs(seconds), ..Snapshot::default() }
    }

    /// How many ticks of a run of `seconds` are written, five coming each second.
    fn ticks(seconds: u64) -> u64 {
        let (mut last, mut count) = (None, 0);
        for number in 0..seconds * 5 {
            let snapshot = Snapshot { elapsed: Duration::from_millis(number * 200), ..at(0) };
            if due(last, &snapshot) {
                (last, count) = (Some((snapshot.elapsed, snapshot.phase)), count + 1);
            }
        }
        count
    }

    #[test]
    fn half_an_hour_is_written_whole_and_a_day_in_thousands_of_ticks() {
        assert_eq!(ticks(30 * 60), 30 * 60 * 5);
        let day = ticks(24 * 3600);
        assert!((14_000..=16_500).contains(&day), "{day}");
    }

    #[test]
    fn a_change_of_phase_is_written_at_any_time() {
        let late = at(24 * 3600);
        let just_before = Some((late.elapsed, Phase::Fetching));
        assert!(!due(just_before, &late));
        assert!(due(just_before, &Snapshot { phase: Phase::Publishing, ..late }));
    }

    #[test]
    fn requests_are_written_whole_at_first_and_then_by_halves() {
        let mut thinner = Thinner::default();
        let mut take = |seen: u64| (0..seen).filter_map(|_| thinner.take_next()).count();
        assert_eq!(take(SPANS_WHOLE), 16_384);
        assert_eq!(take(SPANS_WHOLE), 8_192);
        assert_eq!(take(2 * SPANS_WHOLE), 8_192);
    }

    #[test]
    fn a_run_whose_later_requests_are_slow_is_not_drawn_as_a_fast_one() {
        let (mut thinner, total) = (Thinner::default(), 4 * SPANS_WHOLE);
        // The first two fifths take 10 ms each, what follows 2 s.
        let span = |number: u64| {
            let of = thinner.take_next()?;
            let seconds = if number * 5 < total * 2 { 0.01 } else { 2.0 };
            Some(SpanEnd { at: 9.0, seconds, bytes: 1 << 20, lane: 0, end: "done".to_owned(), of })
        };
        let spans: Vec<SpanEnd> = (0..total).filter_map(span).collect();
        let fast = spans.iter().filter(|span| span.seconds < 1.0).count();
        assert!(spans.len() < 2 * fast, "more lines of the fast than of the slow: {fast} of {}", spans.len());
        let trace = Trace { head: Head::default(), ticks: Vec::new(), spans, end: None };
        let html = crate::bench::page::page(&[], &[trace]).unwrap();
        let row = "all</th><td class=\"n\">65536</td><td class=\"n\">64.0 GiB</td><td class=\"n\">2.00 s</td>";
        let shown = ["65536 requests that brought all", "done</th><td class=\"n\">65536</td>", row];
        assert!(shown.iter().all(|words| html.contains(words)), "{html}");
    }

    /// Nobody watches.
    struct Unwatched;

    impl Observer for Unwatched {
        fn tick(&mut self, _: &Snapshot) {}
        fn note(&mut self, _: &str) {}
        fn end(&mut self, _: &str) {}
    }

    /// A file that takes its first line at once, and all others when `shut` has lost its other end.
    struct Shut {
        shut: Receiver<()>,
        bytes: Arc<std::sync::Mutex<Vec<u8>>>,
    }

    impl Write for Shut {
        fn write(&mut self, more: &[u8]) -> std::io::Result<usize> {
            if !self.bytes.lock().unwrap().is_empty() {
                self.shut.recv().unwrap_err();
            }
            self.bytes.lock().unwrap().extend_from_slice(more);
            Ok(more.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_last_line_of_a_run_arrives_where_others_had_no_room() {
        let (open, shut) = sync_channel::<()>(1);
        let (bytes, patience) = (Arc::default(), Patience { queue_max: 1, end_wait: Duration::from_millis(10) });
        let file = Shut { shut, bytes: Arc::clone(&bytes) };
        let head = Head { schema: crate::bench::trace::SCHEMA.to_owned(), ..Head::default() };
        let mut recorder = Recorder::start_with(file, &head, Box::new(Unwatched), patience).unwrap();
        let (at, took) = (Duration::ZERO, Duration::ZERO);
        let spans = 10_000;
        for _ in 0..spans {
            // More than the queue and the writer's buffer hold.
            recorder.span(&EndedSpan { at, took, bytes: 1, lane: 0, outcome: Outcome::Delivered });
        }
        let lost = recorder.lost;
        recorder.finish(End { lines_lost: lost, ..End::default() });
        assert_eq!(recorder.failed.get().map(String::as_str), Some("the file does not take its last lines"));
        drop(open);
        recorder.written.recv().unwrap();
        let trace = Trace::read(bytes.lock().unwrap().as_slice()).unwrap();
        let written = u64::try_from(trace.spans.len()).unwrap();
        assert_eq!(trace.end.map(|end| end.lines_lost), Some(lost));
        assert!(0 < lost && written + lost == spans, "{written} + {lost} of {spans}");
    }

    #[test]
    fn a_peak_of_an_earlier_run_is_not_this_ones() {
        for (before, now, seen, expected) in [(10, 30, 20, 30), (30, 30, 20, 20), (30, 30, 0, 30)] {
            assert_eq!(peak(before, now, seen), expected, "{before} {now} {seen}");
        }
    }
}
