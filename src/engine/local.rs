//! A pull whose files are on this machine already: shared or copied into part files, hashed there, then sealed.
//!
//! In: a [`Pull`] whose origin is local. Out: what any pull leaves: sealed files, tree, receipt, report.
//! Holds: the steps of a network pull in their order: data, sync, journal; proof, seal; tree, receipt. A source that is
//! not what was planned, before or after its copy, is not published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::audit;
use crate::disk::{Dest, IoWish};
use crate::engine::drive::STOP_GRACE;
use crate::engine::observe::TICK;
use crate::engine::resume::Adopted;
use crate::engine::signals::{late, within};
use crate::engine::{Observer, Outcome, Phase, Pull, ReadBytes, Signals, Snapshot, copy, lock, publish};
use crate::error::{Error, storage};
use crate::manifest::receipt::Receipt;
use crate::report::{Assurance, Bottleneck, Bytes, FileReport, Io, Report};
use crate::schedule::{Brake, Progress};

/// What the thread that copies and the run that watches it share.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Set by the run: end at the next step.
    stop: AtomicBool,
    /// Bytes brought over in this run and hashed.
    pub(super) copied: AtomicU64,
    /// Bytes durable, reused ones included.
    pub(super) durable: AtomicU64,
    /// Bytes durable before this run.
    pub(super) reused: AtomicU64,
    /// Files under their final name.
    pub(super) files_done: AtomicU64,
    /// Bytes read back from DEST, or of sources that are only hashed.
    pub(super) read: ReadBytes,
    /// The last step: the receipt.
    pub(super) publishing: AtomicBool,
}

impl Watch {
    /// Ends the thread's work once the run has asked for it; the run knows the true reason.
    pub(super) fn go_on(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Error::Internal("copying was stopped".to_owned()));
        }
        Ok(())
    }

    fn snapshot(&self, pull: &Pull, ended: Option<Phase>) -> Snapshot {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let progress = Progress {
            bytes_total: pull.manifest.total_bytes(),
            bytes_received: count(&self.copied),
            bytes_fetched: count(&self.copied),
            bytes_durable: count(&self.durable),
            bytes_reused: count(&self.reused),
            files_total: pull.manifest.entries.len(),
            files_done: usize::try_from(count(&self.files_done)).unwrap_or(usize::MAX),
            brake: Brake::Disk,
            ..Progress::default()
        };
        let running = if self.publishing.load(Ordering::Relaxed) { Phase::Publishing } else { Phase::Fetching };
        let phase = ended.unwrap_or(running);
        Snapshot { progress, brake: Brake::Disk, read_bytes: self.read.total(), ..Snapshot::early(phase, pull.started) }
    }
}

/// How the thread ended.
pub(super) enum Done {
    /// Sealed before this run; nothing was written.
    Current(Box<Receipt>),
    /// Sealed now.
    Sealed(Vec<FileReport>),
}

/// Runs `pull` to its end, in `place` where it is given and else in the DEST that the pull names.
pub(super) async fn run(pull: Pull, place: Option<Arc<Dest>>, observer: &mut dyn Observer) -> Outcome {
    let failed = |pull: &Pull, error: Error, observer: &mut dyn Observer| {
        observer.tick(&Snapshot::early(Phase::Stopped, pull.started));
        Outcome { report: publish::empty_report(pull, &error), result: Err(error) }
    };
    let mut signals = match Signals::watch() {
        Ok(signals) => signals,
        Err(error) => return failed(&pull, error, observer),
    };
    let prepared = async {
        let dest = place.map_or_else(|| Dest::open(&pull.dest).map(Arc::new), Ok)?;
        apart(&pull)?;
        let lock = lock::acquire(&dest, pull.started, pull.deadline(), observer).await?;
        Ok((dest, lock))
    };
    let (dest, _lock) = match within(pull.deadline(), signals.unless(prepared)).await {
        Ok(prepared) => prepared,
        Err(error) => return failed(&pull, error, observer),
    };
    let (pull, watch) = (Arc::new(pull), Arc::<Watch>::default());
    let work = copy::Work { pull: pull.clone(), dest, watch: watch.clone() };
    let watched = Watched { pull: &pull, watch: &watch };
    let done = watched.until_end(tokio::task::spawn_blocking(move || work.run()), signals, observer).await;
    let (report, result) = match done {
        Ok(Done::Current(receipt)) => {
            let outcome = publish::current(&pull, &receipt);
            observer.tick(&publish::current_snapshot(&pull, &outcome.report));
            return outcome;
        }
        Ok(Done::Sealed(files)) => (report(&pull, &watch, files, None), Ok(())),
        Err(error) => (report(&pull, &watch, Vec::new(), Some(&error)), Err(error)),
    };
    if result.is_ok() && pull.io != IoWish::Discard {
        publish::record(&pull, &report, audit::Receipt::Written);
    }
    observer.tick(&watch.snapshot(&pull, Some(if result.is_ok() { Phase::Sealed } else { Phase::Stopped })));
    Outcome { report, result }
}

