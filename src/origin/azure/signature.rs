//! Signs requests with an account's key: a short-lived service SAS of a blob or a container, for reading. Pure.
//!
//! Format: Microsoft's "Create a service SAS", version 2020-12-06 and later.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use crate::secret::Secret;

/// Version of the API that requests speak and of the signatures.
pub(super) const VERSION: &str = "2021-12-02";

/// How long a signature is valid.
pub(super) const SIGNED_FOR: Duration = Duration::from_secs(3600);

/// An account's key.
pub(super) struct Key(Hmac<Sha256>);

/// What a signature lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope<'a> {
    /// List and read what is in the container.
    Container,
    /// Read one blob.
    Blob(&'a str),
}

/// Over what signed requests may travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// TLS alone.
    Https,
    /// Plain http too, as emulators want it.
    Any,
}

impl Key {
    /// Reads a key as the portal shows it; `None` unless it is base64.
    pub(super) fn read(text: &str) -> Option<Self> {
        let bytes = aws_smithy_types::base64::decode(text.trim()).ok().filter(|bytes| !bytes.is_empty())?;
        Hmac::new_from_slice(&bytes).ok().map(Self)
    }

    /// The parameters that let their bearer into `scope` of `container` until [`SIGNED_FOR`] from `now`.
    pub(super) fn sign(&self, account: &str, container: &str, scope: Scope<'_>, over: Over, now: SystemTime) -> Secret {
        let (resource, kind, permissions) = match scope {
            Scope::Container => (format!("/blob/{account}/{container}"), "c", "rl"),
            Scope::Blob(name) => (format!("/blob/{account}/{container}/{name}"), "b", "r"),
        };
        let expiry = instant(now + SIGNED_FOR);
        let protocol = if over == Over::Https { "https" } else { "" };
        // Start, identifier, address, snapshot, encryption scope and the five headers of replies are left out.
        let text = format!("{permissions}\n\n{expiry}\n{resource}\n\n\n{protocol}\n{VERSION}\n{kind}\n\n\n\n\n\n\n");
        let mut hmac = self.0.clone();
        hmac.update(text.as_bytes());
        let signature = aws_smithy_types::base64::encode(hmac.finalize().into_bytes());
        let mut query = format!("sv={VERSION}&sr={kind}&sp={permissions}");
        let parameters = [("se", expiry.as_str()), ("spr", protocol), ("sig", signature.as_str())];
        for (name, value) in parameters.into_iter().filter(|(_, value)| !value.is_empty()) {
            // Writing to a String does not fail.
            write!(query, "&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)).unwrap_or(());
        }
        Secret::new(query)
    }
}

/// `2026-11-22T21:30:00Z`.
fn instant(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes `0123456789abcdef` twice.
    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn signatures_are_those_that_another_program_makes_of_the_documented_text() {
        // 2026-11-22T21:30:00Z; the sums are Python's hmac of the sixteen fields that the page lists.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_383_000);
        let key = Key::read(KEY).unwrap();
        for (scope, over, query) in [
            (
                Scope::Blob("m/a b"),
                Over::Https,
                "sv=2021-12-02&sr=b&sp=r&se=2026%2D11%2D22T22%3A30%3A00Z&spr=https\
                 &sig=h95PfSlbtB0EsqhvRO5lLzp8PX8UJMKhTb%2BFhXL%2Br%2BA%3D",
            ),
            (
                Scope::Container,
                Over::Any,
                "sv=2021-12-02&sr=c&sp=rl&se=2026%2D11%2D22T22%3A30%3A00Z\
                 &sig=ezuP2%2BW%2BiDsT6PRKvsx%2BTI39QhcQv%2F2YkcVyKS%2F03JQ%3D",
            ),
        ] {
            let signed = key.sign("acc", "models", scope, over, now);
            assert_eq!(signed.expose(), query, "{scope:?}");
        }
    }

    #[test]
    fn a_key_is_base64() {
        for text in ["", "no base64!", "MDEy="] {
            assert!(Key::read(text).is_none(), "{text}");
        }
        assert!(Key::read(&format!(" {KEY}\n")).is_some());
    }
}
