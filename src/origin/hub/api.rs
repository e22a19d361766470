//! Requests to the Hub: the token where it belongs, redirects by hand, patience with limits, refusals in plain words.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::sleep;

use super::settings::Settings;
use crate::error::{Error, Failure, FailureKind};
use crate::origin::control::{Answer, Call, Control, Take, class_of_peer, head_of, place, scrubbed};
use crate::secret::Secret;
use crate::uri::HubSource;
use crate::wire::refusal::{self, RETRY_AFTER_MAX};
use crate::wire::{self, Asked, Policy, redirect};

/// Largest answer that is read: a thousand entries of a tree take a third of a mebibyte.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Tries of one request against limits and failing servers.
const ATTEMPTS_MAX: u32 = 6;

/// Pause after the first bad answer that asks for none; doubled after the next.
const PAUSE: Duration = Duration::from_millis(500);

/// What stands in a URL as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The Hub of one run.
pub(super) struct Api {
    pub(super) settings: Settings,
    wire: Arc<wire::Settings>,
    control: Control,
    endpoint: url::Url,
    authorization: Option<HeaderValue>,
}

/// How one thing is asked.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// Its whole text.
    Get,
    /// Whether it may be had: its first byte, which also those give who refuse every HEAD.
    FirstByte,
    /// The answer to a form.
    Post(Bytes),
}

