//! Small requests of the control thread: one client for listings, HEADs and credentials.
//!
//! In: a method, a URL, headers. Out: the whole reply, its body capped. Redirects are never followed here.
//! Holds: a call ends within [`CALL_TIMEOUT`], and sooner when its reply drips; a host that cannot be reached is given up within [`REACH_TIMEOUT`];
//! a client made for a URL that a peer named connects only where that peer may lead; the text of a refusal does not
//! repeat what the request carried in secret.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::{Error, Failure, FailureKind};
use crate::origin::failed;
use crate::secret::Secret;
use crate::wire::address::{self, Class};
use crate::wire::dns::Resolver;
use crate::wire::http1::Head;
use crate::wire::proxy::Route;
use crate::wire::refusal::{ERROR_BODY_BYTES_MAX, clean};
use crate::wire::{Counters, Origin, Policy, STALL_BYTES_MIN, Scheme, Settings};

/// Bound of one call, body included.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Bound of all tries to connect within one call; with a metadata service asked before, still under 20 s.
pub(crate) const REACH_TIMEOUT: Duration = Duration::from_secs(15);

/// Bound of one try to connect: name, TCP and TLS.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Tries to connect within one call.
const CONNECTS_MAX: u32 = 3;

/// Pause before another try to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(300);

/// Values shorter than this are ordinary words, not secrets.
const SECRET_BYTES_MIN: usize = 8;

/// Headers whose values are secrets.
const SECRET_HEADERS: [&str; 5] = [
    "authorization",
    "x-amz-security-token",
    "x-aws-ec2-metadata-token",
    "x-amz-sso_bearer_token",
    "x-identity-header",
];

/// Fields of a form whose values are secrets.
const SECRET_FIELDS: [&str; 3] = ["WebIdentityToken", "client_secret", "client_assertion"];

/// Requests side by side, and idle connections kept.
pub(crate) const CALLS_MAX: usize = 16;

/// A control client. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    client: reqwest::Client,
    counters: Counters,
    /// A reply that brings less than [`STALL_BYTES_MIN`] for this long, and does not end, is given up.
    patience: Duration,
}

/// One request.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: url::Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) take: Take,
}

/// What is taken of a reply's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// All of it; more than this many bytes are a failure.
    Whole {
        /// Bytes.
        bytes_max: usize,
    },
    /// The beginning of a refusal's text; nothing of a success.
    Refusal,
}

/// One reply.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The peer's address, or the proxy's.
    pub(crate) peer: Option<IpAddr>,
}

/// A [`Failure`] where a library wants an error type; found again by [`failure_in`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Carried(pub(crate) Failure);

impl Control {
    /// A client with the run's trust, name servers and proxies, for URLs named by `policy`.
    pub(crate) fn new(settings: &Settings, policy: Policy) -> Result<Self, Error> {
        // Where a peer may lead depends on the peer, so only what the user named shares connections.
        if policy != Policy::Configured {
            return Self::trusting(&settings.tls, settings, policy);
        }
        if let Some(client) = settings.client.0.get() {
            let (client, counters) = (client.clone(), settings.counters.clone());
            return Ok(Self { client, counters, patience: settings.stall_timeout });
        }
        let made = Self::trusting(&settings.tls, settings, policy)?;
        settings.client.0.get_or_init(|| made.client.clone());
        Ok(made)
    }

    /// A client as [`Control::new`] makes it, with a trust of its own.
    pub(crate) fn trusting(tls: &rustls::ClientConfig, settings: &Settings, policy: Policy) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Names { resolver: Arc::new(Resolver::new(&settings.dns)), policy })
            .connect_timeout(settings.connect_timeout.min(CONNECT_TIMEOUT_MAX))
            .read_timeout(settings.stall_timeout)
            .timeout(CALL_TIMEOUT)
            .pool_max_idle_per_host(CALLS_MAX)
            .user_agent(settings.user_agent.as_str())
            .no_proxy();
        for scheme in [Scheme::Http, Scheme::Https] {
            if let Some(proxy) = proxy(settings, scheme)? {
                builder = builder.proxy(proxy);
            }
        }
        let client = builder.build();
        let client = client.map_err(|error| Error::Internal(format!("control client: {}", innermost(&error))))?;
        Ok(Self { client, counters: settings.counters.clone(), patience: settings.stall_timeout })
    }

    /// The `Authorization` of `user:password`.
    ///
    /// # Errors
    /// [`Error::Usage`] when it makes no header.
    pub(crate) fn basic(&self, userinfo: &Secret) -> Result<HeaderValue, Error> {
        let (user, password) = userinfo.expose().split_once(':').unwrap_or((userinfo.expose(), ""));
        // The host does not matter: nothing is sent, the client only writes the header.
        let request = self.client.get("http://localhost/").basic_auth(user, Some(password)).build();
        let value = request.ok().and_then(|request| request.headers().get(http::header::AUTHORIZATION).cloned());
        value.ok_or_else(|| Error::Usage("the login in the source's URL makes no header".to_owned()))
    }

    /// Sends one request and takes the whole reply, whatever its status.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, Failure> {
        let place = place(&call.url);
        let deadline = Instant::now() + REACH_TIMEOUT;
        let mut tries = 0;
        let response = loop {
            tries += 1;
            let request = self
                .client
                .request(call.method.clone(), call.url.clone())
                .headers(call.headers.clone())
                .body(call.body.clone());
            match request.send().await {
                Ok(response) => break response,
                Err(error) => {
                    let failure = failure(&place, &error);
                    let again = match failure.kind {
                        FailureKind::Unreachable => tries < CONNECTS_MAX,
                        // A connection that was idle may have been closed just now (RFC 9112 §9.3.1). Callers ask
                        // a GET again themselves; after a HEAD they turn to a dearer way.
                        FailureKind::Broken => tries == 1 && call.method == Method::HEAD,
                        _ => false,
                    };
                    if !again || deadline < Instant::now() + CONNECT_TIMEOUT_MAX {
                        return Err(failure);
                    }
                    if failure.kind == FailureKind::Unreachable {
                        sleep(CONNECT_PAUSE).await;
                    }
                }
            }
        };
        let bound = timeout(CALL_TIMEOUT, answer(&place, response, call.take, self.patience)).await;
        let late = || Err(Failure::new(FailureKind::Stalled, format!("{place} does not finish its reply")));
        let mut answer = bound.unwrap_or_else(|_| late())?;
        self.counters.answered();
        if 400 <= answer.status {
            answer.body = scrubbed(&answer.body, &call.secrets());
        }
        Ok(answer)
    }
}

