//! What outlives a process: disk, origin, and the account of what was promised.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::journal::record::{self, Encoder, Record, Replay};
use crate::journal::written::{self, WrittenPiece};
use crate::limits::Limits;
use crate::manifest::{FileId, Stated};
use crate::schedule::rng::Rng;
use crate::schedule::{self, FileIndex, FilePlan, Kept, Now, Scheduler, resume};
use crate::sim::content::{Edition, PIECE_ON_DISK, proof, sha256};
use crate::sim::disk::{DiskFault, Folder, Handle, Name, SimDisk, Wrote};
use crate::sim::marks::{Mark, Marks};
use crate::sim::origin::{SimOrigin, pieces_of};
use crate::sim::process::{Orders, Process};
use crate::sim::trace::Trace;
use crate::verify;

/// Bytes of a journal or receipt sector.
const SECTOR: usize = 512;

/// A planted bug: what an engine could do wrong and the checks must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// Journal records go out though the data was never synced.
    JournalBeforeData,
    /// An append is answered before the journal is synced.
    JournalUnsynced,
    /// A failed sync is tried again, and the second answer is believed.
    SyncRetried,
    /// A short write counts as a whole one.
    ShortWriteTaken,
    /// A file is renamed without being synced first.
    SealUnsynced,
    /// The same of a file that is kept without a journal, which was never synced before.
    PieceUnsynced,
    /// The folders of the final names are never synced.
    FoldersUnsynced,
    /// The receipt is written before the folders are synced.
    ReceiptBeforeFolders,
    /// A request takes whatever version the origin has.
    VersionUnpinned,
    /// Slabs are filled though too much is unnoted and unsettled.
    UnboundedGate,
    /// `Dropped` records never reach the journal.
    DropsForgotten,
    /// Names that an earlier process left, of part files or the receipt, are taken to be durable.
    AdoptedTrusted,
    /// A file's bytes are taken to be as stated in order without being read.
    HashTrusted,
    /// The old receipt stays while files change under it.
    ReceiptKept,
    /// Listed pieces are taken to be on disk without being read.
    ListTrusted,
    /// Listed pieces are claimed without being synced first.
    ListUnsynced,
    /// What a killed run listed is not looked at.
    ListForgotten,
}

impl Canary {
    /// Every planted bug.
    pub const ALL: [Self; 17] = [
        Self::JournalBeforeData,
        Self::JournalUnsynced,
        Self::SyncRetried,
        Self::ShortWriteTaken,
        Self::SealUnsynced,
        Self::PieceUnsynced,
        Self::FoldersUnsynced,
        Self::ReceiptBeforeFolders,
        Self::VersionUnpinned,
        Self::UnboundedGate,
        Self::DropsForgotten,
        Self::AdoptedTrusted,
        Self::HashTrusted,
        Self::ReceiptKept,
        Self::ListTrusted,
        Self::ListUnsynced,
        Self::ListForgotten,
    ];
}

/// Why a life ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The power went.
    Crash,
    /// A promise was broken.
    Broken(String),
}

impl Stop {
    pub(super) fn broken(what: impl Into<String>) -> Self {
        Self::Broken(what.into())
    }
}

/// How a life ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The receipt was there already.
    Current,
    Finished(Result<(), Error>),
}

pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) origin: SimOrigin,
    pub(super) limits: Limits,
    pub(super) rng: Rng,
    pub(super) canary: Option<Canary>,
    /// Nothing can be read back, as in a run that keeps no bytes.
    pub(super) in_order: bool,
    pub(super) trace: Trace,
    pub(super) steps: u64,
    /// When the last life ended, from its start.
    pub(super) ended_at: Now,
    pub(super) received_pieces: u64,
    /// When this life was asked to stop.
    pub(super) stopped_at: Option<Now>,
    pub(super) marks: Marks,
    journal: Option<(Handle, Encoder)>,
    /// Which content each file number of this life's journal names.
    numbers: BTreeMap<u32, FileId>,
    /// What the journal was acknowledged to claim: no crash may lose it.
    acknowledged: BTreeMap<FileId, BTreeSet<u64>>,
    /// Records appended and not acknowledged yet.
    appended: Vec<Record>,
    /// The file of this life's written lists, and the number of the latest.
    list: Option<(Handle, u64)>,
    /// What the latest whole list named and nobody has written again since: SIGKILL may not lose it.
    pub(super) noted: BTreeSet<(FileId, u64)>,
    /// The same of the list under way.
    pub(super) noting: BTreeSet<(FileId, u64)>,
}

