//! Reads SRC, the name a user gives a model, into a typed [`Source`].
//!
//! In: one line of text. Out: a source whose parts were checked once, here; nothing downstream reads text again.
//! Holds: userinfo and query of a URL are reachable only through [`HttpSource::url`] and
//! [`HttpSource::userinfo`]; `Debug`, `Display` and [`Source::canonical`] never show them.

use std::fmt;

use crate::error::Error;
use crate::secret::Secret;
use crate::units;

/// Longest key S3 stores, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest SRC that is read at all: presigned URLs with session tokens reach about 4 KiB.
pub const URI_BYTES_MAX: usize = 16 * 1024;

const DEMO_BYTES_DEFAULT: u64 = 1 << 30;
const DEMO_BYTES_MAX: u64 = 16 << 40;
const DEMO_FILES_DEFAULT: u32 = 4;
const DEMO_FILES_MAX: u32 = 10_000;

/// Schemes the product knows and this build does not speak.
const LATER_SCHEMES: [&str; 8] = ["gs", "az", "hf", "file", "model-registry", "models", "mlflow", "mlflow-artifacts"];

/// Where a model is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// `s3://bucket/prefix-or-key`
    S3(S3Source),
    /// One file at `https://…` or `http://…`.
    Http(HttpSource),
    /// `demo://`: the embedded arena.
    Demo(DemoSource),
}

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

/// One file of a web server.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpSource {
    url: url::Url,
    userinfo: Option<Secret>,
}

/// A model that the embedded arena generates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoSource {
    /// Bytes of all shards together.
    pub total_bytes: u64,
    /// Number of shards.
    pub files: u32,
    /// Seed of the content.
    pub seed: u64,
}

impl Source {
    /// Reads SRC.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong; the text never repeats userinfo or query.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if URI_BYTES_MAX < text.len() {
            return Err(usage(format!("the source is longer than {URI_BYTES_MAX} bytes")));
        }
        if text.chars().any(char::is_control) {
            return Err(usage("the source contains a control character"));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(usage("the source has no scheme; examples: s3://bucket/model, https://host/model.safetensors"));
        };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "s3" => S3Source::parse(after_slashes("s3", rest)?).map(Self::S3),
            "http" | "https" => HttpSource::parse(text).map(Self::Http),
            "demo" => DemoSource::parse(after_slashes("demo", rest)?).map(Self::Demo),
            known if LATER_SCHEMES.contains(&known) => {
                Err(usage(format!("this build does not speak {known}: sources; it speaks s3, https, http and demo")))
            }
            _ => Err(usage("the source's scheme is not one of s3, https, http and demo")),
        }
    }

    /// The source as reports, receipts and logs show it: no userinfo, no query.
    ///
    /// Two plain queries of one path name two objects, so a digest of the query stands in for it;
    /// parameters that only sign (and change with every new link) are left out of that digest.
    pub fn canonical(&self) -> String {
        match self {
            Self::S3(s3) => format!("s3://{}/{}", s3.bucket, s3.key),
            Self::Http(http) => http.canonical(),
            Self::Demo(demo) => format!("demo://{}?files={}&seed={}", demo.total_bytes, demo.files, demo.seed),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl S3Source {
    /// Reads what follows `s3://`.
    ///
    /// The first `?` begins the parameters, so a key with `?` cannot be written as an exact key; its
    /// folder can. An unknown parameter is refused: guessing would fetch another object.
    fn parse(rest: &str) -> Result<Self, Error> {
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

impl HttpSource {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut url = url::Url::parse(text).map_err(|error| usage(format!("the source is not a URL: {error}")))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(usage("the source's URL has no host"));
        }
        let userinfo = decoded_userinfo(&url)?;
        // Both succeed for http and https URLs with a host, which this is.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(usage("the source's URL cannot carry credentials"));
        }
        url.set_fragment(None);
        let source = Self { url, userinfo };
        source.file_name()?;
        Ok(source)
    }

    /// The URL to ask, with its query, without userinfo. The query may be a secret: never print it.
    pub fn url(&self) -> &url::Url {
        &self.url
    }

    /// `user:password` as given, percent-decoded: for Basic authentication at this URL's origin only.
    pub fn userinfo(&self) -> Option<&Secret> {
        self.userinfo.as_ref()
    }

    /// The last path segment, percent-decoded: the file's name below DEST, not yet checked for safety.
    ///
    /// # Errors
    /// [`Error::Usage`] when the URL names a folder, or the name is not UTF-8.
    pub fn file_name(&self) -> Result<String, Error> {
        let segment = self.url.path().rsplit('/').next().unwrap_or("");
        if segment.is_empty() {
            return Err(usage("the source's URL names no file; name one, such as https://host/model.safetensors"));
        }
        let name = percent_encoding::percent_decode_str(segment).decode_utf8();
        name.map(std::borrow::Cow::into_owned).map_err(|_| usage("the file name in the source's URL is not UTF-8"))
    }

    /// Scheme, host, port and path; a query appears as a digest.
    pub fn canonical(&self) -> String {
        let mut shown = self.url.clone();
        shown.set_query(None);
        match query_digest(&self.url) {
            None => shown.to_string(),
            Some(digest) => format!("{shown}?blake3={digest}"),
        }
    }
}

impl DemoSource {
    fn parse(rest: &str) -> Result<Self, Error> {
        let (size, query) = rest.split_once('?').unwrap_or((rest, ""));
        let size = size.trim_end_matches('/');
        let total_bytes = match size {
            "" => DEMO_BYTES_DEFAULT,
            size => units::parse_size(size).map_err(|error| usage(error.to_string()))?,
        };
        let mut demo = Self { total_bytes, files: DEMO_FILES_DEFAULT, seed: 1 };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let number = || {
                value.parse::<u64>().map_err(|_| usage(format!("demo:// parameter {} is not a number", shown(&name))))
            };
            match name.as_ref() {
                "files" => demo.files = u32::try_from(number()?).unwrap_or(u32::MAX),
                "seed" => demo.seed = number()?,
                _ => return Err(usage("a demo:// source takes only the parameters files and seed")),
            }
        }
        if demo.files == 0 || DEMO_FILES_MAX < demo.files {
            return Err(usage(format!("demo:// takes 1 to {DEMO_FILES_MAX} files")));
        }
        if DEMO_BYTES_MAX < demo.total_bytes {
            return Err(usage("demo:// takes at most 16TiB"));
        }
        Ok(demo)
    }
}