impl Call {
    /// What a refusal could echo and nobody may read.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        let bound = self.headers.iter().filter(|(name, _)| SECRET_HEADERS.contains(&name.as_str()));
        for value in bound.filter_map(|(_, value)| value.to_str().ok()) {
            secrets.push(value.to_owned());
            // `Basic x` leaks as `x`, a signature without the scope before it.
            secrets.extend(value.rsplit([' ', '=']).find(|part| !part.is_empty()).map(str::to_owned));
        }
        if self.take == Take::Refusal {
            secrets.extend(self.url.query_pairs().map(|(_, value)| value.into_owned()));
            secrets.extend(self.url.query().into_iter().flat_map(|query| query.split(['&', '='])).map(str::to_owned));
        }
        let form = url::form_urlencoded::parse(&self.body);
        secrets.extend(
            form.filter(|(name, _)| SECRET_FIELDS.contains(&name.as_ref())).map(|(_, value)| value.into_owned()),
        );
        secrets
    }
}

/// `text` without `secrets`; it is a refusal's and at most as long as one.
pub(crate) fn scrubbed(text: &[u8], secrets: &[String]) -> Bytes {
    let mut text = String::from_utf8_lossy(text).into_owned();
    for secret in secrets.iter().filter(|secret| SECRET_BYTES_MIN <= secret.len()) {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), "(secret)");
        }
    }
    Bytes::from(text)
}

async fn answer(
    place: &str,
    mut response: reqwest::Response,
    take: Take,
    patience: Duration,
) -> Result<Answer, Failure> {
    let status = response.status().as_u16();
    let peer = response.remote_addr().map(|peer| peer.ip());
    let headers = std::mem::take(response.headers_mut());
    let (bytes_max, over) = match take {
        Take::Whole { bytes_max } => (bytes_max, Over::Fails),
        Take::Refusal if status < 400 => return Ok(Answer { status, headers, body: Bytes::new(), peer }),
        Take::Refusal => (ERROR_BODY_BYTES_MAX, Over::IsLeft),
    };
    let mut body = BytesMut::new();
    let (mut since, mut counted) = (Instant::now(), 0);
    loop {
        let Ok(chunk) = timeout_at(since + patience, response.chunk()).await else {
            if u64::try_from(body.len() - counted).is_ok_and(|brought| brought < STALL_BYTES_MIN) {
                return Err(Failure::new(FailureKind::Stalled, format!("{place} drips its reply")));
            }
            (since, counted) = (Instant::now(), body.len());
            continue;
        };
        let Some(chunk) = chunk.map_err(|error| failure(place, &error))? else { break };
        let room = bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        match over {
            Over::Fails if room < chunk.len() => {
                let text = format!("{place} sends a reply of more than {bytes_max} bytes");
                return Err(Failure::new(FailureKind::BadReply, text));
            }
            Over::IsLeft if room <= chunk.len() => break,
            Over::Fails | Over::IsLeft => {}
        }
    }
    Ok(Answer { status, headers, body: body.freeze(), peer })
}

/// What becomes of a body longer than its bound.
#[derive(Clone, Copy)]
enum Over {
    Fails,
    IsLeft,
}

/// The answer's head as the wire reads heads.
pub(super) fn head_of(answer: &Answer) -> Head {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = answer.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
    Head { status: answer.status, minor: 1, headers: headers.collect() }
}

