//! URLs that never show their query or userinfo: a signed URL is a secret.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Failure, FailureKind};

/// An `http` or `https` URL. `Debug` and `Display` show scheme, host, port and path only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url(url::Url);

/// The two schemes the wire speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS.
    Https,
}

/// Scheme, host and port: what a header or a connection belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// How the peer is spoken to.
    pub scheme: Scheme,
    /// Name or address, in lower case, IPv6 without brackets.
    pub host: String,
    /// The port, default filled in.
    pub port: u16,
}

impl Origin {
    /// The host as an address, when it is a literal.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// `host:port` with IPv6 in brackets, as CONNECT wants it.
    pub fn authority(&self) -> String {
        match self.ip() {
            Some(IpAddr::V6(ip)) => format!("[{ip}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Origin {
    /// `scheme://host:port`, the port always written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl Url {
    /// Reads an absolute URL; userinfo and fragment are dropped, they are never sent.
    ///
    /// # Errors
    /// `Refused` for anything but `http` and `https` with a host. The text is not repeated: it may hold secrets.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let url =
            url::Url::parse(text).map_err(|error| Failure::new(FailureKind::Refused, format!("not a URL: {error}")))?;
        Self::checked(url)
    }

    /// Reads a URL relative to this one, as a `Location` header means it.
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn join(&self, reference: &str) -> Result<Self, Failure> {
        let url = self
            .0
            .join(reference)
            .map_err(|error| Failure::new(FailureKind::Refused, format!("not a URL: {error}")))?;
        Self::checked(url)
    }

    fn checked(mut url: url::Url) -> Result<Self, Failure> {
        let refuse = |what: &str| Err(Failure::new(FailureKind::Refused, what));
        if !matches!(url.scheme(), "http" | "https") {
            return refuse(&format!("scheme `{}` is not http or https", url.scheme()));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return refuse("the URL has no host");
        }
        url.set_fragment(None);
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return refuse("the URL has no host");
        }
        Ok(Self(url))
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        if self.0.scheme() == "https" { Scheme::Https } else { Scheme::Http }
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> Origin {
        let host = match self.0.host() {
            Some(url::Host::Domain(name)) => name.to_ascii_lowercase(),
            Some(url::Host::Ipv4(ip)) => ip.to_string(),
            Some(url::Host::Ipv6(ip)) => ip.to_string(),
            None => String::new(),
        };
        let default = match self.scheme() {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        Origin { scheme: self.scheme(), host, port: self.0.port().unwrap_or(default) }
    }

    /// The value of the `Host` header: the port only where it is not the scheme's own.
    pub fn host_header(&self) -> &str {
        &self.0[url::Position::BeforeHost..url::Position::AfterPort]
    }

    /// Path and query: the secret part, for the request line only.
    pub fn expose_target(&self) -> &str {
        &self.0[url::Position::BeforePath..url::Position::AfterQuery]
    }

    /// The whole URL: secret, for the request line of a forwarding proxy only.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// The query's values: what an error text must not repeat.
    pub(super) fn query_values(&self) -> impl Iterator<Item = String> {
        self.0.query_pairs().map(|(_, value)| value.into_owned())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[..url::Position::AfterPath])
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_url_shows_neither_query_nor_userinfo() {
        let url = Url::parse("https://me:pw@Host.example:444/a%20b?X-Amz-Signature=canary#f").unwrap();
        assert_eq!(url.to_string(), "https://host.example:444/a%20b");
        assert_eq!(format!("{url:?}"), "https://host.example:444/a%20b");
        assert_eq!(url.expose_target(), "/a%20b?X-Amz-Signature=canary");
        assert_eq!(url.host_header(), "host.example:444");
    }

    #[test]
    fn origins_fill_in_the_default_port_and_read_odd_addresses() {
        for (text, host, port) in [
            ("http://h/", "h", 80),
            ("https://h/", "h", 443),
            ("http://h:80/", "h", 80),
            ("http://[::1]:9/", "::1", 9),
            ("http://2130706433/", "127.0.0.1", 80),
            ("http://0x7f.1/", "127.0.0.1", 80),
        ] {
            let origin = Url::parse(text).unwrap().origin();
            assert_eq!((origin.host.as_str(), origin.port), (host, port), "{text}");
        }
        assert_eq!(Url::parse("http://[::1]:9/").unwrap().origin().authority(), "[::1]:9");
    }

    #[test]
    fn only_http_and_https_are_urls_of_the_wire() {
        for text in ["file:///etc/passwd", "ftp://h/x", "data:,x", "gopher://h", "http://", "x", ""] {
            assert_eq!(Url::parse(text).unwrap_err().kind, FailureKind::Refused, "{text}");
        }
    }
}
