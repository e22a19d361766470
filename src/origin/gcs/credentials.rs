//! Application Default Credentials by Google's own library; where there are none, nobody's.
//!
//! In: the environment. Out: headers for the storage endpoint, a fresh token whenever they are asked for.
//! Holds: finding out that there is no metadata service takes at most [`PROBE_TIMEOUT`], a token at most
//! [`TOKEN_TIMEOUT`]; what an issuer answers reaches no error but for its OAuth code; the library renews tokens
//! minutes before they end, so one that was just asked for holds for [`TOKEN_HOLDS`]; one that is refused before its
//! end is replaced once, however many requests it was refused for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use google_cloud_auth::credentials::{Builder, CacheableResource, Credentials, mds};
use google_cloud_auth::errors::CredentialsError;
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method};
use tokio::sync::RwLock;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Failure, FailureKind};
use crate::origin::control::{Call, Control, Take, innermost};
use crate::origin::{Environment, failed};
use crate::secret::Secret;

/// The variable that names a file of credentials.
const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// Where gcloud keeps the user's own, below HOME.
const GCLOUD: &str = ".config/gcloud/application_default_credentials.json";

/// The metadata service's address; its name would ask name servers that may not know it.
const METADATA: &str = "169.254.169.254";

/// All that a machine outside Google's cloud waits for the metadata service.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bound of one token: an external source may ask three services one after the other.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(15);

/// Tries for the first token, and the pause before the second; doubled after it.
const TRIES_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// What the library leaves of a token at the least: it renews 4 minutes before the end.
const TOKEN_HOLDS: Duration = Duration::from_secs(180);

/// Enough to read. Refresh tokens of users decide for themselves: asking them for a scope they lack is refused.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";

/// Kinds of files whose tokens are narrowed to [`SCOPE`].
const NARROWED: [&str; 3] = ["service_account", "external_account", "impersonated_service_account"];

/// Bytes of a file of credentials; real ones have less than 4 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Google's own variable for the project that pays, which its library reads for files.
const PROJECT: &str = "GOOGLE_CLOUD_QUOTA_PROJECT";

/// As whom we ask.
pub(super) struct Identity {
    from: From,
    environment: Environment,
    /// Held for writing while tokens of another issue are asked for, so that whoever wants one waits for that.
    issue: RwLock<Issue>,
    /// The token that was given out last.
    last: Mutex<Option<HeaderValue>>,
    /// The metadata service's account was refused what anybody may read.
    public: AtomicBool,
}

/// Where tokens come from.
enum Issue {
    /// Nobody's requests bear none.
    None,
    Tokens(Credentials),
    /// The issuer refuses to replace a refused one.
    Ended(Failure),
}

/// Where an identity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    /// A file, and what named it.
    File {
        named: &'static str,
        kind: String,
    },
    Metadata,
    /// An emulator asks for none.
    Emulator,
    /// Nothing is configured.
    Nothing,
}

impl Identity {
    /// Finds credentials: the file that [`VARIABLE`] names, gcloud's, the metadata service; else nobody's.
    ///
    /// # Errors
    /// [`Error::Usage`] for a file that cannot be read or understood, [`Error::Denied`] when its issuer refuses,
    /// [`Error::Network`] when it does not answer.
    pub(super) async fn find(environment: &Environment, control: &Control) -> Result<Self, Error> {
        if let Some((named, path)) = file(environment) {
            let from = From::File { named, kind: kind_of(named, &path)? };
            return Self::load(from, environment).await;
        }
        if environment.flag("NO_GCE_CHECK") || !answers(&metadata(environment), control).await {
            return Ok(Self::nobody(From::Nothing));
        }
        match Self::load(From::Metadata, environment).await {
            Err(Error::Denied(reason)) => {
                tracing::debug!(%reason, "the metadata service has no credentials");
                Ok(Self::nobody(From::Nothing))
            }
            other => other,
        }
    }

    fn new(from: From, environment: Environment, issue: Issue) -> Self {
        Self { from, environment, issue: RwLock::new(issue), last: Mutex::default(), public: AtomicBool::new(false) }
    }

    /// Nobody's, as an emulator wants it.
    pub(super) fn of_emulator() -> Self {
        Self::nobody(From::Emulator)
    }

    fn nobody(from: From) -> Self {
        Self::new(from, Environment::default(), Issue::None)
    }

    /// Builds credentials and gets a first token, so that what is wrong with them shows now.
    async fn load(from: From, environment: &Environment) -> Result<Self, Error> {
        let (credentials, _) = from.issue(environment).await?;
        Ok(Self::new(from, environment.clone(), Issue::Tokens(credentials)))
    }

