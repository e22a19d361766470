//! A [`View`] in the text format of Prometheus, version 0.0.4.
//!
//! Holds: names, units and types as docs/operations.md lists them; labels are words of this program, and origins as
//! scheme, host and port.

use std::time::Duration;

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::figures::View;
use crate::disk::place;
use crate::engine::{DURATION_BOUNDS, Durations, Phase};
use crate::schedule::Brake;

/// Families under construction.
#[derive(Default)]
struct Page(Vec<MetricFamily>);

/// Writes the page.
///
/// # Errors
/// The encoder's, for a family it does not accept.
pub(super) fn page(view: &View) -> Result<String, prometheus::Error> {
    let mut page = Page::default();
    bytes(&mut page, view);
    requests(&mut page, view);
    disk(&mut page, view);
    process(&mut page, view);
    TextEncoder::new().encode_to_string(&page.0)
}

fn bytes(page: &mut Page, view: &View) {
    let sums = &view.sums;
    let received = float(view.counters.received());
    page.counter("dray_received_bytes_total", "Body bytes received from origins, repeats included.", received);
    let by_origin = view.counters.by_origin();
    let origins = by_origin.iter().map(|(origin, bytes)| {
        let name = origin.as_ref().map_or_else(|| "other".to_owned(), ToString::to_string);
        (vec![("origin", name)], float(*bytes))
    });
    page.counters("dray_origin_received_bytes_total", "Body bytes received, by the origin that sent them.", origins);
    page.counter("dray_fetched_bytes_total", "Bytes received, hashed and written.", float(sums.bytes_fetched));
    page.counter("dray_reused_bytes_total", "Bytes that were durable before.", float(sums.bytes_reused));
    page.counter("dray_read_back_bytes_total", "Bytes read back from disk.", float(sums.bytes_read));
    page.gauge("dray_planned_bytes", "Bytes of all models resolved so far.", float(sums.bytes_planned));
    page.gauge("dray_durable_bytes", "Bytes of them that survive a power cut.", float(sums.bytes_durable));
    page.gauge("dray_planned_files", "Files of all models resolved so far.", float(sums.files_planned));
    page.gauge("dray_sealed_files", "Files of them under their final name.", float(sums.files_sealed));
    page.gauge("dray_models", "Models this process is to seal.", count(view.models));
    page.gauge("dray_sealed_models", "Models sealed.", count(view.sealed));
}

fn requests(page: &mut Page, view: &View) {
    let progress = &view.now.progress;
    let outcomes = view.sums.outcomes;
    let by_outcome = outcomes.counts().map(|(word, count)| (vec![("outcome", word.to_owned())], float(count)));
    page.counters("dray_requests_total", "Data requests that ended, by outcome.", by_outcome);
    let retried = float(view.sums.requests_retried);
    page.counter("dray_retries_total", "Data requests that repeat a failed one.", retried);
    let (answers, opened) = (float(view.counters.answers()), float(view.counters.connections()));
    page.counter("dray_control_answers_total", "Answers to listings, HEADs and the like.", answers);
    page.counter("dray_connections_opened_total", "Connections opened for data.", opened);
    page.gauge("dray_window_spans", "Data requests the window allows at once.", count(progress.window));
    page.gauge("dray_spans_in_flight", "Data requests under way.", count(progress.spans));
}

fn disk(page: &mut Page, view: &View) {
    let (used, total) = view.now.slabs;
    page.gauge("dray_slabs_in_use", "Slabs that hold bytes between socket and disk.", count(used));
    page.gauge("dray_slabs", "Slabs there are, of 1 MiB each.", count(total));
    let kinds = [("data", &view.sums.data_syncs), ("journal", &view.sums.journal_syncs)];
    let metric = |(kind, durations): (&str, &Durations)| {
        let mut metric = labelled(vec![("kind", kind.to_owned())]);
        metric.set_histogram(histogram(durations));
        metric
    };
    let help = "Time of each fdatasync, of part files and of the journal.";
    page.family("dray_sync_seconds", help, MetricType::HISTOGRAM, kinds.map(metric).into());
}

fn process(page: &mut Page, view: &View) {
    let phase = |phase: Phase| {
        let value = if phase == view.now.phase { 1.0 } else { 0.0 };
        (vec![("phase", phase.word().to_owned())], value)
    };
    page.gauges("dray_phase", "1 for what the pull under way is doing.", Phase::ALL.map(phase));
    let brake = |(brake, time): (Brake, &Duration)| (vec![("brake", brake.word().to_owned())], time.as_secs_f64());
    let brakes = Brake::ALL.into_iter().zip(&view.brakes).map(brake);
    page.counters("dray_brake_seconds_total", "Time of fetching, by what held it back.", brakes);
    let help = "Time since anything moved; /healthz fails above the stall timeout.";
    page.gauge("dray_idle_seconds", help, if view.ready() { 0.0 } else { view.idle.as_secs_f64() });
    let usage = place::usage();
    page.counter("dray_cpu_seconds_total", "CPU time of this process, user and system.", usage.cpu_seconds);
    page.gauge("dray_resident_bytes", "Memory of this process that is resident.", float(usage.rss_bytes));
    page.gauge("dray_resident_bytes_max", "The most it ever was.", float(usage.rss_bytes_max));
    let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    page.gauges("dray_build_info", "1, with the version of this program.", [(build, 1.0)]);
}

impl Page {
    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        // A family without a sample is an error of the encoder: no origin has answered yet, for instance.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let metric = |(labels, value)| {
            let (mut metric, mut counter) = (labelled(labels), Counter::default());
            counter.set_value(value);
            metric.set_counter(counter);
            metric
        };
        self.family(name, help, MetricType::COUNTER, values.into_iter().map(metric).collect());
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let metric = |(labels, value)| {
            let (mut metric, mut gauge) = (labelled(labels), Gauge::default());
            gauge.set_value(value);
            metric.set_gauge(gauge);
            metric
        };
        self.family(name, help, MetricType::GAUGE, values.into_iter().map(metric).collect());
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.counters(name, help, [(Labels::new(), value)]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(Labels::new(), value)]);
    }
}

type Labels = Vec<(&'static str, String)>;

fn labelled(labels: Labels) -> Metric {
    let pair = |(name, value): (&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    };
    let mut metric = Metric::default();
    metric.set_label(labels.into_iter().map(pair).collect());
    metric
}

fn histogram(durations: &Durations) -> Histogram {
    let mut below = 0;
    let mut bucket = |(bound, count): (&Duration, &u64)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(below);
        bucket
    };
    let buckets = DURATION_BOUNDS.iter().zip(&durations.counts).map(&mut bucket).collect();
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(durations.counts.iter().sum());
    histogram.set_sample_sum(durations.total.as_secs_f64());
    histogram
}

/// The format knows only floats; they are exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "nine petabytes are counted exactly, more to within a part in 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

fn count(number: usize) -> f64 {
    float(u64::try_from(number).unwrap_or(u64::MAX))
}
