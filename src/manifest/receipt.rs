//! `receipt.json`: what a sealed directory says about itself. The last thing written, the first thing read.
//!
//! In: bytes or the files of a finished run. Out: the other. Pure.
//! Holds: a parsed receipt has safe, distinct, sorted paths, and nothing in it is a secret.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::path::shown;
use super::{Digest, Entry, Manifest, SafePath, Version, collisions};
use crate::error::Error;

/// The format this build writes and reads.
pub const SCHEMA: &str = "dray.receipt/1";

/// Largest receipt that is read: a million files take about half of it.
pub const RECEIPT_BYTES_MAX: usize = 512 << 20;

/// Most files of a receipt, as of a listing.
pub const FILES_MAX: usize = 1_000_000;

const TEXT_BYTES_MAX: usize = 4096;
const CHECKS_MAX: usize = 16;
const ASSURANCES: [&str; 3] = ["hashed", "origin", "pinned"];
const ARCHIVES: [&str; 2] = ["tar", "zip"];

/// A sealed directory's own statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The source in canonical form.
    pub source: String,
    /// BLAKE3 of `tree.b3`, which holds the piece hashes of these files in this order.
    pub tree_b3: Digest,
    /// What was fetched, where the files are the members of an archive. Absent else, as in every older receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveReceipt>,
    /// Sorted by path.
    #[serde(deserialize_with = "bounded_files")]
    pub files: Vec<FileReceipt>,
}

/// One published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileReceipt {
    /// Path below DEST.
    #[serde(serialize_with = "path_text", deserialize_with = "safe_path")]
    pub path: SafePath,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the whole file.
    pub blake3: Digest,
    /// `hashed`, `origin` or `pinned`.
    pub assurance: String,
    /// The version that was fetched.
    pub version: VersionReceipt,
    /// The object's name at its origin.
    pub object: String,
    /// Names of the statements that matched.
    pub checks: Vec<String>,
}

/// The one file that was fetched, of which the published files are the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveReceipt {
    /// The path below DEST that it would have had.
    #[serde(serialize_with = "path_text", deserialize_with = "safe_path")]
    pub name: SafePath,
    /// `tar` or `zip`.
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the archive.
    pub blake3: Digest,
    /// `hashed`, `origin` or `pinned`.
    pub assurance: String,
    /// The version that was fetched.
    pub version: VersionReceipt,
    /// The object's name at its origin.
    pub object: String,
    /// Names of the statements that matched.
    pub checks: Vec<String>,
}

/// A [`Version`] as the receipt writes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionReceipt {
    /// The strong ETag with its quotes.
    pub etag: Option<String>,
    /// S3's versionId.
    pub version_id: Option<String>,
    /// Last-Modified as the origin wrote it.
    pub last_modified: Option<String>,
    /// The content's own name, where the origin has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl From<&Version> for VersionReceipt {
    fn from(version: &Version) -> Self {
        Self {
            etag: version.etag.clone(),
            version_id: version.version_id.clone(),
            last_modified: version.last_modified.clone(),
            content: version.content.clone(),
        }
    }
}

impl FileReceipt {
    /// The receipt of `entry`, published with this size and digest; `checks` names the statements that matched.
    pub fn new(entry: &Entry, size: u64, blake3: Digest, assurance: &str, checks: Vec<String>) -> Self {
        Self {
            path: entry.path.clone(),
            size,
            blake3,
            assurance: assurance.to_owned(),
            version: VersionReceipt::from(&entry.version),
            object: entry.object.clone(),
            checks,
        }
    }

    /// Whether this is the published form of `entry`: same path, object and version, same size where it is known.
    /// Where the version names the content itself, the object's own name may have changed.
    pub fn is(&self, entry: &Entry) -> bool {
        let size = match entry.size {
            Some(size) => size == self.size,
            // Without size and version nothing says that the object is still the same.
            None => !entry.version.is_empty(),
        };
        size && self.path == entry.path
            && (self.object == entry.object || entry.version.content.is_some())
            && self.version == VersionReceipt::from(&entry.version)
    }
}

impl ArchiveReceipt {
    /// The receipt of the archive `file`, which is of this kind.
    pub fn new(file: FileReceipt, kind: &str) -> Self {
        let FileReceipt { path, size, blake3, assurance, version, object, checks } = file;
        Self { name: path, kind: kind.to_owned(), size, blake3, assurance, version, object, checks }
    }

