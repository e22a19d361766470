//! Which files a journal speaks of: not one that is a single piece, and all there is.
//!
//! A journal says which pieces of a part file a crash leaves behind. Of a lone piece there is nothing to say: it is there
//! and sealed, or it is asked once more, which is less than any crash may cost. Holds: what is called durable of such a
//! file is written; the `fsync` of its seal, before its rename, is what makes it so.

use crate::schedule::scheduler::Scheduler;
use crate::schedule::{FileIndex, FilePlan};
use crate::units::PIECE_BYTES;
use crate::verify;

/// Whether what was fetched of a file outlives the run before the file is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Its pieces are synced and journaled; another run goes on with its part file.
    Journaled,
    /// Nobody goes on with its part file.
    Unjournaled,
}

/// How the files of `plans`, of which nothing is on disk, are kept.
///
/// Sums in order may have to read a part file back, which is found by its journaled name.
pub fn kept(plans: &[FilePlan]) -> Kept {
    let [plan] = plans else { return Kept::Journaled };
    let piece = plan.size.is_some_and(|size| size <= PIECE_BYTES);
    let bare = !plan.sealed && plan.held.is_empty() && !plan.stated.iter().any(verify::is_serial);
    if piece && bare { Kept::Unjournaled } else { Kept::Journaled }
}

impl Scheduler {
    /// For a run that found no journal and began none: a lone piece is sealed without one.
    #[must_use]
    pub fn unjournaled(self) -> Self {
        Self { kept: Kept::Unjournaled, ..self }
    }

    /// How a file that is about to be opened is kept: one that changed and is larger now is journaled after all.
    pub(super) fn keeping(&self, index: FileIndex) -> Kept {
        let file = &self.files[index];
        let piece = file.size.is_some_and(|size| size <= PIECE_BYTES) && !file.stated.iter().any(verify::is_serial);
        // Once the journal has spoken of the file it must hear how it ended.
        if piece && !file.claimed && !file.stale && !file.declared { self.kept } else { Kept::Journaled }
    }
}
