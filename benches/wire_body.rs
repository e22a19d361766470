//! A body of 16 MiB received over loopback into one slab that is used again and again. Limited by: CPU, the kernel's
//! copy out of the socket, and for `https` the cipher; the server's thread has another core.
//!
//! The ratio of `https` to `http` is what TLS leaves; nothing is hashed or written.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dray::disk::{Slab, SlabPool};
use dray::schedule::Connection;
use dray::wire::{Access, Asked, Client, Coding, Policy, Settings, Url, tls};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const BODY_BYTES: usize = 16 << 20;

fn bench(criterion: &mut Criterion) {
    let keys = tempfile::tempdir().expect("a folder");
    let secured = certificate(keys.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let settings = tls::client_config(&[keys.path().join("own.pem")]).expect("a certificate");
    let client = Client::new(Arc::new(Settings::new(Arc::new(settings))));
    let mut slab = SlabPool::new(0).expect("a slab").try_lease().expect("nobody has it");
    let mut group = criterion.benchmark_group("wire_body");
    group.throughput(Throughput::Bytes(BODY_BYTES as u64)).sample_size(20);
    for (scheme, config) in [("http", None), ("https", Some(secured))] {
        let url = format!("{scheme}://localhost:{}/o", serve(config).port());
        let url = Url::parse(&url).expect("a URL");
        let access = Access { url, headers: Vec::new(), policy: Policy::Configured, coding: Coding::Identity };
        group.bench_function(BenchmarkId::new(scheme, "16MiB"), |bencher| {
            bencher.iter(|| assert_eq!(runtime.block_on(receive(&client, &access, &mut slab)), BODY_BYTES));
        });
    }
    group.finish();
}

/// One GET on a kept connection; the bytes of its body, the last of which was looked at.
async fn receive(client: &Client, access: &Access, slab: &mut Slab) -> usize {
    let mut reply = client.get(access, &Asked::default(), Connection::Any).await.expect("an answer");
    let mut received = 0;
    loop {
        let filled = reply.fill(slab).await.expect("a body");
        if filled == 0 {
            reply.finish();
            return received;
        }
        assert_eq!(slab[filled - 1], 7);
        received += filled;
    }
}

/// A certificate for `localhost` that signs itself, made by the openssl command as `own.pem`.
fn certificate(folder: &Path) -> Arc<ServerConfig> {
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
                 -addext subjectAltName=DNS:localhost -keyout own.key -out own.pem";
    let made = Command::new("openssl").args(words.split_whitespace()).current_dir(folder).output();
    assert!(made.expect("the openssl command (package openssl)").status.success());
    let key = PrivateKeyDer::from_pem_file(folder.join("own.key")).expect("a key");
    let own = CertificateDer::from_pem_file(folder.join("own.pem")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![own], key).expect("they belong together"))
}

/// A server that answers every request with the same body, one thread a connection, until the process ends.
fn serve(secured: Option<Arc<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let secured = secured.clone();
            std::thread::spawn(move || match secured {
                None => answer(stream),
                Some(config) => answer(secure(config, stream)),
            });
        }
    });
    address
}

fn secure(config: Arc<ServerConfig>, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(config).expect("a configuration"), stream)
}

/// Ends with the client's connection.
fn answer(stream: impl Read + Write) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    let reply = [head.as_bytes(), &vec![7; BODY_BYTES]].concat();
    let (mut stream, mut line) = (BufReader::new(stream), String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            stream.get_mut().write_all(&reply)?;
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
