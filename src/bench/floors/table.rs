//! A floor's report as a table for people.

use crate::bench::Spread;
use crate::bench::floors::FloorReport;

/// Rates, CPU and figures of each row in aligned columns, then the notes.
pub fn table(report: &FloorReport) -> String {
    let mut lines = vec![["", "GiB/s", "(min-max)", "CPU-s/GiB", ""].map(str::to_owned).to_vec()];
    for row in &report.report.rows {
        let shown = |spread: Option<Spread>, digits: usize| {
            spread.map_or(String::new(), |spread| format!("{:.digits$}", spread.median))
        };
        let range = row.rate().map_or(String::new(), |rate| format!("({:.2}-{:.2})", rate.min, rate.max));
        let figures = report.figures.iter().filter(|figure| figure.row == row.name);
        let figures =
            figures.map(|it| format!("{} {} {}", it.name, significant(it.median), it.unit).replace(" 1", " "));
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
