//! Names to addresses: literals and `localhost` at once, then /etc/hosts, then the name servers.
//!
//! Each lane has its own resolver, because a resolver's sockets belong to the runtime that opened them;
//! the configuration is read once. Without a resolv.conf, literals and known hosts still work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::time::Duration;

use futures::future::{self, Either};
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::{TokioResolver, system_conf};

use super::address;
use crate::error::{Failure, FailureKind};

/// Addresses tried for one name.
pub const ADDRESSES_MAX: usize = 8;

/// How long an answer of one family waits for the other (RFC 8305 §3 uses 50 ms).
const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(50);

/// Bound of one query to one server: the connect timeout holds two of them.
const QUERY_TIMEOUT_MAX: Duration = Duration::from_secs(3);

/// Name servers, search list and options.
#[derive(Debug, Clone)]
pub struct Config {
    servers: ResolverConfig,
    options: ResolverOpts,
}

impl Config {
    /// What /etc/resolv.conf says; without it, no name server.
    pub fn system() -> Self {
        let (servers, mut options) = system_conf::read_system_conf().unwrap_or_else(|error| {
            tracing::debug!(%error, "no usable resolv.conf: only literals and /etc/hosts resolve");
            (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default())
        });
        options.timeout = options.timeout.min(QUERY_TIMEOUT_MAX);
        options.attempts = options.attempts.min(2);
        options.cache_size = 256;
        Self { servers, options }
    }
}

/// One lane's resolver, with its cache.
pub struct Resolver(Result<TokioResolver, String>);

impl Resolver {
    /// A resolver that has asked nothing yet; reads /etc/hosts.
    pub fn new(config: &Config) -> Self {
        let builder = TokioResolver::builder_with_config(config.servers.clone(), TokioRuntimeProvider::default());
        let built = builder.with_options(config.options.clone()).build();
        Self(built.map_err(|error| error.to_string()))
    }

    /// The addresses of `host`, IPv4 and IPv6 in turn, at most [`ADDRESSES_MAX`], never none.
    ///
    /// # Errors
    /// `Unreachable` when the name is unknown or no name server answers.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        if address::is_localhost(host) {
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        }
        let fail = |why: &str| Failure::new(FailureKind::Unreachable, format!("cannot resolve host {host}: {why}"));
        let resolver = self.0.as_ref().map_err(|why| fail(why))?;
        let found = both(family(resolver, host, RecordType::A), family(resolver, host, RecordType::AAAA)).await;
        let addresses = found.map_err(|why| fail(&why))?;
        if addresses.is_empty() { Err(fail("the name has no address")) } else { Ok(interleave(&addresses)) }
    }
}

async fn family(resolver: &TokioResolver, host: &str, kind: RecordType) -> Result<Vec<IpAddr>, String> {
    let found = resolver.lookup(host, kind).await.map_err(|error| match error.is_no_records_found() {
        true => "no such name".to_owned(),
        false => super::refusal::clean(&error.to_string()),
    })?;
    Ok(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
}

/// Both families' addresses. The slower one is not waited for: some servers never answer AAAA.
async fn both<A, B>(v4: A, v6: B) -> Result<Vec<IpAddr>, String>
where
    A: Future<Output = Result<Vec<IpAddr>, String>>,
    B: Future<Output = Result<Vec<IpAddr>, String>>,
{
    let (v4, v6) = (pin!(v4), pin!(v6));
    let (first, other): (_, Either<_, _>) = match future::select(v4, v6).await {
        Either::Left((first, other)) => (first, Either::Right(other)),
        Either::Right((first, other)) => (first, Either::Left(other)),
    };
    match first {
        Ok(mut addresses) if !addresses.is_empty() => {
            if let Ok(Ok(more)) = tokio::time::timeout(OTHER_FAMILY_WAIT, other).await {
                addresses.extend(more);
            }
            Ok(addresses)
        }
        Ok(_) => other.await,
        Err(why) => other.await.and_then(|addresses| if addresses.is_empty() { Err(why) } else { Ok(addresses) }),
    }
}

/// IPv4 and IPv6 in turn, each in the given order, at most [`ADDRESSES_MAX`].
pub fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut v4 = addresses.iter().filter(|ip| ip.is_ipv4());
    let mut v6 = addresses.iter().filter(|ip| ip.is_ipv6());
    let mut out = Vec::new();
    loop {
        let before = out.len();
        out.extend(v4.next());
        out.extend(v6.next());
        if out.len() == before || ADDRESSES_MAX <= out.len() {
            out.truncate(ADDRESSES_MAX);
            return out;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_are_bounded() {
        assert_eq!(interleave(&ips("1.1.1.1 2.2.2.2 ::1 ::2 ::3")), ips("1.1.1.1 ::1 2.2.2.2 ::2 ::3"));
        assert_eq!(interleave(&ips("1.1.1.1 2.2.2.2")), ips("1.1.1.1 2.2.2.2"));
        assert!(interleave(&[]).is_empty());
        let many: Vec<IpAddr> = (0..20).map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))).collect();
        assert_eq!(interleave(&many).len(), ADDRESSES_MAX);
    }

    #[test]
    fn literals_and_localhost_need_no_name_server() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = Config {
                servers: ResolverConfig::from_parts(None, Vec::new(), Vec::new()),
                options: ResolverOpts::default(),
            };
            let resolver = Resolver::new(&config);
            assert_eq!(resolver.lookup("10.1.2.3").await, Ok(ips("10.1.2.3")));
            assert_eq!(resolver.lookup("fe80::1").await, Ok(ips("fe80::1")));
            assert_eq!(resolver.lookup("localhost").await, Ok(ips("127.0.0.1 ::1")));
            let failure = resolver.lookup("no-such-host.invalid").await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Unreachable);
        });
    }

    #[test]
    fn a_silent_family_does_not_hold_up_the_other() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let v4 = async { Ok(ips("1.1.1.1")) };
            assert_eq!(both(v4, future::pending()).await, Ok(ips("1.1.1.1")));
            let none = async { Err("no such name".to_owned()) };
            assert_eq!(both(none, async { Ok(ips("::1")) }).await, Ok(ips("::1")));
            let none = async { Err("no such name".to_owned()) };
            assert_eq!(both(none, async { Ok(Vec::new()) }).await, Err("no such name".to_owned()));
        });
    }
}
