//! Scenarios: a seed's model, limits and troubles, and the lives it takes until the model is sealed.

use std::time::Duration;

use crate::error::Error;
use crate::limits::Limits;
use crate::schedule::rng::Rng;
use crate::sim::content::{Edition, PIECE_ON_DISK, SECTOR_BYTES, sectors};
use crate::sim::disk::{DiskFault, DiskPlan, Folder, Name, SimDisk};
use crate::sim::marks::Mark;
use crate::sim::origin::{FAULTS, Fault, Object, SimOrigin, Statement, draw_size, pieces_of};
use crate::sim::process::Orders;
use crate::sim::trace::Trace;
use crate::sim::world::{End, Stop, World};
use crate::sim::{Options, Report};
use crate::units::MIB;

/// Once the faults are gone a run of these small models ends within this virtual time.
const HEALED_MAX: Duration = Duration::from_secs(60);
/// A stop is answered within this time.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What one process meets.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) rates: Vec<(Fault, u64)>,
    pub(super) dead_until: Duration,
    pub(super) fail_request: Option<(u64, Fault)>,
    pub(super) disk: DiskPlan,
    pub(super) orders: Orders,
    pub(super) death: Death,
}

/// How a process that does not end by itself ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Death {
    /// The power goes: what was not synced may be lost.
    #[default]
    Power,
    /// SIGKILL: the disk's cache lives on.
    Kill,
}

pub(super) struct Scenario {
    pub(super) world: World,
    pub(super) lives: Vec<Life>,
    pub(super) seed: u64,
    report: Report,
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> Option<T> {
    let index = rng.below(u64::try_from(choices.len()).unwrap_or(0));
    choices.get(usize::try_from(index).unwrap_or(0)).copied()
}

fn draw_limits(rng: &mut Rng) -> Limits {
    let default = Limits::default();
    Limits {
        memory_bytes_max: pick(rng, &[1, 2, 4, 16, 64, 64]).unwrap_or(64) * MIB,
        unsettled_bytes_max: pick(rng, &[1, 2, 4, 16, 48, 128]).unwrap_or(128) * MIB,
        unnoted_bytes_max: pick(rng, &[1, 2, 4, 16, 48]).unwrap_or(48) * MIB,
        connections: pick(rng, &[None, None, Some(1), Some(3), Some(16)]).flatten(),
        lanes: pick(rng, &[1, 2, 4]).unwrap_or(1),
        span_bytes: pick(rng, &[(MIB, 2 * MIB), (2 * MIB, 4 * MIB), default.span_bytes]).unwrap_or(default.span_bytes),
        ..default
    }
}

fn draw_statement(rng: &mut Rng) -> Statement {
    let all = [Statement::None, Statement::None, Statement::Digest, Statement::Sha256, Statement::Both];
    pick(rng, &all).unwrap_or(Statement::None)
}

fn draw_objects(rng: &mut Rng) -> Vec<Object> {
    let (count, pieces_max) = match rng.below(20) {
        0 => (20 + rng.below(40), 2),
        1 | 2 => (1, 80),
        3 => (rng.below(2), 3),
        4..=7 => (1, 1),
        _ => (1 + rng.below(6), 12),
    };
    let object = |rng: &mut Rng| {
        let sized = rng.below(10) != 0;
        let sizes = vec![draw_size(rng, pieces_max), draw_size(rng, pieces_max)];
        Object { version: 1, sizes, ranged: sized && rng.below(10) != 0, sized, stated: draw_statement(rng), flips: 0 }
    };
    (0..count).map(|_| object(rng)).collect()
}

fn draw_life(rng: &mut Rng) -> Life {
    let mut life = Life::default();
    for fault in FAULTS {
        if rng.below(4) == 0 {
            life.rates.push((fault, 5 + rng.below(120)));
        }
    }
    if rng.below(4) == 0 {
        // A storm: one fault most of the time.
        life.rates.extend(pick(rng, &FAULTS).map(|fault| (fault, 200 + rng.below(700))));
    }
    if rng.below(10) == 0 {
        life.dead_until = Duration::from_millis(rng.below(15_000));
    }
    life.disk.short_rate = pick(rng, &[0, 0, 50]).unwrap_or(0);
    life.disk.io_rate = pick(rng, &[0, 0, 0, 2, 10]).unwrap_or(0);
    life.disk.full_rate = pick(rng, &[0, 0, 0, 2, 10]).unwrap_or(0);
    let bound = pick(rng, &[15, 60, 300]).unwrap_or(60);
    match rng.below(8) {
        6 | 7 => {}
        0 => life.orders.stop_at = Some(Duration::from_millis(rng.below(bound * 2))),
        1..=3 => life.orders.crash_at_step = Some(1 + rng.below(bound)),
        4 => life.disk.crash_before = Some(1 + rng.below(bound)),
        _ => life.disk.crash_after = Some(1 + rng.below(bound)),
    }
    life.death = if rng.below(3) == 0 { Death::Kill } else { Death::Power };
    life
}

impl Scenario {
    /// The scenario of a seed.
    pub(super) fn of(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let limits = draw_limits(&mut rng);
        let objects = draw_objects(&mut rng);
        let lives = (0..1 + rng.below(5)).map(|_| draw_life(&mut rng)).collect();
        let old = rng.below(4) == 0;
        let in_order = rng.below(8) == 0;
        let mut scenario = Self::with(seed, limits, objects, lives, options);
        scenario.world.in_order = in_order;
        if old {
            scenario.publish_old();
        }
        scenario
    }