/// Refuses a DEST in which the source is looked for, or the other way round where one would become the other.
fn apart(pull: &Pull) -> Result<(), Error> {
    if pull.io == IoWish::Discard {
        // Only digests come out.
        return Ok(());
    }
    let failed = |error: std::io::Error| storage("look at the destination", &error);
    let dest = std::fs::canonicalize(&pull.dest).map_err(failed)?;
    let source = pull.manifest.source.strip_prefix("file://").unwrap_or_default();
    let within = std::fs::canonicalize(source).is_ok_and(|source| dest.starts_with(source));
    let same = |entry: &crate::manifest::Entry| {
        std::fs::canonicalize(&entry.object).is_ok_and(|object| object == dest.join(entry.path.as_str()))
    };
    if within || pull.manifest.entries.iter().any(same) {
        let text = format!("`{}` is within the source: a model is not copied into itself", pull.dest.display());
        return Err(Error::Usage(text));
    }
    Ok(())
}

/// The thread that copies, seen from the run.
struct Watched<'a> {
    pull: &'a Pull,
    watch: &'a Watch,
}

impl Watched<'_> {
    /// Waits for the thread; a signal or the deadline ends it at its next step.
    async fn until_end(
        self,
        mut thread: JoinHandle<Result<Done, Error>>,
        mut signals: Signals,
        observer: &mut dyn Observer,
    ) -> Result<Done, Error> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let deadline = tokio::time::sleep_until(self.pull.deadline().unwrap_or(far).into());
        tokio::pin!(deadline);
        let lost = |_| Err(Error::Internal("copying was lost".to_owned()));
        let reason = loop {
            tokio::select! {
                biased;
                ended = &mut thread => return ended.unwrap_or_else(lost),
                asked = signals.next() => break asked,
                () = &mut deadline => break late(),
                _ = tick.tick() => observer.tick(&self.watch.snapshot(self.pull, None)),
            }
        };
        self.watch.stop.store(true, Ordering::Release);
        // A disk that hangs must not hold up the stop; what is sealed all the same is a success.
        match tokio::time::timeout(STOP_GRACE, &mut thread).await {
            Ok(Ok(Ok(done))) => Ok(done),
            _ => Err(reason),
        }
    }
}

/// The report of a run that copied.
fn report(pull: &Pull, watch: &Watch, files: Vec<FileReport>, error: Option<&Error>) -> Report {
    let base = match error {
        Some(error) => publish::empty_report(pull, error),
        None => publish::report(pull, None, None, None, &Adopted::new()),
    };
    let files = if files.is_empty() { base.files } else { files };
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Report {
        assurance: Assurance::weakest(&files),
        files,
        bytes: Bytes {
            total: pull.manifest.total_bytes(),
            fetched: count(&watch.copied),
            reused: count(&watch.reused),
        },
        io: Io { backend: "buffered", direct: false },
        bottleneck: Bottleneck { verdict: Brake::Disk.word(), ..base.bottleneck },
        ..base
    }
}
