//! A connection of the lane, in the one step that a socket cannot be asked to give up: a runtime waits for it.
//!
//! Holds: it ends by its timeout, or soon after the run does.

use std::io::ErrorKind;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::job::{Job, PATIENCE};
use crate::error::{Failure, FailureKind};

/// Connects for the connection `number`.
pub(super) async fn connect(job: &Job<'_>, number: usize) -> Result<TcpStream, Failure> {
    let unreachable = |error: std::io::Error| job.failure(FailureKind::Unreachable, error);
    let address = job.addresses[number % job.addresses.len()];
    let connected = timeout(job.work.wire.connect_timeout, TcpStream::connect(address));
    let connected = tokio::select! {
        connected = connected => connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
        stopped = stopped(job) => return Err(stopped),
    };
    let tcp = connected.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    Ok(tcp)
}

/// [`connect`] for a thread that blocks on its socket from then on.
pub(super) fn connect_blocking(job: &Job<'_>, number: usize) -> Result<std::net::TcpStream, Failure> {
    let unreachable = |error: std::io::Error| job.failure(FailureKind::Unreachable, error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let tcp = runtime.block_on(connect(job, number))?.into_std().map_err(unreachable)?;
    tcp.set_nonblocking(false).and_then(|()| tcp.set_read_timeout(Some(PATIENCE))).map_err(unreachable)?;
    tcp.set_write_timeout(Some(job.work.wire.stall_timeout)).map_err(unreachable)?;
    Ok(tcp)
}

/// Waits for the end of the run.
async fn stopped(job: &Job<'_>) -> Failure {
    loop {
        if let Err(stopped) = job.check() {
            return stopped;
        }
        sleep(PATIENCE).await;
    }
}
