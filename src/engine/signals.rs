//! SIGINT, SIGTERM and the deadline as reasons to stop.

use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

/// Both signals, watched from its making on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts watching; from here on neither signal ends the process by itself.
    ///
    /// # Errors
    /// [`Error::Internal`] when the process may not.
    pub fn watch() -> Result<Self, Error> {
        let broken = |error: std::io::Error| Error::Internal(format!("signals cannot be watched: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(broken)?,
            terminate: signal(SignalKind::terminate()).map_err(broken)?,
        })
    }

    /// Waits for the next signal; its reason carries the exit code. Cancel-safe.
    pub async fn next(&mut self) -> Error {
        tokio::select! {
            _ = self.interrupt.recv() => Error::Interrupted { signal: 2 },
            _ = self.terminate.recv() => Error::Interrupted { signal: 15 },
        }
    }

    /// Does `work` unless a signal comes first; then the work is abandoned.
    ///
    /// # Errors
    /// The work's own, or [`Error::Interrupted`].
    pub async fn unless<T>(&mut self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            result = work => result,
            stop = self.next() => Err(stop),
        }
    }
}

/// Does `work` unless the deadline comes first; then the work is abandoned.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match deadline {
        None => work.await,
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(late())),
    }
}

pub(super) fn late() -> Error {
    Error::Network("the deadline passed before the model was whole; run again to resume".to_owned())
}
