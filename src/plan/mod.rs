//! Says what a pull of a manifest comes to: nothing, or so many files and bytes on so much disk. Pure.
//!
//! In: a [`Manifest`], the receipt of the directory if it has one. Out: a [`Plan`].

use crate::error::Error;
use crate::manifest::{Manifest, Receipt};
use crate::units;

/// Blocks of the usual file systems: each file's last one is full.
const BLOCK_BYTES: u64 = 4096;

/// Room for journal, receipt and folders.
const STATE_BYTES: u64 = 4 * units::MIB;

/// Bytes of `tree.b3` and of the journal together, per piece: 32 and 64, rounded up for record heads.
const STATE_BYTES_PER_PIECE: u64 = 128;

/// What a pull comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Whether anything is to be fetched.
    pub state: State,
    /// Files of the model.
    pub files: u64,
    /// Sum of the known sizes.
    pub bytes: u64,
    /// Files whose size the origin does not say.
    pub unsized_files: u64,
    /// Disk space a pull from nothing takes, state included.
    pub disk_bytes: u64,
}

/// Whether a directory holds a manifest already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The receipt speaks of exactly these files and versions; whether they are still there is for the caller to see.
    Sealed,
    /// Something is to be fetched.
    Wanted,
}

/// Compares a manifest with the directory's receipt and adds it up.
pub fn plan(manifest: &Manifest, receipt: Option<&Receipt>) -> Plan {
    let sealed = receipt.is_some_and(|receipt| receipt.matches(manifest));
    let sizes = || manifest.entries.iter().map(|entry| entry.size);
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let on_disk = |size: u64| {
        let blocks = size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        blocks.saturating_add(units::piece_count(size).saturating_mul(STATE_BYTES_PER_PIECE))
    };
    Plan {
        state: if sealed { State::Sealed } else { State::Wanted },
        files: count(manifest.entries.len()),
        bytes: manifest.total_bytes(),
        unsized_files: count(sizes().filter(Option::is_none).count()),
        disk_bytes: sizes().flatten().map(on_disk).fold(STATE_BYTES, u64::saturating_add),
    }
}

impl Plan {
    /// Refuses a pull that cannot fit, before its first byte: `held_bytes` are on disk already, `free_bytes` are left.
    ///
    /// # Errors
    /// [`Error::DiskFull`] with both figures.
    pub fn preflight(&self, held_bytes: u64, free_bytes: u64) -> Result<(), Error> {
        let needed = self.disk_bytes.saturating_sub(held_bytes);
        if self.state == State::Sealed || needed <= free_bytes {
            return Ok(());
        }
        Err(Error::DiskFull(format!(
            "the model needs {} more disk space and {} are free; nothing was fetched",
            units::show_size(needed),
            units::show_size(free_bytes)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::receipt::FileReceipt;
    use crate::manifest::{Digest, Entry, Ranges, SafePath, Version};

    fn manifest(sizes: &[Option<u64>]) -> Manifest {
        let entry = |(index, size): (usize, &Option<u64>)| Entry {
            path: SafePath::parse(&format!("f{index}")).unwrap(),
            object: format!("m/f{index}"),
            size: *size,
            version: Version { etag: Some("\"e\"".to_owned()), ..Version::default() },
            ranges: Ranges::Assumed,
            stated: Vec::new(),
        };
        Manifest { source: "s3://bucket/m".to_owned(), entries: sizes.iter().enumerate().map(entry).collect() }
    }

    #[test]
    fn sizes_add_up_and_unknown_ones_are_counted() {
        let plan = plan(&manifest(&[Some(1), None, Some(0), Some(2 << 20)]), None);
        assert_eq!((plan.state, plan.files, plan.bytes, plan.unsized_files), (State::Wanted, 4, (2 << 20) + 1, 1));
        assert_eq!(plan.disk_bytes, (4 << 20) + 4096 + 128 + (2 << 20) + 256);
        let huge = super::plan(&manifest(&[Some(u64::MAX), Some(u64::MAX)]), None);
        assert_eq!((huge.bytes, huge.disk_bytes), (u64::MAX, u64::MAX));
    }

    #[test]
    fn a_matching_receipt_leaves_nothing_to_do() {
        let manifest = manifest(&[Some(5)]);
        let file = FileReceipt::new(&manifest.entries[0], 5, Digest([0; 32]), "hashed", Vec::new());
        let receipt = Receipt::new(manifest.source.clone(), vec![file], b"");
        let sealed = plan(&manifest, Some(&receipt));
        assert_eq!(sealed.state, State::Sealed);
        assert_eq!(sealed.preflight(0, 0), Ok(()));
        let other = Receipt { source: "s3://bucket/n".to_owned(), ..receipt };
        assert_eq!(plan(&manifest, Some(&other)).state, State::Wanted);
    }

    #[test]
    fn a_model_larger_than_the_disk_is_refused_before_it_starts() {
        let plan = plan(&manifest(&[Some(1 << 30)]), None);
        assert_eq!(plan.preflight(0, 2 << 30), Ok(()));
        assert_eq!(plan.preflight(1 << 30, 8 << 20), Ok(()));
        assert!(matches!(plan.preflight(0, 1 << 30), Err(Error::DiskFull(_))));
    }
}
