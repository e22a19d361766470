//! The SDK's client over our control client, for one endpoint, region and identity.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::{
    Builder, IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;

use super::credentials::{Chain, unloaded};
use super::fault::Fault;
use super::settings::{Profile, Settings};
use super::signature::{Pattern, Signed};
use crate::error::{Error, Failure, FailureKind};
use crate::origin::control::{Answer, Call, Carried, Control, Take, admit};
use crate::origin::{Environment, failed};
use crate::uri::S3Source;
use crate::wire::{self, Access, Policy};

/// A page of a thousand long keys takes about one MiB.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// Tries of one call that a store answers badly. Unreachable hosts are tried by [`Control`] alone.
const ATTEMPTS_MAX: u32 = 5;

/// Pause before the first repeat, doubled each time: with [`ATTEMPTS_MAX`] about 4 s in all.
const PAUSE: Duration = Duration::from_millis(500);

/// Bound of one call of the SDK with its repeats, and with two full waits that a store may ask for. A HEAD that goes
/// without the SDK first adds one try and one such wait.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(150);

/// Clients for one endpoint, region and identity.
pub(super) struct Session {
    client: aws_sdk_s3::Client,
    signer: aws_sdk_s3::Client,
    /// Everything but the region.
    builder: Builder,
    settings: Settings,
    identity: Identity,
    /// Who named the endpoint.
    policy: Policy,
    pattern: OnceLock<Option<Pattern>>,
    /// For requests that the SDK does not make.
    control: Control,
    /// Whether the store answered one of them otherwise than by a plain success.
    heads_to_sdk: AtomicBool,
}

/// As whom we ask.
#[derive(Clone)]
enum Identity {
    Chain {
        chain: Arc<Chain>,
        from: Arc<str>,
        kind: &'static str,
    },
    /// Asked for by this variable.
    Unsigned(&'static str),
    /// Nothing is configured.
    Nobody,
}

impl Session {
    /// Reads settings and finds credentials.
    ///
    /// # Errors
    /// See [`super::S3::connect`].
    pub(super) async fn open(
        source: &S3Source,
        environment: &Environment,
        wire: &wire::Settings,
        policy: Policy,
    ) -> Result<Self, Error> {
        let control = Control::new(wire, Policy::Configured)?;
        let shared = shared_config(&control).await;
        let region = ProfileFileRegionProvider::new().region().await.map(|region| region.to_string());
        let profile = Profile { endpoint: shared.endpoint_url().map(str::to_owned), region };
        let settings = Settings::new(source, environment, &profile)?;
        let policy = if settings.endpoint_of_uri { policy } else { Policy::Configured };
        let identity = if let Some(variable) = settings.anonymous {
            Identity::Unsigned(variable)
        } else {
            // Whoever issues credentials is verified even where the store is not.
            let control = Control::trusting(&wire.identity_tls, wire, Policy::Configured)?;
            identity(control, environment, &profile, &settings).await?
        };
        let mut builder = Builder::from(&shared)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(settings.path_style)
            .accelerate(settings.accelerate);
        builder.set_endpoint_url(settings.endpoint.clone());
        let mut control = control;
        if policy != Policy::Configured {
            named_endpoint(&settings, policy, &identity).await?;
            control = Control::new(wire, policy)?;
            builder.set_http_client(Some(SharedHttpClient::new(Http { control: control.clone(), gate: None })));
        }
        Ok(Self::over(builder, settings, identity, policy, control))
    }

    /// Who named the endpoint.
    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    /// The same session for another region.
    pub(super) fn in_region(&self, region: &str) -> Self {
        let settings = Settings { region: region.to_owned(), ..self.settings.clone() };
        Self::over(self.builder.clone(), settings, self.identity.clone(), self.policy, self.control.clone())
    }

    fn over(builder: Builder, settings: Settings, identity: Identity, policy: Policy, control: Control) -> Self {
        let config = builder.clone().region(aws_sdk_s3::config::Region::new(settings.region.clone()));
        let (client, signer) = match &identity {
            Identity::Chain { chain, .. } => {
                let chain: Arc<dyn ProvideCredentials> = chain.clone();
                let config = config.credentials_provider(SharedCredentialsProvider::new(chain)).build();
                (config.clone(), config)
            }
            // The signature is cut off again; see `listing::unsigned`.
            Identity::Unsigned(_) | Identity::Nobody => {
                (config.clone().allow_no_auth().build(), config.credentials_provider(nobody()).build())
            }
        };
        Self {
            client: aws_sdk_s3::Client::from_conf(client),
            signer: aws_sdk_s3::Client::from_conf(signer),
            builder,
            settings,
            identity,
            policy,
            pattern: OnceLock::new(),
            control,
            heads_to_sdk: AtomicBool::new(false),
        }
    }

