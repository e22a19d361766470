//! Decides where a redirect may lead. Pure; also for control requests made elsewhere.
//!
//! In: the URL that answered, the class of its peer, its `Location`. Out: the next URL, or why not.
//! Holds: at most [`HOPS_MAX`] hops, never from https to http, never to a more privileged address.

use super::address::{self, Class};
use super::url::{Scheme, Url};
use crate::error::{Failure, FailureKind};

/// Redirects followed for one request.
pub const HOPS_MAX: u32 = 5;

/// Headers that may go to any origin a redirect leads to; everything else stays with its own origin.
pub const FORWARDED: [&str; 7] =
    ["host", "range", "if-match", "if-unmodified-since", "accept", "accept-encoding", "user-agent"];

/// Whether a status asks us to look elsewhere.
pub fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Whether a header may go along to another origin.
pub fn may_forward(name: &str) -> bool {
    FORWARDED.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Where `location`, sent by `from` at a peer of class `class`, leads; `hops` redirects were followed before.
///
/// A host name is classed again by [`address::admit`] when its addresses are known.
///
/// # Errors
/// `Refused` for a sixth hop, a downgrade, another scheme, or an address this peer may not name.
pub fn decide(from: &Url, class: Class, location: &str, hops: u32) -> Result<Url, Failure> {
    let refuse = |what: String| Err(Failure::new(FailureKind::Refused, what));
    if HOPS_MAX <= hops {
        return refuse(format!("{from}: more than {HOPS_MAX} redirects"));
    }
    let next = from
        .join(location)
        .map_err(|failure| Failure::new(failure.kind, format!("redirect from {from}: {failure}")))?;
    if from.scheme() == Scheme::Https && next.scheme() == Scheme::Http {
        return refuse(format!("redirect from {from} leaves https: refused"));
    }
    let host = next.origin().host;
    if let Some(target) = address::class_of_host(&host) {
        address::admit(class, &host, target)?;
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, class: Class, location: &str, want: Result<&str, FailureKind>) {
        let from = Url::parse(from).unwrap();
        let got = decide(&from, class, location, 0);
        let got = got.as_ref().map(Url::expose).map_err(|failure| failure.kind);
        assert_eq!(got, want, "{from} {location}");
    }

    #[test]
    fn locations_resolve_against_the_url_that_sent_them() {
        let ok = |location, want| check("https://a.example/x/y?z", Class::Public, location, Ok(want));
        ok("https://b.example/o?sig=1", "https://b.example/o?sig=1");
        ok("/root", "https://a.example/root");
        ok("next?q", "https://a.example/x/next?q");
        ok("?q", "https://a.example/x/y?q");
        ok("//c.example/p", "https://c.example/p");
        ok("https://u:p@b.example/#f", "https://b.example/");
        check("http://a.example/", Class::Public, "https://a.example/", Ok("https://a.example/"));
    }

    #[test]
    fn downgrades_and_other_schemes_are_refused() {
        for location in ["http://a.example/", "file:///etc/passwd", "ftp://a/", "data:,x", "javascript:x", "http://"] {
            check("https://a.example/", Class::Public, location, Err(FailureKind::Refused));
        }
    }

    #[test]
    fn a_public_origin_may_not_name_an_inner_address() {
        for location in [
            "https://127.0.0.1/",
            "https://localhost:9000/",
            "https://10.0.0.1/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://metadata.google.internal/",
            "https://[fd00:ec2::254]/",
            "https://0.0.0.0/",
        ] {
            check("https://a.example/", Class::Public, location, Err(FailureKind::Refused));
        }
    }

    #[test]
    fn an_inner_origin_may_name_the_inside_but_not_the_metadata() {
        let from = "http://127.0.0.1:9000/";
        check(from, Class::Loopback, "http://10.0.0.1/x", Ok("http://10.0.0.1/x"));
        check(from, Class::Loopback, "http://localhost:1/", Ok("http://localhost:1/"));
        check(from, Class::Loopback, "http://169.254.169.254/", Err(FailureKind::Refused));
        check(from, Class::Private, "http://[fe80::1]/", Err(FailureKind::Refused));
    }

    #[test]
    fn the_sixth_hop_is_refused() {
        let from = Url::parse("http://a.example/").unwrap();
        assert!(decide(&from, Class::Public, "/x", HOPS_MAX - 1).is_ok());
        assert_eq!(decide(&from, Class::Public, "/x", HOPS_MAX).unwrap_err().kind, FailureKind::Refused);
    }

    #[test]
    fn only_listed_headers_travel() {
        assert!(may_forward("Range") && may_forward("if-match"));
        for name in ["Authorization", "X-Amz-Security-Token", "Cookie", "x-ms-version", "Proxy-Authorization"] {
            assert!(!may_forward(name), "{name}");
        }
    }
}
