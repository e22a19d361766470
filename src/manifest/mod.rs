//! What is to be fetched and what is claimed about it: names, sizes, versions, statements.
//!
//! In: answers of origins, already parsed. Out: a [`Manifest`], the input of the plan.
//! Holds: every path is a [`SafePath`]; no two entries can land on one name.

pub mod collide;
mod entry;
mod names;
pub mod path;
pub mod receipt;
mod stated;

pub use collide::collisions;
pub use entry::{Entry, FileId, Manifest, Ranges};
pub use names::{Link, Names, Text};
pub use path::{NameError, SafePath};
pub use receipt::Receipt;
pub use stated::{Composite, CompositeSum, Stated};

/// A BLAKE3 digest of a whole file, as `b3sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest as 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads 64 hexadecimal digits, either case.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// What pins an object while it is read in many ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// A strong ETag with its quotes, sent as `If-Match` (RFC 9110 §13.1.1). Weak ones are not kept.
    pub etag: Option<String>,
    /// S3's versionId or GCS's generation, part of the request's query.
    pub version_id: Option<String>,
    /// Last-Modified as the origin wrote it: compared on every reply, never trusted alone.
    pub last_modified: Option<String>,
    /// The content's own name where the URL can lead to nothing else (a Git or LFS object id of the Hub): neither sent
    /// nor compared with replies, so that a file that stays the same from commit to commit stays the same version.
    pub content: Option<String>,
}

impl Version {
    /// Whether the origin gave nothing to recognise the object by except its size.
    pub fn is_empty(&self) -> bool {
        let Self { etag, version_id, last_modified, content } = self;
        [etag, version_id, last_modified, content].into_iter().all(Option::is_none)
    }
}