    pub(super) fn with(seed: u64, limits: Limits, objects: Vec<Object>, lives: Vec<Life>, options: Options) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let origin = SimOrigin {
            objects,
            rates: Vec::new(),
            fail_at: None,
            dead_until: Duration::ZERO,
            requests: 0,
            seen: Vec::new(),
            stall_timeout: limits.stall_timeout,
            rng: Rng::new(rng.next()),
        };
        let disk = SimDisk::new(Rng::new(rng.next()));
        let mut world = World::new(disk, origin, limits, Rng::new(rng.next()), Trace::new(options.trace));
        world.canary = options.canary;
        Self { world, lives, seed, report: Report::default() }
    }

    /// An earlier run left version 0 of everything, sealed.
    fn publish_old(&mut self) {
        let objects = (0..).take(self.world.origin.objects.len());
        let editions: Vec<Edition> = objects.map(|object| Edition { object, version: 0 }).collect();
        let published = editions.iter().try_for_each(|edition| self.publish_file(*edition)).and_then(|()| {
            self.world.disk.sync_folder(Folder::Dest)?;
            let ids: Vec<_> = editions.iter().map(|edition| edition.id()).collect();
            self.world.write_receipt(&ids)
        });
        assert!(published.is_ok(), "the disk failed before any fault was planned");
    }

    fn publish_file(&mut self, edition: Edition) -> Result<(), DiskFault> {
        let disk = &mut self.world.disk;
        let file = disk.create(Name::Final(edition.object), SECTOR_BYTES)?;
        for piece in 0..pieces_of(self.world.origin.size(edition)) {
            disk.write(file, piece * PIECE_ON_DISK, &sectors(edition.stamp(piece, 0)))?;
        }
        disk.sync_all(file)
    }

    /// Runs every life, then one without faults that must seal the model.
    pub(super) fn run(mut self) -> Result<Report, String> {
        let outcome = self.run_lives();
        self.report.marks = self.world.marks;
        self.report.trace_hash = self.world.trace.hash();
        match outcome {
            Ok(()) => Ok(self.report),
            Err(Stop::Broken(what)) => Err(what),
            Err(Stop::Crash) => Err("a crash that nobody planned".to_owned()),
        }
    }

    fn run_lives(&mut self) -> Result<(), Stop> {
        for life in std::mem::take(&mut self.lives) {
            if self.run_life(&life)? {
                return self.after_success();
            }
        }
        let orders = Orders { time_max: Some(HEALED_MAX), ..Orders::default() };
        if !self.run_life(&Life { orders, ..Life::default() })? {
            return Err(Stop::broken("without faults it still fails"));
        }
        self.after_success()
    }

