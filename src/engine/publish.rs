//! The last steps of a run: tree and receipt, and the report of how it went.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::{self, Act};
use crate::disk::{Dest, Probe, place};
use crate::engine::resume::{Adopted, RECEIPT, TREE};
use crate::engine::{Outcome, Phase, Pull, Require, Snapshot};
use crate::error::{Error, Failure, FailureKind};
use crate::manifest::receipt::{FileReceipt, Receipt};
use crate::manifest::{Digest, Entry, Names, SafePath};
use crate::report::{Assurance, Bottleneck, Bytes, CheckReport, FileReport, Io, Report, Requests, SCHEMA};
use crate::schedule::{FileIndex, MODEL_SEAL, ModelStep, Progress, Scheduler};
use crate::verify::tree::Tree;
use crate::verify::{self, Check};

/// Everything [`MODEL_SEAL`] needs, taken out of the run so that it can work on another thread.
pub(super) struct Publication {
    paths: Vec<SafePath>,
    names: Option<Arc<Names>>,
    tree: Vec<u8>,
    receipt: Receipt,
}

impl Publication {
    /// Gathers proofs and checks of every file; all of them are sealed.
    pub(super) fn of(pull: &Pull, scheduler: &Scheduler, adopted: &Adopted) -> Self {
        let mut files = Vec::with_capacity(pull.manifest.entries.len());
        let mut tree = Tree::default();
        for (index, entry) in pull.manifest.entries.iter().enumerate() {
            let view = scheduler.file(index);
            let size = view.size().unwrap_or(0);
            let digest = view.digest().unwrap_or_else(|| verify::root(size, view.proofs()));
            let earlier = adopted.get(&index).filter(|file| file.is(entry) && file.blake3 == digest);
            let assurance = assurance(view.checks(), earlier);
            files.push(FileReceipt::new(entry, size, digest, assurance.word(), matched(view.checks(), earlier)));
            tree.files.push(view.proofs().iter().map(|proof| proof.cv).collect());
        }
        let tree = verify::tree::encode(&tree);
        let receipt = Receipt::new(pull.manifest.source.clone(), files, &tree);
        let paths = pull.manifest.entries.iter().map(|entry| entry.path.clone()).collect();
        Self { paths, names: pull.names.clone(), tree, receipt }
    }

    /// The last steps for files that have their final names, of which `receipt` and its `tree` speak.
    pub(super) fn of_receipt(receipt: Receipt, tree: Vec<u8>) -> Self {
        Self { paths: receipt.files.iter().map(|file| file.path.clone()).collect(), names: None, tree, receipt }
    }

    /// The last steps where nothing has a name: only `receipt` and its `tree` are written.
    pub(super) fn of_digests(receipt: Receipt, tree: Vec<u8>) -> Self {
        Self { paths: Vec::new(), names: None, tree, receipt }
    }

    /// Runs [`MODEL_SEAL`].
    pub(super) fn run(&self, dest: &Dest) -> Result<(), Failure> {
        MODEL_SEAL.into_iter().try_for_each(|step| self.step(dest, step))
    }

    fn step(&self, dest: &Dest, step: ModelStep) -> Result<(), Failure> {
        let done = match step {
            ModelStep::SyncFolders => dest.sync_folders(self.paths.iter()),
            ModelStep::AddNames => return self.names.as_ref().map_or(Ok(()), |names| dest.add_names(names)),
            // Its name lasts with the receipt's. Should a power cut keep only that, the digests still prove the files.
            ModelStep::WriteTree => dest.state_put(TREE, &self.tree),
            ModelStep::WriteReceipt => dest.state_write(RECEIPT, &self.receipt.to_bytes()),
            ModelStep::RemoveJournal => dest.remove_journal(),
        };
        done.map_err(|error| Failure::disk("publish the model", &error))
    }
}

/// Adds what a layout wants beside files that are sealed already: another revision may have the same ones.
pub(super) async fn add_names(pull: &Pull, dest: &Arc<Dest>) -> Result<(), Error> {
    let Some(names) = pull.names.clone() else { return Ok(()) };
    let dest = dest.clone();
    let added = tokio::task::spawn_blocking(move || dest.add_names(&names)).await;
    let lost = |_| Err(Failure::new(FailureKind::Disk, "the links were lost"));
    added.unwrap_or_else(lost).map_err(|failure| Error::of(failure.kind, failure.detail))
}

/// How strongly content is known: by this run's checks, or by what an earlier receipt proved of the same bytes.
pub(super) fn assurance(checks: &[Check], earlier: Option<&FileReceipt>) -> Assurance {
    let now = Assurance::of(checks);
    earlier.map_or(now, |file| Assurance::from_word(&file.assurance).max(now))
}

/// Names of the statements that matched, now or earlier.
pub(super) fn matched(checks: &[Check], earlier: Option<&FileReceipt>) -> Vec<String> {
    let mut names = earlier.map(|file| file.checks.clone()).unwrap_or_default();
    for check in checks.iter().filter(|check| check.matches) {
        if names.iter().all(|name| name != check.name) {
            names.push(check.name.to_owned());
        }
    }
    names
}

