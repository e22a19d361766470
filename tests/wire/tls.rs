//! Certificates made by the openssl command, TLS origins, and tunnels to them.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use dray::error::FailureKind;
use dray::schedule::Connection;
use dray::wire::{Client, proxy, tls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::server::{Server, Then, read_head};
use super::{access, asked, client, content, empty, fetch, good, run, settings};

/// A CA and certificates for `localhost`, made by the openssl command.
pub(crate) struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().unwrap() };
        authority.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=Test-CA -keyout ca.key -out ca.pem");
        authority
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(self.dir.path()).output();
        let output = output.expect("the openssl command (package openssl)");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for `name` that signs itself, as `openssl req -x509` makes it: marked as a CA.
    fn self_signed(&self, name: &str, days: u32) -> PathBuf {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} -subj /CN={name} -addext subjectAltName=DNS:{name} -keyout self.key -out self.pem"
        ));
        self.path("self.pem")
    }

    /// A server configuration with a certificate for `name`, valid for `days`.
    pub(crate) fn issue(&self, name: &str, days: i32) -> Arc<rustls::ServerConfig> {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -addext subjectAltName=DNS:{name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days {days} -copy_extensions copy -out {name}.pem"
        ));
        server_config(&self.path(&format!("{name}.pem")), &self.path(&format!("{name}.key")))
    }

    /// The certificate and key that [`Authority::issue`] made for `name`.
    pub(crate) fn chain(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let read = |kind: &str| std::fs::read(self.path(&format!("{name}.{kind}"))).unwrap();
        let certificate = CertificateDer::from_pem_slice(&read("pem")).unwrap();
        (vec![certificate], PrivateKeyDer::from_pem_slice(&read("key")).unwrap())
    }
}

fn server_config(certificate: &Path, key: &Path) -> Arc<rustls::ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(&std::fs::read(certificate).unwrap()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&std::fs::read(key).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

pub(crate) fn client_trusting(bundles: &[PathBuf], https_proxy: Option<&str>) -> Client {
    let mut settings = settings();
    settings.tls = Arc::new(tls::client_config(bundles).unwrap());
    settings.proxies = proxy::Proxies::new(None, https_proxy, None).unwrap();
    Client::new(Arc::new(settings))
}

#[test]
fn tls_carries_replies_from_trusted_peers_only() {
    let authority = Authority::new();
    let ca = [authority.path("ca.pem")];
    let serve = |config| Server::start_with(Some(config), |_, _| (good(), Then::Keep));
    let fetch = |client: &Client, server: &Server| {
        let access = access(&format!("https://localhost:{}/o", server.address.port()));
        run(async {
            let first = fetch(client, &access, &asked(), Connection::Any).await;
            if first.is_ok() { fetch(client, &access, &asked(), Connection::Any).await } else { first }
        })
    };
    let server = serve(authority.issue("localhost", 2));
    assert_eq!(fetch(&client_trusting(&ca, None), &server).unwrap(), content(10..30));
    assert_eq!(server.connections_used(), [0, 0]);
    let check = |client: &Client, server: &Server, words: &str| {
        let (failure, _) = fetch(client, server).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unreachable);
        assert!(failure.detail.contains(words), "{failure}");
    };
    check(&client(), &server, "unknown authority");
    check(&client_trusting(&ca, None), &serve(authority.issue("other.example", 2)), "another host");
    check(&client_trusting(&ca, None), &greeting("HTTP/1.1 400 Bad Request\r\n\r\n"), "does not speak TLS");
    let own = server_config(&authority.self_signed("localhost", 2), &authority.path("self.key"));
    assert_eq!(fetch(&client_trusting(&[authority.path("self.pem")], None), &serve(own)).unwrap(), content(10..30));
    let own = server_config(&authority.self_signed("other.example", 2), &authority.path("self.key"));
    check(&client_trusting(&[authority.path("self.pem")], None), &serve(own), "another host");
    let own = server_config(&authority.self_signed("localhost", 2), &authority.path("self.key"));
    check(&client_trusting(&ca, None), &serve(own), "certificate");
    assert!(tls::client_config(&[authority.path("ca.key")]).is_err());
    assert!(tls::client_config(&[authority.path("absent.pem")]).is_err());
}

/// A server that speaks first, and not TLS.
fn greeting(words: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server { address: listener.local_addr().unwrap(), seen: Arc::default() };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(words.as_bytes()).unwrap();
            let _closed = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    server
}

/// A proxy that tunnels every CONNECT to `target`.
fn tunnelling_proxy(target: SocketAddr) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server { address: listener.local_addr().unwrap(), seen: Arc::default() };
    let seen = Arc::clone(&server.seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut near = stream.unwrap();
            seen.lock().unwrap().push((0, read_head(&mut near).unwrap()));
            near.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").unwrap();
            let far = TcpStream::connect(target).unwrap();
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    server
}

#[test]
fn https_goes_through_a_tunnel() {
    let authority = Authority::new();
    let origin = Server::start_with(Some(authority.issue("localhost", 2)), |_, _| (good(), Then::Keep));
    let proxy = tunnelling_proxy(origin.address);
    let ca = [authority.path("ca.pem")];
    let through = |proxy: SocketAddr| client_trusting(&ca, Some(&format!("http://me:pw@{proxy}")));
    let target = access("https://localhost:1/o");
    assert_eq!(run(fetch(&through(proxy.address), &target, &asked(), Connection::Any)).unwrap(), content(10..30));
    assert_eq!(
        proxy.requests(),
        ["CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n"]
    );
    assert!(!origin.requests()[0].contains("Proxy"), "{}", origin.requests()[0]);
    for (reply, kind) in [
        (empty("407 Proxy Authentication Required", ""), FailureKind::Denied),
        (empty("502 Bad Gateway", ""), FailureKind::Unreachable),
        (format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(100_000)).into_bytes(), FailureKind::Unreachable),
        (b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec(), FailureKind::BadReply),
    ] {
        let proxy = Server::always(reply, Then::Close);
        let (failure, _) = run(fetch(&through(proxy.address), &target, &asked(), Connection::Any)).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(!failure.detail.contains("bWU6cHc="), "{failure}");
    }
}
