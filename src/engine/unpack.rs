//! A pull whose one file is an archive: the archive is pulled into the state folder, then its members are published.
//!
//! Holds: the archive is proven before a byte of it is unpacked; no member has a final name before all are durable;
//! a failure leaves the archive where the next run finds it, and the receipt is written last.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::audit::{self, Act, Audit};
use crate::disk::scan::ScanFile;
use crate::disk::{self, Dest, DestLock, IoWish, Probe, place};
use crate::engine::drive::STOP_GRACE;
use crate::engine::observe::TICK;
use crate::engine::publish::Publication;
use crate::engine::resume::{self, RECEIPT, SealedState};
use crate::engine::signals::{late, within};
use crate::engine::stage::{self, Kept, Packed, Staged, Staging, Watch};
use crate::engine::{EndedSpan, Observer, Outcome, Phase, Pull, Signals, Snapshot, admit, lock, publish, read};
use crate::error::{Error, storage};
use crate::formats::Allowed;
use crate::manifest::collide::ADVICE;
use crate::manifest::receipt::{ArchiveReceipt, FileReceipt, Receipt};
use crate::manifest::{Entry, Manifest, Ranges, SafePath, Version, collisions};
use crate::report::{Assurance, FileReport, Report};
use crate::schedule::FileStep;
use crate::unpack::{self, Kind};
use crate::verify::tree::{self, Tree};
use crate::verify::{self, Cv, Sums};

/// Runs `pull`, whose manifest is one archive, to its end.
pub(super) async fn run(mut pull: Pull, kind: Kind, observer: &mut dyn Observer) -> Outcome {
    let mut signals = match Signals::watch() {
        Ok(signals) => signals,
        Err(error) => return Outcome { report: publish::empty_report(&pull, &error), result: Err(error) },
    };
    let place = match within(pull.deadline(), signals.unless(prepare(&pull, observer))).await {
        Ok(Prepared::Current(receipt)) => {
            let outcome = publish::current(&pull, &receipt);
            observer.tick(&publish::current_snapshot(&pull, &outcome.report));
            return outcome;
        }
        Ok(Prepared::Work(place)) => place,
        Err(error) => {
            observer.tick(&Snapshot::early(Phase::Stopped, pull.started));
            return Outcome { report: publish::empty_report(&pull, &error), result: Err(error) };
        }
    };
    let (started, deadline, dest) = (pull.started, pull.deadline(), pull.dest.clone());
    let work = Work {
        dest: place.dest,
        site: Site::State(place.packed.clone()),
        kind,
        io: pull.io,
        audit: std::mem::take(&mut pull.audit),
        watch: Arc::default(),
        // The fetch compares the digest with the pin, whichever run fetched the bytes.
        assurance: pull.pin.is_some().then_some(Assurance::Pinned),
        // Of what is published: the archive itself is not.
        formats: pull.formats.take(),
    };
    pull.dest = place.packed.path().to_owned();
    let mut fetching = Fetching { observer: &mut *observer, last: Snapshot::default() };
    let fetched = super::fetch(pull, Some(place.packed), &mut fetching).await;
    let last = fetching.last;
    let mut report = fetched.report;
    report.dest = dest.display().to_string();
    if let Err(error) = fetched.result {
        return Outcome { report, result: Err(error) };
    }
    let watched = Watched { watch: work.watch.clone(), last, started, deadline };
    let result = watched.until_end(tokio::task::spawn_blocking(move || work.run()), signals, observer).await;
    let result = result.map(|receipt| report.files = receipt.files.iter().map(member_report).collect());
    told(&mut report, result.as_ref().err(), started);
    Outcome { report, result }
}

/// An archive that is on this machine already.
#[derive(Debug, Clone)]
pub struct LocalArchive {
    /// Where it is; links on the way are the user's choice.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// The directory its members land in; made when missing.
    pub dest: PathBuf,
    /// Which way to the disk is wanted.
    pub io: IoWish,
    /// When the run has to be over.
    pub deadline: Option<Instant>,
    /// Where digests and the publication are written down.
    pub audit: Audit,
    /// Formats that members may have by their content; any when it is not given.
    pub formats: Option<Allowed>,
}

