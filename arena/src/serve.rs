//! One server thread: a loopback listener, a runtime of its own, and a stop that joins it.
//!
//! In: what to do with an accepted connection. Out: a [`Server`] that stops when dropped.
//! Holds: the listener is bound before `start` returns, so its address works at once.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

/// Connections served at once; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 1024;

/// Whole-object checksum passes at once: each fills a core the client needs too.
const PASSES_MAX: usize = 2;

/// Pause after a refused accept, which is nearly always a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A running server thread.
pub(crate) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds 127.0.0.1 on a free port and hands every connection to `connection`, each in a task.
    ///
    /// # Errors
    /// Whatever binding, building the runtime or starting the thread gave.
    pub(crate) fn start<F, C>(name: &str, connection: F) -> io::Result<Self>
    where
        F: Fn(TcpStream) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(PASSES_MAX)
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)?
        };
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(&listener, &connection) => {}
                    // A dropped sender stops the server as well as a message does.
                    _ = stopped => {}
                }
            });
            // A checksum pass may be running on the blocking pool; nobody waits for its answer.
            runtime.shutdown_background();
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panicked server has printed its reason; a second panic in drop would abort.
            drop(thread.join());
        }
    }
}

async fn accept<F, C>(listener: &TcpListener, connection: &F)
where
    F: Fn(TcpStream) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed, so an error cannot come; ending is the safe answer.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Replies are written whole; waiting for more would only add latency.
                drop(stream.set_nodelay(true));
                let serving = connection(stream);
                tokio::spawn(async move {
                    serving.await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
