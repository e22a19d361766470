//! Archives as files: what is admitted of one is what is admitted of each of its members, by their heads.

use super::cursor::Head;
use super::glance::{HEAD_BYTES, glance};
use super::{Allowed, Content, Format, Input, text};
use crate::error::{Error, storage};
use crate::manifest::SafePath;
use crate::unpack::{self, Kind, Sink};
use crate::verify::wide;

/// What the members of an archive came to.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// The first member that is not allowed, and what it is.
    pub(super) refused: Option<(SafePath, &'static str)>,
    /// The first member that is a pickle.
    pub(super) pickle: Option<(SafePath, &'static str)>,
    /// How many there are, and how many of them are arrays of numbers named `.npy`.
    pub(super) count: u64,
    pub(super) arrays: u64,
}

/// Reads the archive through and looks at every member's head.
///
/// # Errors
/// As [`unpack::unpack`].
pub(super) fn members(kind: Kind, input: &mut dyn Input, allowed: &Allowed) -> Result<Members, Error> {
    let mut look = Look { allowed, found: Members::default(), open: None };
    unpack::unpack(kind, input, &mut look)?;
    Ok(look.found)
}

struct Look<'a> {
    allowed: &'a Allowed,
    found: Members,
    open: Option<(SafePath, u64, Vec<u8>)>,
}

impl Sink for Look<'_> {
    fn begin(&mut self, path: SafePath, size: u64) -> Result<(), Error> {
        self.open = Some((path, size, Vec::new()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some((_, _, head)) = &mut self.open {
            let room = HEAD_BYTES.saturating_sub(head.len()).min(bytes.len());
            head.extend_from_slice(&bytes[..room]);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some((path, size, bytes)) = self.open.take() else { return Ok(()) };
        let mut head = Head { bytes: &bytes, size };
        let failed = |error| storage("look at a member", &error);
        let content = glance(&mut head).map_err(failed)?;
        self.found.count += 1;
        self.found.arrays += u64::from(content == Content::Is(Format::Numpy) && path.as_str().ends_with(".npy"));
        if let Content::Pickle(what) = content {
            self.found.pickle.get_or_insert((path, what));
            return Ok(());
        }
        let whole = size <= wide(bytes.len());
        if let Err(what) = admitted(content, &mut head, whole, self.allowed).map_err(failed)? {
            self.found.refused.get_or_insert((path, what));
        }
        Ok(())
    }
}

/// Whether something inside another file is allowed by what is seen of it, or what it is.
pub(super) fn admitted(
    content: Content,
    head: &mut Head<'_>,
    whole: bool,
    allowed: &Allowed,
) -> std::io::Result<Result<(), &'static str>> {
    Ok(match content {
        Content::Empty => Ok(()),
        Content::Pickle(what) | Content::Other(what) => Err(what),
        // One archive in another is more than is looked into.
        Content::Is(Format::Zip | Format::Tar | Format::Gzip) => Err("an archive within an archive"),
        Content::Is(format) if allowed.has(format) => Ok(()),
        Content::Is(format) => Err(format.word()),
        Content::Textual if allowed.has(Format::Text) => Ok(()),
        Content::Textual if allowed.has(Format::Json) => {
            let json = if whole { text::is_json(head)? } else { matches!(text::begins(head)?, Some(b'{' | b'[')) };
            if json { Ok(()) } else { Err("text and no JSON") }
        }
        Content::Textual => Err("text"),
    })
}
