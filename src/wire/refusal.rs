//! Reads what a reply other than 2xx means: its status, S3's error document, `Retry-After`. Pure.
//!
//! Holds: text of the origin reaches an error line only cleaned and cut; waits are at most [`RETRY_AFTER_MAX`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Asked;
use super::check;
use super::date;
use super::http1::Head;
use crate::error::{Failure, FailureKind};

/// Bytes read of an error document.
pub const ERROR_BODY_BYTES_MAX: usize = 64 << 10;

/// The longest wait an origin may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Characters of an origin's text shown in one error line.
const SHOWN_CHARS_MAX: usize = 200;

/// The failure a reply means. `body` is what was read of its error document.
pub fn classify(head: &Head, asked: &Asked, body: &[u8], now: SystemTime) -> Failure {
    let document = ErrorDocument::scan(body);
    let asked_to_wait = head.first("retry-after").and_then(|value| retry_after(value, now));
    let wait = asked_to_wait.or_else(|| head.first("ratelimit").and_then(limit_reset));
    let kind = by_code(&document, asked, wait).unwrap_or_else(|| by_status(head, asked, &document, wait));
    let reason = http::StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
    let mut detail = match reason {
        Some(reason) => format!("{} {reason}", head.status),
        None => format!("status {}", head.status),
    };
    let said = [&document.code, &document.message];
    let said: Vec<&str> = said.into_iter().filter_map(Option::as_deref).collect();
    if !said.is_empty() {
        detail = format!("{detail}: {}", said.join(": "));
    }
    Failure::new(kind, detail)
}

/// S3 error codes that say more than their status.
fn by_code(document: &ErrorDocument, asked: &Asked, wait: Option<Duration>) -> Option<FailureKind> {
    let expired = document.message.as_deref().is_some_and(|text| text.to_ascii_lowercase().contains("has expired"));
    match document.code.as_deref()? {
        "ExpiredToken" | "TokenRefreshRequired" | "RequestTimeTooSkewed" | "RequestExpired" => {
            Some(FailureKind::Expired)
        }
        "AccessDenied" | "AuthenticationFailed" if expired => Some(FailureKind::Expired),
        // Azure's words for a shared-access signature past its end.
        "AuthenticationFailed" if document.outside_time_frame => Some(FailureKind::Expired),
        "SlowDown" | "Throttling" | "RequestLimitExceeded" | "ServerBusy" => {
            Some(FailureKind::Throttled { retry_after: wait })
        }
        "InternalError" | "RequestTimeout" | "OperationTimedOut" => {
            Some(FailureKind::Unavailable { retry_after: wait })
        }
        "AccessDenied"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "AuthorizationHeaderMalformed"
        | "AuthorizationQueryParametersError"
        // Azure's 409s of what nobody may read: a container that is not public, a blob that is archived.
        | "PublicAccessNotPermitted"
        | "BlobArchived"
        | "BlobBeingRehydrated" => Some(FailureKind::Denied),
        // Azure's word for a bearer token past its end.
        "InvalidAuthenticationInfo" => Some(FailureKind::Expired),
        // As for a 404 without a document: the object may be there as another version.
        "NoSuchKey" | "NoSuchVersion" if asked.version.version_id.is_some() => Some(FailureKind::Changed),
        "NoSuchKey" | "NoSuchBucket" | "NoSuchVersion" | "BlobNotFound" | "ContainerNotFound" => {
            Some(FailureKind::Missing)
        }
        _ => None,
    }
}

fn by_status(head: &Head, asked: &Asked, document: &ErrorDocument, wait: Option<Duration>) -> FailureKind {
    let expired = document.message.as_deref().is_some_and(|text| text.to_ascii_lowercase().contains("expired"));
    match head.status {
        401 | 403 if expired => FailureKind::Expired,
        401 if document.token_refused || head.all("www-authenticate").any(speaks_of_a_token) => FailureKind::Expired,
        401 | 403 | 407 => FailureKind::Denied,
        // The request named a version: that one is gone, the object may be there as another.
        404 if asked.version.version_id.is_some() => FailureKind::Changed,
        404 | 410 => FailureKind::Missing,
        412 => FailureKind::Changed,
        416 => match head.first("content-range").and_then(check::content_range) {
            // The object still has the planned size, so the range was valid: the refusal is wrong.
            Some(stated) if stated.size.is_some() && stated.size == asked.size => FailureKind::BadReply,
            _ => FailureKind::Changed,
        },
        429 | 503 => FailureKind::Throttled { retry_after: wait },
        408 | 425 | 500..=599 => FailureKind::Unavailable { retry_after: wait },
        _ => FailureKind::BadReply,
    }
}

/// Whether a challenge says that another token may be let in (RFC 6750 §3.1).
fn speaks_of_a_token(challenge: &str) -> bool {
    let challenge = challenge.to_ascii_lowercase();
    challenge.contains("expired") || challenge.contains("error=\"invalid_token\"")
}

