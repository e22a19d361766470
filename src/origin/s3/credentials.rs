//! The credential chain: environment, profile, web identity, container, EC2 metadata; then anonymous.
//!
//! Holds: a credential request never goes to `AWS_ENDPOINT_URL` (that is S3's); credentials are asked again before
//! they expire and the old ones serve until then; the metadata service delays a run by at most [`METADATA_TIMEOUT`].

use std::time::{Duration, SystemTime};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use tokio::sync::Mutex;

use crate::error::{Failure, FailureKind};
use crate::origin::Environment;
use crate::origin::control::{Carried, failure_in, innermost};

/// All that a machine outside EC2 waits for the metadata service.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// Bound of one walk along the chain; single sign-on and credential processes take a moment.
const LOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Credentials are renewed when less than this is left of them.
const RENEW_BEFORE: Duration = Duration::from_secs(120);

const ENVIRONMENT: &str = "the environment";
const PROFILE: &str = "the profile";
const WEB_IDENTITY: &str = "the web identity token";
const CONTAINER: &str = "the container's credentials endpoint";

/// The last link: outside EC2 nobody answers there, so its failures count as "none".
const METADATA: &str = "EC2 metadata";

/// Providers in order, and what the last walk brought.
pub(super) struct Chain {
    links: Vec<(&'static str, SharedCredentialsProvider)>,
    // Held across the walk: requests side by side cause one walk, not sixteen.
    held: Mutex<Option<Held>>,
}

/// Credentials and whose they are.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) credentials: Credentials,
    pub(super) from: &'static str,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chain")
    }
}

impl Chain {
    /// The default chain, asking through `config`'s client.
    pub(super) fn new(config: &ProviderConfig, environment: &Environment) -> Self {
        let metadata = imds::Client::builder()
            .configure(config)
            .max_attempts(1)
            .connect_timeout(METADATA_TIMEOUT / 2)
            .read_timeout(METADATA_TIMEOUT / 2)
            .operation_attempt_timeout(METADATA_TIMEOUT)
            .operation_timeout(METADATA_TIMEOUT)
            .build();
        let metadata = ImdsCredentialsProvider::builder().configure(config).imds_client(metadata).build();
        let links = vec![
            (ENVIRONMENT, SharedCredentialsProvider::new(Keys(keys(environment)))),
            (
                PROFILE,
                SharedCredentialsProvider::new(ProfileFileCredentialsProvider::builder().configure(config).build()),
            ),
            (
                WEB_IDENTITY,
                SharedCredentialsProvider::new(
                    WebIdentityTokenCredentialsProvider::builder().configure(config).build(),
                ),
            ),
            (CONTAINER, SharedCredentialsProvider::new(EcsCredentialsProvider::builder().configure(config).build())),
            (METADATA, SharedCredentialsProvider::new(metadata)),
        ];
        Self { links, held: Mutex::new(None) }
    }

    /// Credentials that hold for a while; `None` when no link has any.
    ///
    /// # Errors
    /// The first link that is configured and fails.
    pub(super) async fn held(&self, now: SystemTime) -> Result<Option<Held>, CredentialsError> {
        let mut held = self.held.lock().await;
        if let Some(fresh) = held.as_ref().filter(|held| now + RENEW_BEFORE < held.ends()) {
            return Ok(Some(fresh.clone()));
        }
        let walked = tokio::time::timeout(LOAD_TIMEOUT, self.walk()).await;
        let walked = walked.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(LOAD_TIMEOUT)));
        match (walked, held.as_ref().filter(|held| now < held.ends())) {
            (Ok(Some(new)), _) => {
                *held = Some(new.clone());
                Ok(Some(new))
            }
            (Ok(None) | Err(_), Some(old)) => {
                tracing::warn!(
                    from = old.from,
                    "credentials could not be renewed; the old ones serve until they expire"
                );
                Ok(Some(old.clone()))
            }
            (other, None) => other,
        }
    }

    async fn walk(&self) -> Result<Option<Held>, CredentialsError> {
        for (from, provider) in &self.links {
            match provider.provide_credentials().await {
                Ok(credentials) => return Ok(Some(Held { credentials, from })),
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                Err(error) if *from == METADATA => {
                    tracing::debug!(reason = %innermost(&error), "the EC2 metadata service has no credentials");
                }
                Err(error) => {
                    let why = failure_in(&error).map_or_else(|| innermost(&error), |failure| failure.detail.clone());
                    let kind = failure_in(&error).map_or(FailureKind::Denied, |failure| failure.kind);
                    let failure = Failure::new(kind, format!("credentials cannot be loaded from {from}: {why}"));
                    return Err(CredentialsError::provider_error(Carried(failure)));
                }
            }
        }
        Ok(None)
    }
}

/// The keys of the environment's snapshot: the demo origin has one of its own.
#[derive(Debug)]
struct Keys(Option<Credentials>);

fn keys(environment: &Environment) -> Option<Credentials> {
    let id = environment.var("AWS_ACCESS_KEY_ID")?;
    let secret = environment.var("AWS_SECRET_ACCESS_KEY").or_else(|| environment.var("SECRET_ACCESS_KEY"))?;
    let token = environment.var("AWS_SESSION_TOKEN").map(str::to_owned);
    Some(Credentials::new(id, secret, token, None, "environment"))
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let none = || CredentialsError::not_loaded("the environment holds no keys");
        future::ProvideCredentials::ready(self.0.clone().ok_or_else(none))
    }
}

impl Held {
    /// The kind of these credentials, for the audit log.
    pub(super) fn kind(&self) -> &'static str {
        match self.from {
            ENVIRONMENT if self.credentials.session_token().is_some() => "temporary keys",
            ENVIRONMENT => "static keys",
            PROFILE => "profile",
            WEB_IDENTITY => "web identity",
            CONTAINER => "container",
            METADATA => "instance metadata",
            other => other,
        }
    }

    fn ends(&self) -> SystemTime {
        // Long-term keys have no end; a day is longer than any signed URL.
        self.credentials.expiry().unwrap_or_else(|| SystemTime::now() + Duration::from_secs(24 * 3600))
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            match self.held(SystemTime::now()).await? {
                Some(held) => Ok(held.credentials),
                None => Err(CredentialsError::not_loaded("no credentials are configured")),
            }
        })
    }
}

/// Why a chain failed: what its provider met on the way, or `Denied`.
pub(super) fn unloaded(error: &CredentialsError) -> Failure {
    match failure_in(error) {
        Some(failure) => failure.clone(),
        None => Failure::new(FailureKind::Denied, format!("credentials cannot be loaded: {}", innermost(error))),
    }
}
