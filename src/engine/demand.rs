//! What a user demands of a model before anything is fetched: pins, and how much must be stated about each file.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Pull;
use crate::error::Error;
use crate::manifest::receipt::Receipt;
use crate::manifest::{Digest, Entry, SafePath, Stated};

/// What must be known of a file before it may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Require {
    /// A computed digest is enough.
    #[default]
    None,
    /// The store's own checksum must match.
    Origin,
    /// A pin must match.
    Pinned,
}

/// Most files of one pull. Each takes about 1.5 KiB for its name, version, state and report: 360 MiB for all of them.
const FILES_MAX: usize = 250_000;

/// Refuses a pull of more files than [`FILES_MAX`], and forgets them: the report would hold them all once more.
///
/// # Errors
/// [`Error::Policy`] with both figures.
pub(super) fn few_enough(pull: &mut Pull) -> Result<(), Error> {
    let files = pull.manifest.entries.len();
    if files <= FILES_MAX {
        return Ok(());
    }
    pull.manifest.entries = Vec::new();
    let text = format!("the source has {files} files, and one pull takes at most {FILES_MAX}");
    Err(Error::Policy(format!("{text}: name a folder of it, or choose with --allow")))
}

/// Adds the pins to the manifest and refuses what cannot meet `require`.
pub(super) fn apply(pull: &mut Pull) -> Result<(), Error> {
    if let Some(pin) = &pull.pin {
        add_pins(&mut pull.manifest.entries, pin, Stated::Blake3)?;
    }
    if let Some(sealed) = &pull.sealed {
        add_pins(&mut pull.manifest.entries, sealed, Stated::Sealed)?;
    }
    for entry in pull.manifest.entries.iter().filter(|entry| entry.size != Some(0)) {
        check(pull.require, &entry.path, &entry.stated)?;
    }
    Ok(())
}

fn add_pins(entries: &mut [Entry], pin: &Receipt, statement: fn(Digest) -> Stated) -> Result<(), Error> {
    let pins: BTreeMap<_, _> = pin.files.iter().map(|file| (&file.path, file)).collect();
    let have: BTreeSet<SafePath> = entries.iter().map(|entry| entry.path.clone()).collect();
    if let Some(missing) = pin.files.iter().find(|file| !have.contains(&file.path)) {
        return Err(Error::Integrity(format!("`{}` is pinned but not among the files to fetch", missing.path)));
    }
    for entry in entries {
        let path = &entry.path;
        let file = pins.get(path).ok_or_else(|| Error::Integrity(format!("`{path}` is not in the pin")))?;
        if entry.size.is_some_and(|size| size != file.size) {
            return Err(Error::Integrity(format!("`{path}` is not as pinned: the pin says {} bytes", file.size)));
        }
        entry.stated.push(statement(file.blake3));
    }
    Ok(())
}

/// Refuses a file about which nobody states enough.
pub(super) fn check(require: Require, path: &SafePath, stated: &[Stated]) -> Result<(), Error> {
    let pinned = stated.iter().any(|stated| matches!(stated, Stated::Blake3(_)));
    let known = match require {
        Require::None => true,
        Require::Origin => stated.iter().any(|stated| !matches!(stated, Stated::Sealed(_))),
        Require::Pinned => pinned,
    };
    if known {
        return Ok(());
    }
    let what = if require == Require::Pinned { "no pin covers it" } else { "the store states no checksum" };
    Err(Error::Integrity(format!("`{path}` cannot be proven: {what}, and --require asks for one")))
}
