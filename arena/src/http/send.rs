//! Puts a reply on a socket, slowly, brokenly or not at all. Every wait here has an end.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::reply::{Connection, Cut, End, Framing, Pace, Point, Reply};
use crate::content::Content;
use crate::pool::CHUNK_BYTES;

/// Pause before a reset: what was sent is delivered first, so `after` means what it says.
const RESET_PAUSE: Duration = Duration::from_millis(30);

/// A reply on its way.
pub(super) struct Sending<'a> {
    pub(super) stream: &'a mut TcpStream,
    pub(super) shared: &'a Shared,
    /// The entry of the request log to charge, if the log had room.
    pub(super) entry: Option<usize>,
}

impl Sending<'_> {
    /// Sends `reply`, without its body for a HEAD, and says what becomes of the connection.
    pub(super) async fn send(&mut self, reply: &Reply, head_only: bool) -> io::Result<Connection> {
        sleep(reply.delay.min(self.shared.options.stall_max)).await;
        if let Some(Cut { point: Point::BeforeHeaders, end }) = reply.cut {
            return self.end(end).await;
        }
        self.shared.answered(self.entry, reply.status);
        self.write(&reply.head()).await?;
        if head_only || reply.status == 304 {
            return Ok(reply.connection);
        }
        let whole = reply.body.len();
        let cut = match reply.cut {
            Some(Cut { point: Point::Body(after), end }) => Some((after.min(whole), end)),
            _ => None,
        };
        self.body(reply, cut.map_or(whole, |(after, _)| after)).await?;
        if let Some((_, end)) = cut {
            return self.end(end).await;
        }
        if reply.framing == Framing::Chunked {
            self.write(b"0\r\n\r\n").await?;
        }
        self.extra(reply.extra).await?;
        Ok(reply.connection)
    }

    /// Body bytes 0 to `limit`, framed and paced.
    async fn body(&mut self, reply: &Reply, limit: u64) -> io::Result<()> {
        let begun = Instant::now();
        let step = match reply.pace {
            None => CHUNK_BYTES as u64,
            Some(Pace::Drip(_)) => 1,
            // Fifty steps a second: smooth, and cheap enough.
            Some(Pace::Rate(rate)) => (rate / 50).clamp(1, CHUNK_BYTES as u64),
        };
        let mut at = 0;
        while at < limit {
            let chunk = reply.body.chunk(&self.shared.pool, at, step.min(limit - at));
            match reply.framing {
                Framing::Length => self.write(&chunk).await?,
                Framing::Chunked => {
                    self.write(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
                    self.write(&chunk).await?;
                    self.write(b"\r\n").await?;
                }
            }
            at += chunk.len() as u64;
            self.shared.charge(self.entry, chunk.len() as u64);
            match reply.pace {
                None => {}
                Some(Pace::Drip(every)) => sleep(every.min(self.shared.options.stall_max)).await,
                Some(Pace::Rate(rate)) => {
                    sleep_until(begun + Duration::from_secs_f64(at as f64 / rate as f64)).await;
                }
            }
        }
        Ok(())
    }

    async fn extra(&mut self, extra: u64) -> io::Result<()> {
        let junk = Content::generated(0, extra);
        let mut at = 0;
        while at < extra {
            let chunk = self.shared.pool.chunk(&junk, at, extra - at);
            self.write(&chunk).await?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    async fn end(&mut self, end: End) -> io::Result<Connection> {
        match end {
            End::Fin => self.stream.shutdown().await?,
            End::Reset => {
                sleep(RESET_PAUSE).await;
                self.stream.set_zero_linger()?;
            }
            End::Stall => {
                let mut sink = [0; 1024];
                // The client's own end or the bound ends the silence; which one does not matter.
                drop(
                    timeout(self.shared.options.stall_max, async {
                        while self.stream.read(&mut sink).await.is_ok_and(|n| n != 0) {}
                    })
                    .await,
                );
            }
        }
        Ok(Connection::Close)
    }

    /// A client that does not read is given up after the stall bound.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(self.shared.options.stall_max, self.stream.write_all(bytes)).await?
    }
}
