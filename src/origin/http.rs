//! One file of a web server: described by HEAD, or by the first byte where HEAD is refused.
//!
//! In: an [`HttpSource`]. Out: an [`Origin`] with one object, named after SRC.
//! Holds: userinfo and bound headers go to SRC's own origin only; redirects obey [`redirect::decide`], hop by hop; no body is read
//! but the text of a refusal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, LOCATION, RANGE, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::time::sleep;

use crate::error::{Error, Failure, FailureKind};
use crate::manifest::{Entry, Ranges, Stated, Version};
use crate::origin::control::{Answer, Call, Control, Take, admit, class_of_peer, head_of, pause_asked, scrubbed};
use crate::origin::sums::{self, Scope};
use crate::origin::{Credential, Environment, Found, Origin, failed};
use crate::secret::Secret;
use crate::uri::HttpSource;
use crate::wire::http1::{Head, content_length, decimal};
use crate::wire::refusal::{self, RETRY_AFTER_MAX};
use crate::wire::{self, Access, Asked, Coding, Policy, check, redirect};

/// Tries of the deciding request against a server that answers badly.
const ATTEMPTS_MAX: u32 = 3;

/// Pause after the first bad answer; doubled after the next.
const PAUSE: Duration = Duration::from_millis(500);

/// What frames a request, and is never the user's.
pub(super) const OWN_HEADERS: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, TE, UPGRADE, EXPECT];

/// A file at a URL.
pub struct Http {
    source: HttpSource,
    settings: Arc<wire::Settings>,
    control: Control,
    login: Option<HeaderValue>,
    /// Whether the login is one of the bound headers.
    login_is_bound: bool,
    /// The user's own headers for this origin.
    bound: HeaderMap,
    /// Who named the source.
    policy: Policy,
}

/// What a server says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    size: Option<u64>,
    version: Version,
    ranges: Ranges,
    stated: Vec<Stated>,
}

/// How a file is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Head,
    /// `Range: bytes=0-0`: what presigned links and picky servers answer.
    FirstByte,
}

impl Http {
    /// An origin for `source`, named by `policy`, with the headers that the variable `<host>-headers` holds for it.
    /// Asks nothing yet.
    ///
    /// # Errors
    /// [`Error::Usage`] for headers that are none, [`Error::Policy`] for an address that may not be named,
    /// [`Error::Internal`] when no client can be made.
    pub fn new(
        source: &HttpSource,
        environment: &Environment,
        settings: Arc<wire::Settings>,
        policy: Policy,
    ) -> Result<Self, Error> {
        admit(source.url(), policy)?;
        let control = Control::new(&settings, policy)?;
        let mut bound = bound_headers(source.url().host_str().unwrap_or_default(), environment)?;
        let userinfo = source.userinfo().map(|userinfo| control.basic(userinfo)).transpose()?;
        let own = bound.remove(AUTHORIZATION);
        let login_is_bound = own.is_some();
        let login = own.or(userinfo);
        Ok(Self { source: source.clone(), settings, control, login, login_is_bound, bound, policy })
    }

    /// What goes to SRC's own origin and to no other.
    fn headers(&self) -> HeaderMap {
        let mut headers = self.bound.clone();
        headers.extend(self.login.iter().map(|login| (AUTHORIZATION, login.clone())));
        headers
    }

    /// As whom the server is asked, by what was configured.
    fn asked_as(&self) -> String {
        let host = self.source.url().host_str().unwrap_or_default();
        let login = self.source.userinfo().map(|_| "the login in the URL".to_owned());
        let headers = (self.login_is_bound || !self.bound.is_empty()).then(|| format!("headers from {host}-headers"));
        let signed = self.source.is_signed().then(|| "a signed link".to_owned());
        let given: Vec<String> = [login, headers, signed].into_iter().flatten().collect();
        if given.is_empty() { "no login was given".to_owned() } else { format!("with {}", given.join(" and ")) }
    }

