//! Rounds of all contenders in turn, A B C A B C: a machine that slows down slows all of them.
//!
//! In: [`Contender`]s and the files that each is to bring. Out: a row of each.
//! Holds: what failed once is not run again; the bytes of a contender's first run are compared with the source's.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::Stop;
use crate::bench::child::{self, Fault, Job, Ran};
use crate::bench::contender::{Contender, Leaves, SourceFile};
use crate::bench::ground::{Cache, Ground};
use crate::bench::landed::{self, Unknown};
use crate::bench::report::{BenchReport, Kind, Row, Sample};
use crate::error::Error;
use crate::units::show_size;

/// How rounds are run.
pub struct Rounds<'a> {
    /// Where.
    pub ground: &'a Ground,
    /// How many.
    pub rounds: u32,
    /// What is done to the page cache before each run.
    pub cache: Cache,
    /// Bytes that are written to DEST and removed before each run.
    pub touch: u64,
    /// The longest that one run may take.
    pub within: Duration,
    /// Set when the user wants an end.
    pub stop: &'a Stop,
    /// Is told a line of each run.
    pub told: &'a dyn Fn(&str),
}

/// What rounds come to.
pub struct Ended {
    /// A row of each contender, and of each floor that one found.
    pub rows: Vec<Row>,
    /// What was done about the page cache.
    pub cache: String,
}

impl Rounds<'_> {
    /// Runs `contenders` in turn. A file of `files` without a digest gets that of the bytes that dray brings first.
    ///
    /// # Errors
    /// `Storage` when DEST cannot be used any more; `Interrupted` when it was stopped. A contender's failure is in its
    /// row.
    pub fn run(&self, contenders: &[Contender], files: &mut [SourceFile]) -> Result<Ended, Error> {
        let mut ledgers: Vec<Vec<Row>> = contenders.iter().map(|contender| self.begun(contender)).collect();
        let mut cache = "warm";
        for round in 1..=self.rounds {
            for (contender, rows) in contenders.iter().zip(&mut ledgers) {
                let Ok(argv) = &contender.argv else { continue };
                if rows.iter().any(|row| row.failed.is_some()) {
                    continue;
                }
                cache = self.ground.clear(self.cache)?;
                self.ground.touch(self.touch, self.stop)?;
                let place = self.ground.place();
                let job = Job { argv, env: &contender.env, scratch: &place.scratch, within: self.within };
                let ended = child::run(&job, self.stop);
                let added = match ended {
                    Ok(ran) => add(contender, rows, &ran, &place.dest, files, self.stop),
                    // The signal that came decides how the command ends.
                    Err(Fault::Stopped) => return Err(Error::Interrupted { signal: 2 }),
                    Err(Fault::Failed(why)) => Err(why),
                };
                self.stop.check()?;
                if let Err(why) = added {
                    *rows = self.begun(contender);
                    rows[0].failed = Some(why);
                }
                self.tell(round, contender, rows);
            }
        }
        self.ground.clear(Cache::Warm)?;
        let touched = (0 < self.touch).then(|| format!(", {} touched before each run", show_size(self.touch)));
        let cache = format!("{cache}{}", touched.unwrap_or_default());
        Ok(Ended { rows: ledgers.into_iter().flatten().collect(), cache })
    }

    fn begun(&self, contender: &Contender) -> Vec<Row> {
        vec![Row {
            name: contender.name.clone(),
            kind: contender.kind,
            origin: contender.origin.clone(),
            command: contender.shown(self.ground.place()),
            proof: contender.proof.clone(),
            durable: contender.durable,
            samples: Vec::new(),
            failed: contender.argv.as_ref().err().cloned(),
        }]
    }

    fn tell(&self, round: u32, contender: &Contender, rows: &[Row]) {
        let what = match (&rows[0].failed, rows[0].samples.last()) {
            (Some(why), _) => format!("failed: {why}"),
            (None, Some(sample)) => format!("{:.2} GiB/s", sample.gib() / sample.seconds),
            (None, None) => "done".to_owned(),
        };
        (self.told)(&format!("round {round} of {}: {}: {what}", self.rounds, contender.name));
    }
}

/// Adds what a run came to, or says what is wrong with it.
fn add(
    contender: &Contender,
    rows: &mut Vec<Row>,
    ran: &Ran,
    dest: &Path,
    files: &mut [SourceFile],
    stop: &Stop,
) -> Result<(), String> {
    if let Leaves::Rows { kind, note } = &contender.leaves {
        return merge(rows, kind, note, contender.origin.as_deref(), &ran.stdout);
    }
    landed::sync(dest, stop).map_err(|error| format!("what it left cannot be synced: {error}"))?;
    let synced = ran.began.elapsed();
    let late = Instant::now();
    let found = landed::find(dest, files)?;
    let row = &mut rows[0];
    if row.samples.is_empty() {
        let unknown = if contender.kind == Kind::Dray { Unknown::Taken } else { Unknown::Left };
        landed::compare(&found, files, unknown, stop)?;
        if let Leaves::FilesAndReport(report) = &contender.leaves {
            row.proof = proof_of(report).unwrap_or_else(|| row.proof.clone());
        }
        tracing::debug!(contender = %row.name, seconds = late.elapsed().as_secs_f64(), "compared");
    }
    row.samples.push(Sample {
        bytes: files.iter().map(|file| file.size).sum(),
        seconds: ran.seconds,
        synced_seconds: synced.as_secs_f64(),
        cpu_seconds: ran.cpu_seconds,
        rss_bytes_max: ran.rss_bytes_max,
    });
    Ok(())
}

