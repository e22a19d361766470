//! Describes objects by HEAD without the SDK, which takes most of the CPU that a small file costs.
//!
//! In: a key of a bucket whose [`Pattern`](super::signature::Pattern) is known. Out: what a plain success says of it.
//! Holds: whatever else is answered is left to the SDK, which asks again and knows regions, clocks and repeats.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{ChecksumType, ServerSideEncryption, StorageClass};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::client::{Session, wait_asked};
use super::fault::Fault;
use crate::error::FailureKind;
use crate::origin::control::{Call, Take};

/// Asks what the object `key` is; `None` where the SDK has to.
///
/// # Errors
/// A store that cannot be reached; it was tried often enough.
pub(super) async fn head(session: &Session, key: &str) -> Result<Option<HeadObjectOutput>, Fault> {
    let Some(call) = session.head_call(key).await.and_then(|(url, signed)| call(&url, signed)) else { return Ok(None) };
    match session.control().call(call).await {
        Ok(answer) if answer.status == 200 => return Ok(Some(read(&answer.headers))),
        Ok(answer) => {
            if let Some(wait) = wait_asked(&answer) {
                tokio::time::sleep(wait).await;
            }
        }
        Err(failure) if failure.kind == FailureKind::Unreachable => return Err(Fault::unanswered(failure)),
        Err(failure) => tracing::debug!(%failure, "a HEAD failed; the SDK asks again"),
    }
    session.leave_heads_to_sdk();
    Ok(None)
}

fn call(url: &str, signed: Vec<(&'static str, String)>) -> Option<Call> {
    let header = |(name, value): (&'static str, String)| {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_static(name), value))
    };
    let headers = signed.into_iter().map(header).collect::<Option<HeaderMap>>()?;
    let url = url::Url::parse(url).ok()?;
    Some(Call { method: Method::HEAD, url, headers, body: Bytes::new(), take: Take::Refusal })
}

/// What the headers of a success say, in the SDK's words.
fn read(headers: &HeaderMap) -> HeadObjectOutput {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let owned = |name: &str| text(name).map(str::to_owned);
    let time = |text: &str| DateTime::from_str(text, DateTimeFormat::HttpDate).ok();
    HeadObjectOutput::builder()
        .set_e_tag(owned("etag"))
        .set_content_length(text("content-length").and_then(|length| length.parse().ok()))
        .set_last_modified(text("last-modified").and_then(time))
        .set_version_id(owned("x-amz-version-id"))
        .set_checksum_crc64_nvme(owned("x-amz-checksum-crc64nvme"))
        .set_checksum_crc32_c(owned("x-amz-checksum-crc32c"))
        .set_checksum_crc32(owned("x-amz-checksum-crc32"))
        .set_checksum_sha256(owned("x-amz-checksum-sha256"))
        .set_checksum_sha1(owned("x-amz-checksum-sha1"))
        .set_checksum_md5(owned("x-amz-checksum-md5"))
        .set_checksum_type(text("x-amz-checksum-type").map(ChecksumType::from))
        .set_server_side_encryption(text("x-amz-server-side-encryption").map(ServerSideEncryption::from))
        .set_sse_customer_algorithm(owned("x-amz-server-side-encryption-customer-algorithm"))
        .set_storage_class(text("x-amz-storage-class").map(StorageClass::from))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(headers: &[(&'static str, &'static str)]) -> HeadObjectOutput {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        read(&headers.iter().map(header).collect())
    }

    #[test]
    fn a_success_says_what_the_sdk_reads_of_it() {
        let head = said(&[
            ("etag", "\"e-2\""),
            ("content-length", "1048576"),
            ("last-modified", "Sun, 22 Nov 2026 21:30:00 GMT"),
            ("x-amz-version-id", "v+1"),
            ("x-amz-checksum-crc64nvme", "crc64"),
            ("x-amz-checksum-crc32c", "crc32c"),
            ("x-amz-checksum-crc32", "crc32"),
            ("x-amz-checksum-sha256", "sha256"),
            ("x-amz-checksum-sha1", "sha1"),
            ("x-amz-checksum-md5", "md5"),
            ("x-amz-checksum-type", "FULL_OBJECT"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-storage-class", "GLACIER_IR"),
        ]);
        let expected = HeadObjectOutput::builder()
            .e_tag("\"e-2\"")
            .content_length(1 << 20)
            .last_modified(DateTime::from_secs(1_795_383_000))
            .version_id("v+1")
            .checksum_crc64_nvme("crc64")
            .checksum_crc32_c("crc32c")
            .checksum_crc32("crc32")
            .checksum_sha256("sha256")
            .checksum_sha1("sha1")
            .checksum_md5("md5")
            .checksum_type(ChecksumType::FullObject)
            .server_side_encryption(ServerSideEncryption::AwsKms)
            .sse_customer_algorithm("AES256")
            .storage_class(StorageClass::GlacierIr)
            .build();
        assert_eq!(head, expected);
    }

    #[test]
    fn what_is_malformed_is_not_said() {
        assert_eq!(said(&[("content-length", "many"), ("last-modified", "today")]), said(&[]));
    }
}
