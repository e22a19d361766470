//! The lane without a runtime: a blocking thread for each connection, which reads, hashes and writes in turn.
//!
//! While one thread waits for its write, the others receive: as many writes are under way as there are connections.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use super::connect;
use super::job::{BATCH_BYTES, Cvs, HEAD_READ_BYTES, Job, Pace};
use crate::bench::floors::records::{Next, Records};
use crate::disk::{BATCH_SLABS_MAX, PartFile, PieceWriter, Rung};
use crate::error::{Error, Failure};
use crate::units::ByteRange;
use crate::verify;

/// Runs the job; the hashes of its pieces, where it hashes.
pub(super) fn run(job: &Job<'_>, part: Option<&Arc<PartFile>>) -> Result<Cvs, Error> {
    let work = |number| connection(job, part, number).map_err(|Failure { kind, detail }| Error::of(kind, detail));
    job.on_threads(job.work.connections, work)
}

/// Takes spans until there are none.
fn connection(job: &Job<'_>, part: Option<&Arc<PartFile>>, number: usize) -> Result<Cvs, Failure> {
    let mut writer = PieceWriter::new(Rung::Threads);
    let (mut cvs, mut idle) = (Cvs::new(), None);
    while let Some(range) = job.take() {
        let mut socket = idle.take().map_or_else(|| Socket::open(job, number), Ok)?;
        let keeps = socket.ask(range)?;
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + BATCH_BYTES);
            let (start, mut slabs) = (at, Vec::with_capacity(BATCH_SLABS_MAX));
            while at < end {
                let (mut slab, wanted) = job.slab(at, end)?;
                socket.fill(&mut slab[..wanted])?;
                job.hash(at, &slab[..wanted], &mut cvs);
                at += verify::wide(wanted);
                slabs.push((slab, wanted));
            }
            if let Some(part) = part {
                let written = writer.write_batch(part, start, slabs);
                written.map_err(|error| Failure::disk("write to the part file", &error))?;
            }
        }
        idle = keeps.then_some(socket);
    }
    Ok(cvs)
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
    fn open(job: &'a Job<'a>, number: usize) -> Result<Self, Failure> {
        let tcp = connect::connect_blocking(job, number)?;
        Ok(Self { job, tcp, records: job.records()?, held: Vec::new(), pace: Pace::default() })
    }

    /// Asks for `range` and reads the head; whether the connection outlives the reply.
    fn ask(&mut self, range: ByteRange) -> Result<bool, Failure> {
        let asked = self.job.asked(range);
        self.send(&self.job.request(&asked)?)?;
        let mut head = std::mem::take(&mut self.held);
        loop {
            let mut part = [0; HEAD_READ_BYTES];
            let read = self.read(&mut part)?;
            head.extend_from_slice(&part[..read]);
            if let Some(begun) = self.job.accept(&head, &asked)? {
                head.drain(..begun.head);
                self.held = head;
                return Ok(begun.keeps);
            }
        }
    }

    /// Fills `buf` with the next bytes of the body.
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), Failure> {
        let mut filled = self.held.len().min(buf.len());
        buf[..filled].copy_from_slice(&self.held[..filled]);
        self.held.drain(..filled);
        while filled < buf.len() {
            filled += self.read(&mut buf[filled..])?;
        }
        Ok(())
    }

    fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        let unasked = || self.job.broken("the peer speaks unasked");
        if !self.held.is_empty() || self.records.as_ref().is_some_and(Records::has_plain) {
            return Err(unasked());
        }
        let Some(records) = &mut self.records else {
            return self.tcp.write_all(request).map_err(|error| self.job.broken(error));
        };
        records.ask(request);
        while !self.records.as_ref().is_none_or(Records::has_asked) {
            self.step(&mut [])?;
            if self.records.as_ref().is_some_and(Records::has_plain) {
                return Err(unasked());
            }
        }
        Ok(())
    }

    /// Reads some bytes, never none.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Failure> {
        loop {
            let read = if self.records.is_some() {
                self.step(buf)?
            } else {
                receive(self.job, &mut self.tcp, &mut self.pace, buf)?
            };
            if read != 0 {
                return Ok(read);
            }
        }
    }

    /// One step of TLS; bytes of plaintext it brought.
    fn step(&mut self, buf: &mut [u8]) -> Result<usize, Failure> {
        let (job, Some(records)) = (self.job, &mut self.records) else { return Ok(0) };
        match records.next(buf).map_err(|error| job.tls(&error))? {
            Next::Took(bytes) => return Ok(bytes),
            Next::Send => {
                self.tcp.write_all(records.outgoing()).map_err(|error| job.broken(error))?;
                records.sent();
            }
            Next::Receive => {
                let bytes = receive(job, &mut self.tcp, &mut self.pace, records.room())?;
                records.arrived(bytes);
            }
            Next::Closed => return Err(job.broken("the connection closed before the body ended")),
        }
        Ok(0)
    }
}

/// Reads from the socket what there is, at least a byte.
fn receive(job: &Job<'_>, tcp: &mut TcpStream, pace: &mut Pace, buf: &mut [u8]) -> Result<usize, Failure> {
    loop {
        job.check()?;
        let began = Instant::now();
        let bytes = match tcp.read(buf) {
            Ok(0) => return Err(job.broken("the connection closed before the body ended")),
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(job.broken(error)),
        };
        pace.moved(job, began.elapsed(), bytes)?;
        if bytes != 0 {
            return Ok(bytes);
        }
    }
}