    /// The archive as the file that it was when it was fetched.
    pub fn into_file(self) -> FileReceipt {
        let Self { name, kind: _, size, blake3, assurance, version, object, checks } = self;
        FileReceipt { path: name, size, blake3, assurance, version, object, checks }
    }

    /// The receipt of a member: as well known as the archive that it came from.
    pub fn member(&self, path: SafePath, size: u64, blake3: Digest) -> FileReceipt {
        FileReceipt {
            object: path.as_str().to_owned(),
            path,
            size,
            blake3,
            assurance: self.assurance.clone(),
            version: VersionReceipt::default(),
            checks: Vec::new(),
        }
    }
}

impl Receipt {
    /// A receipt of `files`; `tree` is the content of `tree.b3`, in the order of `files`.
    pub fn new(source: String, files: Vec<FileReceipt>, tree: &[u8]) -> Self {
        Self { schema: SCHEMA.to_owned(), source, tree_b3: digest_of(tree), archive: None, files }
    }

    /// The receipt of what was fetched: the archive alone, where the files are its members. It binds no tree.
    pub fn of_fetched(self) -> Self {
        match self.archive {
            Some(archive) => Self { archive: None, files: vec![archive.into_file()], ..self },
            None => self,
        }
    }

    /// Whether `tree`, the content of `tree.b3`, belongs to this receipt.
    pub fn binds(&self, tree: &[u8]) -> bool {
        self.tree_b3 == digest_of(tree)
    }

    /// Whether `manifest` describes exactly these files: then there is nothing to fetch.
    pub fn matches(&self, manifest: &Manifest) -> bool {
        let pairs = || self.files.iter().zip(&manifest.entries);
        self.archive.is_none()
            && self.source == manifest.source
            && self.files.len() == manifest.entries.len()
            && pairs().all(|(file, entry)| file.is(entry))
    }

    /// Whether the directory is a repository's folder in a cache of the Hub: every file is named after its content.
    pub fn is_cache(&self) -> bool {
        let named = |file: &FileReceipt| {
            let id = file.path.as_str().strip_prefix("blobs/");
            id.is_some() && id == file.version.content.as_deref()
        };
        !self.files.is_empty() && self.files.iter().all(named)
    }

    /// The file at `path`.
    pub fn file(&self, path: &SafePath) -> Option<&FileReceipt> {
        let at = self.files.binary_search_by(|file| file.path.cmp(path)).ok()?;
        self.files.get(at)
    }

    /// The bytes of `receipt.json`: pretty, fields in a fixed order, a newline at the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        // The types hold only text, numbers and lists, and a Vec takes every write: this cannot fail.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// Reads the bytes of a receipt.
///
/// # Errors
/// [`Error::Integrity`] when they are too many, not JSON of [`SCHEMA`], or name unsafe, unsorted or colliding paths.
pub fn parse(bytes: &[u8]) -> Result<Receipt, Error> {
    let damaged = |why: String| Error::Integrity(format!("receipt: {why}"));
    if RECEIPT_BYTES_MAX < bytes.len() {
        return Err(damaged(format!("longer than {RECEIPT_BYTES_MAX} bytes")));
    }
    let receipt: Receipt = serde_json::from_slice(bytes).map_err(|error| damaged(shown(&error.to_string())))?;
    if receipt.schema != SCHEMA {
        return Err(damaged(format!("schema `{}` is not {SCHEMA}", shown(&receipt.schema))));
    }
    let sorted = receipt.files.windows(2).all(|pair| matches!(pair, [one, two] if one.path < two.path));
    if !sorted {
        return Err(damaged("paths are not sorted and distinct".to_owned()));
    }
    if TEXT_BYTES_MAX < receipt.source.len() {
        return Err(damaged("source is too long".to_owned()));
    }
    for file in &receipt.files {
        check_file(file).map_err(|why| damaged(format!("`{}`: {why}", shown(file.path.as_str()))))?;
    }
    if let Some(archive) = receipt.archive.clone() {
        if !ARCHIVES.contains(&archive.kind.as_str()) {
            return Err(damaged("unknown kind of archive".to_owned()));
        }
        check_file(&archive.into_file()).map_err(|why| damaged(format!("archive: {why}")))?;
    }
    collisions(receipt.files.iter().map(|file| &file.path)).map_err(|error| damaged(error.to_string()))?;
    Ok(receipt)
}

fn check_file(file: &FileReceipt) -> Result<(), &'static str> {
    let VersionReceipt { etag, version_id, last_modified, content } = &file.version;
    let texts =
        [etag, version_id, last_modified, content].into_iter().flatten().chain([&file.object]).chain(&file.checks);
    if texts.clone().any(|text| TEXT_BYTES_MAX < text.len()) {
        return Err("a field is too long");
    }
    // They go back into request headers.
    if texts.clone().any(|text| text.chars().any(char::is_control)) {
        return Err("a field has a control character");
    }
    if 1 << 63 <= file.size {
        return Err("the size is out of range");
    }
    if CHECKS_MAX < file.checks.len() {
        return Err("too many checks");
    }
    if ASSURANCES.contains(&file.assurance.as_str()) { Ok(()) } else { Err("unknown assurance") }
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // One text per digest: capitals are not what `to_hex` writes.
        let digest = Self::from_hex(&text).filter(|digest| digest.to_hex() == text);
        digest.ok_or_else(|| D::Error::custom("a digest is not 64 lower-case hexadecimal digits"))
    }
}

