//! The origin itself: what is listed, described and authorised, in which order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::{sleep, timeout};

use super::api;
use super::credentials::Identity;
use super::place::Place;
use crate::error::{Error, Failure, FailureKind};
use crate::manifest::Entry;
use crate::origin::control::{Call, Control, Take, pause_asked};
use crate::origin::listing::{Listing, Object, basename};
use crate::origin::{Credential, Environment, Found, Origin, failed};
use crate::uri::GcsSource;
use crate::wire::refusal::RETRY_AFTER_MAX;
use crate::wire::{self, Access, Coding, Policy};

/// A page of a thousand long names takes about two MiB.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// Tries of one call that the store answers badly. Unreachable hosts are tried by [`Control`] alone.
const ATTEMPTS_MAX: u32 = 5;

/// Pause before the first repeat, doubled each time: with [`ATTEMPTS_MAX`] about 8 s in all.
const PAUSE: Duration = Duration::from_millis(500);

/// Bound of one call with its repeats, and with two full waits that the store may ask for.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(150);

/// A GCS source with its credentials.
pub struct Gcs {
    source: GcsSource,
    place: Place,
    control: Control,
    identity: Identity,
}

impl Gcs {
    /// Finds endpoint and credentials. Only those who issue credentials may be asked.
    ///
    /// # Errors
    /// [`Error::Usage`] for a bad setting; [`Error::Denied`] when configured credentials are refused,
    /// [`Error::Network`] when their issuer does not answer.
    pub async fn connect(
        source: &GcsSource,
        environment: &Environment,
        settings: Arc<wire::Settings>,
    ) -> Result<Self, Error> {
        let place = Place::new(environment)?;
        let control = Control::new(&settings, Policy::Configured)?;
        let identity =
            if place.is_emulator() { Identity::of_emulator() } else { Identity::find(environment, &control).await? };
        Ok(Self { source: source.clone(), place, control, identity })
    }

    async fn list_source(&self) -> Result<Vec<Found>, Failure> {
        let name = self.source.object.as_str();
        if name.is_empty() || name.ends_with('/') {
            return self.list_below(name).await;
        }
        match self.object(name).await {
            Ok(object) => Ok(vec![object.into_found(basename(name))]),
            Err(failure) if failure.kind == FailureKind::Missing => self.list_below(&format!("{name}/")).await,
            Err(failure) => Err(failure),
        }
    }

    /// All objects whose names begin with `prefix`, folder markers left out.
    async fn list_below(&self, prefix: &str) -> Result<Vec<Found>, Failure> {
        let mut listing = Listing::new(prefix);
        let mut token: Option<String> = None;
        loop {
            let body = self.ask(&self.place.page(&self.source.bucket, prefix, token.as_deref())).await?;
            let next = api::page(&body).and_then(|page| listing.add(page));
            match next.map_err(|failure| self.explained(failure))? {
                Some(next) => token = Some(next),
                None => return Ok(listing.into_found()),
            }
        }
    }

    /// The object `name` as it is now.
    async fn object(&self, name: &str) -> Result<Object, Failure> {
        let object = api::object(&self.ask(&self.place.object(&self.source, name)).await?);
        match object.map_err(|failure| self.explained(failure))? {
            object if object.key == name => Ok(object),
            _ => {
                let failure = Failure::new(FailureKind::BadReply, "another object is described than was asked for");
                Err(self.explained(failure))
            }
        }
    }

    /// Asks one URL of the API. What a machine's own account is refused is asked as nobody: the bucket may be public.
    async fn ask(&self, url: &str) -> Result<Bytes, Failure> {
        let late = |_| Err(Failure::new(FailureKind::Stalled, "the store does not answer in time"));
        let asked = async {
            let refused = match self.ask_as_ourselves(url).await {
                Err(failure) if is_refusal(&failure) && self.identity.may_be_public() => failure,
                other => return other,
            };
            let answer = self.ask_with(url, HeaderMap::new()).await;
            if answer.as_ref().map_or_else(|failure| failure.kind == FailureKind::Missing, |_| true) {
                tracing::debug!(reason = %refused.detail, "the machine's account is refused; going on as nobody");
                self.identity.become_public();
                return answer;
            }
            Err(refused)
        };
        timeout(OPERATION_TIMEOUT, asked).await.unwrap_or_else(late).map_err(|failure| self.explained(failure))
    }

