//! The REST API's replies but for listings: what a blob is, and what a refusal means. Pure but for the time.

use std::time::SystemTime;

use super::listing::Blob;
use crate::error::{Failure, FailureKind};
use crate::origin::control::{Answer, head_of, scrubbed};
use crate::wire::{Asked, http1, redirect, refusal};

/// Longest error code that is one: Microsoft's have less than 60 letters.
const CODE_BYTES_MAX: usize = 80;

/// What the headers of a HEAD say of the blob `name`.
pub(super) fn blob(name: &str, answer: &Answer) -> Blob {
    let head = head_of(answer);
    let mut blob = Blob {
        name: name.to_owned(),
        size: head.first("content-length").and_then(http1::decimal),
        folder: head.first("x-ms-meta-hdi_isfolder").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || head.first("x-ms-resource-type") == Some("directory"),
        ..Blob::default()
    };
    if let Some(etag) = head.first("etag") {
        blob.set_etag(etag);
    }
    if let Some(md5) = head.first("content-md5") {
        blob.set_md5(md5);
    }
    blob
}

/// What an answer other than 2xx means; `signature` was part of the request's query.
pub(super) fn failure(answer: &Answer, signature: Option<&str>) -> Failure {
    let head = head_of(answer);
    let mut body = scrubbed(&answer.body, &parts(signature));
    // A HEAD has no document: the code stands in a header too.
    if let Some(code) = head.first("x-ms-error-code").filter(|code| body.is_empty() && is_code(code)) {
        body = format!("<Error><Code>{code}</Code></Error>").into();
    }
    if redirect::is_redirect(answer.status) {
        return Failure::new(FailureKind::Refused, "the account's endpoint redirects elsewhere: refused");
    }
    let mut failure = refusal::classify(&head, &Asked::default(), &body, SystemTime::now());
    // All other conflicts are about a state that is about to be another.
    if answer.status == 409 && failure.kind == FailureKind::BadReply {
        failure.kind = FailureKind::Changed;
    }
    failure
}

fn is_code(code: &str) -> bool {
    !code.is_empty() && code.len() <= CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What of a signature a refusal may echo: all of it, and each value as it is written and as it is meant.
fn parts(signature: Option<&str>) -> Vec<String> {
    let Some(signature) = signature else { return Vec::new() };
    let values = url::form_urlencoded::parse(signature.as_bytes()).filter(|(name, _)| name == "sig");
    let written = signature.split('&').filter_map(|pair| pair.strip_prefix("sig=")).map(str::to_owned);
    let meant = values.map(|(_, value)| value.into_owned());
    [signature.to_owned()].into_iter().chain(written).chain(meant).collect()
}
