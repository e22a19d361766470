//! Where an account's blobs are, and the URLs of the REST API. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::credentials::ConnectionString;
use crate::error::{Error, Failure};
use crate::origin::Environment;
use crate::uri::{AzureSource, check_endpoint};
use crate::wire::address::is_localhost;
use crate::wire::{self, Scheme};

/// The variable for another endpoint: an emulator's, a private one, one of another cloud.
pub(super) const ENDPOINT: &str = "AZURE_STORAGE_ENDPOINT";

/// Blobs asked per page. The API's own most is 5000; each may bring 8 KiB of metadata.
const PAGE_BLOBS: u32 = 1000;

/// All but the unreserved characters.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same, but for the `/` between the parts of a blob's name.
const PATH: &AsciiSet = &VALUE.remove(b'/');

/// The endpoint of an account's blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Scheme, host, port and perhaps a path, without a slash at the end.
    base: String,
    /// Whose blobs they are: the endpoint's own account where its path names one.
    account: String,
    container: String,
    /// Whether the environment named the endpoint.
    pub(super) configured: bool,
}

impl Place {
    /// # Errors
    /// [`Error::Usage`] for a setting that is no endpoint.
    pub(super) fn new(
        source: &AzureSource,
        environment: &Environment,
        connection: Option<&ConnectionString>,
    ) -> Result<Self, Error> {
        let named = environment.var(ENDPOINT).map(|text| check_endpoint(ENDPOINT, text)).transpose()?;
        let named = named.or_else(|| connection.and_then(|connection| connection.endpoint(source)));
        let configured = named.is_some();
        let mut base = named.unwrap_or_else(|| format!("https://{}", source.host()));
        let url = url::Url::parse(&base).map_err(|_| Error::Usage(format!("{ENDPOINT} is not a URL")))?;
        let mut account = source.account.clone();
        if let Some(of_path) = url.path().trim_matches('/').rsplit('/').next().filter(|last| !last.is_empty()) {
            of_path.clone_into(&mut account);
        } else if !names_account(&url) {
            base = format!("{base}/{account}");
        }
        Ok(Self { base, account, container: source.container.clone(), configured })
    }

    /// The endpoint in words.
    pub(super) fn shown(&self) -> &str {
        &self.base
    }

    /// The account that signatures are made for.
    pub(super) fn account(&self) -> &str {
        &self.account
    }

    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// Scheme, host and port.
    ///
    /// # Errors
    /// As [`wire::Url::parse`].
    pub(super) fn origin(&self) -> Result<wire::Origin, Failure> {
        wire::Url::parse(&self.base).map(|url| url.origin())
    }

    /// Whether nobody on the way can read what is sent: TLS, or no way at all.
    pub(super) fn is_private(&self) -> bool {
        self.origin().is_ok_and(|origin| {
            origin.scheme == Scheme::Https
                || origin.ip().map_or_else(|| is_localhost(&origin.host), |ip| ip.is_loopback())
        })
    }

    /// One page of the blobs whose names begin with `prefix`.
    pub(super) fn page(&self, prefix: &str, marker: Option<&str>, signature: Option<&str>) -> String {
        let Self { base, container, .. } = self;
        let mut url =
            format!("{base}/{container}?restype=container&comp=list&include=metadata&maxresults={PAGE_BLOBS}");
        for (key, value) in [("prefix", Some(prefix).filter(|prefix| !prefix.is_empty())), ("marker", marker)] {
            if let Some(value) = value {
                url.push_str(&format!("&{key}={}", utf8_percent_encode(value, VALUE)));
            }
        }
        with_query(url, '&', signature)
    }

    /// The blob `name`.
    pub(super) fn blob(&self, name: &str, signature: Option<&str>) -> String {
        let Self { base, container, .. } = self;
        with_query(format!("{base}/{container}/{}", utf8_percent_encode(name, PATH)), '?', signature)
    }
}

/// Whether the host alone says which account is meant. An emulator's does not: it has the account in the path.
fn names_account(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.contains('.'),
        Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)) | None => false,
    }
}

fn with_query(mut url: String, sign: char, query: Option<&str>) -> String {
    if let Some(query) = query {
        url.push(sign);
        url.push_str(query);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::Source;

    fn place(source: &str, endpoint: Option<&str>) -> Result<Place, Error> {
        let Ok(Source::Azure(source)) = Source::parse(source) else { panic!("{source}") };
        let variables = endpoint.map(|endpoint| (ENDPOINT.to_owned(), endpoint.to_owned()));
        Place::new(&source, &Environment::new(variables), None)
    }

    #[test]
    fn the_endpoint_is_the_accounts_unless_the_environment_says_otherwise() {
        for (source, endpoint, base, account) in [
            ("az://acc/models/m", None, "https://acc.blob.core.windows.net", "acc"),
            ("https://acc.z1.blob.storage.azure.net/models/m", None, "https://acc.z1.blob.storage.azure.net", "acc"),
            ("az://acc/models/m", Some("http://127.0.0.1:1/dev/"), "http://127.0.0.1:1/dev", "dev"),
            ("az://acc/models/m", Some("http://127.0.0.1:1"), "http://127.0.0.1:1/acc", "acc"),
            ("az://acc/models/m", Some("http://azurite:10000/"), "http://azurite:10000/acc", "acc"),
            (
                "https://acc.blob.core.windows.net/models/m",
                Some("https://acc.privatelink.example"),
                "https://acc.privatelink.example",
                "acc",
            ),
        ] {
            let place = place(source, endpoint).unwrap();
            assert_eq!((place.shown(), place.account()), (base, account), "{source} {endpoint:?}");
            assert_eq!(place.configured, endpoint.is_some());
        }
        for endpoint in ["ftp://x", "http://u:p@x", "x", "https://x/?sig=1"] {
            let Err(Error::Usage(text)) = place("az://acc/models", Some(endpoint)) else { panic!("{endpoint}") };
            assert!(text.contains(ENDPOINT) && !text.contains("u:p"), "{text}");
        }
    }

    #[test]
    fn names_are_encoded_part_by_part() {
        let place = place("az://acc/models", Some("http://h:1")).unwrap();
        let url = place.blob("m/a b?c=d&e#f%41+ü", Some("sig=1"));
        assert_eq!(url, "http://h:1/acc/models/m/a%20b%3Fc%3Dd%26e%23f%2541%2B%C3%BC?sig=1");
        // The URL's own parser must leave it so.
        assert_eq!(wire::Url::parse(&url).unwrap().expose(), url);
        let page = place.page("m/", Some("2!=&"), Some("sig=1"));
        assert!(page.ends_with("&prefix=m%2F&marker=2%21%3D%26&sig=1"), "{page}");
        assert!(!place.page("", None, None).contains("prefix"));
    }

    #[test]
    fn only_tls_and_this_machine_are_private() {
        for (endpoint, private) in [
            ("https://h/x", true),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("http://azurite:1", false),
            ("http://10.0.0.1/x", false),
        ] {
            assert_eq!(place("az://acc/models", Some(endpoint)).unwrap().is_private(), private, "{endpoint}");
        }
    }
}
