//! What the Hub's API answers: a revision's commit, the entries of a tree, the way to the next page. Pure.
//!
//! Holds: at most [`FILES_MAX`] entries and [`TEXT_BYTES_MAX`] bytes of names; a listing that repeats itself or has no end is refused as soon as it shows.

use std::collections::HashSet;

use http::HeaderMap;
use http::header::LINK;
use serde::Deserialize;

use crate::error::{Failure, FailureKind};
use crate::manifest::path::shown;
use crate::manifest::{Ranges, Stated, Version};
use crate::origin::Found;
use crate::origin::listing::{PAGES_MAX, TEXT_BYTES_MAX};

/// Most entries of one repository.
const FILES_MAX: usize = 1_000_000;

/// Pages without an entry in a row.
const EMPTY_PAGES_MAX: u32 = 100;

/// What is read of a repository's description.
#[derive(Debug, Deserialize)]
struct Description {
    sha: Option<String>,
}

/// What is read of a tree's entry.
#[derive(Debug, Deserialize)]
pub(in crate::origin) struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    pub(super) path: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    oid: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
    /// By which name the Hub's store of chunks (Xet) has it.
    #[serde(default, rename = "xetHash")]
    xet_hash: Option<String>,
}

/// A file kept outside Git.
#[derive(Debug, Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl TreeEntry {
    pub(super) fn is_file(&self) -> bool {
        self.kind == "file"
    }

    pub(super) fn is_folder(&self) -> bool {
        self.kind == "directory"
    }

    /// The file under `path`. Its content's name is what the Hub gives as its ETag, and a statement about its bytes: SHA-256
    /// for LFS, Git's id otherwise.
    pub(super) fn into_found(self, path: String) -> Found {
        let (size, content, stated) = match self.lfs {
            Some(lfs) => {
                let stated = digest(&lfs.oid).map(Stated::Sha256);
                (Some(lfs.size), Some(lfs.oid), stated)
            }
            None => {
                // Git's head of a blob has the size in it: without one nothing can be compared.
                let stated = self.size.and(self.oid.as_deref()).and_then(digest).map(Stated::GitBlob);
                (self.size, self.oid, stated)
            }
        };
        let content = content.filter(|name| is_hex(name));
        let version = Version { content, ..Version::default() };
        Found { path, object: self.path, size, version, ranges: Ranges::Assumed, stated: stated.into_iter().collect() }
    }
}

/// A digest of `N` bytes from its hexadecimal digits.
fn digest<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !is_hex(text) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Git's SHA-1 and SHA-256 ids and those of LFS; anything else is no name of a content.
fn is_hex(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a revision is a commit's whole id: nothing is to be asked about it.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The commit that a repository's description names.
///
/// # Errors
/// `BadReply` when it names none: then this is no Hub.
pub(super) fn commit(body: &[u8]) -> Result<String, Failure> {
    let description: Description = parsed(body)?;
    description.sha.filter(|sha| is_commit(sha)).ok_or_else(|| bad("names no commit"))
}

/// The entries of a page.
///
/// # Errors
/// `BadReply` when it is none.
pub(in crate::origin) fn entries(body: &[u8]) -> Result<Vec<TreeEntry>, Failure> {
    parsed(body)
}

fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    // Without the parser's words: they quote the text.
    serde_json::from_slice(body).map_err(|_| bad("is not what a Hub answers"))
}

fn bad(why: &str) -> Failure {
    Failure::new(FailureKind::BadReply, format!("the answer {why}"))
}

/// The query of the page that follows, from the `Link` header (RFC 8288).
///
/// Only the query: mirrors pass on links to the Hub itself, where the token of another place must not go.
pub(super) fn next(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|value| value.split(", <")).find_map(|link| {
        let (target, parameters) = link.trim_start_matches('<').split_once('>')?;
        let next = parameters.split(';').any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
        let (_, query) = target.split_once('?')?;
        next.then(|| query.split('#').next().unwrap_or_default().to_owned())
    })
}

