//! What KServe's storage initializer reads from its environment, turned into what dray reads. Pure.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::origin::Environment;
use crate::unpack::Kind;
use crate::uri::Source;

/// The secret that KServe's webhook hands over, and what the user lays over it.
const CONFIG: &str = "STORAGE_CONFIG";
const OVERRIDE: &str = "STORAGE_OVERRIDE_CONFIG";

/// A wait longer than this is none that a pod survives.
const HINT_SECONDS_MAX: f64 = 3600.0;

/// More tries than this are an endless loop.
const HINT_ATTEMPTS_MAX: f64 = 100.0;

/// Keys of `STORAGE_CONFIG` and the variables they set. Some set two: dray prefers the second where both are there,
/// and what this configuration says comes first.
const S3_KEYS: [(&str, &[&str]); 7] = [
    ("endpoint_url", &["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]),
    ("access_key_id", &["AWS_ACCESS_KEY_ID"]),
    ("secret_access_key", &["AWS_SECRET_ACCESS_KEY"]),
    ("region", &["AWS_DEFAULT_REGION", "AWS_REGION"]),
    ("ca_bundle", &["AWS_CA_BUNDLE"]),
    ("verify_ssl", &["S3_VERIFY_SSL"]),
    ("anonymous", &["awsAnonymousCredential"]),
];

/// The snapshot with `STORAGE_CONFIG` and `STORAGE_OVERRIDE_CONFIG` applied: their keys override the variables of
/// the same meaning, absent keys leave them. Only `"type": "s3"` has any effect.
///
/// # Errors
/// [`Error::Usage`] for a configuration that is no JSON object of plain values; they are never repeated.
pub(super) fn configured(environment: Environment) -> Result<Environment, Error> {
    let mut config = object(&environment, CONFIG)?;
    config.extend(object(&environment, OVERRIDE)?);
    if config.get("type").and_then(Value::as_str) != Some("s3") {
        return Ok(environment);
    }
    let mut variables = Vec::new();
    for (key, names) in S3_KEYS {
        let value = match config.get(key) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text.clone(),
            Some(plain @ (Value::Bool(_) | Value::Number(_))) => plain.to_string(),
            Some(Value::Array(_) | Value::Object(_)) => {
                return Err(Error::Usage(format!("{CONFIG}: `{key}` is not a plain value")));
            }
        };
        variables.extend(names.iter().map(|name| ((*name).to_owned(), value.clone())));
    }
    if config.contains_key("access_key_id") {
        // A session token belongs to its key; there is no key for one here.
        variables.push(("AWS_SESSION_TOKEN".to_owned(), String::new()));
    }
    Ok(environment.with(variables))
}

fn object(environment: &Environment, name: &str) -> Result<Map<String, Value>, Error> {
    let Some(text) = environment.var(name) else { return Ok(Map::new()) };
    // Without the parser's words: they may quote the text.
    serde_json::from_str(text).map_err(|_| Error::Usage(format!("{name} is not a JSON object")))
}

/// Reads `STORAGE_ALLOW_PATTERNS` or `STORAGE_IGNORE_PATTERNS`: a JSON array, a JSON string, or patterns between
/// commas.
pub(super) fn patterns(text: &str) -> Vec<String> {
    let parts: Vec<String> = match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(values)) => values
            .into_iter()
            .map(|value| match value {
                Value::String(text) => text,
                other => other.to_string(),
            })
            .collect(),
        Ok(Value::String(text)) => vec![text],
        _ => text.split(',').map(str::to_owned).collect(),
    };
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Keys of Azure Storage, which count for nothing in KServe's container where an identity is named.
const AZURE_KEYS: [&str; 4] =
    ["AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_CONNECTION_STRING"];

/// The variables with Azure's credentials ranked as KServe's container ranks them: a named identity before any key.
pub(super) fn ranked(environment: Environment) -> Environment {
    let named = ["AZ_CLIENT_ID", "AZURE_CLIENT_ID"].iter().any(|name| environment.var(name).is_some());
    if named { environment.with(AZURE_KEYS.map(|name| (name.to_owned(), String::new()))) } else { environment }
}

