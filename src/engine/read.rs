//! What a scan reads: proofs from threads that report pieces in any order, and how far they are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::disk::scan;
use crate::units::piece_count;
use crate::verify::{self, PieceProof, Sums};

/// How many bytes a scan has read so far; clones share it.
#[derive(Debug, Clone, Default)]
pub struct ReadBytes(Arc<AtomicU64>);

impl ReadBytes {
    /// Bytes read so far.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: &[u8]) {
        self.0.fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// One place a piece; a scan's threads fill them.
pub(super) struct ReadProofs(Mutex<Vec<Option<PieceProof>>>);

impl ReadProofs {
    /// Places for `pieces` pieces.
    pub(super) fn new(pieces: usize) -> Self {
        Self(Mutex::new(vec![None; pieces]))
    }

    /// Notes what was read of `piece`; a piece beyond the end is nobody's and is left out.
    pub(super) fn put(&self, piece: u64, proof: PieceProof) {
        let mut proofs = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(place) = usize::try_from(piece).ok().and_then(|piece| proofs.get_mut(piece)) {
            *place = Some(proof);
        }
    }

    /// The proofs by piece; `None` where nothing was read.
    pub(super) fn into_inner(self) -> Vec<Option<PieceProof>> {
        self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reads a whole file and hashes each piece, with `sums`.
///
/// # Errors
/// The kernel's, or that the file is shorter than `size`.
pub(super) fn read_all(
    file: &scan::ScanFile,
    size: u64,
    sums: Sums,
    read: &ReadBytes,
) -> std::io::Result<Vec<PieceProof>> {
    let all: Vec<u64> = (0..piece_count(size)).collect();
    let proofs = ReadProofs::new(all.len());
    scan::pieces(file, size, &all, |piece, bytes| {
        read.add(bytes);
        proofs.put(piece, verify::prove_piece(Some(size), piece, bytes, sums))
    })?;
    let proofs: Vec<PieceProof> = proofs.into_inner().into_iter().flatten().collect();
    if proofs.len() == all.len() {
        Ok(proofs)
    } else {
        Err(std::io::Error::other("the file changed while it was read"))
    }
}
