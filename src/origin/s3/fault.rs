//! What a failed SDK call means: the exit class, the bucket's true region, words without secrets.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::error::{Failure, FailureKind};
use crate::origin::control::{failure_in, innermost};
use crate::uri::check_region;
use crate::wire::refusal::clean;

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) failure: Failure,
    /// The store's error code, such as `NoSuchBucket`.
    pub(super) code: Option<String>,
    /// The region the bucket is in, when the store says so.
    pub(super) region: Option<String>,
    /// Whether the store answered at all.
    pub(super) answered: bool,
}

impl Fault {
    /// Reads an SDK error.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        match error.raw_response() {
            Some(response) => Self::of_reply(response, error),
            None => Self::unanswered(unanswered(error)),
        }
    }

    /// A listing that cannot be used.
    pub(super) fn of_listing(failure: Failure) -> Self {
        Self { failure, code: None, region: None, answered: true }
    }

    /// A call that was not made.
    pub(super) fn unanswered(failure: Failure) -> Self {
        Self { failure, code: None, region: None, answered: false }
    }

    fn of_reply<E>(response: &HttpResponse, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let status = response.status().as_u16();
        let service = error.as_service_error();
        let code = service.and_then(ProvideErrorMetadata::code).map(clean).filter(|code| !code.is_empty());
        let message = service.and_then(ProvideErrorMetadata::message).map(clean).unwrap_or_default();
        let expected =
            || message.split_once("expecting '").and_then(|(_, rest)| rest.split_once('\'')).map(|(region, _)| region);
        let region = response.headers().get("x-amz-bucket-region").or_else(expected);
        let region = region.and_then(|region| check_region(region).ok());
        let said = [code.as_deref(), Some(message.as_str())].into_iter().flatten().filter(|text| !text.is_empty());
        let said: Vec<&str> = said.collect();
        let detail = match status {
            200..=299 => format!("its answer cannot be read as S3's (status {status})"),
            _ if said.is_empty() => format!("status {status}"),
            _ => said.join(": "),
        };
        let kind = kind_of(status, code.as_deref(), &message);
        Self { failure: Failure::new(kind, detail), code, region, answered: true }
    }
}

/// Sorts a refusal: S3's codes first, then the status.
fn kind_of(status: u16, code: Option<&str>, message: &str) -> FailureKind {
    match code.unwrap_or_default() {
        "NoSuchBucket" | "NoSuchKey" | "NoSuchVersion" | "NotFound" => return FailureKind::Missing,
        "ExpiredToken" | "TokenRefreshRequired" | "RequestExpired" => return FailureKind::Expired,
        "AccessDenied"
        | "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "AuthorizationHeaderMalformed"
        | "RequestTimeTooSkewed"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "NotSignedUp" => return FailureKind::Denied,
        "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => {
            return FailureKind::Throttled { retry_after: None };
        }
        _ => {}
    }
    match status {
        401 | 403 if message.to_ascii_lowercase().contains("has expired") => FailureKind::Expired,
        401 | 403 | 407 => FailureKind::Denied,
        404 | 410 => FailureKind::Missing,
        412 => FailureKind::Changed,
        429 | 503 => FailureKind::Throttled { retry_after: None },
        408 | 500..=599 => FailureKind::Unavailable { retry_after: None },
        _ => FailureKind::BadReply,
    }
}

/// Why no answer came.
fn unanswered<E>(error: &SdkError<E, HttpResponse>) -> Failure
where
    E: StdError + 'static,
{
    if let Some(failure) = failure_in(error) {
        return failure.clone();
    }
    if credentials_behind(error) {
        return Failure::new(FailureKind::Denied, format!("credentials cannot be loaded: {}", innermost(error)));
    }
    if matches!(error, SdkError::TimeoutError(_)) {
        return Failure::new(FailureKind::Stalled, "the store does not answer in time");
    }
    Failure::new(FailureKind::BadReply, format!("no usable answer: {}", innermost(error)))
}

fn credentials_behind(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_sort_into_kinds() {
        let slow = FailureKind::Throttled { retry_after: None };
        let down = FailureKind::Unavailable { retry_after: None };
        for (status, code, kind) in [
            (404, Some("NoSuchBucket"), FailureKind::Missing),
            (404, None, FailureKind::Missing),
            (403, Some("AccessDenied"), FailureKind::Denied),
            (403, Some("SignatureDoesNotMatch"), FailureKind::Denied),
            (400, Some("InvalidToken"), FailureKind::Denied),
            (400, Some("ExpiredToken"), FailureKind::Expired),
            (403, None, FailureKind::Denied),
            (401, None, FailureKind::Denied),
            (503, Some("SlowDown"), slow),
            (429, None, slow),
            (500, Some("InternalError"), down),
            (502, None, down),
            (400, Some("InvalidRequest"), FailureKind::BadReply),
            (301, Some("PermanentRedirect"), FailureKind::BadReply),
            (200, None, FailureKind::BadReply),
        ] {
            assert_eq!(kind_of(status, code, ""), kind, "{status} {code:?}");
        }
        assert_eq!(kind_of(403, Some("Other"), "Request has expired"), FailureKind::Expired);
    }
}
