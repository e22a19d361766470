//! TLS over a socket: many records a read, each decrypted where it arrived.
//!
//! In: a configuration, a server's name, a connected socket. Out: a stream of plain bytes.
//! Holds: every byte comes out of rustls' own record layer; buffers are bounded, whatever the peer sends; a close
//! without TLS's goodbye is an error, as a cut connection is; after a failure of TLS every read and write fails.
//!
//! rustls' buffered connection reads one record (16 KiB) at a time at most, and moves what is behind it to the front of
//! its buffer; its unbuffered one leaves the buffers to us (docs/performance.md has what that is worth). Both copy the
//! plain bytes into a vector of rustls' own, and those are copied again to where the reader wants them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes of records read at once: four of them, which stay in the processor's cache until they are decrypted.
const INCOMING_BYTES: usize = 64 << 10;

/// Bytes of one handshake message with its records: rustls refuses messages of 64 KiB.
const INCOMING_BYTES_MAX: usize = 160 << 10;

/// A record and its head (RFC 5246 §6.2.3 allows the most).
const RECORD_BYTES_MAX: usize = (16 << 10) + 2048 + 5;

/// Plain bytes that become one record.
const SAID_BYTES_MAX: usize = 16 << 10;

/// What a record adds to its bytes, and more.
const RECORD_EXTRA_BYTES: usize = 256;

/// A TLS connection whose handshake is done.
pub(super) struct Secure {
    tcp: TcpStream,
    session: Session,
}

/// The session without its socket.
struct Session {
    tls: UnbufferedClientConnection,
    incoming: Incoming,
    /// Records to send, and how much of them was sent.
    outgoing: Vec<u8>,
    sent: usize,
    /// Plain bytes the last reader had no room for, and how much of them was read since.
    plain: Vec<u8>,
    read: usize,
    /// The peer said goodbye.
    ended: bool,
    /// Told once the good bytes before it were read.
    failed: Option<io::Error>,
    /// Something failed: rustls says nothing of what it does when it is asked again.
    lost: bool,
}

/// Records as they arrived, from `start` to `end`.
struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Why [`Session::advance`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// The handshake needs more records.
    Handshake,
    /// No whole record is left, or the reader has no room.
    Traffic,
}

impl Secure {
    /// Shakes hands over `tcp`.
    ///
    /// # Errors
    /// The socket's, or `InvalidData` around what rustls refused.
    pub(super) async fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        tcp: TcpStream,
    ) -> io::Result<Self> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        let mut secure = Self { tcp, session: Session::new(tls) };
        std::future::poll_fn(|cx| secure.poll_handshake(cx)).await?;
        Ok(secure)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let stopped = self.advance(&mut ReadBuf::new(&mut []), None)?;
            ready!(self.poll_send(cx))?;
            if stopped == Stopped::Traffic {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(cx))?;
        }
    }

    /// Decrypts what has arrived; a refusal is told to the peer as far as its socket takes it.
    fn advance(&mut self, sink: &mut ReadBuf<'_>, said: Option<&[u8]>) -> io::Result<Stopped> {
        if self.session.lost {
            return Err(io::Error::other("TLS has failed on this connection"));
        }
        self.session.advance(sink, said).inspect_err(|_| self.give_notice())
    }

    fn give_notice(&mut self) {
        let session = &mut self.session;
        session.lost = true;
        session.encode_alert();
        // The connection is lost either way; an alert only helps whoever reads the peer's log.
        drop(self.tcp.try_write(&session.outgoing[session.sent..]));
        session.outgoing.clear();
        session.sent = 0;
    }

    /// Sends what the session has to say.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = &mut self.session;
        while session.sent < session.outgoing.len() {
            let bytes = ready!(Pin::new(&mut self.tcp).poll_write(cx, &session.outgoing[session.sent..]))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            session.sent += bytes;
        }
        session.outgoing.clear();
        session.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Waits for more records.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let incoming = &mut self.session.incoming;
        let mut space = ReadBuf::new(incoming.space()?);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut space))?;
        match space.filled().len() {
            0 => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed without TLS's goodbye")))
            }
            bytes => {
                incoming.end += bytes;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncRead for Secure {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if let Some(error) = this.session.failed.take() {
            return Poll::Ready(Err(error));
        }
        loop {
            if let Err(error) = this.advance(buf, None) {
                if before == buf.filled().len() {
                    return Poll::Ready(Err(error));
                }
                this.session.failed = Some(error);
                return Poll::Ready(Ok(()));
            }
            // What a write left, if anything: reading need not wait for it. rustls keeps its answer to a key update for
            // the next write.
            if let Poll::Ready(Err(error)) = this.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            if before < buf.filled().len() || buf.remaining() == 0 || this.session.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_receive(cx))?;
        }
    }
}