/// How long to wait before asking again, `Some(None)` without a wish of the server; `None`: asking again is useless.
pub(super) fn pause_asked(failure: &Failure) -> Option<Option<Duration>> {
    match failure.kind {
        FailureKind::Throttled { retry_after } | FailureKind::Unavailable { retry_after } => Some(retry_after),
        FailureKind::Broken | FailureKind::Stalled => Some(None),
        _ => None,
    }
}

/// Scheme, host and port of a URL: all of it that an error may show.
pub(crate) fn place(url: &url::Url) -> String {
    url.origin().ascii_serialization()
}

fn failure(place: &str, error: &reqwest::Error) -> Failure {
    if let Some(failure) = failure_in(error) {
        return failure.clone();
    }
    let why = innermost(error);
    if error.is_connect() {
        let why = if error.is_timeout() { "no answer in time" } else { why.as_str() };
        return Failure::new(FailureKind::Unreachable, format!("cannot connect to {place}: {why}"));
    }
    if error.is_timeout() {
        return Failure::new(FailureKind::Stalled, format!("{place} does not answer"));
    }
    if error.is_builder() {
        return Failure::new(FailureKind::Refused, format!("no request can be made to {place}: {why}"));
    }
    Failure::new(FailureKind::Broken, format!("{place} broke the connection: {why}"))
}

/// The [`Failure`] that a library's error carries, if one of ours is behind it.
pub(crate) fn failure_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Failure> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Carried(failure)) = error.downcast_ref::<Carried>() {
            return Some(failure);
        }
        // An io::Error hides the error it was made of from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(failure) = inner.and_then(|inner| inner.downcast_ref::<Carried>()) {
            return Some(&failure.0);
        }
        next = error.source();
    }
    None
}

/// The text of the first cause. Outer errors repeat the URL, query and all; the first cause does not know it.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    clean(&inner.to_string())
}

/// The proxy of one scheme, which still decides request by request.
fn proxy(settings: &Settings, scheme: Scheme) -> Result<Option<reqwest::Proxy>, Error> {
    // Any host outside NO_PROXY tells whether there is a proxy and with which login.
    let outside = Origin { scheme, host: "host.outside-no-proxy.example".to_owned(), port: 1 };
    let (Route::Forward(proxy) | Route::Tunnel(proxy)) = settings.proxies.route(&outside) else { return Ok(None) };
    let proxies = settings.proxies.clone();
    let name = if scheme == Scheme::Https { "https" } else { "http" };
    let choose = move |url: &url::Url| {
        let origin = crate::wire::Url::parse(url.as_str()).ok()?.origin();
        if url.scheme() != name || origin.ip().is_some_and(is_link_local) {
            return None;
        }
        match proxies.route(&origin) {
            Route::Direct => None,
            Route::Forward(proxy) | Route::Tunnel(proxy) => {
                url::Url::parse(&format!("http://{}:{}", bracketed(&proxy.host), proxy.port)).ok()
            }
        }
    };
    let made = reqwest::Proxy::custom(choose);
    match proxy.authorization.as_ref().map(Secret::expose) {
        None => Ok(Some(made)),
        Some(login) => {
            let mut login = HeaderValue::from_str(login)
                .map_err(|_| Error::Usage(format!("the {name} proxy's login is not plain text")))?;
            login.set_sensitive(true);
            Ok(Some(made.custom_http_auth(login)))
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Metadata services of clouds and containers: no proxy can reach them.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.segments().first() == Some(&0xfd00),
    }
}

/// Name lookup that lets a named URL go only where its namer may send us.
struct Names {
    resolver: Arc<Resolver>,
    policy: Policy,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, policy) = (self.resolver.clone(), self.policy);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = resolver.lookup(&host).await.map_err(Carried)?;
            for ip in &found {
                if let Policy::NamedBy(namer) = policy {
                    address::admit(namer, &host, address::class_of(*ip)).map_err(Carried)?;
                }
            }
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// Whether `policy` lets a request go to the host of `url`, as far as its text tells: addresses are never looked up,
/// so [`Names`] does not see them.
///
/// # Errors
/// [`Error::Policy`], naming the host.
pub(crate) fn admit(url: &url::Url, policy: Policy) -> Result<(), Error> {
    let Policy::NamedBy(namer) = policy else { return Ok(()) };
    let host = crate::wire::Url::parse(url.as_str()).map_err(failed)?.origin().host;
    let class = address::class_of_host(&host);
    class.map_or(Ok(()), |class| address::admit(namer, &host, class)).map_err(failed)
}

/// The class of the peer that answered for `url`; behind a proxy the host's text must do.
pub(crate) fn class_of_peer(url: &crate::wire::Url, peer: Option<IpAddr>, settings: &Settings) -> Class {
    let origin = url.origin();
    let by_name = address::class_of_host(&origin.host);
    let direct = settings.proxies.route(&origin) == Route::Direct;
    by_name.or(peer.filter(|_| direct).map(address::class_of)).unwrap_or(Class::Public)
}
