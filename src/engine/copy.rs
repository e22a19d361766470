//! The thread that copies local files: each into its part file, hashed by all processors, journaled, sealed.
//!
//! In: a [`Pull`] whose objects are paths of this machine. Out: the last steps of any pull, or why not.
//! Holds: a piece is journaled only after its bytes were synced; a file gets its name only when its source still is what
//! was planned and every statement matches; memory is one step, mapped.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::disk::copy::Source;
use crate::disk::scan::ScanFile;
use crate::disk::{self, Dest, IoWish, PartFile, Probe, place};
use crate::engine::local::{Done, Watch};
use crate::engine::publish::{self, Publication};
use crate::engine::resume::{self, Adopted, RECEIPT};
use crate::engine::{Pull, admit, read, stage};
use crate::error::{Error, storage};
use crate::journal::file::JournalFile;
use crate::journal::record::{PROOFS_PER_RECORD, Record};
use crate::manifest::receipt::{FileReceipt, Receipt};
use crate::manifest::{Digest, Entry, FileId};
use crate::origin::local;
use crate::plan;
use crate::report::{CheckReport, FileReport};
use crate::schedule::{FILE_SEAL, FilePlan};
use crate::units::{ByteRange, PIECE_BYTES, piece_count, piece_range};
use crate::verify::tree::{self, Tree};
use crate::verify::{self, Check, Cv, PieceProof, Sums, wide};

/// Pieces copied, mapped and hashed as one step.
const STEP_PIECES: usize = 16;

/// Bytes between two checkpoints: what a kill can cost.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Threads that hash one step at most.
const HASHERS_MAX: usize = 8;

/// What the thread needs.
pub(super) struct Work {
    pub(super) pull: Arc<Pull>,
    pub(super) dest: Arc<Dest>,
    pub(super) watch: Arc<Watch>,
}

/// A file whose bytes are durable in DEST and proven.
struct Proven {
    digest: Digest,
    checks: Vec<Check>,
    cvs: Vec<Cv>,
    /// Its part, unless it has its final name already.
    part: Option<Arc<PartFile>>,
}

/// The journal, and what is written beside it.
struct Run<'a> {
    work: &'a Work,
    probe: Probe,
    journal: JournalFile,
    /// Bytes of DEST's file system that this model took before this run.
    occupied: u64,
    room: Room,
}

/// Whether it is known that what is left to copy fits.
#[derive(PartialEq, Eq)]
enum Room {
    Unknown,
    Enough,
}

impl Work {
    /// Copies, proves and publishes what is not there yet.
    pub(super) fn run(self) -> Result<Done, Error> {
        let Self { pull, dest, watch } = &self;
        let sealed = resume::sealed_or_not(dest)?;
        if let Some(sealed) = &sealed
            && resume::is_current(dest, &pull.manifest, sealed)?
            && publish::suffices(pull, &sealed.receipt)
        {
            admit::all_published(&sealed.receipt, dest, pull.formats.as_ref())?;
            // The run that wrote the receipt may have died before its name was durable.
            dest.state_sync().map_err(|error| storage("sync the state folder", &error))?;
            resume::clear(dest);
            return Ok(Done::Current(Box::new(sealed.receipt.clone())));
        }
        if pull.io == IoWish::Discard {
            return self.digests();
        }
        let resumed = resume::resume(dest, &pull.manifest, sealed.as_ref(), &watch.read)?;
        let probe = disk::probe(dest, IoWish::Buffered)?;
        let journal = resume::fresh_journal(dest, &resumed.plans)?;
        let mut run = Run { work: &self, probe, journal, occupied: resumed.occupied, room: Room::Unknown };
        let ended = run.all(resumed.plans, &resumed.adopted);
        if let Err(error) = &ended
            && !matches!(error, Error::Storage(_) | Error::DiskFull(_))
            && let Err(error) = run.append(&[Record::Clean])
        {
            // The next run reads back what is there.
            tracing::warn!(%error, "the journal does not know of the orderly stop");
        }
        ended
    }

