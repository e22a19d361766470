//! One page of a listing. Pure: a sorted map and a question in, a page out.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::content::Content;

/// Entries in one page at most, as S3 has it.
const PAGE_MAX: usize = 1000;

/// What the client asked for, apart from the bucket.
#[derive(Clone, Copy, Default)]
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) start_after: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) max_keys: Option<i32>,
}

/// Keys and common prefixes, each in order, and where the next page goes on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page<'a> {
    pub(super) keys: Vec<&'a str>,
    pub(super) prefixes: Vec<&'a str>,
    pub(super) next: Option<String>,
}

/// The last entry of a page: where to go on differs between a key and a common prefix.
enum Last<'a> {
    Key(&'a str),
    Prefix(&'a str),
}

/// A continuation token that no page of ours ended with.
#[derive(Debug, PartialEq)]
pub(super) struct BadToken;

/// Number of entries a page may hold for this `max-keys`.
pub(super) fn page_size(max_keys: Option<i32>) -> usize {
    max_keys.map_or(PAGE_MAX, |n| usize::try_from(n).unwrap_or(0).min(PAGE_MAX))
}

/// The page of `objects` that `query` asks for.
pub(super) fn page<'a>(objects: &'a BTreeMap<String, Content>, query: Query<'_>) -> Result<Page<'a>, BadToken> {
    let token = query.token.map(decode).transpose()?;
    let after = match &token {
        Some((_, entry)) => Some(entry.as_str()),
        None => query.start_after,
    };
    let passed = match &token {
        Some((b'p', prefix)) => Some(prefix.as_str()),
        _ => None,
    };
    let size = page_size(query.max_keys);
    let mut page = Page::default();
    let mut last: Option<Last<'a>> = None;
    let from = match after {
        // Keys before the prefix are out anyway; starting at it saves the walk over them.
        Some(after) if query.prefix <= after => Bound::Excluded(after),
        _ => Bound::Included(query.prefix),
    };
    for key in objects.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key.as_str()) {
        if !key.starts_with(query.prefix) {
            break;
        }
        let folder = common_prefix(key, query.prefix, query.delimiter);
        let seen = match (folder, &last) {
            (Some(folder), Some(Last::Prefix(last))) => folder == *last,
            _ => false,
        };
        if seen || passed.is_some_and(|passed| folder == Some(passed)) {
            continue;
        }
        if page.keys.len() + page.prefixes.len() == size {
            page.next = last.map(encode);
            return Ok(page);
        }
        match folder {
            Some(folder) => {
                page.prefixes.push(folder);
                last = Some(Last::Prefix(folder));
            }
            None => {
                page.keys.push(key);
                last = Some(Last::Key(key));
            }
        }
    }
    Ok(page)
}

/// `key` up to and including the first delimiter after the prefix, if it has one.
fn common_prefix<'a>(key: &'a str, prefix: &str, delimiter: Option<&str>) -> Option<&'a str> {
    let delimiter = delimiter.filter(|d| !d.is_empty())?;
    let at = key[prefix.len()..].find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

fn encode(last: Last<'_>) -> String {
    let (kind, entry) = match last {
        Last::Key(key) => ('k', key),
        Last::Prefix(prefix) => ('p', prefix),
    };
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(format!("{kind}{entry}"))
}

fn decode(token: &str) -> Result<(u8, String), BadToken> {
    let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token).map_err(|_| BadToken)?;
    let text = String::from_utf8(bytes).map_err(|_| BadToken)?;
    match text.as_bytes().first() {
        Some(kind @ (b'k' | b'p')) => Ok((*kind, text[1..].to_owned())),
        _ => Err(BadToken),
    }
}

/// The token of a page that goes on behind `marker`, as the listing of 2006 has it: the last key or common prefix.
pub(super) fn token_after(marker: &str, delimiter: Option<&str>) -> String {
    let is_prefix = delimiter.is_some_and(|delimiter| !delimiter.is_empty() && marker.ends_with(delimiter));
    encode(if is_prefix { Last::Prefix(marker) } else { Last::Key(marker) })
}

