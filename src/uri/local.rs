//! `file:///path`, or a path: a file or a folder of this machine.

use std::path::{Path, PathBuf};

use super::usage;
use crate::error::Error;

/// A file or a folder of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSource {
    /// As it was written: bytes stand for themselves, `%20` is no space.
    pub path: PathBuf,
}

impl LocalSource {
    /// Reads what follows `file:`: RFC 8089's forms with an absolute path and no other host.
    pub(super) fn parse(rest: &str) -> Result<Self, Error> {
        let path = match rest.strip_prefix("//") {
            Some(place) => place.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(place),
            None => rest,
        };
        if !path.starts_with('/') {
            return Err(usage("a file: source is file:///path, with an absolute path of this machine"));
        }
        Ok(Self { path: PathBuf::from(path) })
    }

    /// Reads a text that can only be a path: it begins with `/`, `./` or `../`, or is `.` or `..`.
    pub(super) fn of_path(text: &str) -> Option<Self> {
        let first = text.split('/').next().filter(|first| *first != text || first.starts_with('.'));
        matches!(first, Some("" | "." | "..")).then(|| Self { path: PathBuf::from(text) })
    }

    /// The same place, for whoever works in `folder`.
    pub fn within(&self, folder: &Path) -> Self {
        let parts = folder.join(&self.path);
        // Without `.` and trailing slashes: one place, one name.
        Self { path: parts.components().collect() }
    }

    /// The place as a URI.
    pub(super) fn canonical(&self) -> String {
        format!("file://{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::Source;

    #[test]
    fn paths_and_uris_name_places_of_this_machine() {
        for (text, path, canonical) in [
            ("file:///m/a b", "/m/a b", "file:///m/a b"),
            ("FILE:///m", "/m", "file:///m"),
            ("file:/m", "/m", "file:///m"),
            ("file://localhost/m", "/m", "file:///m"),
            ("file:///m%20n?x#y", "/m%20n?x#y", "file:///m%20n?x#y"),
            ("/m", "/m", "file:///m"),
            ("/m:v1/x", "/m:v1/x", "file:///m:v1/x"),
            ("./m", "./m", "file://./m"),
            ("../m/v1", "../m/v1", "file://../m/v1"),
            (".", ".", "file://."),
        ] {
            let Ok(Source::Local(source)) = Source::parse(text) else { panic!("{text}: {:?}", Source::parse(text)) };
            assert_eq!(source.path, Path::new(path), "{text}");
            assert_eq!(Source::Local(source).canonical(), canonical, "{text}");
        }
    }

    #[test]
    fn other_hosts_and_bare_words_are_no_places() {
        for text in ["file://host/m", "file://", "file:", "file:m", "file://localhost", "iris", "m/v1", "", "...", ".m"]
        {
            assert!(matches!(Source::parse(text), Err(Error::Usage(_))), "{text:?}: {:?}", Source::parse(text));
        }
    }

    #[test]
    fn one_place_has_one_absolute_name() {
        for (written, name) in
            [("/m/", "/m"), ("m", "/w/m"), ("./m/./n/", "/w/m/n"), ("../m", "/w/../m"), (".", "/w"), ("/", "/")]
        {
            let source = LocalSource { path: PathBuf::from(written) }.within(Path::new("/w"));
            assert_eq!(source.path.as_os_str(), Path::new(name).as_os_str(), "{written}");
        }
    }
}