    /// Hashes every source, and writes down what a copy of it would be.
    fn digests(&self) -> Result<Done, Error> {
        let mut proven = Vec::new();
        for entry in &self.pull.manifest.entries {
            self.watch.go_on()?;
            let path = Path::new(&entry.object);
            let source = Source::open(path).map_err(|error| local::failed(path, &error))?;
            same(&source, entry)?;
            let file = ScanFile::open_local(path).map_err(|error| local::failed(path, &error))?;
            let size = entry.size.unwrap_or(0);
            let proofs = read::read_all(&file, size, Sums::of(&entry.stated), &self.watch.read);
            // Cut off meanwhile, or not readable: what it is now tells which.
            same(&source, entry)?;
            let proofs = proofs.map_err(|error| local::failed(path, &error))?;
            let (digest, checks) = compared(entry, &proofs)?;
            self.watch.copied.fetch_add(size, Ordering::Relaxed);
            proven.push(Proven { digest, checks, cvs: proofs.iter().map(|proof| proof.cv).collect(), part: None });
        }
        self.publish(&proven, &Adopted::new())
    }

    /// Runs the last steps for files that have their final names.
    fn publish(&self, proven: &[Proven], adopted: &Adopted) -> Result<Done, Error> {
        self.watch.publishing.store(true, Ordering::Relaxed);
        let manifest = &self.pull.manifest;
        let (mut files, mut reports) = (Vec::new(), Vec::new());
        for (index, (entry, proven)) in manifest.entries.iter().zip(proven).enumerate() {
            let earlier = adopted.get(&index).filter(|file| file.is(entry) && file.blake3 == proven.digest);
            let assurance = publish::assurance(&proven.checks, earlier);
            let size = entry.size.unwrap_or(0);
            let matched = publish::matched(&proven.checks, earlier);
            reports.push(FileReport {
                path: entry.path.to_string(),
                size: Some(size),
                blake3: Some(proven.digest.to_hex()),
                assurance,
                checks: proven.checks.iter().map(CheckReport::from).collect(),
            });
            files.push(FileReceipt::new(entry, size, proven.digest, assurance.word(), matched));
        }
        let tree = tree::encode(&Tree { files: proven.iter().map(|proven| proven.cvs.clone()).collect() });
        let receipt = Receipt::new(manifest.source.clone(), files, &tree);
        let publication = match self.pull.io {
            IoWish::Discard => Publication::of_digests(receipt, tree),
            _ => Publication::of_receipt(receipt, tree),
        };
        publication.run(&self.dest).map_err(stage::failed)?;
        Ok(Done::Sealed(reports))
    }
}

