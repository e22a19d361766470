//! JSON from a REST API: what registries are asked with.
//!
//! In: a path and a query below a base URL. Out: the reply as a type, with the class of the peer that sent it.
//! Holds: a reply is at most [`REPLY_BYTES_MAX`]; redirects are not followed; headers go to the base URL's origin only;
//! an error's text repeats no secret; a server that answers badly or hangs up is asked at most [`ATTEMPTS_MAX`] times.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, RANGE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::error::Error;
use crate::origin::control::{Answer, Call, Control, Take, class_of_peer, pause_asked, place, scrubbed};
use crate::origin::failed;
use crate::origin::http::size_by_first_byte;
use crate::secret::Secret;
use crate::wire::refusal::{self, clean};
use crate::wire::{self, Class, Policy};

/// Longest reply: a page of a few hundred entries with all their properties.
const REPLY_BYTES_MAX: usize = 4 << 20;

/// Tries of a request that is answered with 429 or a server error, or not at all by a server that was reached.
const ATTEMPTS_MAX: u32 = 3;

/// Pause before the first repeat, doubled for the next.
const PAUSE: Duration = Duration::from_millis(500);

/// Characters of a server's own words that an error repeats.
const MESSAGE_CHARS_MAX: usize = 160;

/// One REST API.
pub(crate) struct Rest {
    base: url::Url,
    control: Control,
    settings: Arc<wire::Settings>,
    login: Login,
}

/// As whom an API is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Login {
    /// Headers of every request.
    pub(crate) headers: HeaderMap,
    /// What a reply may echo and nobody may read, beside the headers.
    pub(crate) secrets: Vec<Secret>,
    /// The kind of credential, in words: for refusals and the audit log.
    pub(crate) kind: &'static str,
}

/// A reply that counts.
pub(crate) enum Said<T> {
    /// What was asked for, and where the peer that said so is.
    Yes(T, Class),
    /// A 400, 404 or 501.
    No(Refusal),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// Whether the API said so in its own form, rather than whatever stands in its place.
    pub(crate) by_api: bool,
    /// The API's words, cleaned and cut.
    pub(crate) message: String,
}

/// How the APIs that we ask write refusals.
#[derive(Deserialize)]
struct Document {
    message: Option<String>,
    code: Option<serde_json::Value>,
    error_code: Option<String>,
}

impl Rest {
    /// A client for the API below `base`, which `policy` named.
    ///
    /// # Errors
    /// [`Error::Policy`] for an address that may not be named, [`Error::Internal`] when no client can be made.
    pub(crate) fn new(
        base: url::Url,
        login: Login,
        settings: Arc<wire::Settings>,
        policy: Policy,
    ) -> Result<Self, Error> {
        crate::origin::control::admit(&base, policy)?;
        Ok(Self { control: Control::new(&settings, policy)?, base, settings, login })
    }

    /// Where requests go.
    ///
    /// # Errors
    /// As [`wire::Url::parse`].
    pub(crate) fn origin(&self) -> Result<wire::Origin, Error> {
        wire::Url::parse(self.base.as_str()).map(|url| url.origin()).map_err(failed)
    }

    /// Scheme, host and port.
    pub(crate) fn place(&self) -> String {
        place(&self.base)
    }

    /// As whom the API is asked.
    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    /// The URL of `path` and `query` below the base.
    pub(crate) fn url(&self, path: &[&str], query: &[(&str, &str)]) -> url::Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// [`Error::Denied`] for 401 and 403, [`Error::Policy`] for a redirect, [`Error::Network`] for everything else
    /// that is no [`Said`].
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Said<T>, Error> {
        let url = self.url(path, query);
        let mut headers = self.login.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self.ask(&url, &headers, Take::Whole { bytes_max: REPLY_BYTES_MAX }).await?;
        self.judge(&url, &answer)
    }

