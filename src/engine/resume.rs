//! What a directory already holds: the receipt of a sealed model, the journal of an unfinished one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::disk::{Dest, scan};
use crate::engine::read::{ReadBytes, ReadProofs, read_all};
use crate::engine::{Pull, listed, named, ordered};
use crate::error::{self, Error};
use crate::journal::file::JournalFile;
use crate::journal::record::{self, Encoder, Replay};
use crate::manifest::receipt::{self, FileReceipt, Receipt};
use crate::manifest::{Entry, FileId, Manifest, Stated};
use crate::schedule::resume::{Present, Whereabouts, whereabouts};
use crate::schedule::{self, FileIndex, FilePlan};
use crate::verify::tree::{self, Tree};
use crate::verify::{self, Cv, PieceProof, Sums};

/// Largest journal that is read back: a record of 8 pieces takes 512 bytes, so this covers 8 TiB.
const JOURNAL_BYTES_MAX: u64 = 512 << 20;

/// Largest receipt that is read back.
const RECEIPT_BYTES_MAX: u64 = 256 << 20;

/// The names of the state files under `.dray/`.
pub(super) const RECEIPT: &str = "receipt.json";
pub(super) const TREE: &str = "tree.b3";
const JOURNAL: &str = "journal";

/// What opens the DEST of `pull`; it makes folders and syncs them.
pub(super) fn opening(pull: &Pull) -> impl FnOnce() -> Result<Dest, Error> + Send + 'static {
    let open = if pull.names.is_some() { Dest::open_cache } else { Dest::open };
    let dir = pull.dest.clone();
    move || open(&dir)
}

/// Whether nothing is kept of an earlier pull.
pub(super) fn is_bare(dest: &Dest) -> Result<bool, Error> {
    dest.state_is_empty().map_err(|error| error::storage("look at the state folder", &error))
}

/// What a DEST holds where [`is_bare`] says so.
pub(super) fn nothing(manifest: &Manifest) -> Resumed {
    let plans = manifest.entries.iter().map(|entry| fresh_plan(manifest, entry)).collect();
    Resumed { plans, refuted: 0, occupied: 0, adopted: Adopted::new(), journaled: false }
}

/// Whether anything has the receipt's name, also what cannot be one.
pub(super) fn has_receipt(dest: &Dest) -> bool {
    !matches!(dest.state_read(RECEIPT, 0), Ok(None))
}

/// A sealed directory's own statement, when it is there and whole.
pub(super) struct SealedState {
    pub(super) receipt: Receipt,
    pub(super) tree: Option<Tree>,
}

/// Reads receipt and tree for a pull, to which a damaged receipt is none: the directory is not known to be complete.
pub(super) fn sealed_or_not(dest: &Dest) -> Result<Option<SealedState>, Error> {
    match sealed_state(dest) {
        Err(Error::Integrity(why)) => {
            tracing::warn!(%why, "the directory counts as incomplete");
            Ok(None)
        }
        other => other,
    }
}

/// Reads receipt and tree; `None` without a receipt.
///
/// # Errors
/// [`Error::Integrity`] for a receipt that cannot be one, storage errors.
pub(super) fn sealed_state(dest: &Dest) -> Result<Option<SealedState>, Error> {
    let read =
        |name| dest.state_read(name, RECEIPT_BYTES_MAX).map_err(|error| error::storage("read the receipt", &error));
    let Some(bytes) = read(RECEIPT)? else { return Ok(None) };
    let receipt =
        receipt::parse(&bytes).map_err(|error| Error::Integrity(format!("the receipt is damaged: {error}")))?;
    let tree = read(TREE)?.filter(|bytes| receipt.binds(bytes)).and_then(|bytes| tree::decode(&bytes).ok());
    Ok(Some(SealedState { receipt, tree }))
}

