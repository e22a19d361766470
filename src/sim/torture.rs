//! Every fallible operation failed once, and a crash at every point, on a small model and on a lone piece.

use std::time::Duration;

use crate::error::Error;
use crate::limits::Limits;
use crate::sim::disk::{DiskError, DiskPlan};
use crate::sim::origin::{FAULTS, Object, Statement};
use crate::sim::process::Orders;
use crate::sim::scenario::{Death, Life, Scenario};
use crate::sim::world::{End, Stop};
use crate::sim::{Options, Report};
use crate::units::{MIB, PIECE_BYTES};

/// How many points were tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Points at which something failed or the power went.
    pub points: u64,
    /// Runs made.
    pub runs: u64,
}

/// A folder file, an exact piece, several pieces with a tail, a stream, and one without ranges.
fn small_model() -> Vec<Object> {
    let object =
        |size: u64, ranged, sized, stated| Object { version: 0, sizes: vec![size], ranged, sized, stated, flips: 0 };
    vec![
        object(0, true, true, Statement::Sha256),
        object(PIECE_BYTES, true, true, Statement::Digest),
        object(7 * PIECE_BYTES + 1, true, true, Statement::Both),
        object(2 * PIECE_BYTES - 1, false, false, Statement::Sha256),
        object(3 * PIECE_BYTES, false, true, Statement::Digest),
    ]
}

/// A lone piece, which is kept without a journal.
fn lone_piece() -> Vec<Object> {
    vec![Object {
        version: 0,
        sizes: vec![PIECE_BYTES - 1],
        ranged: true,
        sized: true,
        stated: Statement::Digest,
        flips: 0,
    }]
}

/// What every point is tried on.
const MODELS: [fn() -> Vec<Object>; 2] = [small_model, lone_piece];

fn small_limits() -> Limits {
    Limits {
        memory_bytes_max: 8 * MIB,
        unsettled_bytes_max: 6 * MIB,
        unnoted_bytes_max: 4 * MIB,
        connections: Some(3),
        lanes: 2,
        span_bytes: (MIB, 2 * MIB),
        ..Limits::default()
    }
}

fn with_lives(seed: u64, model: fn() -> Vec<Object>, lives: Vec<Life>) -> Scenario {
    Scenario::with(seed, small_limits(), model(), lives, Options::default())
}

/// A run without any fault: how many steps, requests and operations there are to spoil.
fn measure(seed: u64, model: fn() -> Vec<Object>) -> Result<Report, String> {
    with_lives(seed, model, vec![Life::default()]).run()
}

/// One model, and how many points of it were tried.
struct Trial {
    seed: u64,
    model: fn() -> Vec<Object>,
    tally: Tally,
}

impl Trial {
    fn life(&mut self, what: impl Fn() -> String, lives: Vec<Life>) -> Result<(), String> {
        self.tally.runs += 1;
        with_lives(self.seed, self.model, lives).run().map(|_| ()).map_err(|broken| format!("{}: {broken}", what()))
    }
}

/// Tries each model.
fn each(seed: u64, mut tried: impl FnMut(&mut Trial) -> Result<(), String>) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for model in MODELS {
        let mut trial = Trial { seed, model, tally };
        tried(&mut trial)?;
        tally = trial.tally;
    }
    Ok(tally)
}

/// Each disk operation fails once, with each error; the run after it must seal the model.
///
/// # Errors
/// The broken promise and the operation that failed.
pub fn every_disk_failure(seed: u64) -> Result<Tally, String> {
    each(seed, |trial| {
        for op in 1..=measure(seed, trial.model)?.disk_ops {
            trial.tally.points += 1;
            for error in [DiskError::Io, DiskError::Full] {
                let disk = DiskPlan { fail_at: Some((op, error)), ..DiskPlan::default() };
                let what = || format!("operation {op} fails with {error:?}");
                trial.life(what, vec![Life { disk, ..Life::default() }])?;
            }
        }
        Ok(())
    })
}

/// Each request meets each fault once.
///
/// # Errors
/// The broken promise and the request that failed.
pub fn every_reply_failure(seed: u64) -> Result<Tally, String> {
    each(seed, |trial| {
        for request in 1..=measure(seed, trial.model)?.requests {
            for fault in FAULTS {
                trial.tally.points += 1;
                let fail_request = Some((request, fault));
                let what = || format!("request {request} meets {fault:?}");
                trial.life(what, vec![Life { fail_request, ..Life::default() }])?;
            }
        }
        Ok(())
    })
}

/// The process dies before and after each disk operation and before each happening, by power and by SIGKILL;
/// a second one dies at `again` disk operations from its start.
///
/// # Errors
/// The broken promise and the point of death.
pub fn every_crash(seed: u64, again: &[u64]) -> Result<Tally, String> {
    each(seed, |trial| {
        let whole = measure(seed, trial.model)?;
        for death in [Death::Power, Death::Kill] {
            for (what, disk, orders) in deaths(&whole, death) {
                trial.tally.points += 1;
                let first = || Life { disk, orders, death, ..Life::default() };
                trial.life(|| what.clone(), vec![first()])?;
                for op in again {
                    let disk = DiskPlan { crash_before: Some(*op), ..DiskPlan::default() };
                    let lives = vec![first(), Life { disk, death: Death::Power, ..Life::default() }];
                    trial.life(|| format!("{what}, then at operation {op}"), lives)?;
                }
            }
        }
        Ok(())
    })
}

/// Every point of a run at which it may die.
fn deaths(whole: &Report, death: Death) -> Vec<(String, DiskPlan, Orders)> {
    let mut points = Vec::new();
    for op in 1..=whole.disk_ops {
        let before = DiskPlan { crash_before: Some(op), ..DiskPlan::default() };
        let after = DiskPlan { crash_after: Some(op), ..DiskPlan::default() };
        points.push((format!("{death:?} before operation {op}"), before, Orders::default()));
        points.push((format!("{death:?} after operation {op}"), after, Orders::default()));
    }
    for step in 1..=whole.steps {
        let orders = Orders { crash_at_step: Some(step), ..Orders::default() };
        points.push((format!("{death:?} at step {step}"), DiskPlan::default(), orders));
    }
    points
}

/// Nobody ever answers: how long the run takes to say so, and what it says.
///
/// # Errors
/// When it broke a promise or did not fail.
pub fn unreachable_origin(seed: u64) -> Result<(Duration, Error), String> {
    let mut scenario = with_lives(seed, small_model, Vec::new());
    scenario.world.origin.dead_until = Duration::MAX;
    let orders = Orders { time_max: Some(Duration::from_secs(20)), ..Orders::default() };
    match scenario.world.live(&orders, seed) {
        Ok(End::Finished(Err(error))) => Ok((scenario.world.ended_at, error)),
        Ok(other) => Err(format!("{other:?}")),
        Err(Stop::Broken(what)) => Err(what),
        Err(Stop::Crash) => Err("a crash that nobody planned".to_owned()),
    }
}