    /// Runs one life; true when it sealed the model.
    fn run_life(&mut self, life: &Life) -> Result<bool, Stop> {
        let world = &mut self.world;
        world.trace.say(|| format!("---- a life: {life:?}"));
        let first_op = world.disk.ops;
        let shift = |op: Option<u64>| op.map(|op| op + first_op);
        world.disk.plan = DiskPlan {
            crash_before: shift(life.disk.crash_before),
            crash_after: shift(life.disk.crash_after),
            fail_at: life.disk.fail_at.map(|(op, error)| (op + first_op, error)),
            ..life.disk
        };
        world.origin.rates.clone_from(&life.rates);
        world.origin.dead_until = life.dead_until;
        let first_request = world.origin.requests;
        world.origin.fail_at = life.fail_request.map(|(request, fault)| (request + first_request, fault));
        self.report.lives += 1;
        let end = world.live(&life.orders, self.seed.wrapping_add(self.report.lives));
        self.report.steps += world.steps;
        self.report.requests = world.origin.requests;
        self.report.disk_ops = world.disk.ops - first_op;
        world.disk.plan = DiskPlan::default();
        match end {
            Err(Stop::Broken(what)) => Err(Stop::Broken(what)),
            Err(Stop::Crash) => {
                match life.death {
                    Death::Power => {
                        world.disk.crash();
                        world.noted.clear();
                        world.marks.set(Mark::PowerCut);
                    }
                    Death::Kill => world.marks.set(Mark::Killed),
                }
                world.trace.say(|| format!("---- it died: {:?}", life.death));
                world.check_disk().map(|()| false)
            }
            Ok(End::Current | End::Finished(Ok(()))) => Ok(true),
            Ok(End::Finished(Err(error))) => {
                world.trace.say(|| format!("---- it ended: {error}"));
                // It was not killed: what the journal says is all there is.
                self.world.noted.clear();
                self.check_class(&error)?;
                self.world.check_disk()?;
                Ok(false)
            }
        }
    }

    /// A failure names a cause that was there.
    fn check_class(&mut self, error: &Error) -> Result<(), Stop> {
        self.mark_error(error);
        let world = &self.world;
        let saw = |faults: &[Fault]| faults.iter().any(|fault| world.origin.seen.contains(fault));
        let network = !world.origin.seen.is_empty();
        let fits = match error {
            Error::Storage(_) => world.disk.seen_io,
            Error::DiskFull(_) => world.disk.seen_full,
            Error::Network(_) => network,
            Error::Denied(_) => saw(&[Fault::Denied, Fault::Expired]),
            Error::NotFound(_) => saw(&[Fault::Missing]),
            Error::Changed(_) => saw(&[Fault::Change, Fault::Lagging]),
            Error::Integrity(_) => saw(&[Fault::Flip]),
            Error::Interrupted { .. } => return self.check_interrupted(),
            _ => false,
        };
        if fits { Ok(()) } else { Err(Stop::broken(format!("it failed for no reason of this kind: {error}"))) }
    }

    fn mark_error(&mut self, error: &Error) {
        let mark = match error {
            Error::Storage(_) => Mark::Storage,
            Error::DiskFull(_) => Mark::DiskFull,
            Error::Network(_) => Mark::Network,
            Error::Denied(_) => Mark::Denied,
            Error::NotFound(_) => Mark::Missing,
            Error::Changed(_) => Mark::Changed,
            Error::Integrity(_) => Mark::Integrity,
            Error::Interrupted { .. } => Mark::Interrupted,
            _ => return,
        };
        self.world.marks.set(mark);
    }

    /// An orderly stop leaves a journal that says so.
    fn check_interrupted(&self) -> Result<(), Stop> {
        match self.world.stopped_at {
            None => return Err(Stop::broken("it says it was interrupted, but it was not")),
            Some(at) if at + STOP_MAX < self.world.ended_at => return Err(Stop::broken("a stop took too long")),
            Some(_) => {}
        }
        let storage_failed = self.world.disk.seen_io || self.world.disk.seen_full;
        match self.world.read_journal()? {
            Some(replay)
                if !storage_failed && !replay.clean && replay.files.iter().any(|file| !file.held.is_empty()) =>
            {
                Err(Stop::broken("an orderly stop left a journal that does not say so"))
            }
            _ => Ok(()),
        }
    }

    /// Exit 0 survives a power cut at once, and a second run does nothing.
    fn after_success(&mut self) -> Result<(), Stop> {
        let world = &mut self.world;
        world.check_sealed()?;
        world.disk.crash();
        world.check_disk()?;
        world.check_sealed()?;
        world.origin.fail_at = None;
        let current = (0..).take(world.origin.objects.len()).map(|object| world.origin.current(object));
        if world.read_receipt()?.is_some_and(|editions| current.eq(editions)) {
            let (before, marks) = ((world.origin.requests, world.disk.changes), world.marks);
            let end = world.live(&Orders::default(), self.seed);
            world.marks = marks;
            if end != Ok(End::Current) || before != (world.origin.requests, world.disk.changes) {
                return Err(Stop::broken("a run after success asked or wrote something"));
            }
        }
        Ok(())
    }
}
