//! The files of a model at one moment: names, sizes, versions, and the id that part files carry.

use super::{SafePath, Stated, Version};

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
    ///
    /// A file that is named after its content, as in a cache of the Hub, is the same wherever a source keeps it.
    pub fn id(&self, source: &str) -> FileId {
        let mut hasher = blake3::Hasher::new_derive_key("dray 2026 file id");
        let size = self.size.map_or_else(|| "?".to_owned(), |size| size.to_string());
        let none = String::new();
        let content = self.version.content.as_deref();
        let is_named = content.is_some() && self.path.as_str().strip_prefix("blobs/") == content;
        let (source, object) = if is_named { ("", "") } else { (source, self.object.as_str()) };
        let fields = [
            source,
            object,
            self.path.as_str(),
            &size,
            self.version.etag.as_ref().unwrap_or(&none),
            self.version.version_id.as_ref().unwrap_or(&none),
            self.version.last_modified.as_ref().unwrap_or(&none),
        ];
        // Only where there is one: ids without it are as old as the journals that hold them.
        for field in fields.into_iter().chain(self.version.content.as_deref()) {
            hasher.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        FileId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, object: &str, content: Option<&str>) -> Entry {
        Entry {
            path: SafePath::parse(path).unwrap(),
            object: object.to_owned(),
            size: Some(9),
            version: Version { content: content.map(str::to_owned), ..Version::default() },
            ranges: Ranges::Assumed,
            stated: Vec::new(),
        }
    }

    #[test]
    fn a_file_named_after_its_content_is_the_same_wherever_it_is_kept() {
        let blob = |object, content| entry("blobs/abc", object, content);
        let id = blob("a", Some("abc")).id("hf://o/n:v1");
        assert_eq!(blob("b/a", Some("abc")).id("hf://o/n:v2"), id);
        // The path alone says nothing: an object of any store may be called so.
        assert_ne!(blob("a", None).id("s3://b/1"), blob("a", None).id("s3://b/2"));
        assert_ne!(blob("a", Some("xyz")).id("s3://b/1"), blob("a", Some("xyz")).id("s3://b/2"));
        let plain = |object| entry("a", object, Some("abc"));
        assert_ne!(plain("a").id("hf://o/n:v1"), plain("a").id("hf://o/n:v2"));
        assert_ne!(plain("a").id("hf://o/n"), plain("b").id("hf://o/n"));
    }
}