/// Unpacks a local archive and publishes its members, as [`pull`](crate::engine::pull) does those of a fetched one.
///
/// The archive stays as it is. Its digest is computed and vouched for by nobody.
///
/// # Errors
/// By exit class, as a pull.
pub async fn unpack_local(local: LocalArchive, observer: &mut dyn Observer) -> Result<(), Error> {
    let (started, deadline) = (Instant::now(), local.deadline);
    let mut signals = Signals::watch()?;
    let dest = Arc::new(Dest::open(&local.dest)?);
    let _lock = within(deadline, signals.unless(lock::acquire(&dest, started, deadline, observer))).await?;
    let manifest = local_manifest(&local.path)?;
    if let Some(SealedState { receipt, .. }) = resume::sealed_or_not(&dest)?
        && is_current(&dest, &manifest, &receipt)?
    {
        admit::all_published(&receipt, &dest, local.formats.as_ref())?;
        // The run that wrote the receipt may have died before its name was durable.
        dest.state_sync().map_err(|error| storage("sync the state folder", &error))?;
        resume::clear(&dest);
        published(&local.audit, &receipt, &dest, audit::Receipt::Found);
        observer.tick(&Snapshot::early(Phase::Sealed, started));
        return Ok(());
    }
    let watch: Arc<Watch> = Arc::default();
    let site = Site::Local(local.path, manifest);
    let work = Work {
        dest,
        site,
        kind: local.kind,
        io: local.io,
        audit: local.audit,
        watch: watch.clone(),
        assurance: None,
        formats: local.formats,
    };
    let watched = Watched { watch, last: Snapshot::default(), started, deadline };
    watched.until_end(tokio::task::spawn_blocking(move || work.run()), signals, observer).await.map(drop)
}

/// What a local file is now, as a source of one object.
fn local_manifest(path: &Path) -> Result<Manifest, Error> {
    let failed = |error: std::io::Error| storage(&format!("read `{}`", path.display()), &error);
    let path = std::path::absolute(path).map_err(failed)?;
    let data = std::fs::metadata(&path).map_err(failed)?;
    let changed = data.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let object = path.to_string_lossy().escape_debug().to_string();
    let entry = Entry {
        path: SafePath::parse(&name).map_err(|error| Error::Policy(error.to_string()))?,
        size: Some(data.len()),
        version: Version { last_modified: changed.map(|time| time.as_nanos().to_string()), ..Version::default() },
        ranges: Ranges::Assumed,
        stated: Vec::new(),
        object,
    };
    Ok(Manifest { source: format!("file://{}", entry.object), entries: vec![entry] })
}

enum Prepared {
    /// Sealed already; nothing to fetch or write.
    Current(Box<Receipt>),
    Work(Place),
}

struct Place {
    dest: Arc<Dest>,
    packed: Arc<Dest>,
    _lock: DestLock,
}

async fn prepare(pull: &Pull, observer: &mut dyn Observer) -> Result<Prepared, Error> {
    let failed = |error: std::io::Error| storage("make a place for the archive", &error);
    let dest = Arc::new(Dest::open(&pull.dest)?);
    let lock = lock::acquire(&dest, pull.started, pull.deadline(), observer).await?;
    let sealed = resume::sealed_or_not(&dest)?;
    // A repair knows that something is damaged which sizes do not tell.
    if let Some(SealedState { receipt, .. }) = sealed.filter(|_| pull.sealed.is_none())
        && is_current(&dest, &pull.manifest, &receipt)?
        && publish::suffices(pull, &receipt.clone().of_fetched())
    {
        admit::all_published(&receipt, &dest, pull.formats.as_ref())?;
        // The run that wrote the receipt may have died before its name was durable.
        dest.state_sync().map_err(|error| storage("sync the state folder", &error))?;
        resume::clear(&dest);
        return Ok(Prepared::Current(Box::new(receipt)));
    }
    // Members that an earlier run staged serve nobody: they must not keep the archive from its room.
    dest.remove_unfinished().map_err(failed)?;
    let packed = dest.packed().map_err(failed)?;
    if resume::sealed_or_not(&packed)?.is_some_and(|sealed| !sealed.receipt.matches(&pull.manifest)) {
        // Another archive, which would only take room.
        drop(packed);
        dest.remove_packed().map_err(failed)?;
    }
    let packed = Arc::new(dest.packed().map_err(failed)?);
    Ok(Prepared::Work(Place { dest, packed, _lock: lock }))
}

