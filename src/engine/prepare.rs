//! Before the first byte: the directory's lock, what it holds already, the way to its disk, room, and a fresh journal.
//!
//! Holds: a pull that is refused here leaves the directory as it found it, journal and clean end included.

use std::sync::Arc;

use crate::disk::{Dest, DestLock, Probe};
use crate::engine::crew::Crew;
use crate::engine::{Observer, Phase, Pull, ReadBytes, Snapshot, admit, lock, observed, publish, resume};
use crate::error::Error;
use crate::journal::file::JournalFile;
use crate::manifest::receipt::Receipt;
use crate::plan;

/// What a pull finds when it begins.
pub(super) enum Prepared {
    /// Sealed already; nothing to fetch or write.
    Current(Box<Receipt>),
    /// Something is to be fetched.
    Work(Box<Work>),
}

/// What there is to do it with.
pub(super) struct Work {
    pub(super) dest: Arc<Dest>,
    pub(super) probe: Arc<Probe>,
    pub(super) resumed: resume::Resumed,
    pub(super) journal: JournalFile,
    pub(super) read_back: ReadBytes,
    /// Whether a receipt lay there when the lock was taken.
    pub(super) had_receipt: bool,
    _lock: DestLock,
}

/// Adopts what DEST holds, and makes the rest ready.
///
/// # Errors
/// By exit class; nothing was fetched.
pub(super) async fn prepare(
    pull: &Pull,
    place: Option<Arc<Dest>>,
    crew: &Arc<Crew>,
    observer: &mut dyn Observer,
) -> Result<Prepared, Error> {
    let dest = match place {
        Some(dest) => dest,
        None => Arc::new(apart(resume::opening(pull)).await?),
    };
    let lock = lock::acquire(&dest, pull.started, pull.deadline(), observer).await?;
    let had_receipt = resume::has_receipt(&dest);
    let sealed = resume::sealed_or_not(&dest)?;
    if let Some(sealed) = &sealed
        && resume::is_current(&dest, &pull.manifest, sealed)?
        && publish::suffices(pull, &sealed.receipt)
    {
        admit::all_published(&sealed.receipt, &dest, pull.formats.as_ref())?;
        resume::settle(&dest)?;
        publish::add_names(pull, &dest).await?;
        return Ok(Prepared::Current(Box::new(sealed.receipt.clone())));
    }
    pull.names.as_ref().map_or(Ok(()), |_| dest.try_links())?;
    let tally = ReadBytes::default();
    let (resumed, probe, lock) = {
        // Reading back after an unclean stop may take minutes; signals must be heard meanwhile.
        let (dest, manifest, io, counted) = (dest.clone(), pull.manifest.clone(), pull.io, tally.clone());
        let crew = crew.clone();
        let work = async {
            let _turn = crew.looks.clone().acquire_owned().await;
            apart(move || {
                let resumed = resume::resume(&dest, &manifest, sealed.as_ref(), &counted)?;
                // After parts that no longer serve have made room: a full disk refuses even the trial.
                Ok((resumed, Arc::new(crew.probes.probe(&dest, io)?), lock))
            })
            .await
        };
        let look = || Snapshot { read_bytes: tally.total(), ..Snapshot::early(Phase::Reading, pull.started) };
        observed(observer, look, work).await?
    };
    for note in &probe.notes {
        observer.note(note);
    }
    plan::plan(&pull.manifest, None).preflight(resumed.occupied, probe.free_bytes)?;
    if 0 < resumed.refuted {
        observer.note(&format!("{} pieces were not on disk as journaled; they are fetched again", resumed.refuted));
    }
    let place = dest.clone();
    let begin = move || Ok((resume::fresh_journal(&place, &resumed.plans)?, resumed, lock));
    let (journal, resumed, lock) = apart(begin).await?;
    admit::sealed(pull, &dest, &resumed.plans)?;
    Ok(Prepared::Work(Box::new(Work { dest, probe, resumed, journal, read_back: tally, had_receipt, _lock: lock })))
}

/// Does `work` beside the control thread, which other pulls share. What it is given it keeps to its end, also when
/// nobody waits any more: a lock in it is held for as long as it writes.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let lost = |_| Err(Error::Internal("the look at what is on disk was lost".to_owned()));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}
