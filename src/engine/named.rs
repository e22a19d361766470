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
use crate::verify::{self, Sums};

/// Takes over what stands under its final name in a cache and hashes to that name; anything else is fetched.
///
/// A file that is not what it is called, or cannot be read, is fetched.
pub(super) fn take_over(dest: &Dest, manifest: &Manifest, plans: &mut [FilePlan], tally: &ReadBytes) {
    for (entry, plan) in manifest.entries.iter().zip(plans).filter(|(_, plan)| !plan.sealed) {
        let (Some(name), Some(size)) = (content_of(entry), entry.size) else { continue };
        match of_blob(dest, entry, (&name, size), plan, tally) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(path = %entry.path, "a blob is not what it is called; it is fetched again"),
            // It is another tool's: what cannot be read can be replaced, and a disk that fails will say so again.
            Err(error) => {
                tracing::warn!(path = %entry.path, %error, "a blob cannot be read; it is fetched again");
            }
        }
    }
}

/// Takes over the blob of `entry`, of `size` bytes, if it hashes to `name`; whether it does, or is not there.
fn of_blob(
    dest: &Dest,
    entry: &Entry,
    (name, size): (&Stated, u64),
    plan: &mut FilePlan,
    tally: &ReadBytes,
) -> Result<bool, Error> {
    let failed = |error: std::io::Error| error::storage("read a blob of the cache", &error);
    if dest.file_size(&entry.path).map_err(failed)? != Some(size) {
        return Ok(true);
    }
    let Some(file) = dest.open_published(&entry.path).map_err(failed)? else { return Ok(true) };
    // Who wrote it may not have waited for the disk.
    file.sync().map_err(failed)?;
    let computed = ordered::read_whole(&file, size, &plan.stated, tally)
        .map_err(|failure| Error::of(failure.kind, format!("{}: {}", entry.path, failure.detail)))?;
    if !computed.contains(name) {
        return Ok(false);
    }
    let proofs = read_all(&file, size, Sums::of(&plan.stated), tally).map_err(failed)?;
    plan.held = proofs.into_iter().map(Some).collect();
    (plan.size, plan.sealed, plan.computed) = (Some(size), true, computed);
    Ok(true)
}

/// What a file must hash to that is named after its content.
fn content_of(entry: &Entry) -> Option<Stated> {
    let name = entry.path.as_str().strip_prefix("blobs/")?;
    let names = |stated: &&Stated| {
        matches!(stated, Stated::Sha256(_) | Stated::GitBlob(_)) && verify::stated_text(stated) == name
    };
    entry.stated.iter().find(names).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Ranges, SafePath, Version};

    #[test]
    fn only_a_file_that_is_named_after_its_content_must_hash_to_its_name() {
        let (git, lfs) = (Stated::GitBlob([0xab; 20]), Stated::Sha256([0xcd; 32]));
        let (git_name, lfs_name) = (format!("blobs/{}", "ab".repeat(20)), format!("blobs/{}", "cd".repeat(32)));
        let md5 = (format!("blobs/{}", "ef".repeat(16)), Stated::Md5([0xef; 16]));
        for (path, stated, named) in [
            (git_name.as_str(), &git, true),
            (&lfs_name, &lfs, true),
            (&git_name, &lfs, false),
            (&lfs_name[6..], &lfs, false),
            ("config.json", &git, false),
            (&md5.0, &md5.1, false),
        ] {
            let entry = Entry {
                path: SafePath::parse(path).unwrap(),
                object: "a".to_owned(),
                size: Some(1),
                version: Version::default(),
                ranges: Ranges::Assumed,
                stated: vec![stated.clone()],
            };
            assert_eq!(content_of(&entry), named.then(|| stated.clone()), "{path}");
        }
    }
}
