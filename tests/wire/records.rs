//! TLS records of every size, cut, damaged, rekeyed in mid-body: a server that writes them by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use dray::error::FailureKind;
use dray::manifest::Version;
use dray::schedule::Connection;
use dray::units::ByteRange;
use dray::wire::Asked;
use rustls::{ServerConfig, ServerConnection};

use super::tls_and_tunnels::{Authority, client_trusting};
use super::{access, content, run};

/// Several reads' worth of records.
const BODY_BYTES: usize = 700_001;

/// What the server does half way through the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Nothing,
    /// New keys, and it asks the client for new ones too.
    Rekey,
    /// One bit of the next record arrives wrong.
    Flip,
    /// The connection ends in the middle of a record.
    Cut,
    /// The connection ends between two records, without a goodbye.
    Leave,
    /// TLS's goodbye, in order, and then the end.
    Goodbye,
}

/// Serves one connection: its first request is answered with the body, in records of `record` bytes. Where the keys are
/// new, it hears another request.
fn serve(config: &Arc<ServerConfig>, record: usize, deed: Deed) -> SocketAddr {
    let mut config = ServerConfig::clone(config);
    config.max_fragment_size = Some(record);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
        let mut request = [0; 4096];
        let lines = format!(
            "HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\nContent-Range: bytes 0-{}/{BODY_BYTES}\r\nContent-Length: {BODY_BYTES}\r\n\r\n",
            BODY_BYTES - 1
        );
        let body = content(0..BODY_BYTES);
        let (first, second) = body.split_at(BODY_BYTES / 2);
        for _ in 0..if deed == Deed::Rekey { 2 } else { 1 } {
            // The client may leave at any time: that is the test's to judge.
            let _asked = rustls::Stream::new(&mut tls, &mut tcp).read(&mut request);
            let _sent = say(&mut tls, &mut tcp, &[lines.as_bytes(), first].concat(), Deed::Nothing)
                .and_then(|()| say(&mut tls, &mut tcp, second, deed));
        }
        let _closed = std::io::copy(&mut tcp, &mut std::io::sink());
    });
    address
}

fn say(tls: &mut ServerConnection, tcp: &mut TcpStream, bytes: &[u8], deed: Deed) -> std::io::Result<()> {
    if deed == Deed::Rekey {
        tls.refresh_traffic_keys().unwrap();
    }
    if deed == Deed::Goodbye {
        tls.send_close_notify();
    }
    for part in bytes.chunks(32 << 10) {
        tls.writer().write_all(part)?;
        let mut records = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut records)?;
        }
        match deed {
            Deed::Flip => records[100] ^= 1,
            Deed::Cut => records.truncate(100),
            Deed::Leave => records.clear(),
            Deed::Nothing | Deed::Rekey | Deed::Goodbye => {}
        }
        tcp.write_all(&records)?;
        if !matches!(deed, Deed::Nothing | Deed::Rekey) {
            return tcp.shutdown(std::net::Shutdown::Write);
        }
    }
    Ok(())
}

/// Fetches the body by buffers of `room` bytes: what came, and how it ended.
fn fetch(authority: &Authority, address: SocketAddr, room: usize) -> (Vec<u8>, Option<FailureKind>) {
    fetch_times(authority, address, room, 1)
}

/// Fetches the body so many times, on one connection.
fn fetch_times(
    authority: &Authority,
    address: SocketAddr,
    room: usize,
    times: usize,
) -> (Vec<u8>, Option<FailureKind>) {
    let client = client_trusting(&[authority.path("ca.pem")], None);
    let size = u64::try_from(BODY_BYTES).unwrap();
    let version = Version { etag: Some("\"e\"".to_owned()), ..Version::default() };
    let asked = Asked { range: Some(ByteRange::new(0, size)), size: Some(size), version, ..Asked::default() };
    run(async {
        let access = access(&format!("https://localhost:{}/o", address.port()));
        let (mut all, mut buf) = (Vec::new(), vec![0; room]);
        for _ in 0..times {
            let mut reply = client.get(&access, &asked, Connection::Any).await.unwrap();
            loop {
                match reply.fill(&mut buf).await {
                    Ok(0) => break,
                    Ok(filled) => all.extend_from_slice(&buf[..filled]),
                    Err(failure) => {
                        all.extend_from_slice(&buf[..reply.filled_before_failure()]);
                        return (all, Some(failure.kind));
                    }
                }
            }
            reply.finish();
        }
        (all, None)
    })
}

fn one_version(authority: &Authority, version: &'static rustls::SupportedProtocolVersion) -> Arc<ServerConfig> {
    let (certificate, key) = authority.chain("localhost");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(certificate, key).unwrap())
}

#[test]
fn records_of_every_size_end_as_the_same_bytes() {
    let authority = Authority::new();
    authority.issue("localhost", 2);
    let expected = content(0..BODY_BYTES);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = one_version(&authority, version);
        for (record, room) in
            [(64, 100_000), (1000, 7), (4096, 65_536), (16_384, 1 << 20), (16_384, 16_384), (16_000, 999)]
        {
            let (got, failure) = fetch(&authority, serve(&config, record, Deed::Nothing), room);
            assert!(got == expected && failure.is_none(), "{version:?} {record} {room}: {} {failure:?}", got.len());
        }
    }
    let rekeyed = serve(&one_version(&authority, &rustls::version::TLS13), 4096, Deed::Rekey);
    // The server accepts once: the other request comes with the client's own new keys.
    assert!(fetch_times(&authority, rekeyed, 50_000, 2) == (expected.repeat(2), None));
}

#[test]
fn damaged_and_cut_records_break_the_reply_behind_good_bytes() {
    let authority = Authority::new();
    authority.issue("localhost", 2);
    let expected = content(0..BODY_BYTES);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = one_version(&authority, version);
        for deed in [Deed::Flip, Deed::Cut, Deed::Leave, Deed::Goodbye] {
            for room in [1000, 1 << 20] {
                let (got, failure) = fetch(&authority, serve(&config, 4096, deed), room);
                assert_eq!(failure, Some(FailureKind::Broken), "{version:?} {deed:?}");
                assert!(got == expected[..BODY_BYTES / 2], "{version:?} {deed:?}: {} bytes", got.len());
            }
        }
    }
}