impl Run<'_> {
    fn all(&mut self, plans: Vec<FilePlan>, adopted: &Adopted) -> Result<Done, Error> {
        let Work { pull, watch, .. } = self.work;
        for (plan, entry) in plans.iter().zip(&pull.manifest.entries) {
            let held: u64 =
                (0..).zip(&plan.held).filter_map(|(piece, held)| held.map(|_| piece_len(entry, piece))).sum();
            watch.reused.fetch_add(held, Ordering::Relaxed);
            watch.durable.fetch_add(held, Ordering::Relaxed);
        }
        let mut proven = Vec::new();
        for (index, plan) in plans.into_iter().enumerate() {
            watch.go_on()?;
            let entry = &pull.manifest.entries[index];
            let file = self.file(index, entry, plan)?;
            if pull.formats.is_none() {
                self.seal(index, entry, &file)?;
            } else {
                // Nothing is published before every file is known to be of an allowed format.
                admit::part(pull, &self.work.dest, entry, file.part.as_deref())?;
            }
            let part = file.part.filter(|_| pull.formats.is_some());
            proven.push(Proven { part, ..file });
        }
        for (index, file) in proven.iter().enumerate() {
            watch.go_on()?;
            self.seal(index, &pull.manifest.entries[index], file)?;
        }
        self.work.publish(&proven, adopted)
    }

    /// Brings what is missing of one file into its part, and proves it.
    fn file(&mut self, index: usize, entry: &Entry, plan: FilePlan) -> Result<Proven, Error> {
        let proven = |proofs: &[PieceProof], part| {
            let (digest, checks) = compared(entry, proofs)?;
            Ok(Proven { digest, checks, cvs: proofs.iter().map(|proof| proof.cv).collect(), part })
        };
        let whole: Option<Vec<PieceProof>> = plan.held.iter().copied().collect();
        let whole = whole.filter(|proofs| wide(proofs.len()) == piece_count(entry.size.unwrap_or(0)));
        if let Some(proofs) = whole.filter(|_| plan.sealed)
            // One that does not match a pin of this run is copied again, beside its old self.
            && let Ok(proven) = proven(&proofs, None)
        {
            self.work.watch.files_done.fetch_add(1, Ordering::Relaxed);
            return Ok(proven);
        }
        let held = if plan.sealed { Vec::new() } else { plan.held };
        let path = Path::new(&entry.object);
        let mut source = Source::open(path).map_err(|error| local::failed(path, &error))?;
        same(&source, entry)?;
        let part = self.work.dest.part_open(&plan.id, None, &self.probe).map_err(stage::failed)?;
        let part = Arc::new(part);
        let held = if part.adopted() { held } else { Vec::new() };
        let proofs = self.copy(index, entry, &mut source, &part, held)?;
        same(&source, entry).inspect_err(|_| self.forget(&part.id()))?;
        proven(&proofs, Some(part.clone())).inspect_err(|_| self.forget(&part.id()))
    }

    /// Copies the pieces that are not held, step by step, each hashed in the part.
    fn copy(
        &mut self,
        index: usize,
        entry: &Entry,
        source: &mut Source,
        part: &Arc<PartFile>,
        held: Vec<Option<PieceProof>>,
    ) -> Result<Vec<PieceProof>, Error> {
        let Work { dest, watch, .. } = self.work;
        let failed = |error: io::Error| storage(&format!("copy `{}`", entry.path), &error);
        let size = entry.size.unwrap_or(0);
        let pieces = usize::try_from(piece_count(size)).unwrap_or(usize::MAX);
        let (file, id) = (u32::try_from(index).unwrap_or(u32::MAX), part.id());
        let declared = held.iter().any(Option::is_some);
        if declared || !source.share(part).map_err(failed)? {
            self.fits()?;
            let reserved = source.reserve(part, size);
            if reserved.is_err() && !part.adopted() {
                // It keeps what it got: an empty part must not fill the disk.
                self.forget(&id);
            }
            reserved.map_err(failed)?;
        }
        let mut claims = if declared { Vec::new() } else { vec![Record::File { file, id, size: Some(size) }] };
        let mut proofs = held;
        proofs.resize(pieces, None);
        let mut unsettled = 0;
        let mut at = 0;
        while let Some(first) = (at..pieces).find(|piece| proofs[*piece].is_none()) {
            if let Err(stopped) = watch.go_on() {
                self.checkpoint(part, &mut claims, &mut unsettled)?;
                return Err(stopped);
            }
            let end = (first + 1..pieces.min(first + STEP_PIECES)).find(|piece| proofs[*piece].is_some());
            let end = end.unwrap_or(pieces.min(first + STEP_PIECES));
            let range = ByteRange::new(piece_range(size, wide(first)).start, piece_range(size, wide(end - 1)).end);
            if source.copy(part, range).map_err(failed)? < range.len() {
                return Err(changed(entry));
            }
            let read = hashed(dest.part_map(part, range).map_err(failed)?.bytes(), first, entry);
            claims.extend(
                read.chunks(PROOFS_PER_RECORD)
                    .zip((first..).step_by(PROOFS_PER_RECORD))
                    .map(|(proofs, first)| Record::Pieces { file, first: wide(first), proofs: proofs.to_vec() }),
            );
            proofs[first..end].iter_mut().zip(read).for_each(|(place, proof)| *place = Some(proof));
            source.settle(part, range).map_err(failed)?;
            watch.copied.fetch_add(range.len(), Ordering::Relaxed);
            unsettled += range.len();
            if CHECKPOINT_BYTES <= unsettled {
                self.checkpoint(part, &mut claims, &mut unsettled)?;
            }
            at = end;
        }
        self.checkpoint(part, &mut claims, &mut unsettled)?;
        Ok(proofs.into_iter().flatten().collect())
    }

    /// Makes what was copied durable, then claims it.
    fn checkpoint(&mut self, part: &PartFile, claims: &mut Vec<Record>, unsettled: &mut u64) -> Result<(), Error> {
        part.sync_data().map_err(|error| storage("sync a part file", &error))?;
        self.append(&std::mem::take(claims))?;
        self.work.watch.durable.fetch_add(std::mem::take(unsettled), Ordering::Relaxed);
        Ok(())
    }

    fn append(&mut self, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let appended = self.journal.append(records).and_then(|()| self.journal.sync());
        appended.map_err(|error| storage("write the journal", &error))
    }

    /// Looks once whether what has to be copied fits; what is shared takes no room.
    fn fits(&mut self) -> Result<(), Error> {
        if self.room == Room::Unknown {
            plan::plan(&self.work.pull.manifest, None).preflight(self.occupied, self.probe.free_bytes)?;
            self.room = Room::Enough;
        }
        Ok(())
    }

    /// Gives a proven file its final name, where it has not got it yet.
    fn seal(&mut self, index: usize, entry: &Entry, file: &Proven) -> Result<(), Error> {
        let Some(part) = &file.part else { return Ok(()) };
        let Work { pull, dest, watch } = self.work;
        // From the first new name on, the old receipt would lie.
        dest.state_remove(RECEIPT).map_err(|error| storage("remove the old receipt", &error))?;
        let size = entry.size.unwrap_or(0);
        let mut steps = FILE_SEAL.into_iter();
        steps.try_for_each(|step| dest.seal_step(step, part, &entry.path, size)).map_err(stage::failed)?;
        let file_number = u32::try_from(index).unwrap_or(u32::MAX);
        self.append(&[Record::Sealed { file: file_number, size, digest: file.digest }])?;
        publish::record_proven(pull, entry, file.digest, &file.checks);
        watch.files_done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Removes a part that holds what nobody wants.
    fn forget(&self, id: &FileId) {
        if let Err(error) = self.work.dest.part_remove(id) {
            tracing::warn!(%error, "a part file that serves nobody could not be removed");
        }
    }
}

