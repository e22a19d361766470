//! `s3://bucket/prefix-or-key`, and the checks of what names a bucket, an endpoint or a region.

use super::{shown, usage};
use crate::error::Error;

/// Longest key S3 stores, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// An object, a folder of objects, or a whole bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Source {
    /// The bucket's name.
    pub bucket: String,
    /// The URI's path without its first `/`, byte for byte: `%41` is three characters of the key, as KServe reads it.
    pub key: String,
    /// `?endpoint=`: the endpoint when the environment names none.
    pub endpoint: Option<String>,
    /// `?defaultRegion=`: the region when the environment names none.
    pub region: Option<String>,
}

impl S3Source {
    /// Reads what follows `s3://`.
    ///
    /// The first `?` begins the parameters, so a key with `?` cannot be written as an exact key; its
    /// folder can. An unknown parameter is refused: guessing would fetch another object.
    pub(super) fn parse(rest: &str) -> Result<Self, Error> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, key) = place.split_once('/').unwrap_or((place, ""));
        check_bucket(bucket)?;
        check_key(key)?;
        let mut source = Self { bucket: bucket.to_owned(), key: key.to_owned(), endpoint: None, region: None };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "endpoint" => source.endpoint = Some(check_endpoint("the URI's endpoint parameter", &value)?),
                "defaultRegion" | "region" => source.region = Some(check_region(&value)?),
                _ => return Err(usage("an s3:// source takes only the parameters endpoint and defaultRegion")),
            }
        }
        Ok(source)
    }
}

/// Amazon's rules, plus capitals and `_`, which old buckets and other servers have.
fn check_bucket(bucket: &str) -> Result<(), Error> {
    if bucket.is_empty() {
        return Err(usage("the s3:// source names no bucket"));
    }
    let fail = |why: &str| Err(usage(format!("bucket name {} {why}", shown(bucket))));
    if bucket.len() < 3 || 63 < bucket.len() {
        return fail("is not 3 to 63 characters long");
    }
    if !bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')) {
        return fail("has characters other than letters, digits, `.`, `-` and `_`");
    }
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if !edge(bucket.as_bytes().first()) || !edge(bucket.as_bytes().last()) {
        return fail("does not begin and end with a letter or digit");
    }
    if bucket.contains("..") || bucket.parse::<std::net::Ipv4Addr>().is_ok() {
        return fail("is an address or has two dots in a row");
    }
    Ok(())
}

/// A key becomes part of a URL's path, where a `.` or `..` segment would name another object.
fn check_key(key: &str) -> Result<(), Error> {
    if KEY_BYTES_MAX < key.len() {
        return Err(usage(format!("the s3:// source's key is longer than {KEY_BYTES_MAX} bytes")));
    }
    if key.split('/').any(|part| part == "." || part == "..") {
        return Err(usage("the s3:// source's key has a `.` or `..` component"));
    }
    Ok(())
}

/// Reads an endpoint's URL, from wherever `what` says it came.
///
/// # Errors
/// [`Error::Usage`] unless it is http or https with a host and without userinfo, query and fragment.
pub fn check_endpoint(what: &str, text: &str) -> Result<String, Error> {
    let url = url::Url::parse(text.trim()).map_err(|error| usage(format!("{what} is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(usage(format!("{what} is not an http:// or https:// URL with a host")));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(usage(format!("{what} carries userinfo, a query or a fragment")));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Reads a region's name, which becomes part of a host name.
///
/// # Errors
/// [`Error::Usage`] unless it is 1 to 63 letters, digits and `-`.
pub fn check_region(text: &str) -> Result<String, Error> {
    let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if text.is_empty() || 63 < text.len() || !fits {
        return Err(usage(format!("{} is not a region's name", shown(text))));
    }
    Ok(text.to_owned())
}
