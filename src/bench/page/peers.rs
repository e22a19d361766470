//! The section of one bench report: dray, its peers and the floors, side by side.

use plotters::style::RGBColor;

use crate::bench::page::html::{facts, figure, label, long_table, percent, sentences, table, text};
use crate::bench::page::machine;
use crate::bench::page::plot::{self, BLUE, BarRow, GREEN, ORANGE, RED, SKY};
use crate::bench::page::series::{GIB, real, tame};
use crate::bench::report::{BenchReport, Kind, Row, Spread};
use crate::error::Error;
use crate::units::show_size;

/// Rows that are drawn; tables have more.
const BARS_MAX: usize = 40;
const ROWS_MAX: usize = 400;

/// Origins that are spoken of.
const ORIGINS_MAX: usize = 8;

/// Above this, rows of one tool lie so far apart that small differences mean nothing.
const NOISE: f64 = 0.25;

/// The steps of the minimal lane, as its rows name them after a colon.
const STEPS: [&str; 3] = ["receive", "receive + hash", "receive + hash + write"];

/// Whether `row` is the minimal lane up to `step`, from whatever origin.
fn is_step(row: &Row, step: &str) -> bool {
    let named = row.name.starts_with("lane").then(|| row.name.split_once(": ")).flatten();
    let rest = named.and_then(|(_, steps)| steps.strip_prefix(step));
    row.kind == Kind::Floor
        && rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with(' ') && !rest.starts_with(" +")))
}

/// The whole section.
pub(super) fn section(report: &BenchReport) -> Result<String, Error> {
    let work = &report.work;
    let mut html = format!("<section><h2>Bench of {}</h2>\n<div class=\"words\">", text(&work.origin));
    html.push_str(&sentences(&words(report)));
    html.push_str("</div>\n");
    html.push_str(&facts(&[
        ("files", if 0 < work.files { work.files.to_string() } else { String::new() }),
        ("bytes", show_size(work.bytes)),
        ("to", work.dest.clone().unwrap_or_default()),
        ("page cache", work.cache.clone()),
        ("rounds", report.rounds.to_string()),
    ]));
    let about = "Medians; a line is from the least to the most.";
    let key = [(BLUE, "dray"), (ORANGE, "peers"), (GREEN, "floors")];
    for (name, title, unit, of) in MEASURES {
        let bars = bars(report, of);
        if !bars.is_empty() {
            html.push_str(&plot::figure(name, title, about, &key, |screen| plot::bars(screen, unit, &bars))?);
        }
    }
    html.push_str(&steps(report)?);
    html.push_str("<h3>Figures</h3>\n");
    html.push_str(&tables(report));
    html.push_str("<h3>Machine</h3>\n");
    html.push_str(&machine(&report.machine));
    html.push_str("</section>\n");
    Ok(html)
}

type Measure = fn(&Row) -> Option<Spread>;

/// Name, title, unit and figure of each plot.
const MEASURES: [(&str, &str, &str, Measure); 3] = [
    ("rate", "Bytes a second, to the end of each run: more is better", "GiB/s", rate),
    ("cpu-per-gib", "Processor time of the tool itself: less is better", "CPU-seconds per GiB", cpu),
    ("memory", "Peak resident memory: less is better", "MiB", memory),
];

fn tamed(spread: Spread) -> Spread {
    Spread { median: tame(spread.median), min: tame(spread.min), max: tame(spread.max) }
}

fn rate(row: &Row) -> Option<Spread> {
    row.rate().map(tamed)
}

fn synced(row: &Row) -> Option<Spread> {
    row.synced_rate().map(tamed)
}

fn cpu(row: &Row) -> Option<Spread> {
    row.cpu_per_gib().map(tamed)
}

/// MiB; nothing of rows that share a process.
fn memory(row: &Row) -> Option<Spread> {
    let mib = |bytes: u64| real(bytes) / (GIB / 1024.0);
    Spread::of(row.samples.iter().map(|sample| sample.rss_bytes_max).filter(|bytes| 0 < *bytes).map(mib))
}

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Dray => BLUE,
        Kind::Peer => ORANGE,
        Kind::Floor => GREEN,
    }
}