/// The files of a tree, page by page.
pub(in crate::origin) struct Listing {
    /// What is cut off in front: empty, or a folder with its slash.
    prefix: String,
    found: Vec<Found>,
    paths: HashSet<String>,
    queries: HashSet<String>,
    pages: u32,
    empty_pages: u32,
    chunked: usize,
    text_bytes: usize,
}

impl Listing {
    /// A listing of the files below `folder`, which may be empty.
    pub(in crate::origin) fn new(folder: &str) -> Self {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let (found, paths, queries) = (Vec::new(), HashSet::new(), HashSet::new());
        Self { prefix, found, paths, queries, pages: 0, empty_pages: 0, chunked: 0, text_bytes: 0 }
    }

    /// Takes a page and what follows it; the query of the next one, `None` at the end.
    ///
    /// # Errors
    /// `BadReply` for a listing that repeats an entry or a page, or never ends.
    pub(in crate::origin) fn add(
        &mut self,
        page: Vec<TreeEntry>,
        next: Option<String>,
    ) -> Result<Option<String>, Failure> {
        let fail = |why: String| Err(Failure::new(FailureKind::BadReply, format!("the listing {why}")));
        self.pages += 1;
        self.empty_pages = if page.is_empty() { self.empty_pages + 1 } else { 0 };
        if EMPTY_PAGES_MAX < self.empty_pages || PAGES_MAX < self.pages {
            return fail(format!("does not end after {} pages", self.pages));
        }
        self.text_bytes = self.text_bytes.saturating_add(next.as_ref().map_or(0, String::len));
        for entry in page {
            self.text_bytes = self.text_bytes.saturating_add(entry.path.len());
            if TEXT_BYTES_MAX < self.text_bytes {
                return fail(format!("has more than {TEXT_BYTES_MAX} bytes of names"));
            }
            if !self.paths.insert(entry.path.clone()) {
                return fail(format!("names `{}` twice: it does not end", shown(&entry.path)));
            }
            if FILES_MAX < self.paths.len() {
                return fail(format!("has more than {FILES_MAX} entries"));
            }
            if let (true, Some(path)) = (entry.is_file(), entry.path.strip_prefix(&self.prefix)) {
                let path = path.to_owned();
                self.chunked += usize::from(entry.xet_hash.is_some());
                self.found.push(entry.into_found(path));
            }
        }
        match next {
            Some(query) if !self.queries.insert(query.clone()) => {
                fail("returns to a page it has shown before".to_owned())
            }
            next => Ok(next),
        }
    }

    /// How many of the files are kept in chunks. Each is read whole all the same, by its signed link.
    pub(super) fn chunked(&self) -> usize {
        self.chunked
    }

    /// Everything found.
    pub(in crate::origin) fn into_found(self) -> Vec<Found> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const SHA1: &str = "0123456789abcdef0123456789abcdef01234567";

