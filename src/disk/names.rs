//! Links and small texts beside published files, which a layout wants.
//!
//! In: [`Names`], once the files they lead to are durable under their final names. Out: the same beneath DEST.
//! Holds: each is absent, as before or new at every instant; texts appear after the links are durable; what is there
//! as wanted is not written again; nothing is followed on the way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::beneath;
use super::dest::{self, Dest};
use super::publish::{refused, seal_error};
use crate::error::{Error, Failure, storage};
use crate::manifest::{Link, Names, SafePath, Text};

/// What is to be renamed into place, beneath the state folder.
const TEMPORARY: &str = "name.tmp";

/// Mode of texts, as of files.
const TEXT_MODE: Mode = Mode::from_raw_mode(0o644);

impl Dest {
    /// Finds out whether symbolic links can be made here. Leaves none.
    ///
    /// # Errors
    /// `Storage` when they cannot, or for any other reason of the kernel's.
    pub fn try_links(&self) -> Result<(), Error> {
        self.place_link("trial").and_then(|()| self.remove_temporary()).map_err(|error| {
            let without = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS].map(|errno| Some(errno.raw_os_error()));
            if without.contains(&error.raw_os_error()) {
                let path = self.path().display();
                return Error::Storage(format!(
                    "the file system of `{path}` has no symbolic links, which --layout hub needs"
                ));
            }
            storage("make a link", &error)
        })
    }

    /// Adds links, makes them durable, then adds texts and makes those durable. Blocks.
    ///
    /// # Errors
    /// `Refused` when a folder has the name, or what should be a folder is none; `DiskFull` or `Disk` else.
    pub fn add_names(&self, names: &Names) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::disk("make names durable", &error);
        names.links.iter().try_for_each(|link| self.add_link(link))?;
        // Also those that were there: a run that was killed may have made them unsynced.
        self.sync_folders(names.links.iter().map(|link| &link.path)).map_err(failed)?;
        names.texts.iter().try_for_each(|text| self.add_text(text))?;
        self.sync_folders(names.texts.iter().map(|text| &text.path)).map_err(failed)
    }

    fn add_link(&self, Link { path, target }: &Link) -> Result<(), Failure> {
        let failed = |error: io::Error| seal_error(path, &error);
        let (folders, name) = beneath::split(path.as_str());
        let folder = self.make_folder_of(folders).map_err(failed)?;
        match rustix::fs::readlinkat(&folder, name, Vec::new()) {
            Ok(there) if there.as_bytes() == target.as_bytes() => return Ok(()),
            // Another link, nothing, or no link.
            Ok(_) | Err(Errno::NOENT | Errno::INVAL) => {}
            Err(error) => return Err(failed(error.into())),
        }
        self.place_link(target).map_err(failed)?;
        self.rename_temporary(path)
    }

    fn add_text(&self, Text { path, content }: &Text) -> Result<(), Failure> {
        let failed = |error: io::Error| seal_error(path, &error);
        let (folders, name) = beneath::split(path.as_str());
        let folder = self.make_folder_of(folders).map_err(failed)?;
        let opened = beneath::open(folder.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
        if let Ok(file) = opened.map(File::from)
            && file.metadata().is_ok_and(|there| there.is_file())
        {
            let mut there = Vec::new();
            let bytes_max = u64::try_from(content.len()).unwrap_or(u64::MAX).saturating_add(1);
            file.take(bytes_max).read_to_end(&mut there).map_err(failed)?;
            if there == content.as_bytes() {
                return Ok(());
            }
        }
        self.place_text(content).map_err(failed)?;
        self.rename_temporary(path)
    }

    fn place_link(&self, target: &str) -> io::Result<()> {
        self.remove_temporary()?;
        Ok(rustix::fs::symlinkat(target, self.state_folder()?, TEMPORARY)?)
    }

    fn place_text(&self, content: &str) -> io::Result<()> {
        self.remove_temporary()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(beneath::open(self.state_folder()?, TEMPORARY, flags, TEXT_MODE)?);
        rustix::fs::fchmod(&file, TEXT_MODE)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    }

    fn remove_temporary(&self) -> io::Result<()> {
        dest::absent_is_fine(rustix::fs::unlinkat(self.state_folder()?, TEMPORARY, AtFlags::empty()))
    }

    /// Gives the temporary its name, in the place of whatever but a folder has it.
    fn rename_temporary(&self, path: &SafePath) -> Result<(), Failure> {
        let failed = |error: io::Error| seal_error(path, &error);
        let (folders, name) = beneath::split(path.as_str());
        let folder = self.make_folder_of(folders).map_err(failed)?;
        let state = self.state_folder().map_err(failed)?;
        rustix::fs::renameat(state, TEMPORARY, &folder, name).map_err(|error| match error {
            Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => refused(path),
            error => failed(error.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::error::FailureKind;

    fn path(text: &str) -> SafePath {
        SafePath::parse(text).unwrap()
    }

    fn names() -> Names {
        let links = ["snapshots/c/a", "snapshots/c/sub/b"].map(|name| Link::new(path(name), &path("blobs/x")));
        Names { links: links.into(), texts: vec![Text { path: path("refs/x/main"), content: "c".to_owned() }] }
    }

    #[test]
    fn names_lead_to_their_files_and_are_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("blobs")).unwrap();
        fs::write(at("blobs/x"), "bytes").unwrap();
        // What other tools or runs may have left: another link, a file, another text.
        fs::create_dir_all(at("snapshots/c/sub")).unwrap();
        symlink("/etc/passwd", at("snapshots/c/a")).unwrap();
        fs::write(at("snapshots/c/sub/b"), "copy").unwrap();
        fs::create_dir_all(at("refs/x")).unwrap();
        fs::write(at("refs/x/main"), "older").unwrap();
        let dest = Dest::open(folder.path()).unwrap();
        dest.try_links().unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            dest.add_names(&names()).unwrap();
            for name in ["snapshots/c/a", "snapshots/c/sub/b"] {
                assert_eq!(fs::read(at(name)).unwrap(), b"bytes");
                assert!(fs::read_link(at(name)).unwrap().is_relative());
            }
            assert_eq!(fs::read(at("refs/x/main")).unwrap(), b"c");
            assert_eq!(fs::read_dir(at(".dray")).unwrap().count(), 0);
            let inode = |name: &str| fs::symlink_metadata(at(name)).unwrap().ino();
            seen.push(["snapshots/c/a", "snapshots/c/sub/b", "refs/x/main"].map(inode));
        }
        assert_eq!(seen[0], seen[1]);
    }

    #[test]
    fn folders_and_links_on_the_way_are_left_alone() {
        let outside = tempfile::tempdir().unwrap();
        for (what, make) in [
            ("snapshots", (|at, out| symlink(out, at).unwrap()) as fn(&std::path::Path, &std::path::Path)),
            ("snapshots/c/a", |at, _| fs::create_dir_all(at.join("deep")).unwrap()),
            ("refs", |at, _| fs::write(at, "").unwrap()),
            ("refs/x", |at, out| {
                fs::create_dir_all(at.parent().unwrap()).unwrap();
                symlink(out, at).unwrap();
            }),
        ] {
            let folder = tempfile::tempdir().unwrap();
            make(&folder.path().join(what), outside.path());
            let dest = Dest::open(folder.path()).unwrap();
            let failure = dest.add_names(&names()).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Refused, "{what}: {failure}");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{what}");
        }
    }
}
