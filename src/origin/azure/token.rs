//! Bearer tokens by Microsoft's own library, over our own client.
//!
//! In: what an issuer is asked with. Out: a token for the storage service, one for all who wait for it.
//! Holds: issuers are asked over the control client, with the trust of those who issue credentials; a token is renewed
//! before it ends, and when a request with it was refused; what an issuer answers reaches no error but for its codes.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{
    AsyncRawResponse, Body, ClientOptions, HttpClient, Request, RetryOptions, StatusCode, Transport,
};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Failure, FailureKind};
use crate::origin::control::{self, Call, Carried, Control, Take, failure_in, head_of, pause_asked};
use crate::secret::Secret;
use crate::wire::{Asked, refusal};

/// The storage service of every cloud.
const SCOPE: &str = "https://storage.azure.com/.default";

/// Where the metadata service of virtual machines is.
const METADATA: &str = "169.254.169.254";

/// A token renewed this long before its end leaves the requests under way their time; half its life, if that is less.
const RENEWED_AHEAD: Duration = Duration::from_secs(300);

/// What a token's life is taken for at the least and at the most, whatever its issuer says.
const LIFE_MIN: Duration = Duration::from_secs(2);
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Bound of one try to get a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);

/// Tries for a token, and the pause before the second; doubled after it.
const TRIES_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Longest answer of an issuer; real ones have less than 4 KiB.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// Longest token of a service account; real ones have about 1 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// An issuer that gave no new token is asked again after this, while the old one holds.
const ASKED_AGAIN: Duration = Duration::from_secs(5);

/// Who is asked for tokens, and with what.
pub(super) enum Issuer {
    /// `AZURE_CLIENT_SECRET`.
    ClientSecret { authority: String, tenant: String, client: String, secret: Secret },
    /// `AZURE_FEDERATED_TOKEN_FILE`.
    WorkloadIdentity { authority: String, tenant: String, client: String, file: PathBuf },
    /// The machine's own service, for the identity with this client id.
    ManagedIdentity { client: String },
}

/// Tokens of one issuer.
pub(super) struct Tokens {
    issuer: Issuer,
    transport: Transport,
    held: Mutex<Option<Held>>,
}

/// A token.
#[derive(Clone)]
pub(super) struct Token {
    /// `Bearer …`.
    pub(super) authorization: Secret,
    /// How long to go on with it.
    pub(super) holds: Duration,
}

/// The token of the moment.
struct Held {
    authorization: Secret,
    /// When another is asked for.
    until: Instant,
    /// When it ends.
    ends: Instant,
    /// Objects that are read with it, hashed: who asks for the same one again was refused with it.
    lent: HashSet<u64>,
}

impl Tokens {
    /// Tokens of `issuer`, asked over `control`; `metadata` stands in for the metadata service's address.
    pub(super) fn new(issuer: Issuer, control: Control, metadata: Option<url::Url>) -> Self {
        let transport = Transport::new(Arc::new(OwnClient { control, metadata }));
        Self { issuer, transport, held: Mutex::new(None) }
    }

    /// The token of the moment. One caller asks the issuer, the others wait for it.
    ///
    /// # Errors
    /// `Denied` when the issuer refuses, `Unavailable` and its like when asking again may help.
    pub(super) async fn get(&self) -> Result<Token, Failure> {
        let mut held = self.held.lock().await;
        self.current(&mut held).await.map(|held| held.token())
    }

