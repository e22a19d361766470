//! The section of one run: what its trace shows.

use std::collections::BTreeMap;

use crate::bench::page::html::{facts, figure, label, percent, sentences, table, text, time};
use crate::bench::page::machine;
use crate::bench::page::plot::{self, Axes, BLUE, BRAKES, BarRow, FORE, Line, ORANGE, RED, Screen, Stretch};
use crate::bench::page::series::{self, GIB, Run, latencies, percentile, real, tame, weight};
use crate::bench::trace::{SpanEnd, ThreadTime, Trace};
use crate::error::Error;
use crate::units::show_size;

/// Rows of the table over time.
const ROWS_MAX: usize = 40;

/// Bands, marks, lanes and threads that are shown.
const BANDS_MAX: u32 = 160;
const MARKS_MAX: usize = 200;
const LANES_MAX: usize = 64;
const THREADS_MAX: usize = 24;

/// The whole section.
pub(super) fn section(trace: &Trace) -> Result<String, Error> {
    let run = Run::of(trace);
    let head = &trace.head;
    let mut html = format!("<section><h2>Pull of {}</h2>\n", text(&head.source));
    html.push_str(&facts(&[("began", began(head.began_unix)), ("to", head.dest.clone())]));
    html.push_str("<div class=\"words\">");
    html.push_str(&sentences(&words(&run)));
    html.push_str("</div>\n");
    html.push_str(&throughput(&run)?);
    html.push_str(&concurrency(&run)?);
    html.push_str(&spans(trace)?);
    html.push_str(&busy(&run)?);
    html.push_str(&processor(&run)?);
    html.push_str("<h3>Figures</h3>\n");
    html.push_str(&tables(&run));
    html.push_str("<h3>Machine</h3>\n");
    html.push_str(&machine(&head.machine));
    html.push_str("</section>\n");
    Ok(html)
}

/// A time of day for people; nothing of a time that no clock shows.
fn began(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|unix| ::time::OffsetDateTime::from_unix_timestamp(unix).ok());
    let form = &::time::format_description::well_known::Rfc3339;
    time.filter(|_| 0 < unix).and_then(|time| time.format(form).ok()).unwrap_or_default()
}

/// What held it back and when, in words.
pub(super) fn words(run: &Run<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let last = run.ticks.last();
    let received = last.map_or(0, |(_, tick)| tick.received);
    match &run.trace.end {
        Some(end) => {
            let fetched = real(end.bytes_fetched) / GIB / tame(end.seconds).max(1e-6);
            let kept = if 0 < end.bytes_reused {
                format!(", {} were there before", show_size(end.bytes_reused))
            } else {
                String::new()
            };
            let (size, took) = (show_size(end.bytes_fetched), time(end.seconds));
            lines.push(format!(
                "{}: {size} fetched in {took}, {} GiB/s{kept}.",
                label(&end.outcome, 40),
                figure(fetched)
            ));
            lines.extend(end.error.as_ref().map(|error| format!("It ended with: {error}.")));
        }
        None => lines.push(format!(
            "The record ends after {} without a last line: the run was killed there, or goes on. {} had come.",
            time(run.seconds),
            show_size(received)
        )),
    }
    let shares = run.shares();
    let said: Vec<String> =
        shares.iter().map(|(word, share)| format!("{} {}", label(word, 20), percent(*share))).collect();
    if !said.is_empty() {
        lines.push(format!("What held it back: {}.", said.join(", ")));
    }
    let longest =
        series::visible(&run.bands(), BANDS_MAX).into_iter().max_by(|a, b| (a.to - a.from).total_cmp(&(b.to - b.from)));
    if let Some(band) = longest {
        let (from, to, took) = (time(band.from), time(band.to), time(band.to - band.from));
        lines.push(format!(
            "The longest stretch of one brake: {}, from {from} to {to} ({took}).",
            label(&band.brake, 20)
        ));
    }
    if let Some(at) = run.first_bytes() {
        lines.push(format!("The first bytes were there after {} at the latest.", time(at)));
    }
    let retried = last.map_or(0, |(_, tick)| tick.retried);
    if 0 < retried {
        lines.push(format!("{retried} requests repeated a failed one."));
    }
    lines
}

