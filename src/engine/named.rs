//! Files of a cache that this tool has no proof of: another tool's, or those of an earlier pull of another revision.
//!
//! In: entries whose paths are the names of their contents. Out: plans of files that are what they are called.
//! Holds: nothing is taken over that was not read whole and hashed to its name.

use crate::disk::Dest;
use crate::engine::ordered;
use crate::engine::read::{ReadBytes, read_all};
use crate::error::{self, Error};
use crate::manifest::{Entry, Manifest, Stated};
use crate::schedule::FilePlan;
use crate::verify::Sums;

/// Takes over what stands under its final name in a cache and hashes to that name; anything else is fetched.
///
/// # Errors
/// Storage errors. A file that is not what it is called is none.
pub(super) fn take_over(
    dest: &Dest,
    manifest: &Manifest,
    plans: &mut [FilePlan],
    tally: &ReadBytes,
) -> Result<(), Error> {
    for (entry, plan) in manifest.entries.iter().zip(plans).filter(|(_, plan)| !plan.sealed) {
        let (Some(name), Some(size)) = (content_of(entry), entry.size) else { continue };
        let failed = |error: std::io::Error| error::storage("read a blob of the cache", &error);
        if dest.file_size(&entry.path).map_err(failed)? != Some(size) {
            continue;
        }
        let Some(file) = dest.open_published(&entry.path).map_err(failed)? else { continue };
        let mut stated = plan.stated.clone();
        if !stated.contains(&name) {
            stated.push(name.clone());
        }
        let computed = ordered::read_whole(&file, size, &stated, tally)
            .map_err(|failure| Error::of(failure.kind, format!("{}: {}", entry.path, failure.detail)))?;
        if !computed.contains(&name) {
            tracing::warn!(path = %entry.path, "a blob is not what it is called; it is fetched again");
            continue;
        }
        let proofs = read_all(&file, size, Sums::of(&plan.stated), tally).map_err(failed)?;
        plan.held = proofs.into_iter().map(Some).collect();
        (plan.size, plan.sealed, plan.computed) = (Some(size), true, computed);
    }
    Ok(())
}

/// What a file must hash to that is named after its content.
fn content_of(entry: &Entry) -> Option<Stated> {
    let name = entry.version.content.as_deref()?;
    if entry.path.as_str().strip_prefix("blobs/") != Some(name) {
        return None;
    }
    match name.len() {
        64 => bytes::<32>(name).map(Stated::Sha256),
        40 => bytes::<20>(name).map(Stated::GitBlob),
        _ => None,
    }
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Ranges, SafePath, Version};

    fn named(path: &str, content: &str) -> Option<Stated> {
        content_of(&Entry {
            path: SafePath::parse(path).unwrap(),
            object: "a".to_owned(),
            size: Some(1),
            version: Version { content: Some(content.to_owned()), ..Version::default() },
            ranges: Ranges::Assumed,
            stated: Vec::new(),
        })
    }

    #[test]
    fn only_a_file_that_is_named_after_its_content_must_hash_to_its_name() {
        let (git, lfs) = ("ab".repeat(20), "cd".repeat(32));
        assert_eq!(named(&format!("blobs/{git}"), &git), Some(Stated::GitBlob([0xab; 20])));
        assert_eq!(named(&format!("blobs/{lfs}"), &lfs), Some(Stated::Sha256([0xcd; 32])));
        for (path, content) in [("a", lfs.as_str()), ("blobs/x", &lfs), ("blobs/x", "x"), (&git, &git)] {
            assert_eq!(named(path, content), None, "{path}");
        }
    }
}
