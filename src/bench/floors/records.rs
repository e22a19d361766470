//! TLS over memory: records are read by the hundred kilobytes and decrypted where they lie.
//!
//! rustls copies the plaintext of each into a vector of its own, and it is copied from there to where it is wanted: as
//! often as by its buffered connection, which reads a record at a time at most.
//!
//! In: bytes from a socket. Out: plaintext in the caller's buffer, bytes for the socket. No sockets here.
//! Holds: plaintext that does not fit is kept for the next call; buffers do not grow with the body.

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

/// Bytes read from the socket at once at most: eight records, which stay in the core's own cache.
const INCOMING_BYTES: usize = 128 << 10;

/// Less room than this behind what is there calls for moving it to the front: a record and its frame.
const ROOM_BYTES: usize = 17 << 10;

/// What a record adds to its content, and a handshake message at its longest.
const OUTGOING_BYTES: usize = 32 << 10;

/// The client's side of one TLS connection.
pub(super) struct Records {
    connection: UnbufferedClientConnection,
    incoming: Box<[u8]>,
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
    /// A request that waits for the handshake to end.
    request: Vec<u8>,
    /// Plaintext that did not fit, and how much of it was taken since.
    held: Vec<u8>,
    taken: usize,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// So many bytes of plaintext are in the buffer.
    Took(usize),
    /// [`Records::outgoing`] is to be sent, and then [`Records::sent`] to be called.
    Send,
    /// More is to be read into [`Records::room`].
    Receive,
    /// The peer has ended the connection.
    Closed,
}

impl Records {
    pub(super) fn new(connection: UnbufferedClientConnection) -> Self {
        Self {
            connection,
            incoming: vec![0; INCOMING_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            outgoing: Vec::new(),
            request: Vec::new(),
            held: Vec::new(),
            taken: 0,
        }
    }

    /// Queues a request; it goes out as soon as the handshake allows.
    pub(super) fn ask(&mut self, request: &[u8]) {
        self.request.extend_from_slice(request);
    }

    /// Whether nothing is left to be sent.
    pub(super) fn has_asked(&self) -> bool {
        self.request.is_empty() && self.outgoing.is_empty()
    }

    /// Whether plaintext is held that nobody has taken.
    pub(super) fn has_plain(&self) -> bool {
        self.taken < self.held.len()
    }

    /// What is to be sent.
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// Everything in [`Records::outgoing`] was sent.
    pub(super) fn sent(&mut self) {
        self.outgoing.clear();
    }

    /// Where bytes from the socket go; never empty.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.incoming.len() - self.end < ROOM_BYTES {
            self.incoming.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.incoming[self.end..]
    }

    /// `bytes` were read into [`Records::room`].
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Goes on with what is there, and puts plaintext at the front of `into`; where that is empty, plaintext is held.
    pub(super) fn next(&mut self, into: &mut [u8]) -> Result<Next, rustls::Error> {
        if self.has_plain() && !into.is_empty() {
            let held = &self.held[self.taken..];
            let fits = held.len().min(into.len());
            into[..fits].copy_from_slice(&held[..fits]);
            self.taken += fits;
            return Ok(Next::Took(fits));
        }
        loop {
            let incoming = &mut self.incoming[self.start..self.end];
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(incoming);
            let next = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    self.held.drain(..self.taken);
                    self.taken = 0;
                    let mut filled = 0;
                    while let Some(record) = traffic.next_record() {
                        let payload = record?.payload;
                        let fits = payload.len().min(into.len() - filled);
                        into[filled..filled + fits].copy_from_slice(&payload[..fits]);
                        self.held.extend_from_slice(&payload[fits..]);
                        filled += fits;
                    }
                    Some(Next::Took(filled))
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let before = self.outgoing.len();
                    self.outgoing.resize(before + OUTGOING_BYTES, 0);
                    let wrote = data.encode(&mut self.outgoing[before..]).map_err(general)?;
                    self.outgoing.truncate(before + wrote);
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    Some(Next::Send)
                }
                ConnectionState::WriteTraffic(mut traffic) if !self.request.is_empty() => {
                    let before = self.outgoing.len();
                    self.outgoing.resize(before + self.request.len() + OUTGOING_BYTES, 0);
                    let wrote = traffic.encrypt(&self.request, &mut self.outgoing[before..]).map_err(general)?;
                    self.outgoing.truncate(before + wrote);
                    self.request.clear();
                    Some(Next::Send)
                }
                ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake => Some(Next::Receive),
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(Next::Closed),
                other => return Err(rustls::Error::General(format!("{other:?} is not a client's"))),
            };
            self.start += discard;
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }
}

fn general(error: impl std::fmt::Display) -> rustls::Error {
    rustls::Error::General(error.to_string())
}