/// The last entry of the page that ended with `token`.
pub(super) fn entry_of(token: &str) -> Option<String> {
    decode(token).ok().map(|(_, entry)| entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(keys: &[&str]) -> BTreeMap<String, Content> {
        keys.iter().map(|key| ((*key).to_owned(), Content::bytes(key.to_string()))).collect()
    }

    /// All pages of `max_keys` entries, merged; asserts that each but the last is full.
    fn walk(keys: &[&str], query: Query<'_>, max_keys: i32) -> (Vec<String>, Vec<String>) {
        let objects = objects(keys);
        let mut out = (Vec::new(), Vec::new());
        let mut token: Option<String> = None;
        loop {
            let query = Query { token: token.as_deref(), max_keys: Some(max_keys), ..query };
            let page = page(&objects, query).unwrap();
            out.0.extend(page.keys.iter().map(ToString::to_string));
            out.1.extend(page.prefixes.iter().map(ToString::to_string));
            match page.next {
                Some(next) => {
                    assert_eq!(page.keys.len() + page.prefixes.len(), max_keys as usize);
                    token = Some(next);
                }
                None => return out,
            }
        }
    }

    #[test]
    fn a_marker_goes_on_behind_a_key_and_behind_a_folder() {
        let objects = objects(&["m/a", "m/b/1", "m/b/2", "m/c"]);
        for (marker, delimiter, next) in [("m/a", None, "m/b/1"), ("m/b/1", None, "m/b/2"), ("m/b/", Some("/"), "m/c")]
        {
            let token = token_after(marker, delimiter);
            let query = Query { prefix: "m/", delimiter, token: Some(&token), ..Query::default() };
            assert_eq!(page(&objects, query).unwrap().keys.first(), Some(&next), "{marker}");
            assert_eq!(entry_of(&token).as_deref(), Some(marker));
        }
    }

    #[test]
    fn pages_of_any_size_list_every_entry_once() {
        let keys = ["a", "m-v2/x", "m/", "m/a", "m/b/1", "m/b/2", "m/c", "m/d/1", "n"];
        let flat = Query { prefix: "m/", ..Query::default() };
        let folded = Query { delimiter: Some("/"), ..flat };
        for max_keys in 1..12 {
            let (all, none) = walk(&keys, flat, max_keys);
            assert_eq!(all, ["m/", "m/a", "m/b/1", "m/b/2", "m/c", "m/d/1"]);
            assert!(none.is_empty());
            let (files, folders) = walk(&keys, folded, max_keys);
            assert_eq!(files, ["m/", "m/a", "m/c"]);
            assert_eq!(folders, ["m/b/", "m/d/"]);
        }
    }

    #[test]
    fn start_after_is_exclusive_and_max_keys_is_capped() {
        let names: Vec<String> = (0..2500).map(|n| format!("k{n:05}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let map = objects(&names);
        let first = page(&map, Query { max_keys: Some(5000), ..Query::default() }).unwrap();
        assert_eq!(first.keys.len(), 1000);
        assert!(first.next.is_some());
        let tail = page(&map, Query { start_after: Some("k02498"), ..Query::default() }).unwrap();
        assert_eq!((tail.keys, tail.next), (vec!["k02499"], None));
        assert_eq!(walk(&names, Query::default(), 1000).0, names);
    }

    #[test]
    fn no_keys_wanted_gives_none_and_no_token() {
        let map = objects(&["a", "b"]);
        let empty = page(&map, Query { max_keys: Some(0), ..Query::default() }).unwrap();
        assert_eq!(empty, Page::default());
    }

    #[test]
    fn a_foreign_token_is_refused() {
        for token in ["!!", "", "eA"] {
            let query = Query { token: Some(token), ..Query::default() };
            assert_eq!(page(&objects(&["a"]), query), Err(BadToken));
        }
    }
}
