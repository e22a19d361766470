//! A disk that forgets: files as sectors behind a volatile cache, names that last only once their folder is synced.
//!
//! A crash keeps an arbitrary subset of the unsynced writes in arbitrary order, torn between sectors, and an
//! arbitrary subset of the unsynced names. A failed sync loses writes for good while reads still show them.

use std::collections::BTreeMap;

use crate::manifest::FileId;
use crate::schedule::rng::Rng;

/// A name on the disk; each kind lives in a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Journal,
    JournalNew,
    Receipt,
    ReceiptNew,
    /// The list of written pieces.
    Written,
    Part(FileId),
    /// The part of a file that is kept without a journal.
    Piece,
    Final(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folder {
    State,
    Parts,
    Dest,
}

impl Name {
    fn folder(self) -> Folder {
        match self {
            Self::Journal | Self::JournalNew | Self::Receipt | Self::ReceiptNew | Self::Written | Self::Piece => {
                Folder::State
            }
            Self::Part(_) => Folder::Parts,
            Self::Final(_) => Folder::Dest,
        }
    }
}

/// Why an operation did not happen, or not wholly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskFault {
    /// The power went.
    Crash,
    Full,
    Io,
}

/// What goes wrong at which operation, counted from 1.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DiskPlan {
    pub(super) fail_at: Option<(u64, DiskError)>,
    pub(super) crash_before: Option<u64>,
    pub(super) crash_after: Option<u64>,
    /// Operations in a thousand that fail.
    pub(super) io_rate: u64,
    pub(super) full_rate: u64,
    /// Writes in a thousand that stop half way and are continued.
    pub(super) short_rate: u64,
}

/// An error an operation reports while the machine runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskError {
    Full,
    Io,
}

/// How far a write came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    All,
    Half,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    SetLength(u64),
}

#[derive(Debug, Default)]
struct Inode {
    sector: usize,
    stable: Vec<u8>,
    cached: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone, Copy)]
enum NameOp {
    Link(Name, usize),
    Unlink(Name),
    Rename(Name, Name, usize),
}

#[derive(Debug)]
pub(super) struct SimDisk {
    inodes: Vec<Inode>,
    names: BTreeMap<Name, usize>,
    stable_names: BTreeMap<Name, usize>,
    pending_names: Vec<NameOp>,
    pub(super) ops: u64,
    /// Operations that change something.
    pub(super) changes: u64,
    pub(super) plan: DiskPlan,
    rng: Rng,
    pub(super) seen_full: bool,
    pub(super) seen_io: bool,
}

/// An open file; stays valid when the name changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle(usize);

