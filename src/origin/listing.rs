//! Puts the pages of a listing together and maps objects to paths below their prefix. Pure.
//!
//! Holds: at most [`KEYS_MAX`] objects, [`PAGES_MAX`] pages and [`TEXT_BYTES_MAX`] bytes of names; a listing that repeats itself or has no end is refused as soon as it shows.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::{Failure, FailureKind};
use crate::manifest::path::shown;
use crate::manifest::{Ranges, Stated, Version};
use crate::origin::Found;

/// Most objects of one model; more is another bucket than was meant, or a server without end.
const KEYS_MAX: usize = 1_000_000;

/// Most bytes of names and versions of one listing: a million objects at the length that is usual. A single name is
/// held to its own bounds by the plan.
pub(super) const TEXT_BYTES_MAX: usize = 128 << 20;

/// Most pages; stores' own have a thousand objects, other servers' may be smaller.
pub(super) const PAGES_MAX: u32 = 20_000;

/// Pages without an object in a row. Filters and delete markers make some; stores scan at least a page each.
const EMPTY_PAGES_MAX: u32 = 100;

/// One page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    /// Whether more pages follow, and the token of the next.
    pub(super) truncated: bool,
    pub(super) token: Option<String>,
}

/// One listed object.
#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) size: Option<u64>,
    pub(super) version: Version,
    pub(super) stated: Vec<Stated>,
}

/// The pages so far.
pub(super) struct Listing<'a> {
    prefix: &'a str,
    found: Vec<Found>,
    keys: HashSet<u64>,
    tokens: HashSet<u64>,
    pages: u32,
    empty_pages: u32,
    text_bytes: usize,
}

impl Object {
    /// Bytes that are kept of it: its name and its version.
    fn text_bytes(&self) -> usize {
        let Version { etag, version_id, last_modified, content } = &self.version;
        let version = [etag, version_id, last_modified, content].into_iter().flatten().map(String::len).sum::<usize>();
        self.key.len() + version
    }

    /// The object under `path`.
    pub(super) fn into_found(self, path: &str) -> Found {
        let Self { key, size, version, stated } = self;
        Found { path: path.to_owned(), object: key, size, version, ranges: Ranges::Assumed, stated }
    }
}

impl<'a> Listing<'a> {
    /// A listing of the keys that begin with `prefix`, which is empty or ends with `/`.
    pub(super) fn new(prefix: &'a str) -> Self {
        let (keys, tokens) = (HashSet::new(), HashSet::new());
        Self { prefix, found: Vec::new(), keys, tokens, pages: 0, empty_pages: 0, text_bytes: 0 }
    }

    /// Takes a page; the token of the next one, `None` at the end.
    ///
    /// # Errors
    /// `BadReply` for a listing that repeats a key or a token, never ends, or loses its thread.
    pub(super) fn add(&mut self, page: Page) -> Result<Option<String>, Failure> {
        let bad = |why: String| Err(Failure::new(FailureKind::BadReply, format!("the listing {why}")));
        self.pages += 1;
        if PAGES_MAX < self.pages {
            return bad(format!("does not end after {PAGES_MAX} pages"));
        }
        self.empty_pages = if page.objects.is_empty() { self.empty_pages + 1 } else { 0 };
        if EMPTY_PAGES_MAX < self.empty_pages {
            return bad(format!("has {EMPTY_PAGES_MAX} empty pages in a row"));
        }
        for object in page.objects {
            self.text_bytes = self.text_bytes.saturating_add(object.text_bytes());
            if TEXT_BYTES_MAX < self.text_bytes {
                return bad(format!("has more than {TEXT_BYTES_MAX} bytes of names"));
            }
            if !self.keys.insert(hash(&object.key)) {
                return bad(format!("names `{}` twice: it does not end", shown(&object.key)));
            }
            if KEYS_MAX < self.keys.len() {
                return bad(format!("has more than {KEYS_MAX} keys"));
            }
            if let Some(path) = below(self.prefix, &object) {
                let path = path.to_owned();
                self.found.push(object.into_found(&path));
            }
        }
        if !page.truncated {
            return Ok(None);
        }
        match page.token {
            None => bad("says there is more and does not say where".to_owned()),
            Some(token) if !self.tokens.insert(hash(&token)) => bad("returns to a page it has shown before".to_owned()),
            Some(token) => Ok(Some(token)),
        }
    }

    /// Everything found.
    pub(super) fn into_found(self) -> Vec<Found> {
        self.found
    }
}

