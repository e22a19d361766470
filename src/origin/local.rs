//! Files of this machine: listed here, copied by the engine. Nothing of them crosses the wire.
//!
//! In: a file or a folder. Out: what a pull of it takes, each file with what pins it.
//! Holds: only regular files are offered; a link is followed as long as it stays below the folder that was named; the
//! listing ends within bounds.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::error::{Error, Failure, FailureKind, storage};
use crate::manifest::path::{self, DEPTH_MAX, STATE_FOLDER};
use crate::manifest::receipt::FILES_MAX;
use crate::manifest::{Entry, Ranges, Version};
use crate::origin::{Credential, Found, Origin};
use crate::uri::LocalSource;
use crate::wire::Access;

/// Names looked at in all folders together: as many again may be folders.
const NAMES_MAX: usize = 2 * FILES_MAX;

/// One file or folder of this machine.
#[derive(Debug)]
pub struct Local {
    place: PathBuf,
}

impl Local {
    /// The origin of a source with an absolute path.
    pub fn new(source: &LocalSource) -> Self {
        Self { place: source.path.clone() }
    }

    /// What is there, in no order.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Denied`], [`Error::Storage`] as the kernel says; [`Error::Policy`] for a file that
    /// is none (a socket, a device), a link that leads out of the folder or in a circle, and more names than any model
    /// has.
    fn found(&self) -> Result<Vec<Found>, Error> {
        let root = fs::canonicalize(&self.place).map_err(|error| failed(&self.place, &error))?;
        let about = fs::metadata(&root).map_err(|error| failed(&self.place, &error))?;
        if !about.is_dir() {
            let name = self.place.file_name().or(root.file_name()).unwrap_or_default();
            let name = name.to_str().ok_or_else(|| not_utf8(&self.place))?;
            return Ok(vec![file(name.to_owned(), &self.place, &about)?]);
        }
        let mut walk = Walk { root, found: Vec::new(), names: 0 };
        walk.folder(&self.place, "", 0)?;
        if walk.found.is_empty() {
            return Err(Error::NotFound(format!("`{}` holds no file", self.place.display())));
        }
        Ok(walk.found)
    }
}

/// A listing under way.
struct Walk {
    /// Where the folder that was named really is.
    root: PathBuf,
    found: Vec<Found>,
    names: usize,
}

impl Walk {
    /// Takes what the folder `at` holds, whose own name below the source is `below`.
    fn folder(&mut self, at: &Path, below: &str, depth: usize) -> Result<(), Error> {
        if DEPTH_MAX < depth {
            let text = format!("`{}` is deeper than {DEPTH_MAX} folders, or a link leads in a circle", at.display());
            return Err(Error::Policy(text));
        }
        for entry in fs::read_dir(at).map_err(|error| failed(at, &error))? {
            let name = entry.map_err(|error| failed(at, &error))?.file_name();
            self.names += 1;
            if NAMES_MAX < self.names || FILES_MAX < self.found.len() {
                let text =
                    format!("`{}` holds over {FILES_MAX} files: it is another folder than was meant", at.display());
                return Err(Error::Policy(text));
            }
            // What a pull left there is no part of the model.
            if below.is_empty() && name == STATE_FOLDER {
                continue;
            }
            let path = at.join(&name);
            let name = name.to_str().ok_or_else(|| not_utf8(&path))?;
            let below = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let about = self.followed(&path)?;
            if about.is_dir() {
                self.folder(&path, &below, depth + 1)?;
            } else {
                self.found.push(file(below, &path, &about)?);
            }
        }
        Ok(())
    }

    /// What `path` is, through links that stay below the source.
    fn followed(&self, path: &Path) -> Result<Metadata, Error> {
        let about = fs::symlink_metadata(path).map_err(|error| failed(path, &error))?;
        if !about.is_symlink() {
            return Ok(about);
        }
        let target = fs::canonicalize(path).map_err(|error| failed(path, &error))?;
        if !target.starts_with(&self.root) {
            let text = format!("`{}` is a link that leads out of the source: refused", path.display());
            return Err(Error::Policy(text));
        }
        fs::metadata(&target).map_err(|error| failed(path, &error))
    }
}

/// A regular file as a pull takes it.
fn file(path: String, at: &Path, about: &Metadata) -> Result<Found, Error> {
    if !about.is_file() {
        return Err(Error::Policy(format!("`{}` is no regular file: refused", at.display())));
    }
    let object = at.to_str().ok_or_else(|| not_utf8(at))?.to_owned();
    let (size, version) = (Some(about.len()), version(about));
    Ok(Found { path, object, size, version, ranges: Ranges::Assumed, stated: Vec::new() })
}

/// What tells this content from another at the same place: the time of the last write, and, as that can be set to
/// anything, which file it is and when anything of it changed last.
pub fn version(about: &Metadata) -> Version {
    Version {
        last_modified: Some(format!("{}.{:09}", about.mtime(), about.mtime_nsec())),
        version_id: Some(format!("{}-{}.{:09}", about.ino(), about.ctime(), about.ctime_nsec())),
        ..Version::default()
    }
}