/// What KServe's variables for its S3 client wish of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// `S3_CONNECT_TIMEOUT`.
    pub(super) connect_timeout: Option<Duration>,
    /// `S3_READ_TIMEOUT`: how long a reply may bring nothing.
    pub(super) read_timeout: Option<Duration>,
    /// `S3_MAX_ATTEMPTS`.
    pub(super) attempts: Option<u32>,
}

/// Reads [`Hints`]. The number of worker processes (`S3_MAX_FILE_CONCURRENCY`) is none: the window finds the pace.
///
/// # Errors
/// [`Error::Usage`] for a value that is no number of seconds or tries.
pub(super) fn hints(environment: &Environment) -> Result<Hints, Error> {
    let number = |name: &str, max: f64| {
        let Some(text) = environment.var(name) else { return Ok(None) };
        let number = text.parse::<f64>().ok().filter(|number| (0.1..=max).contains(number));
        number.map(Some).ok_or_else(|| Error::Usage(format!("{name} is not a number up to {max}")))
    };
    let seconds = |name: &str| Ok(number(name, HINT_SECONDS_MAX)?.map(Duration::from_secs_f64));
    let attempts = number("S3_MAX_ATTEMPTS", HINT_ATTEMPTS_MAX)?;
    Ok(Hints {
        connect_timeout: seconds("S3_CONNECT_TIMEOUT")?,
        read_timeout: seconds("S3_READ_TIMEOUT")?,
        // In range by the look above, so the nearest whole number of it is one.
        attempts: attempts.and_then(|attempts| format!("{attempts:.0}").parse().ok()),
    })
}