/// What dray proved, by its own report: its digest, and whatever the origin stated of every file and matched.
fn proof_of(report: &Path) -> Option<String> {
    proof(&serde_json::from_slice(&std::fs::read(report).ok()?).ok()?)
}

fn proof(report: &Value) -> Option<String> {
    let files = |model: &Value| model["files"].as_array().cloned().unwrap_or_default();
    let files: Vec<Value> = match report["models"].as_array() {
        Some(models) => models.iter().flat_map(files).collect(),
        None => files(report),
    };
    let matched = |file: &Value| {
        let checks = file["checks"].as_array().cloned().unwrap_or_default();
        let named =
            checks.iter().filter(|check| check["result"] == "matched").filter_map(|check| check["name"].as_str());
        named.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut words = matched(files.first()?);
    for file in &files {
        let of_file = matched(file);
        words.retain(|word| of_file.contains(word));
    }
    words.retain(|word| word != "blake3");
    words.sort();
    words.dedup();
    words.insert(0, "blake3".to_owned());
    Some(words.join(" + "))
}

/// Adds the rows of a floor's report to those of its earlier rounds.
fn merge(rows: &mut Vec<Row>, kind: &str, note: &str, of: Option<&str>, stdout: &str) -> Result<(), String> {
    let report: BenchReport = serde_json::from_str(stdout).map_err(|error| format!("its report: {error}"))?;
    // Its place holder goes.
    rows.retain(|row| !row.samples.is_empty());
    for mut row in report.rows {
        if row.name.split(' ').next() != Some(kind) {
            row.name = format!("{kind} {}", row.name);
        }
        row.name += note;
        row.name += &of.map_or_else(String::new, |of| format!(" {of}"));
        row.origin = of.map(str::to_owned);
        match rows.iter_mut().find(|known| known.name == row.name) {
            Some(known) => known.samples.append(&mut row.samples),
            None => rows.push(row),
        }
    }
    if rows.is_empty() { Err("its report has no rows".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{ONE_FILE, SCHEMA, Work};

    fn floor(name: &str, seconds: f64) -> Row {
        let sample = Sample { bytes: 1 << 30, seconds, synced_seconds: seconds, cpu_seconds: 1.0, rss_bytes_max: 0 };
        Row {
            name: name.to_owned(),
            kind: Kind::Floor,
            origin: None,
            command: String::new(),
            proof: "none".to_owned(),
            durable: false,
            samples: vec![sample],
            failed: None,
        }
    }

    fn report(rows: Vec<Row>) -> String {
        let machine = crate::bench::machine::Machine::default();
        let report = BenchReport { schema: SCHEMA.to_owned(), machine, work: Work::default(), rounds: 1, rows };
        serde_json::to_string(&report).unwrap()
    }

    #[test]
    fn a_proof_is_what_every_file_of_every_model_has() {
        let file = |names: &[&str]| {
            let check = |name: &&str| match name.strip_prefix('!') {
                Some(name) => serde_json::json!({ "name": name, "result": "absent" }),
                None => serde_json::json!({ "name": name, "result": "matched" }),
            };
            serde_json::json!({ "checks": names.iter().map(check).collect::<Vec<_>>() })
        };
        let both = file(&["crc64nvme", "etag"]);
        for (report, expected) in [
            (serde_json::json!({ "files": [both, both] }), Some("blake3 + crc64nvme + etag")),
            (serde_json::json!({ "files": [both, file(&["etag", "!crc64nvme"])] }), Some("blake3 + etag")),
            (serde_json::json!({ "models": [{ "files": [both] }, { "files": [file(&[])] }] }), Some("blake3")),
            (
                serde_json::json!({ "models": [{ "files": [both] }, { "files": [both] }] }),
                Some("blake3 + crc64nvme + etag"),
            ),
            (serde_json::json!({ "files": [] }), None),
        ] {
            assert_eq!(proof(&report).as_deref(), expected, "{report}");
        }
    }

    #[test]
    fn rows_of_a_floor_are_gathered_by_name_over_rounds() {
        let mut rows = vec![Row { samples: Vec::new(), ..floor("disk", 1.0) }];
        merge(&mut rows, "disk", "", None, &report(vec![floor("disk direct", 1.0), floor("buffered", 3.0)])).unwrap();
        merge(&mut rows, "disk", "", None, &report(vec![floor("disk direct", 2.0), floor("buffered", 3.0)])).unwrap();
        let seen: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.samples.len())).collect();
        assert_eq!(seen, [("disk direct", 2), ("disk buffered", 2)]);
        assert_eq!(rows[0].samples[1].seconds, 2.0);
        merge(&mut rows, "disk", ONE_FILE, Some("s3"), &report(vec![floor("disk direct", 2.0)])).unwrap();
        assert_eq!((rows[2].name.as_str(), rows[2].origin.as_deref()), ("disk direct, one file s3", Some("s3")));
        assert!(rows[0].is_floor_of(Some("s3")) && !rows[2].is_floor_of(Some("s3")));
        assert!(merge(&mut rows, "disk", "", None, "no report").is_err());
        assert!(merge(&mut Vec::new(), "disk", "", None, &report(Vec::new())).is_err());
    }
}