/// Whether the directory is this very archive unpacked, with every member there in its size.
fn is_current(dest: &Dest, manifest: &Manifest, receipt: &Receipt) -> Result<bool, Error> {
    if receipt.archive.is_none() || !receipt.clone().of_fetched().matches(manifest) {
        return Ok(false);
    }
    for file in &receipt.files {
        let size = dest.file_size(&file.path).map_err(|error| storage("look at a published file", &error))?;
        if size != Some(file.size) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Shows the pull of the archive as what it is: not the end.
struct Fetching<'a> {
    observer: &'a mut dyn Observer,
    last: Snapshot,
}

impl Observer for Fetching<'_> {
    fn tick(&mut self, snapshot: &Snapshot) {
        let phase = if snapshot.phase == Phase::Sealed { Phase::Unpacking } else { snapshot.phase };
        self.last = Snapshot { phase, ..snapshot.clone() };
        self.observer.tick(&self.last);
    }

    fn note(&mut self, line: &str) {
        self.observer.note(line);
    }

    fn end(&mut self, summary: &str) {
        self.observer.end(summary);
    }

    fn span(&mut self, span: &EndedSpan) {
        self.observer.span(span);
    }

    fn report(&mut self, report: &Report) {
        self.observer.report(report);
    }
}

/// The thread that unpacks, seen from the run.
struct Watched {
    watch: Arc<Watch>,
    /// What was seen of the fetching.
    last: Snapshot,
    started: Instant,
    deadline: Option<Instant>,
}

impl Watched {
    /// Waits for the thread; a signal or the deadline ends it at its next read or write.
    async fn until_end(
        self,
        mut thread: JoinHandle<Result<Receipt, Error>>,
        mut signals: Signals,
        observer: &mut dyn Observer,
    ) -> Result<Receipt, Error> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let deadline = tokio::time::sleep_until(self.deadline.unwrap_or(far).into());
        tokio::pin!(deadline);
        let reason = loop {
            tokio::select! {
                biased;
                ended = &mut thread => {
                    let result = ended.unwrap_or_else(|_| Err(Error::Internal("unpacking was lost".to_owned())));
                    self.show(if result.is_ok() { Phase::Sealed } else { Phase::Stopped }, observer);
                    return result;
                }
                asked = signals.next() => break asked,
                () = &mut deadline => break late(),
                _ = tick.tick() => self.show(Phase::Unpacking, observer),
            }
        };
        self.watch.stop.store(true, Ordering::Release);
        // A disk that hangs must not hold up the stop; what is sealed all the same is a success.
        let ended = tokio::time::timeout(STOP_GRACE, &mut thread).await;
        self.show(Phase::Stopped, observer);
        match ended {
            Ok(Ok(Ok(receipt))) => Ok(receipt),
            _ => Err(reason),
        }
    }

    /// Counts stay what they came to; what is read of the archive is read from disk.
    fn show(&self, phase: Phase, observer: &mut dyn Observer) {
        let unpacked = self.watch.bytes_read.load(Ordering::Relaxed);
        let read_bytes = self.last.read_bytes + self.watch.hashed.total() + unpacked;
        let moves = self.last.moves + self.watch.moves.load(Ordering::Relaxed);
        observer.tick(&Snapshot { phase, read_bytes, moves, elapsed: self.started.elapsed(), ..self.last.clone() });
    }
}

/// Where the archive is.
enum Site {
    /// Sealed in the state folder.
    State(Arc<Dest>),
    /// Somewhere on this machine, as it was described.
    Local(PathBuf, Manifest),
}

/// What the thread that unpacks needs.
struct Work {
    dest: Arc<Dest>,
    site: Site,
    kind: Kind,
    io: IoWish,
    audit: Audit,
    watch: Arc<Watch>,
    /// What the demands of this run make of the archive, whatever an earlier run knew of it.
    assurance: Option<Assurance>,
    /// What members may be.
    formats: Option<Allowed>,
}