fn throughput(run: &Run<'_>) -> Result<String, Error> {
    let about = "What came in, and what was synced and journaled, each over its stretch of time.";
    plot::figure("throughput", "Throughput", about, &[(BLUE, "received"), (RED, "durable")], |screen| {
        let rates = run.rates(screen.points());
        let lines: [Line; 2] =
            [(steps(&rates, |rate| rate.durable / GIB), RED), (steps(&rates, |rate| rate.received / GIB), BLUE)];
        let most = lines.iter().flat_map(|(points, _)| points).map(|(_, rate)| *rate).fold(0.0, f64::max);
        plot::over_time(&Axes { screen, seconds: run.seconds, most, unit: "GiB/s" }, &[], &lines, &[])
    })
}

fn concurrency(run: &Run<'_>) -> Result<String, Error> {
    let bands = series::visible(&run.bands(), BANDS_MAX);
    let stretches: Vec<Stretch> = bands.into_iter().map(|band| (band.from, band.to, band.brake)).collect();
    let retries: Vec<f64> = run.retries().into_iter().map(|(at, _)| at).take(MARKS_MAX).collect();
    let mut key = vec![(BLUE, "requests under way"), (FORE, "allowed")];
    key.extend(
        BRAKES
            .iter()
            .filter(|(word, _)| stretches.iter().any(|(_, _, brake)| brake == word))
            .map(|(word, colour)| (*colour, *word)),
    );
    let about = "Coloured is what held the run back; a triangle is where requests were repeated.";
    plot::figure("concurrency", "Requests and brakes", about, &key, |screen| {
        let requests = run.requests(screen.points() * 2);
        let steps = |of: fn(&(f64, f64, f64)) -> f64| -> Vec<(f64, f64)> {
            let ends = requests.iter().skip(1).map(|(at, _, _)| *at).chain([run.seconds]);
            requests.iter().zip(ends).flat_map(|(one, end)| [(one.0, of(one)), (end.max(one.0), of(one))]).collect()
        };
        let lines: [Line; 2] = [(steps(|one| one.2), FORE), (steps(|one| one.1), BLUE)];
        let most = requests.iter().map(|one| one.1.max(one.2)).fold(1.0, f64::max);
        plot::over_time(&Axes { screen, seconds: run.seconds, most, unit: "requests" }, &stretches, &lines, &retries)
    })
}

fn spans(trace: &Trace) -> Result<String, Error> {
    let sorted = latencies(trace.spans.iter());
    if sorted.is_empty() {
        return Ok("<p>No request of this record ended well: there is no distribution of times.</p>\n".to_owned());
    }
    let places: Vec<(&str, f64)> = [("p50", 50), ("p95", 95), ("p99", 99)]
        .into_iter()
        .filter_map(|(word, of)| Some((word, percentile(&sorted, of)?)))
        .collect();
    let count = series::count(&sorted);
    let about = format!("{count} requests that brought all they were to bring, on a scale of powers of ten.");
    plot::figure("latency", "Time of a request", &about, &[], |screen| {
        let count = if screen == Screen::Wide { 40 } else { 20 };
        plot::distribution(screen, &series::histogram(&sorted, count), &places)
    })
}

/// What a bar needs to be seen, in seconds: half of what the kernel counts threads in.
const THREAD_SECONDS_MIN: f64 = 0.005;

/// Threads of one name each; the whole process where the record has no last line, or where no thread took enough to
/// be counted.
fn threads(run: &Run<'_>) -> Vec<ThreadTime> {
    let counted = |thread: &&ThreadTime| THREAD_SECONDS_MIN <= tame(thread.user) + tame(thread.system);
    match &run.trace.end {
        Some(end) if end.threads.iter().any(|thread| counted(&thread)) => {
            end.threads.iter().take(THREADS_MAX).cloned().collect()
        }
        _ => whole(run).into_iter().collect(),
    }
}

/// The process's own time, which the kernel counts finely where the last line tells it; its parts are those of the last
/// tick, and without any all of it is the user's, as the kernel has it.
fn whole(run: &Run<'_>) -> Option<ThreadTime> {
    let (user, system) = run.ticks.last().map_or((0.0, 0.0), |(_, tick)| (tame(tick.cpu_user), tame(tick.cpu_system)));
    let both = run.trace.end.as_ref().map_or(user + system, |end| tame(end.cpu_seconds));
    let system = if 0.0 < user + system { both * system / (user + system) } else { 0.0 };
    (0.0 < both).then(|| ThreadTime { name: "the whole process".to_owned(), user: both - system, system })
}