/// Whether what a receipt proves is all that `pull` demands.
pub(super) fn suffices(pull: &Pull, receipt: &Receipt) -> bool {
    match &pull.pin {
        // Every digest is compared with the pin: there is no stronger demand.
        Some(pin) => pinned(pin, receipt),
        None => meets(pull.require, receipt),
    }
}

/// Whether a receipt proves enough for `require`.
fn meets(require: Require, receipt: &Receipt) -> bool {
    receipt.files.iter().filter(|file| 0 < file.size).all(|file| match require {
        Require::None => true,
        Require::Origin => file.assurance != Assurance::Hashed.word(),
        Require::Pinned => file.assurance == Assurance::Pinned.word(),
    })
}

/// Whether every file of `receipt` has the digest that `pin` demands.
fn pinned(pin: &Receipt, receipt: &Receipt) -> bool {
    let digests: BTreeMap<_, Digest> = pin.files.iter().map(|file| (&file.path, file.blake3)).collect();
    receipt.files.iter().all(|file| digests.get(&file.path) == Some(&file.blake3))
}

/// Holds a directory that was proven against its receipt to what the user demands of it.
///
/// # Errors
/// [`Error::Integrity`] when its files are not those of `pin`, or not known as well as `require` asks.
pub fn demanded(receipt: &Receipt, require: Require, pin: Option<Receipt>) -> Result<(), Error> {
    let fetched = receipt.clone().of_fetched();
    let Some(pin) = pin.map(Receipt::of_fetched) else {
        let text = "the files are not known as well as --require asks: their receipt says how well";
        return if meets(require, &fetched) { Ok(()) } else { Err(Error::Integrity(text.to_owned())) };
    };
    // A pin of an archive speaks of the archive, one of loose files of the members.
    let same = |receipt: &Receipt| receipt.files.len() == pin.files.len() && pinned(&pin, receipt);
    if same(&fetched) || same(receipt) {
        return Ok(());
    }
    Err(Error::Integrity("the files are as they were sealed, and not as pinned".to_owned()))
}

/// The outcome for a directory that is sealed as this version already.
pub(super) fn current(pull: &Pull, receipt: &Receipt) -> Outcome {
    let mut report = report(pull, None, None, None, &Adopted::new());
    report.files = receipt.files.iter().map(|file| adopted_report(pull, file)).collect();
    report.assurance = Assurance::weakest(&report.files);
    report.bytes.reused = report.bytes.total;
    record(pull, &report, audit::Receipt::Found);
    Outcome { report, result: Ok(()) }
}

/// What an observer sees of [`current`].
pub(super) fn current_snapshot(pull: &Pull, report: &Report) -> Snapshot {
    let (bytes, files) = (report.bytes.total, report.files.len());
    let progress = Progress {
        bytes_total: bytes,
        bytes_durable: bytes,
        bytes_reused: bytes,
        files_total: files,
        files_done: files,
        ..Progress::default()
    };
    Snapshot { progress, ..Snapshot::early(Phase::Sealed, pull.started) }
}

/// Writes down that DEST is whole.
pub(super) fn record(pull: &Pull, report: &Report, receipt: audit::Receipt) {
    pull.audit.record(&Act::Published {
        source: &report.resolved,
        dest: &report.dest,
        files: report.files.len(),
        bytes: report.bytes.total,
        assurance: report.assurance.word(),
        receipt,
    });
}

/// Writes down the digest of a file that got its final name.
pub(super) fn record_digest(pull: &Pull, scheduler: &Scheduler, index: FileIndex, adopted: &Adopted) {
    let (entry, view) = (&pull.manifest.entries[index], scheduler.file(index));
    let Some(digest) = view.digest() else { return };
    let earlier = adopted.get(&index).filter(|file| file.is(entry) && file.blake3 == digest);
    pull.audit.record(&Act::Digest {
        path: entry.path.as_str(),
        size: view.size().unwrap_or(0),
        blake3: &digest.to_hex(),
        assurance: assurance(view.checks(), earlier).word(),
        checks: &matched(view.checks(), earlier),
    });
}

/// Writes down the digest of a file that got its final name and that no earlier receipt speaks of.
pub(super) fn record_proven(pull: &Pull, entry: &Entry, digest: Digest, checks: &[Check]) {
    pull.audit.record(&Act::Digest {
        path: entry.path.as_str(),
        size: entry.size.unwrap_or(0),
        blake3: &digest.to_hex(),
        assurance: Assurance::of(checks).word(),
        checks: &matched(checks, None),
    });
}

/// The report of a run that failed before anything was planned on disk.
pub(super) fn empty_report(pull: &Pull, error: &Error) -> Report {
    report(pull, None, None, Some(error), &Adopted::new())
}

