//! What is to be fetched and what is claimed about it: names, sizes, versions, statements.
//!
//! In: answers of origins, already parsed. Out: a [`Manifest`], the input of the plan.
//! Holds: every path is a [`SafePath`]; no two entries can land on one name.

pub mod path;
pub mod receipt;

pub use path::{NameError, SafePath};

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

/// What somebody else states about a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stated {
    /// S3's full-object CRC-64/NVME.
    Crc64Nvme(u64),
    /// A full-object CRC-32C (S3, GCS).
    Crc32c(u32),
    /// A pin: the BLAKE3 digest of a lock or an earlier receipt.
    Blake3(Digest),
}

impl Stated {
    /// The name a report uses for this kind of statement.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crc64Nvme(_) => "crc64nvme",
            Self::Crc32c(_) => "crc32c",
            Self::Blake3(_) => "blake3",
        }
    }
}

/// What pins an object while it is read in many ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// A strong ETag with its quotes, sent as `If-Match` (RFC 9110 §13.1.1). Weak ones are not kept.
    pub etag: Option<String>,
    /// S3's versionId, part of the request's query.
    pub version_id: Option<String>,
    /// Last-Modified as the origin wrote it: compared on every reply, never trusted alone.
    pub last_modified: Option<String>,
}

impl Version {
    /// Whether the origin gave nothing to recognise the object by except its size.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.version_id.is_none() && self.last_modified.is_none()
    }
}

/// One file of a model: where it lands and what pins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below DEST.
    pub path: SafePath,
    /// The object's name at its origin (S3 key, URL without query): shown, hashed into [`FileId`], never signed.
    pub object: String,
    /// Size in bytes; `None` when the origin does not say (a chunked reply).
    pub size: Option<u64>,
    /// What pins it.
    pub version: Version,
    /// Whether the origin serves byte ranges.
    pub ranges: Ranges,
    /// What is stated about its bytes.
    pub stated: Vec<Stated>,
}

/// Whether an origin serves byte ranges of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    /// Yes, or nothing speaks against it: the first reply tells.
    Assumed,
    /// No: one request from the first byte to the last.
    Refused,
}

/// Names one content at one place: source, object, path, size and version hashed together.
///
/// Part files are named after it, so a part of another version is never continued.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub [u8; 16]);

impl FileId {
    /// The id as 32 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// The files of one model at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The source in canonical form: no userinfo, no query secrets.
    pub source: String,
    /// Sorted by path; paths are distinct and no path is a folder of another.
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// The sum of the known sizes, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().filter_map(|entry| entry.size).fold(0, u64::saturating_add)
    }
}

impl Entry {
    /// The id of this content at this place of `source`.
    pub fn id(&self, source: &str) -> FileId {
        let mut hasher = blake3::Hasher::new_derive_key("dray 2026 file id");
        let size = self.size.map_or_else(|| "?".to_owned(), |size| size.to_string());
        let none = String::new();
        let fields = [
            source,
            &self.object,
            self.path.as_str(),
            &size,
            self.version.etag.as_ref().unwrap_or(&none),
            self.version.version_id.as_ref().unwrap_or(&none),
            self.version.last_modified.as_ref().unwrap_or(&none),
        ];
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        FileId(id)
    }
}
