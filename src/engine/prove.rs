//! `dray verify`: proves a directory against its receipt and tree, and takes refuted pieces back for refetching.

use std::path::Path;

use crate::disk::Dest;
use crate::engine::read::{ReadBytes, read_all};
use crate::engine::resume::{self, SealedState};
use crate::error::{self, Error};
use crate::manifest::receipt::{FileReceipt, Receipt};
use crate::manifest::{Entry, Manifest};
use crate::schedule::FilePlan;
use crate::verify::{self, PieceProof, Sums};

/// What a scan of a sealed directory found.
#[derive(Debug, Clone)]
pub struct Proof {
    /// What the directory says of itself.
    pub receipt: Receipt,
    /// Bytes read and hashed.
    pub bytes: u64,
    /// Files that are not as sealed.
    pub damaged: Vec<Damage>,
}

/// What is wrong with one file.
#[derive(Debug, Clone)]
pub struct Damage {
    /// Its path below DEST.
    pub path: String,
    /// Its place in the receipt.
    pub index: usize,
    /// What is wrong, in words.
    pub what: String,
    /// Pieces that do not hash as sealed; `None` when the file is missing or has another size.
    pub pieces: Option<Vec<u64>>,
}

/// Scans `dir` past the page cache where the disk allows it, counting in `tally` what it has read so far.
///
/// # Errors
/// [`Error::NotFound`] without a receipt, [`Error::Storage`] when reading fails. Damage is not an error here.
pub fn prove(dir: &Path, tally: &ReadBytes) -> Result<Proof, Error> {
    let dest = Dest::open_existing(dir)?;
    let sealed = sealed(&dest, dir)?;
    let mut proof = Proof { receipt: sealed.receipt.clone(), bytes: 0, damaged: Vec::new() };
    for (index, file) in sealed.receipt.files.iter().enumerate() {
        let damage = prove_file(&dest, &sealed, index, file, tally)?;
        proof.bytes += file.size;
        if let Some((what, pieces)) = damage {
            proof.damaged.push(Damage { path: file.path.to_string(), index, what, pieces });
        }
    }
    Ok(proof)
}

fn sealed(dest: &Dest, dir: &Path) -> Result<SealedState, Error> {
    resume::sealed_state(dest)?
        .ok_or_else(|| Error::NotFound(format!("{} holds no receipt: it was not sealed by dray", dir.display())))
}

type Finding = Option<(String, Option<Vec<u64>>)>;

fn prove_file(
    dest: &Dest,
    sealed: &SealedState,
    index: usize,
    file: &FileReceipt,
    tally: &ReadBytes,
) -> Result<Finding, Error> {
    let failed = |error: std::io::Error| error::storage("read a published file", &error);
    let Some(handle) = dest.open_published(&file.path).map_err(failed)? else {
        return Ok(Some(("missing".to_owned(), None)));
    };
    match dest.file_size(&file.path).map_err(failed)? {
        Some(size) if size == file.size => {}
        other => return Ok(Some((format!("{} bytes instead of {}", other.unwrap_or(0), file.size), None))),
    }
    let proofs = read_all(&handle, file.size, Sums::default(), tally).map_err(failed)?;
    let cvs = sealed.tree.as_ref().and_then(|tree| tree.files.get(index));
    let differs = |piece: usize, proof: &PieceProof| cvs.is_some_and(|cvs| cvs.get(piece) != Some(&proof.cv));
    let bad: Vec<u64> = (0..)
        .zip(proofs.iter().enumerate())
        .filter(|(_, (slot, proof))| differs(*slot, proof))
        .map(|(piece, _)| piece)
        .collect();
    if !bad.is_empty() {
        return Ok(Some((format!("{} of {} pieces differ", bad.len(), proofs.len()), Some(bad))));
    }
    let same = verify::root(file.size, &proofs) == file.blake3;
    Ok((!same).then(|| ("its digest differs from the receipt's".to_owned(), None)))
}

