//! Why an archive is not taken, and which names are.

use crate::error::Error;
use crate::manifest::SafePath;
use crate::manifest::path::shown;

pub(super) fn truncated() -> Error {
    damaged("it ends too early")
}

pub(super) fn damaged(why: &str) -> Error {
    Error::Integrity(format!("the archive is damaged: {why}"))
}

pub(super) fn refused(why: &str) -> Error {
    Error::Policy(format!("the archive is refused: {why}"))
}

/// Refuses one member and names it.
pub(super) fn refused_member(name: &[u8], why: &str) -> Error {
    refused(&format!("`{}` {why}", shown(&String::from_utf8_lossy(name))))
}

/// What a member's name leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// DEST itself (`./`).
    Root,
    /// A path below it.
    Below(SafePath),
}

/// Reads a member's name; `./` at its front means nothing, and so does `/` at the end of a folder's.
pub(super) fn place(name: &[u8], folder: Folder) -> Result<Place, Error> {
    let text = std::str::from_utf8(name).map_err(|_| refused_member(name, "has a name that is not UTF-8"))?;
    let mut text = text;
    while let Some(rest) = text.strip_prefix("./") {
        text = rest;
    }
    if folder == Folder::Yes {
        text = text.strip_suffix('/').unwrap_or(text);
        if matches!(text, "" | ".") {
            return Ok(Place::Root);
        }
    }
    SafePath::parse(text).map(Place::Below).map_err(|error| refused(&error.to_string()))
}

/// Whether a member is a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folder {
    Yes,
    No,
}