/// A `Retry-After` of seconds or an HTTP date, capped at [`RETRY_AFTER_MAX`]; `None` for anything else.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().unwrap_or(u64::MAX)
    } else {
        let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
        date::parse_http_date(value)?.saturating_sub(now)
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The seconds until a spent limit is filled again, of `RateLimit: "api";r=0;t=55` (the IETF's draft, which the Hub
/// follows), capped at [`RETRY_AFTER_MAX`]; `None` for anything else.
fn limit_reset(value: &str) -> Option<Duration> {
    let parameter = |name: &str| value.split(';').find_map(|part| part.trim().strip_prefix(name));
    let seconds = parameter("t=")?.parse().ok()?;
    (parameter("r=")? == "0").then(|| Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// What an S3 (or Azure, or GCS XML) error document says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorDocument {
    /// `<Code>`, cleaned.
    pub code: Option<String>,
    /// `<Message>`, cleaned and cut.
    pub message: Option<String>,
    /// Whether it speaks of a signature outside its time frame.
    pub outside_time_frame: bool,
    /// Whether it is Google's JSON for a token that is not, or no longer, one.
    pub token_refused: bool,
}

impl ErrorDocument {
    /// Finds the first `<Code>` and `<Message>`; anything that is no such document has neither.
    pub fn scan(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(ERROR_BODY_BYTES_MAX)]);
        if !text.contains("<Error") {
            return Self { token_refused: text.contains("\"authError\""), ..Self::default() };
        }
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            let (value, _) = rest.split_once(&format!("</{name}>"))?;
            let value = clean(&unescape(value));
            (!value.is_empty()).then_some(value)
        };
        Self {
            code: element("Code"),
            message: element("Message"),
            outside_time_frame: text.contains("not valid in the specified time frame"),
            token_refused: false,
        }
    }
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

/// Foreign text fit for one line: control characters become blanks, runs of blanks one, the rest is cut.
pub fn clean(text: &str) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().filter(|c| !is_invisible(*c)).take(SHOWN_CHARS_MAX));
        if SHOWN_CHARS_MAX <= out.len() {
            break;
        }
    }
    match out.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &out[..cut]),
        None => out,
    }
}

