//! A floor's report as a table for people.

use crate::bench::Spread;
use crate::bench::floors::{Figure, FloorReport};

/// Rates, CPU and figures of each row in aligned columns, then the notes.
pub fn table(report: &FloorReport) -> String {
    let mut lines = vec![["", "GiB/s", "(min-max)", "CPU-s/GiB", ""].map(str::to_owned).to_vec()];
    for row in &report.report.rows {
        let shown = |spread: Option<Spread>, digits: usize| {
            spread.map_or(String::new(), |spread| format!("{:.digits$}", spread.median))
        };
        let range = row.rate().map_or(String::new(), |rate| format!("({:.2}-{:.2})", rate.min, rate.max));
        let figures = report.figures.iter().filter(|figure| figure.row == row.name);
        let shown_figure = |it: &Figure| {
            let unit = if it.unit == "1" { String::new() } else { format!(" {}", it.unit) };
            format!("{} {}{unit}", it.name, significant(it.median))
        };
        let figures = figures.map(shown_figure);
        let more: Vec<String> = figures.chain(row.failed.iter().map(|why| format!("failed: {why}"))).collect();
        lines.push(vec![row.name.clone(), shown(row.rate(), 2), range, shown(row.cpu_per_gib(), 3), more.join(", ")]);
    }
    let mut text = aligned(&lines);
    let machine = &report.report.machine;
    text.push_str(&format!(
        "{} rounds in turn, medians; {} CPUs, load {:.1} at the start\n",
        report.report.rounds, machine.cpus, machine.load_average
    ));
    report.notes.iter().for_each(|note| text.push_str(&format!("{note}\n")));
    text
}

/// Three digits of a figure that may be large or small.
fn significant(figure: f64) -> String {
    let digits = if 100.0 <= figure.abs() || figure == 0.0 {
        0
    } else if 1.0 <= figure.abs() {
        2
    } else {
        6
    };
    format!("{figure:.digits$}")
}

/// The first column to the left, figures to the right, the last as it is.
fn aligned(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let joined = format!(
            "{:<a$}  {:>b$}  {:>c$}  {:>d$}  {}",
            line[0],
            line[1],
            line[2],
            line[3],
            line[4],
            a = widths[0],
            b = widths[1],
            c = widths[2],
            d = widths[3]
        );
        text.push_str(joined.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::floors::row;
    use crate::bench::{Row, Sample, Work, machine::Machine};

    #[test]
    fn a_table_has_medians_figures_and_failures_of_each_row() {
        let sample = |seconds, cpu_seconds| Sample {
            bytes: 1 << 30,
            seconds,
            synced_seconds: seconds,
            cpu_seconds,
            rss_bytes_max: 0,
        };
        let quick =
            Row { samples: vec![sample(0.5, 0.25), sample(1.0, 0.5), sample(0.25, 0.75)], ..row("quick", "", "") };
        let broken = Row { failed: Some("no such cipher".to_owned()), ..row("broken", "", "") };
        let mut report = FloorReport::new(Machine::default(), Work::default(), 3, vec![quick, broken]);
        report.figures.extend(Figure::of("quick", "requests", "1", [12.0]));
        report.figures.extend(Figure::of("quick", "first byte", "s", [0.5, 0.1, 0.3]));
        report.notes.push("a note".to_owned());
        let expected = "        GiB/s    (min-max)  CPU-s/GiB\n\
                        quick    2.00  (1.00-4.00)      0.500  requests 12.00, first byte 0.300000 s\n\
                        broken                                 failed: no such cipher\n\
                        3 rounds in turn, medians; 0 CPUs, load 0.0 at the start\n\
                        a note\n";
        assert_eq!(table(&report), expected);
    }
}
