//! Writer threads: the rungs below the ring, direct or through the page cache.
//!
//! In: [`Job`]s through a queue. Out: a reply for each. Holds: a job begun is finished; the queue is never longer than
//! [`WRITES_IN_FLIGHT_MAX`](super::backend::WRITES_IN_FLIGHT_MAX), as each job has one of as many permits; the threads
//! end when their lane does.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::backend::{Job, Rung};
use super::batch::{Batch, Filled, Next};
use super::part::PartFile;
use super::queue::{Queue, Taker};
use super::window::Window;

/// Threads per lane for direct writes: four writes at the device at once, as the ring would have.
const DIRECT_WRITERS: usize = 4;

/// Threads per lane for buffered writes: they copy, so more only compete with the lane for its CPU.
const BUFFERED_WRITERS: usize = 2;

/// Before the kernel is asked again after EAGAIN.
const PATIENCE: Duration = Duration::from_millis(1);

type Order = (Job, oneshot::Sender<io::Result<()>>);

/// The writer threads of one lane.
pub(super) struct Writers {
    queue: Arc<Queue<Order>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts the threads that `rung` calls for.
    pub(super) fn start(rung: Rung) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let count = if rung == Rung::Buffered { BUFFERED_WRITERS } else { DIRECT_WRITERS };
        let mut writers = Self { queue: Arc::clone(&queue), threads: Vec::with_capacity(count) };
        for _ in 0..count {
            let taker = Taker::of(&queue);
            let window = (rung == Rung::Buffered).then(|| Window::new(count));
            let thread =
                std::thread::Builder::new().name("dray-disk".to_owned()).spawn(move || work(&taker, window))?;
            writers.threads.push(thread);
        }
        Ok(writers)
    }

    /// Hands the job to a thread and waits for its end.
    pub(super) async fn write(&self, job: Job) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.queue.put((job, reply));
        answer.await.unwrap_or_else(|_| Err(io::Error::other("a writer thread is gone")))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a writer thread panicked");
            }
        }
    }
}

fn work(queue: &Taker<Order>, mut window: Option<Window>) {
    while let Some((mut job, reply)) = queue.take() {
        let (offset, len) = (job.batch.offset(), job.batch.left());
        let mut result = write_all(&job.file, &mut job.batch);
        if let (Ok(()), Some(window)) = (&result, &mut window) {
            result = window.wrote(&job.file, offset, len);
        }
        // The slabs go back before the lane hears of it, so that it finds them.
        drop(job);
        if reply.send(result).is_err() {
            tracing::debug!("a write ended that nobody waits for");
        }
    }
}

/// Writes the whole batch from this thread.
pub(super) fn write_all(file: &PartFile, batch: &mut Batch) -> io::Result<()> {
    loop {
        let slices: Vec<_> = batch.filled().iter().map(Filled::bytes).map(IoSlice::new).collect();
        let result = rustix::io::pwritev(file.file(), &slices, batch.offset());
        match batch.settle(result.map_err(io::Error::from))? {
            Next::Done => return Ok(()),
            Next::Again => {}
            Next::Later => std::thread::sleep(PATIENCE),
        }
    }
}