    /// Asks with our token, and once more with another where the store calls it ended.
    async fn ask_as_ourselves(&self, url: &str) -> Result<Bytes, Failure> {
        let headers = self.identity.headers().await?;
        let token = headers.get(AUTHORIZATION).cloned();
        match (self.ask_with(url, headers).await, token) {
            (Err(failure), Some(token)) if failure.kind == FailureKind::Expired => {
                self.identity.renew(&token).await?;
                self.ask_with(url, self.identity.headers().await?).await
            }
            (answer, _) => answer,
        }
    }

    async fn ask_with(&self, url: &str, mut headers: HeaderMap) -> Result<Bytes, Failure> {
        let url = url::Url::parse(url).map_err(|_| Failure::new(FailureKind::Refused, "not a URL"))?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS_MAX {
            let answer = self.ask_once(&url, &headers).await;
            let Err(failure) = &answer else { return answer };
            let Some(asked) = pause_asked(failure) else { return answer };
            tracing::debug!(reason = %failure.detail, "asking again");
            sleep(asked.unwrap_or(pause).min(RETRY_AFTER_MAX)).await;
            pause *= 2;
        }
        self.ask_once(&url, &headers).await
    }

    async fn ask_once(&self, url: &url::Url, headers: &HeaderMap) -> Result<Bytes, Failure> {
        let take = Take::Whole { bytes_max: REPLY_BYTES_MAX };
        let call = Call { method: Method::GET, url: url.clone(), headers: headers.clone(), body: Bytes::new(), take };
        let answer = self.control.call(call).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(api::failure(&answer)) }
    }

    /// A failure in words a person can act on.
    fn explained(&self, failure: Failure) -> Failure {
        let (bucket, place) = (&self.source.bucket, self.place.shown());
        let text = match failure.kind {
            FailureKind::Denied | FailureKind::Expired => {
                format!("bucket `{bucket}` at {place} refuses access ({}): {failure}", self.identity.describe())
            }
            _ => format!("bucket `{bucket}` at {place}: {failure}"),
        };
        Failure::new(failure.kind, text)
    }
}

impl Origin for Gcs {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
        Box::pin(async {
            let found = self.list_source().await.map_err(failed)?;
            if !found.is_empty() {
                return Ok(found);
            }
            let GcsSource { bucket, object } = &self.source;
            let what = match object.as_str() {
                "" => "is empty".to_owned(),
                object => format!("has neither an object nor a folder `{object}`"),
            };
            Err(Error::NotFound(format!("bucket `{bucket}` at {} {what}", self.place.shown())))
        })
    }

    fn stat<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<Entry, Failure>> {
        Box::pin(async move {
            let Found { object, size, version, ranges, stated, .. } = self.object(&entry.object).await?.into_found("");
            Ok(Entry { path: entry.path.clone(), object, size, version, ranges, stated })
        })
    }

    fn access<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        Box::pin(async move {
            let generation = entry.version.version_id.as_deref();
            let url = wire::Url::parse(&self.place.media(&self.source, &entry.object, generation))?;
            let (headers, holds) = self.identity.secrets().await?;
            Ok((Access { url, headers, policy: Policy::Configured, coding: Coding::Stored }, holds))
        })
    }

    /// The token is shared by all files: the first that comes with it has it replaced, and the others wait for that.
    fn renew<'a>(
        &'a self,
        entry: &'a Entry,
        refused: &'a Access,
    ) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        Box::pin(async move {
            let shown = refused.headers.iter().find(|(name, _)| AUTHORIZATION == name.as_str());
            if let Some(token) = shown.and_then(|(_, token)| HeaderValue::from_str(token.expose()).ok()) {
                self.identity.renew(&token).await.map_err(|failure| self.explained(failure))?;
            }
            self.access(entry).await
        })
    }

    fn credential(&self) -> BoxFuture<'_, Option<Credential>> {
        let kind = self.identity.kind();
        let url = wire::Url::parse(self.place.shown());
        Box::pin(async move { url.ok().map(|url| Credential { origin: url.origin(), kind }) })
    }

    fn describe(&self) -> String {
        format!("{}, {}", self.place.shown(), self.identity.describe())
    }
}

/// Whether somebody else might be let in.
fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Denied | FailureKind::Expired)
}
