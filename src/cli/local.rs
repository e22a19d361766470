//! Models that are on this machine already: linked into DEST, not copied, as KServe's storage initializer does.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use globset::GlobBuilder;

use crate::disk::Dest;
use crate::engine;
use crate::error::{Error, storage};
use crate::formats::Allowed;
use crate::manifest::path::DEPTH_MAX;
use crate::resolve::Filter;
use crate::unpack::Kind;
use crate::uri::Source;

/// Most names that one pattern may match: more is another folder than was meant.
const MATCHES_MAX: usize = 100_000;

/// What was done with a local model.
pub(super) enum Linked {
    /// `dest` now has so many entries from there.
    Entries(usize),
    /// Nothing: it is one archive, which is to be unpacked.
    Archive(PathBuf, Kind),
}

/// Links what `source` names into `dest`: one file, a folder's entries, or what a pattern matches. A name that
/// `dest` has already is kept.
///
/// # Errors
/// [`Error::NotFound`] when nothing matches, [`Error::Policy`] for an archive that cannot be unpacked, else the disk's.
pub(super) fn link(source: &Path, dest: &Path, filter: &Filter, formats: Option<&Allowed>) -> Result<Linked, Error> {
    let wanted = entries(source, filter)?;
    if let [only] = wanted.as_slice()
        && only.is_file()
        && let Some(kind) = Kind::of(&name(only))?
    {
        return Ok(Linked::Archive(only.clone(), kind));
    }
    if wanted.is_empty() {
        return Err(Error::NotFound(format!("nothing matches `{}`", source.display())));
    }
    if let Some(allowed) = formats {
        let mut left = MATCHES_MAX;
        wanted.iter().try_for_each(|entry| admit(entry, &name(entry), allowed, 0, &mut left))?;
    }
    for entry in &wanted {
        let target = std::path::absolute(entry).map_err(|error| failed(entry, &error))?;
        let Some(tail) = entry.file_name() else { continue };
        let place = dest.join(tail);
        match symlink(&target, &place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&place, &error)),
            _ => {}
        }
    }
    // The links, and the names on the way to them, which this run may have made.
    Dest::open_existing(dest)?.sync_folders(std::iter::empty()).map_err(|error| failed(dest, &error))?;
    Ok(Linked::Entries(wanted.len()))
}

/// A source as it was written, or a path in the working directory as every command reads one: `m` is `./m` where that
/// is there.
pub(super) fn written(source: &str) -> Cow<'_, str> {
    let bare = !source.contains(':') && Source::parse(source).is_err();
    if bare && Path::new(source).exists() { format!("./{source}").into() } else { source.into() }
}

/// Looks at every file that a link to `path` would lead to, `left` at most, as deep as a model may be.
fn admit(path: &Path, name: &str, allowed: &Allowed, depth: usize, left: &mut usize) -> Result<(), Error> {
    let many = || Error::Policy(format!("`{}` leads to more files and folders than a model has", path.display()));
    *left = left.checked_sub(1).filter(|_| depth <= DEPTH_MAX).ok_or_else(many)?;
    if !path.is_dir() {
        return engine::admit_local(path, name, allowed);
    }
    for entry in fs::read_dir(path).map_err(|error| failed(path, &error))? {
        let tail = entry.map_err(|error| failed(path, &error))?.file_name();
        admit(&path.join(&tail), &format!("{name}/{}", tail.to_string_lossy()), allowed, depth + 1, left)?;
    }
    Ok(())
}

fn entries(source: &Path, filter: &Filter) -> Result<Vec<PathBuf>, Error> {
    let mut found = if source.is_dir() {
        matches(source, "*").map_err(|error| failed(source, &error))?
    } else if source.exists() {
        let filter = filter.of_one_object();
        return Ok(Some(source.to_owned()).into_iter().filter(|path| filter.takes(&name(path))).collect());
    } else if is_pattern(source) {
        expanded(source)?
    } else {
        return Err(Error::NotFound(format!("`{}` does not exist", source.display())));
    };
    found.retain(|path| filter.takes(&name(path)));
    found.sort();
    Ok(found)
}

/// The paths that `pattern` matches, component by component.
fn expanded(pattern: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let part = Path::new(component.as_os_str());
        let mut next = Vec::new();
        for path in &found {
            match component {
                Component::Normal(text) if is_pattern(part) => {
                    next.extend(matches(path, &text.to_string_lossy()).map_err(|error| failed(path, &error))?);
                }
                _ => next.extend(Some(path.join(part)).filter(|path| path.exists())),
            }
        }
        if MATCHES_MAX < next.len() {
            return Err(Error::Policy(format!("`{}` matches over {MATCHES_MAX} names", pattern.display())));
        }
        found = next;
    }
    Ok(found)
}

/// The entries of `folder` that match, hidden ones only where the pattern says so; none when it is no folder.
fn matches(folder: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let glob = GlobBuilder::new(pattern).backslash_escape(false).build().map_err(io::Error::other)?.compile_matcher();
    let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if !place.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(place)? {
        let tail = entry?.file_name();
        let hidden = tail.to_string_lossy().starts_with('.') && !pattern.starts_with('.');
        if !hidden && glob.is_match(&tail) {
            found.push(folder.join(tail));
        }
    }
    Ok(found)
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn failed(path: &Path, error: &io::Error) -> Error {
    storage(&path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_in_every_component_and_leave_hidden_names_out() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/one.bin", "a/two.txt", "b/one.bin", ".c/one.bin", "a/.hidden.bin"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        for (pattern, expected) in [
            ("*/*.bin", &["a/one.bin", "b/one.bin"][..]),
            ("a/*", &["a/one.bin", "a/two.txt"]),
            ("a/.h*", &["a/.hidden.bin"]),
            ("[ab]/one.???", &["a/one.bin", "b/one.bin"]),
            ("?/none", &[]),
            ("*", &["a", "b"]),
        ] {
            let found = entries(&root.path().join(pattern), &Filter::default()).unwrap();
            let found: Vec<_> = found.iter().map(|path| path.strip_prefix(root.path()).unwrap()).collect();
            assert_eq!(found, expected.iter().map(Path::new).collect::<Vec<_>>(), "{pattern}");
        }
    }

    #[test]
    fn links_and_every_name_on_the_way_to_them_are_durable() {
        use std::os::unix::fs::MetadataExt;

        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("f"), "x").unwrap();
        let dest = root.path().join("new/deep");
        Dest::open(&dest).unwrap();
        crate::disk::seen::take();
        let linked = link(&root.path().join("f"), &dest, &Filter::default(), None).unwrap();
        assert!(matches!(linked, Linked::Entries(1)));
        let synced = crate::disk::seen::take();
        for folder in ["new/deep", "new", ""] {
            let number = fs::metadata(root.path().join(folder)).unwrap().ino();
            assert!(synced.contains(&number), "`{folder}` of {synced:?}");
        }
    }
}
