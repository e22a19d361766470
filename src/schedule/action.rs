//! What the scheduler wants done.

use crate::error::Error;
use crate::journal::record::Record;
use crate::journal::written::WrittenPiece;
use crate::manifest::Digest;
use crate::schedule::{CheckpointId, Connection, FileIndex, Kept, SpanId};
use crate::units::ByteRange;

/// What to do. Each is answered by exactly one event of the matching kind (`Fetch` by `Ended`).
#[derive(Debug, Clone)]
pub enum Action {
    /// Create or adopt the part file of `file` and reserve its space.
    Open {
        /// The file; its id names the part file, where that is journaled.
        file: FileIndex,
        /// Whether the part file may be continued by another run.
        kept: Kept,
    },
    /// Ask for bytes of a file.
    Fetch {
        /// Names the span in its events.
        span: SpanId,
        /// The file.
        file: FileIndex,
        /// Whole pieces; `None` for the whole object in one reply.
        range: Option<ByteRange>,
        /// The lane that takes it.
        lane: usize,
        /// Whether an idle connection will do.
        connection: Connection,
    },
    /// Make the data of part files durable (`fdatasync`), in any order, and first their folder unless it was synced
    /// since the last of them was created or adopted.
    SyncData {
        /// Names the checkpoint in its events.
        checkpoint: CheckpointId,
        /// The files.
        files: Vec<FileIndex>,
    },
    /// Append records to the journal as one batch, then make the journal durable.
    Append {
        /// Names the checkpoint in its events.
        checkpoint: CheckpointId,
        /// What is true of the disk now.
        records: Vec<Record>,
    },
    /// Write the list of pieces that are written and not durable in the place of the one before. Nothing is synced.
    Note {
        /// All of them, of files whose size is known.
        pieces: Vec<WrittenPiece>,
    },
    /// Renew the signed access of `file`.
    Renew {
        /// The file.
        file: FileIndex,
    },
    /// Ask the origin what the object is now (it changed). Nothing of the file is in use.
    Restat {
        /// The file.
        file: FileIndex,
    },
    /// Complete the sums over `file` that need its bytes in order, reading back what went past them.
    Hash {
        /// The file; every piece of it is durable.
        file: FileIndex,
    },
    /// Run [`FILE_SEAL`](crate::schedule::FILE_SEAL) on `file`.
    Seal {
        /// The file; every piece of it is durable.
        file: FileIndex,
        /// Its bytes.
        size: u64,
        /// What its content is proven to be.
        digest: Digest,
    },
    /// Run [`MODEL_SEAL`](crate::schedule::MODEL_SEAL): every file is sealed.
    Publish,
    /// Nothing is outstanding any more; the run ends with this.
    Finish {
        /// How.
        result: Result<(), Error>,
    },
}
