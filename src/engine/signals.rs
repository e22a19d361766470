//! SIGINT, SIGTERM and the deadline as reasons to stop.
//!
//! One thread listens for the whole process, from the first watch on. Holds: a signal that comes while nobody waits,
//! between two stages of a run, is told to whoever watches next.

use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::Error;

/// Stack of the listening thread: it holds a runtime and two streams.
const STACK_BYTES: usize = 256 << 10;

/// The last signal that came.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    signal: i32,
    /// Nobody was told of it yet.
    is_new: bool,
}

/// Both signals, watched from its making on; and one before that, if nobody has heard of it.
pub struct Signals {
    heard: watch::Receiver<Heard>,
    told: &'static watch::Sender<Heard>,
}

impl Signals {
    /// Starts watching; from here on neither signal ends the process by itself.
    ///
    /// # Errors
    /// [`Error::Internal`] when the process may not.
    pub fn watch() -> Result<Self, Error> {
        static LISTENER: OnceLock<Result<watch::Sender<Heard>, String>> = OnceLock::new();
        let listener = LISTENER.get_or_init(|| listen().map_err(|error| error.to_string())).as_ref();
        let told = listener.map_err(|error| Error::Internal(format!("signals cannot be watched: {error}")))?;
        let mut heard = told.subscribe();
        let is_new = heard.borrow().is_new;
        if is_new {
            heard.mark_changed();
        }
        Ok(Self { heard, told })
    }

    /// Waits for the next signal; its reason carries the exit code. Cancel-safe.
    pub async fn next(&mut self) -> Error {
        // The sender lives as long as the process: this does not fail.
        if self.heard.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let signal = self.heard.borrow_and_update().signal;
        self.told.send_if_modified(|heard| {
            heard.is_new = false;
            // Whoever else watches now was told of it as well.
            false
        });
        Error::Interrupted { signal }
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

/// Starts the listening thread; both signals are caught when this returns.
fn listen() -> std::io::Result<watch::Sender<Heard>> {
    let told = watch::Sender::new(Heard::default());
    let (ready, begun) = sync_channel(1);
    let sender = told.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || tell(&sender, &ready))?;
    begun.recv().unwrap_or_else(|_| Err(std::io::Error::other("the listening thread ended")))?;
    Ok(told)
}

/// Tells of every signal, for as long as the process lives.
fn tell(told: &watch::Sender<Heard>, ready: &SyncSender<std::io::Result<()>>) {
    let begin = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let inside = runtime.enter();
        let streams = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(inside);
        Ok((runtime, streams))
    };
    let (runtime, (mut interrupt, mut terminate)) = match begin() {
        Ok(begun) => begun,
        // Whoever waits for this hears why; nobody else does.
        Err(error) => return drop(ready.send(Err(error))),
    };
    drop(ready.send(Ok(())));
    runtime.block_on(async {
        loop {
            let signal = tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            };
            told.send_replace(Heard { signal, is_new: true });
        }
    });
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn a_signal_that_nobody_waited_for_is_told_to_whoever_watches_next_and_once() {
        let stale = Signals::watch().unwrap();
        // No other test of this program waits for signals.
        kill_process(getpid(), Signal::TERM).unwrap();
        let began = Instant::now();
        while !stale.heard.borrow().is_new {
            assert!(began.elapsed().as_secs() < 30, "the signal was not heard");
            std::thread::yield_now();
        }
        drop(stale);
        let mut late = Signals::watch().unwrap();
        assert_eq!(late.next().now_or_never(), Some(Error::Interrupted { signal: 15 }));
        let mut later = Signals::watch().unwrap();
        for signals in [&mut late, &mut later] {
            assert_eq!(signals.next().now_or_never(), None);
        }
    }
}
