//! A report as text for a terminal: one line a row, what to think of the figures below.
//!
//! In: a [`BenchReport`]. Out: lines. Holds: a ratio is of medians inside one run.

use crate::bench::nearest::Nearest;
use crate::bench::report::{BenchReport, Kind, Row, Spread};
use crate::units::show_size;

/// A spread of dray's own rows past which figures should not be compared: a quarter.
const SPREAD_MAX: f64 = 0.25;

const RATIO: &str = "÷ floor";

const HEADS: [&str; 9] =
    ["name", "GiB/s (min–max)", "with sync", RATIO, "CPU-s/GiB", RATIO, "peak RSS", "proof", "durable"];

/// Columns of figures, which stand to the right.
const FIGURES: std::ops::Range<usize> = 1..7;

/// The table and the lines below it.
pub fn text(report: &BenchReport) -> String {
    let origins = report.origins();
    let nearest: Vec<Nearest> = origins.iter().map(|origin| Nearest::of(&report.rows, *origin)).collect();
    let beside = |row: &Row| origins.iter().position(|origin| row.is_of(*origin)).map(|at| &nearest[at]);
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    let shown: Vec<&Row> = report.leading().into_iter().filter(|row| row.failed.is_none()).collect();
    lines.extend(shown.iter().map(|row| cells(row, beside(row))));
    let left_out = report.rows.iter().filter(|row| row.failed.is_none()).count() - shown.len();
    let floors = report.rows.iter().any(|row| row.kind == Kind::Floor && row.failed.is_none());
    // Without floors there is nothing to divide by.
    let columns: Vec<usize> = (0..HEADS.len()).filter(|column| floors || HEADS[*column] != RATIO).collect();
    let mut out = head(report);
    out.push('\n');
    out.push_str(&laid(&lines, &columns));
    if 0 < left_out {
        out.push_str(&format!("{left_out} slower ways to hash and to write are in --json\n"));
    }
    for row in &report.rows {
        if let Some(why) = &row.failed {
            out.push_str(&format!("{}: failed: {why}\n", row.name));
        }
    }
    nearest.iter().for_each(|nearest| out.push_str(&nearest.words()));
    out.push_str(&noise(report));
    out
}

fn head(report: &BenchReport) -> String {
    let (machine, work) = (&report.machine, &report.work);
    let dest = work.dest.as_deref().map(|dest| format!(" to {dest}")).unwrap_or_default();
    format!(
        "{}, {} CPUs, Linux {}; {}\n{} files, {} from {}{dest}; {} rounds in turn, page cache {}\n",
        machine.cpu,
        machine.cpus,
        machine.kernel,
        machine.file_system,
        work.files,
        show_size(work.bytes),
        work.origin,
        report.rounds,
        work.cache,
    )
}

fn cells(row: &Row, nearest: Option<&Nearest>) -> Vec<String> {
    let two = |figure: Option<Spread>| figure.map_or_else(|| "–".to_owned(), |spread| format!("{:.2}", spread.median));
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    let rate = row
        .rate()
        .map_or_else(|| "–".to_owned(), |rate| format!("{:.2} ({:.2}–{:.2})", rate.median, rate.min, rate.max));
    let rss = row.rss_bytes_max();
    vec![
        row.name.clone(),
        rate,
        two(row.synced_rate()),
        ratio(nearest.and_then(|nearest| nearest.by_rate(row))),
        two(row.cpu_per_gib()),
        ratio(nearest.and_then(|nearest| nearest.by_cpu(row))),
        if rss == 0 { "–".to_owned() } else { show_size(rss) },
        row.proof.clone(),
        if row.durable { "yes" } else { "no" }.to_owned(),
    ]
}

