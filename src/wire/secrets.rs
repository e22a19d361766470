//! Keeps what a request sent in secret out of what an error says: an origin may echo it.

use super::{Access, Url};

/// Shorter values are ordinary words, not secrets.
const SECRET_BYTES_MIN: usize = 8;

/// `text` without the access's header values and the values of the URLs' queries.
pub(super) fn scrub(text: &str, access: &Access, url: &Url) -> String {
    let headers = access.headers.iter().flat_map(|(_, value)| {
        let value = value.expose();
        // `Bearer x` leaks as `x` too.
        [value.to_owned(), value.rsplit(' ').next().unwrap_or(value).to_owned()]
    });
    let queries = access.url.query_values().chain(url.query_values());
    let mut out = text.to_owned();
    for secret in headers.chain(queries).filter(|secret| SECRET_BYTES_MIN <= secret.len()) {
        if out.contains(&secret) {
            out = out.replace(&secret, "(secret)");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::wire::{Coding, Policy};

    #[test]
    fn echoed_credentials_are_cut_out() {
        let url = Url::parse("http://h/x?X-Amz-Signature=canary-one&partNumber=1").unwrap();
        let headers = vec![("authorization".to_owned(), Secret::new("Bearer canary-two"))];
        let access = Access { url, headers, policy: Policy::Configured, coding: Coding::Identity };
        let other = Url::parse("http://cdn/x?token=canary%2Fthree").unwrap();
        let text = scrub("part 1: canary-one, canary-two and canary/three", &access, &other);
        assert_eq!(text, "part 1: (secret), (secret) and (secret)");
    }
}
