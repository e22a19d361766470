//! The lanes and slabs that pulls work with: one pull's own, or those of several pulls at once.
//!
//! In: the bounds of a run. Out: slabs, lanes on the rung that a pull's disk allows, turns at blocking work, what was
//! found of file systems. Holds: however many pulls share a crew, its slabs, lanes and turns are those of one.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::disk::{Above, Probes, Rung, SlabPool};
use crate::engine::lane::Lane;
use crate::engine::tasks::Hands;
use crate::limits::Limits;

/// Lanes, slabs and turns for every pull that is given it; the pulls run on one thread.
pub struct Crew {
    pub(super) pool: SlabPool,
    pub(super) hands: Hands,
    pub(super) probes: Probes,
    /// What is known of the folders above the DESTs.
    pub(super) above: Arc<Above>,
    /// Who looks at what a directory holds: a read-back takes every CPU and 32 MiB, so one at a time.
    pub(super) looks: Arc<Semaphore>,
    lanes_max: usize,
    /// By rung, as directories may lie on file systems that differ. Taken at the begin of a pull, never while bytes move.
    lanes: Mutex<Vec<(Rung, Lanes)>>,
    turns: AtomicUsize,
}

/// The lanes of one rung.
pub(super) type Lanes = Arc<Vec<Lane>>;

impl Crew {
    /// A crew that holds to `limits`: its memory and its number of lanes. No lane is started yet.
    ///
    /// # Errors
    /// When the address space for the slabs is refused.
    pub fn new(limits: &Limits) -> io::Result<Self> {
        Ok(Self {
            pool: SlabPool::new(limits.memory_bytes_max)?,
            hands: Hands::default(),
            probes: Probes::default(),
            above: Arc::default(),
            looks: Arc::new(Semaphore::new(1)),
            lanes_max: limits.lanes.max(1),
            lanes: Mutex::default(),
            turns: AtomicUsize::new(0),
        })
    }

    /// The lanes of `rung`, started when there are none that live.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub(super) fn lanes(&self, rung: Rung) -> io::Result<Lanes> {
        // Whoever panicked here left the list whole.
        let mut started = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, lanes)) = started.iter().find(|(of, lanes)| *of == rung && !lanes.iter().any(Lane::ended)) {
            return Ok(lanes.clone());
        }
        let lanes = (0..self.lanes_max).map(|number| Lane::start(number, rung)).collect::<io::Result<Vec<_>>>()?;
        started.retain(|(of, _)| *of != rung);
        let lanes = Arc::new(lanes);
        started.push((rung, lanes.clone()));
        Ok(lanes)
    }

    /// The lane that the next pull begins with: the first span of each goes to its first lane, and most small models
    /// have only one.
    pub(super) fn turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed) % self.lanes_max
    }

    /// Lets the lanes end after their last order and waits for them, unless somebody still works with them.
    ///
    /// # Errors
    /// How a lane ended, when not well.
    pub(super) fn dismiss(self) -> io::Result<()> {
        let lanes = self.lanes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let lanes: Vec<Lane> = lanes.into_iter().filter_map(|(_, lanes)| Arc::into_inner(lanes)).flatten().collect();
        lanes.into_iter().try_for_each(Lane::join)
    }
}
