//! Shows a run on stderr: a bar on a terminal, a line every few seconds elsewhere, JSON lines on demand.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::engine::{Observer, Phase, Snapshot};
use crate::units::{show_duration, show_rate, show_size};

/// Which way a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressKind {
    /// A bar on a terminal, lines elsewhere.
    Auto,
    /// A bar that redraws itself.
    Bar,
    /// One line every few seconds.
    Lines,
    /// One JSON object a line, twice a second.
    Json,
    /// Nothing.
    None,
}

/// Pods without a terminal get a line this often: enough to see life, not enough to fill a log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// JSON readers get a record this often.
const JSON_EVERY: Duration = Duration::from_millis(500);

/// Makes the observer for `kind`; `terminal` says whether stderr is one.
pub(super) fn observer(kind: ProgressKind, terminal: bool) -> Box<dyn Observer> {
    match (kind, terminal) {
        (ProgressKind::Bar, _) | (ProgressKind::Auto, true) => Box::new(Bar::new()),
        (ProgressKind::Lines, _) | (ProgressKind::Auto, false) => {
            Box::new(Lines { rate: Rate::default(), last: Duration::ZERO })
        }
        (ProgressKind::Json, _) => Box::new(Json { rate: Rate::default(), last: None }),
        (ProgressKind::None, _) => Box::new(crate::engine::Unobserved),
    }
}

/// The delivery rate over the last few seconds.
#[derive(Default)]
struct Rate {
    samples: std::collections::VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Samples kept: about five seconds of ticks.
    const SAMPLES: usize = 25;

    fn add(&mut self, at: Duration, bytes: u64) {
        self.samples.push_back((at, bytes));
        if Self::SAMPLES < self.samples.len() {
            self.samples.pop_front();
        }
    }

    /// Bytes and the time they took, over the kept samples.
    fn span(&self) -> (u64, Duration) {
        match (self.samples.front(), self.samples.back()) {
            (Some(first), Some(last)) => (last.1.saturating_sub(first.1), last.0.saturating_sub(first.0)),
            _ => (0, Duration::ZERO),
        }
    }

