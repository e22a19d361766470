//! Signs requests for a bucket's objects by what the SDK signed for one of them. Pure.
//!
//! In: a URL that the SDK signed, with which keys and when. Out: the same for other objects of that bucket, far cheaper
//! than the SDK's rules and interceptors make it.
//! Holds: nothing is signed by a pattern that did not first repeat the SDK's own signature.
//!
//! Format: AWS Signature Version 4, "Authenticating Requests": by query parameters, and by the Authorization header.

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

/// Headers that carry a signature and what it is over.
pub(super) type Signed = Vec<(&'static str, String)>;

/// How requests for one bucket's objects are signed, whoever signs.
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
        let key = encoded(object.key, KEY);
        let query = self.query(object, credentials, &instant, valid_for);
        let request = format!("GET\n{}{key}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", self.path, self.host);
        let signature = self.signature(credentials, &instant, &request);
        format!("{}{key}?{query}&X-Amz-Signature={signature}", self.base)
    }

    /// The URL of a HEAD for the object `key`, and the headers that sign it with its checksums asked for.
    pub(super) fn head(&self, key: &str, credentials: &Credentials, at: SystemTime) -> (String, Signed) {
        let instant = instant(at);
        let key = encoded(key, KEY);
        let mut signed = vec![
            ("x-amz-checksum-mode", "ENABLED".to_owned()),
            ("x-amz-content-sha256", hex(&Sha256::digest(b""))),
            ("x-amz-date", instant.clone()),
        ];
        signed.extend(credentials.session_token().map(|token| ("x-amz-security-token", token.to_owned())));
        let names = signed.iter().fold("host".to_owned(), |names, (name, _)| format!("{names};{name}"));
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let (path, host, content) = (&self.path, &self.host, &signed[1].1);
        let request = format!("HEAD\n{path}{key}\n\nhost:{host}\n{lines}\n{names}\n{content}");
        let signature = self.signature(credentials, &instant, &request);
        let name = format!("{}/{}", credentials.access_key_id(), self.scope(&instant));
        let value = format!("{ALGORITHM} Credential={name}, SignedHeaders={names}, Signature={signature}");
        signed.push(("authorization", value));
        (format!("{}{key}", self.base), signed)
    }

    /// What signatures of that day are good for.
    fn scope(&self, instant: &str) -> String {
        let (date, _) = instant.split_at(8);
        format!("{date}/{}/{}/aws4_request", self.region, self.service)
    }

    /// The signature over `request` in its canonical form.
    fn signature(&self, credentials: &Credentials, instant: &str, request: &str) -> String {
        let scope = self.scope(instant);
        let text = format!("{ALGORITHM}\n{instant}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
        let secret = format!("AWS4{}", credentials.secret_access_key());
        let key = scope.split('/').fold(secret.into_bytes(), |key, word| sum(&key, word));
        hex(&sum(&key, &text))
    }

    /// The parameters but for the signature, sorted as they are signed.
    fn query(&self, object: Object<'_>, credentials: &Credentials, instant: &str, valid_for: Duration) -> String {
        let name = format!("{}/{}", credentials.access_key_id(), self.scope(instant));
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
    // HMAC takes keys of every length; a signature without one would not be the SDK's.
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
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

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::{BehaviorVersion, Region};
    use aws_sdk_s3::presigning::PresigningConfig;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn keys(token: Option<&str>) -> Credentials {
        Credentials::new("AKIA/EXAMPLE", "secret+/key", token.map(str::to_owned), None, "test")
    }

    /// What the SDK signs of `object`, with an endpoint of somebody's own or Amazon's.
    fn by_sdk(
        endpoint: Option<&str>,
        bucket: &str,
        object: Object<'_>,
        keys: &Credentials,
        time: SystemTime,
    ) -> String {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .force_path_style(endpoint.is_some())
            .credentials_provider(keys.clone());
        let config = match endpoint {
            Some(endpoint) => config.endpoint_url(endpoint).build(),
            None => config.build(),
        };
        let request = aws_sdk_s3::Client::from_conf(config).get_object().bucket(bucket).key(object.key);
        let request = request.set_version_id(object.version_id.map(str::to_owned));
        let presigning = PresigningConfig::builder().start_time(time).expires_in(HOUR).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(request.presigned(presigning)).unwrap().uri().to_owned()
    }

    #[test]
    fn the_documents_example_is_signed_as_it_says() {
        let pattern = Pattern {
            base: "https://examplebucket.s3.amazonaws.com/".to_owned(),
            host: "examplebucket.s3.amazonaws.com".to_owned(),
            path: "/".to_owned(),
            region: "us-east-1".to_owned(),
            service: "s3".to_owned(),
            operation: Vec::new(),
        };
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let keys = Credentials::new("AKIAIOSFODNN7EXAMPLE", secret, None, None, "test");
        let object = Object { key: "test.txt", version_id: None };
        // 24 May 2013, midnight.
        let url = pattern.sign(object, &keys, at(1_369_353_600), HOUR * 24);
        assert_eq!(
            url,
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn every_object_is_signed_as_the_sdk_signs_it() {
        let plain = |key| Object { key, version_id: None };
        let first = plain("weights/shard-00001.bin");
        let others = [
            plain("a"),
            plain("m/a b+c%25~x_y-z.w"),
            plain("模/é\u{301}"),
            plain("odd/!\"#$&'()*,:;<=>?@[\\]^`{|}"),
            plain("double//slash/./dot/../up/"),
            Object { key: "m/versioned", version_id: Some("a+b/c=.~_") },
        ];
        for endpoint in [None, Some("http://127.0.0.1:9000"), Some("https://store.example/below")] {
            for token in [None, Some("token+/with=odd signs")] {
                let (keys, time) = (keys(token), at(1_795_383_000));
                let signed = by_sdk(endpoint, "models", first, &keys, time);
                let pattern = Pattern::learn(&signed, first, &keys, time, HOUR).expect("a pattern");
                for object in others {
                    // Another day and other keys than those the pattern was learnt with.
                    let (keys, time) = (Credentials::new("B", "other", None, None, "test"), at(1_795_483_000));
                    let (theirs, ours) =
                        (by_sdk(endpoint, "models", object, &keys, time), pattern.sign(object, &keys, time, HOUR));
                    assert!(same_url(&theirs, &ours), "{theirs}\n{ours}");
                }
            }
        }
    }

    #[test]
    fn heads_are_signed_as_another_program_signs_them() {
        let pattern = Pattern {
            base: "http://127.0.0.1:9000/models/".to_owned(),
            host: "127.0.0.1:9000".to_owned(),
            path: "/models/".to_owned(),
            region: "eu-west-1".to_owned(),
            service: "s3".to_owned(),
            operation: vec![("x-id".to_owned(), "GetObject".to_owned())],
        };
        // The signatures are Python's hmac of the canonical request that the page describes; 2026-11-22T21:30:00Z.
        let (plain, with_token) = (
            "dfa9ce21f8f52509fa0695c7c7270eb9628eecf5e1aac82a2887cba492ef3176",
            "01a6db3fd30ad5c08c283ba6cd6f25a146b46ebd1d5be84adc0ec2b8204500ee",
        );
        for (key, token, place, signature) in
            [("m/a b", None, "m/a%20b", plain), ("模", Some("token+/"), "%E6%A8%A1", with_token)]
        {
            let (url, signed) = pattern.head(key, &keys(token), at(1_795_383_000));
            assert_eq!(url, format!("http://127.0.0.1:9000/models/{place}"));
            let (last, others) = signed.split_last().unwrap();
            let names = if token.is_some() { ";x-amz-security-token" } else { "" };
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential=AKIA/EXAMPLE/20261122/eu-west-1/s3/aws4_request, SignedHeaders=\
                 host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date{names}, Signature={signature}"
            );
            assert_eq!(*last, ("authorization", authorization));
            let token = token.map(|token| ("x-amz-security-token", token.to_owned()));
            assert_eq!(others.get(3), token.as_ref());
        }
    }

    #[test]
    fn what_is_not_repeated_is_no_pattern() {
        let (object, keys, time) = (Object { key: "m/a", version_id: None }, keys(None), at(1_795_383_000));
        let signed = by_sdk(None, "models", object, &keys, time);
        assert!(Pattern::learn(&signed, object, &keys, time, HOUR).is_some());
        let changed = |from: &str, to: &str| signed.replace(from, to);
        for other in [
            changed("https://models.", "https://other."),
            changed("/m/a?", "/m/b?"),
            changed("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            changed("=host", "=host%3Bx-amz-s3session-token"),
            changed("eu-west-1", "eu-west-2"),
            changed("&X-Amz-Signature=", "&X-Amz-S3session-Token=1&X-Amz-Signature="),
            changed("&X-Amz-Signature=", "&x-amz-other=1&X-Amz-Signature="),
            "https://models.s3/m/a".to_owned(),
        ] {
            assert_eq!(Pattern::learn(&other, object, &keys, time, HOUR), None, "{other}");
        }
        assert_eq!(Pattern::learn(&signed, object, &keys, at(1_795_383_001), HOUR), None);
        let stranger = Credentials::new("AKIA/EXAMPLE", "another", None, None, "test");
        assert_eq!(Pattern::learn(&signed, object, &stranger, time, HOUR), None);
    }
}
