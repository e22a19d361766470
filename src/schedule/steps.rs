//! The durable steps that end a file and a model, in the order that survives a power cut.

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
    /// Add the names that a layout wants beside the files, each folder synced: links, then what makes them known.
    AddNames,
    /// Write `tree.b3`: temporary file, `fsync`, rename. Its name lasts with the receipt's.
    WriteTree,
    /// Write `receipt.json` the same way, then `fsync` their folder: from here on the model is complete.
    WriteReceipt,
    /// Remove the journal and the part folder; their loss no longer matters.
    RemoveJournal,
}

/// The steps of publishing a model, in order; the first failure ends them.
pub const MODEL_SEAL: [ModelStep; 5] = [
    ModelStep::SyncFolders,
    ModelStep::AddNames,
    ModelStep::WriteTree,
    ModelStep::WriteReceipt,
    ModelStep::RemoveJournal,
];
