//! One thread that accepts, several that serve: connections go round, so that no thread has them all.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::serve::Server;

/// Connections that wait for a thread to take them.
const WAITING_MAX: usize = 64;

/// Whole-object checksum passes at once.
const PASSES_MAX: usize = 2;

/// An accepted connection, and who waits for its end.
type Handed = (std::net::TcpStream, oneshot::Sender<()>);

/// A listener with its threads; dropping it stops them.
pub(super) struct Workers {
    // Dropped first: its end closes the queues that the threads read.
    server: Option<Server>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Listens on a free port of 127.0.0.1 and serves each connection on one of `count` threads.
    pub(super) fn start<F, C>(count: usize, serve: F) -> io::Result<Self>
    where
        F: Fn(TcpStream) -> C + Clone + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let mut queues = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count {
            let (queue, handed) = mpsc::channel::<Handed>(WAITING_MAX);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .max_blocking_threads(PASSES_MAX)
                .build()?;
            let serve = serve.clone();
            let work = move || {
                runtime.block_on(work(handed, serve));
                runtime.shutdown_background();
            };
            threads.push(std::thread::Builder::new().name(format!("arena-{number}")).spawn(work)?);
            queues.push(queue);
        }
        let (queues, next) = (Arc::new(queues), AtomicUsize::new(0));
        let server = Server::start("arena-accept", move |stream| {
            let (queues, turn) = (Arc::clone(&queues), next.fetch_add(1, Ordering::Relaxed));
            async move {
                let Ok(stream) = stream.into_std() else { return };
                let (done, ended) = oneshot::channel();
                if queues[turn % queues.len()].send((stream, done)).await.is_ok() {
                    // The accepting side counts connections: this one is there until it ends.
                    drop(ended.await);
                }
            }
        })?;
        let address = server.address();
        Ok(Self { server: Some(server), address, threads })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.server.take());
        for thread in self.threads.drain(..) {
            // A panicked thread has printed its reason.
            drop(thread.join());
        }
    }
}

/// Serves what is handed over, until nobody hands over any more.
async fn work<F, C>(mut handed: mpsc::Receiver<Handed>, serve: F)
where
    F: Fn(TcpStream) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    while let Some((stream, done)) = handed.recv().await {
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let serving = serve(stream);
        tokio::spawn(async move {
            serving.await;
            // Nobody may wait any more: the arena is ending.
            done.send(()).ok();
        });
    }
}
