//! Coverage marks: places a good set of seeds must have come through, so that silence means something.

/// Something worth meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A run took durable pieces over from the one before.
    PiecesAdopted,
    /// A run took a sealed file over from the one before.
    SealedAdopted,
    /// A file was published, but the journal did not say so yet.
    SealedUnjournaled,
    /// A run began after an orderly stop.
    CleanStart,
    /// A run found everything done.
    FoundCurrent,
    /// Claims were taken back.
    Dropped,
    /// An object was read in one stream.
    Streamed,
    /// An object changed and started over.
    Restarted,
    /// Content that did not match was asked again.
    Refetched,
    /// A signed access was renewed.
    Renewed,
    /// Spans waited because too much was unnoted or unsettled.
    GateClosed,
    /// A write stopped half way and went on.
    ShortWrite,
    /// A run was stopped in order.
    Interrupted,
    /// A run ended because of the network.
    Network,
    /// A run ended because of a refused identity.
    Denied,
    /// A run ended because something was missing.
    Missing,
    /// A run ended because the source kept changing.
    Changed,
    /// A run ended because content did not match.
    Integrity,
    /// A run ended because the disk was full.
    DiskFull,
    /// A run ended because the disk failed.
    Storage,
    /// The power went.
    PowerCut,
    /// A file's bytes were hashed in order.
    Hashed,
    /// A span ran ahead of an ordered sum.
    Ahead,
    /// A published file was hashed in order once more.
    HashedPublished,
    /// A process was killed while the machine ran on.
    Killed,
    /// A lone piece was sealed without a journal.
    SealedUnkept,
    /// A lone piece without a journal changed, and a journal began for what it had become.
    JournaledLate,
    /// A run took over pieces that were written and not durable.
    ListTaken,
    /// The disk did not have what was listed as written.
    ListRefuted,
}

impl Mark {
    /// Every mark.
    pub const ALL: [Self; 29] = [
        Self::PiecesAdopted,
        Self::SealedAdopted,
        Self::SealedUnjournaled,
        Self::CleanStart,
        Self::FoundCurrent,
        Self::Dropped,
        Self::Streamed,
        Self::Restarted,
        Self::Refetched,
        Self::Renewed,
        Self::GateClosed,
        Self::ShortWrite,
        Self::Interrupted,
        Self::Network,
        Self::Denied,
        Self::Missing,
        Self::Changed,
        Self::Integrity,
        Self::DiskFull,
        Self::Storage,
        Self::PowerCut,
        Self::Hashed,
        Self::Ahead,
        Self::HashedPublished,
        Self::Killed,
        Self::SealedUnkept,
        Self::JournaledLate,
        Self::ListTaken,
        Self::ListRefuted,
    ];
}

/// A set of marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks(Seen);

type Seen = [bool; Mark::ALL.len()];

impl Marks {
    fn slot(mark: Mark) -> usize {
        Mark::ALL.iter().position(|other| *other == mark).unwrap_or(0)
    }

    pub(super) fn set(&mut self, mark: Mark) {
        self.0[Self::slot(mark)] = true;
    }

    /// Whether `mark` was met.
    pub fn has(&self, mark: Mark) -> bool {
        self.0[Self::slot(mark)]
    }

    /// Adds the marks of `other`.
    pub fn add(&mut self, other: Self) {
        Mark::ALL.into_iter().filter(|mark| other.has(*mark)).for_each(|mark| self.set(mark));
    }
}