/// The report of a run.
pub(super) fn report(
    pull: &Pull,
    scheduler: Option<&Scheduler>,
    probe: Option<&Probe>,
    error: Option<&Error>,
    adopted: &Adopted,
) -> Report {
    let progress = scheduler.map(Scheduler::progress).unwrap_or_default();
    let files: Vec<FileReport> = (0..pull.manifest.entries.len())
        .map(|index| file_report(pull, scheduler, index, adopted.get(&index)))
        .collect();
    let usage = place::usage();
    let shares = scheduler.map(|scheduler| scheduler.shares().fractions()).unwrap_or_default();
    let verdict = scheduler.map_or("network", |scheduler| scheduler.shares().verdict().word());
    Report {
        schema: SCHEMA,
        outcome: error.map_or("sealed", Error::class).to_owned(),
        error: error.map(ToString::to_string),
        source: pull.asked.clone(),
        resolved: pull.origin.resolved().unwrap_or_else(|| pull.manifest.source.clone()),
        dest: pull.dest.display().to_string(),
        assurance: Assurance::weakest(&files),
        files,
        bytes: Bytes {
            total: scheduler.map_or_else(|| pull.manifest.total_bytes(), |_| progress.bytes_total),
            fetched: progress.bytes_fetched,
            reused: progress.bytes_reused,
        },
        requests: Requests {
            total: progress.requests_total,
            retried: progress.requests_retried,
            hedged: progress.requests_hedged,
        },
        seconds: pull.started.elapsed().as_secs_f64(),
        cpu_seconds: usage.cpu_seconds,
        rss_bytes_max: usage.rss_bytes_max,
        io: Io {
            backend: probe.map_or("none", |probe| probe.rung.word()),
            direct: probe.is_some_and(|probe| probe.direct),
        },
        bottleneck: Bottleneck { verdict, shares },
    }
}

fn file_report(pull: &Pull, scheduler: Option<&Scheduler>, index: usize, adopted: Option<&FileReceipt>) -> FileReport {
    let entry = &pull.manifest.entries[index];
    let view = scheduler.map(|scheduler| scheduler.file(index));
    let checks = view.as_ref().map(|view| view.checks()).unwrap_or_default();
    let digest = view.as_ref().and_then(|view| view.digest());
    let earlier = adopted.filter(|file| file.is(entry) && digest == Some(file.blake3));
    FileReport {
        path: entry.path.to_string(),
        size: view.as_ref().and_then(|view| view.size()).or(entry.size),
        blake3: digest.map(|digest| digest.to_hex()),
        // Before the digest is proven nothing is known of the content.
        assurance: if digest.is_some() { assurance(checks, earlier) } else { Assurance::Hashed },
        checks: checks.iter().map(CheckReport::from).collect(),
    }
}

/// A file of a directory whose receipt suffices.
fn adopted_report(pull: &Pull, file: &FileReceipt) -> FileReport {
    FileReport {
        path: file.path.to_string(),
        size: Some(file.size),
        blake3: Some(file.blake3.to_hex()),
        // With a pin, the receipt suffices only when every digest in it is the pin's.
        assurance: if pull.pin.is_some() { Assurance::Pinned } else { Assurance::from_word(&file.assurance) },
        checks: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;

    use super::*;
    use crate::disk::{IoWish, PartFile, probe, seen};
    use crate::manifest::{FileId, Ranges, Version};
    use crate::schedule::FILE_SEAL;

    fn entry() -> Entry {
        Entry {
            path: SafePath::parse("sub/f").unwrap(),
            object: "f".to_owned(),
            size: Some(0),
            version: Version::default(),
            ranges: Ranges::Assumed,
            stated: Vec::new(),
        }
    }

    /// Seals and publishes a lone file; the part, and what was synced in order.
    fn sealed(dest: &Dest) -> (PartFile, Vec<u64>) {
        let lock = dest.try_lock().unwrap().unwrap();
        let part = dest.piece_open(&FileId([1; 16]), 0, &probe(dest, IoWish::Buffered).unwrap()).unwrap();
        seen::take();
        let entry = entry();
        FILE_SEAL.into_iter().for_each(|step| dest.seal_step(step, &part, &entry.path, 0).unwrap());
        let digest = verify::root(0, &[]);
        let tree = verify::tree::encode(&Tree { files: vec![Vec::new()] });
        let file = FileReceipt::new(&entry, 0, digest, Assurance::Hashed.word(), Vec::new());
        Publication::of_receipt(Receipt::new("s".to_owned(), vec![file], &tree), tree).run(dest).unwrap();
        drop(lock);
        (part, seen::take())
    }

    #[test]
    fn a_lone_piece_is_sealed_by_seven_syncs_below_a_folder_that_is_known() {
        let root = tempfile::tempdir().unwrap();
        let into = root.path().join("into");
        let above = Arc::default();
        for name in ["x", "y"] {
            let at = into.join(name);
            let dest = Dest::open(&at).unwrap().below(Arc::clone(&above));
            let (_part, synced) = sealed(&dest);
            let number = |path: &str| fs::metadata(at.join(path)).unwrap().ino();
            // The data before its name, every name before the receipt, the receipt before it is told.
            let (names, state) = (["sub/f", "sub", "", ".."], [".dray/tree.b3", ".dray/receipt.json", ".dray"]);
            assert_eq!(synced[..4], names.map(number), "{name}");
            assert_eq!(synced[synced.len() - 3..], state.map(number), "{name}");
            assert!(name == "x" || synced.len() == 7, "{synced:?}");
        }
    }
}
