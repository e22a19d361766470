//! What the connections of one run share: which bytes come next, how they are asked for, what is done to a piece.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::client::UnbufferedClientConnection;
use rustls_pki_types::ServerName;

use super::{LaneWork, Steps};
use crate::bench::Stop;
use crate::bench::floors::records::Records;
use crate::disk::{BATCH_SLABS_MAX, Slab, SlabPool};
use crate::error::{Error, Failure, FailureKind};
use crate::units::{ByteRange, PIECE_BYTES};
use crate::verify::{self, Cv, Sums};
use crate::wire::body::Framing;
use crate::wire::http1::{self, Form};
use crate::wire::{Asked, Policy, STALL_BYTES_MIN, Scheme, address, check};

/// Bytes of one write.
pub(super) const BATCH_BYTES: u64 = PIECE_BYTES * wide(BATCH_SLABS_MAX);

/// Bytes read at once while a head is looked for: what comes behind it is copied.
pub(super) const HEAD_READ_BYTES: usize = 2 << 10;

/// How long a read waits before it looks whether the run has ended.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);

/// Sets of slabs of a connection: one that is filled while another is written.
const BATCHES: u64 = 2;

const fn wide(slabs: usize) -> u64 {
    assert!(slabs == 4, "a write of 4 MiB");
    4
}

/// Pieces that were hashed, by their numbers, in no order.
pub(super) type Cvs = Vec<(u64, Cv)>;

/// One run.
pub(super) struct Job<'a> {
    pub(super) work: &'a LaneWork,
    pub(super) steps: Steps,
    pub(super) pool: SlabPool,
    pub(super) addresses: Vec<SocketAddr>,
    /// The first byte that nobody has taken.
    next: AtomicU64,
    /// What failed first.
    failed: OnceLock<Error>,
    stop: &'a Stop,
}

/// What a connection brought in the time that was spent waiting for it; other work is no stall of the origin.
#[derive(Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: usize,
}

impl Pace {
    /// `bytes` came after a wait of `time`; fails as a pull's reply does, by too few bytes in the stall timeout.
    pub(super) fn moved(&mut self, job: &Job<'_>, time: Duration, bytes: usize) -> Result<(), Failure> {
        self.waited += time;
        self.bytes += bytes;
        if STALL_BYTES_MIN <= verify::wide(self.bytes) {
            *self = Self::default();
        }
        if job.work.wire.stall_timeout <= self.waited {
            return Err(job.failure(FailureKind::Stalled, "too few bytes for the stall timeout"));
        }
        Ok(())
    }
}

/// How a reply goes on behind its head.
pub(super) struct Begun {
    /// Bytes of the head.
    pub(super) head: usize,
    /// Whether the connection carries another request.
    pub(super) keeps: bool,
}

