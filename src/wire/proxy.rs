//! Which requests go through a proxy, and how: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::url::{Origin, Scheme};
use crate::error::Error;
use crate::secret::Secret;

/// A proxy that speaks plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The value of `Proxy-Authorization`, from the URL's userinfo.
    pub authorization: Option<Secret>,
}

impl Proxy {
    /// Scheme, host and port, without the login.
    pub fn place(&self) -> String {
        Origin { scheme: Scheme::Http, host: self.host.clone(), port: self.port }.to_string()
    }
}

/// How a request reaches its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Straight.
    Direct,
    /// By asking a proxy for the whole URL (http).
    Forward(Arc<Proxy>),
    /// Through a CONNECT tunnel (https).
    Tunnel(Arc<Proxy>),
}

/// The proxies of a run.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<Arc<Proxy>>,
    https: Option<Arc<Proxy>>,
    direct: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    Everything,
    Network { base: IpAddr, bits: u32 },
    Host { suffix: String, port: Option<u16> },
}

impl Proxies {
    /// Reads the three values as the environment gives them; empty ones count as unset.
    ///
    /// # Errors
    /// `Usage` for a proxy that is no `http://` URL; its text is not repeated, it may hold a password.
    pub fn new(http: Option<&str>, https: Option<&str>, none: Option<&str>) -> Result<Self, Error> {
        let direct = none.unwrap_or_default().split([',', ' ']).filter_map(exception).collect();
        Ok(Self { http: proxy("HTTP_PROXY", http)?, https: proxy("HTTPS_PROXY", https)?, direct })
    }

    /// How to reach `origin`.
    pub fn route(&self, origin: &Origin) -> Route {
        if self.direct.iter().any(|exception| exception.covers(origin)) {
            return Route::Direct;
        }
        match origin.scheme {
            Scheme::Http => self.http.clone().map_or(Route::Direct, Route::Forward),
            Scheme::Https => self.https.clone().map_or(Route::Direct, Route::Tunnel),
        }
    }
}

fn proxy(name: &str, value: Option<&str>) -> Result<Option<Arc<Proxy>>, Error> {
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else { return Ok(None) };
    let wrong = || Error::Usage(format!("{name} is not an http:// URL"));
    let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = url::Url::parse(&text).map_err(|_| wrong())?;
    let host = match url.host() {
        Some(url::Host::Domain(host)) if !host.is_empty() => host.to_owned(),
        Some(url::Host::Ipv4(ip)) => ip.to_string(),
        Some(url::Host::Ipv6(ip)) => ip.to_string(),
        Some(url::Host::Domain(_)) | None => return Err(wrong()),
    };
    if url.scheme() != "http" {
        return Err(wrong());
    }
    let authorization = (!url.username().is_empty()).then(|| {
        let decode = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let mut pair = decode(url.username());
        pair.push(b':');
        pair.extend(decode(url.password().unwrap_or_default()));
        Secret::new(format!("Basic {}", base64(&pair)))
    });
    Ok(Some(Arc::new(Proxy { host, port: url.port().unwrap_or(80), authorization })))
}

fn exception(text: &str) -> Option<Exception> {
    let text = text.trim().to_ascii_lowercase();
    if text == "*" {
        return Some(Exception::Everything);
    }
    if let Some((base, bits)) = text.split_once('/') {
        return Some(Exception::Network { base: base.parse().ok()?, bits: bits.parse().ok()? });
    }
    if let Ok(base) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(Exception::Network { base, bits: 128 });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host.trim_matches(['[', ']']), Some(port.parse().ok()?)),
        None => (text.as_str(), None),
    };
    let suffix = host.trim_start_matches("*.").trim_matches('.').to_owned();
    (!suffix.is_empty()).then_some(Exception::Host { suffix, port })
}

impl Exception {
    fn covers(&self, origin: &Origin) -> bool {
        match self {
            Self::Everything => true,
            Self::Network { base, bits } => origin.ip().is_some_and(|ip| same_network(*base, ip, *bits)),
            Self::Host { suffix, port } => {
                let host = origin.host.trim_end_matches('.');
                let named =
                    host == suffix || host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'));
                named && port.is_none_or(|port| port == origin.port)
            }
        }
    }
}

fn same_network(base: IpAddr, ip: IpAddr, bits: u32) -> bool {
    let (difference, width) = match (base, ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => (u128::from(base.to_bits() ^ ip.to_bits()), 32),
        (IpAddr::V6(base), IpAddr::V6(ip)) => (base.to_bits() ^ ip.to_bits(), 128),
        _ => return false,
    };
    difference.checked_shr(width - bits.min(width)).unwrap_or(0) == 0
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = usize::try_from(word >> (18 - 6 * place) & 63).unwrap_or(0);
            out.push(if place <= group.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Url;

    fn check(none: &str, url: &str, proxied: bool) {
        let proxies = Proxies::new(Some("http://p:1"), Some("p:2"), Some(none)).unwrap();
        let route = proxies.route(&Url::parse(url).unwrap().origin());
        assert_eq!(route != Route::Direct, proxied, "NO_PROXY={none} {url}");
    }

    #[test]
    fn exceptions_match_hosts_ports_and_networks() {
        check("", "http://a.example/", true);
        check("*", "http://a.example/", false);
        check("example", "http://a.example/", false);
        check(".a.example", "http://a.example/", false);
        check("*.a.example", "http://b.a.example/", false);
        check("a.example", "http://ba.example/", true);
        check("x, A.Example ,y", "https://a.example/", false);
        check("a.example:81", "http://a.example/", true);
        check("a.example:81", "http://a.example:81/", false);
        check("10.0.0.0/8", "http://10.9.9.9/", false);
        check("10.0.0.0/8", "http://11.9.9.9/", true);
        check("10.0.0.1", "http://10.0.0.1:5/", false);
        check("10.0.0.1", "http://10.0.0.2:5/", true);
        check("::1", "http://[::1]:5/", false);
        check("fd00::/8", "http://[fd12::1]/", false);
        check("0.0.0.0/0", "http://1.2.3.4/", false);
    }

    #[test]
    fn schemes_have_their_own_proxy_and_way() {
        let proxies = Proxies::new(Some("http://us%40er:p%3Aw@p:8080"), None, None).unwrap();
        let Route::Forward(proxy) = proxies.route(&Url::parse("http://a/").unwrap().origin()) else { panic!() };
        assert_eq!((proxy.host.as_str(), proxy.port), ("p", 8080));
        assert_eq!(proxy.authorization.as_ref().unwrap().expose(), "Basic dXNAZXI6cDp3");
        assert!(!format!("{proxy:?}").contains("dXN"), "{proxy:?}");
        assert_eq!(proxies.route(&Url::parse("https://a/").unwrap().origin()), Route::Direct);
    }

    #[test]
    fn other_proxies_are_refused_without_repeating_them() {
        for text in ["https://u:canary@p", "socks5://p", "http://", "::"] {
            let error = Proxies::new(None, Some(text), None).unwrap_err();
            assert!(matches!(&error, Error::Usage(text) if !text.contains("canary")), "{text}");
        }
        assert!(Proxies::new(Some(" "), Some(""), None).is_ok());
    }

    #[test]
    fn base64_matches_rfc_4648() {
        for (text, code) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), code);
        }
    }
}