impl World {
    pub(super) fn new(disk: SimDisk, origin: SimOrigin, limits: Limits, rng: Rng, trace: Trace) -> Self {
        Self {
            disk,
            origin,
            limits,
            rng,
            canary: None,
            in_order: false,
            trace,
            steps: 0,
            ended_at: Now::ZERO,
            received_pieces: 0,
            stopped_at: None,
            marks: Marks::default(),
            journal: None,
            numbers: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            appended: Vec::new(),
            list: None,
            noted: BTreeSet::new(),
            noting: BTreeSet::new(),
        }
    }

    /// One process, from its start to its end.
    pub(super) fn live(&mut self, orders: &Orders, seed: u64) -> Result<End, Stop> {
        (self.stopped_at, self.steps) = (None, 0);
        (self.disk.seen_full, self.disk.seen_io) = (false, false);
        self.origin.seen.clear();
        if self.receipt_is_current()? {
            // A process killed right after its rename leaves a receipt that only the cache holds.
            let trusted = self.canary == Some(Canary::AdoptedTrusted);
            let synced = if trusted { Ok(()) } else { self.disk.sync_folder(Folder::State) };
            self.marks.set(Mark::FoundCurrent);
            return match synced {
                Ok(()) => Ok(End::Current),
                Err(DiskFault::Crash) => Err(Stop::Crash),
                Err(DiskFault::Full) => Ok(End::Finished(Err(Error::DiskFull("receipt".to_owned())))),
                Err(DiskFault::Io) => Ok(End::Finished(Err(Error::Storage("receipt".to_owned())))),
            };
        }
        let (plans, kept) = match self.boot() {
            Ok(booted) => booted,
            Err(Boot::Stop(stop)) => return Err(stop),
            Err(Boot::Disk(DiskFault::Crash)) => return Err(Stop::Crash),
            Err(Boot::Disk(DiskFault::Full)) => return Ok(End::Finished(Err(Error::DiskFull("start".to_owned())))),
            Err(Boot::Disk(DiskFault::Io)) => return Ok(End::Finished(Err(Error::Storage("start".to_owned())))),
        };
        let held = |plan: &FilePlan| {
            (0..).zip(&plan.held).filter(|(_, proof)| proof.is_some()).map(|(piece, _)| piece).collect()
        };
        let held = plans.iter().map(held).collect();
        let scheduler = Scheduler::new(&self.limits, plans, seed);
        let scheduler = if self.in_order { scheduler.in_order() } else { scheduler };
        let scheduler = if kept == Kept::Unjournaled { scheduler.unjournaled() } else { scheduler };
        let mut process = Process::new(self, scheduler, held);
        let end = process.run(orders);
        self.ended_at = process.now;
        end
    }

    /// Everything the engine does before it schedules: read the journal, read back claims, start a new journal.
    fn boot(&mut self) -> Result<(Vec<FilePlan>, Kept), Boot> {
        let objects = u32::try_from(self.origin.objects.len()).unwrap_or(0);
        let mut plans: Vec<FilePlan> = (0..objects).map(|object| self.origin.plan(object)).collect();
        self.list = None;
        if let Some(mut replay) = self.read_journal().map_err(Boot::Stop)? {
            let present = self.present(&plans);
            let refuted = self.read_back(&plans, &replay, &present);
            if !refuted.is_empty() {
                return Err(Boot::Stop(Stop::broken(format!("pieces are not on disk as journaled: {refuted:?}"))));
            }
            self.take_listed(&plans, &mut replay)?;
            resume::adopt(&mut plans, &replay, |index| present[index], &refuted);
            self.mark_adopted(&plans, &replay);
            self.hash_published(&mut plans);
            self.check_nothing_lost(&plans).map_err(Boot::Stop)?;
        } else if let Some(plan) = plans.iter().find(|plan| self.noted.iter().any(|(id, _)| *id == plan.id)) {
            let lost = format!("pieces of {} were noted beside no journal", plan.name);
            return Err(Boot::Stop(Stop::broken(lost)));
        }
        let parts: Vec<Name> = self.disk.names().filter(|name| matches!(name, Name::Part(_))).collect();
        for name in parts {
            if !plans.iter().any(|plan| Name::Part(plan.id) == name) {
                self.disk.unlink(name)?;
            }
        }
        if self.disk.find(Name::Piece).is_some() {
            self.disk.unlink(Name::Piece)?;
        }
        let bare = self.disk.find(Name::Journal).or(self.disk.find(Name::Receipt)).is_none();
        let kept = if bare { schedule::kept(&plans) } else { Kept::Journaled };
        match kept {
            Kept::Unjournaled => {
                (self.journal, self.numbers, self.acknowledged) = (None, BTreeMap::new(), BTreeMap::new());
            }
            Kept::Journaled => self.start_journal(&plans)?,
        }
        Ok((plans, kept))
    }