/// The path of a listed key below `prefix`; `None` for folder markers and for keys nobody asked for.
fn below<'a>(prefix: &str, object: &'a Object) -> Option<&'a str> {
    let marker = object.key.ends_with('/') && object.size == Some(0);
    if marker { None } else { object.key.strip_prefix(prefix) }
}

/// The last segment of a key: where an exact object lands.
pub(super) fn basename(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// A checksum of `N` bytes in base64; a composite one of S3 (`…-3`) is none.
pub(super) fn base64_number<const N: usize>(text: &str) -> Option<[u8; N]> {
    aws_smithy_types::base64::decode(text).ok()?.try_into().ok()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[(&str, u64)], token: Option<&str>) -> Page {
        let object =
            |(key, size): &(&str, u64)| Object { key: (*key).to_owned(), size: Some(*size), ..Object::default() };
        Page { objects: keys.iter().map(object).collect(), truncated: token.is_some(), token: token.map(str::to_owned) }
    }

    fn paths(prefix: &str, keys: &[(&str, u64)]) -> Vec<String> {
        let mut listing = Listing::new(prefix);
        assert_eq!(listing.add(page(keys, None)), Ok(None));
        listing.into_found().into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn keys_land_below_their_prefix() {
        assert_eq!(paths("m/", &[("m/a", 1), ("m/b/c", 2), ("m/m/a", 3)]), ["a", "b/c", "m/a"]);
        assert_eq!(paths("", &[("a", 1), ("b/c", 0)]), ["a", "b/c"]);
        assert_eq!(paths("a/b/", &[("a/b/ x+y%.bin", 1)]), [" x+y%.bin"]);
        // Unsafe names pass here unchanged: the SafePath parser refuses them.
        assert_eq!(paths("m/", &[("m//a", 1), ("m/../b", 1), ("m/c/", 9)]), ["/a", "../b", "c/"]);
    }

    #[test]
    fn folder_markers_and_foreign_keys_are_left_out_and_empty_files_are_not() {
        assert_eq!(paths("m/", &[("m/", 0), ("m/a/", 0), ("m/a/b", 0), ("m-v2/x", 5), ("n", 1)]), ["a/b"]);
    }

    #[test]
    fn pages_follow_their_tokens_to_the_end() {
        let mut listing = Listing::new("m/");
        assert_eq!(listing.add(page(&[("m/a", 1)], Some("t1"))), Ok(Some("t1".to_owned())));
        assert_eq!(listing.add(page(&[], Some("t2"))), Ok(Some("t2".to_owned())));
        assert_eq!(listing.add(page(&[("m/b", 1)], None)), Ok(None));
        assert_eq!(listing.into_found().len(), 2);
    }

    #[test]
    fn listings_without_end_are_refused() {
        let refused = |pages: Vec<Page>| {
            let mut listing = Listing::new("");
            let failure = pages.into_iter().find_map(|page| listing.add(page).err()).expect("accepted");
            assert_eq!(failure.kind, FailureKind::BadReply, "{failure}");
        };
        refused(vec![page(&[("a", 1)], Some("t")), page(&[("b", 1)], Some("t"))]);
        refused(vec![page(&[("a", 1)], Some("t")), page(&[("b", 1)], Some("u")), page(&[("c", 1)], Some("t"))]);
        refused(vec![page(&[("a", 1)], Some("t")), page(&[("a", 1)], Some("u"))]);
        refused(vec![Page { truncated: true, ..Page::default() }]);
        refused((0..200).map(|n| page(&[], Some(&format!("t{n}")))).collect());
        let one = |n: u32| page(&[(&n.to_string(), 1)], Some(&format!("t{n}")));
        refused((0..=PAGES_MAX).map(one).collect());
    }

    #[test]
    fn names_and_versions_without_end_are_refused() {
        let object = |key: &str, etag: String| {
            let version = Version { etag: Some(etag), ..Version::default() };
            Object { key: key.to_owned(), size: Some(1), version, ..Object::default() }
        };
        let half = || "x".repeat(TEXT_BYTES_MAX / 2);
        let mut listing = Listing::new("m/");
        let page = |objects| Page { objects, truncated: true, token: Some("t".to_owned()) };
        // Foreign keys, which are not kept, count too: they take their time.
        assert_eq!(listing.add(page(vec![object(&half(), String::new())])), Ok(Some("t".to_owned())));
        let failure = listing.add(page(vec![object("m/a", half())])).unwrap_err();
        assert_eq!(failure.kind, FailureKind::BadReply, "{failure}");
        assert!(failure.detail.contains("bytes of names") && failure.detail.len() < 100, "{failure}");
    }
}