/// These columns, each as wide as its widest cell.
fn laid(lines: &[Vec<String>], columns: &[usize]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let columns: Vec<(usize, usize)> = columns.iter().map(|column| (*column, width(*column))).collect();
    let mut out = String::new();
    for line in lines {
        let padded = columns.iter().map(|(column, width)| {
            let cell = &line[*column];
            if FIGURES.contains(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// How far dray's own rows lie apart, and what else the machine was doing.
fn noise(report: &BenchReport) -> String {
    let several = |row: &&Row| 1 < row.samples.len();
    let spread = |row: &Row| row.rate().map(|rate| (rate.max - rate.min) / rate.median);
    let own =
        report.rows.iter().filter(|row| row.kind == Kind::Dray).filter(several).filter_map(spread).reduce(f64::max);
    let load = report.machine.load_average;
    let words =
        own.map_or_else(String::new, |own| format!("dray's rows spread by {:.0} % of their median; ", own * 100.0));
    let warning = match own {
        Some(own) if SPREAD_MAX < own => ": too noisy to compare, except by ratios of rows that lie far apart",
        _ => "",
    };
    format!("noise: {words}load average {load:.1} at the start{warning}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::Machine;
    use crate::bench::report::{SCHEMA, Sample, Work};

    fn row(name: &str, kind: Kind, seconds: &[f64]) -> Row {
        let sample = |seconds: &f64| Sample {
            bytes: 1 << 30,
            seconds: *seconds,
            synced_seconds: seconds * 2.0,
            cpu_seconds: *seconds,
            rss_bytes_max: 32 << 20,
        };
        Row {
            name: name.to_owned(),
            kind,
            origin: None,
            command: String::new(),
            proof: "size".to_owned(),
            durable: kind == Kind::Dray,
            samples: seconds.iter().map(sample).collect(),
            failed: seconds.is_empty().then(|| "exit status: 1: no".to_owned()),
        }
    }

    fn report(rows: Vec<Row>) -> BenchReport {
        let work = Work { origin: "arena".to_owned(), files: 1, bytes: 1 << 30, dest: None, cache: "warm".to_owned() };
        BenchReport { schema: SCHEMA.to_owned(), machine: Machine::default(), work, rounds: 3, rows }
    }

    #[test]
    fn a_table_shows_medians_ratios_and_failures() {
        let text = text(&report(vec![
            row("lane uring", Kind::Floor, &[1.0]),
            row("dray uring", Kind::Dray, &[2.0, 1.9, 2.1]),
            row("curl", Kind::Peer, &[]),
        ]));
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        let words: Vec<String> = line("dray uring").split_whitespace().map(str::to_owned).collect();
        let expected =
            ["dray", "uring", "0.50", "(0.48–0.53)", "0.25", "0.50", "2.00", "2.00", "32.0", "MiB", "size", "yes"];
        assert_eq!(words, expected);
        assert_eq!(line("curl"), "curl: failed: exit status: 1: no");
        assert!(line("noise").contains("spread by 10 %") && !line("noise").contains("too noisy"));
        assert!(text.contains("the nearest floor"), "{text}");
    }

    #[test]
    fn each_origin_has_ratios_and_a_line_of_its_own() {
        let of = |origin: &str, row: Row| Row { origin: Some(origin.to_owned()), ..row };
        let text = text(&report(vec![
            of("http", row("lane uring http", Kind::Floor, &[1.0])),
            of("s3", row("lane uring s3", Kind::Floor, &[2.0])),
            of("http", row("dray http", Kind::Dray, &[2.0])),
            of("s3", row("dray s3", Kind::Dray, &[2.5])),
        ]));
        for (name, rate, words) in
            [("dray http", "0.50", "has 50 % of `lane uring http`"), ("dray s3", "0.80", "has 80 % of `lane uring s3`")]
        {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            assert_eq!(line.split_whitespace().nth(5), Some(rate), "{line}");
            assert!(text.contains(&format!("`{name}` {words}")), "{text}");
        }
    }

    #[test]
    fn noise_is_named_where_it_is_too_much() {
        let text = text(&report(vec![row("dray uring", Kind::Dray, &[1.0, 2.0, 1.1])]));
        assert!(text.contains("too noisy"), "{text}");
        assert!(!text.contains("floor"), "{text}");
        let once = super::text(&report(vec![row("dray uring", Kind::Dray, &[1.0])]));
        assert!(once.contains("noise: load average"), "{once}");
    }
}