fn usage(text: impl Into<String>) -> Error {
    Error::Usage(text.into())
}

/// A fragment of user input, escaped and cut for an error text.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("`{}`", short.escape_debug())
}

fn after_slashes<'a>(scheme: &str, rest: &'a str) -> Result<&'a str, Error> {
    rest.strip_prefix("//").ok_or_else(|| usage(format!("a {scheme} source begins with {scheme}://")))
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

fn decoded_userinfo(url: &url::Url) -> Result<Option<Secret>, Error> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decode = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8().map(std::borrow::Cow::into_owned);
        decoded.ok().filter(|text| !text.chars().any(char::is_control))
    };
    let parts = decode(url.username()).zip(decode(url.password().unwrap_or("")));
    let (user, password) = parts.ok_or_else(|| usage("the credentials in the source's URL are not plain UTF-8"))?;
    Ok(Some(Secret::new(format!("{user}:{password}"))))
}

/// The first 16 hexadecimal digits of the query's digest, without the parameters that only sign.
fn query_digest(url: &url::Url) -> Option<String> {
    let query = url.query().filter(|query| !query.is_empty())?;
    let azure = url.query_pairs().any(|(name, _)| name == "sig");
    let mut hasher = blake3::Hasher::new_derive_key("dray 2026 query of a source");
    let mut kept = 0_u64;
    for pair in query.split('&') {
        let name = pair.split('=').next().unwrap_or(pair);
        if !only_signs(name, azure) {
            kept += 1;
            hasher.update(pair.as_bytes());
            hasher.update(b"&");
        }
    }
    let hex = hasher.finalize().to_hex();
    (0 < kept).then(|| hex.as_str().chars().take(16).collect())
}