fn bars(report: &BenchReport, of: Measure) -> Vec<BarRow> {
    let rows = report.leading().into_iter().filter_map(|row| Some((row, of(row)?))).take(BARS_MAX);
    rows.map(|(row, spread)| BarRow {
        name: row.name.clone(),
        parts: vec![(spread.median, colour(row.kind))],
        spread: Some((spread.min, spread.max)),
        shown: figure(spread.median),
    })
    .collect()
}

/// The best median of a kind from one origin: its row, its figure.
fn best<'a>(
    report: &'a BenchReport,
    (kind, origin): (Kind, Option<&str>),
    of: Measure,
    better: fn(f64, f64) -> bool,
) -> Option<(&'a Row, f64)> {
    let rows = report.rows.iter().filter(|row| row.kind == kind && row.is_of(origin));
    rows.filter_map(|row| Some((row, of(row)?.median)))
        .reduce(|best, row| if better(row.1, best.1) { row } else { best })
}

fn name(row: &Row) -> String {
    label(&row.name, 60)
}

/// What the figures say, of each origin apart.
fn words(report: &BenchReport) -> Vec<String> {
    let origins = report.origins();
    let several = 1 < origins.len();
    let mut lines = Vec::new();
    for origin in origins.into_iter().take(ORIGINS_MAX) {
        let lead = origin.filter(|_| several).map_or_else(String::new, |word| format!("From {}: ", label(word, 60)));
        lines.extend(compared(report, origin).into_iter().map(|line| format!("{lead}{line}")));
    }
    let failed: Vec<String> = report.rows.iter().filter(|row| row.failed.is_some()).take(BARS_MAX).map(name).collect();
    if !failed.is_empty() {
        lines.push(format!("Without figures: {}.", failed.join(", ")));
    }
    if lines.is_empty() {
        lines.push("Floors alone: what this machine allows.".to_owned());
    }
    lines
}

/// dray beside the minimal lane and its peers, all from `origin`.
fn compared(report: &BenchReport, origin: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let (own, peers) = ((Kind::Dray, origin), (Kind::Peer, origin));
    let dray = best(report, own, rate, |a, b| b < a);
    if let Some((row, fast)) = dray {
        lines.push(format!("{}: {} GiB/s, the median of {} runs.", name(row), figure(fast), row.samples.len()));
        if let Some(spread) = rate(row).filter(|_| 1 < row.samples.len()) {
            let apart = (spread.max - spread.min) / spread.median.max(f64::MIN_POSITIVE);
            let verdict = if NOISE < apart { ": too noisy a machine for small differences" } else { "" };
            lines.push(format!("Its slowest and fastest run lie {} of the median apart{verdict}.", percent(apart)));
        }
        let lanes = report.rows.iter().filter(|row| is_step(row, STEPS[2]) && row.is_floor_of(origin));
        let floor = lanes.filter_map(|row| Some(rate(row)?.median)).reduce(f64::max);
        if let Some(floor) = floor.filter(|floor| 0.0 < *floor) {
            let (shown, ratio) = (figure(floor), figure(fast / floor));
            lines.push(format!(
                "The minimal lane, which does nothing but the work, has {shown} GiB/s: dray ÷ lane is {ratio}."
            ));
        }
        if let Some((peer, other)) = best(report, peers, rate, |a, b| b < a).filter(|(_, other)| 0.0 < *other) {
            lines.push(format!(
                "The fastest peer is {} with {} GiB/s: dray ÷ peer is {}.",
                name(peer),
                figure(other),
                figure(fast / other)
            ));
        }
    }
    if let (Some((row, dray)), Some((peer, other))) =
        (best(report, own, cpu, |a, b| a < b), best(report, peers, cpu, |a, b| a < b))
        && 0.0 < dray
    {
        let (dray_shown, other_shown, ratio) = (figure(dray), figure(other), figure(other / dray));
        lines.push(format!(
            "Processor time per GiB: {dray_shown} s of {}, {other_shown} s of {}, the peer that needs least: peer ÷ dray is {ratio}.",
            name(row),
            name(peer)
        ));
    }
    lines
}

