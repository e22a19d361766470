//! The bounds of a run, each with its reason. Only `cli` reads flags and environment.

use std::time::Duration;

use crate::units::MIB;

/// Bounds and tunables of one run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of slabs between socket and disk. Default 64 MiB: the init container requests 100 MiB in all.
    pub memory_bytes_max: u64,
    /// Bytes received but not yet durable: what a power cut can cost. Default 128 MiB: about as much as a fast disk
    /// takes while one checkpoint is made durable and the next gathers.
    pub unsettled_bytes_max: u64,
    /// Bytes received but neither durable nor noted as written: what SIGKILL can cost. Default 48 MiB.
    pub unnoted_bytes_max: u64,
    /// Parallel spans; `None` lets the window find it. More than 64 never helped one origin.
    pub connections: Option<usize>,
    /// Lanes: one per CPU of the cgroup quota.
    pub lanes: usize,
    /// Smallest and largest span. 8–16 MiB is what S3's guide asks for.
    pub span_bytes: (u64, u64),
    /// No byte for this long drops a reply. Default 10 s.
    pub stall_timeout: Duration,
    /// Bound of the whole run. Default none.
    pub deadline: Option<Duration>,
    /// Bytes per second over all connections. Default none.
    pub rate_bytes_max: Option<u64>,
    /// Tries of one span without progress before giving up. Default 8: about 15 s of backoff.
    pub attempts_max: u32,
    /// How often a changed object is started over. Default 3.
    pub restarts_max: u32,
}

/// Upper bound of parallel spans the window may reach.
pub const CONNECTIONS_MAX: usize = 64;

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 * MIB,
            unsettled_bytes_max: 128 * MIB,
            unnoted_bytes_max: 48 * MIB,
            connections: None,
            lanes: 1,
            span_bytes: (8 * MIB, 16 * MIB),
            stall_timeout: Duration::from_secs(10),
            deadline: None,
            rate_bytes_max: None,
            attempts_max: 8,
            restarts_max: 3,
        }
    }
}
