//! The rungs of the I/O ladder, and the writer that a lane holds.
//!
//! In: a rung that [`probe`](super::probe) found to work. Out: a runtime for the lane's future with a [`LaneDisk`].
//! Holds: the bytes on disk are the same on every rung; a write that was begun ends, even when nobody waits for it.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::batch::Batch;
use super::part::PartFile;
use super::slab::Slab;
use super::threads::Writers;
use super::uring;

/// Writes of one lane that the kernel or the writer threads may hold at once: 64 MiB, a whole default pool.
pub const WRITES_IN_FLIGHT_MAX: u32 = 16;

/// How long a lane that ends waits for writes nobody waits for any more.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How bytes get from slabs to the file, fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rung {
    /// Direct writes through the lane's own io_uring.
    Uring,
    /// Direct writes by a few threads per lane.
    Threads,
    /// Writes through the page cache by a few threads per lane, with a bounded amount not yet on disk.
    Buffered,
    /// No writes: bytes are hashed and dropped. Part files hold nothing, so nothing made so may be kept.
    Discard,
}

impl Rung {
    /// The word a report's `io.backend` carries.
    pub fn word(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Threads => "threads",
            Self::Buffered => "buffered",
            Self::Discard => "none",
        }
    }
}

/// One lane's way to the disk. Stays on its thread; clones share the queue.
#[derive(Clone)]
pub struct LaneDisk {
    inner: Rc<Inner>,
}

struct Inner {
    writer: Writer,
    room: Arc<Semaphore>,
}

enum Writer {
    Uring,
    Threads(Writers),
    Discard,
}

impl LaneDisk {
    fn new(writer: Writer) -> Self {
        let room = Arc::new(Semaphore::new(usize::try_from(WRITES_IN_FLIGHT_MAX).unwrap_or(1)));
        Self { inner: Rc::new(Inner { writer, room }) }
    }

    /// Writes 1 to 4 slabs, each with its number of filled bytes, to consecutive places from `offset` on.
    ///
    /// All but the last must be full. A direct write pads the last one with zeros up to the file's alignment;
    /// sealing cuts that off. The slabs return to their pool when the kernel is done with them. Dropping the
    /// future does not stop the write. Written is not durable: [`PartFile::sync_data`] must follow.
    ///
    /// # Errors
    /// The kernel's error, after which `file` is poisoned; or that it was poisoned before.
    pub async fn write(&self, file: &Arc<PartFile>, offset: u64, slabs: Vec<(Slab, usize)>) -> io::Result<()> {
        file.check()?;
        let batch = Batch::new(file.align(), offset, slabs)?;
        let Ok(permit) = Arc::clone(&self.inner.room).acquire_owned().await else {
            unreachable!("the semaphore is never closed");
        };
        let job = Job { file: Arc::clone(file), batch, _permit: permit };
        match &self.inner.writer {
            Writer::Uring => uring::write(job).await,
            Writer::Threads(writers) => writers.write(job).await,
            Writer::Discard => discard(job),
        }
    }

    /// Waits until no write is under way.
    async fn drain(&self) {
        let all = self.inner.room.acquire_many(WRITES_IN_FLIGHT_MAX);
        if tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_err() {
            tracing::warn!("writes are still under way at the end of a lane");
        }
    }
}

/// One write under way: it owns everything the kernel needs until its end.
pub(super) struct Job {
    pub(super) file: Arc<PartFile>,
    pub(super) batch: Batch,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Job {
    /// A write that did not end well, whatever stopped it, leaves bytes nobody knows: the part is dead.
    fn drop(&mut self) {
        if self.batch.left() != 0 {
            self.file.poison();
        }
    }
}

/// Ends a write as if the kernel had taken all of it.
fn discard(mut job: Job) -> io::Result<()> {
    let all = usize::try_from(job.batch.left()).map_err(io::Error::other)?;
    job.batch.settle(Ok(all)).map(drop)
}

/// Runs `f`'s future to its end on this thread, in a runtime that fits `rung`, with sockets and timers enabled.
///
/// Inside, `tokio::task::spawn_local` works. When the future has ended, writes still under way are waited for.
/// Must not be called from within a runtime.
///
/// # Errors
/// When the runtime, the ring or a writer thread cannot be made.
pub fn run_lane<F, Fut, T>(rung: Rung, f: F) -> io::Result<T>
where
    F: FnOnce(LaneDisk) -> Fut,
    Fut: Future<Output = T>,
{
    let lane = async move |writer: Writer| {
        let disk = LaneDisk::new(writer);
        let output = f(disk.clone()).await;
        disk.drain().await;
        output
    };
    match rung {
        Rung::Uring => uring::block_on(lane(Writer::Uring)),
        Rung::Discard => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(tokio::task::LocalSet::new().block_on(&runtime, lane(Writer::Discard)))
        }
        Rung::Threads | Rung::Buffered => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let writer = Writer::Threads(Writers::start(rung)?);
            Ok(tokio::task::LocalSet::new().block_on(&runtime, lane(writer)))
        }
    }
}
