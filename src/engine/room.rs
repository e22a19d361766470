//! How much of DEST's file system a pull would still take. Reads only.

use std::path::Path;

use crate::disk::Dest;
use crate::engine::resume;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::plan;

/// Bytes that a pull of `manifest` into `dir` would still take, by sizes: 0 when it is sealed there.
///
/// What lies there and serves this version counts as there, by the space that is reserved for it. Files without a
/// stated size count nothing.
///
/// # Errors
/// As opening and reading DEST.
pub fn room_needed(dir: &Path, manifest: &Manifest) -> Result<u64, Error> {
    let whole = plan::plan(manifest, None).disk_bytes;
    let dest = match Dest::open_existing(dir) {
        Ok(dest) => dest,
        Err(Error::NotFound(_)) => return Ok(whole),
        Err(error) => return Err(error),
    };
    let sealed = resume::sealed_or_not(&dest)?;
    if let Some(sealed) = &sealed {
        // An archive's members take its place: that it was sealed is told by the archive.
        let unpacked = sealed.receipt.archive.is_some();
        let same = sealed.receipt.clone().of_fetched().matches(manifest);
        if (unpacked && same) || resume::is_current(&dest, manifest, sealed)? {
            return Ok(0);
        }
    }
    Ok(whole.saturating_sub(resume::reserved(&dest, manifest, sealed.as_ref())?))
}