    async fn facts(&self) -> Result<Facts, Failure> {
        match self.ask(Probe::Head).await.and_then(|answer| facts(Probe::Head, &answer)) {
            // A HEAD without length, or with the length of its own missing body, leaves the question open.
            Ok(facts) if facts.size.is_some_and(|size| 0 < size) => return Ok(facts),
            Ok(_) => {}
            Err(failure) if matches!(failure.kind, FailureKind::Unreachable | FailureKind::Refused) => {
                return Err(failure);
            }
            Err(failure) => tracing::debug!(reason = %failure.detail, "HEAD is refused; asking for the first byte"),
        }
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS_MAX {
            let answer = self.ask(Probe::FirstByte).await.and_then(|answer| facts(Probe::FirstByte, &answer));
            let Err(failure) = &answer else { return answer };
            let Some(asked) = pause_asked(failure) else { return answer };
            sleep(asked.unwrap_or(pause).min(RETRY_AFTER_MAX)).await;
            pause *= 2;
        }
        self.ask(Probe::FirstByte).await.and_then(|answer| facts(Probe::FirstByte, &answer))
    }

    /// Asks along redirects; the last answer.
    async fn ask(&self, probe: Probe) -> Result<Answer, Failure> {
        let mut url = wire::Url::parse(self.source.url().as_str())?;
        let home = url.origin();
        let mut control = self.control.clone();
        let mut hops = 0;
        loop {
            let bound = if url.origin() == home { self.headers() } else { HeaderMap::new() };
            let answer = control.call(call(probe, &url, bound)?).await?;
            if !redirect::is_redirect(answer.status) {
                return self.accepted(&url, answer);
            }
            let Some(location) = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
                return Err(Failure::new(FailureKind::BadReply, format!("{url}: a redirect that leads nowhere")));
            };
            let class = class_of_peer(&url, answer.peer, &self.settings);
            url = redirect::decide(&url, class, location, hops)?;
            hops += 1;
            let policy = if url.origin() == home { self.policy } else { Policy::NamedBy(class) };
            control = Control::new(&self.settings, policy)
                .map_err(|error| Failure::new(FailureKind::Refused, error.to_string()))?;
        }
    }

    /// An answer that is none of the refusals.
    fn accepted(&self, url: &wire::Url, answer: Answer) -> Result<Answer, Failure> {
        let head = head_of(&answer);
        if matches!(answer.status, 200 | 206) || answer.status == 416 && unsatisfied_size(&head).is_some() {
            return Ok(answer);
        }
        // The login's own words: the control client knows only their encoded form.
        let login = self.source.userinfo().into_iter().flat_map(|secret| secret.expose().split(':'));
        let headers = self.headers();
        // `Bearer x` leaks as `x` too.
        let headers = headers.values().filter_map(|value| value.to_str().ok());
        let headers = headers.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or(value)]);
        let body = scrubbed(&answer.body, &login.chain(headers).map(str::to_owned).collect::<Vec<_>>());
        let failure = refusal::classify(&head, &Asked::default(), &body, SystemTime::now());
        let hint = match failure.kind {
            FailureKind::Denied | FailureKind::Expired => format!(" ({})", self.asked_as()),
            _ => String::new(),
        };
        Err(Failure::new(failure.kind, format!("{url}: {}{hint}", failure.detail)))
    }
}

impl Origin for Http {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
        Box::pin(async {
            let path = self.source.file_name()?;
            let Facts { size, version, ranges, stated } = self.facts().await.map_err(failed)?;
            Ok(vec![Found { path, object: self.source.canonical(), size, version, ranges, stated }])
        })
    }

    fn stat<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<Entry, Failure>> {
        Box::pin(async move {
            let Facts { size, version, ranges, stated } = self.facts().await?;
            Ok(Entry { path: entry.path.clone(), object: entry.object.clone(), size, version, ranges, stated })
        })
    }

    fn access<'a>(&'a self, _: &'a Entry) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        Box::pin(async move {
            let url = wire::Url::parse(self.source.url().as_str())?;
            let bound = self.headers();
            let header = |(name, value): (&HeaderName, &HeaderValue)| {
                Some((name.as_str().to_owned(), Secret::new(value.to_str().ok()?)))
            };
            let headers = bound.iter().filter_map(header).collect();
            Ok((Access { url, headers, policy: self.policy, coding: Coding::Identity }, None))
        })
    }

    fn credential(&self) -> BoxFuture<'_, Option<Credential>> {
        let kind = match (&self.login, self.source.userinfo(), self.bound.is_empty()) {
            (Some(_), Some(_), true) => "basic login",
            (Some(_), Some(_), false) => "basic login and bound headers",
            (Some(_), None, _) | (None, _, false) => "bound headers",
            (None, _, true) if self.source.is_signed() => "signed link",
            (None, _, true) => "none",
        };
        let url = wire::Url::parse(self.source.url().as_str());
        Box::pin(async move { url.ok().map(|url| Credential { origin: url.origin(), kind }) })
    }

    fn describe(&self) -> String {
        format!("{}, {}", crate::origin::control::place(self.source.url()), self.asked_as())
    }
}