fn only_signs(name: &str, azure: bool) -> bool {
    const SIGNING: [&str; 6] = ["signature", "expires", "key-pair-id", "policy", "awsaccesskeyid", "googleaccessid"];
    const AZURE: [&str; 17] = [
        "sv", "st", "se", "sr", "sp", "spr", "sip", "sig", "skoid", "sktid", "skt", "ske", "sks", "skv", "ss", "srt",
        "sdd",
    ];
    let name = name.to_ascii_lowercase();
    name.starts_with("x-amz-")
        || name.starts_with("x-goog-")
        || SIGNING.contains(&name.as_str())
        || (azure && AZURE.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(text: &str) -> S3Source {
        match Source::parse(text) {
            Ok(Source::S3(s3)) => s3,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn http(text: &str) -> HttpSource {
        match Source::parse(text) {
            Ok(Source::Http(http)) => http,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn s3_paths_are_keys_as_they_stand() {
        for (text, bucket, key) in [
            ("s3://bucket", "bucket", ""),
            ("s3://bucket/", "bucket", ""),
            ("S3://bucket/a/b", "bucket", "a/b"),
            ("s3://my.old_Bucket-1/a/", "my.old_Bucket-1", "a/"),
            ("s3://bucket/a b+c%20d#e/ü", "bucket", "a b+c%20d#e/ü"),
            ("s3://bucket//a", "bucket", "/a"),
            (" s3://bucket/a\n", "bucket", "a"),
        ] {
            let source = s3(text);
            assert_eq!((source.bucket.as_str(), source.key.as_str()), (bucket, key), "{text}");
        }
    }

    #[test]
    fn s3_parameters_are_endpoint_and_region() {
        let source = s3("s3://bucket/m?endpoint=http%3A%2F%2Fminio%3A9000%2F&defaultRegion=eu-west-1");
        assert_eq!(source.endpoint.as_deref(), Some("http://minio:9000"));
        assert_eq!(source.region.as_deref(), Some("eu-west-1"));
        assert_eq!(Source::S3(source).canonical(), "s3://bucket/m");
    }

    #[test]
    fn bad_sources_are_usage_errors() {
        for text in [
            "",
            "bucket/key",
            "s3:",
            "s3:/bucket",
            "s3://",
            "s3:///key",
            "s3://ab/key",
            "s3://-ab/key",
            "s3://ab-/key",
            "s3://a..b/key",
            "s3://10.0.0.1/key",
            "s3://user@bucket/key",
            "s3://bucket:80/key",
            "s3://büro/key",
            "s3://bucket/../key",
            "s3://bucket/a/./b",
            "s3://bucket/a/..",
            "s3://bucket/a\u{0}b",
            "s3://bucket/k?versionId=1",
            "s3://bucket/k?endpoint=ftp://x",
            "s3://bucket/k?endpoint=http://u:p@x",
            "s3://bucket/k?endpoint=x:9000",
            "s3://bucket/k?defaultRegion=eu/west",
            "s3://bucket/k?defaultRegion=",
            "http://",
            "http:///file",
            "https://host",
            "https://host/",
            "https://host/folder/",
            "http://host/%ff",
            "http://us%0aer@host/f",
            "ftp://host/f",
            "gopher://x",
            "demo:",
            "demo://potato",
            "demo://1GiB?files=0",
            "demo://1GiB?files=99999",
            "demo://?shards=2",
            "demo://99TiB",
            "gs://b/k",
            "az://c/k",
            "hf://o/n",
            "file:///etc/passwd",
            "model-registry://m",
            "models:/m/1",
            "mlflow://x",
            "javascript:x",
        ] {
            assert!(matches!(Source::parse(text), Err(Error::Usage(_))), "{text:?}: {:?}", Source::parse(text));
        }
        let long = format!("s3://bucket/{}", "k".repeat(KEY_BYTES_MAX + 1));
        assert!(Source::parse(&long).is_err());
        assert!(Source::parse(&format!("https://h/{}", "k".repeat(URI_BYTES_MAX))).is_err());
    }

    #[test]
    fn known_schemes_of_other_builds_are_named() {
        let Err(Error::Usage(text)) = Source::parse("hf://owner/name") else { panic!("accepted") };
        assert!(text.contains("does not speak hf"), "{text}");
    }

    #[test]
    fn http_names_come_decoded_from_the_last_segment() {
        for (text, name) in [
            ("https://host/model.safetensors", "model.safetensors"),
            ("HTTP://host:8080/a/b%20c%2Bd.bin?x=1#frag", "b c+d.bin"),
            ("https://host/a/%E6%A8%A1.bin", "模.bin"),
            ("https://host/a/..%2f..%2fetc", "../../etc"),
            ("https://host/a//file", "file"),
        ] {
            assert_eq!(http(text).file_name(), Ok(name.to_owned()), "{text}");
        }
    }

    #[test]
    fn userinfo_and_query_never_show() {
        let source = Source::parse("https://us%65r:p%40ss@host/f?X-Amz-Signature=secretsig&token=abc").unwrap();
        for text in [source.canonical(), format!("{source:?}"), format!("{source}")] {
            assert!(text.starts_with("https://host/f?blake3="), "{text}");
            for secret in ["user", "p@ss", "p%40ss", "secretsig", "abc"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
        let Source::Http(http) = source else { panic!("not http") };
        assert_eq!(http.userinfo().map(Secret::expose), Some("user:p@ss"));
        assert!(http.url().as_str().contains("token=abc") && !http.url().as_str().contains("p%40ss"));
        for bad in ["https://user:hunter2@host/", "hunter2://x", "https://host:hunter2/f?k=hunter2"] {
            assert!(!format!("{:?}", Source::parse(bad)).contains("hunter2"), "{bad}");
        }
    }

    #[test]
    fn queries_tell_objects_apart_and_signatures_do_not() {
        let name = |text| Source::parse(text).unwrap().canonical();
        assert_ne!(name("https://h/f?id=1"), name("https://h/f?id=2"));
        assert_ne!(name("https://h/f?id=1"), name("https://h/f"));
        assert_eq!(name("https://h/f?X-Amz-Date=1&X-Amz-Signature=a"), name("https://h/f"));
        assert_eq!(name("https://h/f?id=1&Expires=5&Signature=a"), name("https://h/f?id=1&Expires=9&Signature=b"));
        assert_eq!(name("https://h/f?sv=1&se=2&sig=x"), name("https://h/f?sv=3&se=4&sig=y"));
        assert_ne!(name("https://h/f?sp=1"), name("https://h/f?sp=2"));
    }

    #[test]
    fn demo_has_defaults_and_a_canonical_form() {
        let demo = |text| match Source::parse(text) {
            Ok(Source::Demo(demo)) => demo,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(demo("demo://"), DemoSource { total_bytes: 1 << 30, files: 4, seed: 1 });
        assert_eq!(demo("demo://4GiB?files=8&seed=7"), DemoSource { total_bytes: 4 << 30, files: 8, seed: 7 });
        let canonical = Source::Demo(demo("demo://4GiB?files=8")).canonical();
        assert_eq!(demo(&canonical), demo("demo://4GiB?files=8"));
    }
}
