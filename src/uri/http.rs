//! One file at `https://…` or `http://…`.

use std::fmt;

use super::usage;
use crate::error::Error;
use crate::secret::Secret;

/// One file of a web server.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpSource {
    url: url::Url,
    userinfo: Option<Secret>,
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl HttpSource {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
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

    /// Whether the query carries a signature: whoever has the URL has the file.
    pub fn is_signed(&self) -> bool {
        const SIGNATURES: [&str; 4] = ["x-amz-signature", "x-goog-signature", "signature", "sig"];
        self.url.query_pairs().any(|(name, _)| SIGNATURES.contains(&name.to_ascii_lowercase().as_str()))
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
