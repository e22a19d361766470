//! Signs URLs of a bucket's objects by what the SDK signed of one of them. Pure.
//!
//! In: a URL that the SDK signed, with which keys and when. Out: URLs of other objects of that bucket, some twenty
//! times cheaper than the SDK's rules and interceptors make them.
//! Holds: nothing is signed by a pattern that did not first repeat the SDK's own signature.
//!
//! Format: AWS Signature Version 4, "Authenticating Requests: Using Query Parameters".

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// What S3 leaves as it is in names and values.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What it leaves as it is in keys.
const KEY: &AsciiSet = &VALUE.remove(b'/');

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Which object, and which of its versions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a> {
    /// Its key.
    pub(super) key: &'a str,
    /// Its versionId, where it has one.
    pub(super) version_id: Option<&'a str>,
}

/// How URLs of one bucket are signed, whoever signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// All before the key: scheme, host and perhaps the bucket.
    base: String,
    host: String,
    /// The path's part of `base`.
    path: String,
    region: String,
    service: String,
    /// Parameters that name the operation, encoded.
    operation: Vec<(String, String)>,
}

impl Pattern {
    /// Reads what the SDK `signed` of `object` at the time `at`; `None` unless the pattern gives the same URL again.
    pub(super) fn learn(
        signed: &str,
        object: Object<'_>,
        credentials: &Credentials,
        at: SystemTime,
        valid_for: Duration,
    ) -> Option<Self> {
        let (place, query) = signed.split_once('?')?;
        let base = place.strip_suffix(&encoded(object.key, KEY))?;
        let (host, path) = base.split_once("://")?.1.split_once('/')?;
        let pairs = pairs(query);
        let scope = pairs.iter().find(|(name, _)| *name == "X-Amz-Credential")?.1;
        let scope = percent_decode_str(scope).decode_utf8().ok()?;
        // From the end: a key's name may hold a slash where it is no Amazon's.
        let mut scope = scope.rsplit('/').skip(1);
        let (service, region) = (scope.next()?.to_owned(), scope.next()?.to_owned());
        let named = |(name, _): &(&str, &str)| !name.starts_with("X-Amz-") && *name != "versionId";
        let operation = pairs.iter().copied().filter(named);
        let pattern = Self {
            base: base.to_owned(),
            host: host.to_owned(),
            path: format!("/{path}"),
            region,
            service,
            operation: operation.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let again = pattern.sign(object, credentials, at, valid_for);
        same_url(signed, &again).then_some(pattern)
    }

    /// A URL of `object` that its bearer may GET from `at` on.
    pub(super) fn sign(
        &self,
        object: Object<'_>,
        credentials: &Credentials,
        at: SystemTime,
        valid_for: Duration,
    ) -> String {
        let instant = instant(at);
        let (date, _) = instant.split_at(8);
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let key = encoded(object.key, KEY);
        let query = self.query(object, credentials, &scope, &instant, valid_for);
        let request =
            format!("GET\n{}{key}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", self.path, self.host);
        let text = format!("{ALGORITHM}\n{instant}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
        let secret = format!("AWS4{}", credentials.secret_access_key());
        let words = [date, &self.region, &self.service, "aws4_request"];
        let key_of_scope = words.iter().fold(secret.into_bytes(), |key, word| sum(&key, word));
        let signature = hex(&sum(&key_of_scope, &text));
        format!("{}{key}?{query}&X-Amz-Signature={signature}", self.base)
    }

    /// The parameters but for the signature, sorted as they are signed.
    fn query(
        &self,
        object: Object<'_>,
        credentials: &Credentials,
        scope: &str,
        instant: &str,
        valid_for: Duration,
    ) -> String {
        let name = format!("{}/{scope}", credentials.access_key_id());
        let seconds = valid_for.as_secs().to_string();
        let mut pairs = vec![
            ("X-Amz-Algorithm", ALGORITHM.to_owned()),
            ("X-Amz-Credential", encoded(&name, VALUE)),
            ("X-Amz-Date", instant.to_owned()),
            ("X-Amz-Expires", seconds),
            ("X-Amz-SignedHeaders", "host".to_owned()),
        ];
        pairs.extend(credentials.session_token().map(|token| ("X-Amz-Security-Token", encoded(token, VALUE))));
        pairs.extend(object.version_id.map(|id| ("versionId", encoded(id, VALUE))));
        pairs.extend(self.operation.iter().map(|(name, value)| (name.as_str(), value.clone())));
        pairs.sort_unstable();
        let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }
}

/// Whether two URLs differ in the order of their parameters at most.
fn same_url(one: &str, other: &str) -> bool {
    let parts = |url: &str| {
        let (place, query) = url.split_once('?')?;
        let mut pairs: Vec<(String, String)> =
            pairs(query).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        pairs.sort_unstable();
        Some((place.to_owned(), pairs))
    };
    parts(one).is_some_and(|one| Some(one) == parts(other))
}

fn pairs(query: &str) -> Vec<(&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect()
}

fn encoded(text: &str, kept: &'static AsciiSet) -> String {
    utf8_percent_encode(text, kept).to_string()
}

fn sum(key: &[u8], text: &str) -> Vec<u8> {
    // proof: HMAC takes keys of every length.
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    hmac.update(text.as_bytes());
    hmac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        write!(text, "{byte:02x}").unwrap_or(());
        text
    })
}

/// `20261122T213000Z`.
fn instant(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}{:02}{day:02}T{hour:02}{minute:02}{second:02}Z", u8::from(month))
}
