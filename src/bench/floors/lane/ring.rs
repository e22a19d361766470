//! The lane on a runtime, as dray's own: a thread for each lane, its sockets by epoll, its writes by the ring.
//!
//! A connection fills one batch of slabs while the one before is written.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect;
use super::job::{BATCH_BYTES, Cvs, HEAD_READ_BYTES, Job, PATIENCE, Pace};
use crate::bench::floors::records::{Next, Records};
use crate::disk::{BATCH_SLABS_MAX, LaneDisk, PartFile, Rung, Slab, run_lane};
use crate::error::{Error, Failure, storage};
use crate::units::ByteRange;
use crate::verify;

/// Runs the job; the hashes of its pieces, where it hashes.
pub(super) fn run(job: &Job<'_>, rung: Rung, part: Option<&Arc<PartFile>>) -> Result<Cvs, Error> {
    job.on_threads(job.work.lanes, |lane| {
        run_lane(rung, |disk| connections(job, disk, part, lane))
            .map_err(|error| storage("cannot start a lane", &error))
    })
}

/// The connections of one lane, side by side.
async fn connections(job: &Job<'_>, disk: LaneDisk, part: Option<&Arc<PartFile>>, lane: usize) -> Cvs {
    let numbers = (lane..job.work.connections).step_by(job.work.lanes);
    let mut all: FuturesUnordered<_> = numbers.map(|number| connection(job, &disk, part, number)).collect();
    let mut cvs = Cvs::new();
    while let Some(ended) = all.next().await {
        match ended {
            Ok(more) => cvs.extend(more),
            Err(Failure { kind, detail }) => job.fail(Error::of(kind, detail)),
        }
    }
    cvs
}

/// Slabs of one write, with their bytes, and where it goes.
type Batch = (u64, Vec<(Slab, usize)>);

/// Takes spans until there are none.
async fn connection(
    job: &Job<'_>,
    disk: &LaneDisk,
    part: Option<&Arc<PartFile>>,
    number: usize,
) -> Result<Cvs, Failure> {
    let (cvs, mut idle) = (RefCell::default(), None);
    let mut full: Option<Batch> = None;
    while let Some(range) = job.take() {
        let mut socket = match idle.take() {
            Some(socket) => socket,
            None => Socket::open(job, number).await?,
        };
        let keeps = socket.ask(range).await?;
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + BATCH_BYTES);
            let (written, filled) =
                futures::join!(write(disk, part, full.take()), batch(job, &mut socket, at, end, &cvs));
            written?;
            full = Some((at, filled?));
            at = end;
        }
        idle = keeps.then_some(socket);
    }
    write(disk, part, full).await?;
    Ok(cvs.into_inner())
}

/// Fills and hashes the slabs of one write.
async fn batch(
    job: &Job<'_>,
    socket: &mut Socket<'_>,
    mut at: u64,
    end: u64,
    cvs: &RefCell<Cvs>,
) -> Result<Vec<(Slab, usize)>, Failure> {
    let mut slabs = Vec::with_capacity(BATCH_SLABS_MAX);
    while at < end {
        let (mut slab, wanted) = job.slab(at, end)?;
        socket.fill(&mut slab[..wanted]).await?;
        job.hash(at, &slab[..wanted], &mut cvs.borrow_mut());
        at += verify::wide(wanted);
        slabs.push((slab, wanted));
    }
    Ok(slabs)
}

async fn write(disk: &LaneDisk, part: Option<&Arc<PartFile>>, batch: Option<Batch>) -> Result<(), Failure> {
    let (Some(part), Some((offset, slabs))) = (part, batch) else { return Ok(()) };
    disk.write(part, offset, slabs).await.map_err(|error| Failure::disk("write to the part file", &error))
}

/// One connection, and what was read behind a head.
struct Socket<'a> {
    job: &'a Job<'a>,
    tcp: TcpStream,
    records: Option<Records>,
    held: Vec<u8>,
    pace: Pace,
}

impl<'a> Socket<'a> {
    async fn open(job: &'a Job<'a>, number: usize) -> Result<Self, Failure> {
        let tcp = connect::connect(job, number).await?;
        Ok(Self { job, tcp, records: job.records()?, held: Vec::new(), pace: Pace::default() })
    }

    /// Asks for `range` and reads the head; whether the connection outlives the reply.
    async fn ask(&mut self, range: ByteRange) -> Result<bool, Failure> {
        let asked = self.job.asked(range);
        self.send(&self.job.request(&asked)?).await?;
        let mut head = std::mem::take(&mut self.held);
        loop {
            let mut part = [0; HEAD_READ_BYTES];
            let read = self.read(&mut part).await?;
            head.extend_from_slice(&part[..read]);
            if let Some(begun) = self.job.accept(&head, &asked)? {
                head.drain(..begun.head);
                self.held = head;
                return Ok(begun.keeps);
            }
        }
    }

    /// Fills `buf` with the next bytes of the body.
    async fn fill(&mut self, buf: &mut [u8]) -> Result<(), Failure> {
        let mut filled = self.held.len().min(buf.len());
        buf[..filled].copy_from_slice(&self.held[..filled]);
        self.held.drain(..filled);
        while filled < buf.len() {
            filled += self.read(&mut buf[filled..]).await?;
        }
        Ok(())
    }

    async fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        let unasked = || self.job.broken("the peer speaks unasked");
        if !self.held.is_empty() || self.records.as_ref().is_some_and(Records::has_plain) {
            return Err(unasked());
        }
        let Some(records) = &mut self.records else {
            return self.tcp.write_all(request).await.map_err(|error| self.job.broken(error));
        };
        records.ask(request);
        while !self.records.as_ref().is_none_or(Records::has_asked) {
            self.step(&mut []).await?;
            if self.records.as_ref().is_some_and(Records::has_plain) {
                return Err(unasked());
            }
        }
        Ok(())
    }

    /// Reads some bytes, never none.
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Failure> {
        loop {
            let secured = self.records.is_some();
            let read = if secured {
                self.step(buf).await?
            } else {
                receive(self.job, &mut self.tcp, &mut self.pace, buf).await?
            };
            if read != 0 {
                return Ok(read);
            }
        }
    }

    /// One step of TLS; bytes of plaintext it brought.
    async fn step(&mut self, buf: &mut [u8]) -> Result<usize, Failure> {
        let (job, Some(records)) = (self.job, &mut self.records) else { return Ok(0) };
        match records.next(buf).map_err(|error| job.tls(&error))? {
            Next::Took(bytes) => return Ok(bytes),
            Next::Send => {
                self.tcp.write_all(records.outgoing()).await.map_err(|error| job.broken(error))?;
                records.sent();
            }
            Next::Receive => {
                let bytes = receive(job, &mut self.tcp, &mut self.pace, records.room()).await?;
                records.arrived(bytes);
            }
            Next::Closed => return Err(job.broken("the connection closed before the body ended")),
        }
        Ok(0)
    }
}

/// Reads from the socket what there is, at least a byte.
async fn receive(job: &Job<'_>, tcp: &mut TcpStream, pace: &mut Pace, buf: &mut [u8]) -> Result<usize, Failure> {
    loop {
        job.check()?;
        let began = Instant::now();
        let bytes = match timeout(PATIENCE, tcp.read(buf)).await {
            Ok(Ok(0)) => return Err(job.broken("the connection closed before the body ended")),
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(job.broken(error)),
            Err(_elapsed) => 0,
        };
        pace.moved(job, began.elapsed(), bytes)?;
        if bytes != 0 {
            return Ok(bytes);
        }
    }
}