    /// For listings and HEADs.
    pub(super) fn client(&self) -> &aws_sdk_s3::Client {
        &self.client
    }

    /// For presigning.
    pub(super) fn signer(&self) -> &aws_sdk_s3::Client {
        &self.signer
    }

    /// Whether requests go without a signature.
    pub(super) fn is_anonymous(&self) -> bool {
        !matches!(self.identity, Identity::Chain { .. })
    }

    /// The region requests are signed for.
    pub(super) fn region(&self) -> &str {
        &self.settings.region
    }

    /// What signs now, and how long that may be used; the time is `None` for anonymous access.
    ///
    /// # Errors
    /// `Denied`, or why the provider could not be reached.
    pub(super) async fn keys(&self, now: SystemTime) -> Result<(Credentials, Option<Duration>), Failure> {
        let Identity::Chain { chain, .. } = &self.identity else { return Ok((nobody(), None)) };
        let held = chain.held(now).await.map_err(|error| unloaded(&error))?;
        let credentials = held.ok_or_else(|| Failure::new(FailureKind::Denied, "there are no credentials any more"))?;
        let credentials = credentials.credentials;
        let left = credentials.expiry().map(|end| end.duration_since(now).unwrap_or_default());
        Ok((credentials, Some(left.unwrap_or(Duration::MAX).max(Duration::from_secs(1)))))
    }

    /// How the SDK signs for the bucket, once it has signed something there; `Some(None)` where only the SDK can.
    pub(super) fn pattern(&self) -> &OnceLock<Option<Pattern>> {
        &self.pattern
    }

    /// The client of the bucket's endpoint.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// URL and headers of a HEAD for the object `key`; `None` where only the SDK knows how to ask.
    pub(super) async fn head_call(&self, key: &str) -> Option<(String, Signed)> {
        let pattern = self.pattern.get()?.as_ref().filter(|_| !self.heads_to_sdk.load(Ordering::Relaxed))?;
        let now = SystemTime::now();
        // Without credentials the SDK says why.
        let (keys, _) = self.keys(now).await.ok()?;
        let (url, mut signed) = pattern.head(key, &keys, now)?;
        if self.is_anonymous() {
            signed.retain(|(name, _)| *name == "x-amz-checksum-mode");
        }
        Some((url, signed))
    }

    /// From now on the SDK asks every HEAD.
    pub(super) fn leave_heads_to_sdk(&self) {
        self.heads_to_sdk.store(true, Ordering::Relaxed);
    }

    /// Makes a call, and makes it again with new credentials when the store calls the old ones expired.
    ///
    /// # Errors
    /// The call's own.
    pub(super) async fn fresh<T, F>(&self, call: impl Fn() -> F + Send) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let Identity::Chain { chain, .. } = &self.identity else { return call().await };
        let before = chain.held(SystemTime::now()).await.map_err(|error| Fault::unanswered(unloaded(&error)))?;
        match (call().await, before) {
            (Err(fault), Some(before)) if fault.failure.kind == FailureKind::Expired => {
                let renewed = chain.renewed(&before.credentials, SystemTime::now()).await;
                renewed.map_err(|error| Fault::unanswered(unloaded(&error)))?;
                call().await
            }
            (other, _) => other,
        }
    }

    /// Sees to it that what is signed next is not signed by what signed `refused`, which its store calls expired.
    ///
    /// # Errors
    /// Why there are no new credentials.
    pub(super) async fn renew(&self, refused: &Access) -> Result<(), Failure> {
        let Identity::Chain { chain, .. } = &self.identity else { return Ok(()) };
        let now = SystemTime::now();
        let Some(held) = chain.held(now).await.map_err(|error| unloaded(&error))? else { return Ok(()) };
        if held.signed(refused) {
            chain.renewed(&held.credentials, now).await.map_err(|error| unloaded(&error))?;
        }
        Ok(())
    }

