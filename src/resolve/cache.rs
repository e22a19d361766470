//! A repository's manifest laid out as the Hub's own clients keep it in their cache.
//!
//! In: the manifest of a [`HubSource`] and the commit it was listed at. Out: the same files under the names of their
//! contents, and the names that lead to them. Pure.
//! Holds: a content that several paths share is one file; the snapshot has the repository's own paths, whatever part
//! of it was asked for; a commit has no ref of its own.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::manifest::path::shown;
use crate::manifest::receipt::FileReceipt;
use crate::manifest::{Entry, Link, Manifest, NameError, Names, Receipt, SafePath, Text};
use crate::uri::HubSource;

/// A repository in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// Its folder below the cache: `models--OWNER--NAME`.
    pub folder: String,
    /// Its files as `blobs/CONTENT`, below that folder.
    pub manifest: Manifest,
    /// `snapshots/COMMIT/PATH` and `refs/REVISION`.
    pub names: Names,
    /// Where each path of the manifest before went.
    places: BTreeMap<SafePath, SafePath>,
}

impl Cached {
    /// Lays `manifest`, which is of `source` at `commit`, out.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that a folder cannot tell from others, [`Error::Network`] when the Hub gave a file no
    /// content's name, [`Error::Policy`] for a path that is unsafe below a snapshot.
    pub fn new(source: &HubSource, commit: &str, manifest: Manifest) -> Result<Self, Error> {
        let unsafe_name = |error: NameError| Error::Policy(format!("{error}; leave it out with --ignore"));
        if source.owner.contains("--") || source.name.contains("--") {
            // `a--b/c` and `a/b--c` would be one folder.
            return Err(Error::Usage(format!("`{}` has `--` in it, which no cache can hold", source.id())));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(manifest.entries.len());
        let (mut links, mut places) = (Vec::new(), BTreeMap::new());
        for entry in manifest.entries {
            let content = entry.version.content.as_deref().filter(|content| is_content(content)).ok_or_else(|| {
                let path = shown(entry.path.as_str());
                Error::Network(format!("the Hub names no content for `{path}`, so a cache cannot hold it"))
            })?;
            let blob = SafePath::parse(&format!("blobs/{content}")).map_err(unsafe_name)?;
            let path = SafePath::parse(&format!("snapshots/{commit}/{}", entry.object)).map_err(unsafe_name)?;
            links.push(Link::new(path, &blob));
            places.insert(entry.path, blob.clone());
            entries.push(Entry { path: blob, ..entry });
        }
        // Stable: of the paths that share a content, the first is asked for.
        entries.sort_by(|one, two| one.path.cmp(&two.path));
        entries.dedup_by(|one, two| one.path == two.path);
        let revision = source.revision();
        let texts = if revision == commit {
            Vec::new()
        } else {
            let path = SafePath::parse(&format!("refs/{revision}")).map_err(unsafe_name)?;
            vec![Text { path, content: commit.to_owned() }]
        };
        let folder = format!("{}--{}--{}", source.kind.plural(), source.owner, source.name);
        let manifest = Manifest { source: manifest.source, entries };
        Ok(Self { folder, manifest, names: Names { links, texts }, places })
    }

    /// A pin of the repository's paths as one of the cache's files; one of the cache's own files stays as it is.
    ///
    /// # Errors
    /// [`Error::Integrity`] when paths that share a content are pinned to different digests.
    pub fn pin(&self, pin: Receipt) -> Result<Receipt, Error> {
        let laid = |file: FileReceipt| match self.places.get(&file.path) {
            Some(path) => FileReceipt { path: path.clone(), ..file },
            None => file,
        };
        let mut files: Vec<FileReceipt> = pin.files.into_iter().map(laid).collect();
        files.sort_by(|one, two| one.path.cmp(&two.path));
        files.dedup_by(|one, two| one.path == two.path && one.blake3 == two.blake3);
        if let Some([one, _]) = files.array_windows().find(|[one, two]| one.path == two.path) {
            let text = format!("`{}` and another file have one content now, and the pin has two of them", one.object);
            return Err(Error::Integrity(text));
        }
        Ok(Receipt { files, ..pin })
    }
}

/// Git's id or LFS's SHA-256, as the client writes it.
fn is_content(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Digest, Ranges, Version};
    use crate::uri::Source;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn source(text: &str) -> HubSource {
        let Ok(Source::Hub(source)) = Source::parse(text) else { panic!("{text}") };
        source
    }

    fn content(mark: char) -> String {
        mark.to_string().repeat(40)
    }

