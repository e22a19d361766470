//! Signs requests for a bucket's objects by what the SDK signed for one of them. Pure.
//!
//! In: a URL that the SDK signed, with which keys and when. Out: the same for other objects of that bucket, far cheaper
//! than the SDK's rules and interceptors make it: its signing library is called without them.
//! Holds: nothing is signed by a pattern that did not first repeat the SDK's own signature.
//!
//! Format: AWS Signature Version 4, "Authenticating Requests": by query parameters, and by the Authorization header.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningInstructions,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What S3 leaves as it is in names and values.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What it leaves as it is in keys.
const KEY: &AsciiSet = &VALUE.remove(b'/');

/// Has the store state the checksums that it keeps.
const CHECKSUMS: (&str, &str) = ("x-amz-checksum-mode", "ENABLED");

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
            region,
            service,
            operation: operation.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let again = pattern.url(object, credentials, at, valid_for)?;
        same_url(signed, &again).then_some(pattern)
    }

    /// A URL of `object` that its bearer may GET from `at` on; `None` where the library cannot sign.
    pub(super) fn url(
        &self,
        object: Object<'_>,
        credentials: &Credentials,
        at: SystemTime,
        valid_for: Duration,
    ) -> Option<String> {
        let version = object.version_id.map(|id| format!("versionId={}", encoded(id, VALUE)));
        let operation = self.operation.iter().map(|(name, value)| format!("{name}={value}"));
        let query: Vec<String> = operation.chain(version).collect();
        let url = format!("{}{}?{}", self.base, encoded(object.key, KEY), query.join("&"));
        let mut by = settings();
        (by.signature_location, by.expires_in) = (SignatureLocation::QueryParams, Some(valid_for));
        let request = SignableRequest::new("GET", &url, [].into_iter(), SignableBody::UnsignedPayload).ok()?;
        let (_, added) = self.signed(request, credentials, at, by)?.into_parts();
        let added = added.iter().map(|(name, value)| format!("{name}={}", encoded(value, VALUE)));
        let separator = if query.is_empty() { "" } else { "&" };
        Some(format!("{url}{separator}{}", added.collect::<Vec<_>>().join("&")))
    }

    /// The URL of a HEAD for the object `key`, and the headers that sign it with its checksums asked for; `None` where
    /// the library cannot sign.
    pub(super) fn head(&self, key: &str, credentials: &Credentials, at: SystemTime) -> Option<(String, Signed)> {
        let url = format!("{}{}", self.base, encoded(key, KEY));
        let mut by = settings();
        by.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let request = SignableRequest::new("HEAD", &url, [CHECKSUMS].into_iter(), SignableBody::empty()).ok()?;
        let (added, _) = self.signed(request, credentials, at, by)?.into_parts();
        let added = added.iter().map(|header| (header.name(), header.value().to_owned()));
        let signed = [(CHECKSUMS.0, CHECKSUMS.1.to_owned())].into_iter().chain(added).collect();
        Some((url, signed))
    }

    fn signed(
        &self,
        request: SignableRequest<'_>,
        credentials: &Credentials,
        at: SystemTime,
        settings: SigningSettings,
    ) -> Option<SigningInstructions> {
        let identity = Identity::from(credentials.clone());
        let params = v4::SigningParams::builder().identity(&identity).region(&self.region).name(&self.service);
        let params = params.time(at).settings(settings).build().ok()?.into();
        Some(sign(request, &params).ok()?.into_parts().0)
    }
}

/// What S3 has of its own among AWS's services: keys are encoded once and never normalized.
fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings
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
            region: "us-east-1".to_owned(),
            service: "s3".to_owned(),
            operation: Vec::new(),
        };
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let keys = Credentials::new("AKIAIOSFODNN7EXAMPLE", secret, None, None, "test");
        let object = Object { key: "test.txt", version_id: None };
        // 24 May 2013, midnight.
        let url = pattern.url(object, &keys, at(1_369_353_600), HOUR * 24).unwrap();
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
                    let (theirs, ours) = (
                        by_sdk(endpoint, "models", object, &keys, time),
                        pattern.url(object, &keys, time, HOUR).unwrap(),
                    );
                    assert!(same_url(&theirs, &ours), "{theirs}\n{ours}");
                }
            }
        }
    }

    #[test]
    fn heads_are_signed_as_another_program_signs_them() {
        let pattern = Pattern {
            base: "http://127.0.0.1:9000/models/".to_owned(),
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
            let (url, signed) = pattern.head(key, &keys(token), at(1_795_383_000)).unwrap();
            assert_eq!(url, format!("http://127.0.0.1:9000/models/{place}"));
            let names = if token.is_some() { ";x-amz-security-token" } else { "" };
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential=AKIA/EXAMPLE/20261122/eu-west-1/s3/aws4_request, SignedHeaders=\
                 host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date{names}, Signature={signature}"
            );
            let said = |name| signed.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str());
            assert_eq!(said("authorization"), Some(&*authorization));
            assert_eq!((said("x-amz-security-token"), said("x-amz-date")), (token, Some("20261122T213000Z")));
            assert_eq!(said("x-amz-checksum-mode"), Some("ENABLED"));
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