    /// Headers of a request to the storage endpoint, none for nobody.
    ///
    /// # Errors
    /// `Denied` when no token is to be had, `Unavailable` or `Stalled` when asking again may help.
    pub(super) async fn headers(&self) -> Result<HeaderMap, Failure> {
        let issue = self.issue.read().await;
        let credentials = match &*issue {
            Issue::Tokens(credentials) if !self.public.load(Ordering::Relaxed) => credentials,
            Issue::Tokens(_) | Issue::None => return Ok(HeaderMap::new()),
            Issue::Ended(failure) => return Err(failure.clone()),
        };
        let headers = token(credentials, &self.describe()).await?;
        *self.last() = headers.get(AUTHORIZATION).cloned();
        Ok(headers)
    }

    fn last(&self) -> MutexGuard<'_, Option<HeaderValue>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for another token in place of `refused`, unless that has been done: then there is one.
    ///
    /// # Errors
    /// As [`Identity::headers`]; `Denied` too when the issuer gives the refused one again.
    pub(super) async fn renew(&self, refused: &HeaderValue) -> Result<(), Failure> {
        let mut issue = self.issue.write().await;
        match &*issue {
            Issue::Tokens(_) if self.last().as_ref() == Some(refused) => {}
            Issue::Tokens(_) | Issue::None => return Ok(()),
            Issue::Ended(failure) => return Err(failure.clone()),
        }
        let place = self.describe();
        tracing::info!(%place, "the token is refused; asking for another");
        let same = || Error::Denied(format!("{place}: the store refuses the token, and the issuer has no other"));
        let issued = self.from.issue(&self.environment).await;
        let fresh =
            issued.and_then(|(credentials, token)| if token == *refused { Err(same()) } else { Ok(credentials) });
        match fresh {
            Ok(credentials) => *issue = Issue::Tokens(credentials),
            Err(Error::Network(text)) => {
                return Err(Failure::new(FailureKind::Unavailable { retry_after: None }, text));
            }
            Err(error) => {
                let failure = Failure::new(FailureKind::Denied, error.to_string());
                *issue = Issue::Ended(failure.clone());
                return Err(failure);
            }
        }
        *self.last() = None;
        Ok(())
    }

    /// The same for the wire, and for how long they hold; `None`: always.
    ///
    /// # Errors
    /// As [`Identity::headers`].
    pub(super) async fn secrets(&self) -> Result<(Vec<(String, Secret)>, Option<Duration>), Failure> {
        let headers = self.headers().await?;
        let secret = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), Secret::new(value.to_str().ok()?)))
        };
        let holds = (!headers.is_empty()).then_some(TOKEN_HOLDS);
        Ok((headers.iter().filter_map(secret).collect(), holds))
    }

    /// Whether a refusal may be for want of rights that nobody needs: the account of a machine is not one's choice.
    pub(super) fn may_be_public(&self) -> bool {
        self.from == From::Metadata && !self.public.load(Ordering::Relaxed)
    }

    /// Asks as nobody from now on.
    pub(super) fn become_public(&self) {
        self.public.store(true, Ordering::Relaxed);
    }

    /// The kind of credentials that requests carry, for the audit log.
    pub(super) fn kind(&self) -> &'static str {
        match &self.from {
            _ if self.public.load(Ordering::Relaxed) => "anonymous",
            From::File { kind, .. } => match kind.as_str() {
                "service_account" => "service account key",
                "external_account" => "workload identity",
                "impersonated_service_account" => "impersonated service account",
                "authorized_user" => "user",
                _ => "credentials file",
            },
            From::Metadata => "instance metadata",
            From::Emulator | From::Nothing => "anonymous",
        }
    }

    /// As whom we ask, for people.
    pub(super) fn describe(&self) -> String {
        if self.public.load(Ordering::Relaxed) {
            return "anonymous: the bucket is public".to_owned();
        }
        self.from.describe()
    }
}

/// Headers with a token.
async fn token(credentials: &Credentials, place: &str) -> Result<HeaderMap, Failure> {
    let late = |_| Failure::new(FailureKind::Unavailable { retry_after: None }, format!("{place}: no token in time"));
    match timeout(TOKEN_TIMEOUT, credentials.headers(Extensions::new())).await.map_err(late)? {
        Ok(CacheableResource::New { mut data, .. }) => {
            data.values_mut().for_each(|value| value.set_sensitive(true));
            Ok(data)
        }
        // Only an answer to a tag, and none was sent.
        Ok(CacheableResource::NotModified) => {
            Err(Failure::new(FailureKind::Denied, format!("{place}: no token was given")))
        }
        Err(error) => Err(unloaded(place, &error)),
    }
}