impl Work {
    /// Stages every member, then publishes all of them.
    fn run(self) -> Result<Receipt, Error> {
        // What another run staged, or an unfinished pull of other files left.
        self.dest.remove_unfinished().map_err(|error| storage("make room for the members", &error))?;
        let archive = match &self.site {
            Site::State(packed) => Archive::packed(packed)?,
            Site::Local(path, manifest) => Archive::local(path, manifest, &self.watch)?,
        };
        let Archive { source, mut file, cvs, bytes } = archive.ok_or(()).map_err(|()| self.forget_packed())?;
        if let Some(assurance) = self.assurance {
            file.assurance = assurance.word().to_owned();
        }
        let (probe, staged) = self.staged(&file, cvs, bytes).inspect_err(|error| self.clean(error, &file))?;
        self.watch.go_on()?;
        let archive = ArchiveReceipt::new(file, self.kind.word());
        let (files, cvs) =
            staged.iter().map(|one| (archive.member(one.path.clone(), one.size, one.blake3), one.cvs.clone())).unzip();
        let tree = tree::encode(&Tree { files: cvs });
        let receipt = Receipt { archive: Some(archive), ..Receipt::new(source, files, &tree) };
        self.publish(&receipt, tree, &staged, &probe)?;
        audited(&self.audit, &receipt, &self.dest);
        Ok(receipt)
    }

    /// Removes an archive that cannot be proven, and says so.
    fn forget_packed(&self) -> Error {
        let removed = self.dest.remove_packed().err();
        let text = "the archive on disk is not what it was; run again";
        removed.map_or_else(|| Error::Storage(text.to_owned()), |error| storage("remove the archive", &error))
    }

    /// Every member in its part file, sorted by path.
    fn staged(&self, file: &FileReceipt, cvs: Vec<Cv>, bytes: ScanFile) -> Result<(Arc<Probe>, Vec<Staged>), Error> {
        let probe = Arc::new(disk::probe(&self.dest, self.io)?);
        let mut input = Packed::new(bytes, file.size, cvs, self.watch.clone())?;
        let mut staging = Staging::new(self.dest.clone(), probe.clone(), file.blake3, self.watch.clone())?;
        let unpacked = unpack::unpack(self.kind, &mut input, &mut staging);
        if input.kept() == Kept::Changed {
            return Err(self.forget_packed());
        }
        input.failed().map_or(unpacked, Err)?;
        let mut members = staging.into_members();
        if members.is_empty() {
            return Err(Error::NotFound("the archive holds no file".to_owned()));
        }
        members.sort_by(|one, two| one.path.cmp(&two.path));
        collisions(members.iter().map(|member| &member.path)).map_err(|error| {
            let text = error.to_string();
            Error::Policy(format!("the archive is refused: {}", text.strip_suffix(ADVICE).unwrap_or(&text)))
        })?;
        if let Some(allowed) = &self.formats {
            let admit = |member: &Staged| admit::of_part(&self.dest, &member.id, &member.path, member.size, allowed);
            members.iter().try_for_each(admit)?;
        }
        Ok((probe, members))
    }

    /// Removes what no later run can use. A stop has no time for it.
    fn clean(&self, error: &Error, archive: &FileReceipt) {
        // Bytes that nobody vouched for may come whole the next time; bytes that the store proved will not change.
        let useless = matches!(error, Error::Integrity(_)) && archive.assurance == Assurance::Hashed.word();
        let staged = matches!(error, Error::Integrity(_) | Error::Policy(_) | Error::NotFound(_) | Error::DiskFull(_));
        let removed = if staged { self.dest.remove_unfinished() } else { Ok(()) };
        let removed = removed.and(if useless { self.dest.remove_packed() } else { Ok(()) });
        if let Err(error) = removed {
            tracing::warn!(%error, "what was unpacked in vain could not be removed");
        }
    }