/// The proofs of the pieces in `bytes`, the first of which is piece `first`, by all processors.
fn hashed(bytes: &[u8], first: usize, entry: &Entry) -> Vec<PieceProof> {
    let (size, sums) = (entry.size, Sums::of(&entry.stated));
    let pieces: Vec<(u64, &[u8])> =
        (wide(first)..).zip(bytes.chunks(usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX))).collect();
    let hashers = place::cpus().clamp(1, HASHERS_MAX);
    let prove = |pieces: &[(u64, &[u8])]| -> Vec<PieceProof> {
        pieces.iter().map(|(piece, bytes)| verify::prove_piece(size, *piece, bytes, sums)).collect()
    };
    if hashers == 1 || pieces.len() == 1 {
        return prove(&pieces);
    }
    std::thread::scope(|scope| {
        let shares: Vec<_> = pieces.chunks(pieces.len().div_ceil(hashers)).collect();
        let threads: Vec<_> = shares.iter().map(|share| scope.spawn(|| prove(share))).collect();
        let joined = threads.into_iter().zip(shares).flat_map(|(thread, share)| {
            // A thread that ended badly left its share undone.
            thread.join().unwrap_or_else(|_| prove(share))
        });
        joined.collect()
    })
}

fn piece_len(entry: &Entry, piece: u64) -> u64 {
    piece_range(entry.size.unwrap_or(0), piece).len()
}

/// The digest of proven pieces, once it matches all that is stated.
fn compared(entry: &Entry, proofs: &[PieceProof]) -> Result<(Digest, Vec<Check>), Error> {
    let size = entry.size.unwrap_or(0);
    let checks = verify::checks(size, proofs, &entry.stated, &[]);
    match checks.iter().find(|check| !check.matches) {
        Some(check) => Err(Error::Integrity(format!("`{}` does not match its {}", entry.path, check.name))),
        None => Ok((verify::root(size, proofs), checks)),
    }
}

/// Whether the source still is the file that was planned.
fn same(source: &Source, entry: &Entry) -> Result<(), Error> {
    let about = source.about().map_err(|error| local::failed(Path::new(&entry.object), &error))?;
    let planned = about.is_file() && Some(about.len()) == entry.size && local::version(&about) == entry.version;
    if planned { Ok(()) } else { Err(changed(entry)) }
}

fn changed(entry: &Entry) -> Error {
    Error::Changed(format!("`{}` changed while it was copied", entry.path))
}