/// As what KServe's rule unpacks the one file `name` of `source`: by its name, and by the URL's query where the name
/// has no ending.
///
/// # Errors
/// [`Error::Policy`] for an archive that cannot be unpacked.
pub(super) fn archive_kind(name: &str, source: &Source) -> Result<Option<Kind>, Error> {
    let query = match source {
        Source::Http(http) if !name.contains('.') => http.url().query(),
        _ => None,
    };
    Kind::of(query.unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn check(variables: &[(&str, &str)], expected: &[(&str, Option<&str>)]) {
        let configured = configured(environment(variables)).unwrap();
        for (name, value) in expected {
            assert_eq!(configured.var(name), *value, "{name} of {variables:?}");
        }
    }

    #[test]
    fn a_named_identity_goes_before_azures_keys() {
        let key = ("AZURE_STORAGE_ACCESS_KEY", "key");
        assert_eq!(ranked(environment(&[key])).var(key.0), Some("key"));
        for name in ["AZ_CLIENT_ID", "AZURE_CLIENT_ID"] {
            let ranked = ranked(environment(&[key, (name, "client")]));
            assert_eq!((ranked.var(key.0), ranked.var(name)), (None, Some("client")));
        }
    }

    #[test]
    fn hints_are_seconds_and_tries() {
        let read = |variables: &[(&str, &str)]| hints(&environment(variables));
        assert_eq!(read(&[]), Ok(Hints::default()));
        let all = [("S3_CONNECT_TIMEOUT", "15"), ("S3_READ_TIMEOUT", "0.5"), ("S3_MAX_ATTEMPTS", "12")];
        let expected = Hints {
            connect_timeout: Some(Duration::from_secs(15)),
            read_timeout: Some(Duration::from_millis(500)),
            attempts: Some(12),
        };
        assert_eq!(read(&all), Ok(expected));
        for (name, value) in [("S3_READ_TIMEOUT", "soon"), ("S3_CONNECT_TIMEOUT", "-1"), ("S3_MAX_ATTEMPTS", "1e9")] {
            assert!(matches!(read(&[(name, value)]), Err(Error::Usage(text)) if text.contains(name)), "{name}");
        }
    }

    #[test]
    fn the_storage_configuration_of_s3_overrides_variables() {
        let config = r#"{"type": "s3", "endpoint_url": "http://minio:9000", "access_key_id": "id",
            "secret_access_key": "key", "region": "eu-1", "ca_bundle": "/ca", "verify_ssl": "0", "anonymous": "True",
            "bucket": "models", "cabundle_configmap": "x"}"#;
        let around = [("AWS_REGION", "us-1"), ("AWS_SESSION_TOKEN", "token"), ("AWS_ACCESS_KEY_ID", "old")];
        let mut variables = vec![(CONFIG, config)];
        variables.extend(around);
        check(
            &variables,
            &[
                ("AWS_ENDPOINT_URL", Some("http://minio:9000")),
                ("AWS_ENDPOINT_URL_S3", Some("http://minio:9000")),
                ("AWS_ACCESS_KEY_ID", Some("id")),
                ("AWS_SECRET_ACCESS_KEY", Some("key")),
                ("AWS_DEFAULT_REGION", Some("eu-1")),
                ("AWS_REGION", Some("eu-1")),
                ("AWS_CA_BUNDLE", Some("/ca")),
                ("S3_VERIFY_SSL", Some("0")),
                ("awsAnonymousCredential", Some("True")),
                ("AWS_SESSION_TOKEN", None),
            ],
        );
    }

    #[test]
    fn absent_keys_and_other_types_leave_variables_alone() {
        let around = ("AWS_REGION", "us-1");
        let token = ("AWS_SESSION_TOKEN", "token");
        let same = [("AWS_REGION", Some("us-1")), ("AWS_SESSION_TOKEN", Some("token"))];
        for config in [
            r#"{"type": "s3"}"#,
            r#"{"type": "s3", "region": null}"#,
            r#"{"type": "hdfs", "region": "eu-1"}"#,
            r#"{"region": "eu-1"}"#,
            "{}",
            "",
        ] {
            check(&[(CONFIG, config), around, token], &same);
        }
    }

    #[test]
    fn the_override_wins_key_by_key() {
        let config = (CONFIG, r#"{"type": "s3", "region": "eu-1", "access_key_id": "id"}"#);
        let over = (OVERRIDE, r#"{"region": "eu-2", "verify_ssl": false}"#);
        check(
            &[config, over],
            &[("AWS_REGION", Some("eu-2")), ("AWS_ACCESS_KEY_ID", Some("id")), ("S3_VERIFY_SSL", Some("false"))],
        );
        check(&[(OVERRIDE, r#"{"type": "s3", "region": "eu-2"}"#)], &[("AWS_REGION", Some("eu-2"))]);
    }

    #[test]
    fn a_broken_configuration_is_a_usage_error_that_shows_nothing() {
        for config in ["canary", "[]", r#""canary""#, r#"{"type": "s3", "region": ["canary"]}"#, r#"{"canary"#] {
            let Err(Error::Usage(text)) = configured(environment(&[(CONFIG, config)])) else { panic!("{config}") };
            assert!(text.contains(CONFIG) && !text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn patterns_come_as_json_or_between_commas() {
        for (text, expected) in [
            ("", &[][..]),
            ("  ", &[]),
            ("[]", &[]),
            (r#"["*.bin", " a,b ", ""]"#, &["*.bin", "a,b"]),
            (r#""*.bin,x""#, &["*.bin,x"]),
            ("*.bin, *.json ,,", &["*.bin", "*.json"]),
            ("[ab].bin", &["[ab].bin"]),
            ("*.bin", &["*.bin"]),
        ] {
            assert_eq!(patterns(text), expected, "{text}");
        }
    }

    #[test]
    fn a_query_says_what_a_name_without_ending_is() {
        for (source, kind) in [
            ("https://host/m.tar.gz", Some(Kind::Tar)),
            ("https://host/download?path=/a/model.zip", Some(Kind::Zip)),
            ("https://host/download?path=/a/model.bin", None),
            ("https://host/download?path=/a/model.zip&sig=x", None),
            ("https://host/m.bin?x=m.zip", None),
            ("https://host/download", None),
        ] {
            let parsed = Source::parse(source).unwrap();
            let Source::Http(http) = &parsed else { panic!("{source}") };
            assert_eq!(archive_kind(&http.file_name().unwrap(), &parsed), Ok(kind), "{source}");
        }
        let bucket = Source::parse("s3://bucket/download?endpoint=http://host/m.zip").unwrap();
        assert_eq!(archive_kind("download", &bucket), Ok(None));
    }
}