    fn page(paths: &[&str]) -> Vec<TreeEntry> {
        let entry = |path: &&str| format!(r#"{{"type":"file","oid":"{SHA1}","size":1,"path":"{path}"}}"#);
        let text = format!("[{}]", paths.iter().map(entry).collect::<Vec<_>>().join(","));
        entries(text.as_bytes()).unwrap()
    }

    #[test]
    fn files_have_sizes_and_the_names_of_their_contents() {
        let sha256 = "ab".repeat(32);
        let text = format!(
            r#"[{{"type":"directory","oid":"{SHA1}","size":0,"path":"sub"}},
                {{"type":"file","oid":"{SHA1}","size":7,"path":"sub/a","lastCommit":{{"x":1}}}},
                {{"type":"file","oid":"{SHA1}","size":134,"path":"sub/b","xetHash":"x",
                  "lfs":{{"oid":"{sha256}","size":99,"pointerSize":134}}}},
                {{"type":"file","oid":"odd","path":"sub/c"}}]"#
        );
        let mut listing = Listing::new("sub");
        assert_eq!(listing.add(entries(text.as_bytes()).unwrap(), None), Ok(None));
        assert_eq!(listing.chunked(), 1);
        let found = listing.into_found();
        let shown =
            |found: &Found| (found.path.clone(), found.object.clone(), found.size, found.version.content.clone());
        let shown: Vec<_> = found.iter().map(shown).collect();
        let row = |name: &str, size, content: Option<&str>| {
            (name.to_owned(), format!("sub/{name}"), size, content.map(str::to_owned))
        };
        assert_eq!(shown, [row("a", Some(7), Some(SHA1)), row("b", Some(99), Some(&sha256)), row("c", None, None)]);
        let stated: Vec<_> = found.iter().map(|found| found.stated.clone()).collect();
        let git = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        let git = std::array::from_fn(|at| git[at % 8]);
        assert_eq!(stated, [vec![Stated::GitBlob(git)], vec![Stated::Sha256([0xab; 32])], vec![]]);
        // A server that ignores the folder in the URL: what was not asked for is left out.
        let mut listing = Listing::new("a");
        listing.add(page(&["a/x", "ab/x", "a"]), None).unwrap();
        assert_eq!(listing.into_found().len(), 1);
    }

    #[test]
    fn a_description_names_a_commit_or_is_none() {
        assert_eq!(commit(format!(r#"{{"id":"o/n","sha":"{SHA1}","siblings":[]}}"#).as_bytes()), Ok(SHA1.to_owned()));
        for body in ["{}", r#"{"sha":"main"}"#, r#"{"sha":null}"#, "[]", "<html>", "", r#"{"sha":7}"#] {
            assert_eq!(commit(body.as_bytes()).unwrap_err().kind, FailureKind::BadReply, "{body}");
        }
        assert!(entries(b"{}").is_err() && entries(b"[{}]").is_err());
        assert!(is_commit(SHA1) && !is_commit(&SHA1[1..]) && !is_commit(&SHA1.to_uppercase()));
    }

    #[test]
    fn the_next_page_is_the_query_of_its_link() {
        let check = |values: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(LINK, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(next(&headers).as_deref(), expected, "{values:?}");
        };
        check(
            &[r#"<https://h/api/models/o/n/tree/c?cursor=a%3D&limit=1000>; rel="next""#],
            Some("cursor=a%3D&limit=1000"),
        );
        check(&[r#"<https://h/x?a=1>; rel="prev", <https://h/x?a=2>; rel=next; title=x"#], Some("a=2"));
        check(&[r#"<https://h/x?a=1>; rel="prev""#, r#"<https://h/x?a=3>; rel="next""#], Some("a=3"));
        check(&[r#"<https://h/x>; rel="next""#], None);
        check(&["nonsense", "<x>"], None);
        check(&[], None);
    }

    #[test]
    fn listings_without_end_are_refused() {
        let refused = |pages: Vec<(Vec<TreeEntry>, Option<&str>)>| {
            let mut listing = Listing::new("");
            let mut results = pages.into_iter().map(|(page, next)| listing.add(page, next.map(str::to_owned)));
            let failure = results.find_map(Result::err).expect("accepted");
            assert_eq!(failure.kind, FailureKind::BadReply, "{failure}");
        };
        refused(vec![(page(&["a"]), Some("q")), (page(&["b"]), Some("q"))]);
        refused(vec![(page(&["a"]), Some("q")), (page(&["a"]), Some("r"))]);
        let queries: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        refused(queries.iter().map(|query| (page(&[]), Some(query.as_str()))).collect());
        let half = "x".repeat(TEXT_BYTES_MAX / 2);
        refused(vec![(page(&["a"]), Some(&half)), (page(&[&half]), None)]);
    }
}