    /// The endpoint in words.
    pub(super) fn place(&self) -> String {
        match &self.settings.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("AWS S3 in {}", self.settings.region),
        }
    }

    /// The kind of credentials that requests carry, for the audit log.
    pub(super) fn credential_kind(&self) -> &'static str {
        match &self.identity {
            Identity::Chain { kind, .. } => kind,
            Identity::Unsigned(_) | Identity::Nobody => "anonymous",
        }
    }

    /// Endpoint and identity in words.
    pub(super) fn describe(&self) -> String {
        format!("{}, {}", self.place(), self.whom())
    }

    fn whom(&self) -> String {
        match &self.identity {
            Identity::Chain { from, .. } => format!("credentials from {from}"),
            Identity::Unsigned(variable) => format!("anonymous, as asked by {variable}"),
            Identity::Nobody => {
                "anonymous: no credentials are configured (AWS_ACCESS_KEY_ID, a profile, a role)".to_owned()
            }
        }
    }

    /// A fault in words a person can act on.
    pub(super) fn explain(&self, bucket: &str, fault: &Fault) -> Failure {
        let Failure { kind, detail } = &fault.failure;
        let place = self.place();
        let text = match kind {
            FailureKind::Missing if fault.code.as_deref() == Some("NoSuchBucket") => {
                format!("bucket `{bucket}` not found at {place}; did you set AWS_ENDPOINT_URL?")
            }
            FailureKind::Missing => format!("bucket `{bucket}` at {place}: {detail}; did you set AWS_ENDPOINT_URL?"),
            FailureKind::Denied | FailureKind::Expired if fault.answered => {
                format!("bucket `{bucket}` at {place} refuses access ({}): {detail}", self.whom())
            }
            _ if fault.answered => match &fault.region {
                Some(region) => format!("bucket `{bucket}` at {place}: {detail}; the bucket is in region {region}"),
                None => format!("bucket `{bucket}` at {place}: {detail}"),
            },
            _ => format!("bucket `{bucket}`: {detail}"),
        };
        Failure::new(*kind, text)
    }
}

/// Signs what is sent without its signature.
fn nobody() -> Credentials {
    Credentials::new("anonymous", "anonymous", None, None, "anonymous")
}

/// Whether requests may go to an endpoint that a registry named: where it is, and with what.
///
/// A signature tells nobody the key, but a session token goes along as it is, so that whoever wrote the registry's
/// entry would receive it.
async fn named_endpoint(settings: &Settings, policy: Policy, identity: &Identity) -> Result<(), Error> {
    let endpoint = settings.endpoint.as_deref().unwrap_or_default();
    let url = url::Url::parse(endpoint).map_err(|_| Error::Policy("the registry's endpoint is no URL".to_owned()))?;
    admit(&url, policy)?;
    let Identity::Chain { chain, .. } = identity else { return Ok(()) };
    let held = chain.held(SystemTime::now()).await.map_err(|error| failed(unloaded(&error)))?;
    if held.is_some_and(|held| held.credentials.session_token().is_some()) {
        return Err(Error::Policy(format!(
            "a registry named the endpoint {endpoint}: a session token is not sent there; set AWS_ENDPOINT_URL to allow it"
        )));
    }
    Ok(())
}

/// Region and endpoint of the profile, FIPS and the like; credentials are found apart from it.
async fn shared_config(control: &Control) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(Http { control: control.clone(), gate: None })
        // Without one here the loader would ask the EC2 metadata service; `Session::over` sets the right one.
        .region(Region::from_static("us-east-1"))
        .no_credentials()
        .identity_cache(IdentityCache::no_cache())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX).with_initial_backoff(PAUSE))
        .timeout_config(timeouts());
    loader.load().await
}

