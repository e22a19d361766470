//! Opens connections: addresses in turn, a tunnel where a proxy stands between, TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Settings;
use super::address::{self, Class};
use super::dns::Resolver;
use super::http1;
use super::link::{Key, Link, Stream};
use super::proxy::{Proxy, Route};
use super::refusal;
use super::secure::Secure;
use super::tls;
use super::url::{Origin, Scheme};
use crate::error::{Failure, FailureKind};
use crate::units;

/// How long one address may keep the next from being tried (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// Bytes of a proxy's reply to CONNECT.
const CONNECT_REPLY_BYTES_MAX: usize = 16 << 10;

/// Which connection to open, and what to prefer.
pub(super) struct Wanted<'a> {
    /// What the connection is for.
    pub(super) key: &'a Key,
    /// How to get there.
    pub(super) route: &'a Route,
    /// The class of the peer that named the origin; `None` for the user.
    pub(super) namer: Option<Class>,
    /// The address that failed last: tried after the others.
    pub(super) avoid: Option<IpAddr>,
    /// Which of several addresses to begin with.
    pub(super) turn: usize,
}

fn unreachable(detail: String) -> Failure {
    Failure::new(FailureKind::Unreachable, detail)
}

/// Opens a connection within the connect timeout.
///
/// # Errors
/// `Unreachable` when nobody answers or TLS refuses, `Refused` for addresses the namer may not name,
/// `Denied` when the proxy wants credentials.
pub(super) async fn open(settings: &Settings, resolver: &Resolver, wanted: &Wanted<'_>) -> Result<Link, Failure> {
    let origin = &wanted.key.origin;
    match tokio::time::timeout(settings.connect_timeout, establish(settings, resolver, wanted)).await {
        Ok(result) => result,
        Err(_elapsed) => {
            let time = units::show_duration(settings.connect_timeout);
            Err(unreachable(format!("{}: no connection within {time}", origin.authority())))
        }
    }
}

async fn establish(settings: &Settings, resolver: &Resolver, wanted: &Wanted<'_>) -> Result<Link, Failure> {
    let origin = &wanted.key.origin;
    let named = address::class_of_host(&origin.host);
    if let (Some(namer), Some(class)) = (wanted.namer, named) {
        address::admit(namer, &origin.host, class)?;
    }
    let (host, port, namer) = match wanted.route {
        Route::Direct => (&origin.host, origin.port, wanted.namer),
        // The user chose the proxy; what it resolves a name to is its own policy.
        Route::Forward(proxy) | Route::Tunnel(proxy) => (&proxy.host, proxy.port, None),
    };
    let addresses = order(resolver.lookup(host).await?, wanted);
    let addresses = admitted(addresses, host, namer)?;
    let place = match wanted.route {
        Route::Direct => origin.authority(),
        Route::Forward(proxy) | Route::Tunnel(proxy) => place_of(proxy),
    };
    let (tcp, peer) = dial(&place, port, &addresses).await?;
    tcp.set_nodelay(true).map_err(|error| unreachable(format!("{place}: {error}")))?;
    settings.counters.connected();
    let (tcp, class) = match wanted.route {
        Route::Direct => (tcp, address::class_of(peer)),
        Route::Forward(_) => (tcp, named.unwrap_or(Class::Public)),
        Route::Tunnel(proxy) => (tunnel(tcp, proxy, origin).await?, named.unwrap_or(Class::Public)),
    };
    let stream = match origin.scheme {
        Scheme::Http => Stream::Plain(tcp),
        Scheme::Https => secure(settings, tcp, origin).await?,
    };
    Ok(Link::new(stream, wanted.key.clone(), class, peer))
}

fn place_of(proxy: &Proxy) -> String {
    format!("proxy {}:{}", proxy.host, proxy.port)
}

/// Begins with another address each time, so that connections spread; the one that failed last comes last.
fn order(mut addresses: Vec<IpAddr>, wanted: &Wanted<'_>) -> Vec<IpAddr> {
    // Two families take turns in the list: rotating by pairs keeps the first family first.
    let mixed = addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6);
    let step = if mixed { 2 } else { 1 };
    let rounds = (addresses.len() / step).max(1);
    addresses.rotate_left(wanted.turn % rounds * step);
    addresses.sort_by_key(|ip| Some(*ip) == wanted.avoid);
    addresses
}

fn admitted(addresses: Vec<IpAddr>, host: &str, namer: Option<Class>) -> Result<Vec<IpAddr>, Failure> {
    let Some(namer) = namer else { return Ok(addresses) };
    for ip in &addresses {
        address::admit(namer, host, address::class_of(*ip))?;
    }
    Ok(addresses)
}