    /// A token to read `object` with: another one than it was lent before.
    ///
    /// # Errors
    /// As [`Tokens::get`].
    pub(super) async fn lend(&self, object: &str) -> Result<Token, Failure> {
        let mut hasher = DefaultHasher::new();
        object.hash(&mut hasher);
        let object = hasher.finish();
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.lent.contains(&object)) {
            *held = None;
        }
        let current = self.current(&mut held).await?;
        current.lent.insert(object);
        Ok(current.token())
    }

    /// Forgets `token`, which was refused, unless that has been done.
    pub(super) async fn refused(&self, token: &Token) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.authorization == token.authorization) {
            *held = None;
        }
    }

    async fn current<'a>(&self, held: &'a mut Option<Held>) -> Result<&'a mut Held, Failure> {
        let fresh = match held.take() {
            Some(fresh) if Instant::now() < fresh.until => fresh,
            old => match self.fetch().await {
                Ok(new) => new,
                Err(failure) => kept(old, failure, Instant::now())?,
            },
        };
        Ok(held.insert(fresh))
    }

    async fn fetch(&self) -> Result<Held, Failure> {
        let mut pause = PAUSE;
        for _ in 1..TRIES_MAX {
            match self.fetch_once().await {
                Err(failure) if pause_asked(&failure).is_some() => {
                    tracing::debug!(reason = %failure.detail, "no token yet");
                    sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
        self.fetch_once().await
    }

    async fn fetch_once(&self) -> Result<Held, Failure> {
        // A credential of its own for each token: the library's cache would keep one that was refused, and the file.
        let credential = self.credential().map_err(|error| unusable(&error))?;
        let late = |_| Failure::new(FailureKind::Unavailable { retry_after: None }, "no token in time");
        let token = timeout(TOKEN_TIMEOUT, credential.get_token(&[SCOPE], None)).await.map_err(late)?;
        let token = token.map_err(|error| unusable(&error))?;
        let ends = SystemTime::from(token.expires_on);
        // One that is over by now would be asked for again and again.
        let life = ends.duration_since(SystemTime::now()).unwrap_or_default().clamp(LIFE_MIN, LIFE_MAX);
        let (until, ends) = (Instant::now() + life.saturating_sub(RENEWED_AHEAD.min(life / 2)), Instant::now() + life);
        let authorization = Secret::new(format!("Bearer {}", token.token.secret()));
        Ok(Held { authorization, until, ends, lent: HashSet::new() })
    }

    fn credential(&self) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let options = |authority: Option<&String>| ClientOptions {
            transport: Some(self.transport.clone()),
            retry: RetryOptions::none(),
            cloud: authority.map(|authority| {
                let mut cloud = CustomConfiguration::default();
                authority.clone_into(&mut cloud.authority_host);
                Arc::new(cloud.into())
            }),
            ..ClientOptions::default()
        };
        match &self.issuer {
            Issuer::ClientSecret { authority, tenant, client, secret } => {
                let options = ClientSecretCredentialOptions { client_options: options(Some(authority)) };
                let secret = azure_core::credentials::Secret::new(secret.expose().to_owned());
                Ok(ClientSecretCredential::new(tenant, client.clone(), secret, Some(options))?)
            }
            Issuer::WorkloadIdentity { authority, tenant, client, file } => {
                let options = WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options: options(Some(authority)) },
                    client_id: Some(client.clone()),
                    tenant_id: Some(tenant.clone()),
                    token_file_path: Some(file.clone()),
                };
                Ok(WorkloadIdentityCredential::new(Some(options))?)
            }
            Issuer::ManagedIdentity { client } => {
                let id = UserAssignedId::ClientId(client.clone());
                let options =
                    ManagedIdentityCredentialOptions { user_assigned_id: Some(id), client_options: options(None) };
                Ok(ManagedIdentityCredential::new(Some(options))?)
            }
        }
    }
}

impl Held {
    fn token(&self) -> Token {
        let holds = self.until.saturating_duration_since(Instant::now());
        Token { authorization: self.authorization.clone(), holds }
    }
}

/// The old token where it still holds: an issuer that gives no other takes nothing away.
fn kept(old: Option<Held>, failure: Failure, now: Instant) -> Result<Held, Failure> {
    let Some(old) = old.filter(|old| now < old.ends) else { return Err(failure) };
    tracing::debug!(reason = %failure.detail, "no new token yet; the old one still holds");
    Ok(Held { until: old.ends.min(now + ASKED_AGAIN), ..old })
}

/// Whether the file of a service account's token can be read at all.
///
/// # Errors
/// [`Error::Usage`], naming `what`.
pub(super) fn check_file(what: &str, path: &std::path::Path) -> Result<(), Error> {
    let wrong = |why: &dyn std::fmt::Display| Error::Usage(format!("{what}: {}: {why}", path.display()));
    let about = std::fs::metadata(path).map_err(|error| wrong(&error))?;
    if !about.is_file() || FILE_BYTES_MAX < about.len() {
        return Err(wrong(&"no token of a service account"));
    }
    std::fs::File::open(path).map(drop).map_err(|error| wrong(&error))
}