    pub(super) fn read_journal(&self) -> Result<Option<Replay>, Stop> {
        let Some(file) = self.disk.find(Name::Journal) else { return Ok(None) };
        let replay = record::replay(self.disk.read(file));
        replay.map(Some).map_err(|error| Stop::broken(format!("the journal cannot be read: {error}")))
    }

    fn present(&self, plans: &[FilePlan]) -> Vec<resume::Present> {
        let object = |plan: &FilePlan| Edition::of(plan.id).object;
        let published = |plan: &FilePlan| {
            let length = self.disk.length(self.disk.find(Name::Final(object(plan)))?);
            let size = self.origin.size(Edition::of(plan.id));
            // The simulated disk counts pieces, not bytes: a file of as many pieces has the size.
            Some(if length == pieces_of(size) * PIECE_ON_DISK { size } else { size.wrapping_add(1) })
        };
        let present = |plan: &FilePlan| resume::Present {
            part: self.disk.find(Name::Part(plan.id)).is_some(),
            published: published(plan),
        };
        plans.iter().map(present).collect()
    }

    /// Hashes every claimed piece after an unclean stop; names those that are not as claimed.
    fn read_back(
        &self,
        plans: &[FilePlan],
        replay: &Replay,
        present: &[resume::Present],
    ) -> BTreeSet<(FileIndex, u64)> {
        let mut refuted = BTreeSet::new();
        if replay.clean {
            return refuted;
        }
        for (index, plan) in plans.iter().enumerate() {
            let Some(claimed) = replay.files.iter().find(|file| file.id == plan.id) else { continue };
            let name = match resume::whereabouts(claimed, replay.clean, present[index]) {
                resume::Whereabouts::Part => Name::Part(plan.id),
                resume::Whereabouts::Published => Name::Final(Edition::of(plan.id).object),
                resume::Whereabouts::Nowhere => continue,
            };
            let Some(file) = self.disk.find(name) else { continue };
            for (piece, held) in (0..).zip(&claimed.held) {
                if held.is_some_and(|held| self.piece(file, piece).is_none_or(|bytes| proof(bytes) != held)) {
                    refuted.insert((index, piece));
                }
            }
        }
        refuted
    }

    fn mark_adopted(&mut self, plans: &[FilePlan], replay: &Replay) {
        let sealed = |plan: &FilePlan| replay.files.iter().any(|file| file.id == plan.id && file.sealed.is_some());
        for plan in plans {
            let taken = [
                (!plan.held.is_empty() && !plan.sealed, Mark::PiecesAdopted),
                (plan.sealed, Mark::SealedAdopted),
                (plan.sealed && !sealed(plan), Mark::SealedUnjournaled),
                (replay.clean, Mark::CleanStart),
            ];
            taken.into_iter().filter(|(met, _)| *met).for_each(|(_, mark)| self.marks.set(mark));
        }
    }

    /// Published files are read once more for statements that need their bytes in order.
    fn hash_published(&mut self, plans: &mut [FilePlan]) {
        for plan in plans.iter_mut().filter(|plan| plan.sealed && plan.stated.iter().any(verify::is_serial)) {
            if let Some(file) = self.disk.find(Name::Final(Edition::of(plan.id).object)) {
                plan.computed = vec![self.sha256(file, pieces_of(plan.size.unwrap_or(0)))];
                self.marks.set(Mark::HashedPublished);
            }
        }
    }

    /// What stands for SHA-256 of the bytes in order.
    pub(super) fn sha256(&self, file: Handle, pieces: u64) -> Stated {
        sha256((0..pieces).filter_map(|piece| self.piece(file, piece)))
    }

    pub(super) fn piece(&self, file: Handle, at: u64) -> Option<&[u8]> {
        piece(self.disk.read(file), at)
    }