/// Marks that reorder or hide text on a terminal.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Version;
    use crate::wire::http1;

    const NONE: Option<Duration> = None;

    fn check(reply: &str, body: &str, want: FailureKind) {
        let text = format!("HTTP/1.1 {}\r\n\r\n", reply.replace('\n', "\r\n"));
        let (head, _) = http1::parse_head(text.as_bytes()).unwrap().unwrap();
        let asked = Asked { size: Some(100), ..Asked::default() };
        let failure = classify(&head, &asked, body.as_bytes(), UNIX_EPOCH + Duration::from_secs(784_111_770));
        assert_eq!(failure.kind, want, "{reply} {body}: {failure}");
    }

    fn xml(code: &str, message: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"
        )
    }

    #[test]
    fn statuses_map_to_what_the_caller_can_do() {
        let wait = |seconds| Some(Duration::from_secs(seconds));
        for (reply, want) in [
            ("401 X", FailureKind::Denied),
            (
                "401 X\nWWW-Authenticate: Bearer error=\"invalid_token\", error_description=\"The token expired\"",
                FailureKind::Expired,
            ),
            ("401 X\nWWW-Authenticate: Bearer realm=\"x\", error=\"invalid_token\"", FailureKind::Expired),
            ("401 X\nWWW-Authenticate: Bearer realm=\"x\", error=\"insufficient_scope\"", FailureKind::Denied),
            ("403 X", FailureKind::Denied),
            ("407 X", FailureKind::Denied),
            ("404 X", FailureKind::Missing),
            ("410 X", FailureKind::Missing),
            ("412 X", FailureKind::Changed),
            ("416 X\nContent-Range: bytes */99", FailureKind::Changed),
            ("416 X\nContent-Range: bytes */100", FailureKind::BadReply),
            ("408 X", FailureKind::Unavailable { retry_after: NONE }),
            ("500 X\nRetry-After: 3", FailureKind::Unavailable { retry_after: wait(3) }),
            ("502 X", FailureKind::Unavailable { retry_after: NONE }),
            ("504 X", FailureKind::Unavailable { retry_after: NONE }),
            ("520 X", FailureKind::Unavailable { retry_after: NONE }),
            ("429 X\nRetry-After: 7", FailureKind::Throttled { retry_after: wait(7) }),
            ("429 X\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT", FailureKind::Throttled { retry_after: wait(7) }),
            ("429 X\nRateLimit: \"resolvers\";r=0;t=55", FailureKind::Throttled { retry_after: wait(55) }),
            ("429 X\nRateLimit: \"api\"; r=0; t=55\nRetry-After: 7", FailureKind::Throttled { retry_after: wait(7) }),
            ("429 X\nRateLimit: \"api\";r=9;t=55", FailureKind::Throttled { retry_after: NONE }),
            ("429 X\nRateLimit: \"api\";r=0", FailureKind::Throttled { retry_after: NONE }),
            ("503 X\nRetry-After: 1000000000", FailureKind::Throttled { retry_after: Some(RETRY_AFTER_MAX) }),
            ("503 X\nRetry-After: soon", FailureKind::Throttled { retry_after: NONE }),
            ("304 X", FailureKind::BadReply),
            ("300 X", FailureKind::BadReply),
            ("400 X", FailureKind::BadReply),
        ] {
            check(reply, "", want);
        }
    }

    #[test]
    fn s3_codes_say_more_than_the_status() {
        for (status, code, message, want) in [
            (400, "ExpiredToken", "The provided token has expired.", FailureKind::Expired),
            (403, "AccessDenied", "Request has expired", FailureKind::Expired),
            (403, "RequestTimeTooSkewed", "The difference is too large", FailureKind::Expired),
            (403, "AuthenticationFailed", "Signature not valid in the specified time frame", FailureKind::Expired),
            (403, "AccessDenied", "Access Denied", FailureKind::Denied),
            (403, "AuthenticationFailed", "Signature did not match", FailureKind::Denied),
            (401, "InvalidAuthenticationInfo", "x", FailureKind::Expired),
            (409, "PublicAccessNotPermitted", "x", FailureKind::Denied),
            (409, "BlobArchived", "x", FailureKind::Denied),
            (503, "ServerBusy", "x", FailureKind::Throttled { retry_after: NONE }),
            (403, "SignatureDoesNotMatch", "x", FailureKind::Denied),
            (400, "InvalidToken", "x", FailureKind::Denied),
            (400, "RequestTimeout", "x", FailureKind::Unavailable { retry_after: NONE }),
            (200, "InternalError", "x", FailureKind::Unavailable { retry_after: NONE }),
            (500, "SlowDown", "x", FailureKind::Throttled { retry_after: NONE }),
            (400, "NoSuchBucket", "x", FailureKind::Missing),
            (301, "PermanentRedirect", "x", FailureKind::BadReply),
        ] {
            check(&format!("{status} X"), &xml(code, message), want);
        }
    }

    #[test]
    fn a_named_version_that_is_gone_is_a_change_with_and_without_a_document() {
        let (head, _) = http1::parse_head(b"HTTP/1.1 404 X\r\n\r\n").unwrap().unwrap();
        let version = Version { version_id: Some("v1".to_owned()), ..Version::default() };
        let named = Asked { version, ..Asked::default() };
        for (body, of_named, of_any) in [
            (String::new(), FailureKind::Changed, FailureKind::Missing),
            (xml("NoSuchVersion", "x"), FailureKind::Changed, FailureKind::Missing),
            (xml("NoSuchKey", "x"), FailureKind::Changed, FailureKind::Missing),
            (xml("NoSuchBucket", "x"), FailureKind::Missing, FailureKind::Missing),
        ] {
            let kind = |asked: &Asked| classify(&head, asked, body.as_bytes(), UNIX_EPOCH).kind;
            assert_eq!((kind(&named), kind(&Asked::default())), (of_named, of_any), "{body}");
        }
    }

    #[test]
    fn waits_are_capped_and_garbage_is_ignored() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, want) in [
            ("0", Some(0)),
            (" 5 ", Some(5)),
            ("60", Some(60)),
            ("61", Some(60)),
            ("1000000000", Some(60)),
            ("99999999999999999999999999", Some(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 2094 08:49:37 GMT", Some(60)),
            ("Sun, 06 Nov 1970 08:49:37 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("tomorrow", None),
        ] {
            assert_eq!(retry_after(value, now), want.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn foreign_text_is_cleaned_before_it_is_shown() {
        let document =
            ErrorDocument::scan(xml("Access\u{1b}[31mDenied", "a\r\nb\t&lt;c&gt; &amp;lt; \u{202e}d").as_bytes());
        assert_eq!(document.code.as_deref(), Some("Access [31mDenied"));
        assert_eq!(document.message.as_deref(), Some("a b <c> &lt; d"));
        let long = clean(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), SHOWN_CHARS_MAX);
        assert!(clean(&"ab ".repeat(10_000)).chars().count() <= SHOWN_CHARS_MAX + 1);
    }

    #[test]
    fn other_documents_have_no_code() {
        for body in [
            "",
            "<html><Code>x</Code></html>",
            "<Error><Code>x",
            "<Error></Code><Code>",
            "{\"error\": 1}",
            "\u{feff}\0\0",
        ] {
            assert_eq!(ErrorDocument::scan(body.as_bytes()).code, None, "{body}");
        }
        let late = format!("{}<Error><Code>x</Code></Error>", " ".repeat(ERROR_BODY_BYTES_MAX));
        assert_eq!(ErrorDocument::scan(late.as_bytes()), ErrorDocument::default());
    }
}
