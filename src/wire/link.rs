//! One connection: a stream, the bytes read beyond a head, and what is known of its peer.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::address::Class;
use super::secure::Secure;
use super::url::Origin;

/// Bytes read at once while looking for a head or chunk framing: what lies behind it must be copied once.
const LOOKAHEAD_BYTES: usize = 8 << 10;

/// What connections may stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The origin at the far end.
    pub(super) origin: Origin,
    /// `host:port` of the proxy in between.
    pub(super) via: Option<String>,
}

/// Plain TCP or TLS over it.
pub(super) enum Stream {
    /// Bytes go from the socket straight to the reader's buffer.
    Plain(TcpStream),
    /// Bytes are decrypted on the way.
    Tls(Box<Secure>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection and the bytes that arrived on it before they were wanted.
pub(super) struct Link {
    stream: Stream,
    held: Vec<u8>,
    start: usize,
    /// What it may be reused for.
    pub(super) key: Key,
    /// The class of the far end, as far as we know it.
    pub(super) class: Class,
    /// The address of the peer.
    pub(super) peer: IpAddr,
}

impl Link {
    /// A link on which nothing was sent yet.
    pub(super) fn new(stream: Stream, key: Key, class: Class, peer: IpAddr) -> Self {
        Self { stream, held: Vec::new(), start: 0, key, class, peer }
    }

    /// Sends a request.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Bytes that arrived and were not consumed.
    pub(super) fn held(&self) -> &[u8] {
        &self.held[self.start..]
    }

    /// Drops `bytes` from the front of [`Link::held`].
    pub(super) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.held.len());
        if self.start == self.held.len() {
            self.held.clear();
            self.start = 0;
        }
    }

    /// Waits for more bytes behind [`Link::held`]; 0 when the peer closed.
    pub(super) async fn more(&mut self) -> io::Result<usize> {
        if self.start != 0 {
            self.held.drain(..self.start);
            self.start = 0;
        }
        self.held.reserve(LOOKAHEAD_BYTES);
        self.stream.read_buf(&mut self.held).await
    }

    /// Fills the front of `buf` with what is held, else straight from the stream; 0 when the peer closed.
    pub(super) async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.held().is_empty() {
            return self.stream.read(buf).await;
        }
        let ready = self.held().len().min(buf.len());
        buf[..ready].copy_from_slice(&self.held()[..ready]);
        self.consume(ready);
        Ok(ready)
    }

    /// Whether the peer has neither closed nor said anything unasked.
    pub(super) fn is_quiet(&mut self) -> bool {
        if !self.held().is_empty() {
            return false;
        }
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf).is_pending()
    }
}
