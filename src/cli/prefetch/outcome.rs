//! What became of all models: the table, the report, the exit.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::prefetch::models::{Asked, Ended, Planned};
use crate::cli::pull;
use crate::disk::place;
use crate::error::Error;
use crate::report::{Bytes, Report};
use crate::units::{show_rate, show_size};

/// The schema of [`Whole`].
const SCHEMA: &str = "dray.prefetch/1";

/// What became of one model.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: String,
    priority: i64,
    /// The exit code that this model alone would have ended with.
    exit: u8,
    /// As `dray pull --report` writes it.
    report: Report,
    #[serde(skip)]
    pub(super) error: Option<Error>,
}

/// The whole of `--report`.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    schema: &'static str,
    /// `sealed`, or the class of the worst error.
    outcome: &'static str,
    into: String,
    /// In the order in which they were taken.
    models: Vec<Row>,
    bytes: Bytes,
    seconds: f64,
    cpu_seconds: f64,
    rss_bytes_max: u64,
    /// What ended the run for all models.
    #[serde(skip)]
    stop: Option<Error>,
}

impl Row {
    /// A model that was tried.
    pub(super) fn of(planned: &Planned, report: Report, error: Option<Error>) -> Self {
        let exit = error.as_ref().map_or(0, Error::exit_code);
        Self { name: planned.model.name.clone(), priority: planned.model.priority, exit, report, error }
    }

    /// A model whose turn did not come, because of `stop` or of its own.
    pub(super) fn not_begun(asked: &Asked, stop: &Error) -> Self {
        let Asked { planned, pull } = asked;
        let why = pull.as_ref().err().unwrap_or(stop);
        let source = pull::shown(&planned.model.uri);
        let report = Report::of_failure(&source, &planned.dest, why, Instant::now());
        Self::of(planned, report, Some(why.clone()))
    }
}

/// How bad an error is beside the others of a run, worst first: what ended the run, what nobody but the user can
/// mend, and last what another run may mend by itself.
fn gravity(error: &Error) -> u8 {
    match error {
        Error::Interrupted { .. } => 11,
        Error::Internal(_) => 10,
        Error::Storage(_) => 9,
        Error::Integrity(_) => 8,
        Error::Policy(_) => 7,
        Error::Usage(_) => 6,
        Error::Denied(_) => 5,
        Error::NotFound(_) => 4,
        Error::DiskFull(_) => 3,
        Error::Changed(_) => 2,
        Error::Network(_) => 1,
    }
}

impl Whole {
    pub(super) fn new(into: &Path, ended: Ended, started: Instant) -> Self {
        let Ended { rows: models, stop } = ended;
        let usage = place::usage();
        let sum = |part: fn(&Bytes) -> u64| models.iter().map(|row| part(&row.report.bytes)).sum();
        let bytes = Bytes {
            total: sum(|bytes| bytes.total),
            fetched: sum(|bytes| bytes.fetched),
            reused: sum(|bytes| bytes.reused),
        };
        let mut this = Self {
            schema: SCHEMA,
            outcome: "sealed",
            into: into.display().to_string(),
            models,
            bytes,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: usage.cpu_seconds,
            rss_bytes_max: usage.rss_bytes_max,
            stop,
        };
        if let Err(error) = this.result() {
            this.outcome = error.class();
        }
        this
    }

    fn worst(&self) -> Option<(&Row, &Error)> {
        let failed = self.models.iter().filter_map(|row| Some((row, row.error.as_ref()?)));
        // The first of equals: the one with the highest priority.
        failed.rev().max_by_key(|(_, error)| gravity(error))
    }

    /// Success when every model is sealed, else the worst error.
    pub(super) fn result(&self) -> Result<(), Error> {
        if let Some(stop) = &self.stop {
            return Err(stop.clone());
        }
        let Some((row, worst)) = self.worst() else { return Ok(()) };
        let failed = self.models.iter().filter(|row| row.error.is_some()).count();
        let text = format!("{failed} of {} models failed; {}: {worst}", self.models.len(), row.name);
        Err(worst.worded(text))
    }

    /// The report as text.
    pub(super) fn json(&self) -> Result<String, Error> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(text + "\n")
    }

    /// Writes `--report`.
    pub(super) fn write(&self, path: Option<&Path>) -> Result<(), Error> {
        let Some(path) = path else { return Ok(()) };
        let failed = |error: std::io::Error| Error::Storage(format!("--report {}: {error}", path.display()));
        std::fs::write(path, self.json()?).map_err(failed)
    }

    /// A line per model, and one for all.
    pub(super) fn table(&self) -> String {
        let head = ["model", "outcome", "size", "fetched", "reused", "rate", "proof"].map(str::to_owned);
        let mut rows = vec![head];
        rows.extend(self.models.iter().map(|row| {
            let Report { outcome, bytes, seconds, assurance, .. } = &row.report;
            let sealed = row.error.is_none();
            let proof = if sealed { assurance.word() } else { "-" };
            cells(&row.name, outcome, bytes, *seconds, proof)
        }));
        rows.push(cells("all", self.outcome, &self.bytes, self.seconds, ""));
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &[String; 7]| {
            let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if (2..6).contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        rows.iter().map(line).collect()
    }
}

fn cells(name: &str, outcome: &str, bytes: &Bytes, seconds: f64, proof: &str) -> [String; 7] {
    let rate = match bytes.fetched {
        0 => "-".to_owned(),
        fetched => show_rate(fetched, Duration::from_secs_f64(seconds.max(0.0))),
    };
    let [total, fetched, reused] = [bytes.total, bytes.fetched, bytes.reused].map(show_size);
    [name.to_owned(), outcome.to_owned(), total, fetched, reused, rate, proof.to_owned()]
}
