//! Seeded simulation of whole pulls: faults of origin and disk, crashes and restarts, in virtual time.
//!
//! `DRAY_SIM_SEEDS=n` runs seeds 0 to n−1 (default 3000). `SEED=n` runs only that one and prints its trace.

#![cfg(feature = "sim")]

use std::time::Duration;

use dray::error::Error;
use dray::sim::{self, Canary, Mark, Marks, Options};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs one seed; a broken promise or a failed assertion names the seed that replays it.
fn run(seed: u64, options: Options) -> sim::Report {
    match std::panic::catch_unwind(|| sim::run(seed, options)) {
        Ok(Ok(report)) => report,
        Ok(Err(broken)) => panic!("SEED={seed}: {broken}"),
        Err(_) => panic!("SEED={seed}: an assertion failed"),
    }
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = number("SEED") {
        let report = run(seed, Options { trace: true, ..Options::default() });
        eprintln!("SEED={seed}: {report:?}");
        return;
    }
    let seeds = number("DRAY_SIM_SEEDS").unwrap_or(3000);
    let workers = std::thread::available_parallelism().map_or(1, |cpus| u64::try_from(cpus.get()).unwrap());
    let work = |worker: u64| {
        let mut marks = Marks::default();
        for seed in (worker..seeds).step_by(usize::try_from(workers).unwrap()) {
            let report = run(seed, Options::default());
            marks.add(report.marks);
            if seed % 100 == 0 {
                assert_eq!(run(seed, Options::default()), report, "SEED={seed}: two runs differ");
            }
        }
        marks
    };
    let mut marks = Marks::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().for_each(|worker| marks.add(worker.join().unwrap()));
    });
    let missed: Vec<Mark> = Mark::ALL.into_iter().filter(|mark| !marks.has(*mark)).collect();
    assert!(missed.is_empty() || seeds < 3000, "no seed of {seeds} met {missed:?}");
}

#[test]
fn every_disk_operation_may_fail_once() {
    let tally = sim::every_disk_failure(1).unwrap();
    assert!(50 < tally.points, "{tally:?}");
}

#[test]
fn every_request_may_meet_every_fault() {
    let tally = sim::every_reply_failure(1).unwrap();
    assert!(50 < tally.points, "{tally:?}");
}

#[test]
fn every_point_may_be_the_last_of_a_process() {
    for seed in 0..4 {
        let tally = sim::every_crash(seed, &[1, 3, 9, 30]).unwrap();
        assert!(300 < tally.points, "{tally:?}");
    }
}

#[test]
fn an_origin_that_never_answers_ends_the_run_within_20_seconds() {
    for seed in 0..20 {
        let (after, error) = sim::unreachable_origin(seed).unwrap();
        assert!(matches!(error, Error::Network(_)), "{error:?}");
        assert!((Duration::from_secs(12)..Duration::from_secs(20)).contains(&after), "{after:?}");
    }
}

#[test]
fn every_planted_bug_is_caught() {
    for canary in Canary::ALL {
        let options = Options { canary: Some(canary), ..Options::default() };
        let caught = (0..10_000).find_map(|seed| Some((seed, sim::run(seed, options).err()?)));
        eprintln!("{canary:?}: caught by {caught:?}");
        assert!(caught.is_some(), "{canary:?} goes unnoticed");
    }
}