impl From {
    /// Credentials of a new issue and their first token, so that what is wrong with them shows now.
    async fn issue(&self, environment: &Environment) -> Result<(Credentials, HeaderValue), Error> {
        let mut pause = PAUSE;
        for _ in 1..TRIES_MAX {
            match self.issue_once(environment).await {
                Err(Error::Network(reason)) => {
                    tracing::debug!(%reason, "no token yet");
                    sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
        self.issue_once(environment).await
    }

    async fn issue_once(&self, environment: &Environment) -> Result<(Credentials, HeaderValue), Error> {
        let credentials = self.credentials(environment)?;
        let place = self.describe();
        let mut headers = token(&credentials, &place).await.map_err(failed)?;
        let token = headers.remove(AUTHORIZATION);
        token.map(|token| (credentials, token)).ok_or_else(|| Error::Denied(format!("{place}: no token was given")))
    }

    fn credentials(&self, environment: &Environment) -> Result<Credentials, Error> {
        prepare()?;
        let built = match self {
            Self::File { kind, .. } => {
                let narrowed = NARROWED.contains(&kind.as_str());
                let builder = Builder::default();
                if narrowed { builder.with_scopes([SCOPE]).build() } else { builder.build() }
            }
            Self::Metadata | Self::Emulator | Self::Nothing => {
                let builder = mds::Builder::default().with_endpoint(format!("http://{}", metadata(environment)));
                environment
                    .var(PROJECT)
                    .into_iter()
                    .fold(builder, |builder, id| builder.with_quota_project_id(id))
                    .build()
            }
        };
        built.map_err(|error| {
            // Without the library's words: a parser may quote the file.
            let why = match () {
                () if error.is_unknown_type() => "are of a kind that is not known",
                () if error.is_not_supported() => "are of a kind that gives no tokens",
                () if error.is_missing_field() => "lack a field",
                () => "cannot be understood",
            };
            let named = match self {
                Self::File { named, .. } => named,
                Self::Metadata | Self::Emulator | Self::Nothing => "the metadata service",
            };
            Error::Usage(format!("the credentials of {named} {why}"))
        })
    }
}

impl From {
    /// Whose it is, for people.
    fn describe(&self) -> String {
        match self {
            Self::File { named, kind } => format!("credentials from {named} ({kind})"),
            Self::Metadata => "credentials from the metadata service".to_owned(),
            Self::Emulator => "anonymous: STORAGE_EMULATOR_HOST is set".to_owned(),
            Self::Nothing => {
                format!("anonymous: no credentials are configured ({VARIABLE}, gcloud, a service account)")
            }
        }
    }
}

/// What the library leaves to its user, and a look at what it would panic over.
fn prepare() -> Result<(), Error> {
    // Another thread may be first, with the same provider.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::trace!("the process has a cryptography provider");
    }
    let roots = reqwest::Client::builder().build();
    roots.map(drop).map_err(|error| {
        let why = innermost(&error);
        Error::Usage(format!("Google's credentials need CA roots on this machine (SSL_CERT_FILE): {why}"))
    })
}

/// The file of credentials, and what named it.
fn file(environment: &Environment) -> Option<(&'static str, std::path::PathBuf)> {
    if let Some(path) = environment.var(VARIABLE) {
        return Some((VARIABLE, path.into()));
    }
    let path = std::path::Path::new(environment.var("HOME")?).join(GCLOUD);
    path.exists().then_some(("gcloud's application default credentials", path))
}

/// The file's own word for what is in it.
fn kind_of(named: &str, path: &std::path::Path) -> Result<String, Error> {
    let wrong = |why: &str| Error::Usage(format!("{named}: {} {why}", path.display()));
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_BYTES_MAX), &mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error: std::io::Error| wrong(&format!("cannot be read: {error}")))?;
    let file: serde_json::Value = serde_json::from_str(&text).map_err(|_| wrong("is not JSON"))?;
    let kind = file.get("type").and_then(serde_json::Value::as_str).unwrap_or_default();
    let plain =
        !kind.is_empty() && kind.len() <= 40 && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if plain { Ok(kind.to_owned()) } else { Err(wrong("does not say of which type its credentials are")) }
}

/// Host and port of the metadata service.
fn metadata(environment: &Environment) -> String {
    environment.var("GCE_METADATA_HOST").unwrap_or(METADATA).to_owned()
}

