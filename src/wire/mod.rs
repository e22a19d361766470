//! Every ranged GET of every origin: an HTTP/1.1 client whose body goes from the socket into the caller's slab.
//!
//! In: an [`Access`] (where, with which headers) and what was [`Asked`]. Out: a [`Reply`] that fills buffers.
//! Holds: a reply counts only if it is exactly what was asked; no wait outlasts the stall timeout; every
//! length read from the wire has a bound; a header bound to an origin is sent to no other origin.
//! One [`Client`] belongs to one lane: a current-thread runtime, nothing in it is `Send`.

pub mod address;
pub mod body;
pub mod check;
mod client;
mod connect;
mod counters;
mod date;
pub mod dns;
pub mod http1;
mod link;
mod pool;
pub mod proxy;
pub mod rate;
pub mod redirect;
pub mod refusal;
mod reply;
mod secrets;
mod secure;
mod target;
pub mod tls;
mod url;

use std::sync::Arc;
use std::time::Duration;

use crate::manifest::Version;
use crate::secret::Secret;
use crate::units::ByteRange;

pub use address::Class;
pub use client::Client;
pub use counters::Counters;
pub use pool::SmallClient;
pub use reply::Reply;
pub use target::Redirects;
pub use url::{Origin, Scheme, Url};

/// What every lane of a run shares: trust, proxies, name servers, timeouts, counters.
#[derive(Debug)]
pub struct Settings {
    /// Roots and protocol versions; [`tls::client_config`] makes it.
    pub tls: Arc<rustls::ClientConfig>,
    /// The same for those who issue credentials: verified even where the source is not.
    pub identity_tls: Arc<rustls::ClientConfig>,
    /// Which requests go through a proxy.
    pub proxies: proxy::Proxies,
    /// Name servers and search list.
    pub dns: dns::Config,
    /// Bound of name lookup, connect and TLS handshake together. Default 10 s.
    pub connect_timeout: Duration,
    /// Less than [`STALL_BYTES_MIN`] for this long drops a reply. Default 10 s.
    pub stall_timeout: Duration,
    /// The `User-Agent` of every request.
    pub user_agent: String,
    /// Bytes per second over all lanes, and over all settings that share it; `None` for no limit.
    pub rate: Option<Arc<rate::Limiter>>,
    /// What was done so far.
    pub counters: Counters,
    /// Where sources redirected to.
    pub redirects: Redirects,
    /// The client of small requests to what the user named.
    pub client: SmallClient,
}

/// Bytes a reply must bring within each stall timeout: a drip of single bytes is a stall too.
pub const STALL_BYTES_MIN: u64 = 16 << 10;

impl Settings {
    /// Defaults around a TLS configuration: no proxy, the system's name servers, 10 s timeouts, no rate limit.
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            identity_tls: tls.clone(),
            tls,
            proxies: proxy::Proxies::default(),
            dns: dns::Config::system(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
            user_agent: concat!("dray/", env!("CARGO_PKG_VERSION")).to_owned(),
            rate: None,
            counters: Counters::default(),
            redirects: Redirects::default(),
            client: SmallClient::default(),
        }
    }
}

/// Where an object is and how to be let in.
#[derive(Debug, Clone)]
pub struct Access {
    /// The object's URL, perhaps signed.
    pub url: Url,
    /// Headers for this URL's origin only; a redirect to another origin drops them.
    pub headers: Vec<(String, Secret)>,
    /// Who named the URL.
    pub policy: Policy,
    /// In which coding the object's bytes are asked for.
    pub coding: Coding,
}

/// The `Accept-Encoding` of a request, and with it what `Content-Encoding` a reply may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Coding {
    /// `identity`: the bytes as they are, in a reply without a coding.
    #[default]
    Identity,
    /// `gzip`, for stores that decode an object stored as gzip unless the client takes gzip: the stored bytes are
    /// what is wanted, and what the reply's coding says of them is no matter. Nothing is ever decoded.
    Stored,
    /// `identity`, of stores that never code on the way: a coding of the reply is the stored object's own, whichever
    /// it is, and its stored bytes are what is wanted.
    Kept,
}

/// Who named a URL: decides which addresses it may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The user: any address. Its redirects still obey [`redirect`].
    #[default]
    Configured,
    /// An answer of a peer at such an address: the URL is held to the rules of a redirect from there.
    NamedBy(Class),
}

/// What a reply must answer to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The bytes wanted, never empty; `None` for the whole object in one reply.
    pub range: Option<ByteRange>,
    /// The planned size of the whole object, where known.
    pub size: Option<u64>,
    /// The planned version.
    pub version: Version,
    /// The coding asked for, as the [`Access`] says.
    pub coding: Coding,
}