/// Withdraws damaged files from their final names and journals their good pieces, so that a pull refetches only the bad ones.
///
/// Returns how many files lost their final name. `manifest` is what the source holds now: a file whose version is not the receipt's any more cannot be repaired
/// and nothing is touched. Damaged files are read again, counted in `tally`.
///
/// # Errors
/// [`Error::Changed`] as above; storage errors.
pub fn withdraw(dir: &Path, manifest: &Manifest, proof: &Proof, tally: &ReadBytes) -> Result<usize, Error> {
    let failed = |error: std::io::Error| error::storage("withdraw a damaged file", &error);
    let dest = Dest::open_existing(dir)?;
    let _lock = dest
        .try_lock()?
        .ok_or_else(|| Error::Network("another process works on this directory; try again later".to_owned()))?;
    let sealed = sealed(&dest, dir)?;
    repairable(manifest, &sealed.receipt)?;
    let mut plans = Vec::with_capacity(manifest.entries.len());
    for entry in &manifest.entries {
        let position = sealed.receipt.files.iter().position(|file| file.path == entry.path);
        let index = position.ok_or_else(|| Error::Internal("a matched receipt lacks a file".to_owned()))?;
        let damage = proof.damaged.iter().find(|damage| damage.index == index);
        let mut plan = resume::fresh_plan(manifest, entry);
        keep_good(&dest, &sealed, (index, damage), entry, &mut plan, tally).map_err(failed)?;
        plans.push(plan);
    }
    // The journal says what is good before the receipt that called everything good goes.
    resume::replace_journal(&dest, &plans).map_err(failed)?;
    dest.state_remove(resume::RECEIPT).map_err(failed)?;
    let mut withdrawn = 0;
    for (entry, plan) in manifest.entries.iter().zip(&plans).filter(|(_, plan)| !plan.sealed) {
        if !plan.held.is_empty() {
            dest.withdraw(&entry.path, &plan.id).map_err(failed)?;
        }
        withdrawn += 1;
    }
    Ok(withdrawn)
}

/// Refuses to repair from a source that is not what `receipt` says was fetched.
///
/// # Errors
/// [`Error::Changed`].
pub fn repairable(manifest: &Manifest, receipt: &Receipt) -> Result<(), Error> {
    if receipt.matches(manifest) {
        return Ok(());
    }
    let text = "the source is not what the receipt describes any more; pull it again instead of repairing";
    Err(Error::Changed(text.to_owned()))
}

/// Keeps in `plan` what is good of the receipt's file `index`: all of it, or the pieces that still hash as sealed.
fn keep_good(
    dest: &Dest,
    sealed: &SealedState,
    (index, damage): (usize, Option<&Damage>),
    entry: &Entry,
    plan: &mut FilePlan,
    tally: &ReadBytes,
) -> std::io::Result<()> {
    let file = &sealed.receipt.files[index];
    let cvs = sealed.tree.as_ref().and_then(|tree| tree.files.get(index));
    let held: Vec<Option<PieceProof>> = match (damage, cvs) {
        // The scan has just found it to be what the tree says.
        (None, Some(cvs)) => cvs.iter().map(|cv| Some(PieceProof { cv: *cv, crc64nvme: 0, crc32: 0 })).collect(),
        // A file that is missing or of another size has no piece worth keeping, and without a tree none is known.
        (Some(Damage { pieces: None, .. }), _) | (Some(_), None) => return Ok(()),
        _ => {
            let Some(published) = dest.open_published(&entry.path)? else { return Ok(()) };
            let read = read_all(&published, file.size, Sums::of(&entry.stated), tally)?;
            match cvs {
                Some(cvs) => read.iter().zip(cvs).map(|(read, cv)| Some(*read).filter(|read| read.cv == *cv)).collect(),
                None if verify::root(file.size, &read) == file.blake3 => read.into_iter().map(Some).collect(),
                None => return Ok(()),
            }
        }
    };
    (plan.size, plan.held, plan.sealed) = (Some(file.size), held, damage.is_none());
    Ok(())
}
