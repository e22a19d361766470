//! Repositories: commits, the names that point at them, who may read them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::content::{Content, mix};

/// Buffer for whole-object passes.
const PASS_BYTES: usize = 256 * 1024;

/// Where the bytes of a file are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In Git: the Hub serves them itself.
    Git,
    /// In LFS: by their SHA-256, from the CDN.
    Lfs,
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Whoever has the token; others are told that it does not exist.
    Private,
    /// Everybody may list it, whoever has the token may read its files.
    Gated,
    /// Everybody may list it, nobody may read its files.
    GatedForAll,
}

/// A repository before it is served.
#[derive(Clone, Debug)]
pub struct Repo {
    plural: &'static str,
    id: String,
    pub(super) access: Access,
    commits: BTreeMap<String, BTreeMap<String, File>>,
    names: BTreeMap<String, String>,
}

/// One file of a commit.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) content: Content,
    pub(super) kept: Kept,
    /// Git's id or LFS's: the file's ETag on the Hub.
    pub(super) oid: String,
}

impl Repo {
    /// An empty model repository `OWNER/NAME`.
    pub fn model(id: &str) -> Self {
        Self::new("models", id)
    }

    /// An empty dataset repository `OWNER/NAME`.
    pub fn dataset(id: &str) -> Self {
        Self::new("datasets", id)
    }

    fn new(plural: &'static str, id: &str) -> Self {
        let (commits, names) = (BTreeMap::new(), BTreeMap::new());
        Self { plural, id: id.to_owned(), access: Access::Public, commits, names }
    }

    /// Lets only these read it.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Adds a commit of these files and points `name` (a branch or a tag) at it.
    #[must_use]
    pub fn with_commit<'a>(mut self, name: &str, files: impl IntoIterator<Item = (&'a str, Content, Kept)>) -> Self {
        let file = |(path, content, kept): (&str, Content, Kept)| (path.to_owned(), File::new(content, kept));
        let files: BTreeMap<String, File> = files.into_iter().map(file).collect();
        let named: String = files.iter().map(|(path, file)| format!("{path}\n{}\n", file.oid)).collect();
        // Git's ids have 40 digits.
        let commit: String = hex(&Sha256::digest(format!("{}\n{named}", self.id))).chars().take(40).collect();
        self.commits.insert(commit.clone(), files);
        self.names.insert(name.to_owned(), commit);
        self
    }

    /// Names the file at `path` after the bytes of `other`: what it serves then is not what it states.
    #[must_use]
    pub fn claiming(mut self, path: &str, other: &Content) -> Self {
        for file in self.commits.values_mut().filter_map(|files| files.get_mut(path)) {
            file.oid = File::new(other.clone(), file.kept).oid;
        }
        self
    }

    /// The commit that a name points at.
    pub fn commit(&self, name: &str) -> Option<&str> {
        self.names.get(name).map(String::as_str)
    }

    /// `models/OWNER/NAME`.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.plural, self.id)
    }

    /// The commit of a branch, a tag, or the first digits of a commit.
    pub(super) fn resolve(&self, revision: &str) -> Option<&str> {
        let by_id = || self.commits.keys().find(|commit| 7 <= revision.len() && commit.starts_with(revision));
        self.names.get(revision).or_else(by_id).map(String::as_str)
    }

    pub(super) fn files(&self, commit: &str) -> Option<&BTreeMap<String, File>> {
        self.commits.get(commit)
    }

    /// The content of this name, in any commit.
    pub(super) fn content(&self, oid: &str) -> Option<&Content> {
        let mut files = self.commits.values().flat_map(BTreeMap::values);
        files.find(|file| file.oid == oid).map(|file| &file.content)
    }

    /// What the API says of a repository at a commit.
    pub(super) fn description(&self, commit: &str) -> Value {
        let files = self.files(commit).into_iter().flatten();
        let siblings: Vec<Value> = files.map(|(path, _)| json!({ "rfilename": path })).collect();
        let gated =
            if matches!(self.access, Access::Gated | Access::GatedForAll) { json!("manual") } else { json!(false) };
        json!({ "_id": "1", "id": self.id, "modelId": self.id, "sha": commit, "private": self.access == Access::Private,
                "gated": gated, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings })
    }

    /// Folders and files below `folder`, as a recursive tree has them.
    pub(super) fn tree(&self, commit: &str, folder: &str) -> Vec<Value> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let Some(files) = self.files(commit) else { return Vec::new() };
        let mut entries = Vec::new();
        let mut folders = BTreeSet::new();
        for (path, file) in files.iter().filter(|(path, _)| path.starts_with(&prefix)) {
            let below = &path[prefix.len()..];
            for (at, _) in below.match_indices('/') {
                let folder = &path[..prefix.len() + at];
                if folders.insert(folder.to_owned()) {
                    entries.push(folder_entry(folder));
                }
            }
            entries.push(file.entry(path));
        }
        entries
    }

    /// The entry at `path`, if there is a file or a folder.
    pub(super) fn entry(&self, commit: &str, path: &str) -> Option<Value> {
        let files = self.files(commit)?;
        let below = format!("{path}/");
        let folder = || files.keys().any(|file| file.starts_with(&below)).then(|| folder_entry(path));
        files.get(path).map(|file| file.entry(path)).or_else(folder)
    }
}

impl File {
    fn new(content: Content, kept: Kept) -> Self {
        let oid = match kept {
            Kept::Lfs => hashed(Sha256::new(), &content),
            Kept::Git => hashed(Sha1::new_with_prefix(format!("blob {}\0", content.size())), &content),
        };
        Self { content, kept, oid }
    }

    fn entry(&self, path: &str) -> Value {
        let size = self.content.size();
        let lfs = json!({ "oid": self.oid, "size": size, "pointerSize": 134 });
        match self.kept {
            Kept::Git => json!({ "type": "file", "oid": self.oid, "size": size, "path": path }),
            Kept::Lfs => {
                let pointer: String = self.oid.chars().take(40).collect();
                // As of every large file today; it names chunks that this server does not serve.
                let xet = self.oid.chars().rev().collect::<String>();
                json!({ "type": "file", "oid": pointer, "size": size, "path": path, "lfs": lfs, "xetHash": xet })
            }
        }
    }
}

fn folder_entry(path: &str) -> Value {
    let bytes = path.bytes().fold(0, |sum: u64, byte| mix(sum ^ u64::from(byte)));
    json!({ "type": "directory", "oid": format!("{bytes:040x}"), "size": 0, "path": path })
}

/// The digits of `hasher` over the content.
fn hashed<D: Digest>(mut hasher: D, content: &Content) -> String {
    let mut buf = vec![0; PASS_BYTES];
    let mut offset = 0;
    while offset < content.size() {
        let len = usize::try_from(content.size() - offset).map_or(PASS_BYTES, |rest| rest.min(PASS_BYTES));
        content.fill(offset, &mut buf[..len]);
        hasher.update(&buf[..len]);
        offset += len as u64;
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
