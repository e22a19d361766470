//! What a contender left behind: whether it is all there, whether it is right, and making it durable.
//!
//! In: the folder of its run and the files that were wanted. Out: their digests, or what is wrong.
//! Holds: each tool lays files its own way: a file is found by its whole path below the folder, else by its name.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::bench::Stop;
use crate::bench::contender::SourceFile;

/// Files and folders that are looked at.
const ENTRIES_MAX: usize = 1_000_000;

/// What is said of a file whose bytes are not the source's.
pub const OTHER_BYTES: &str = " has other bytes than its source";

/// Read at once for a digest.
const BLOCK_BYTES: usize = 1 << 20;

/// Every regular file below `folder` with its size, folders of dray's own state left out.
///
/// # Errors
/// What reading a folder gave; more than a million entries.
pub fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    walk(folder, &mut |path, about| {
        if about.is_file() {
            found.push((path.to_owned(), about.len()));
        }
        Ok(())
    })?;
    let is_state = |path: &Path| path.components().any(|part| part.as_os_str() == ".dray");
    // DEST itself may lie in a folder of that name.
    found.retain(|(path, _)| !path.strip_prefix(folder).is_ok_and(is_state));
    Ok(found)
}

/// Files and folders below `folder`, and the bytes that they take on its disk.
///
/// # Errors
/// As [`files`].
pub fn space(folder: &Path) -> std::io::Result<(u64, u64)> {
    let (mut entries, mut bytes) = (0, 0_u64);
    walk(folder, &mut |_, about| {
        entries += 1;
        // stat(2) counts blocks of 512 bytes, whatever the file system's are.
        bytes = bytes.saturating_add(about.blocks().saturating_mul(512));
        Ok(())
    })?;
    Ok((entries, bytes))
}

/// Makes all of `folder` durable: files first, then folders.
///
/// # Errors
/// What opening or syncing gave; that `stop` was asked for.
pub fn sync(folder: &Path, stop: &Stop) -> std::io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    walk(folder, &mut |path, about| {
        go_on(stop)?;
        if about.is_file() {
            File::open(path)?.sync_all()?;
        } else if about.is_dir() {
            folders.push(path.to_owned());
        }
        Ok(())
    })?;
    folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

/// Finds each of `wanted` below `folder` in its whole size.
///
/// # Errors
/// The line to show: what is missing, or of another size.
pub fn find(folder: &Path, wanted: &[SourceFile]) -> Result<Vec<PathBuf>, String> {
    let there = files(folder).map_err(|error| format!("what it left cannot be read: {error}"))?;
    let name = |path: &Path| path.file_name().map(std::ffi::OsStr::to_owned);
    let mut by_name = std::collections::HashMap::<_, Vec<&(PathBuf, u64)>>::new();
    for file in &there {
        by_name.entry(name(&file.0)).or_default().push(file);
    }
    wanted
        .iter()
        .map(|file| {
            let path = Path::new(&file.path);
            let named = by_name.get(&name(path)).map_or(&[][..], Vec::as_slice);
            let exact = named.iter().find(|(found, _)| found.ends_with(path));
            let found = exact.or(if named.len() == 1 { named.first() } else { None });
            let Some((found, size)) = found else { return Err(format!("{} is missing", file.path)) };
            if *size != file.size {
                return Err(format!("{} has {size} bytes of {}", file.path, file.size));
            }
            Ok(found.clone())
        })
        .collect()
}

/// What is done about a file whose digest nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The one that is found stands for the source from now on: dray checked what it brought.
    Taken,
    /// Nothing is said of it.
    Left,
}

/// Compares each of `wanted` with what `find` found.
///
/// # Errors
/// The line to show: what differs or cannot be read; that `stop` was asked for.
pub fn compare(found: &[PathBuf], wanted: &mut [SourceFile], unknown: Unknown, stop: &Stop) -> Result<(), String> {
    for (path, file) in found.iter().zip(wanted) {
        if file.digest.is_none() && unknown == Unknown::Left {
            continue;
        }
        let digest = digest(path, stop).map_err(|error| format!("{}: {error}", file.path))?;
        if *file.digest.get_or_insert(digest) != digest {
            return Err(format!("{}{OTHER_BYTES}", file.path));
        }
    }
    Ok(())
}

/// An end between two steps of long work.
fn go_on(stop: &Stop) -> std::io::Result<()> {
    stop.check().map_err(std::io::Error::other)
}

fn digest(path: &Path, stop: &Stop) -> std::io::Result<blake3::Hash> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        go_on(stop)?;
        match file.read(&mut block)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&block[..read]),
        };
    }
}

/// Visits everything below `folder`, links not followed.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, &std::fs::Metadata) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let about = std::fs::symlink_metadata(&path)?;
            seen += 1;
            if ENTRIES_MAX < seen {
                return Err(std::io::Error::other("more than a million files"));
            }
            visit(&path, &about)?;
            if about.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: &str, bytes: &[u8]) -> SourceFile {
        SourceFile { path: path.to_owned(), size: bytes.len() as u64, digest: Some(blake3::hash(bytes)) }
    }

    #[test]
    fn files_are_found_wherever_a_tool_put_them_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in
            [("x/a.bin", &b"one"[..]), ("x/b/c.bin", b"two"), ("y/c.bin", b"three"), (".dray/a.bin", b"")]
        {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let stop = Stop::default();
        sync(folder.path(), &stop).unwrap();
        let look_and = |files: &mut [SourceFile], unknown| {
            let found = find(folder.path(), files)?;
            compare(&found, files, unknown, &stop)
        };
        let look = |files: &mut [SourceFile]| look_and(files, Unknown::Taken);
        assert_eq!(look(&mut [wanted("a.bin", b"one"), wanted("b/c.bin", b"two")]), Ok(()));
        assert_eq!(look(&mut [wanted("m/a.bin", b"one")]), Ok(()));
        for (file, why) in [
            (wanted("d.bin", b""), "d.bin is missing"),
            (wanted("z/c.bin", b"two"), "z/c.bin is missing"),
            (wanted("a.bin", b"on"), "a.bin has 3 bytes of 2"),
            (wanted("a.bin", b"onE"), "a.bin has other bytes than its source"),
        ] {
            assert_eq!(look(&mut [file]), Err(why.to_owned()));
        }
        let mut unknown = [SourceFile { digest: None, ..wanted("a.bin", b"one") }];
        assert_eq!(look_and(&mut unknown, Unknown::Left), Ok(()));
        assert_eq!(unknown[0].digest, None, "a peer's bytes are nobody's reference");
        assert_eq!(look(&mut unknown), Ok(()));
        assert_eq!(unknown[0].digest, Some(blake3::hash(b"one")));
        stop.ask(2);
        assert!(sync(folder.path(), &stop).is_err() && look(&mut [wanted("a.bin", b"one")]).is_err());
    }

    #[test]
    fn files_in_a_folder_below_one_named_as_drays_state_are_found() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join(".dray/dest");
        std::fs::create_dir_all(folder.join(".dray")).unwrap();
        std::fs::write(folder.join("a.bin"), "one").unwrap();
        std::fs::write(folder.join(".dray/b.bin"), "one").unwrap();
        assert_eq!(files(&folder).unwrap(), [(folder.join("a.bin"), 3)]);
    }
}
