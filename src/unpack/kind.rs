//! Which names are archives: what Python's `mimetypes` calls tar or zip, as KServe's storage initializer asks it.

use super::refusal::refused_member;
use crate::error::Error;

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tar, packed by gzip, bzip2, xz or not at all.
    Tar,
    /// A zip.
    Zip,
}

/// What may be wrapped around a tar by a second ending.
const UNPACKED: [&str; 3] = [".gz", ".bz2", ".xz"];
const NOT_UNPACKED: [&str; 2] = [".z", ".br"];

/// One ending for both.
const SHORT: [&str; 5] = ["tgz", "taz", "tz", "tbz2", "txz"];

impl Kind {
    /// The kind of archive that a file of this name is; `None` when it is none. Capitals do not matter.
    ///
    /// # Errors
    /// [`Error::Policy`] for what KServe's rule takes for an archive and nobody can unpack: `.tar.Z`, `.tar.br`, `.zip.gz`.
    pub fn of(name: &str) -> Result<Option<Self>, Error> {
        let base = name.rsplit('/').next().unwrap_or(name);
        let lower = base.to_ascii_lowercase();
        let strip = |ends: &[&str]| ends.iter().find_map(|end| lower.strip_suffix(end));
        let unsupported = || {
            Err(refused_member(base.as_bytes(), "is packed in a way that is not supported; store the model unpacked"))
        };
        if SHORT.contains(&ending(&lower)) {
            return Ok(Some(Self::Tar));
        }
        if let Some(stem) = strip(&UNPACKED) {
            return match ending(stem) {
                "tar" => Ok(Some(Self::Tar)),
                "zip" => unsupported(),
                _ => Ok(None),
            };
        }
        if let Some(stem) = strip(&NOT_UNPACKED) {
            return if matches!(ending(stem), "tar" | "zip") { unsupported() } else { Ok(None) };
        }
        Ok(match ending(&lower) {
            "tar" => Some(Self::Tar),
            "zip" => Some(Self::Zip),
            _ => None,
        })
    }

    /// The word in a receipt.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Zip => "zip",
        }
    }

    /// Reads [`Kind::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Tar, Self::Zip].into_iter().find(|kind| kind.word() == word)
    }
}

/// What follows the last dot, where something stands before it.
fn ending(name: &str) -> &str {
    name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or("", |(_, ending)| ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_what_upstream_would_unpack() {
        for name in ["m.tar", "m.tar.gz", "m.tgz", "m.taz", "m.tz", "m.tar.bz2", "m.tbz2", "m.tar.xz", "m.txz"] {
            assert_eq!(Kind::of(name), Ok(Some(Kind::Tar)), "{name}");
        }
        for name in ["M.TAR.GZ", "a/b.tar", "m.Tgz"] {
            assert_eq!(Kind::of(name), Ok(Some(Kind::Tar)), "{name}");
        }
        for name in ["m.zip", "a/M.Zip", "path=/a/model.zip"] {
            assert_eq!(Kind::of(name), Ok(Some(Kind::Zip)), "{name}");
        }
        for name in [
            "m.bin",
            "m.gz",
            "m.pkl.gz",
            "m.tar.zst",
            "m.7z",
            ".tar",
            ".zip",
            "tar",
            "m.tar/x",
            "m.tar.gz.bin",
            "",
            ".tar.gz",
        ] {
            assert_eq!(Kind::of(name), Ok(None), "{name}");
        }
        for name in ["m.tar.Z", "m.tar.br", "m.zip.gz", "m.zip.xz"] {
            assert!(matches!(Kind::of(name), Err(Error::Policy(text)) if text.contains(name)), "{name}");
        }
    }
}