impl<'a> Job<'a> {
    pub(super) fn new(work: &'a LaneWork, steps: Steps, stop: &'a Stop) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Internal(format!("memory for slabs: {error}"));
        let pool = SlabPool::new(verify::wide(work.connections) * BATCHES * BATCH_BYTES).map_err(failed)?;
        let origin = work.access.url.origin();
        let unknown = |why: String| Error::Network(format!("{}: {why}", origin.authority()));
        let addresses = (origin.host.as_str(), origin.port).to_socket_addrs();
        let addresses: Vec<SocketAddr> = addresses.map_err(|error| unknown(error.to_string()))?.collect();
        if addresses.is_empty() {
            return Err(unknown("no address".to_owned()));
        }
        if let Policy::NamedBy(namer) = work.access.policy {
            let classes = addresses.iter().map(|address| address::class_of(address.ip()));
            for class in address::class_of_host(&origin.host).into_iter().chain(classes) {
                address::admit(namer, &origin.host, class)
                    .map_err(|Failure { kind, detail }| Error::of(kind, detail))?;
            }
        }
        let (next, failed) = (AtomicU64::new(0), OnceLock::new());
        Ok(Self { work, steps, pool, addresses, next, failed, stop })
    }

    /// The bytes of the next request; `None` when all are taken.
    pub(super) fn take(&self) -> Option<ByteRange> {
        let start = self.next.fetch_add(self.work.span_bytes, Ordering::Relaxed);
        let range = ByteRange::new(start, start.saturating_add(self.work.span_bytes).min(self.work.size));
        (!range.is_empty()).then_some(range)
    }

    /// Ends the run of every connection. The first failure is the run's: those after it only stop.
    pub(super) fn fail(&self, error: Error) {
        self.failed.get_or_init(|| error);
    }

    /// Does `work` on threads numbered from 0 to `count`; all that they hashed.
    pub(super) fn on_threads(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<Cvs, Error> + Sync,
    ) -> Result<Cvs, Error> {
        let work = &|number| {
            work(number).unwrap_or_else(|error| {
                self.fail(error);
                Cvs::new()
            })
        };
        let mut cvs = Cvs::new();
        std::thread::scope(|scope| {
            let named = |number| std::thread::Builder::new().name(format!("bench-{number}"));
            let threads: Vec<_> =
                (0..count).map(|number| named(number).spawn_scoped(scope, move || work(number))).collect();
            for thread in threads {
                match thread {
                    Ok(thread) => {
                        cvs.extend(thread.join().unwrap_or_else(|defect| std::panic::resume_unwind(defect)));
                    }
                    Err(error) => self.fail(Error::Internal(format!("no thread: {error}"))),
                }
            }
        });
        self.failed.get().map_or(Ok(cvs), |error| Err(error.clone()))
    }

    /// Whether this connection may go on.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.failed.get().is_some() || self.stop.check().is_err() {
            return Err(Failure::new(FailureKind::Broken, "stopped"));
        }
        Ok(())
    }

    /// A failure of this object's URL.
    pub(super) fn failure(&self, kind: FailureKind, why: impl std::fmt::Display) -> Failure {
        Failure::new(kind, format!("{}: {why}", self.work.access.url))
    }

    pub(super) fn broken(&self, error: impl std::fmt::Display) -> Failure {
        self.failure(FailureKind::Broken, error)
    }

    /// A failure of TLS: before the peer is known it is nobody to talk to.
    pub(super) fn tls(&self, error: &rustls::Error) -> Failure {
        let kind = match error {
            rustls::Error::DecryptError | rustls::Error::PeerMisbehaved(_) => FailureKind::Broken,
            _ => FailureKind::Unreachable,
        };
        self.failure(kind, error)
    }

    /// TLS for a new connection, where the URL asks for it.
    pub(super) fn records(&self) -> Result<Option<Records>, Failure> {
        let origin = self.work.access.url.origin();
        if origin.scheme == Scheme::Http {
            return Ok(None);
        }
        let unreachable = |why: String| self.failure(FailureKind::Unreachable, why);
        let name = ServerName::try_from(origin.host).map_err(|error| unreachable(error.to_string()))?;
        let connection = UnbufferedClientConnection::new(Arc::clone(&self.work.wire.tls), name);
        connection.map(|connection| Some(Records::new(connection))).map_err(|error| unreachable(error.to_string()))
    }

    pub(super) fn asked(&self, range: ByteRange) -> Asked {
        let work = self.work;
        Asked { range: Some(range), size: Some(work.size), version: work.version.clone(), coding: work.access.coding }
    }

    pub(super) fn request(&self, asked: &Asked) -> Result<Vec<u8>, Failure> {
        let access = &self.work.access;
        http1::request(&access.url, Form::Path, asked, &self.work.wire, &access.headers)
    }

    /// Judges the head at the front of `bytes`; `None` while it is incomplete.
    pub(super) fn accept(&self, bytes: &[u8], asked: &Asked) -> Result<Option<Begun>, Failure> {
        let named = |failure: Failure| self.failure(failure.kind, failure.detail);
        let Some((head, used)) = http1::parse_head(bytes).map_err(named)? else { return Ok(None) };
        if matches!(head.status, 300..=399) {
            let why = format!("status {}: the lane follows no redirect, give it the target", head.status);
            return Err(self.failure(FailureKind::BadReply, why));
        }
        check::check(&head, asked, &[], SystemTime::now()).map_err(named)?;
        let framing = http1::framing(&head).map_err(named)?;
        if Some(framing) != asked.range.map(|range| Framing::Length(range.len())) {
            return Err(self.failure(FailureKind::BadReply, "the reply does not state its length"));
        }
        Ok(Some(Begun { head: used, keeps: http1::keeps_alive(&head, framing) }))
    }

    /// A slab, and how many of its bytes the piece at `offset` has of what ends at `end`.
    pub(super) fn slab(&self, offset: u64, end: u64) -> Result<(Slab, usize), Failure> {
        self.check()?;
        let none = || Failure::new(FailureKind::Disk, "writes hold more slabs than they were given");
        let slab = self.pool.try_lease().ok_or_else(none)?;
        let wanted = usize::try_from((end - offset).min(PIECE_BYTES)).unwrap_or(slab.len());
        Ok((slab, wanted))
    }

    /// Hashes the piece at `offset`, where this run hashes.
    pub(super) fn hash(&self, offset: u64, piece: &[u8], cvs: &mut Cvs) {
        if self.steps.hashes() {
            let index = offset / PIECE_BYTES;
            cvs.push((index, verify::prove_piece(Some(self.work.size), index, piece, Sums::default()).cv));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::IoWish;
    use crate::manifest::{SafePath, Version};
    use crate::wire::{Access, Class, Coding, Settings, Url, tls};

    #[test]
    fn an_address_that_its_namer_may_not_name_is_refused_before_a_connection() {
        for (policy, host, refused) in [
            (Policy::Configured, "127.0.0.1", false),
            (Policy::NamedBy(Class::Loopback), "127.0.0.1", false),
            (Policy::NamedBy(Class::Public), "127.0.0.1", true),
            (Policy::NamedBy(Class::Public), "10.0.0.1", true),
            (Policy::NamedBy(Class::Loopback), "169.254.169.254", true),
        ] {
            let url = Url::parse(&format!("http://{host}:1/o")).unwrap();
            let work = LaneWork {
                source: String::new(),
                access: Access { url, headers: Vec::new(), policy, coding: Coding::Identity },
                size: 1,
                version: Version::default(),
                wire: Arc::new(Settings::new(Arc::new(tls::client_config(&[]).unwrap()))),
                dest: "unused".into(),
                name: SafePath::parse("o").unwrap(),
                lanes: 1,
                connections: 1,
                span_bytes: BATCH_BYTES,
                io: IoWish::Auto,
                steps: vec![Steps::Receive],
                rounds: 1,
            };
            let made = Job::new(&work, Steps::Receive, &Stop::default()).map(|_| ());
            assert_eq!(matches!(made, Err(Error::Policy(_))), refused, "{policy:?} {host}: {made:?}");
            assert_eq!(made.is_err(), refused, "{policy:?} {host}");
        }
    }
}