    /// The size of the file at `url`, by its first byte; `None` where the server does not say.
    ///
    /// # Errors
    /// As [`Rest::get`]; [`Error::NotFound`] for a file that is not there.
    pub(crate) async fn size_of(&self, url: &url::Url) -> Result<Option<u64>, Error> {
        let mut headers = self.login.headers.clone();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let answer = self.ask(url, &headers, Take::Refusal).await?;
        match answer.status {
            200 | 206 | 416 => size_by_first_byte(&answer).map_err(failed),
            _ => match self.judge::<serde_json::Value>(url, &answer)? {
                Said::No(refusal) => Err(Error::NotFound(format!("{}: {}", self.place(), refusal.message))),
                Said::Yes(..) => Ok(None),
            },
        }
    }

    /// Asks again after limits, server errors and broken or silent connections.
    async fn ask(&self, url: &url::Url, headers: &HeaderMap, take: Take) -> Result<Answer, Error> {
        let call =
            || Call { method: Method::GET, url: url.clone(), headers: headers.clone(), body: Bytes::new(), take };
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS_MAX {
            let answer = self.control.call(call()).await;
            let wait = match &answer {
                Ok(Answer { status: 429 | 500 | 502..=599, headers, .. }) => {
                    let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                    asked.and_then(|value| refusal::retry_after(value, SystemTime::now()))
                }
                Err(failure) if pause_asked(failure).is_some() => None,
                Ok(_) | Err(_) => return answer.map_err(failed),
            };
            sleep(wait.unwrap_or(pause)).await;
            pause *= 2;
        }
        self.control.call(call()).await.map_err(failed)
    }

    fn judge<T: DeserializeOwned>(&self, url: &url::Url, answer: &Answer) -> Result<Said<T>, Error> {
        let place = self.place();
        let message = || self.message(&answer.body);
        match answer.status {
            200..=299 => {
                let value = serde_json::from_slice(&answer.body).map_err(|error| {
                    // Without the parser's words: they quote the reply, which may echo the login.
                    let at = format!("line {} column {}", error.line(), error.column());
                    let path = url.path();
                    Error::Network(format!("{place}{path} answers with something else than it should, at {at}"))
                })?;
                let url = wire::Url::parse(url.as_str()).map_err(failed)?;
                Ok(Said::Yes(value, class_of_peer(&url, answer.peer, &self.settings)))
            }
            401 | 403 => {
                let login = self.login.kind;
                Err(Error::Denied(format!("{place} refuses access ({login}): {}", message())))
            }
            status @ (400 | 404 | 501) => {
                let document = serde_json::from_slice::<Document>(&answer.body).ok();
                let by_api = document.is_some_and(|it| it.message.or(it.error_code).is_some() || it.code.is_some());
                Ok(Said::No(Refusal { status, by_api, message: message() }))
            }
            300..=399 => Err(Error::Policy(format!("{place} redirects elsewhere: refused; name the server itself"))),
            status => Err(Error::Network(format!("{place} answers with status {status}: {}", message()))),
        }
    }

    /// What a refusal says in words.
    fn message(&self, body: &[u8]) -> String {
        let secrets = self.login.secrets.iter().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>();
        let body = scrubbed(&body[..body.len().min(64 << 10)], &secrets);
        let text = match serde_json::from_slice::<Document>(&body) {
            Ok(Document { message: Some(message), .. }) => message,
            Ok(Document { error_code: Some(code), .. }) => code,
            _ => String::from_utf8_lossy(&body).into_owned(),
        };
        let text: String = clean(&text).chars().take(MESSAGE_CHARS_MAX).collect();
        if text.trim().is_empty() { "no reason given".to_owned() } else { text }
    }
}

/// The value of a header that must not be shown.
///
/// # Errors
/// [`Error::Usage`], naming `what`, when it makes no header.
pub(crate) fn secret_header(what: &str, value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value)
        .ok()
        .filter(|value| value.to_str().is_ok())
        .ok_or_else(|| Error::Usage(format!("{what} is not plain text")))?;
    value.set_sensitive(true);
    Ok(value)
}