    /// Takes what a killed run has listed and the disk has, once it is durable.
    fn take_listed(&mut self, plans: &[FilePlan], replay: &mut Replay) -> Result<(), DiskFault> {
        let planned = plans.iter().map(|plan| (plan.id, plan.size)).collect();
        let content = self.disk.find(Name::Written).filter(|_| self.canary != Some(Canary::ListForgotten));
        let listed = content.map(|file| written::decode(self.disk.read(file))).unwrap_or_default();
        let mut any = false;
        for mut found in resume::unclaimed(replay, &listed, &planned) {
            let Some(part) = self.disk.find(Name::Part(found.id)) else { continue };
            let unsynced = self.canary == Some(Canary::ListUnsynced);
            match if unsynced { Ok(()) } else { self.disk.sync_all(part) } {
                Ok(()) => {}
                Err(DiskFault::Crash) => return Err(DiskFault::Crash),
                // What cannot be made durable is fetched again.
                Err(DiskFault::Full | DiskFault::Io) => {
                    self.noted.retain(|(noted, _)| *noted != found.id);
                    continue;
                }
            }
            let platter = if unsynced { self.disk.read(part) } else { self.disk.read_platter(part) };
            let trusted = self.canary == Some(Canary::ListTrusted);
            let asked = found.pieces.len();
            found
                .pieces
                .retain(|(at, listed)| trusted || piece(platter, *at).is_some_and(|bytes| proof(bytes) == *listed));
            any |= !found.pieces.is_empty();
            let marks = [(found.pieces.len() < asked, Mark::ListRefuted), (!found.pieces.is_empty(), Mark::ListTaken)];
            marks.into_iter().filter(|(met, _)| *met).for_each(|(_, mark)| self.marks.set(mark));
            resume::add(replay, &found);
        }
        if any { self.disk.sync_folder(Folder::Parts) } else { Ok(()) }
    }

    /// Writes the list of written pieces; nothing is synced.
    pub(super) fn note(&mut self, pieces: &[WrittenPiece]) -> Result<(), DiskFault> {
        let (file, number) = match self.list {
            Some((file, number)) => (file, number + 1),
            None => (self.disk.create(Name::Written, SECTOR)?, 1),
        };
        self.list = Some((file, number));
        let named = std::mem::take(&mut self.noting);
        // Until it is whole, either list may be the one that is found.
        self.noted.retain(|noted| named.contains(noted));
        write_all(&mut self.disk, file, written::offset(number), &written::encode(number, pieces))?;
        self.noted = named;
        Ok(())
    }

    /// Whether the journal was acknowledged to claim a piece.
    pub(super) fn is_acknowledged(&self, id: FileId, piece: u64) -> bool {
        self.acknowledged.get(&id).is_some_and(|pieces| pieces.contains(&piece))
    }

    /// What was acknowledged or, where the machine ran on, noted before is held now: this bounds what a crash costs.
    fn check_nothing_lost(&self, plans: &[FilePlan]) -> Result<(), Stop> {
        for plan in plans.iter().filter(|plan| plan.size.is_some()) {
            let noted = self.noted.iter().filter(|(id, _)| *id == plan.id).map(|(_, piece)| piece);
            for piece in self.acknowledged.get(&plan.id).into_iter().flatten().chain(noted) {
                let slot = usize::try_from(*piece).unwrap_or(usize::MAX);
                if plan.held.get(slot).is_none_or(Option::is_none) {
                    return Err(Stop::broken(format!(
                        "piece {piece} of {} was durable or noted and is to be fetched again",
                        plan.name
                    )));
                }
            }
        }
        Ok(())
    }

    fn start_journal(&mut self, plans: &[FilePlan]) -> Result<(), Boot> {
        let mut attempt = [0; 16];
        attempt[..8].copy_from_slice(&self.rng.next().to_le_bytes());
        let mut encoder = Encoder::new(attempt);
        let mut bytes = record::encode_header(attempt).to_vec();
        let records: Vec<Record> =
            plans.iter().enumerate().flat_map(|(index, plan)| resume::claims(index, plan)).collect();
        bytes.extend(encode(&mut encoder, &records));
        let file = self.disk.create(Name::JournalNew, SECTOR)?;
        write_all(&mut self.disk, file, 0, &bytes)?;
        self.disk.sync_all(file)?;
        self.disk.rename(Name::JournalNew, Name::Journal)?;
        self.disk.sync_folder(Folder::State)?;
        self.journal = Some((file, encoder));
        (self.numbers, self.acknowledged) = (BTreeMap::new(), BTreeMap::new());
        self.appended = records;
        self.acknowledge();
        Ok(())
    }

