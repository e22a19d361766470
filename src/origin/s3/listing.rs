//! Puts the pages of a listing together and maps keys to paths. Pure but for reading the SDK's output type.
//!
//! Holds: at most [`KEYS_MAX`] keys; a listing that repeats itself or has no end is refused as soon as it shows.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;

use crate::error::{Failure, FailureKind};
use crate::manifest::path::shown;
use crate::manifest::{Ranges, Version};
use crate::origin::Found;

/// Most keys of one model; more is another bucket than was meant, or a server without end.
const KEYS_MAX: usize = 1_000_000;

/// Pages without a key in a row. Filters and delete markers make some; S3 scans at least a page each.
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
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) size: Option<u64>,
    pub(super) etag: Option<String>,
}

/// The pages so far.
pub(super) struct Listing<'a> {
    prefix: &'a str,
    found: Vec<Found>,
    keys: HashSet<u64>,
    tokens: HashSet<u64>,
    empty_pages: u32,
}

impl Page {
    /// Reads the SDK's page, with keys decoded where the server says they are encoded.
    ///
    /// # Errors
    /// `Refused` for a key that is not UTF-8.
    pub(super) fn of(output: &ListObjectsV2Output) -> Result<Self, Failure> {
        let encoded = output.encoding_type() == Some(&EncodingType::Url);
        let object = |object: &aws_sdk_s3::types::Object| {
            let key = object.key().unwrap_or_default();
            Ok(Object {
                key: if encoded { decoded(key)? } else { key.to_owned() },
                size: object.size().and_then(|size| u64::try_from(size).ok()),
                etag: object.e_tag().and_then(strong_etag),
            })
        };
        Ok(Self {
            objects: output.contents().iter().map(object).collect::<Result<_, Failure>>()?,
            truncated: output.is_truncated().unwrap_or(false),
            token: output.next_continuation_token().map(str::to_owned),
        })
    }
}

impl Object {
    /// The object under `path`.
    pub(super) fn into_found(self, path: &str) -> Found {
        let Self { key, size, etag } = self;
        let version = Version { etag, ..Version::default() };
        Found { path: path.to_owned(), object: key, size, version, ranges: Ranges::Assumed, stated: Vec::new() }
    }
}

impl<'a> Listing<'a> {
    /// A listing of the keys that begin with `prefix`, which is empty or ends with `/`.
    pub(super) fn new(prefix: &'a str) -> Self {
        Self { prefix, found: Vec::new(), keys: HashSet::new(), tokens: HashSet::new(), empty_pages: 0 }
    }

    /// Takes a page; the token of the next one, `None` at the end.
    ///
    /// # Errors
    /// `BadReply` for a listing that repeats a key or a token, never ends, or loses its thread.
    pub(super) fn add(&mut self, page: Page) -> Result<Option<String>, Failure> {
        let bad = |why: String| Err(Failure::new(FailureKind::BadReply, format!("the listing {why}")));
        self.empty_pages = if page.objects.is_empty() { self.empty_pages + 1 } else { 0 };
        if EMPTY_PAGES_MAX < self.empty_pages {
            return bad(format!("has {EMPTY_PAGES_MAX} empty pages in a row"));
        }
        for object in page.objects {
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

/// Listings write a space as `+` and a plus as `%2B`.
fn decoded(key: &str) -> Result<String, Failure> {
    let spaced = key.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned);
    decoded.map_err(|_| Failure::new(FailureKind::Refused, format!("the key `{}` is not UTF-8", shown(key))))
}

/// The ETag as it was sent, unless it is weak or empty.
pub(super) fn strong_etag(etag: &str) -> Option<String> {
    let weak = etag.starts_with("W/") || etag.trim_matches('"').is_empty() || etag.chars().any(char::is_control);
    (!weak).then(|| etag.to_owned())
}

/// A checksum of `N` bytes; a composite one (`…-3`) is none.
pub(super) fn base64_number<const N: usize>(text: &str) -> Option<[u8; N]> {
    aws_smithy_types::base64::decode(text).ok()?.try_into().ok()
}

/// A signed URL without its signature, for anonymous access: the SDK's endpoint rules made the rest.
pub(super) fn unsigned(signed: &str) -> String {
    let (place, query) = signed.split_once('?').unwrap_or((signed, ""));
    let kept: Vec<&str> = query.split('&').filter(|pair| pair.starts_with("versionId=")).collect();
    if kept.is_empty() { place.to_owned() } else { format!("{place}?{}", kept.join("&")) }
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
        let object = |(key, size): &(&str, u64)| Object { key: (*key).to_owned(), size: Some(*size), etag: None };
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
    }

    #[test]
    fn listed_keys_decode_like_form_fields() {
        for (text, key) in [("a+b%2Bc%25", "a b+c%"), ("m/%E6%A8%A1", "m/模"), ("plain/x", "plain/x"), ("%zz", "%zz")]
        {
            assert_eq!(decoded(text), Ok(key.to_owned()), "{text}");
        }
        assert!(decoded("a%ff").is_err());
    }

    #[test]
    fn only_strong_etags_and_whole_checksums_are_kept() {
        assert_eq!(strong_etag("\"abc\""), Some("\"abc\"".to_owned()));
        for etag in ["W/\"abc\"", "\"\"", "", "\"a\nb\""] {
            assert_eq!(strong_etag(etag), None, "{etag:?}");
        }
        assert_eq!(base64_number::<4>("AAAAAQ==").map(u32::from_be_bytes), Some(1));
        for text in ["AAAAAQ==-3", "AAAA", "AAAAAAAAAAE=", "", "potato!"] {
            assert_eq!(base64_number::<4>(text), None, "{text}");
        }
    }

    #[test]
    fn anonymous_urls_keep_the_version_only() {
        assert_eq!(
            unsigned("https://b.s3/k?x-id=GetObject&X-Amz-Signature=1&versionId=v%2B1"),
            "https://b.s3/k?versionId=v%2B1"
        );
        assert_eq!(unsigned("https://b.s3/k%3Fx?X-Amz-Date=1"), "https://b.s3/k%3Fx");
    }
}
