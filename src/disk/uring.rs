//! The ring: the only file that names `tokio_uring`.
//!
//! In: [`Job`]s. Out: completed writes. Holds: the ring owns slabs and descriptor until the kernel has completed
//! the operation; a write is submitted at once, even when its lane never idles.

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio_uring::buf::IoBuf;

use super::backend::Job;
use super::batch::{Filled, Next};

/// Entries of the submission queue. One: see [`nudge`]. It also needs next to no locked memory on old kernels.
const SUBMISSIONS: u32 = 1;

/// Entries of the completion queue: every write of a lane and its nudge, twice over.
const COMPLETIONS: u32 = 64;

/// Before the kernel is asked again after EAGAIN.
const PATIENCE: Duration = Duration::from_millis(1);

// SAFETY: a slab's bytes stay where they are when the slab moves (`Slab::start`), and tokio-uring owns the value,
// and with it the slab, until the operation has completed.
unsafe impl IoBuf for Filled {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes().len()
    }

    fn bytes_total(&self) -> usize {
        self.bytes().len()
    }
}

/// Runs `future` on this thread in a runtime with a ring.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(COMPLETIONS);
    let mut builder = tokio_uring::builder();
    builder.entries(SUBMISSIONS).uring_builder(&ring);
    let runtime = tokio_uring::Runtime::new(&builder)?;
    Ok(runtime.block_on(future))
}

/// Writes the job in a task of its own, so that a caller who goes away takes no buffer from the kernel.
pub(super) async fn write(job: Job) -> io::Result<()> {
    match tokio::task::spawn_local(finish(job)).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

async fn finish(mut job: Job) -> io::Result<()> {
    // A descriptor of its own for each write: the ring closes it on completion, and no cache can outlive the part.
    let ring_file = tokio_uring::fs::File::from_std(job.file.duplicate()?);
    loop {
        let mut write = pin!(ring_file.writev_at(job.batch.take(), job.batch.offset()));
        let (result, filled) = match futures::poll!(&mut write) {
            std::task::Poll::Ready(ended) => ended,
            std::task::Poll::Pending => {
                nudge().await;
                write.await
            }
        };
        job.batch.put_back(filled);
        match job.batch.settle(result)? {
            Next::Done => return Ok(()),
            Next::Again => {}
            Next::Later => tokio::time::sleep(PATIENCE).await,
        }
    }
}

/// Has the kernel told about the operation queued just before.
///
/// tokio-uring tells the kernel only when its thread is about to sleep, which a lane with always-ready sockets
/// never is (tokio's `park_yield` runs no park hook), or when the queue is full. With a queue of one entry, queueing
/// a no-op submits what is in it; the no-op itself goes out with the next write or sleep, and matters to nobody.
async fn nudge() {
    let mut noop = pin!(tokio_uring::no_op());
    if let std::task::Poll::Ready(Err(error)) = futures::poll!(&mut noop) {
        tracing::debug!(%error, "a no-op failed");
    }
}

/// Tries one write through a fresh ring; tells why not.
pub(super) fn try_write(file: File, filled: Vec<Filled>) -> io::Result<usize> {
    block_on(async {
        let ring_file = tokio_uring::fs::File::from_std(file);
        let (result, _) = ring_file.writev_at(filled, 0).await;
        result
    })?
}