    fn manifest(files: &[(&str, &str, char)]) -> Manifest {
        let entry = |(path, object, mark): &(&str, &str, char)| Entry {
            path: SafePath::parse(path).unwrap(),
            object: (*object).to_owned(),
            size: Some(1),
            version: Version { content: Some(content(*mark)), ..Version::default() },
            ranges: Ranges::Assumed,
            stated: Vec::new(),
        };
        Manifest { source: "hf://o/n".to_owned(), entries: files.iter().map(entry).collect() }
    }

    fn check(text: &str, files: &[(&str, &str, char)], folder: &str, refs: &[&str], links: &[&str]) -> Cached {
        let cached = Cached::new(&source(text), COMMIT, manifest(files)).unwrap();
        assert_eq!(cached.folder, folder);
        let texts: Vec<&str> = cached.names.texts.iter().map(|text| text.path.as_str()).collect();
        assert_eq!(texts, refs, "{text}");
        assert!(cached.names.texts.iter().all(|text| text.content == COMMIT));
        let path = |link: &Link| link.path.as_str().replacen(&format!("snapshots/{COMMIT}/"), "", 1);
        assert_eq!(cached.names.links.iter().map(path).collect::<Vec<_>>(), links, "{text}");
        cached
    }

    #[test]
    fn snapshots_have_the_repositorys_paths_and_refs_its_revisions() {
        let files = [("a", "sub/a", 'a')];
        check("hf://o/n/sub", &files, "models--o--n", &["refs/main"], &["sub/a"]);
        check("hf://datasets/o/n/sub/a", &files, "datasets--o--n", &["refs/main"], &["sub/a"]);
        check("hf://o/n:feature%2Fx/sub", &files, "models--o--n", &["refs/feature/x"], &["sub/a"]);
        check("hf://o/n:refs/pr/3", &files, "models--o--n", &["refs/refs/pr/3"], &["sub/a"]);
        check(&format!("hf://o/n:{}", &COMMIT[..8]), &files, "models--o--n", &["refs/01234567"], &["sub/a"]);
        check(&format!("hf://o/n:{COMMIT}"), &files, "models--o--n", &[], &["sub/a"]);
    }

    #[test]
    fn paths_of_one_content_share_a_blob() {
        let files = [("a", "a", 'b'), ("b", "b", 'a'), ("c/d", "c/d", 'b')];
        let cached = check("hf://o/n", &files, "models--o--n", &["refs/main"], &["a", "b", "c/d"]);
        let entry = |entry: &Entry| (entry.path.to_string(), entry.object.clone());
        let expected =
            [('a', "b"), ('b', "a")].map(|(mark, object)| (format!("blobs/{}", content(mark)), object.to_owned()));
        assert_eq!(cached.manifest.entries.iter().map(entry).collect::<Vec<_>>(), expected);
        let pinned = |digests: [u8; 2]| {
            let file =
                |(entry, byte): (&Entry, u8)| FileReceipt::new(entry, 1, Digest([byte; 32]), "hashed", Vec::new());
            let [first, _, last] = &manifest(&files).entries[..] else { panic!() };
            let files = [first, last].into_iter().zip(digests).map(file).collect();
            cached.pin(Receipt::new("hf://o/n".to_owned(), files, b""))
        };
        let pin = pinned([1, 1]).unwrap();
        assert_eq!(
            pin.files.iter().map(|file| file.path.to_string()).collect::<Vec<_>>(),
            [format!("blobs/{}", content('b'))]
        );
        assert!(pin.is_cache());
        assert_eq!(cached.pin(pin.clone()).unwrap(), pin, "a receipt of the cache speaks of blobs already");
        assert!(matches!(pinned([1, 2]), Err(Error::Integrity(_))));
    }

    #[test]
    fn what_no_cache_could_hold_is_refused() {
        let odd = |content: Option<&str>, object: &str| {
            let mut manifest = manifest(&[("a", object, 'a')]);
            manifest.entries[0].version.content = content.map(str::to_owned);
            Cached::new(&source("hf://o/n"), COMMIT, manifest).unwrap_err()
        };
        for bad in ["hf://a--b/c", "hf://a/b--c"] {
            let refused = Cached::new(&source(bad), COMMIT, manifest(&[("a", "a", 'a')]));
            assert!(matches!(refused, Err(Error::Usage(_))), "{bad}");
        }
        let good = content('a');
        for bad in [None, Some("../../x"), Some(""), Some("A".repeat(40).as_str()), Some(&good[1..])] {
            assert!(matches!(odd(bad, "a"), Error::Network(_)), "{bad:?}");
        }
        for bad in ["../a", "a/../../b", "/a", "a\\b", "a\nb", ""] {
            assert!(matches!(odd(Some(&good), bad), Error::Policy(_)), "{bad:?}");
        }
    }
}
