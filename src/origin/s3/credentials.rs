//! The credential chain: environment, profile, web identity, container, EC2 metadata; then anonymous.
//!
//! Holds: a credential request never goes to `AWS_ENDPOINT_URL` (that is S3's); credentials are asked again before
//! they expire and the old ones serve until then; all who wait for new ones wait for one walk along the chain; the
//! metadata service delays a run by at most [`METADATA_TIMEOUT`].

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
use crate::wire::Access;
use crate::wire::refusal::clean;

/// All that a machine outside EC2 waits for the metadata service.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// Bound of one walk along the chain; single sign-on and credential processes take a moment.
const LOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Credentials are renewed when less than this is left of them, or less than half of their life.
const RENEW_BEFORE: Duration = Duration::from_secs(120);

/// After a walk that failed or brought the same credentials, the chain is left alone for so long.
const WALK_PAUSE: Duration = Duration::from_secs(5);

/// Longest profile file that is read.
const PROFILE_BYTES_MAX: u64 = 256 << 10;

/// The links of the chain, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Environment,
    Profile,
    WebIdentity,
    Container,
    /// The last: outside EC2 nobody answers there, so its failures count as "none".
    Metadata,
}

/// One provider.
struct Link {
    kind: Kind,
    /// Which variable or file it reads, for people; never a value.
    from: Arc<str>,
    provider: SharedCredentialsProvider,
}

/// Providers in order, and what the last walk brought.
pub(super) struct Chain {
    links: Vec<Link>,
    // Held across the walk: requests side by side cause one walk, not sixteen.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// No walk before this time while there are credentials.
    paused_until: Option<SystemTime>,
}

