//! The one fixed pool of slabs: what a run holds between socket and disk can never exceed it.
//!
//! In: leases. Out: [`Slab`]s of one piece each, page-aligned, given back by dropping them.
//! Holds: a slab has one owner; the last one given back is the next one leased, so that only as much memory
//! becomes resident as is really used at once.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut};
use tokio::sync::Semaphore;

use crate::units::PIECE_BYTES;

/// Bytes of one slab: one piece.
pub const SLAB_BYTES: usize = 1 << 20;

const _: () = assert!(SLAB_BYTES == 1 << 20 && PIECE_BYTES == 1 << 20, "a slab holds exactly one piece");

/// Fewer would let one lane fill and write in turns only.
const SLABS_MIN: u64 = 2;

/// Where the first slab starts: a huge page, which also satisfies every direct-I/O alignment up to a slab.
const REGION_ALIGN: usize = 2 << 20;

/// A fixed number of slabs in one anonymous mapping. Clones share it.
#[derive(Clone)]
pub struct SlabPool {
    shared: Arc<Shared>,
}

struct Shared {
    /// Keeps the memory mapped; it is reached through `base` only.
    _map: MmapMut,
    base: NonNull<u8>,
    slabs: usize,
    /// Indices of slabs nobody holds, used as a stack.
    free: Mutex<Vec<usize>>,
    /// One permit for each index in `free`; first come, first served.
    ready: Semaphore,
    waiting: AtomicUsize,
    waits: AtomicU64,
    waited_micros: AtomicU64,
}

// SAFETY: `base` points into `_map`, which lives as long as `Shared` and is bound to no thread. The bytes are
// reached only through `Slab`s, and an index is in `free` or in exactly one `Slab`.
unsafe impl Send for Shared {}
// SAFETY: as above; everything else in `Shared` synchronises itself.
unsafe impl Sync for Shared {}

impl SlabPool {
    /// Reserves `bytes_max`, rounded down to whole slabs but at least two. Memory becomes resident on first use.
    ///
    /// # Errors
    /// When the address space is refused (a limit on it, or more than the machine can map).
    pub fn new(bytes_max: u64) -> io::Result<Self> {
        let slabs = usize::try_from((bytes_max / PIECE_BYTES).max(SLABS_MIN)).map_err(io::Error::other)?;
        let region = slabs.checked_mul(SLAB_BYTES).and_then(|bytes| bytes.checked_add(REGION_ALIGN));
        let mut map = MmapMut::map_anon(region.ok_or(io::ErrorKind::OutOfMemory)?)?;
        let skip = map.as_ptr().align_offset(REGION_ALIGN);
        // Pinning a huge page for a direct write costs a fifth of pinning small ones (docs/performance.md). Only where
        // the whole page is slabs: the rest of it would be resident beyond the bound.
        let huge = slabs * SLAB_BYTES / REGION_ALIGN * REGION_ALIGN;
        if let Err(error) = map.advise_range(Advice::HugePage, skip, huge) {
            tracing::debug!(%error, "no huge pages for slabs");
        }
        let base = NonNull::from(&mut map[skip..]).cast::<u8>();
        let shared = Shared {
            _map: map,
            base,
            slabs,
            free: Mutex::new((0..slabs).rev().collect()),
            ready: Semaphore::new(slabs),
            waiting: AtomicUsize::new(0),
            waits: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Waits for a slab; whoever asked first is served first. Its bytes are whatever the last owner left.
    ///
    /// Dropping the future gives up the place in the queue and leaks nothing.
    pub async fn lease(&self) -> Slab {
        if let Some(slab) = self.try_lease() {
            return slab;
        }
        let _waiting = Waiting::begin(&self.shared);
        let Ok(permit) = self.shared.ready.acquire().await else {
            unreachable!("the semaphore is never closed");
        };
        permit.forget();
        self.take()
    }

    /// A slab at once, or `None` when all are out or somebody is waiting already.
    pub fn try_lease(&self) -> Option<Slab> {
        self.shared.ready.try_acquire().ok()?.forget();
        Some(self.take())
    }

    /// Takes the index that the caller's permit stands for.
    fn take(&self) -> Slab {
        let Some(index) = self.shared.free().pop() else {
            unreachable!("a permit is added only after its index was pushed");
        };
        Slab { shared: Arc::clone(&self.shared), index }
    }

    /// How many slabs there are.
    pub fn capacity(&self) -> usize {
        self.shared.slabs
    }

    /// How many slabs are out.
    pub fn leased(&self) -> usize {
        self.shared.slabs - self.shared.free().len()
    }

    /// How many leases are waiting at this moment.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// How often a lease had to wait so far.
    pub fn waits(&self) -> u64 {
        self.shared.waits.load(Ordering::Relaxed)
    }

    /// Time spent waiting so far, summed over all waiters whose wait has ended.
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.shared.waited_micros.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        // The list is whole at every step, so a panic elsewhere cannot have broken it.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SlabPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlabPool").field("capacity", &self.capacity()).field("leased", &self.leased()).finish()
    }
}

/// Counts one wait for as long as it lasts.
struct Waiting<'a> {
    shared: &'a Shared,
    since: Instant,
}

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        shared.waits.fetch_add(1, Ordering::Relaxed);
        Self { shared, since: Instant::now() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.waited_micros.fetch_add(micros, Ordering::Relaxed);
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One piece's worth of memory; goes back to its pool when dropped.
pub struct Slab {
    shared: Arc<Shared>,
    index: usize,
}

impl Slab {
    /// The first byte. It stays where it is while the slab moves.
    fn start(&self) -> NonNull<u8> {
        // SAFETY: `index < slabs`, and the mapping reaches `slabs * SLAB_BYTES` bytes beyond `base` (`SlabPool::new`).
        unsafe { self.shared.base.add(self.index * SLAB_BYTES) }
    }
}

impl Deref for Slab {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are mapped and initialised (anonymous memory reads as zeros); this `Slab` is the only
        // one with `index`, and `&self` keeps a `&mut` of it away.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), SLAB_BYTES) }
    }
}

