//! Before the first byte: the directory's lock, what it holds already, the way to its disk, room, and a fresh journal.
//!
//! Holds: a pull that is refused here leaves the directory as it found it, journal and clean end included.

use std::sync::Arc;

use crate::disk::{Dest, DestLock, IoWish, Probe};
use crate::engine::crew::Crew;
use crate::engine::{Observer, Phase, Pull, ReadBytes, Snapshot, admit, lock, observed, publish, resume};
use crate::error::Error;
use crate::journal::file::JournalFile;
use crate::manifest::receipt::Receipt;
use crate::plan;
use crate::schedule::{self, FilePlan, Kept};

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
    /// Whether the journal speaks of all files.
    pub(super) kept: Kept,
    pub(super) read_back: ReadBytes,
    /// Whether a receipt lay there when the lock was taken.
    pub(super) had_receipt: bool,
    pub(super) lock: DestLock,
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
    let Entered { dest, lock, bare } = enter(pull, place, crew).await?;
    let lock = match lock {
        Some(lock) => lock,
        None => lock::acquire(&dest, pull.started, pull.deadline(), observer).await?,
    };
    let had_receipt = bare.is_none() && resume::has_receipt(&dest);
    let tally = ReadBytes::default();
    let (resumed, probe, lock) = match bare {
        Some(probe) => (resume::nothing(&pull.manifest), probe, lock),
        None => {
            let sealed = resume::sealed_or_not(&dest)?;
            if let Some(sealed) = &sealed
                && resume::is_current(&dest, &pull.manifest, sealed)?
                && publish::suffices(pull, &sealed.receipt)
            {
                return current(pull, &dest, &sealed.receipt).await;
            }
            pull.names.as_ref().map_or(Ok(()), |_| dest.try_links())?;
            look(pull, Held { dest: dest.clone(), lock, sealed }, crew, &tally, observer).await?
        }
    };
    for note in &probe.notes {
        observer.note(note);
    }
    plan::plan(&pull.manifest, None).preflight(resumed.occupied, probe.free_bytes)?;
    if 0 < resumed.refuted {
        observer.note(&format!("{} pieces were not on disk as journaled; they are fetched again", resumed.refuted));
    }
    let kept = if had_receipt || resumed.journaled { Kept::Journaled } else { keeping(pull, &resumed.plans) };
    let (journal, resumed, lock) = match kept {
        Kept::Unjournaled => (resume::later_journal(&dest), resumed, lock),
        Kept::Journaled => {
            let place = dest.clone();
            apart(move || Ok((resume::fresh_journal(&place, &resumed.plans)?, resumed, lock))).await?
        }
    };
    admit::sealed(pull, &dest, &resumed.plans)?;
    let work = Work { dest, probe, resumed, journal, kept, read_back: tally, had_receipt, lock };
    Ok(Prepared::Work(Box::new(work)))
}

/// A DEST that is open.
struct Entered {
    dest: Arc<Dest>,
    /// `None` when another process holds it.
    lock: Option<DestLock>,
    /// Nothing is kept here, so there is nothing to look at; what its disk allows.
    bare: Option<Arc<Probe>>,
}

/// Opens and locks DEST, in one turn with the look at its disk where that is all there is to look at.
async fn enter(pull: &Pull, place: Option<Arc<Dest>>, crew: &Arc<Crew>) -> Result<Entered, Error> {
    let (opening, crew, io) = (resume::opening(pull), crew.clone(), pull.io);
    // A cache of the Hub holds files of other revisions that no state speaks of.
    let plain = pull.names.is_none();
    apart(move || {
        let dest = place.map_or_else(|| Ok(Arc::new(opening()?.below(crew.above.clone()))), Ok)?;
        let lock = dest.try_lock()?;
        let bare = plain && lock.is_some() && resume::is_bare(&dest)?;
        let bare = if bare { Some(Arc::new(crew.probes.probe(&dest, io)?)) } else { None };
        Ok(Entered { dest, lock, bare })
    })
    .await
}

/// A DEST that is locked, and what it says of itself.
struct Held {
    dest: Arc<Dest>,
    lock: DestLock,
    sealed: Option<resume::SealedState>,
}

/// What DEST holds, and what its disk allows. Reading back after an unclean stop may take minutes; signals are heard
/// meanwhile.
async fn look(
    pull: &Pull,
    held: Held,
    crew: &Arc<Crew>,
    tally: &ReadBytes,
    observer: &mut dyn Observer,
) -> Result<(resume::Resumed, Arc<Probe>, DestLock), Error> {
    let (manifest, io, counted, crew) = (pull.manifest.clone(), pull.io, tally.clone(), crew.clone());
    let work = async {
        let _turn = crew.looks.clone().acquire_owned().await;
        apart(move || {
            let Held { dest, lock, sealed } = held;
            let resumed = resume::resume(&dest, &manifest, sealed.as_ref(), &counted)?;
            // After parts that no longer serve have made room: a full disk refuses even the trial.
            Ok((resumed, Arc::new(crew.probes.probe(&dest, io)?), lock))
        })
        .await
    };
    let look = || Snapshot { read_bytes: tally.total(), ..Snapshot::early(Phase::Reading, pull.started) };
    observed(observer, look, work).await
}

/// A DEST that is sealed as this version.
async fn current(pull: &Pull, dest: &Arc<Dest>, receipt: &Receipt) -> Result<Prepared, Error> {
    admit::all_published(receipt, dest, pull.formats.as_ref())?;
    resume::settle(dest)?;
    publish::add_names(pull, dest).await?;
    Ok(Prepared::Current(Box::new(receipt.clone())))
}

/// Whether the run needs a journal from its beginning, in a directory that has none.
///
/// Files that are looked at before they have a name are found by their journaled parts, and a cache of the Hub shares
/// its parts between revisions.
fn keeping(pull: &Pull, plans: &[FilePlan]) -> Kept {
    let plain = pull.io != IoWish::Discard && pull.formats.is_none() && pull.names.is_none();
    if plain { schedule::kept(plans) } else { Kept::Journaled }
}

/// Does `work` beside the control thread, which other pulls share. What it is given it keeps to its end, also when
/// nobody waits any more: a lock in it is held for as long as it writes.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let lost = |_| Err(Error::Internal("the look at what is on disk was lost".to_owned()));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}
