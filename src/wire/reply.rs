//! An accepted reply: its body goes where the caller says.
//!
//! Holds: [`Reply::fill`] never brings a byte beyond what the reply promised; no wait without
//! [`STALL_BYTES_MIN`] of progress outlasts the stall timeout; a connection is reused only after a whole body.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::STALL_BYTES_MIN;
use super::body::{Body, Want};
use super::check::Accepted;
use super::client::Lane;
use super::counters::Tally;
use super::link::Link;
use super::url::Url;
use crate::error::{Failure, FailureKind};
use crate::manifest::Version;
use crate::units;

/// Whether a connection outlives its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It may carry another request.
    Keep,
    /// It ends with this body.
    Close,
}

/// A reply whose head was accepted. Dropped before its end, its connection is closed.
pub struct Reply {
    lane: Rc<Lane>,
    link: Link,
    url: Url,
    body: Body,
    after: After,
    accepted: Accepted,
    tally: Tally,
    delivered: u64,
    filled: usize,
    failed: Option<Failure>,
    watch: Watch,
    /// When the last call ended: the caller's own time is no stall.
    paused: Instant,
}

/// Counts a reply's progress against the stall timeout.
struct Watch {
    timeout: Duration,
    since: Instant,
    bytes: u64,
}

impl Watch {
    fn new(timeout: Duration) -> Self {
        Self { timeout, since: Instant::now(), bytes: 0 }
    }

    fn deadline(&self) -> Instant {
        self.since + self.timeout
    }

    fn progressed(&mut self, bytes: u64) {
        self.bytes += bytes;
        if STALL_BYTES_MIN <= self.bytes {
            *self = Self::new(self.timeout);
        }
    }
}

impl Reply {
    pub(super) fn new(
        lane: Rc<Lane>,
        link: Link,
        url: Url,
        body: Body,
        after: After,
        accepted: Accepted,
        tally: Tally,
    ) -> Self {
        let watch = Watch::new(lane.settings.stall_timeout);
        let paused = Instant::now();
        Self { lane, link, url, body, after, accepted, tally, delivered: 0, filled: 0, failed: None, watch, paused }
    }

    /// Size of the whole object, where stated or planned.
    pub fn size(&self) -> Option<u64> {
        self.accepted.size
    }

    /// Bytes the body brings in all; `None` when only its end can tell.
    pub fn length(&self) -> Option<u64> {
        self.accepted.length
    }

    /// The version the reply states; weak ETags included, as the origin wrote them.
    pub fn version(&self) -> &Version {
        &self.accepted.version
    }

    /// Body bytes delivered so far, by all calls together.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Good bytes at the front of the buffer of the last [`Reply::fill`], when that failed.
    pub fn filled_before_failure(&self) -> usize {
        self.filled
    }

    /// Reads the body into `buf` until that is full or the body ends: shorter only at its end.
    ///
    /// The call that brings the last promised byte also proves that no more follows.
    ///
    /// # Errors
    /// `Broken` when the body ends early, `Stalled` without progress, `BadReply` for more bytes than promised
    /// or broken framing. The failure stays: further calls return it again. A call dropped half-way leaves `Broken`.
    pub async fn fill(&mut self, buf: &mut [u8]) -> Result<usize, Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        // Until this call has ended: dropped half-way, bytes would be lost between it and the next.
        self.failed = Some(Failure::new(FailureKind::Broken, format!("{}: a read was abandoned", self.url)));
        self.filled = 0;
        self.watch.since += self.paused.elapsed();
        let result = self.run(buf).await;
        self.paused = Instant::now();
        self.failed = result.err().map(|failure| Failure::new(failure.kind, format!("{}: {failure}", self.url)));
        match &self.failed {
            None => Ok(self.filled),
            Some(failure) => {
                self.lane.avoid(&self.link.key, self.link.peer);
                Err(failure.clone())
            }
        }
    }

    /// Gives the connection back after a whole body; otherwise closes it.
    pub fn finish(self) {
        if self.body.want() == Want::End && self.after == After::Keep && self.failed.is_none() {
            self.lane.keep(self.link);
        }
    }

    async fn run(&mut self, buf: &mut [u8]) -> Result<(), Failure> {
        loop {
            let left = self.accepted.length.map_or(u64::MAX, |length| length - self.delivered);
            match self.body.want() {
                Want::End if left == 0 || self.accepted.length.is_none() => return Ok(()),
                Want::End => return Err(Failure::new(FailureKind::Broken, "the body ended early")),
                // A full buffer ends the call, except to see the end behind the last promised byte.
                _ if self.filled == buf.len() && left != 0 => return Ok(()),
                Want::Framing => self.framing().await?,
                Want::Data(_) if left == 0 => self.nothing_more().await?,
                Want::Data(offered) => {
                    let room = usize::try_from(offered.min(left)).unwrap_or(usize::MAX);
                    self.data(buf, room).await?;
                }
            }
        }
    }

    /// Moves up to `room` bytes of data to their place in `buf`.
    async fn data(&mut self, buf: &mut [u8], room: usize) -> Result<(), Failure> {
        let rate = self.lane.settings.rate.as_ref();
        let room = rate.map_or(room, |rate| room.min(rate.read_bytes_max()));
        let space = &mut buf[self.filled..];
        let room = room.min(space.len());
        let read = timed(&self.watch, self.link.read(&mut space[..room])).await?;
        let bytes = u64::try_from(read).unwrap_or(u64::MAX);
        if read == 0 {
            return self.body.closed();
        }
        self.body.took(bytes);
        self.filled += read;
        self.delivered += bytes;
        self.tally.received(bytes);
        self.watch.progressed(bytes);
        if let Some(rate) = rate {
            let before = Instant::now();
            rate.acquire(bytes).await;
            // Waiting for our own limit is not the origin's stall.
            self.watch.since += before.elapsed();
        }
        Ok(())
    }

    /// Consumes chunk framing.
    async fn framing(&mut self) -> Result<(), Failure> {
        let used = self.body.feed(self.link.held())?;
        self.link.consume(used);
        if used == 0 && timed(&self.watch, self.link.more()).await? == 0 {
            return self.body.closed();
        }
        Ok(())
    }

    /// Every promised byte is here, yet the framing offers data: only the peer's close is good.
    async fn nothing_more(&mut self) -> Result<(), Failure> {
        let mut byte = [0];
        match timed(&self.watch, self.link.read(&mut byte)).await {
            Ok(0) => self.body.closed(),
            Ok(_) => Err(Failure::new(FailureKind::BadReply, "the body is longer than promised")),
            // A close without TLS's goodbye is as good here: the length was stated.
            Err(failure) if failure.kind == FailureKind::Broken => self.body.closed(),
            Err(failure) => Err(failure),
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Reply");
        shown.field("url", &self.url).field("accepted", &self.accepted).field("delivered", &self.delivered);
        shown.finish_non_exhaustive()
    }
}

/// One read within the stall timeout.
async fn timed(watch: &Watch, read: impl Future<Output = std::io::Result<usize>>) -> Result<usize, Failure> {
    match tokio::time::timeout_at(watch.deadline(), read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(Failure::new(FailureKind::Broken, error.to_string())),
        Err(_elapsed) => {
            let time = units::show_duration(watch.timeout);
            Err(Failure::new(FailureKind::Stalled, format!("no progress for {time}")))
        }
    }
}