/// Why a file or folder of the source cannot be read.
pub fn failed(path: &Path, error: &io::Error) -> Error {
    let shown = path::shown(&path.to_string_lossy());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotFound(format!("`{shown}` does not exist")),
        io::ErrorKind::PermissionDenied => Error::Denied(format!("`{shown}` may not be read: {error}")),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            Error::Policy(format!("`{shown}` is a link in a circle: refused"))
        }
        _ => storage(&format!("read `{shown}`"), error),
    }
}

fn not_utf8(path: &Path) -> Error {
    let shown = path::shown(&path.to_string_lossy());
    Error::Policy(format!("the name `{shown}` is not UTF-8: refused"))
}

/// The engine asks [`Origin::local`] first.
fn elsewhere() -> Failure {
    Failure::new(FailureKind::Refused, "a file of this machine is not fetched")
}

impl Origin for Local {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
        let place = Self { place: self.place.clone() };
        async move {
            let listed = tokio::task::spawn_blocking(move || place.found()).await;
            listed.unwrap_or_else(|_| Err(Error::Internal("the listing was lost".to_owned())))
        }
        .boxed()
    }

    fn stat<'a>(&'a self, _: &'a Entry) -> BoxFuture<'a, Result<Entry, Failure>> {
        async { Err(elsewhere()) }.boxed()
    }

    fn access<'a>(&'a self, _: &'a Entry) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        async { Err(elsewhere()) }.boxed()
    }

    fn credential(&self) -> BoxFuture<'_, Option<Credential>> {
        async { None }.boxed()
    }

    fn describe(&self) -> String {
        format!("`{}` on this machine", self.place.display())
    }

    fn is_local(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn listed(place: &Path) -> Result<Vec<String>, Error> {
        let mut paths: Vec<String> =
            Local { place: place.to_owned() }.found()?.into_iter().map(|found| found.path).collect();
        paths.sort();
        Ok(paths)
    }

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("m/sub/empty")).unwrap();
        fs::create_dir_all(root.path().join("m/.dray")).unwrap();
        for name in ["m/a.bin", "m/.hidden", "m/.dray/receipt.json", "m/sub/b", "m/sub/none"] {
            fs::write(root.path().join(name), name).unwrap();
        }
        root
    }

    #[test]
    fn a_folder_offers_every_regular_file_below_it() {
        let root = tree();
        symlink("sub/b", root.path().join("m/link")).unwrap();
        symlink("sub", root.path().join("m/folder")).unwrap();
        symlink(root.path().join("m/a.bin"), root.path().join("m/absolute")).unwrap();
        let expected =
            [".hidden", "a.bin", "absolute", "folder/b", "folder/none", "link", "sub/b", "sub/none"].map(str::to_owned);
        assert_eq!(listed(&root.path().join("m")).unwrap(), expected);
        assert_eq!(listed(&root.path().join("m/sub/b")).unwrap(), ["b"]);
        symlink(root.path().join("m/sub"), root.path().join("current")).unwrap();
        assert_eq!(listed(&root.path().join("current")).unwrap(), ["b", "none"], "the source itself may be a link");
    }

    #[test]
    fn what_is_no_file_of_the_folder_is_refused() {
        type Plant = fn(&Path);
        let planted: [(&str, Plant); 6] = [
            ("leads out", |m| symlink("/etc/hostname", m.join("x")).unwrap()),
            ("leads out", |m| symlink("../..", m.join("x")).unwrap()),
            ("in a circle", |m| symlink(".", m.join("x")).unwrap()),
            ("in a circle", |m| symlink("x", m.join("x")).unwrap()),
            ("no regular file", |m| drop(UnixListener::bind(m.join("x")).unwrap())),
            ("not UTF-8", |m| {
                let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
                fs::write(m.join(name), "x").unwrap();
            }),
        ];
        for (why, plant) in planted {
            let root = tree();
            plant(&root.path().join("m"));
            let Err(Error::Policy(text)) = listed(&root.path().join("m")) else { panic!("{why}") };
            assert!(text.contains(why), "{text}");
        }
        let root = tree();
        symlink("nowhere", root.path().join("m/x")).unwrap();
        assert!(matches!(listed(&root.path().join("m")), Err(Error::NotFound(_))));
        for (place, missing) in [("m/sub/empty", true), ("absent", true), ("m/a.bin/x", true)] {
            let ended = listed(&root.path().join(place));
            assert_eq!(matches!(ended, Err(Error::NotFound(_))), missing, "{place}: {ended:?}");
        }
    }

    #[test]
    fn what_the_kernel_refuses_ends_with_its_own_code() {
        for (errno, code) in [
            (rustix::io::Errno::NOENT, 3),
            (rustix::io::Errno::NOTDIR, 3),
            (rustix::io::Errno::ACCESS, 4),
            (rustix::io::Errno::PERM, 4),
            (rustix::io::Errno::LOOP, 6),
            (rustix::io::Errno::IO, 10),
        ] {
            assert_eq!(failed(Path::new("/m"), &errno.into()).exit_code(), code, "{errno}");
        }
    }

    #[test]
    fn a_file_that_was_written_again_is_another_version() {
        let root = tree();
        let path = root.path().join("m/a.bin");
        let before = fs::metadata(&path).unwrap();
        fs::write(&path, "n/a.bin").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((before.len(), before.mtime_nsec()), (after.len(), after.mtime_nsec()));
        assert_ne!(version(&before), version(&after));
    }
}
