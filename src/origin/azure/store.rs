//! The origin itself: what is listed, described and authorised, in which order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Method;
use tokio::time::{sleep, timeout};

use super::api;
use super::credentials::{ConnectionString, Identity, Permit};
use super::listing;
use super::place::Place;
use super::signature::Scope;
use crate::error::{Error, Failure, FailureKind};
use crate::manifest::Entry;
use crate::origin::control::{Answer, Call, Control, Take, pause_asked};
use crate::origin::listing::{Listing, Object, basename};
use crate::origin::{Credential, Environment, Found, Origin, failed};
use crate::uri::AzureSource;
use crate::wire::refusal::RETRY_AFTER_MAX;
use crate::wire::{self, Access, Coding, Policy};

/// A page of a thousand blobs with full metadata takes about ten MiB.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// Tries of one call that the store answers badly. Unreachable hosts are tried by [`Control`] alone.
const ATTEMPTS_MAX: u32 = 5;

/// Pause before the first repeat, doubled each time: with [`ATTEMPTS_MAX`] about 8 s in all.
const PAUSE: Duration = Duration::from_millis(500);

/// Bound of one call with its repeats, and with two full waits that the store may ask for.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(150);

/// An Azure source with its credentials.
pub struct Azure {
    source: AzureSource,
    place: Place,
    control: Control,
    identity: Identity,
}

/// One question.
#[derive(Clone, Copy)]
enum Question<'a> {
    /// A page of names that begin with `prefix`.
    Page { prefix: &'a str, marker: Option<&'a str> },
    /// The properties of a blob.
    Blob(&'a str),
}

impl Azure {
    /// Finds endpoint and credentials of a source that `policy` named. Only issuers of tokens may be asked.
    ///
    /// # Errors
    /// [`Error::Usage`] for a bad setting; [`Error::Denied`] when configured credentials are refused,
    /// [`Error::Network`] when their issuer does not answer.
    pub async fn connect(
        source: &AzureSource,
        environment: &Environment,
        settings: Arc<wire::Settings>,
        policy: Policy,
    ) -> Result<Self, Error> {
        let connection = ConnectionString::read(environment)?;
        let place = Place::new(source, environment, connection.as_ref())?;
        // The endpoint is configuration, or Microsoft's own: a registry can name an account, no address.
        let control = Control::new(&settings, Policy::Configured)?;
        let identity = Identity::find(source, environment, &place, connection, policy, &settings).await?;
        Ok(Self { source: source.clone(), place, control, identity })
    }

    async fn list_source(&self) -> Result<Vec<Found>, Failure> {
        let name = self.source.blob.as_str();
        if name.is_empty() || name.ends_with('/') {
            return self.list_below(name).await;
        }
        match self.object(name).await {
            Ok(Some(object)) => Ok(vec![object.into_found(basename(name))]),
            Ok(None) => self.list_below(&format!("{name}/")).await,
            Err(failure) if failure.kind == FailureKind::Missing => self.list_below(&format!("{name}/")).await,
            Err(failure) => Err(failure),
        }
    }

    /// All blobs whose names begin with `prefix`, folders and their markers left out.
    async fn list_below(&self, prefix: &str) -> Result<Vec<Found>, Failure> {
        let mut listing = Listing::new(prefix);
        let mut marker: Option<String> = None;
        loop {
            let answer = self.ask(Question::Page { prefix, marker: marker.as_deref() }).await?;
            let next = listing::page(&answer.body).and_then(|page| listing.add(page));
            match next.map_err(|failure| self.explained(failure))? {
                Some(next) => marker = Some(next),
                None => return Ok(listing.into_found()),
            }
        }
    }

    /// The blob `name` as it is now; `None` for the stand-in of a folder.
    async fn object(&self, name: &str) -> Result<Option<Object>, Failure> {
        let blob = api::blob(name, &self.ask(Question::Blob(name)).await?);
        Ok((!blob.folder).then(|| blob.into_object()))
    }