/// Whether the receipt speaks of exactly this manifest and every file is still there with its size.
pub(super) fn is_current(dest: &Dest, manifest: &Manifest, sealed: &SealedState) -> Result<bool, Error> {
    if !sealed.receipt.matches(manifest) {
        return Ok(false);
    }
    for file in &sealed.receipt.files {
        if file_size(dest, &file.path)? != Some(file.size) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn file_size(dest: &Dest, path: &crate::manifest::SafePath) -> Result<Option<u64>, Error> {
    dest.file_size(path).map_err(|error| error::storage("look at a published file", &error))
}

/// Makes durable what says that the model is sealed, and clears what it does not need.
pub(super) fn settle(dest: &Dest) -> Result<(), Error> {
    // The run that wrote the receipt may have died before its name was durable.
    dest.state_sync().map_err(|error| error::storage("sync the state folder", &error))?;
    clear(dest);
    Ok(())
}

/// Removes what an unfinished pull of another version left beside a sealed model; without any, nothing is written.
pub(super) fn clear(dest: &Dest) {
    let journal = !matches!(dest.state_read(JOURNAL, 0), Ok(None));
    let packed = !matches!(dest.packed_existing(), Ok(None));
    let piece = !matches!(dest.piece_exists(), Ok(false));
    if (journal || packed || piece || dest.parts().is_ok_and(|parts| !parts.is_empty()))
        && let Err(error) = dest.remove_journal()
    {
        // The model is whole all the same.
        tracing::warn!(%error, "what an unfinished pull left could not be removed");
    }
}

/// The plans, with what the directory holds already.
pub(super) struct Resumed {
    pub(super) plans: Vec<FilePlan>,
    /// Pieces that an unclean stop had claimed and the disk refuted.
    pub(super) refuted: usize,
    /// Bytes of DEST's file system that this model's files and part files take already.
    pub(super) occupied: u64,
    /// Files taken over from an earlier receipt, by their place in the manifest: what it proved of them.
    pub(super) adopted: Adopted,
    /// Whether a journal is there, whatever it is worth.
    pub(super) journaled: bool,
}

/// What an earlier receipt proved of files that are still the planned version.
pub(super) type Adopted = BTreeMap<FileIndex, FileReceipt>;

/// Says of each file what is durable, and removes part files that no longer serve.
///
/// After an unclean stop every claimed piece is read back (past the page cache where the disk allows) and hashed.
pub(super) fn resume(
    dest: &Dest,
    manifest: &Manifest,
    sealed: Option<&SealedState>,
    tally: &ReadBytes,
) -> Result<Resumed, Error> {
    let storage = |what: &'static str| move |error: std::io::Error| error::storage(what, &error);
    let bytes = JournalFile::read(dest, JOURNAL_BYTES_MAX).map_err(storage("read the journal"))?;
    let journaled = bytes.is_some();
    let mut replay = match bytes.as_deref().map(record::replay) {
        None => None,
        Some(Ok(replay)) => Some(replay),
        Some(Err(error)) => {
            tracing::warn!(%error, "the journal is damaged; nothing it claims is used");
            None
        }
    };
    let mut plans: Vec<FilePlan> = manifest.entries.iter().map(|entry| fresh_plan(manifest, entry)).collect();
    let present = present(dest, manifest)?;
    let mut refuted = BTreeSet::new();
    if let Some(replay) = &mut replay {
        forget_unpinned(manifest, replay);
        refuted = read_back(dest, manifest, replay, &present, tally)?;
        listed::take(dest, manifest, replay, tally)?;
        schedule::resume::adopt(&mut plans, replay, |index| present[index], &refuted);
    }
    let adopted = adopt(dest, manifest, sealed, &mut plans, tally)?;
    hash_published(dest, manifest, &mut plans, tally)?;
    named::take_over(dest, manifest, &mut plans, tally);
    let useful: BTreeSet<FileId> = plans.iter().filter(|plan| continues(plan)).map(|plan| plan.id).collect();
    for id in dest.parts().map_err(storage("list the part files"))? {
        if !useful.contains(&id) {
            dest.part_remove(&id).map_err(storage("remove a stale part file"))?;
        }
    }
    dest.piece_remove().map_err(storage("remove a stale part file"))?;
    let occupied = plans
        .iter()
        .zip(&present)
        .filter(|(plan, present)| plan.sealed || (present.part && continues(plan)))
        .filter_map(|(plan, _)| plan.size)
        .sum();
    Ok(Resumed { plans, refuted: refuted.len(), occupied, adopted, journaled })
}

/// Bytes of DEST's file system that part files and published files of these very versions take.
pub(super) fn reserved(dest: &Dest, manifest: &Manifest, sealed: Option<&SealedState>) -> Result<u64, Error> {
    // A pull that ended early has named its whole files and has no receipt: whether they are what its journal says is
    // for the pull that goes on to see, which counts again.
    let unfinished = sealed.is_none() && !matches!(dest.state_read(JOURNAL, 0), Ok(None));
    let mut bytes = 0_u64;
    for (entry, present) in manifest.entries.iter().zip(present(dest, manifest)?) {
        let receipt = sealed.and_then(|sealed| sealed.receipt.file(&entry.path));
        let named = unfinished || receipt.is_some_and(|file| file.is(entry));
        let kept = named && entry.size.is_some() && present.published == entry.size;
        if present.part || kept {
            bytes = bytes.saturating_add(entry.size.unwrap_or(0));
        }
    }
    Ok(bytes)
}

/// Whether a part file is worth keeping: something of it is durable.
fn continues(plan: &FilePlan) -> bool {
    plan.held.iter().any(Option::is_some)
}

/// Replaces the journal by one that claims just what `plans` hold: file numbers are this run's, refuted claims are gone.
///
/// The last step before work begins: a run that is refused earlier leaves the old journal and its clean end.
pub(super) fn fresh_journal(dest: &Dest, plans: &[FilePlan]) -> Result<JournalFile, Error> {
    let begin = || {
        // The journal's own sync of the state folder makes this name durable too.
        dest.make_parts_folder()?;
        let (content, encoder) = claims(plans);
        JournalFile::begin(dest, &content, encoder)
    };
    begin().map_err(|error| error::storage("start the journal", &error))
}

/// A journal for a DEST that has none, which begins when there is something to claim.
pub(super) fn later_journal(dest: &Arc<Dest>) -> JournalFile {
    JournalFile::later(dest.clone(), Encoder::new(attempt_id()))
}

/// Writes a journal with the claims of `plans` in the place of any other.
pub(super) fn replace_journal(dest: &Dest, plans: &[FilePlan]) -> std::io::Result<()> {
    dest.state_write(JOURNAL, &claims(plans).0)
}

/// A journal with the claims of `plans`, and the chain's end.
fn claims(plans: &[FilePlan]) -> (Vec<u8>, Encoder) {
    let mut encoder = Encoder::new(attempt_id());
    let mut bytes = encoder.header().to_vec();
    for (index, plan) in plans.iter().enumerate().filter(|(_, plan)| plan.sealed || !plan.held.is_empty()) {
        for record in schedule::resume::claims(index, plan) {
            bytes.extend_from_slice(&encoder.encode(&record));
        }
    }
    (bytes, encoder)
}

/// The plan of a file of which nothing is held.
pub(super) fn fresh_plan(manifest: &Manifest, entry: &Entry) -> FilePlan {
    FilePlan {
        id: entry.id(&manifest.source),
        name: entry.path.to_string(),
        size: entry.size,
        ranges: entry.ranges,
        stated: verify::needed(&entry.stated),
        held: Vec::new(),
        sealed: false,
        computed: Vec::new(),
    }
}

/// Whether anything tells this content from other content of its size: a version or a statement.
pub(super) fn is_told_apart(entry: &Entry) -> bool {
    !entry.version.is_empty() || !entry.stated.is_empty()
}

/// Lets go of unfinished files that nothing tells from other content.
///
/// Continued after their object changed, they would end as half of each.
fn forget_unpinned(manifest: &Manifest, replay: &mut Replay) {
    let unpinned = manifest.entries.iter().filter(|entry| !is_told_apart(entry));
    let unpinned: BTreeSet<FileId> = unpinned.map(|entry| entry.id(&manifest.source)).collect();
    replay.files.retain(|file| file.sealed.is_some() || !unpinned.contains(&file.id));
}

/// What the disk has of each entry.
fn present(dest: &Dest, manifest: &Manifest) -> Result<Vec<Present>, Error> {
    let look = |entry: &Entry| {
        let part = dest
            .part_exists(&entry.id(&manifest.source))
            .map_err(|error| error::storage("look at a part file", &error))?
            .is_some();
        Ok(Present { part, published: file_size(dest, &entry.path)? })
    };
    manifest.entries.iter().map(look).collect()
}

/// Files that an earlier receipt proves and that are still the planned version: nothing of them is fetched again.
fn adopt(
    dest: &Dest,
    manifest: &Manifest,
    sealed: Option<&SealedState>,
    plans: &mut [FilePlan],
    tally: &ReadBytes,
) -> Result<Adopted, Error> {
    let mut adopted = Adopted::new();
    let Some(SealedState { receipt, tree: Some(tree) }) = sealed else { return Ok(adopted) };
    if receipt.archive.is_some() {
        // Its files are members, none of them an object of the origin.
        return Ok(adopted);
    }
    let places: BTreeMap<_, _> =
        receipt.files.iter().zip(&tree.files).map(|(file, cvs)| (&file.path, (file, cvs))).collect();
    for (index, entry) in manifest.entries.iter().enumerate() {
        let Some((file, cvs)) = places.get(&entry.path).filter(|(file, _)| file.is(entry)) else { continue };
        if file_size(dest, &file.path)? != Some(file.size) {
            continue;
        }
        let plan = &mut plans[index];
        let told = |stated: &Stated| file.checks.iter().any(|name| name == stated.name());
        if plan.stated.iter().all(|stated| told(stated) || stated.is_digest()) {
            // The tree keeps no sums: what they proved stands in the receipt, so only pins are compared again.
            plan.stated.retain(Stated::is_digest);
            plan.held = cvs.iter().map(|cv| Some(PieceProof { cv: *cv, crc64nvme: 0, crc32: 0 })).collect();
        } else {
            // The store states what the receipt does not know: the bytes must answer.
            let Some(proofs) = read_again(dest, file, cvs, Sums::of(&plan.stated), tally)? else { continue };
            plan.held = proofs.into_iter().map(Some).collect();
        }
        plan.size = Some(file.size);
        plan.sealed = true;
        adopted.insert(index, (*file).clone());
    }
    Ok(adopted)
}

/// Reads published files once more for statements that need their bytes in order: neither tree nor journal keeps those.
fn hash_published(dest: &Dest, manifest: &Manifest, plans: &mut [FilePlan], tally: &ReadBytes) -> Result<(), Error> {
    let serial = |plan: &FilePlan| plan.sealed && plan.stated.iter().any(verify::is_serial);
    for (entry, plan) in manifest.entries.iter().zip(plans).filter(|(_, plan)| serial(plan)) {
        let published = dest.open_published(&entry.path);
        match published.map_err(|error| error::storage("read a published file", &error))? {
            Some(file) => {
                plan.computed = ordered::read_whole(&file, plan.size.unwrap_or(0), &plan.stated, tally)
                    .map_err(|failure| Error::of(failure.kind, format!("{}: {}", entry.path, failure.detail)))?;
            }
            None => *plan = fresh_plan(manifest, entry),
        }
    }
    Ok(())
}

/// The proofs of a published file that still is what the tree says, with `sums`.
fn read_again(
    dest: &Dest,
    file: &FileReceipt,
    cvs: &[Cv],
    sums: Sums,
    tally: &ReadBytes,
) -> Result<Option<Vec<PieceProof>>, Error> {
    let failed = |error: std::io::Error| error::storage("read a published file", &error);
    let Some(published) = dest.open_published(&file.path).map_err(failed)? else { return Ok(None) };
    let proofs = read_all(&published, file.size, sums, tally).map_err(failed)?;
    Ok(proofs.iter().map(|proof| &proof.cv).eq(cvs).then_some(proofs))
}

/// Pieces, by file, that were read back and are not as claimed.
type Refuted = BTreeSet<(FileIndex, u64)>;

/// Reads back what an unclean stop claims, or what lacks a sum that is stated now, and takes the proofs that were read.
fn read_back(
    dest: &Dest,
    manifest: &Manifest,
    replay: &mut Replay,
    present: &[Present],
    tally: &ReadBytes,
) -> Result<Refuted, Error> {
    let failed = |error: std::io::Error| error::storage("read back a part file", &error);
    let clean = replay.clean;
    let places: BTreeMap<FileId, usize> =
        replay.files.iter().enumerate().map(|(place, file)| (file.id, place)).collect();
    let mut refuted = Refuted::new();
    for (index, entry) in manifest.entries.iter().enumerate() {
        let id = entry.id(&manifest.source);
        let Some(claimed) = places.get(&id).map(|place| &mut replay.files[*place]) else { continue };
        let sums = Sums::of(&entry.stated);
        let lacks = |proof: &PieceProof| !proof.carries(sums);
        let Some(size) = claimed.size.filter(|_| !clean || claimed.held.iter().flatten().any(lacks)) else { continue };
        let file = match whereabouts(claimed, clean, present[index]) {
            Whereabouts::Part => dest.open_part(&id),
            Whereabouts::Published => dest.open_published(&entry.path),
            Whereabouts::Nowhere => continue,
        };
        let Some(file) = file.map_err(failed)? else { continue };
        let wanted: Vec<u64> =
            (0..).zip(&claimed.held).filter(|(_, proof)| proof.is_some()).map(|(piece, _)| piece).collect();
        let proofs = ReadProofs::new(claimed.held.len());
        scan::pieces(&file, size, &wanted, |piece, bytes| {
            tally.add(bytes);
            proofs.put(piece, verify::prove_piece(Some(size), piece, bytes, sums))
        })
        .map_err(failed)?;
        for ((piece, slot), read) in (0..).zip(&mut claimed.held).zip(proofs.into_inner()) {
            let Some(claim) = slot else { continue };
            match read {
                Some(read) if read.cv == claim.cv => *claim = read,
                _ => {
                    refuted.insert((index, piece));
                }
            }
        }
    }
    Ok(refuted)
}

/// Sixteen bytes that no other attempt has.
fn attempt_id() -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("dray 2026 attempt id");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    hasher.update(&now.to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}