    /// Gives all members their final names, then writes tree and receipt. From the first name on nothing stops it.
    fn publish(&self, receipt: &Receipt, tree: Vec<u8>, staged: &[Staged], probe: &Probe) -> Result<(), Error> {
        // From the first new name on, the old receipt would lie.
        self.dest.state_remove(RECEIPT).map_err(|error| storage("remove the old receipt", &error))?;
        for member in staged {
            let part = self.dest.part_open(&member.id, None, probe).map_err(stage::failed)?;
            if !part.adopted() {
                return Err(Error::Storage(format!("the part file of `{}` is gone", member.path)));
            }
            self.dest.seal_step(FileStep::Rename, &part, &member.path, member.size).map_err(stage::failed)?;
            self.watch.moved();
        }
        Publication::of_receipt(receipt.clone(), tree).run(&self.dest).map_err(stage::failed)
    }
}

/// An archive and what is known of it.
struct Archive {
    source: String,
    file: FileReceipt,
    cvs: Vec<Cv>,
    bytes: ScanFile,
}

impl Archive {
    /// The one sealed in the state folder; `None` when receipt and tree do not speak of one file that is there.
    fn packed(packed: &Dest) -> Result<Option<Self>, Error> {
        let Some(SealedState { receipt, tree: Some(tree) }) = resume::sealed_or_not(packed)? else { return Ok(None) };
        let Receipt { source, mut files, .. } = receipt;
        let mut trees = tree.files;
        let (Some(file), Some(cvs), true, true) = (files.pop(), trees.pop(), files.is_empty(), trees.is_empty()) else {
            return Ok(None);
        };
        let opened = packed.open_published(&file.path).map_err(|error| storage("open the archive", &error))?;
        Ok(opened.map(|bytes| Self { source, file, cvs, bytes }))
    }

    /// A local one, read once to know its digest; `None` when it changes meanwhile.
    fn local(path: &Path, manifest: &Manifest, watch: &Watch) -> Result<Option<Self>, Error> {
        let failed = |error: std::io::Error| storage(&format!("read `{}`", path.display()), &error);
        let Some((entry, size)) = manifest.entries.first().and_then(|entry| Some((entry, entry.size?))) else {
            return Ok(None);
        };
        let bytes = ScanFile::open_local(path).map_err(failed)?;
        let proofs = read::read_all(&bytes, size, Sums::default(), &watch.hashed).map_err(failed)?;
        let digest = verify::root(size, &proofs);
        let file = FileReceipt::new(entry, size, digest, Assurance::Hashed.word(), Vec::new());
        let cvs = proofs.iter().map(|proof| proof.cv).collect();
        Ok(Some(Self { source: manifest.source.clone(), file, cvs, bytes }))
    }
}

/// Writes down what was proven and published.
fn audited(audit: &Audit, receipt: &Receipt, dest: &Dest) {
    let digest = |file: &FileReceipt| {
        audit.record(&Act::Digest {
            path: file.path.as_str(),
            size: file.size,
            blake3: &file.blake3.to_hex(),
            assurance: &file.assurance,
            checks: &file.checks,
        });
    };
    receipt.archive.iter().for_each(|archive| digest(&archive.clone().into_file()));
    receipt.files.iter().for_each(digest);
    published(audit, receipt, dest, audit::Receipt::Written);
}

fn published(audit: &Audit, receipt: &Receipt, dest: &Dest, how: audit::Receipt) {
    audit.record(&Act::Published {
        source: &receipt.source,
        dest: &dest.path().display().to_string(),
        files: receipt.files.len(),
        bytes: receipt.files.iter().map(|file| file.size).fold(0, u64::saturating_add),
        assurance: receipt.archive.as_ref().map_or("", |archive| &archive.assurance),
        receipt: how,
    });
}

fn member_report(file: &FileReceipt) -> FileReport {
    FileReport {
        path: file.path.to_string(),
        size: Some(file.size),
        blake3: Some(file.blake3.to_hex()),
        assurance: Assurance::from_word(&file.assurance),
        checks: Vec::new(),
    }
}

/// Brings the report of the archive's pull up to the end of the whole run.
fn told(report: &mut Report, error: Option<&Error>, started: Instant) {
    let usage = place::usage();
    report.outcome = error.map_or("sealed", Error::class).to_owned();
    report.error = error.map(ToString::to_string);
    // Of files with content, as everywhere: members are known as well as their archive.
    report.assurance = Assurance::weakest(&report.files);
    report.seconds = started.elapsed().as_secs_f64();
    (report.cpu_seconds, report.rss_bytes_max) = (usage.cpu_seconds, usage.rss_bytes_max);
}