/// Where dray's processor time goes, from one origin.
#[derive(Debug)]
struct Split {
    /// The row of dray that needs least.
    name: String,
    /// What it needs.
    whole: f64,
    /// The floors of receiving, hashing and writing.
    floors: [f64; 3],
}

impl Split {
    /// By what each step of the minimal lane adds, or by the floors of each part alone; of several rows the least.
    fn of(report: &BenchReport, origin: Option<&str>) -> Option<Self> {
        let least = |rows: &dyn Fn(&Row) -> bool| {
            let rows = report.rows.iter().filter(|row| row.is_floor_of(origin) && rows(row));
            rows.filter_map(|row| Some(cpu(row)?.median)).reduce(f64::min)
        };
        let part = |kind: &str, word: &str| least(&|row| row.name.starts_with(kind) && row.name.contains(word));
        let more = |whole: f64, part: f64| (whole - part).max(0.0);
        let floors = match STEPS.map(|step| least(&|row| is_step(row, step))) {
            [Some(receive), Some(hashed), Some(written)] => [receive, more(hashed, receive), more(written, hashed)],
            _ => [part("origin", "")?, part("hash", "blake3")?, part("disk", "")?],
        };
        let (row, whole) = best(report, (Kind::Dray, origin), cpu, |a, b| a < b)?;
        Some(Self { name: name(row), whole, floors })
    }

    /// What dray takes more than the floors; nothing where they alone take more than dray.
    fn rest(&self) -> f64 {
        (self.whole - self.floors.iter().sum::<f64>()).max(0.0)
    }

    /// A bar as long as dray's whole: where the floors take more, it ends within them.
    fn bar(&self, colours: [RGBColor; 4]) -> BarRow {
        let [receive, hash, write] = self.floors;
        let mut left = self.whole;
        let parts = [receive, hash, write, self.rest()].into_iter().zip(colours).map(|(part, colour)| {
            let shown = part.min(left);
            left -= shown;
            (shown, colour)
        });
        BarRow { name: self.name.clone(), parts: parts.collect(), spread: None, shown: figure(self.whole) }
    }

    /// Said where the floors cannot be parts of dray's whole.
    fn doubt(&self) -> Option<String> {
        let sum: f64 = self.floors.iter().sum();
        let (sum_shown, whole) = (figure(sum), figure(self.whole));
        let words = format!(
            "{}: the floors alone take {sum_shown} CPU-s per GiB, more than the {whole} of dray: its bar is cut off there.",
            self.name
        );
        (self.whole < sum).then_some(words)
    }
}

fn steps(report: &BenchReport) -> Result<String, Error> {
    let origins = report.origins();
    let splits: Vec<Split> =
        origins.into_iter().take(ORIGINS_MAX).filter_map(|origin| Split::of(report, origin)).collect();
    if splits.is_empty() {
        return Ok(String::new());
    }
    let colours = [BLUE, SKY, GREEN, RED];
    let names = ["receive", "hash", "write", "the rest of dray"];
    let key: Vec<(RGBColor, &str)> = colours.into_iter().zip(names).collect();
    let rows: Vec<BarRow> = splits.iter().map(|split| split.bar(colours)).collect();
    let about = "What the floors of each step take, and what dray takes more.";
    let plot = plot::figure("steps", "Processor time by step", about, &key, |screen| {
        plot::bars(screen, "CPU-seconds per GiB", &rows)
    })?;
    let figures = |of: &dyn Fn(&Split) -> f64| splits.iter().map(|split| figure(of(split))).collect::<Vec<_>>();
    let mut cells: Vec<Vec<String>> = names[..3]
        .iter()
        .enumerate()
        .map(|(at, word)| [vec![(*word).to_owned()], figures(&|split| split.floors[at])].concat())
        .collect();
    cells.push([vec![names[3].to_owned()], figures(&Split::rest)].concat());
    cells.push([vec!["dray in all".to_owned()], figures(&|split| split.whole)].concat());
    let mut heads = vec!["step"];
    heads.extend(splits.iter().map(|split| split.name.as_str()));
    let doubts: Vec<String> = splits.iter().filter_map(Split::doubt).collect();
    Ok(plot + &sentences(&doubts) + &table("Processor time by step, CPU-s per GiB", &heads, 1, &cells))
}