/// Whether Google's metadata service is there: other clouds have theirs at the same address.
async fn answers(host: &str, control: &Control) -> bool {
    let Ok(url) = url::Url::parse(&format!("http://{host}/")) else { return false };
    let flavor = HeaderName::from_static("metadata-flavor");
    let headers = HeaderMap::from_iter([(flavor.clone(), HeaderValue::from_static("Google"))]);
    let call = Call { method: Method::GET, url, headers, body: Bytes::new(), take: Take::Refusal };
    match timeout(PROBE_TIMEOUT, control.call(call)).await {
        Ok(Ok(answer)) => answer.headers.get(&flavor).is_some_and(|value| value == "Google"),
        Ok(Err(failure)) => {
            tracing::debug!(reason = %failure.detail, "no metadata service");
            false
        }
        Err(_elapsed) => false,
    }
}

/// Why no token came.
fn unloaded(place: &str, error: &CredentialsError) -> Failure {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut text = String::new();
    let mut client = None;
    while let Some(cause) = next {
        text.push_str(&cause.to_string());
        text.push('\n');
        client = cause.downcast_ref::<reqwest::Error>().or(client);
        next = cause.source();
    }
    let status = client.and_then(reqwest::Error::status).map(|status| status.as_u16()).or_else(|| status_in(&text));
    let why = match (status, code_in(&text)) {
        (Some(status), Some(code)) => format!("its issuer answers {status}, {code}"),
        (Some(status), None) => format!("its issuer answers {status}"),
        (None, Some(code)) => format!("its issuer answers {code}"),
        (None, None) if client.is_some_and(|client| client.is_connect() || client.is_timeout()) => {
            format!("its issuer cannot be reached: {}", innermost(error))
        }
        (None, None) => "its issuer gives none".to_owned(),
    };
    let kind = if error.is_transient() { FailureKind::Unavailable { retry_after: None } } else { FailureKind::Denied };
    Failure::new(kind, format!("no token for {place}: {why}"))
}

/// The status that the library writes into its texts, as `[404]`.
fn status_in(text: &str) -> Option<u16> {
    let inner = text.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(inner, _)| inner);
    inner.filter(|inner| inner.len() == 3).find_map(|inner| inner.parse().ok())
}

/// The OAuth error code (RFC 6749 §5.2) in an issuer's answer: the one word of it that is surely no secret.
fn code_in(text: &str) -> Option<&'static str> {
    const CODES: [&str; 7] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
    ];
    CODES.into_iter().find(|code| text.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuers_answer_is_reduced_to_status_and_code() {
        assert_eq!(status_in("x [abc] the transport reports [404] error"), Some(404));
        assert_eq!(status_in("no [4040] status"), None);
        assert_eq!(code_in(r#"{"error": "invalid_grant", "token": "canary"}"#), Some("invalid_grant"));
        assert_eq!(code_in("canary"), None);
    }

    #[test]
    fn a_file_that_is_no_credentials_is_a_usage_error_that_does_not_quote_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        for content in ["canary", "{}", r#"{"type": "canary canary"}"#, r#"{"type": 1}"#] {
            std::fs::write(&path, content).unwrap();
            let Err(Error::Usage(text)) = kind_of(VARIABLE, &path) else { panic!("{content}") };
            assert!(text.starts_with(VARIABLE) && !text.contains("canary"), "{text}");
        }
        std::fs::write(&path, r#"{"type": "service_account"}"#).unwrap();
        assert_eq!(kind_of(VARIABLE, &path), Ok("service_account".to_owned()));
        assert!(matches!(kind_of(VARIABLE, &folder.path().join("none")), Err(Error::Usage(_))));
    }

    #[test]
    fn the_variables_file_comes_before_gclouds() {
        let home = tempfile::tempdir().unwrap();
        let variables = |pairs: &[(&str, &str)]| {
            Environment::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
        };
        let with_home = [("HOME", home.path().to_str().unwrap())];
        assert_eq!(file(&variables(&with_home)), None);
        let gcloud = home.path().join(GCLOUD);
        std::fs::create_dir_all(gcloud.parent().unwrap()).unwrap();
        std::fs::write(&gcloud, "{}").unwrap();
        assert_eq!(file(&variables(&with_home)).map(|(_, path)| path), Some(gcloud));
        let both = variables(&[with_home[0], (VARIABLE, "/key.json")]);
        assert_eq!(file(&both), Some((VARIABLE, "/key.json".into())));
    }
}
