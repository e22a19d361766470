//! The rounds of the minimal lane: each set of steps in turn, timed from the opening of the file to its name.

use super::job::Job;
use super::landing::Landing;
use super::{LaneWork, Steps, ring, threads};
use crate::bench::Stop;
use crate::bench::floors::{FloorReport, Watch, row};
use crate::bench::{Row, Sample, Work, machine::Machine};
use crate::disk::{IoWish, Rung, place};
use crate::error::Error;
use crate::manifest::Digest;
use crate::verify;

/// Measures the lane.
///
/// # Errors
/// By exit class, as a pull's; [`Error::Interrupted`] when asked to stop.
pub fn run(work: &LaneWork, stop: &Stop) -> Result<FloorReport, Error> {
    let writes = work.steps.iter().any(|steps| steps.writes());
    let landing = if writes { Some(Landing::open(work)?) } else { None };
    let rung = match (&landing, work.io) {
        (Some(landing), _) => landing.probe.rung,
        (None, IoWish::Threads) => Rung::Threads,
        (None, _) => Rung::Discard,
    };
    let machine = Machine::read(landing.as_ref().map(|landing| landing.scratch.path()));
    let hashed = verify::wide(work.steps.iter().filter(|steps| steps.hashes()).count()) * u64::from(work.rounds);
    let rows = work.steps.iter().map(|steps| (*steps, named(*steps, rung, hashed)));
    let mut rows: Vec<(Steps, Row)> = rows.collect();
    let mut digest: Option<Digest> = None;
    for round in 0..work.rounds {
        for (steps, row) in &mut rows {
            let to = landing.as_ref().filter(|_| steps.writes());
            let (sample, found) = once(work, *steps, rung, to, round, stop)?;
            row.samples.push(sample);
            if digest.is_some() && found.is_some() && digest != found {
                return Err(Error::Changed("two runs hash to two digests: the object changed between them".to_owned()));
            }
            digest = found.or(digest);
        }
    }
    landing.as_ref().into_iter().for_each(Landing::keep);
    let dest = landing.map(|_| work.dest.display().to_string());
    let moved = Work {
        origin: work.source.clone(),
        files: 1,
        bytes: work.size,
        dest,
        cache: "warm after the first".to_owned(),
    };
    let mut report = FloorReport::new(machine, moved, work.rounds, rows.into_iter().map(|(_, row)| row).collect());
    report.notes.extend(digest.map(|digest| format!("blake3 {} of {} bytes", digest.to_hex(), work.size)));
    Ok(report)
}

/// A row of `hashed` runs in all that hash: their digests are held against each other.
fn named(steps: Steps, rung: Rung, hashed: u64) -> Row {
    // Without a file the runtime is what is left of the way.
    let way = if rung == Rung::Discard { "epoll" } else { rung.word() };
    let proof = match hashed {
        _ if !steps.hashes() => "size",
        1 => "hashed, not compared",
        _ => "blake3, runs alike",
    };
    let row = row(&format!("lane {way}: {}", steps.words()), "dray bench lane URL DEST", proof);
    Row { durable: steps.writes(), ..row }
}

/// One run: what it took, and the digest where it was hashed.
fn once(
    work: &LaneWork,
    steps: Steps,
    rung: Rung,
    landing: Option<&Landing>,
    round: u32,
    stop: &Stop,
) -> Result<(Sample, Option<Digest>), Error> {
    let job = Job::new(work, steps, stop)?;
    landing.map_or(Ok(()), Landing::clear)?;
    let watch = Watch::start();
    let part = landing.map(|landing| landing.part(work.size, round)).transpose()?;
    let ended = match rung {
        Rung::Threads => threads::run(&job, part.as_ref()),
        Rung::Uring | Rung::Buffered | Rung::Discard => ring::run(&job, rung, part.as_ref()),
    };
    let mut cvs = match ended {
        Ok(cvs) => cvs,
        Err(error) => {
            stop.check()?;
            return Err(error);
        }
    };
    if let (Some(landing), Some(part)) = (landing, &part) {
        landing.seal(part, work)?;
    }
    let sample = Sample { rss_bytes_max: place::usage().rss_bytes_max, ..watch.sample(work.size) };
    cvs.sort_unstable_by_key(|(index, _)| *index);
    let digest = steps.hashes().then(|| verify::root_of(work.size, cvs.into_iter().map(|(_, cv)| cv)));
    Ok((sample, digest))
}