/// What the library's failure means. Its own words may quote an answer: only ours are repeated.
fn unusable(error: &azure_core::Error) -> Failure {
    match failure_in(error) {
        Some(failure) => failure.clone(),
        None => Failure::new(FailureKind::Denied, "no token: the settings or the issuer's answer cannot be understood"),
    }
}

/// Our control client in the library's clothes.
#[derive(Debug)]
struct OwnClient {
    control: Control,
    metadata: Option<url::Url>,
}

/// The codes of an issuer's refusal.
#[derive(Deserialize)]
struct Refusal {
    error: Option<String>,
    #[serde(default)]
    error_codes: Vec<u32>,
}

impl HttpClient for OwnClient {
    // What `async_trait` makes of the trait's own line.
    fn execute_request<'a, 'b, 'c>(
        &'a self,
        request: &'b Request,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<AsyncRawResponse>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            // No kind that the library's own policy for managed identities would repeat: repeating is ours.
            let body = self
                .ask(request)
                .await
                .map_err(|failure| azure_core::Error::new(ErrorKind::Other, Carried(failure)))?;
            Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), body))
        })
    }
}

impl OwnClient {
    async fn ask(&self, request: &Request) -> Result<bytes::Bytes, Failure> {
        let refused = |why: &str| Failure::new(FailureKind::Refused, why);
        let mut url = request.url().clone();
        let of_machine = url.host_str() == Some(METADATA);
        if let Some(metadata) = self.metadata.as_ref().filter(|_| of_machine) {
            let (path, query) = (url.path().to_owned(), url.query().map(str::to_owned));
            url.clone_from(metadata);
            url.set_path(&path);
            url.set_query(query.as_deref());
        }
        let method = if request.method().as_str() == "POST" { Method::POST } else { Method::GET };
        let mut headers = HeaderMap::new();
        for (name, value) in request.headers().iter() {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| refused("a header has no name"))?;
            let value = HeaderValue::from_str(value.as_str()).map_err(|_| refused("a header is not plain text"))?;
            headers.insert(name, value);
        }
        // The library's name would stand in the place of ours.
        headers.remove(http::header::USER_AGENT);
        let Body::Bytes(body) = request.body().clone() else { return Err(refused("a body without an end")) };
        let place = control::place(&url);
        let take = Take::Whole { bytes_max: REPLY_BYTES_MAX };
        let answer = self.control.call(Call { method, url, headers, body, take }).await?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        let kind = refusal::classify(&head_of(&answer), &Asked::default(), b"", SystemTime::now()).kind;
        let kind = match answer.status {
            // The machine's service says so while it learns of a new identity.
            404 | 410 if of_machine => FailureKind::Unavailable { retry_after: None },
            408 | 429 => kind,
            400..=499 => FailureKind::Denied,
            _ => kind,
        };
        Err(Failure::new(kind, format!("{place} gives no token: status {}{}", answer.status, codes(&answer.body))))
    }
}

/// The OAuth code and Microsoft's numbers of a refusal; no words, which may echo what was sent.
fn codes(body: &[u8]) -> String {
    let Ok(Refusal { error, error_codes }) = serde_json::from_slice(body) else { return String::new() };
    let plain = |code: &String| code.len() <= 40 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let code = error.filter(plain).map(|code| format!(", {code}")).unwrap_or_default();
    let number = error_codes.first().map(|number| format!(", AADSTS{number}")).unwrap_or_default();
    format!("{code}{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_holds_outlives_an_issuer_that_is_down() {
        let now = Instant::now();
        let held = |seconds| Held {
            authorization: Secret::new("Bearer old"),
            until: now,
            ends: now + Duration::from_secs(seconds),
            lent: HashSet::new(),
        };
        let down = || Failure::new(FailureKind::Unavailable { retry_after: None }, "down");
        for (seconds, until) in [(300, ASKED_AGAIN), (2, Duration::from_secs(2))] {
            let Ok(old) = kept(Some(held(seconds)), down(), now) else { panic!("kept") };
            assert_eq!((old.authorization.expose(), old.until), ("Bearer old", now + until));
        }
        for ended in [Some(held(0)), None] {
            assert_eq!(kept(ended, down(), now).err(), Some(down()));
        }
    }
}
