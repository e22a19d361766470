//! One process at a time works on a DEST; a second one waits while the first makes progress.

use std::time::{Duration, Instant};

use crate::disk::{Dest, DestLock};
use crate::engine::{Observer, Phase, Snapshot};
use crate::error::Error;

/// How often the lock is tried.
const POLL: Duration = Duration::from_millis(200);

/// No change under `.dray/` for this long means the holder hangs.
const HOLDER_IDLE_MAX: Duration = Duration::from_secs(120);

/// Takes the lock of `dest` for a run that began at `started`, waiting for another process as long as its state moves.
///
/// # Errors
/// [`Error::Network`] ("try again later") when the holder makes no progress or the deadline passes.
pub(super) async fn acquire(
    dest: &Dest,
    started: Instant,
    deadline: Option<Instant>,
    observer: &mut dyn Observer,
) -> Result<DestLock, Error> {
    let mut told = false;
    let mut moves = 0;
    let mut last_mark = dest.activity();
    let mut moved = Instant::now();
    loop {
        if let Some(lock) = dest.try_lock()? {
            return Ok(lock);
        }
        if !told {
            observer.note("another process works on this directory; waiting for it");
            told = true;
        }
        let mark = dest.activity();
        if mark != last_mark {
            (last_mark, moved) = (mark, Instant::now());
            moves += 1;
        }
        if HOLDER_IDLE_MAX < moved.elapsed() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::Network(
                "another process holds this directory and does not finish; try again later".to_owned(),
            ));
        }
        observer.tick(&Snapshot { moves, ..Snapshot::early(Phase::Waiting, started) });
        tokio::time::sleep(POLL).await;
    }
}