/// Credentials and whose they are.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) credentials: Credentials,
    /// Which variable, file or service they came from, for people.
    pub(super) from: Arc<str>,
    kind: Kind,
    /// When others are asked for; `None` for keys that do not end.
    renew_at: Option<SystemTime>,
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
        let profile = ProfileFileCredentialsProvider::builder().configure(config).build();
        let web = WebIdentityTokenCredentialsProvider::builder().configure(config).build();
        let container = EcsCredentialsProvider::builder().configure(config).build();
        let link = |kind: Kind, provider| Link { kind, from: kind.words(environment).into(), provider };
        let links = vec![
            link(Kind::Environment, SharedCredentialsProvider::new(Keys(keys(environment)))),
            link(Kind::Profile, SharedCredentialsProvider::new(profile)),
            link(Kind::WebIdentity, SharedCredentialsProvider::new(web)),
            link(Kind::Container, SharedCredentialsProvider::new(container)),
            link(Kind::Metadata, SharedCredentialsProvider::new(metadata)),
        ];
        Self { links, state: Mutex::default() }
    }

    /// Credentials that hold for a while; `None` when no link has any.
    ///
    /// # Errors
    /// The first link that is configured and fails.
    pub(super) async fn held(&self, now: SystemTime) -> Result<Option<Held>, CredentialsError> {
        let mut state = self.state.lock().await;
        match &state.held {
            Some(held) if held.renew_at.is_none_or(|at| now < at) => return Ok(Some(held.clone())),
            Some(held) if state.pauses(now) && held.is_valid(now) => return Ok(Some(held.clone())),
            _ => {}
        }
        match (self.walk_in_time(&mut state, now).await, state.held.as_ref().filter(|held| held.is_valid(now))) {
            (Ok(None) | Err(_), Some(old)) => {
                tracing::warn!(
                    from = &*old.from,
                    "credentials could not be renewed; the old ones serve until they expire"
                );
                Ok(Some(old.clone()))
            }
            (other, _) => other,
        }
    }

    /// Credentials other than `refused`, which a store calls expired before their time: those that somebody else has
    /// asked for meanwhile, or new ones. The same again when the chain has no others.
    ///
    /// # Errors
    /// As [`Chain::held`].
    pub(super) async fn renewed(&self, refused: &Credentials, now: SystemTime) -> Result<(), CredentialsError> {
        let mut state = self.state.lock().await;
        let same = state.held.as_ref().is_some_and(|held| is_same(&held.credentials, refused));
        if same && !state.pauses(now) {
            self.walk_in_time(&mut state, now).await?;
        }
        Ok(())
    }

    /// Walks, and keeps what that brings.
    async fn walk_in_time(&self, state: &mut State, now: SystemTime) -> Result<Option<Held>, CredentialsError> {
        let walked = tokio::time::timeout(LOAD_TIMEOUT, self.walk(now)).await;
        let walked = walked.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(LOAD_TIMEOUT)));
        let old = state.held.as_ref().map(|held| &held.credentials);
        let new = walked.as_ref().ok().and_then(Option::as_ref);
        let is_new = new.is_some_and(|new| old.is_none_or(|old| !is_same(old, &new.credentials)));
        state.paused_until = if is_new { None } else { Some(now + WALK_PAUSE) };
        if let Some(new) = new {
            state.held = Some(new.clone());
        }
        walked
    }

    async fn walk(&self, now: SystemTime) -> Result<Option<Held>, CredentialsError> {
        for Link { kind, from, provider } in &self.links {
            match provider.provide_credentials().await {
                Ok(credentials) => {
                    let renew_at = credentials.expiry().map(|end| {
                        let life = end.duration_since(now).unwrap_or_default();
                        now + life.saturating_sub(RENEW_BEFORE).max(life / 2)
                    });
                    return Ok(Some(Held { credentials, from: from.clone(), kind: *kind, renew_at }));
                }
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                Err(error) if *kind == Kind::Metadata => {
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

impl State {
    fn pauses(&self, now: SystemTime) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }
}

impl Kind {
    /// Which variable, file or service credentials of this kind come from.
    fn words(self, environment: &Environment) -> String {
        let named = |names: &[&'static str]| names.iter().find(|name| environment.var(name).is_some()).copied();
        match self {
            Self::Environment => {
                let token = environment.var("AWS_SESSION_TOKEN").map_or("", |_| " and AWS_SESSION_TOKEN");
                format!("the environment (AWS_ACCESS_KEY_ID{token})")
            }
            Self::Profile => {
                let name = environment.var("AWS_PROFILE").unwrap_or("default");
                let keys = profile_file(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
                let path = match keys.filter(|path| holds_profile(path, name)) {
                    Some(path) => Some(path),
                    None => profile_file(environment, "AWS_CONFIG_FILE", "config"),
                };
                let place = path.map_or_else(|| "~/.aws".to_owned(), |path| path.display().to_string());
                format!("the profile `{}` of {}", clean(name), clean(&place))
            }
            Self::WebIdentity => {
                let path = environment.var("AWS_WEB_IDENTITY_TOKEN_FILE").unwrap_or("unset");
                format!("the web identity token (AWS_WEB_IDENTITY_TOKEN_FILE {})", clean(path))
            }
            Self::Container => {
                let names = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
                format!("the container's credentials endpoint ({})", named(&names).unwrap_or(names[0]))
            }
            Self::Metadata => "EC2 metadata".to_owned(),
        }
    }
}

fn profile_file(environment: &Environment, variable: &str, name: &str) -> Option<PathBuf> {
    let home = || environment.var("HOME").map(|home| PathBuf::from(home).join(".aws").join(name));
    environment.var(variable).map(PathBuf::from).or_else(home)
}

/// Whether the file has a section of this name. One that cannot be read has none.
fn holds_profile(path: &Path, name: &str) -> bool {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(PROFILE_BYTES_MAX).read_to_end(&mut text));
    let section = |line: &str| {
        line.trim().strip_prefix('[').and_then(|line| line.split(']').next().map(str::trim).map(str::to_owned))
    };
    read.is_ok() && String::from_utf8_lossy(&text).lines().filter_map(section).any(|section| section == name)
}

fn is_same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id() && one.session_token() == other.session_token()
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
        match self.kind {
            Kind::Environment if self.credentials.session_token().is_some() => "temporary keys",
            Kind::Environment => "static keys",
            Kind::Profile => "profile",
            Kind::WebIdentity => "web identity",
            Kind::Container => "container",
            Kind::Metadata => "instance metadata",
        }
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.credentials.expiry().is_none_or(|end| now < end)
    }

    /// Whether `access` was signed with these credentials, as its query tells.
    pub(super) fn signed(&self, access: &Access) -> bool {
        let Ok(url) = url::Url::parse(access.url.expose()) else { return false };
        let parameter =
            |wanted: &str| url.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned());
        let scope = parameter("X-Amz-Credential");
        let key = scope.as_deref().and_then(|scope| scope.split('/').next());
        key == Some(self.credentials.access_key_id())
            && parameter("X-Amz-Security-Token").as_deref() == self.credentials.session_token()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Issues numbered credentials, up to a number and then always that one; counts the questions.
    #[derive(Debug, Clone)]
    struct Numbered {
        asked: Arc<AtomicU64>,
        last: u64,
    }

    impl ProvideCredentials for Numbered {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                // Others come in between.
                tokio::task::yield_now().await;
                let number = (self.asked.fetch_add(1, Ordering::Relaxed) + 1).min(self.last);
                let end = SystemTime::now() + Duration::from_secs(3600);
                Ok(Credentials::new(format!("AKID{number}"), "secret", None, Some(end), "test"))
            })
        }
    }

    /// Questions to the provider when sixteen are refused with the first credentials, and later one more.
    fn walks(last: u64) -> (u64, u64) {
        let provider = Numbered { asked: Arc::default(), last };
        let from: Arc<str> = "a test".into();
        let link = Link { kind: Kind::Container, from, provider: SharedCredentialsProvider::new(provider.clone()) };
        let chain = Chain { links: vec![link], state: Mutex::default() };
        let now = SystemTime::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let first = chain.held(now).await.unwrap().unwrap().credentials;
            let all = futures::future::join_all((0..16).map(|_| chain.renewed(&first, now))).await;
            assert!(all.iter().all(Result::is_ok));
            let at_once = provider.asked.load(Ordering::Relaxed) - 1;
            chain.renewed(&first, now + WALK_PAUSE * 2).await.unwrap();
            (at_once, provider.asked.load(Ordering::Relaxed) - 1 - at_once)
        })
    }

    #[test]
    fn all_who_are_refused_with_the_same_credentials_cause_one_walk() {
        assert_eq!(walks(u64::MAX), (1, 0), "who comes late takes what is there");
        assert_eq!(walks(1), (1, 1), "the same again is asked for only after a pause");
    }
}
