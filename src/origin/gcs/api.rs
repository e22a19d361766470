//! The JSON API's replies: pages, objects, refusals. Pure.
//!
//! Holds: what cannot be read is a `BadReply`; text of the server reaches an error only cleaned and cut.

use std::time::SystemTime;

use serde::Deserialize;

use crate::error::{Failure, FailureKind};
use crate::manifest::{Stated, Version};
use crate::origin::control::{Answer, head_of};
use crate::origin::listing::{Object, Page, base64_number};
use crate::wire::refusal::{self, clean};
use crate::wire::{Asked, http1};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Objects {
    #[serde(default)]
    items: Vec<Resource>,
    next_page_token: Option<String>,
}

/// An object's description, as far as it is asked for. The API writes 64-bit numbers as text.
#[derive(Deserialize)]
struct Resource {
    name: String,
    size: Option<String>,
    generation: Option<String>,
    crc32c: Option<String>,
    #[serde(rename = "md5Hash")]
    md5_hash: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: Cause,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
}

/// Reads one page of a listing.
///
/// # Errors
/// `BadReply` for anything else.
pub(in crate::origin) fn page(body: &[u8]) -> Result<Page, Failure> {
    let Objects { items, next_page_token } = read("listing", body)?;
    let token = next_page_token.filter(|token| !token.is_empty());
    Ok(Page { objects: items.into_iter().map(Resource::into_object).collect(), truncated: token.is_some(), token })
}

/// Reads one object's description.
///
/// # Errors
/// `BadReply` for anything else.
pub(super) fn object(body: &[u8]) -> Result<Object, Failure> {
    read::<Resource>("description of an object", body).map(Resource::into_object)
}

fn read<'a, T: Deserialize<'a>>(what: &str, body: &'a [u8]) -> Result<T, Failure> {
    // Without the parser's words: they may quote the reply.
    serde_json::from_slice(body).map_err(|error| {
        let text = format!("the {what} is not the JSON of Google Cloud Storage (column {})", error.column());
        Failure::new(FailureKind::BadReply, text)
    })
}

impl Resource {
    fn into_object(self) -> Object {
        let Self { name, size, generation, crc32c, md5_hash } = self;
        let crc32c = crc32c.as_deref().and_then(base64_number).map(|bytes| Stated::Crc32c(u32::from_be_bytes(bytes)));
        // It needs the bytes in order; the CRC, which every object of the store itself has, does not.
        let md5 = || md5_hash.as_deref().and_then(base64_number).map(Stated::Md5);
        Object {
            key: name,
            size: size.as_deref().and_then(http1::decimal),
            version: Version { version_id: generation, ..Version::default() },
            stated: crc32c.or_else(md5).into_iter().collect(),
        }
    }
}

/// What an answer other than 2xx means.
pub(super) fn failure(answer: &Answer) -> Failure {
    let mut failure = refusal::classify(&head_of(answer), &Asked::default(), &answer.body, SystemTime::now());
    let Ok(Refusal { error }) = serde_json::from_slice(&answer.body) else { return failure };
    // Quotas of a project are refused with 403 too.
    if error.errors.iter().any(|cause| cause.reason.to_ascii_lowercase().ends_with("ratelimitexceeded")) {
        failure.kind = FailureKind::Throttled { retry_after: None };
    }
    if !error.message.trim().is_empty() {
        failure.detail = format!("{}: {}", failure.detail, clean(&error.message));
    }
    failure
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn refused(status: u16, body: &'static str) -> Failure {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("7"));
        failure(&Answer { status, headers, body: Bytes::from_static(body.as_bytes()), peer: None })
    }

    #[test]
    fn objects_are_read_with_generation_and_checksum() {
        // 0xe3069283 is CRC-32C's check value in the catalogue of CRCs.
        let body =
            r#"{"kind": "storage#object", "name": "a/b", "size": "9", "generation": "17", "crc32c": "4waSgw=="}"#;
        let object = object(body.as_bytes()).unwrap();
        assert_eq!((object.key.as_str(), object.size), ("a/b", Some(9)));
        assert_eq!(object.version, Version { version_id: Some("17".to_owned()), ..Version::default() });
        assert_eq!(object.stated, [Stated::Crc32c(0xe306_9283)]);
        // RFC 1321's MD5 of "a"; beside a CRC it is needless.
        let md5 = r#""md5Hash": "DMF1ucDxtqgxw5niaXcmYQ==""#;
        let digest = [0x0c, 0xc1, 0x75, 0xb9, 0xc0, 0xf1, 0xb6, 0xa8, 0x31, 0xc3, 0x99, 0xe2, 0x69, 0x77, 0x26, 0x61];
        for (more, stated) in [("", Stated::Md5(digest)), (r#", "crc32c": "4waSgw==""#, Stated::Crc32c(0xe306_9283))] {
            let body = format!(r#"{{"name": "a", "size": "1", {md5}{more}}}"#);
            assert_eq!(super::object(body.as_bytes()).unwrap().stated, [stated], "{body}");
        }
    }

    #[test]
    fn what_a_description_leaves_out_or_garbles_is_unknown() {
        for body in [r#"{"name": "a"}"#, r#"{"name": "a", "size": "-1", "crc32c": "AAAA"}"#] {
            let object = object(body.as_bytes()).unwrap();
            assert_eq!((object.size, object.version.is_empty(), object.stated.len()), (None, true, 0), "{body}");
        }
        for body in ["", "{}", "[]", "<html>", r#"{"name": 1}"#, r#"{"name": "a", "size": 9}"#] {
            assert_eq!(super::object(body.as_bytes()).unwrap_err().kind, FailureKind::BadReply, "{body}");
        }
    }

    #[test]
    fn pages_say_whether_more_follow() {
        let first = page(br#"{"items": [{"name": "a"}, {"name": "b"}], "nextPageToken": "t"}"#).unwrap();
        assert_eq!((first.objects.len(), first.truncated, first.token.as_deref()), (2, true, Some("t")));
        for body in [&b"{}"[..], br#"{"items": [], "nextPageToken": ""}"#] {
            let last = page(body).unwrap();
            assert_eq!((last.objects.len(), last.truncated, last.token), (0, false, None));
        }
        assert!(page(b"[]").is_err());
    }

    #[test]
    fn refusals_sort_into_kinds_with_the_servers_words() {
        let wait = Some(std::time::Duration::from_secs(7));
        let message =
            r#"{"error": {"code": 403, "message": "no\n\u001b[31maccess", "errors": [{"reason": "forbidden"}]}}"#;
        let quota = r#"{"error": {"message": "slow", "errors": [{"reason": "userRateLimitExceeded"}]}}"#;
        for (status, body, kind) in [
            (401, message, FailureKind::Denied),
            (403, message, FailureKind::Denied),
            (403, quota, FailureKind::Throttled { retry_after: None }),
            (404, "Not Found", FailureKind::Missing),
            (412, "{}", FailureKind::Changed),
            (429, "", FailureKind::Throttled { retry_after: wait }),
            (503, "<html>", FailureKind::Throttled { retry_after: wait }),
            (500, "", FailureKind::Unavailable { retry_after: wait }),
            (400, r#"{"error": "invalid"}"#, FailureKind::BadReply),
        ] {
            assert_eq!(refused(status, body).kind, kind, "{status} {body}");
        }
        assert_eq!(refused(403, message).detail, "403 Forbidden: no [31maccess");
    }
}