/// Steps of one figure of each stretch.
fn steps(rates: &[series::Rate], of: fn(&series::Rate) -> f64) -> Vec<(f64, f64)> {
    rates.iter().flat_map(|rate| [(rate.from, of(rate)), (rate.to, of(rate))]).collect()
}

fn busy(run: &Run<'_>) -> Result<String, Error> {
    let about = "How many processors this process kept busy: in the kernel, and in all.";
    plot::figure("busy", "Processors over time", about, &[(BLUE, "user and system"), (RED, "system")], |screen| {
        let rates = run.rates(screen.points());
        let lines: [Line; 2] =
            [(steps(&rates, |rate| rate.system), RED), (steps(&rates, |rate| rate.user + rate.system), BLUE)];
        let most = rates.iter().map(|rate| rate.user + rate.system).fold(0.0, f64::max);
        plot::over_time(&Axes { screen, seconds: run.seconds, most, unit: "processors" }, &[], &lines, &[])
    })
}

fn processor(run: &Run<'_>) -> Result<String, Error> {
    let threads = threads(run);
    let alone = threads.len() == 1;
    let rows: Vec<BarRow> = threads
        .into_iter()
        .filter(|thread| alone || THREAD_SECONDS_MIN <= tame(thread.user) + tame(thread.system))
        .map(|thread| {
            let (user, system) = (tame(thread.user), tame(thread.system));
            let shown = format!("{} s", figure(user + system));
            BarRow { name: thread.name, parts: vec![(user, BLUE), (system, ORANGE)], spread: None, shown }
        })
        .collect();
    if rows.is_empty() {
        return Ok("<p>The run took too little processor time to be told apart.</p>\n".to_owned());
    }
    let about = "Seconds of processor time by thread, of this process alone.";
    plot::figure("cpu", "Processor", about, &[(BLUE, "user"), (ORANGE, "system")], |screen| {
        plot::bars(screen, "CPU-seconds", &rows)
    })
}

fn tables(run: &Run<'_>) -> String {
    let mut html = totals(run);
    let shares: Vec<Vec<String>> =
        run.shares().into_iter().map(|(word, share)| vec![word, percent(share), time(share * run.seconds)]).collect();
    html.push_str(&table("What held the run back", &["brake", "share", "about"], 1, &shares));
    html.push_str(&by_lane(run.trace));
    let ends = run.trace.spans.iter().fold(BTreeMap::<&str, u64>::new(), |mut ends, span| {
        let count = ends.entry(&span.end).or_default();
        *count = count.saturating_add(weight(span));
        ends
    });
    let ends: Vec<Vec<String>> =
        ends.iter().take(LANES_MAX).map(|(word, count)| vec![(*word).to_owned(), count.to_string()]).collect();
    html.push_str(&table("How requests ended", &["end", "requests"], 1, &ends));
    let threads: Vec<Vec<String>> = threads(run)
        .into_iter()
        .map(|thread| {
            vec![thread.name, figure(thread.user), figure(thread.system), figure(thread.user + thread.system)]
        })
        .collect();
    html.push_str(&table("Processor time by thread, in seconds", &["threads", "user", "system", "both"], 1, &threads));
    html.push_str("<details><summary>Over time</summary>\n");
    html.push_str(&over_time(run));
    html.push_str("</details>\n");
    html
}

fn totals(run: &Run<'_>) -> String {
    let Some(end) = &run.trace.end else { return String::new() };
    let gib = real(end.bytes_fetched) / GIB;
    let per_gib =
        if 0.0 < gib { format!(" ({} s per GiB)", figure(tame(end.cpu_seconds) / gib)) } else { String::new() };
    facts(&[
        ("outcome", end.outcome.clone()),
        ("time", time(end.seconds)),
        ("model", show_size(end.bytes_total)),
        ("fetched", show_size(end.bytes_fetched)),
        ("there before", show_size(end.bytes_reused)),
        ("requests", format!("{}, {} of them repeated", end.requests, end.retried)),
        ("processor", format!("{} s{per_gib}", figure(end.cpu_seconds))),
        ("peak memory", show_size(end.rss_bytes_max)),
        ("way to the disk", end.io.clone()),
        ("lines lost", if 0 < end.lines_lost { end.lines_lost.to_string() } else { String::new() }),
    ])
}