/// The headers that `<host>-headers` holds, a JSON object; those that dray must say itself are left out.
///
/// # Errors
/// [`Error::Usage`] when they are none; the values are never repeated.
fn bound_headers(host: &str, environment: &Environment) -> Result<HeaderMap, Error> {
    let name = format!("{host}-headers");
    let Some(text) = environment.var(&name) else { return Ok(HeaderMap::new()) };
    let wrong = |why: &str| Error::Usage(format!("{} {why}", refusal::clean(&name)));
    let Ok(pairs) = serde_json::from_str::<BTreeMap<String, String>>(text) else {
        return Err(wrong("is not a JSON object of texts"));
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong("holds a name that is none"))?;
        let value = HeaderValue::from_str(value.trim()).ok().filter(|value| value.to_str().is_ok());
        let mut value = value.ok_or_else(|| wrong("holds a value that is not plain text"))?;
        value.set_sensitive(true);
        // Ranges, encodings, framing: what is asked decides what a reply means.
        if !redirect::may_forward(name.as_str()) && !OWN_HEADERS.contains(&name) {
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

fn call(probe: Probe, url: &wire::Url, bound: HeaderMap) -> Result<Call, Failure> {
    let mut headers = bound;
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let method = match probe {
        Probe::Head => Method::HEAD,
        Probe::FirstByte => {
            headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
            Method::GET
        }
    };
    let url = url::Url::parse(url.expose()).map_err(|_| Failure::new(FailureKind::Refused, "not a URL"))?;
    Ok(Call { method, url, headers, body: Bytes::new(), take: Take::Refusal })
}

/// The size that an answer to a request for the first byte states.
///
/// # Errors
/// `BadReply` for lengths that contradict each other.
pub(super) fn size_by_first_byte(answer: &Answer) -> Result<Option<u64>, Failure> {
    facts(Probe::FirstByte, answer).map(|facts| facts.size)
}

/// What an accepted answer says of the file.
fn facts(probe: Probe, answer: &Answer) -> Result<Facts, Failure> {
    let head = head_of(answer);
    let etag = head.first("etag").filter(|etag| etag.starts_with('"') && 2 < etag.len());
    let version = Version {
        etag: etag.map(str::to_owned),
        last_modified: head.first("last-modified").map(str::to_owned),
        ..Version::default()
    };
    let encoded = head
        .all("content-encoding")
        .any(|coding| !coding.trim().is_empty() && !coding.trim().eq_ignore_ascii_case("identity"));
    let refused = head.all("accept-ranges").any(|unit| unit.trim().eq_ignore_ascii_case("none"));
    let length = content_length(&head)?;
    let (size, ranges) = match (probe, answer.status) {
        (_, 416) => (unsatisfied_size(&head), Ranges::Refused),
        (Probe::Head, _) => (length, Ranges::Assumed),
        (Probe::FirstByte, 206) => {
            let range = head.first("content-range").and_then(check::content_range);
            let first = range.filter(|range| range.range.is_some_and(|range| range.start == 0 && range.end == 1));
            match first {
                Some(range) => (range.size, Ranges::Assumed),
                None => (None, Ranges::Refused),
            }
        }
        // The whole file where one byte was asked.
        (Probe::FirstByte, _) => (length, Ranges::Refused),
    };
    let ranges = if refused { Ranges::Refused } else { ranges };
    let scope = if answer.status == 200 { Scope::Whole } else { Scope::Range };
    let stated = if encoded { Vec::new() } else { sums::of_reply(&head, scope) };
    Ok(Facts { size: size.filter(|_| !encoded), version, ranges, stated })
}

/// The size a 416 states: 0 for an empty file, whose first byte nobody can send.
fn unsatisfied_size(head: &Head) -> Option<u64> {
    let text = head.first("content-range")?.trim().strip_prefix("bytes")?.trim();
    decimal(text.strip_prefix("*/")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(probe: Probe, status: u16, headers: &[(&str, &str)], size: Option<u64>, ranges: Ranges) -> Version {
        let headers = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let answer = Answer { status, headers: headers.collect(), body: Bytes::new(), peer: None };
        let facts = facts(probe, &answer).unwrap();
        assert_eq!((facts.size, facts.ranges), (size, ranges), "{probe:?} {status}");
        facts.version
    }

    #[test]
    fn a_head_tells_size_version_and_ranges() {
        let version = check(
            Probe::Head,
            200,
            &[
                ("content-length", "7"),
                ("etag", "\"e\""),
                ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("accept-ranges", "bytes"),
            ],
            Some(7),
            Ranges::Assumed,
        );
        assert_eq!(version.etag.as_deref(), Some("\"e\""));
        assert_eq!(version.last_modified.as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        check(Probe::Head, 200, &[("content-length", "7"), ("accept-ranges", "None")], Some(7), Ranges::Refused);
        check(Probe::Head, 200, &[], None, Ranges::Assumed);
    }

    #[test]
    fn weak_and_broken_etags_are_dropped() {
        for etag in ["W/\"e\"", "e", "\"\"", ""] {
            let version = check(Probe::Head, 200, &[("content-length", "7"), ("etag", etag)], Some(7), Ranges::Assumed);
            assert_eq!(version, Version::default(), "{etag}");
        }
    }

    #[test]
    fn a_first_byte_tells_the_size_of_the_rest() {
        let range = |text| [("content-length", "1"), ("content-range", text)];
        check(Probe::FirstByte, 206, &range("bytes 0-0/1234"), Some(1234), Ranges::Assumed);
        check(Probe::FirstByte, 206, &range("bytes 0-0/*"), None, Ranges::Assumed);
        check(Probe::FirstByte, 206, &range("bytes 5-5/1234"), None, Ranges::Refused);
        check(Probe::FirstByte, 206, &range("potato"), None, Ranges::Refused);
        check(Probe::FirstByte, 200, &[("content-length", "99")], Some(99), Ranges::Refused);
        check(Probe::FirstByte, 200, &[("transfer-encoding", "chunked")], None, Ranges::Refused);
        check(Probe::FirstByte, 416, &[("content-range", "bytes */0")], Some(0), Ranges::Refused);
    }

    #[test]
    fn encoded_replies_tell_no_size() {
        check(Probe::Head, 200, &[("content-length", "7"), ("content-encoding", "gzip")], None, Ranges::Assumed);
        check(Probe::Head, 200, &[("content-length", "7"), ("content-encoding", "identity")], Some(7), Ranges::Assumed);
        check(
            Probe::FirstByte,
            206,
            &[("content-range", "bytes 0-0/9"), ("content-encoding", "br")],
            None,
            Ranges::Assumed,
        );
    }

    #[test]
    fn headers_are_read_for_their_host_alone() {
        let names = |host: &str, text: &str| {
            let environment = Environment::new([("models.example.com-headers".to_owned(), text.to_owned())]);
            let headers = bound_headers(host, &environment);
            headers.map(|headers| headers.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>())
        };
        let host = "models.example.com";
        assert_eq!(names(host, r#"{"X-Token": "canary"}"#), Ok(vec!["x-token".to_owned()]));
        assert_eq!(names("example.com", r#"{"X-Token": "canary"}"#), Ok(vec![]));
        assert_eq!(names(host, r#"{"Range": "bytes=0-1", "Host": "x", "Accept-Encoding": "gzip"}"#), Ok(vec![]));
        assert_eq!(names(host, "{}"), Ok(vec![]));
        for text in [
            "canary",
            "[]",
            r#"{"a": 1}"#,
            r#"{"a b": "canary"}"#,
            r#"{"a": "canary
x: y"}"#,
        ] {
            let Err(Error::Usage(why)) = names(host, text) else { panic!("{text}") };
            assert!(!why.contains("canary"), "{why}");
        }
    }

    #[test]
    fn lengths_that_contradict_are_no_answer() {
        let headers = [("content-length", "7"), ("content-length", "8")];
        let headers =
            headers.map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let answer = Answer { status: 200, headers: headers.into_iter().collect(), body: Bytes::new(), peer: None };
        assert_eq!(facts(Probe::Head, &answer).unwrap_err().kind, FailureKind::BadReply);
    }
}
