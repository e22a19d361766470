//! `gs://bucket/prefix-or-object`.

use super::{shown, usage};
use crate::error::Error;

/// Longest object name that GCS stores, in bytes.
const OBJECT_BYTES_MAX: usize = 1024;

/// An object, a folder of objects, or a whole bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsSource {
    /// The bucket's name.
    pub bucket: String,
    /// What follows the bucket's `/`, byte for byte: `?`, `#` and `%41` are characters of the name, as every client
    /// of Google's reads them.
    pub object: String,
}

impl GcsSource {
    /// Reads what follows `gs://`.
    pub(super) fn parse(rest: &str) -> Result<Self, Error> {
        let (bucket, object) = rest.split_once('/').unwrap_or((rest, ""));
        check_bucket(bucket)?;
        if OBJECT_BYTES_MAX < object.len() {
            return Err(usage(format!("the gs:// source's object name is longer than {OBJECT_BYTES_MAX} bytes")));
        }
        if object.split('/').any(|part| part == "." || part == "..") {
            return Err(usage("the gs:// source's object name has a `.` or `..` component"));
        }
        Ok(Self { bucket: bucket.to_owned(), object: object.to_owned() })
    }
}

/// Google's rules: 3 to 63 characters, up to 222 with dots in them.
fn check_bucket(bucket: &str) -> Result<(), Error> {
    if bucket.is_empty() {
        return Err(usage("the gs:// source names no bucket"));
    }
    let fail = |why: &str| Err(usage(format!("bucket name {} {why}", shown(bucket))));
    let part_fits = |part: &str| !part.is_empty() && part.len() <= 63;
    if bucket.len() < 3 || 222 < bucket.len() || !bucket.split('.').all(part_fits) {
        return fail("is not 3 to 63 characters long, or 222 with dots");
    }
    if !bucket.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')) {
        return fail("has characters other than small letters, digits, `.`, `-` and `_`");
    }
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if !edge(bucket.as_bytes().first()) || !edge(bucket.as_bytes().last()) {
        return fail("does not begin and end with a letter or digit");
    }
    if bucket.parse::<std::net::Ipv4Addr>().is_ok() {
        return fail("is an address");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::Source;

    #[test]
    fn gs_paths_are_object_names_as_they_stand() {
        for (text, bucket, object) in [
            ("gs://bucket", "bucket", ""),
            ("gs://bucket/", "bucket", ""),
            ("GS://bucket/a/b", "bucket", "a/b"),
            ("gs://my_bucket.example.com/a/", "my_bucket.example.com", "a/"),
            ("gs://bucket/a b+c%20d#1?x=y/ü", "bucket", "a b+c%20d#1?x=y/ü"),
        ] {
            let Ok(Source::Gcs(source)) = Source::parse(text) else { panic!("{text}") };
            assert_eq!((source.bucket.as_str(), source.object.as_str()), (bucket, object), "{text}");
            assert_eq!(Source::Gcs(source).canonical(), format!("gs://{bucket}/{object}"));
        }
    }

    #[test]
    fn bad_gs_sources_are_usage_errors() {
        let long = [format!("gs://bucket/{}", "k".repeat(1025)), format!("gs://{}/k", "b".repeat(64))];
        let texts = [
            "gs:",
            "gs:/bucket",
            "gs://",
            "gs:///key",
            "gs://ab/key",
            "gs://Bucket/key",
            "gs://-ab/key",
            "gs://ab-/key",
            "gs://a..b/key",
            "gs://10.0.0.1/key",
            "gs://user@bucket/key",
            "gs://bucket:80/key",
            "gs://büro/key",
            "gs://bucket/../key",
            "gs://bucket/a/./b",
            "gs://bucket/a/..",
            "gs://bucket/a\u{0}b",
        ];
        for text in texts.into_iter().chain(long.iter().map(String::as_str)) {
            assert!(matches!(Source::parse(text), Err(Error::Usage(_))), "{text:?}: {:?}", Source::parse(text));
        }
    }
}