async fn identity(
    control: Control,
    environment: &Environment,
    profile: &Profile,
    settings: &Settings,
) -> Result<Identity, Error> {
    let http = Http { control, gate: Gate::new(environment, profile, &settings.region)? };
    let config = ProviderConfig::without_region()
        .with_http_client(http)
        .with_region(Some(Region::new(settings.region.clone())))
        .with_timeout_config(timeouts());
    let chain = Arc::new(Chain::new(&config, environment));
    match chain.held(SystemTime::now()).await.map_err(|error| failed(unloaded(&error)))? {
        Some(held) => Ok(Identity::Chain { chain, kind: held.kind(), from: held.from }),
        None => Ok(Identity::Nobody),
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().operation_timeout(OPERATION_TIMEOUT).build()
}

/// Keeps credential requests away from the S3 endpoint, to which the SDK would send them: it reads
/// `AWS_ENDPOINT_URL` and the profile's `endpoint_url` as the endpoint of every service.
#[derive(Debug, Clone)]
struct Gate {
    barred: Vec<wire::Origin>,
    sts: url::Url,
}

impl Gate {
    /// A gate where an endpoint of all services is set and `AWS_ENDPOINT_URL_STS` does not say otherwise.
    ///
    /// The SDK reads the process's own variables, which `profile` repeats; the configuration from the cluster may
    /// have put another endpoint in their place, so both are barred.
    fn new(environment: &Environment, profile: &Profile, region: &str) -> Result<Option<Self>, Error> {
        let endpoints = [environment.var("AWS_ENDPOINT_URL"), profile.endpoint.as_deref()];
        let mut endpoints = endpoints.into_iter().flatten().filter(|endpoint| !endpoint.trim().is_empty()).peekable();
        if endpoints.peek().is_none() || environment.var("AWS_ENDPOINT_URL_STS").is_some() {
            return Ok(None);
        }
        let wrong = |_| Error::Usage("AWS_ENDPOINT_URL or the region makes no URL".to_owned());
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let sts = url::Url::parse(&format!("https://sts.{region}.{domain}/")).map_err(|_| wrong(()))?;
        let origin = |endpoint| wire::Url::parse(endpoint).map(|url| url.origin()).map_err(|_| wrong(()));
        let barred = endpoints.map(origin).collect::<Result<_, _>>()?;
        Ok(Some(Self { barred, sts }))
    }

    /// Where a credential request goes instead of `url`.
    ///
    /// # Errors
    /// `Refused` for a request that only the endpoint's own service could answer.
    fn admit(&self, url: url::Url, body: &[u8]) -> Result<url::Url, Failure> {
        let target = wire::Url::parse(url.as_str())?.origin();
        // A container's credentials endpoint may share the address in tests and sidecars; it takes no action.
        let sso = ["/federation/", "/token", "/client/"].iter().any(|path| url.path().starts_with(path));
        if !self.barred.contains(&target) || !(body.starts_with(b"Action=") || sso) {
            return Ok(url);
        }
        // The one action that is not signed: a signature names the host it was made for.
        if body.starts_with(b"Action=AssumeRoleWithWebIdentity&") {
            return Ok(self.sts.clone());
        }
        let text = "a role or single sign-on needs its own endpoint beside AWS_ENDPOINT_URL: set AWS_ENDPOINT_URL_STS, or use AWS_ENDPOINT_URL_S3";
        Err(Failure::new(FailureKind::Denied, text))
    }
}

/// Our control client as the SDK's.
#[derive(Debug, Clone)]
struct Http {
    control: Control,
    gate: Option<Gate>,
}

impl HttpClient for Http {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { control, gate } = self.clone();
        HttpConnectorFuture::new(async move {
            let call = translated(request, gate.as_ref()).map_err(connector_error)?;
            let answer = control.call(call).await.map_err(connector_error)?;
            if let Some(wait) = wait_asked(&answer) {
                // The SDK does not read Retry-After; it repeats once this reply has come.
                tokio::time::sleep(wait).await;
            }
            let mut response = http::Response::new(SdkBody::from(answer.body));
            let odd =
                |_| connector_error(Failure::new(FailureKind::BadReply, "a reply with an impossible status or header"));
            *response.status_mut() = http::StatusCode::from_u16(answer.status).map_err(|_| odd(()))?;
            *response.headers_mut() = answer.headers;
            HttpResponse::try_from(response).map_err(|_| odd(()))
        })
    }
}

/// The `Retry-After` of a slow-down, already capped.
pub(super) fn wait_asked(answer: &Answer) -> Option<Duration> {
    let value = answer.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    matches!(answer.status, 429 | 503).then(|| wire::refusal::retry_after(value, SystemTime::now()))?
}