    /// Asks one question, once more where a token is refused that was good before.
    async fn ask(&self, question: Question<'_>) -> Result<Answer, Failure> {
        let late = |_| Err(Failure::new(FailureKind::Stalled, "the store does not answer in time"));
        let asked = async {
            let permit = self.identity.permit(Scope::Container, &self.place).await?;
            match self.ask_with(question, &permit).await {
                Err(failure) if failure.kind == FailureKind::Expired && self.identity.renewed(&permit).await => {
                    tracing::debug!(reason = %failure.detail, "asking again with another token");
                    self.ask_with(question, &self.identity.permit(Scope::Container, &self.place).await?).await
                }
                other => other,
            }
        };
        timeout(OPERATION_TIMEOUT, asked).await.unwrap_or_else(late).map_err(|failure| self.explained(failure))
    }

    async fn ask_with(&self, question: Question<'_>, permit: &Permit) -> Result<Answer, Failure> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS_MAX {
            let answer = self.ask_once(question, permit).await;
            let Err(failure) = &answer else { return answer };
            let Some(asked) = pause_asked(failure) else { return answer };
            tracing::debug!(reason = %failure.detail, "asking again");
            sleep(asked.unwrap_or(pause).min(RETRY_AFTER_MAX)).await;
            pause *= 2;
        }
        self.ask_once(question, permit).await
    }

    async fn ask_once(&self, question: Question<'_>, permit: &Permit) -> Result<Answer, Failure> {
        let (method, url, take) = match question {
            Question::Page { prefix, marker } => {
                let url = self.place.page(prefix, marker, permit.query());
                (Method::GET, url, Take::Whole { bytes_max: REPLY_BYTES_MAX })
            }
            Question::Blob(name) => (Method::HEAD, self.place.blob(name, permit.query()), Take::Refusal),
        };
        let url = url::Url::parse(&url).map_err(|_| Failure::new(FailureKind::Refused, "not a URL"))?;
        let call = Call { method, url, headers: permit.headers()?, body: Bytes::new(), take };
        let answer = self.control.call(call).await?;
        if answer.status == 200 {
            return Ok(answer);
        }
        let mut failure = api::failure(&answer, permit.query());
        if answer.status == 401 && permit.token.is_some() {
            failure.kind = FailureKind::Expired;
        }
        Err(failure)
    }

    /// A failure in words a person can act on.
    fn explained(&self, failure: Failure) -> Failure {
        let (container, place) = (&self.source.container, self.place.shown());
        let whose = self.identity.describe();
        let text = match failure.kind {
            FailureKind::Denied | FailureKind::Expired => {
                format!("container `{container}` at {place} refuses access ({whose}): {failure}")
            }
            // What is private is not there for nobody.
            FailureKind::Missing if self.identity.is_nobody() => {
                format!("container `{container}` at {place}: {failure} ({whose})")
            }
            _ => format!("container `{container}` at {place}: {failure}"),
        };
        Failure::new(failure.kind, text)
    }
}

impl Origin for Azure {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
        Box::pin(async {
            let found = self.list_source().await.map_err(failed)?;
            if !found.is_empty() {
                return Ok(found);
            }
            let AzureSource { container, blob, .. } = &self.source;
            let what = match blob.as_str() {
                "" => "is empty".to_owned(),
                blob => format!("has neither a blob nor a folder `{blob}`"),
            };
            Err(Error::NotFound(format!("container `{container}` at {} {what}", self.place.shown())))
        })
    }

    fn stat<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<Entry, Failure>> {
        Box::pin(async move {
            let gone = || Failure::new(FailureKind::Missing, format!("`{}` is a folder now", entry.path));
            let found = self.object(&entry.object).await?.ok_or_else(gone)?.into_found("");
            let Found { object, size, version, ranges, stated, .. } = found;
            Ok(Entry { path: entry.path.clone(), object, size, version, ranges, stated })
        })
    }

    fn access<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        Box::pin(async move {
            let permit = self.identity.permit(Scope::Blob(&entry.object), &self.place).await?;
            let url = wire::Url::parse(&self.place.blob(&entry.object, permit.query()))?;
            let access = Access { url, headers: permit.secrets(), policy: Policy::Configured, coding: Coding::Kept };
            Ok((access, permit.holds))
        })
    }

    fn credential(&self) -> BoxFuture<'_, Option<Credential>> {
        let kind = self.identity.kind();
        Box::pin(async move { self.place.origin().ok().map(|origin| Credential { origin, kind }) })
    }

    fn describe(&self) -> String {
        format!("{}, {}", self.place.shown(), self.identity.describe())
    }
}
