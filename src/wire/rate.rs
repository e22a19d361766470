//! A byte rate that all lanes keep together, without a lock.
//!
//! Holds: over any time, at most the rate times that time plus one burst passes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How much time's worth of bytes may pass at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Shared by reference between lanes.
#[derive(Debug)]
pub struct Limiter {
    bytes_per_second: u64,
    start: Instant,
    /// Nanoseconds since `start` at which everything that passed is paid for.
    paid_until: AtomicU64,
}

impl Limiter {
    /// At most `bytes_per_second`; 0 counts as 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), start: Instant::now(), paid_until: AtomicU64::new(0) }
    }

    /// Notes that `bytes` passed and waits until they are paid for.
    pub async fn acquire(&self, bytes: u64) {
        let wait = self.reserve(self.start.elapsed(), bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Bytes worth reading at once: a twentieth of a second, so that lanes share evenly.
    pub fn read_bytes_max(&self) -> usize {
        usize::try_from(self.bytes_per_second / 20).unwrap_or(usize::MAX).clamp(1 << 10, 1 << 20)
    }

    /// Adds `bytes` at `now` (since the start); how long to wait before more may pass.
    fn reserve(&self, now: Duration, bytes: u64) -> Duration {
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let floor = nanos(now.saturating_sub(BURST));
        let paid = |until: u64| until.max(floor).saturating_add(cost);
        let before = self.paid_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| Some(paid(until)));
        // The update never declines, so both arms hold the value it replaced.
        let (Ok(before) | Err(before)) = before;
        Duration::from_nanos(paid(before).saturating_sub(nanos(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time_and_bursts_are_bounded() {
        let limiter = Limiter::new(1000);
        let second = Duration::from_secs(1);
        let mut now = second;
        let start = now;
        for _ in 0..100 {
            now += limiter.reserve(now, 50);
        }
        let took = now - start;
        assert!(took <= second * 5 && second * 5 - BURST <= took, "{took:?}");
        now += second * 60;
        assert_eq!(limiter.reserve(now, 100), Duration::ZERO);
        assert_eq!(limiter.reserve(now, 100), Duration::from_millis(100));
    }

    #[test]
    fn extreme_rates_do_not_overflow() {
        let slow = Limiter::new(0);
        assert!(slow.reserve(Duration::ZERO, u64::MAX) > Duration::from_secs(1 << 30));
        assert_eq!(slow.read_bytes_max(), 1 << 10);
        let fast = Limiter::new(u64::MAX);
        assert_eq!(fast.reserve(Duration::from_secs(1), 1 << 40), Duration::ZERO);
        assert_eq!(fast.read_bytes_max(), 1 << 20);
    }
}
