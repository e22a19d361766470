//! What the engine and the simulator tell the scheduler.

use crate::error::{Error, Failure};
use crate::manifest::Stated;
use crate::schedule::{CheckpointId, FileIndex, FilePlan, SpanId};
use crate::verify::PieceProof;

/// What happened. Events of one span come in order: its pieces, then its end.
#[derive(Debug, Clone)]
pub enum Event {
    /// An `Open` ended.
    Opened {
        /// The file.
        file: FileIndex,
        /// Whether its part file can be written.
        result: Result<(), Failure>,
    },
    /// Bytes of a span arrived.
    Received {
        /// How many.
        bytes: u64,
        /// Whether the span waited on their way for a slab, a write or durability: more spans would not have
        /// brought them sooner.
        held: bool,
    },
    /// A reply ended early after real progress; the lane asks its unreceived rest on a new connection.
    Continued {
        /// The span that goes on.
        span: SpanId,
    },
    /// A piece is hashed and its write has completed. Not durable yet.
    Written {
        /// The span that brought it.
        span: SpanId,
        /// The span's file.
        file: FileIndex,
        /// Its index in the file. Pieces of a span may come in any order.
        piece: u64,
        /// What was computed of the bytes that were written.
        proof: PieceProof,
    },
    /// A stream without a stated length ended; all its pieces were `Written`.
    Sized {
        /// The span.
        span: SpanId,
        /// The span's file.
        file: FileIndex,
        /// Bytes of the whole.
        size: u64,
    },
    /// A span ended; every piece of it that was written has been reported before.
    Ended {
        /// The span.
        span: SpanId,
        /// Whether all of it arrived.
        result: Result<(), Failure>,
    },
    /// A `SyncData` ended.
    DataSynced {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Whether every file of it was synced. A failure poisons all of them.
        result: Result<(), Failure>,
    },
    /// An `Append` ended: the records are in the journal and the journal is synced.
    Appended {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// A failure ends all appending.
        result: Result<(), Failure>,
    },
    /// A `Note` ended.
    Noted {
        /// A failure ends all noting, and nothing else: the list is a help.
        result: Result<(), Failure>,
    },
    /// A `Renew` ended.
    Renewed {
        /// The file.
        file: FileIndex,
        /// Whether new spans will use a new access.
        result: Result<(), Failure>,
    },
    /// A `Restat` ended.
    Restated {
        /// The file.
        file: FileIndex,
        /// What the object is now. The file starts over, even when that is what was planned.
        result: Result<FilePlan, Failure>,
    },
    /// A `Hash` ended.
    Hashed {
        /// The file.
        file: FileIndex,
        /// The statements that need an order, as the bytes make them.
        result: Result<Vec<Stated>, Failure>,
    },
    /// A `Seal` ended.
    Sealed {
        /// The file.
        file: FileIndex,
        /// All its steps, or the first failure.
        result: Result<(), Failure>,
    },
    /// A `Publish` ended.
    Published {
        /// All its steps, or the first failure.
        result: Result<(), Failure>,
    },
    /// The process was asked to stop, or its deadline passed.
    StopAsked {
        /// What the run ends with.
        error: Error,
    },
}
