//! Reads the SDK's pages and what S3 writes in them: encoded keys, ETags, signed URLs. Pure.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;

use crate::error::{Failure, FailureKind};
use crate::manifest::Version;
use crate::manifest::path::shown;
use crate::origin::listing::{Object, Page};

/// Reads the SDK's page, with keys decoded where the server says they are encoded.
///
/// # Errors
/// `Refused` for a key that is not UTF-8, `BadReply` for a document that says nothing that a listing says.
pub(super) fn page_of(output: &ListObjectsV2Output) -> Result<Page, Failure> {
    let silent = output.is_truncated().is_none() && output.key_count().is_none() && output.name().is_none();
    if silent && output.contents().is_empty() {
        return Err(Failure::new(FailureKind::BadReply, "the answer is no listing"));
    }
    let encoded = output.encoding_type() == Some(&EncodingType::Url);
    let object = |object: &aws_sdk_s3::types::Object| {
        let key = object.key().unwrap_or_default();
        Ok(Object {
            key: if encoded { decoded(key)? } else { key.to_owned() },
            size: object.size().and_then(|size| u64::try_from(size).ok()),
            version: Version { etag: object.e_tag().and_then(strong_etag), ..Version::default() },
            stated: Vec::new(),
        })
    };
    Ok(Page {
        objects: output.contents().iter().map(object).collect::<Result<_, Failure>>()?,
        truncated: output.is_truncated().unwrap_or(false),
        token: output.next_continuation_token().map(str::to_owned),
    })
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

/// A signed URL without its signature, for anonymous access: the SDK's endpoint rules made the rest.
pub(super) fn unsigned(signed: &str) -> String {
    let (place, query) = signed.split_once('?').unwrap_or((signed, ""));
    let kept: Vec<&str> = query.split('&').filter(|pair| pair.starts_with("versionId=")).collect();
    if kept.is_empty() { place.to_owned() } else { format!("{place}?{}", kept.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::listing::base64_number;

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