fn translated(request: HttpRequest, gate: Option<&Gate>) -> Result<Call, Failure> {
    let odd = |_| Failure::new(FailureKind::Refused, "a request that is no HTTP request");
    let (parts, body) = request.try_into_http1x().map_err(|_| odd(()))?.into_parts();
    let body = Bytes::copy_from_slice(body.bytes().ok_or(()).map_err(odd)?);
    let url = url::Url::parse(&parts.uri.to_string()).map_err(|_| odd(()))?;
    let url = match gate {
        Some(gate) => gate.admit(url, &body)?,
        None => url,
    };
    let mut headers = parts.headers;
    // Made anew from the URL, which the gate may have changed.
    headers.remove(http::header::HOST);
    Ok(Call { method: parts.method, url, headers, body, take: Take::Whole { bytes_max: REPLY_BYTES_MAX } })
}

/// What the SDK repeats: broken and silent connections. Hosts that cannot be reached were tried enough.
fn connector_error(failure: Failure) -> ConnectorError {
    let kind = failure.kind;
    let carried = Box::new(Carried(failure));
    match kind {
        FailureKind::Broken => ConnectorError::io(carried),
        FailureKind::Stalled => ConnectorError::timeout(carried),
        _ => ConnectorError::other(carried, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(variables: &[(&str, &str)], region: &str) -> Option<Gate> {
        let environment =
            Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Gate::new(&environment, &Profile::default(), region).unwrap()
    }

    #[test]
    fn web_identity_goes_to_sts_and_never_to_the_s3_endpoint() {
        let endpoint = ("AWS_ENDPOINT_URL", "http://minio:9000");
        let url = || url::Url::parse("http://minio:9000/").unwrap();
        let web = b"Action=AssumeRoleWithWebIdentity&Version=2011-06-15";
        for (region, host) in
            [("eu-west-1", "sts.eu-west-1.amazonaws.com"), ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn")]
        {
            let sent = gate(&[endpoint], region).unwrap().admit(url(), web).unwrap();
            assert_eq!((sent.scheme(), sent.host_str()), ("https", Some(host)));
        }
        let gate = gate(&[endpoint], "eu-west-1").unwrap();
        assert_eq!(gate.admit(url(), b"Action=AssumeRole&x").unwrap_err().kind, FailureKind::Denied);
        let sso = url().join("/federation/credentials?role_name=x").unwrap();
        assert_eq!(gate.admit(sso, b"").unwrap_err().kind, FailureKind::Denied);
        let container = url().join("/v2/credentials/x").unwrap();
        assert_eq!(gate.admit(container.clone(), b""), Ok(container));
        let sts = url::Url::parse("https://sts.eu-west-1.amazonaws.com/").unwrap();
        assert_eq!(gate.admit(sts.clone(), web), Ok(sts));
    }

    #[test]
    fn an_endpoint_of_the_profile_is_barred_too() {
        let profile = Profile { endpoint: Some("http://minio:9000".to_owned()), region: None };
        let gate = Gate::new(&Environment::default(), &profile, "eu-west-1").unwrap().unwrap();
        let url = url::Url::parse("http://minio:9000/").unwrap();
        assert!(gate.admit(url, b"Action=AssumeRole&x").is_err());
    }

    #[test]
    fn the_processes_endpoint_stays_barred_under_another_of_the_cluster() {
        let environment = Environment::new([("AWS_ENDPOINT_URL".to_owned(), "http://of-the-cluster:1".to_owned())]);
        let profile = Profile { endpoint: Some("http://of-the-process:1".to_owned()), region: None };
        let gate = Gate::new(&environment, &profile, "eu-west-1").unwrap().unwrap();
        for host in ["of-the-cluster", "of-the-process"] {
            let url = url::Url::parse(&format!("http://{host}:1/")).unwrap();
            let sent = gate.admit(url, b"Action=AssumeRoleWithWebIdentity&Version=2011-06-15").unwrap();
            assert_eq!(sent.host_str(), Some("sts.eu-west-1.amazonaws.com"), "{host}");
        }
        let blank = Profile { endpoint: Some(" ".to_owned()), region: None };
        assert!(Gate::new(&Environment::default(), &blank, "eu-west-1").unwrap().is_none());
    }

    #[test]
    fn an_sts_endpoint_of_its_own_needs_no_gate() {
        assert!(gate(&[("AWS_ENDPOINT_URL", "http://x"), ("AWS_ENDPOINT_URL_STS", "http://x")], "r").is_none());
        assert!(gate(&[("AWS_ENDPOINT_URL_S3", "http://x")], "r").is_none());
    }
}