fn by_lane(trace: &Trace) -> String {
    let mut lanes = BTreeMap::<usize, Vec<&SpanEnd>>::new();
    for span in &trace.spans {
        if lanes.len() < LANES_MAX || lanes.contains_key(&span.lane) {
            lanes.entry(span.lane).or_default().push(span);
        }
    }
    let row = |name: String, spans: &[&SpanEnd]| {
        let sorted = latencies(spans.iter().copied());
        let shown = |of: u64| percentile(&sorted, of).map_or_else(String::new, time);
        let bytes = spans.iter().map(|span| span.bytes.saturating_mul(weight(span))).fold(0, u64::saturating_add);
        let count = spans.iter().map(|span| weight(span)).fold(0, u64::saturating_add);
        vec![name, count.to_string(), show_size(bytes), shown(50), shown(95), shown(99), shown(100)]
    };
    let all: Vec<&SpanEnd> = trace.spans.iter().collect();
    let mut rows = vec![row("all".to_owned(), &all)];
    if 1 < lanes.len() {
        rows.extend(lanes.iter().map(|(lane, spans)| row(format!("lane {lane}"), spans)));
    }
    table("Time of a request", &["", "requests", "bytes", "p50", "p95", "p99", "longest"], 1, &rows)
}

fn over_time(run: &Run<'_>) -> String {
    let rates = run.rates(ROWS_MAX);
    let rows: Vec<Vec<String>> = rates
        .iter()
        .map(|rate| {
            let tick = run.ticks.iter().rev().find(|(at, _)| *at <= rate.to).map(|(_, tick)| *tick);
            let of = |value: fn(&crate::bench::trace::Tick) -> String| tick.map_or_else(String::new, value);
            vec![
                time(rate.to),
                of(|tick| tick.phase.clone()),
                of(|tick| tick.brake.clone()),
                figure(rate.received / GIB),
                figure(rate.durable / GIB),
                of(|tick| tick.active.to_string()),
                of(|tick| tick.allowed.to_string()),
                of(|tick| show_size(tick.held_bytes)),
            ]
        })
        .collect();
    let heads = ["until", "phase", "brake", "received, GiB/s", "durable, GiB/s", "requests", "allowed", "held"];
    table("State at the end of each stretch", &heads, 3, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::trace::{End, Head, Tick};

    /// Rows of the plot by thread of a run whose threads took `times` and whose last tick says `user` and `system`.
    fn bars(times: &[(&str, f64, f64)], (user, system): (f64, f64)) -> Vec<(String, f64, f64)> {
        let times = times.iter().map(|(name, user, system)| ThreadTime {
            name: (*name).to_owned(),
            user: *user,
            system: *system,
        });
        let end = End { cpu_seconds: 0.5, threads: times.collect(), ..End::default() };
        let tick = Tick { at: 1.0, cpu_user: user, cpu_system: system, ..Tick::default() };
        let trace = Trace { head: Head::default(), ticks: vec![tick], spans: Vec::new(), end: Some(end) };
        let run = Run::of(&trace);
        let html = processor(&run).unwrap();
        assert!(html.contains("<svg"), "{html}");
        threads(&run).into_iter().map(|thread| (thread.name, thread.user, thread.system)).collect()
    }

    #[test]
    fn threads_too_quick_to_be_counted_are_drawn_as_the_process_they_are_of() {
        let quick = [("control", 0.0, 0.0), ("lane-0", 0.0, 0.0)];
        assert_eq!(bars(&quick, (0.0, 0.0)), [("the whole process".to_owned(), 0.5, 0.0)]);
        assert_eq!(bars(&quick, (0.25, 0.25)), [("the whole process".to_owned(), 0.25, 0.25)]);
        assert_eq!(bars(&[], (0.0, 0.0)).len(), 1);
        assert_eq!(bars(&[("control", 0.0, 0.0), ("lane-0", 0.01, 0.0)], (0.0, 0.0)).len(), 2);
    }
}