fn tables(report: &BenchReport) -> String {
    let spread = |spread: Option<Spread>| match spread {
        Some(spread) => format!("{} ({}–{})", figure(spread.median), figure(spread.min), figure(spread.max)),
        None => String::new(),
    };
    let kind = |kind: Kind| match kind {
        Kind::Floor => "floor",
        Kind::Dray => "dray",
        Kind::Peer => "peer",
    };
    let shown = report.rows.iter().take(ROWS_MAX);
    let rows: Vec<Vec<String>> = shown
        .clone()
        .map(|row| {
            let mib = memory(row).map_or_else(String::new, |spread| figure(spread.max));
            let durable = if row.durable { "yes" } else { "no" };
            let runs =
                row.failed.as_ref().map_or_else(|| row.samples.len().to_string(), |why| format!("failed: {why}"));
            vec![
                row.name.clone(),
                kind(row.kind).to_owned(),
                row.proof.clone(),
                durable.to_owned(),
                spread(rate(row)),
                spread(synced(row)),
                spread(cpu(row)),
                mib,
                runs,
            ]
        })
        .collect();
    let heads =
        ["tool", "kind", "proves", "durable", "GiB/s", "GiB/s until durable", "CPU-s per GiB", "peak MiB", "runs"];
    let mut html = table("Medians (least–most)", &heads, 4, &rows);
    let commands: Vec<Vec<String>> = shown.map(|row| vec![row.name.clone(), row.command.clone()]).collect();
    html.push_str("<details><summary>Commands</summary>\n");
    html.push_str(&long_table("How each was run", &["tool", "command"], 2, &commands));
    html.push_str("</details>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::Machine;
    use crate::bench::report::{SCHEMA, Sample, Work};

    fn row(name: &str, kind: Kind, cpu_seconds: &[f64]) -> Row {
        let sample = |cpu: &f64| Sample {
            bytes: 1 << 30,
            seconds: 2.0,
            synced_seconds: 2.0,
            cpu_seconds: *cpu,
            rss_bytes_max: 0,
        };
        Row {
            name: name.to_owned(),
            kind,
            origin: None,
            command: String::new(),
            proof: String::new(),
            durable: true,
            samples: cpu_seconds.iter().map(sample).collect(),
            failed: None,
        }
    }

    #[test]
    fn dray_and_its_peers_are_drawn_before_the_best_of_many_floors() {
        let floors = (1..=60).map(|size| {
            let mut row = row(&format!("disk uring {size} MiB"), Kind::Floor, &[0.1]);
            row.samples[0].seconds = 1.0 / f64::from(size);
            row
        });
        let others = [
            row("lane uring: receive", Kind::Floor, &[0.2]),
            row("curl", Kind::Peer, &[1.0]),
            row("dray", Kind::Dray, &[0.5]),
        ];
        let rows: Vec<Row> = floors.chain(others).collect();
        let machine = Machine::default();
        let mut report = BenchReport { schema: SCHEMA.to_owned(), machine, work: Work::default(), rounds: 1, rows };
        let names = |report: &BenchReport| bars(report, rate).into_iter().map(|bar| bar.name).collect::<Vec<_>>();
        assert_eq!(names(&report), ["dray", "curl", "disk uring 60 MiB", "lane uring: receive"]);
        report.rows.truncate(60);
        assert_eq!(names(&report).len(), BARS_MAX);
    }

    #[test]
    fn processor_time_is_split_by_what_each_step_adds() {
        let rows = vec![
            row("lane uring: receive", Kind::Floor, &[0.25]),
            row("lane uring: receive + hash", Kind::Floor, &[0.5]),
            row("lane uring: receive + hash + write", Kind::Floor, &[0.5625]),
            row("dray uring", Kind::Dray, &[0.75, 0.6875, 0.625]),
        ];
        let machine = Machine::default();
        let mut report = BenchReport { schema: SCHEMA.to_owned(), machine, work: Work::default(), rounds: 3, rows };
        let parts = |report: &BenchReport| {
            let split = Split::of(report, None)?;
            Some((split.floors, split.rest()))
        };
        assert_eq!(parts(&report), Some(([0.25, 0.25, 0.0625], 0.125)));
        report.rows[1].name += " https";
        assert_eq!(parts(&report), Some(([0.25, 0.25, 0.0625], 0.125)));
        report.rows.remove(1);
        assert_eq!(parts(&report), None);
        report.rows.extend([
            row("origin http", Kind::Floor, &[0.375]),
            row("hash blake3, 1 core", Kind::Floor, &[0.125]),
            row("disk direct", Kind::Floor, &[0.0625]),
        ]);
        assert_eq!(parts(&report), Some(([0.375, 0.125, 0.0625], 0.125)));
        assert_eq!(Split::of(&report, None).unwrap().doubt(), None);
        // Receiving alone takes more than all of dray.
        report.rows.push(row("dray lean", Kind::Dray, &[0.25]));
        let split = Split::of(&report, None).unwrap();
        let bar = split.bar([BLUE, SKY, GREEN, RED]);
        assert_eq!(bar.parts.iter().map(|(part, _)| *part).collect::<Vec<_>>(), [0.25, 0.0, 0.0, 0.0]);
        assert_eq!(bar.shown, "0.25");
        assert!(split.doubt().unwrap().contains("take 0.56 CPU-s per GiB, more than the 0.25 of dray"));
    }

    #[test]
    fn figures_of_one_origin_are_not_paired_with_those_of_another() {
        let of = |origin: &str, seconds: f64, cpu: f64, name: &str, kind| {
            let mut row = row(&format!("{name} {origin}"), kind, &[cpu]);
            row.samples[0].seconds = seconds;
            Row { origin: Some(origin.to_owned()), ..row }
        };
        let rows = vec![
            of("http", 0.5, 0.4, "lane uring: receive + hash + write", Kind::Floor),
            of("s3", 1.0, 0.8, "lane uring: receive + hash + write", Kind::Floor),
            of("http", 1.0, 0.5, "dray uring", Kind::Dray),
            of("s3", 4.0, 1.0, "dray uring", Kind::Dray),
            of("http", 4.0, 1.0, "curl", Kind::Peer),
            of("s3", 5.0, 4.0, "s5cmd", Kind::Peer),
        ];
        let machine = Machine::default();
        let report = BenchReport { schema: SCHEMA.to_owned(), machine, work: Work::default(), rounds: 1, rows };
        let lines = words(&report);
        for (origin, shown) in [
            ("http", "has 2.00 GiB/s: dray ÷ lane is 0.50."),
            ("http", "The fastest peer is curl http with 0.25 GiB/s: dray ÷ peer is 4.00."),
            ("http", "1.00 s of curl http, the peer that needs least: peer ÷ dray is 2.00."),
            ("s3", "has 1.00 GiB/s: dray ÷ lane is 0.25."),
            ("s3", "The fastest peer is s5cmd s3 with 0.20 GiB/s: dray ÷ peer is 1.25."),
            ("s3", "4.00 s of s5cmd s3, the peer that needs least: peer ÷ dray is 4.00."),
        ] {
            let lead = format!("From {origin}: ");
            assert!(lines.iter().any(|line| line.starts_with(&lead) && line.ends_with(shown)), "{shown} in {lines:?}");
        }
    }
}