/// A moment in a file's writes: what was issued before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Barrier(usize);

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn apply(target: &mut Vec<u8>, op: &Pending) {
    match op {
        Pending::SetLength(length) => target.resize(at(*length), 0),
        Pending::Write { offset, bytes } => {
            let start = at(*offset);
            if target.len() < start + bytes.len() {
                target.resize(start + bytes.len(), 0);
            }
            target[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }
}

impl SimDisk {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            stable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            ops: 0,
            changes: 0,
            plan: DiskPlan::default(),
            rng,
            seen_full: false,
            seen_io: false,
        }
    }

    /// Counts an operation and says whether it fails.
    fn begin(&mut self) -> Result<(), DiskFault> {
        self.ops += 1;
        if self.plan.crash_before == Some(self.ops) {
            return Err(DiskFault::Crash);
        }
        let planned = self.plan.fail_at.filter(|(op, _)| *op == self.ops).map(|(_, error)| error);
        let draw = self.rng.below(1000);
        let drawn = if draw < self.plan.io_rate {
            Some(DiskError::Io)
        } else if draw < self.plan.io_rate + self.plan.full_rate {
            Some(DiskError::Full)
        } else {
            None
        };
        match planned.or(drawn) {
            Some(DiskError::Io) => {
                self.seen_io = true;
                Err(DiskFault::Io)
            }
            Some(DiskError::Full) => {
                self.seen_full = true;
                Err(DiskFault::Full)
            }
            None => Ok(()),
        }
    }

    fn end(&self) -> Result<(), DiskFault> {
        if self.plan.crash_after == Some(self.ops) { Err(DiskFault::Crash) } else { Ok(()) }
    }

    pub(super) fn find(&self, name: Name) -> Option<Handle> {
        self.names.get(&name).copied().map(Handle)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.names.keys().copied()
    }

    pub(super) fn length(&self, file: Handle) -> u64 {
        u64::try_from(self.inodes[file.0].cached.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn read(&self, file: Handle) -> &[u8] {
        &self.inodes[file.0].cached
    }

    /// What is on the platter of a file, whatever the cache says.
    pub(super) fn read_platter(&self, file: Handle) -> &[u8] {
        &self.inodes[file.0].stable
    }

    /// Creates `name`, or empties it; `sector` bytes of it are written as one.
    pub(super) fn create(&mut self, name: Name, sector: usize) -> Result<Handle, DiskFault> {
        self.changes += 1;
        self.begin()?;
        let inode = self.inodes.len();
        self.inodes.push(Inode { sector, ..Inode::default() });
        self.names.insert(name, inode);
        self.pending_names.push(NameOp::Link(name, inode));
        self.end().map(|()| Handle(inode))
    }

    pub(super) fn write(&mut self, file: Handle, offset: u64, bytes: &[u8]) -> Result<Wrote, DiskFault> {
        self.changes += 1;
        self.begin()?;
        let short = self.rng.below(1000) < self.plan.short_rate;
        let inode = &mut self.inodes[file.0];
        let half = (bytes.len() / 2).next_multiple_of(inode.sector.max(1));
        let wrote = if short && half < bytes.len() { Wrote::Half } else { Wrote::All };
        let bytes = if wrote == Wrote::Half { &bytes[..half] } else { bytes };
        let op = Pending::Write { offset, bytes: bytes.to_vec() };
        apply(&mut inode.cached, &op);
        inode.pending.push(op);
        self.end().map(|()| wrote)
    }

    pub(super) fn set_length(&mut self, file: Handle, length: u64) -> Result<(), DiskFault> {
        self.changes += 1;
        self.begin()?;
        let inode = &mut self.inodes[file.0];
        let op = Pending::SetLength(length);
        apply(&mut inode.cached, &op);
        inode.pending.push(op);
        self.end()
    }

    /// What a sync that starts now must make durable.
    pub(super) fn barrier(&self, file: Handle) -> Barrier {
        Barrier(self.inodes[file.0].pending.len())
    }

    /// Makes durable what was written before `barrier`. A failure loses some of it for good.
    pub(super) fn sync(&mut self, file: Handle, barrier: Barrier) -> Result<(), DiskFault> {
        let failed = self.begin();
        if failed == Err(DiskFault::Crash) {
            return failed;
        }
        let inode = &mut self.inodes[file.0];
        // A failed sync in between took some of them away.
        let count = barrier.0.min(inode.pending.len());
        for op in inode.pending.drain(..count) {
            if failed.is_ok() || self.rng.below(2) == 0 {
                apply(&mut inode.stable, &op);
            }
        }
        failed?;
        self.end()
    }

    pub(super) fn sync_all(&mut self, file: Handle) -> Result<(), DiskFault> {
        let barrier = self.barrier(file);
        self.sync(file, barrier)
    }

    pub(super) fn rename(&mut self, from: Name, to: Name) -> Result<(), DiskFault> {
        self.changes += 1;
        self.begin()?;
        let inode = self.names.remove(&from).ok_or(DiskFault::Io)?;
        self.names.insert(to, inode);
        self.pending_names.push(NameOp::Rename(from, to, inode));
        self.end()
    }

    pub(super) fn unlink(&mut self, name: Name) -> Result<(), DiskFault> {
        self.changes += 1;
        self.begin()?;
        if self.names.remove(&name).is_some() {
            self.pending_names.push(NameOp::Unlink(name));
        }
        self.end()
    }

    /// Makes the names of `folder` durable. Renaming is durable with the folder of the new name.
    pub(super) fn sync_folder(&mut self, folder: Folder) -> Result<(), DiskFault> {
        self.begin()?;
        let touches = |op: &NameOp| match op {
            NameOp::Link(name, _) | NameOp::Unlink(name) | NameOp::Rename(_, name, _) => name.folder() == folder,
        };
        let (now, later) = std::mem::take(&mut self.pending_names).into_iter().partition(touches);
        self.pending_names = later;
        let now: Vec<NameOp> = now;
        now.into_iter().for_each(|op| self.settle_name(op));
        self.end()
    }

    fn settle_name(&mut self, op: NameOp) {
        match op {
            NameOp::Link(name, inode) => {
                self.stable_names.insert(name, inode);
            }
            NameOp::Unlink(name) => {
                self.stable_names.remove(&name);
            }
            NameOp::Rename(from, to, inode) => {
                if self.stable_names.get(&from) == Some(&inode) {
                    self.stable_names.remove(&from);
                }
                self.stable_names.insert(to, inode);
                // One folder entry moved: its making cannot come back after its going.
                self.pending_names
                    .retain(|op| !matches!(op, NameOp::Link(name, linked) if (*name, *linked) == (from, inode)));
            }
        }
    }

    /// The power goes and comes back.
    pub(super) fn crash(&mut self) {
        // Some crashes lose everything unsynced, some almost nothing.
        let keep = [0, 300, 700, 1000][at(self.rng.below(4))];
        for op in std::mem::take(&mut self.pending_names) {
            if self.rng.below(1000) < keep {
                self.settle_name(op);
            }
        }
        let rng = &mut self.rng;
        for inode in &mut self.inodes {
            let mut pending = std::mem::take(&mut inode.pending);
            for last in (1..pending.len()).rev() {
                pending.swap(last, at(rng.below(u64::try_from(last).unwrap_or(0) + 1)));
            }
            for op in pending {
                if rng.below(1000) < keep {
                    tear(rng, inode.sector, &op).iter().for_each(|op| apply(&mut inode.stable, op));
                }
            }
            inode.cached.clone_from(&inode.stable);
        }
        self.names.clone_from(&self.stable_names);
    }
}

/// The sectors of a write that reach the platter when the power goes in the middle of it.
fn tear(rng: &mut Rng, sector: usize, op: &Pending) -> Vec<Pending> {
    let Pending::Write { offset, bytes } = op else { return vec![op.clone()] };
    if rng.below(2) == 0 {
        return vec![op.clone()];
    }
    let parts = bytes.chunks(sector.max(1)).zip((*offset..).step_by(sector.max(1)));
    parts.filter(|_| rng.below(2) == 0).map(|(part, offset)| Pending::Write { offset, bytes: part.to_vec() }).collect()
}