    /// Writes `records` to the journal; they count once [`World::sync_journal`] succeeds.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), DiskFault> {
        let forgetful = self.canary == Some(Canary::DropsForgotten);
        let records: Vec<Record> =
            records.iter().filter(|record| !forgetful || !matches!(record, Record::Dropped { .. })).cloned().collect();
        if self.journal.is_none() {
            self.marks.set(Mark::JournaledLate);
            match self.start_journal(&[]) {
                Ok(()) => {}
                Err(Boot::Disk(fault)) => return Err(fault),
                Err(Boot::Stop(_)) => return Err(DiskFault::Io),
            }
        }
        let Some((file, encoder)) = &mut self.journal else { return Err(DiskFault::Io) };
        let offset = encoder.offset();
        if records.iter().any(|record| matches!(record, Record::Dropped { .. })) {
            self.marks.set(Mark::Dropped);
        }
        let bytes = encode(encoder, &records);
        // What is taken back may be gone from now on, acknowledged or not.
        for record in &records {
            if let Record::Dropped { file } | Record::File { file, .. } = record
                && let Some(id) = self.numbers.get(file)
            {
                self.acknowledged.remove(id);
                if matches!(record, Record::Dropped { .. }) {
                    self.noted.retain(|(noted, _)| noted != id);
                    self.noting.retain(|(noting, _)| noting != id);
                }
            }
            // Whatever was worth keeping is claimed by now.
            if *record == Record::Clean {
                self.noted.clear();
            }
        }
        write_all(&mut self.disk, *file, offset, &bytes)?;
        self.appended = records;
        Ok(())
    }

    pub(super) fn sync_journal(&mut self) -> Result<(), DiskFault> {
        let Some((file, _)) = &self.journal else { return Err(DiskFault::Io) };
        if self.canary != Some(Canary::JournalUnsynced) {
            self.disk.sync_all(*file)?;
        }
        self.acknowledge();
        Ok(())
    }

    fn acknowledge(&mut self) {
        for record in std::mem::take(&mut self.appended) {
            match record {
                Record::File { file, id, .. } => {
                    self.numbers.insert(file, id);
                }
                Record::Pieces { file, first, proofs } => {
                    let count = u64::try_from(proofs.len()).unwrap_or(0);
                    if let Some(id) = self.numbers.get(&file) {
                        self.acknowledged.entry(*id).or_default().extend(first..first + count);
                    }
                }
                Record::Dropped { .. } | Record::Sealed { .. } | Record::Clean => {}
            }
        }
    }

    /// The receipt names each file's version, and its own hash.
    pub(super) fn write_receipt(&mut self, ids: &[FileId]) -> Result<(), DiskFault> {
        let body: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
        let bytes = [blake3::hash(&body).as_bytes().as_slice(), &body].concat();
        let file = self.disk.create(Name::ReceiptNew, SECTOR)?;
        write_all(&mut self.disk, file, 0, &bytes)?;
        self.disk.sync_all(file)?;
        self.disk.rename(Name::ReceiptNew, Name::Receipt)?;
        self.disk.sync_folder(Folder::State)
    }

    /// The versions that the receipt says are complete.
    pub(super) fn read_receipt(&self) -> Result<Option<Vec<Edition>>, Stop> {
        let Some(file) = self.disk.find(Name::Receipt) else { return Ok(None) };
        let bytes = self.disk.read(file);
        let (hash, body) = bytes.split_at_checked(32).ok_or_else(|| Stop::broken("a torn receipt is visible"))?;
        if blake3::hash(body).as_bytes() != hash {
            return Err(Stop::broken("a torn receipt is visible"));
        }
        let (ids, _) = body.as_chunks::<16>();
        Ok(Some(ids.iter().map(|id| Edition::of(FileId(*id))).collect()))
    }

    fn receipt_is_current(&self) -> Result<bool, Stop> {
        let Some(editions) = self.read_receipt()? else { return Ok(false) };
        let objects = (0..).take(self.origin.objects.len());
        Ok(objects.map(|object| self.origin.current(object)).eq(editions))
    }
}

enum Boot {
    Disk(DiskFault),
    Stop(Stop),
}

impl From<DiskFault> for Boot {
    fn from(fault: DiskFault) -> Self {
        Self::Disk(fault)
    }
}

/// One piece of a file's bytes.
fn piece(bytes: &[u8], at: u64) -> Option<&[u8]> {
    let [start, end] = [at, at + 1].map(|at| usize::try_from(at * PIECE_ON_DISK));
    bytes.get(start.ok()?..end.ok()?)
}

fn encode(encoder: &mut Encoder, records: &[Record]) -> Vec<u8> {
    encoder.encode_batch(records).concat()
}

/// Writes all of `bytes`; a short write goes on where it stopped.
fn write_all(disk: &mut SimDisk, file: Handle, offset: u64, bytes: &[u8]) -> Result<(), DiskFault> {
    let mut done = 0;
    loop {
        let rest = &bytes[done..];
        let offset = offset + u64::try_from(done).unwrap_or(0);
        match disk.write(file, offset, rest)? {
            Wrote::All => return Ok(()),
            Wrote::Half => done += (rest.len() / 2).next_multiple_of(SECTOR),
        }
    }
}
