//! A raw HTTP server of threads that says exactly what a test tells it to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dray::wire::{Access, Coding, Policy, Url};

/// Answers the n-th request on a connection: the bytes to send, and what to do then.
type Handler = dyn Fn(usize, &str) -> (Vec<u8>, Then);

/// What the server does after its bytes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Then {
    Keep,
    Close,
    Reset,
    Hang,
    /// One byte every 20 ms, for as long as the peer listens.
    Drip,
}

/// A server, and each request it saw with the number of its connection.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Connection number and text of each request.
    pub(crate) seen: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Server {
    /// Answers request number `n` with `handler(n, its text)`.
    pub(crate) fn start(handler: impl Fn(usize, &str) -> (Vec<u8>, Then) + Send + Sync + 'static) -> Self {
        Self::start_with(None, handler)
    }

    /// [`Server::start`], behind TLS if asked.
    pub(crate) fn start_with(
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(usize, &str) -> (Vec<u8>, Then) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, handler) = (Arc::clone(&seen), Arc::new(handler));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (stream, log, handler, tls) =
                    (stream.unwrap(), Arc::clone(&log), Arc::clone(&handler), tls.clone());
                thread::spawn(move || match tls {
                    None => serve(stream.try_clone().unwrap(), stream, number, &log, &*handler),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).unwrap();
                        serve(
                            rustls::StreamOwned::new(session, stream.try_clone().unwrap()),
                            stream,
                            number,
                            &log,
                            &*handler,
                        );
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// Answers every request with the same bytes.
    pub(crate) fn always(reply: impl Into<Vec<u8>>, then: Then) -> Self {
        let reply = reply.into();
        Self::start(move |_, _| (reply.clone(), then))
    }

    /// Access to `target` on this server.
    pub(crate) fn access(&self, target: &str) -> Access {
        let url = Url::parse(&format!("http://{}{target}", self.address)).unwrap();
        Access { url, headers: Vec::new(), policy: Policy::Configured, coding: Coding::Identity }
    }

    /// The text of each request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }

    /// The number of the connection each request came on.
    pub(crate) fn connections_used(&self) -> Vec<usize> {
        self.seen.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }
}

/// Serves one connection: `stream` to talk, `tcp` to break it off.
fn serve(
    mut stream: impl Read + Write,
    tcp: TcpStream,
    number: usize,
    log: &Mutex<Vec<(usize, String)>>,
    handler: &Handler,
) {
    while let Some(text) = read_head(&mut stream) {
        let index = {
            let mut log = log.lock().unwrap();
            log.push((number, text.clone()));
            log.len() - 1
        };
        let (bytes, then) = handler(index, &text);
        // The client may have hung up on purpose.
        if stream.write_all(&bytes).and_then(|()| stream.flush()).is_err() {
            return;
        }
        match then {
            Then::Keep => {}
            Then::Close => return,
            Then::Reset => return reset(tcp),
            Then::Hang => {
                let mut rest = Vec::new();
                let _closed = stream.read_to_end(&mut rest);
                return;
            }
            Then::Drip => {
                tcp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                while stream.write_all(b"x").is_ok() {
                    let _paced = stream.read(&mut [0]);
                }
                return;
            }
        }
    }
}

/// The next request head, or `None` at the end of the connection.
pub(crate) fn read_head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// Closes with RST instead of FIN.
fn reset(tcp: TcpStream) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // What was sent must arrive before the reset throws it away.
        tokio::time::sleep(Duration::from_millis(50)).await;
        tcp.set_nonblocking(true).unwrap();
        tokio::net::TcpStream::from_std(tcp).unwrap().set_zero_linger().unwrap();
    });
}