/// Tries the addresses in order, the next whenever one fails or takes longer than [`STAGGER`].
async fn dial(place: &str, port: u16, addresses: &[IpAddr]) -> Result<(TcpStream, IpAddr), Failure> {
    let mut waiting = addresses.iter().copied();
    let mut tries = FuturesUnordered::new();
    let mut last = "no address".to_owned();
    loop {
        if let Some(ip) = waiting.next() {
            tries.push(async move { (ip, TcpStream::connect(SocketAddr::new(ip, port)).await) });
        }
        tokio::select! {
            ended = tries.next() => match ended {
                Some((ip, Ok(stream))) => return Ok((stream, ip)),
                Some((_, Err(error))) => last = error.to_string(),
                None => return Err(unreachable(format!("{place}: {last}"))),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() != 0 => {}
        }
    }
}

/// Asks the proxy for a tunnel to `origin`.
async fn tunnel(mut tcp: TcpStream, proxy: &Arc<Proxy>, origin: &Origin) -> Result<TcpStream, Failure> {
    let authority = origin.authority();
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\n").into_bytes();
    http1::line(&mut request, "Host", &authority)?;
    if let Some(authorization) = &proxy.authorization {
        http1::line(&mut request, "Proxy-Authorization", authorization.expose())?;
    }
    request.extend_from_slice(b"\r\n");
    let place = place_of(proxy);
    let broken = |error: std::io::Error| unreachable(format!("{place}: {error}"));
    tcp.write_all(&request).await.map_err(broken)?;
    let mut reply = Vec::new();
    let mut part = [0; 1024];
    loop {
        let read = tcp.read(&mut part).await.map_err(broken)?;
        reply.extend_from_slice(&part[..read]);
        match http1::parse_head(&reply)? {
            Some((head, used)) => return tunnelled(head.status, reply.len() - used, &place).map(|()| tcp),
            None if read == 0 => return Err(unreachable(format!("{place} closed the connection"))),
            None if CONNECT_REPLY_BYTES_MAX <= reply.len() => {
                return Err(unreachable(format!("{place}: its reply is longer than {CONNECT_REPLY_BYTES_MAX} bytes")));
            }
            None => {}
        }
    }
}

/// The verdict on a proxy's reply to CONNECT with `extra` bytes behind its head.
fn tunnelled(status: u16, extra: usize, place: &str) -> Result<(), Failure> {
    match status {
        200..=299 if extra == 0 => Ok(()),
        200..=299 => Err(Failure::new(FailureKind::BadReply, format!("{place} spoke into the tunnel"))),
        401 | 403 | 407 => {
            Err(Failure::new(FailureKind::Denied, format!("{place} refused the tunnel with status {status}")))
        }
        _ => Err(unreachable(format!("{place} answered CONNECT with status {status}"))),
    }
}

async fn secure(settings: &Settings, tcp: TcpStream, origin: &Origin) -> Result<Stream, Failure> {
    let name = ServerName::try_from(origin.host.clone())
        .map_err(|_| unreachable(format!("{} is no name TLS can verify", refusal::clean(&origin.host))))?;
    let stream = Secure::connect(Arc::clone(&settings.tls), name, tcp).await;
    let stream =
        stream.map_err(|error| unreachable(format!("TLS with {}: {}", origin.authority(), tls::describe(&error))))?;
    Ok(Stream::Tls(Box::new(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &str, turn: usize, avoid: Option<&str>, want: &str) {
        let ips = |text: &str| text.split(' ').map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let origin = Origin { scheme: Scheme::Http, host: "h".to_owned(), port: 80 };
        let key = Key { origin, via: None };
        let avoid = avoid.map(|ip| ip.parse().unwrap());
        let wanted = Wanted { key: &key, route: &Route::Direct, namer: None, avoid, turn };
        assert_eq!(order(ips(addresses), &wanted), ips(want), "{addresses} turn {turn}");
    }

    #[test]
    fn connections_spread_over_addresses_and_shun_the_last_failing_one() {
        check("1.1.1.1", 5, None, "1.1.1.1");
        check("1.1.1.1", 5, Some("1.1.1.1"), "1.1.1.1");
        check("1.1.1.1 2.2.2.2 3.3.3.3", 0, None, "1.1.1.1 2.2.2.2 3.3.3.3");
        check("1.1.1.1 2.2.2.2 3.3.3.3", 4, None, "2.2.2.2 3.3.3.3 1.1.1.1");
        check("1.1.1.1 2.2.2.2 3.3.3.3", 4, Some("2.2.2.2"), "3.3.3.3 1.1.1.1 2.2.2.2");
        check("1.1.1.1 ::1 2.2.2.2 ::2", 1, None, "2.2.2.2 ::2 1.1.1.1 ::1");
        check("127.0.0.1 ::1", 1, None, "127.0.0.1 ::1");
    }

    #[test]
    fn one_forbidden_address_among_good_ones_refuses_the_name() {
        let addresses: Vec<IpAddr> = vec!["1.1.1.1".parse().unwrap(), "169.254.169.254".parse().unwrap()];
        assert_eq!(admitted(addresses.clone(), "h", None), Ok(addresses.clone()));
        let failure = admitted(addresses, "h", Some(Class::Public)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused);
    }
}
