//! Every row of the table that upstream's initializer (0.21.0) ends otherwise, and why that is meant.
//!
//! `make test-upstream` fails for a difference that is not here, and for one here that is no more.
//! docs/kserve.md tells users the same.

/// One row and what upstream does there.
pub(crate) struct Difference {
    pub(crate) row: &'static str,
    pub(crate) how: How,
    /// What upstream does.
    pub(crate) why: &'static str,
}

/// How upstream's run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// With success where the row fails.
    Succeeds,
    /// With failure where the row succeeds.
    Fails,
    /// As the row, with other files.
    OtherFiles,
}

pub(crate) const DIFFERENCES: [Difference; 0] = [];
