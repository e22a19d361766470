//! Opening names beneath a directory without following any link.
//!
//! In: a directory descriptor and a relative path of plain components. Out: a descriptor of exactly that name.
//! Holds: no component may be a symbolic link, `.` or `..`, whoever swaps folders meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Mode of folders that we create.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

/// How every folder is opened: readable, because a descriptor that is not cannot be synced.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Set once openat2 was found missing, so that it is not asked a thousand times.
static OPENAT2_MISSING: AtomicBool = AtomicBool::new(false);

/// Opens `path` beneath `dir`. Always close-on-exec, never through a link.
pub(super) fn open(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if !OPENAT2_MISSING.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(dir, path, flags, mode, resolve) {
            Ok(file) => return plain(path).map(|()| file),
            // Seccomp filters written before openat2 answer one of these; a true EPERM comes again below.
            Err(Errno::NOSYS) => OPENAT2_MISSING.store(true, Ordering::Relaxed),
            Err(Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    open_by_steps(dir, path, flags, mode)
}

/// The same without openat2: one component at a time.
fn open_by_steps(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    plain(path)?;
    let (folders, name) = split(path);
    let step = |at: Option<OwnedFd>, folder: &str| {
        let at = at.as_ref().map_or(dir, AsFd::as_fd);
        rustix::fs::openat(at, folder, FOLDER | OFlags::PATH, Mode::empty()).map(Some)
    };
    let at = folders.map_or(Ok(None), |folders| folders.split('/').try_fold(None, step))?;
    let at = at.as_ref().map_or(dir, AsFd::as_fd);
    Ok(rustix::fs::openat(at, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, mode)?)
}

/// Opens the folder `path` beneath `dir`.
pub(super) fn open_folder(dir: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    open(dir, path, FOLDER, Mode::empty())
}

/// Opens the folder `path` beneath `dir`, making what is missing with mode 0755 whatever the umask says.
pub(super) fn make_folders(dir: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    match open_folder(dir, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        ended => return ended,
    }
    plain(path)?;
    let mut at = make_folder(dir, path.split('/').next().unwrap_or(path))?;
    for folder in path.split('/').skip(1) {
        at = make_folder(at.as_fd(), folder)?;
    }
    Ok(at)
}

/// Opens the folder `name` right beneath `dir`, making it if it is missing.
pub(super) fn make_folder(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(dir, name, FOLDER_MODE) {
        Ok(()) => {
            let folder = rustix::fs::openat(dir, name, FOLDER, Mode::empty())?;
            rustix::fs::fchmod(&folder, FOLDER_MODE)?;
            Ok(folder)
        }
        Err(Errno::EXIST) => Ok(rustix::fs::openat(dir, name, FOLDER, Mode::empty())?),
        Err(error) => Err(error.into()),
    }
}

/// The folders of a path, if it has any, and its last component.
pub(super) fn split(path: &str) -> (Option<&str>, &str) {
    path.rsplit_once('/').map_or((None, path), |(folders, name)| (Some(folders), name))
}

/// Refuses paths that are not made of plain components.
fn plain(path: &str) -> io::Result<()> {
    if path.split('/').any(|component| matches!(component, "" | "." | "..")) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain relative path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    type Open = fn(BorrowedFd<'_>, &str, OFlags, Mode) -> io::Result<OwnedFd>;

    /// Both ways must agree on what opens.
    fn check(path: &str, opens: bool) {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("f"), "secret").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let at = |name: &str| inside.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/f"), "x").unwrap();
        symlink(outside.path(), at("a/out")).unwrap();
        symlink("b", at("a/near")).unwrap();
        symlink("f", at("a/b/link")).unwrap();
        let dir = fs::File::open(inside.path()).unwrap();
        for way in [open as Open, open_by_steps as Open] {
            assert_eq!(way(dir.as_fd(), path, OFlags::RDONLY, Mode::empty()).is_ok(), opens, "{path}");
        }
    }

    #[test]
    fn only_plain_names_without_links_open() {
        check("a/b/f", true);
        check("a/b", true);
        for path in
            ["a/out/f", "a/near/f", "a/b/link", "../x", "a/../a/b/f", "/etc/passwd", "a//b/f", "./a", "", "a/b/f/"]
        {
            check(path, false);
        }
    }

    #[test]
    fn folders_are_made_beneath_only_and_through_no_link() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        symlink(outside.path(), inside.path().join("out")).unwrap();
        fs::write(inside.path().join("file"), "").unwrap();
        let dir = fs::File::open(inside.path()).unwrap();
        make_folders(dir.as_fd(), "x/y/z").unwrap();
        make_folders(dir.as_fd(), "x/y/z").unwrap();
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(inside.path().join("x/y/z")).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o755);
        for path in ["out/x", "file/x", "../x", "x/../../x", "", "/x"] {
            assert!(make_folders(dir.as_fd(), path).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