impl DerefMut for Slab {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), SLAB_BYTES) }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        self.shared.free().push(self.index);
        self.shared.ready.add_permits(1);
    }
}

impl std::fmt::Debug for Slab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slab({})", self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn pool_holds_whole_slabs_and_at_least_two() {
        for (bytes, slabs) in [(0, 2), (1, 2), (3 << 20, 3), ((4 << 20) - 1, 3), (64 << 20, 64)] {
            assert_eq!(SlabPool::new(bytes).unwrap().capacity(), slabs, "{bytes}");
        }
        assert!(SlabPool::new(u64::MAX).is_err());
    }

    #[test]
    fn slabs_are_aligned_and_apart() {
        let pool = SlabPool::new(8 << 20).unwrap();
        let mut slabs: Vec<_> = std::iter::from_fn(|| pool.try_lease()).collect();
        assert_eq!(slabs.len(), 8);
        for (slab, mark) in slabs.iter_mut().zip(1u8..) {
            assert_eq!(slab.as_ptr().align_offset(SLAB_BYTES), 0);
            slab.fill(mark);
        }
        for (slab, mark) in slabs.iter().zip(1u8..) {
            assert!(slab.iter().all(|byte| *byte == mark));
        }
    }

    #[test]
    fn the_last_slab_given_back_is_the_next_one_leased() {
        let pool = SlabPool::new(4 << 20).unwrap();
        let (first, second) = (pool.try_lease().unwrap(), pool.try_lease().unwrap());
        let hot = second.as_ptr();
        drop(first);
        drop(second);
        assert_eq!(pool.try_lease().unwrap().as_ptr(), hot);
    }

    #[test]
    fn a_waiter_is_served_before_a_later_try() {
        block_on(async {
            let pool = SlabPool::new(0).unwrap();
            let held = [pool.lease().await, pool.lease().await];
            let mut waiter = Box::pin(pool.lease());
            assert!(futures::poll!(&mut waiter).is_pending());
            assert_eq!((pool.waiting(), pool.waits()), (1, 1));
            drop(held);
            let (one, none) = (pool.try_lease(), pool.try_lease());
            assert!(one.is_some() && none.is_none(), "the second permit belongs to the waiter");
            let slab = waiter.await;
            assert_eq!((pool.waiting(), pool.leased()), (0, 2));
            drop((one, slab));
            assert_eq!(pool.leased(), 0);
        });
    }

    #[test]
    fn a_dropped_wait_leaks_nothing() {
        block_on(async {
            let pool = SlabPool::new(0).unwrap();
            let held = [pool.lease().await, pool.lease().await];
            let mut waiter = Box::pin(pool.lease());
            assert!(futures::poll!(&mut waiter).is_pending());
            drop(held);
            drop(waiter);
            assert_eq!((pool.waiting(), pool.leased()), (0, 0));
            assert!(pool.try_lease().is_some() && pool.try_lease().is_some());
        });
    }

    #[test]
    fn every_waiter_of_many_threads_gets_its_turn() {
        let pool = SlabPool::new(0).unwrap();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for mark in 0..8u8 {
                let (pool, done) = (pool.clone(), &done);
                scope.spawn(move || {
                    block_on(async {
                        for _ in 0..50 {
                            let mut slab = pool.lease().await;
                            slab[..64].fill(mark);
                            tokio::task::yield_now().await;
                            assert!(slab[..64].iter().all(|byte| *byte == mark));
                        }
                    });
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!((done.into_inner(), pool.leased()), (8, 0));
    }
}