impl Api {
    /// A client for the Hub of `settings`. Asks nothing.
    ///
    /// # Errors
    /// [`Error::Internal`] when no client can be made.
    pub(super) fn new(settings: Settings, wire: Arc<wire::Settings>) -> Result<Self, Error> {
        let odd = |what: &str| Error::Internal(format!("the Hub's {what} was checked and is not one"));
        let control = Control::new(&wire, Policy::Configured)?;
        let endpoint = url::Url::parse(&settings.endpoint).map_err(|_| odd("endpoint"))?;
        let header = |token: &Secret| {
            let mut value = HeaderValue::from_str(&bearer(token)).map_err(|_| odd("token"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let authorization = settings.token.as_ref().map(header).transpose()?;
        Ok(Self { settings, wire, control, endpoint, authorization })
    }

    /// Scheme, host and port of the Hub.
    pub(super) fn place(&self) -> String {
        place(&self.endpoint)
    }

    /// What data requests carry, at the Hub's own origin only.
    pub(super) fn headers(&self) -> Vec<(String, Secret)> {
        let token = self.settings.token.iter();
        token.map(|token| ("authorization".to_owned(), Secret::new(bearer(token)))).collect()
    }

    /// The URL of `file` of the repository at `commit`.
    pub(super) fn file_url(&self, source: &HubSource, commit: &str, file: &str) -> String {
        let (prefix, id) = (source.kind.prefix(), source.id());
        format!("{}/{prefix}{id}/resolve/{commit}/{}", self.settings.endpoint, encoded_path(file))
    }

    /// The URL of `what` the API knows about the repository.
    pub(super) fn api_url(&self, source: &HubSource, what: &str) -> String {
        format!("{}/api/{}/{}/{what}", self.settings.endpoint, source.kind.plural(), source.id())
    }

    /// Asks along redirects, again after limits and server errors; an answer that is none of the refusals.
    ///
    /// # Errors
    /// What the refusal means for `source`.
    pub(super) async fn ask(&self, source: &HubSource, url: &str, ask: &Ask) -> Result<Answer, Failure> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS_MAX {
            let result = self.once(source, url, ask).await;
            let wait = match result.as_ref().map_err(|failure| failure.kind) {
                Err(FailureKind::Throttled { retry_after } | FailureKind::Unavailable { retry_after }) => retry_after,
                Err(FailureKind::Broken | FailureKind::Stalled) => None,
                Ok(_) | Err(_) => return result,
            };
            sleep(wait.unwrap_or(pause).min(RETRY_AFTER_MAX)).await;
            pause *= 2;
        }
        self.once(source, url, ask).await
    }

    /// Asks along redirects, once.
    ///
    /// # Errors
    /// As [`Api::ask`].
    pub(super) async fn once(&self, source: &HubSource, url: &str, ask: &Ask) -> Result<Answer, Failure> {
        let mut url = wire::Url::parse(url)?;
        let home = url.origin();
        let mut control = self.control.clone();
        let mut hops = 0;
        loop {
            let token = self.authorization.as_ref().filter(|_| url.origin() == home);
            let answer = control.call(call(ask, &url, token)?).await?;
            let moved = redirect::is_redirect(answer.status);
            // Where a file is said to be is a matter of the wire: that it may be had is all that was asked.
            if matches!(answer.status, 200..=299) || (moved && matches!(ask, Ask::FirstByte)) {
                return Ok(answer);
            }
            if !moved {
                return Err(self.refused(source, &answer));
            }
            let Some(location) = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
                return Err(Failure::new(FailureKind::BadReply, format!("{url}: a redirect that leads nowhere")));
            };
            let class = class_of_peer(&url, answer.peer, &self.wire);
            url = redirect::decide(&url, class, location, hops)?;
            hops += 1;
            if url.origin() != home {
                control = Control::new(&self.wire, Policy::NamedBy(class))
                    .map_err(|error| Failure::new(FailureKind::Refused, error.to_string()))?;
            }
        }
    }

    /// What a refusal means: the Hub says it in `X-Error-Code`, and hides private repositories behind 401 and 404.
    fn refused(&self, source: &HubSource, answer: &Answer) -> Failure {
        let (place, id) = (self.place(), source.id());
        let page = format!("{}/{}{id}", self.settings.endpoint, source.kind.prefix());
        let known = self.settings.token.is_some();
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let fail = |kind, text: String| Failure::new(kind, text);
        match (header("x-error-code"), answer.status) {
            ("GatedRepo", _) if known => fail(
                FailureKind::Denied,
                format!(
                    "`{id}` is gated, and the account of {} has no access: ask for it at {page}",
                    self.settings.asked_as()
                ),
            ),
            ("GatedRepo", _) => fail(
                FailureKind::Denied,
                format!("`{id}` is gated: ask for access at {page} and set HF_TOKEN to a token of that account"),
            ),
            ("RevisionNotFound", _) => {
                fail(FailureKind::Missing, format!("`{id}` at {place} has no revision `{}`", source.revision()))
            }
            ("EntryNotFound", _) => fail(
                FailureKind::Missing,
                format!("`{id}` at {place} has nothing at `{}` in revision `{}`", source.path, source.revision()),
            ),
            // An anonymous caller is told 401 of a repository that does not exist as well.
            ("RepoNotFound", _) | ("", 404) if known => fail(
                FailureKind::Missing,
                format!("`{id}` is not found at {place}, or is private and this token has no right to it"),
            ),
            ("RepoNotFound", _) | ("", 401 | 404) if !known => {
                fail(FailureKind::Missing, format!("`{id}` is not found at {place}; if it is private, set HF_TOKEN"))
            }
            ("", 401) => {
                let asked_as = self.settings.asked_as();
                fail(FailureKind::Denied, format!("{place} does not accept {asked_as} (401)"))
            }
            _ => {
                let failure = refusal::classify(&head_of(answer), &Asked::default(), &answer.body, SystemTime::now());
                let tokens: Vec<String> = self.settings.token.iter().map(|token| token.expose().to_owned()).collect();
                let said = scrubbed(header("x-error-message").as_bytes(), &tokens);
                let said = refusal::clean(&String::from_utf8_lossy(&said));
                let said = if said.is_empty() { said } else { format!(": {said}") };
                let asked_as = match failure.kind {
                    FailureKind::Denied | FailureKind::Expired => format!(" ({})", self.settings.asked_as()),
                    _ => String::new(),
                };
                fail(failure.kind, format!("{place}, `{id}`: {}{said}{asked_as}", failure.detail))
            }
        }
    }
}

fn bearer(token: &Secret) -> String {
    format!("Bearer {}", token.expose())
}

fn call(ask: &Ask, url: &wire::Url, token: Option<&HeaderValue>) -> Result<Call, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.extend(token.map(|token| (AUTHORIZATION, token.clone())));
    let whole = Take::Whole { bytes_max: ANSWER_BYTES_MAX };
    let (method, body, take) = match ask {
        Ask::Get => (Method::GET, Bytes::new(), whole),
        Ask::FirstByte => {
            headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
            (Method::GET, Bytes::new(), Take::Refusal)
        }
        Ask::Post(form) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            (Method::POST, form.clone(), whole)
        }
    };
    let url = url::Url::parse(url.expose()).map_err(|_| Failure::new(FailureKind::Refused, "not a URL"))?;
    Ok(Call { method, url, headers, body, take })
}

/// One segment of a URL's path; a slash in a revision's name is not one between segments.
pub(super) fn encoded(segment: &str) -> String {
    utf8_percent_encode(segment, PLAIN).to_string()
}

/// A path of several segments.
pub(super) fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}
