//! What spans wait for beside the network: counted by the lanes, read by the driver for its verdict.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engine::lane::Lane;
use crate::schedule::{Brake, Progress};

/// Time that all spans together have waited.
#[derive(Default)]
pub(super) struct Waits {
    disk_micros: AtomicU64,
    memory_micros: AtomicU64,
}

/// Adds the time until it is dropped.
pub(super) struct Waiting<'a> {
    account: &'a AtomicU64,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.account.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Waits {
    /// A span waits for writes or for durability.
    pub(super) fn disk(&self) -> Waiting<'_> {
        Waiting { account: &self.disk_micros, since: Instant::now() }
    }

    /// A span waits for a slab.
    pub(super) fn memory(&self) -> Waiting<'_> {
        Waiting { account: &self.memory_micros, since: Instant::now() }
    }
}

/// Above this share of the lanes' time on the processor, the processor is what holds the run back.
const CPU_SHARE: f64 = 0.85;

/// Above this percentage of `--limit-rate`, that limit is what holds the run back.
const RATE_PERCENT: u128 = 80;

/// Above this share of the spans' time, a wait is what holds the run back.
const WAIT_SHARE: f64 = 0.25;

/// Judges stretches of a run by what changed since the last one.
pub(super) struct Judge {
    at: Instant,
    cpu_seconds: f64,
    disk_micros: u64,
    memory_micros: u64,
    received: u64,
    rate_bytes_max: Option<u64>,
}

impl Judge {
    /// Starts judging now.
    pub(super) fn new(cpu_seconds: f64, received: u64, rate_bytes_max: Option<u64>) -> Self {
        Self { at: Instant::now(), cpu_seconds, disk_micros: 0, memory_micros: 0, received, rate_bytes_max }
    }

    /// Whether bytes came about as fast as the user lets them.
    fn at_rate_limit(&self, received: u64, stretch: Duration) -> bool {
        let bytes = u128::from(received.saturating_sub(self.received));
        let allowed = |rate: u64| u128::from(rate) * stretch.as_millis() / 1000;
        self.rate_bytes_max.is_some_and(|rate| allowed(rate) * RATE_PERCENT / 100 <= bytes)
    }

    /// What held the stretch since the last call, and how long it was; `None` when it was not for the engine to see.
    /// `received` is of all pulls that share the rate.
    pub(super) fn verdict(
        &mut self,
        waits: &Waits,
        lanes: &[Lane],
        progress: &Progress,
        cpu_seconds: f64,
        received: u64,
    ) -> (Option<Brake>, Duration) {
        let stretch = self.at.elapsed();
        let (disk, memory) = (waits.disk_micros.load(Ordering::Relaxed), waits.memory_micros.load(Ordering::Relaxed));
        let count = |n: usize| f64::from(u32::try_from(n.max(1)).unwrap_or(u32::MAX));
        let seconds = stretch.as_secs_f64().max(f64::MIN_POSITIVE);
        let cpu = (cpu_seconds - self.cpu_seconds) / (seconds * count(lanes.len()));
        let share = |micros: u64| Duration::from_micros(micros).as_secs_f64() / (seconds * count(progress.spans));
        let (disk_share, memory_share) =
            (share(disk.saturating_sub(self.disk_micros)), share(memory.saturating_sub(self.memory_micros)));
        let limited = self.at_rate_limit(received, stretch);
        self.at = Instant::now();
        (self.cpu_seconds, self.received) = (cpu_seconds, received);
        (self.disk_micros, self.memory_micros) = (disk, memory);
        let brake = if limited {
            Some(Brake::Throttle)
        } else if CPU_SHARE < cpu {
            Some(Brake::Cpu)
        } else if WAIT_SHARE < disk_share && memory_share <= disk_share {
            Some(Brake::Disk)
        } else if WAIT_SHARE < memory_share {
            Some(Brake::Memory)
        } else {
            None
        };
        (brake, stretch)
    }
}
