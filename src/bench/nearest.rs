//! The floor that a contender is nearest to: the one that leaves the least room.
//!
//! In: rows. Out: ratios and the floors' names. Holds: rows of one origin are held to floors of that origin; of each kind
//! of floor the best row counts, as the machine allows that much; of the kinds the one that allows the least, by rate and
//! by CPU apart.

use std::collections::BTreeMap;

use crate::bench::report::{Kind, Row};

/// The floors of one origin, and dray's distance to them.
#[derive(Debug, Default, PartialEq)]
pub struct Nearest {
    /// Name and GiB/s.
    rate: Option<(String, f64)>,
    /// Name and CPU-seconds per GiB.
    cpu: Option<(String, f64)>,
    best: Option<(String, f64, f64)>,
}

impl Nearest {
    /// Finds those of `origin` in `rows`; the first word of a floor's name is its kind.
    pub fn of(rows: &[Row], origin: Option<&str>) -> Self {
        let floors: Vec<&Row> = rows.iter().filter(|row| row.is_floor_of(origin)).collect();
        let rate = |row: &Row| row.rate().map(|rate| rate.median);
        let cpu = |row: &Row| row.cpu_per_gib().map(|cpu| cpu.median).filter(|cpu| 0.0 < *cpu);
        let fastest = best_of_kinds(&floors, rate, |new, old| old < new);
        let leanest = best_of_kinds(&floors, cpu, |new, old| new < old);
        let mut nearest = Self {
            rate: fastest.into_iter().min_by(|(_, a), (_, b)| a.total_cmp(b)),
            cpu: leanest.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b)),
            best: None,
        };
        let own = rows.iter().filter(|row| row.kind == Kind::Dray && row.is_of(origin));
        let measured = own.filter_map(|row| Some((row.name.clone(), rate(row)?, cpu(row)?)));
        nearest.best = measured.max_by(|(_, a, _), (_, b, _)| a.total_cmp(b));
        nearest
    }

    /// `row`'s rate by the floor's; no ratio of floors.
    pub fn by_rate(&self, row: &Row) -> Option<f64> {
        let (_, floor) = self.rate.as_ref().filter(|_| row.kind != Kind::Floor)?;
        Some(row.rate()?.median / floor)
    }

    /// `row`'s CPU time by the floor's; no ratio of floors.
    pub fn by_cpu(&self, row: &Row) -> Option<f64> {
        let (_, floor) = self.cpu.as_ref().filter(|_| row.kind != Kind::Floor)?;
        Some(row.cpu_per_gib()?.median / floor)
    }

    /// A line of dray's best row, or nothing where there are no floors.
    pub fn words(&self) -> String {
        let (Some((by_rate, rate)), Some((name, own_rate, own_cpu))) = (&self.rate, &self.best) else {
            return String::new();
        };
        let cpu = self.cpu.as_ref().map_or_else(String::new, |(by_cpu, cpu)| {
            format!("; {:.2} × the CPU of `{by_cpu}`, the nearest floor by CPU", own_cpu / cpu)
        });
        format!("`{name}` has {:.0} % of `{by_rate}`, the nearest floor by rate{cpu}\n", 100.0 * own_rate / rate)
    }
}

/// The best row of each kind, by name and figure.
fn best_of_kinds(
    floors: &[&Row],
    figure: impl Fn(&Row) -> Option<f64>,
    better: impl Fn(f64, f64) -> bool,
) -> Vec<(String, f64)> {
    let mut best = BTreeMap::<String, (String, f64)>::new();
    for row in floors {
        let Some(new) = figure(row) else { continue };
        let kind = row.name.split(' ').next().unwrap_or_default().to_owned();
        match best.get(&kind) {
            Some((_, old)) if !better(new, *old) => {}
            _ => {
                best.insert(kind, (row.name.clone(), new));
            }
        }
    }
    best.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Sample;

    fn row(name: &str, kind: Kind, rate: f64, cpu: f64) -> Row {
        let seconds = 1.0 / rate;
        let sample = Sample { bytes: 1 << 30, seconds, synced_seconds: seconds, cpu_seconds: cpu, rss_bytes_max: 0 };
        Row {
            name: name.to_owned(),
            kind,
            origin: None,
            command: String::new(),
            proof: String::new(),
            durable: false,
            samples: vec![sample],
            failed: None,
        }
    }

    #[test]
    fn the_tightest_of_the_best_rows_is_the_nearest() {
        let rows = [
            row("disk direct 1MiB", Kind::Floor, 0.5, 0.1),
            row("disk direct 4MiB", Kind::Floor, 2.0, 0.2),
            row("origin http", Kind::Floor, 4.0, 0.4),
            row("lane uring", Kind::Floor, 1.6, 0.8),
            row("dray uring", Kind::Dray, 0.8, 1.6),
            row("curl", Kind::Peer, 0.4, 1.2),
        ];
        let nearest = Nearest::of(&rows, None);
        assert_eq!(nearest.rate.as_ref().unwrap().0, "lane uring");
        assert_eq!(nearest.cpu.as_ref().unwrap().0, "lane uring");
        let close = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-9;
        assert!(close(nearest.by_rate(&rows[4]), 0.5) && close(nearest.by_cpu(&rows[4]), 2.0));
        assert!(close(nearest.by_rate(&rows[5]), 0.25) && nearest.by_rate(&rows[0]).is_none());
        assert!(nearest.words().starts_with("`dray uring` has 50 % of `lane uring`"), "{}", nearest.words());
        assert_eq!(Nearest::of(&rows[4..], None).words(), "");
    }

    #[test]
    fn rows_are_held_to_floors_of_their_own_origin() {
        let of = |origin: &str, row: Row| Row { origin: Some(origin.to_owned()), ..row };
        let rows = [
            row("disk direct", Kind::Floor, 8.0, 0.1),
            of("http", row("origin http", Kind::Floor, 4.0, 0.4)),
            of("s3", row("origin s3", Kind::Floor, 2.0, 0.8)),
            of("s3", row("lane uring, one file s3", Kind::Floor, 0.1, 9.0)),
            of("http", row("dray http", Kind::Dray, 2.0, 0.8)),
            of("s3", row("dray s3", Kind::Dray, 1.0, 1.6)),
        ];
        for (origin, words) in [
            (
                "http",
                "`dray http` has 50 % of `origin http`, the nearest floor by rate; 2.00 × the CPU of `origin http`",
            ),
            ("s3", "`dray s3` has 50 % of `origin s3`, the nearest floor by rate; 2.00 × the CPU of `origin s3`"),
            ("https", ""),
        ] {
            let found = Nearest::of(&rows, Some(origin)).words();
            assert!(found.starts_with(words) && found.is_empty() == words.is_empty(), "{found}");
        }
    }
}
