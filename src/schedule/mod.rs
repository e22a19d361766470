//! Decides what to do next: which span to ask, what to sync, when to seal, when to stop.
//!
//! In: a list of [`FilePlan`]s, then [`Event`]s. Out: [`Action`]s that fit the bounds. Pure: no clock,
//! sockets, files or threads; `now` and the seed are arguments, so the simulator and the engine drive the same code.
//! Holds: a piece is in exactly one of waiting, in flight, written, durable; a piece is called durable only
//! after `SyncData` and then `Append` of its proof succeeded; the receipt is the last thing written.

use std::time::Duration;

use crate::error::{Error, Failure};
use crate::journal::record::Record;
use crate::manifest::{Digest, FileId, Ranges, Stated};
use crate::units::ByteRange;
use crate::verify::PieceProof;

/// Virtual or real time since the run began.
pub type Now = Duration;

/// A file's place in the manifest.
pub type FileIndex = usize;

/// One assignment of a range to a lane; never reused within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub u64);

/// A data sync and the journal records it makes true; never reused within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckpointId(pub u64);

/// What the scheduler must know of a file before it starts.
#[derive(Debug, Clone)]
pub struct FilePlan {
    /// Names content and place; a changed object gets another.
    pub id: FileId,
    /// Bytes; `None` until a stream without length has ended.
    pub size: Option<u64>,
    /// Whether ranges may be asked.
    pub ranges: Ranges,
    /// What the digest and sums are compared with before sealing.
    pub stated: Vec<Stated>,
    /// Proofs of pieces that are durable already, by piece index; empty for none.
    pub held: Vec<Option<PieceProof>>,
    /// Already under its final name with `held` complete: only the receipt needs it.
    pub sealed: bool,
}

/// What happened. Events of one span come in order: its pieces, then its end.
#[derive(Debug, Clone)]
pub enum Event {
    /// An `Open` ended.
    Opened { file: FileIndex, result: Result<(), Failure> },
    /// Bytes of a span arrived (progress only; feeds the window and the rate).
    Received { bytes: u64 },
    /// A piece is hashed and its write has completed. Not durable yet.
    Written { span: SpanId, file: FileIndex, piece: u64, proof: PieceProof },
    /// A stream without a stated length ended; all its pieces were `Written`.
    Sized { span: SpanId, file: FileIndex, size: u64 },
    /// A span ended; every piece of it that was written has been reported before.
    Ended { span: SpanId, result: Result<(), Failure> },
    /// A `SyncData` ended.
    DataSynced { checkpoint: CheckpointId, result: Result<(), Failure> },
    /// An `Append` ended: the records are in the journal and the journal is synced.
    Appended { checkpoint: CheckpointId, result: Result<(), Failure> },
    /// A `Renew` ended.
    Renewed { file: FileIndex, result: Result<(), Failure> },
    /// A `Restat` ended: what the object is now.
    Restated { file: FileIndex, result: Result<FilePlan, Failure> },
    /// A `Seal` ended: all its steps, or the first failure.
    Sealed { file: FileIndex, result: Result<(), Failure> },
    /// A `Publish` ended.
    Published { result: Result<(), Failure> },
    /// The process was asked to stop, or its deadline passed.
    StopAsked { error: Error },
}

/// What to do. Each is answered by exactly one event of the matching kind (`Fetch` by `Ended`).
#[derive(Debug, Clone)]
pub enum Action {
    /// Create or adopt the part file of `file` and reserve its space.
    Open { file: FileIndex },
    /// Ask `range` of `file` on `lane`; `fresh` demands a new connection. `None` as range: the whole object in one reply.
    Fetch { span: SpanId, file: FileIndex, range: Option<ByteRange>, lane: usize, connection: Connection },
    /// Make the data of these part files durable (`fdatasync`), in any order.
    SyncData { checkpoint: CheckpointId, files: Vec<FileIndex> },
    /// Append these records to the journal, then make the journal durable.
    Append { checkpoint: CheckpointId, records: Vec<Record> },
    /// Renew the signed access of `file`.
    Renew { file: FileIndex },
    /// Ask the origin what the object is now (it changed).
    Restat { file: FileIndex },
    /// Run [`FILE_SEAL`] on `file`; its content is proven to be `digest`.
    Seal { file: FileIndex, size: u64, digest: Digest },
    /// Run [`MODEL_SEAL`]: every file is sealed.
    Publish,
    /// Nothing is outstanding any more; the run ends with this.
    Finish { result: Result<(), Error> },
}

/// Which connection a span may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// An idle one, if there is one.
    Any,
    /// A new one: the last try on an old one failed.
    Fresh,
}

/// One durable step of giving a file its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileStep {
    /// Cut the padding of the last direct write: the file has its exact size.
    Truncate,
    /// Mode 0644 through the descriptor.
    SetMode,
    /// `fsync` of the file.
    Sync,
    /// Rename into place, creating folders as needed.
    Rename,
}

/// The steps of sealing one file, in order; the first failure ends them.
pub const FILE_SEAL: [FileStep; 4] = [FileStep::Truncate, FileStep::SetMode, FileStep::Sync, FileStep::Rename];

/// One durable step of publishing a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelStep {
    /// `fsync` of every folder that received a name, deepest first, up to DEST's parent.
    SyncFolders,
    /// Write `tree.b3`: temporary file, `fsync`, rename.
    WriteTree,
    /// Write `receipt.json` the same way, then `fsync` its folder: from here on the model is complete.
    WriteReceipt,
    /// Remove the journal and the part folder; their loss no longer matters.
    RemoveJournal,
}

/// The steps of publishing a model, in order; the first failure ends them.
pub const MODEL_SEAL: [ModelStep; 4] =
    [ModelStep::SyncFolders, ModelStep::WriteTree, ModelStep::WriteReceipt, ModelStep::RemoveJournal];