    fn eta(&self, left: u64) -> Option<Duration> {
        let (bytes, time) = self.span();
        let micros = u128::from(left) * time.as_micros() / u128::from(bytes.max(1));
        (0 < bytes).then(|| Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

/// The facts every form shows.
struct Facts {
    done: u64,
    total: u64,
    files: String,
    rate: String,
    eta: String,
    brake: &'static str,
}

impl Facts {
    fn of(snapshot: &Snapshot, rate: &mut Rate) -> Self {
        let progress = &snapshot.progress;
        let done = progress.bytes_fetched + progress.bytes_reused;
        rate.add(snapshot.elapsed, progress.bytes_fetched);
        let (bytes, time) = rate.span();
        Self {
            done,
            total: progress.bytes_total,
            files: format!("{}/{} files", progress.files_done, progress.files_total),
            rate: show_rate(bytes, time),
            eta: rate.eta(progress.bytes_total.saturating_sub(done)).map_or_else(|| "-".to_owned(), show_duration),
            brake: snapshot.brake.word(),
        }
    }
}

/// What to say while nothing is fetched; `None` when the facts say more.
fn waiting(snapshot: &Snapshot) -> Option<String> {
    let time = show_duration(snapshot.elapsed);
    match snapshot.phase {
        Phase::Resolving => Some(format!("resolving the source, {time} so far")),
        Phase::Waiting => Some(format!("waiting for another process on this directory, {time} so far")),
        Phase::Reading => {
            let read = show_size(snapshot.read_bytes);
            Some(format!("reading what is on disk, {read} read, {time} so far"))
        }
        Phase::Unpacking => {
            let read = show_size(snapshot.read_bytes);
            Some(format!("unpacking the archive, {read} read, {time} so far"))
        }
        Phase::Fetching | Phase::Publishing | Phase::Sealed | Phase::Stopped => None,
    }
}

struct Bar {
    bar: ProgressBar,
    rate: Rate,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
        // The template is a constant that the tests draw; a bar without it still works.
        if let Ok(style) = ProgressStyle::with_template("{bar:28.cyan/dim} {percent:>3}% {msg}") {
            bar.set_style(style.progress_chars("━━─"));
        }
        Self { bar, rate: Rate::default() }
    }
}

impl Observer for Bar {
    fn tick(&mut self, snapshot: &Snapshot) {
        if let Some(waiting) = waiting(snapshot) {
            self.bar.set_message(waiting);
            return;
        }
        let facts = Facts::of(snapshot, &mut self.rate);
        self.bar.set_length(facts.total.max(1));
        self.bar.set_position(facts.done);
        let message = match snapshot.phase {
            Phase::Fetching => format!(
                "{} of {} · {} · eta {} · {} · {}",
                show_size(facts.done),
                show_size(facts.total),
                facts.rate,
                facts.eta,
                facts.files,
                facts.brake
            ),
            phase => format!("{} · {}", phase.word(), facts.files),
        };
        self.bar.set_message(message);
        if snapshot.phase.is_last() {
            self.bar.finish_and_clear();
        }
    }

    fn note(&mut self, line: &str) {
        self.bar.suspend(|| eprintln_line(line));
    }

    fn end(&mut self, summary: &str) {
        self.bar.finish_and_clear();
        eprintln_line(summary);
    }
}

struct Lines {
    rate: Rate,
    last: Duration,
}

impl Observer for Lines {
    fn tick(&mut self, snapshot: &Snapshot) {
        if snapshot.phase.is_last() && snapshot.progress.files_total == 0 {
            return;
        }
        let waiting = waiting(snapshot);
        // The rate needs every sample, also those between two lines.
        let facts = waiting.is_none().then(|| Facts::of(snapshot, &mut self.rate));
        if snapshot.elapsed < self.last + LINE_EVERY {
            return;
        }
        self.last = snapshot.elapsed;
        if let Some(waiting) = waiting {
            eprintln_line(&waiting);
        }
        let Some(facts) = facts else { return };
        eprintln_line(&format!(
            "{} {} of {} at {}, eta {}, {}, limited by {}",
            snapshot.phase.word(),
            show_size(facts.done),
            show_size(facts.total),
            facts.rate,
            facts.eta,
            facts.files,
            facts.brake
        ));
    }

    fn note(&mut self, line: &str) {
        eprintln_line(line);
    }

    fn end(&mut self, summary: &str) {
        eprintln_line(summary);
    }
}

struct Json {
    rate: Rate,
    last: Option<Duration>,
}

impl Observer for Json {
    fn tick(&mut self, snapshot: &Snapshot) {
        let facts = Facts::of(snapshot, &mut self.rate);
        if !snapshot.phase.is_last() && self.last.is_some_and(|last| snapshot.elapsed < last + JSON_EVERY) {
            return;
        }
        self.last = Some(snapshot.elapsed);
        let (bytes, time) = self.rate.span();
        let progress = &snapshot.progress;
        let record = json!({
            "event": "progress",
            "phase": snapshot.phase.word(),
            "seconds": snapshot.elapsed.as_secs_f64(),
            "bytes": { "total": progress.bytes_total, "fetched": progress.bytes_fetched, "reused": progress.bytes_reused, "durable": progress.bytes_durable, "read": snapshot.read_bytes },
            "files": { "total": progress.files_total, "done": progress.files_done },
            "requests": { "total": progress.requests_total, "retried": progress.requests_retried },
            "bytes_per_second": if time.is_zero() { 0.0 } else { Duration::from_nanos(bytes).as_secs_f64() * 1e9 / time.as_secs_f64() },
            "limit": facts.brake,
        });
        eprintln_line(&record.to_string());
    }

    fn note(&mut self, line: &str) {
        eprintln_line(&json!({ "event": "note", "text": line }).to_string());
    }

    fn end(&mut self, summary: &str) {
        self.summary(summary);
    }

    fn summary(&mut self, summary: &str) {
        eprintln_line(&json!({ "event": "summary", "text": summary }).to_string());
    }
}

/// A line on stderr; a closed stderr must not end a download.
pub(super) fn eprintln_line(line: &str) {
    let mut stderr = std::io::stderr().lock();
    if writeln!(stderr, "{line}").is_err() {
        tracing::trace!("stderr is closed");
    }
}
