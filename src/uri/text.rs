//! Pieces of a source's text, and what is said of those that cannot be read.

use crate::error::Error;

/// An error about the source; `text` repeats neither userinfo nor query.
pub(super) fn usage(text: impl Into<String>) -> Error {
    Error::Usage(text.into())
}

/// A fragment of user input, escaped and cut for an error text.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("`{}`", short.escape_debug())
}

/// A name without its percent-encoding; `None` when it is not UTF-8 or hides a control character.
pub(super) fn decoded(text: &str) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.chars().any(char::is_control)).then(|| decoded.into_owned())
}

/// What follows `scheme://`.
pub(super) fn after_slashes<'a>(scheme: &str, rest: &'a str) -> Result<&'a str, Error> {
    rest.strip_prefix("//").ok_or_else(|| usage(format!("{scheme} sources begin with {scheme}://")))
}