impl AsyncWrite for Secure {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        let said = &bytes[..bytes.len().min(SAID_BYTES_MAX)];
        this.advance(&mut ReadBuf::new(&mut []), Some(said))?;
        // What the socket does not take now goes out with the next write, flush or read.
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(said.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

impl Session {
    fn new(tls: UnbufferedClientConnection) -> Self {
        let incoming = Incoming { bytes: vec![0; INCOMING_BYTES], start: 0, end: 0 };
        Self {
            tls,
            incoming,
            outgoing: Vec::new(),
            sent: 0,
            plain: Vec::new(),
            read: 0,
            ended: false,
            failed: None,
            lost: false,
        }
    }

    /// Decrypts into `sink` until that is full or no whole record is left, and encrypts `said` where it is given.
    /// What has no room in `sink` is kept for the next one.
    fn advance(&mut self, sink: &mut ReadBuf<'_>, mut said: Option<&[u8]>) -> io::Result<Stopped> {
        self.drain_plain(sink);
        loop {
            if said.is_none() && sink.capacity() != 0 && sink.remaining() == 0 {
                return Ok(Stopped::Traffic);
            }
            let Incoming { bytes, start, end } = &mut self.incoming;
            let UnbufferedStatus { mut discard, state, .. } = self.tls.process_tls_records(&mut bytes[*start..*end]);
            let stopped = match state.map_err(invalid)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        let now = record.payload.len().min(sink.remaining());
                        sink.put_slice(&record.payload[..now]);
                        self.plain.extend_from_slice(&record.payload[now..]);
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    append(&mut self.outgoing, |space| message.encode(space).map_err(too_small))?;
                    None
                }
                ConnectionState::TransmitTlsData(queued) => {
                    queued.done();
                    None
                }
                ConnectionState::WriteTraffic(mut traffic) => match said.take() {
                    Some(said) => {
                        append(&mut self.outgoing, |space| traffic.encrypt(said, space).map_err(exhausted))?;
                        None
                    }
                    None => Some(Stopped::Traffic),
                },
                ConnectionState::BlockedHandshake => Some(Stopped::Handshake),
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    self.ended = true;
                    Some(Stopped::Traffic)
                }
                other => return Err(io::Error::other(format!("TLS went into the state {other:?}"))),
            };
            self.incoming.consume(discard);
            match stopped {
                Some(_) if said.is_some() => return Err(io::ErrorKind::BrokenPipe.into()),
                Some(stopped) => return Ok(stopped),
                None => {}
            }
        }
    }

    fn drain_plain(&mut self, sink: &mut ReadBuf<'_>) {
        let now = (self.plain.len() - self.read).min(sink.remaining());
        sink.put_slice(&self.plain[self.read..self.read + now]);
        self.read += now;
        if self.read == self.plain.len() {
            self.plain.clear();
            self.read = 0;
        }
    }

    /// Queues what rustls wants the peer to know of a refusal.
    fn encode_alert(&mut self) {
        let Incoming { bytes, start, end } = &mut self.incoming;
        if let Ok(ConnectionState::EncodeTlsData(mut alert)) =
            self.tls.process_tls_records(&mut bytes[*start..*end]).state
        {
            // Nothing comes after an alert, not even the complaint that it cannot be encoded.
            drop(append(&mut self.outgoing, |space| alert.encode(space).map_err(too_small)));
        }
    }
}

impl Incoming {
    /// Drops `bytes` from the front.
    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.end, "more was consumed than had arrived");
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room for more, for a whole record where possible; never empty.
    fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.bytes.len() - self.end < RECORD_BYTES_MAX {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() == self.end {
            if INCOMING_BYTES_MAX <= self.end {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS handshake message without end"));
            }
            self.bytes.resize((2 * self.end).min(INCOMING_BYTES_MAX), 0);
        }
        Ok(&mut self.bytes[self.end..])
    }
}

/// Appends what `write` puts into the space it is given: its size, or how much space it needs.
fn append(bytes: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, Short>) -> io::Result<()> {
    let before = bytes.len();
    let mut room = SAID_BYTES_MAX + RECORD_EXTRA_BYTES;
    // Twice at most: the first refusal says how much is needed.
    for _ in 0..2 {
        bytes.resize(before + room, 0);
        match write(&mut bytes[before..]) {
            Ok(written) => {
                bytes.truncate(before + written);
                return Ok(());
            }
            Err(Short::By(required)) => room = required.min(INCOMING_BYTES_MAX),
            Err(Short::ForGood) => break,
        }
    }
    bytes.truncate(before);
    Err(io::Error::other("TLS has nothing more to send this connection with"))
}

/// Why something was not written.
enum Short {
    /// So much space is needed.
    By(usize),
    /// It cannot be.
    ForGood,
}

fn too_small(error: EncodeError) -> Short {
    match error {
        EncodeError::InsufficientSize(size) => Short::By(size.required_size),
        EncodeError::AlreadyEncoded => Short::ForGood,
    }
}

fn exhausted(error: EncryptError) -> Short {
    match error {
        EncryptError::InsufficientSize(size) => Short::By(size.required_size),
        EncryptError::EncryptExhausted => Short::ForGood,
    }
}

/// As `tls::describe` looks for it.
fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