fn path_text<S: Serializer>(path: &SafePath, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(path.as_str())
}

fn safe_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SafePath, D::Error> {
    let text = String::deserialize(deserializer)?;
    SafePath::parse(&text).map_err(D::Error::custom)
}

fn bounded_files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<FileReceipt>, D::Error> {
    struct Files;
    impl<'de> Visitor<'de> for Files {
        type Value = Vec<FileReceipt>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "at most {FILES_MAX} files")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut files = Vec::new();
            while let Some(file) = seq.next_element()? {
                if files.len() == FILES_MAX {
                    return Err(A::Error::custom(format!("more than {FILES_MAX} files")));
                }
                files.push(file);
            }
            Ok(files)
        }
    }
    deserializer.deserialize_seq(Files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Ranges;

    fn entry(path: &str, size: Option<u64>, etag: Option<&str>) -> Entry {
        Entry {
            path: SafePath::parse(path).unwrap(),
            object: format!("m/{path}"),
            size,
            version: Version { etag: etag.map(str::to_owned), ..Version::default() },
            ranges: Ranges::Assumed,
            stated: Vec::new(),
        }
    }

    fn manifest() -> Manifest {
        let entries = vec![entry("a b/ü.bin", Some(3), Some("\"e1\"")), entry("c", Some(0), None)];
        Manifest { source: "s3://bucket/m".to_owned(), entries }
    }

    fn receipt() -> Receipt {
        let manifest = manifest();
        let files = manifest.entries.iter().map(|entry| {
            let digest = digest_of(entry.object.as_bytes());
            FileReceipt::new(entry, entry.size.unwrap(), digest, "origin", vec!["crc64nvme".to_owned()])
        });
        Receipt::new(manifest.source.clone(), files.collect(), b"tree")
    }

    #[test]
    fn a_receipt_reads_back_as_it_was_written() {
        let bytes = receipt().to_bytes();
        assert_eq!(parse(&bytes), Ok(receipt()));
        assert_eq!(parse(&bytes).unwrap().to_bytes(), bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with(
                "{\n  \"schema\": \"dray.receipt/1\",\n  \"source\": \"s3://bucket/m\",\n  \"tree_b3\": \""
            ),
            "{text}"
        );
        assert!(text.contains("\"etag\": \"\\\"e1\\\"\"") && text.ends_with("}\n"), "{text}");
    }

    #[test]
    fn a_receipt_binds_its_tree_only() {
        assert!(receipt().binds(b"tree") && !receipt().binds(b"tree2") && !receipt().binds(b""));
    }

    #[test]
    fn a_receipt_matches_the_same_files_of_the_same_version_only() {
        assert!(receipt().matches(&manifest()));
        let change = |edit: fn(&mut Manifest)| {
            let mut manifest = manifest();
            edit(&mut manifest);
            receipt().matches(&manifest)
        };
        assert!(!change(|m| m.source = "s3://bucket/m2".into()));
        assert!(!change(|m| drop(m.entries.pop())));
        assert!(!change(|m| m.entries.push(entry("d", Some(1), None))));
        assert!(!change(|m| m.entries[0].size = Some(4)));
        assert!(!change(|m| m.entries[0].version.etag = Some("\"e2\"".into())));
        assert!(!change(|m| m.entries[0].version.etag = None));
        assert!(!change(|m| m.entries[0].version.version_id = Some("1".into())));
        assert!(!change(|m| m.entries[0].version.content = Some("1".into())));
        assert!(!change(|m| m.entries[0].object = "n".into()));
        assert!(!change(|m| m.entries[1].path = SafePath::parse("d").unwrap()));
        assert!(change(|m| m.entries[0].size = None), "an unknown size with the same version");
        assert!(!change(|m| m.entries[1].size = None), "neither size nor version");
    }

    #[test]
    fn a_receipt_of_members_speaks_of_what_was_fetched() {
        let fetched = Receipt { files: receipt().files[..1].to_vec(), ..receipt() };
        let archive = ArchiveReceipt::new(fetched.files[0].clone(), "zip");
        let member = archive.member(SafePath::parse("a b/ü.bin").unwrap(), 3, digest_of(b"x"));
        assert_eq!((member.assurance.as_str(), member.checks.len()), ("origin", 0));
        let files = vec![member];
        let unpacked = Receipt { archive: Some(archive), ..Receipt::new(fetched.source.clone(), files, b"tree") };
        assert_eq!(parse(&unpacked.to_bytes()), Ok(unpacked.clone()));
        let one = Manifest { entries: vec![manifest().entries[0].clone()], ..manifest() };
        assert!(!unpacked.matches(&one), "its files are no objects, whatever their names");
        assert_eq!(unpacked.clone().of_fetched(), fetched);
        assert!(unpacked.clone().of_fetched().matches(&one) && receipt().of_fetched() == receipt());
        let text = String::from_utf8(unpacked.to_bytes()).unwrap();
        for (from, to) in
            [("\"zip\"", "\"rar\""), ("\"name\": \"a b/ü.bin\"", "\"name\": \"../x\""), ("\"kind\"", "\"kinds\"")]
        {
            assert!(text.contains(from), "{from}");
            assert!(parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn files_are_found_by_path() {
        let path = SafePath::parse("c").unwrap();
        assert_eq!(receipt().file(&path).map(|file| file.size), Some(0));
        assert_eq!(receipt().file(&SafePath::parse("d").unwrap()), None);
    }

    #[test]
    fn damaged_receipts_are_refused() {
        let good = String::from_utf8(receipt().to_bytes()).unwrap();
        let digest = digest_of(b"tree").to_hex();
        for (from, to) in [
            ("receipt/1", "receipt/2"),
            ("\"schema\"", "\"scheme\""),
            ("\"path\": \"c\"", "\"path\": \"../c\""),
            ("\"path\": \"c\"", "\"path\": \".dray/x\""),
            ("\"path\": \"c\"", "\"path\": \"a b/ü.bin\""),
            ("\"path\": \"c\"", "\"path\": \"a b/Ü.BIN\""),
            ("\"path\": \"c\"", "\"path\": \"a b/ü.bin/x/../y\""),
            ("\"path\": \"c\"", "\"path\": \"Z\""),
            ("\"size\": 3", "\"size\": -3"),
            ("\"size\": 3", "\"size\": 3.5"),
            ("\"size\": 3", "\"size\": 9223372036854775808"),
            ("\"size\": 3", "\"size\": 3, \"size\": 4"),
            ("\"size\": 3", "\"size\": 3, \"mode\": 511"),
            ("\"origin\"", "\"verified\""),
            ("\"m/c\"", "\"m\\u0000c\""),
            ("\\\"e1\\\"", "e1\\r\\nx: y"),
            (digest.as_str(), &digest.to_uppercase()),
            (digest.as_str(), &digest[1..]),
            ("}\n", "}\n{}"),
        ] {
            assert!(good.contains(from), "{from}");
            let bad = good.replacen(from, to, 1);
            assert!(matches!(parse(bad.as_bytes()), Err(Error::Integrity(_))), "{from} -> {to}");
        }
        for bad in [&b""[..], b"[]", b"null", b"\xff", &good.as_bytes()[..good.len() / 2]] {
            assert!(matches!(parse(bad), Err(Error::Integrity(_))));
        }
        let long = good.replacen("m/c", &"x".repeat(TEXT_BYTES_MAX + 1), 1);
        assert!(parse(long.as_bytes()).is_err());
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes()).is_err());
    }
}
