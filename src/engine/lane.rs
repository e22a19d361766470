//! A lane: one thread with its own runtime, connections and ring, that turns span orders into written pieces.
//!
//! In: [`Order`]s. Out: [`Event`]s. A slab is leased, filled from the socket, hashed while hot, written and
//! returned without ever leaving the lane.
//! Holds: every written piece is reported before its span's end; a lane never waits for a slab while it sits on full ones.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::disk::{BATCH_SLABS_MAX, LaneDisk, PartFile, Rung, Slab, SlabPool, run_lane};
use crate::engine::gate::Gate;
use crate::engine::ordered::Ordered;
use crate::engine::waits::Waits;
use crate::error::{Failure, FailureKind};
use crate::schedule::{Connection, Event, FileIndex, SpanId};
use crate::units::{ByteRange, PIECE_BYTES, piece_range};
use crate::verify::{self, PieceProof, Sums};
use crate::wire::{Access, Asked, Client, Reply, Settings};

/// Writes of one span that may be under way at once, so that the socket is read while the disk works.
const WRITES_PER_SPAN: usize = 2;

/// What a reply must have brought for its rest to be asked at once, on a new connection, in the middle of a piece.
/// A connection that is cut sooner is the scheduler's to judge: it backs off and counts.
const CONTINUE_BYTES_MIN: u64 = 64 << 10;

/// A piece that took longer than this to arrive is written at once: on a slow link large writes save nothing, and
/// what waits in memory is neither progress nor durable.
const SLOW_PIECE: Duration = Duration::from_millis(100);

/// Clients that a lane keeps with their connections: one for each kind of source of a run.
const CLIENTS_MAX: usize = 8;

/// Orders a lane may hold; more than the window ever gives it.
const ORDERS_MAX: usize = crate::limits::CONNECTIONS_MAX * 2;

/// One span to fetch.
pub(super) struct Order {
    pub(super) span: SpanId,
    pub(super) file: FileIndex,
    pub(super) part: Arc<PartFile>,
    pub(super) access: Arc<Access>,
    pub(super) asked: Asked,
    pub(super) connection: Connection,
    pub(super) sums: Sums,
    /// Sums that take pieces in order.
    pub(super) ordered: Option<Arc<Ordered>>,
    /// Its run.
    pub(super) shared: Arc<Shared>,
}

/// What the spans of one run share with its driver.
pub(super) struct Shared {
    pub(super) pool: SlabPool,
    pub(super) gate: Gate,
    pub(super) wire: Arc<Settings>,
    pub(super) events: mpsc::Sender<Event>,
    /// What spans waited for.
    pub(super) waits: Waits,
    /// Turns true when the run stops: spans end at once with what they have.
    pub(super) stop: watch::Receiver<bool>,
}

/// The driver's end of one lane.
pub(super) struct Lane {
    pub(super) orders: mpsc::Sender<Order>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Lane {
    /// Starts lane `number` on its own thread.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(super) fn start(number: usize, rung: Rung) -> std::io::Result<Self> {
        let (orders, incoming) = mpsc::channel(ORDERS_MAX);
        let thread = std::thread::Builder::new()
            .name(format!("lane-{number}"))
            .spawn(move || run_lane(rung, |disk| serve(disk, incoming)))?;
        Ok(Self { orders, thread })
    }

    /// Whether the lane is gone though orders may still come: it could not start, or met a defect.
    pub(super) fn ended(&self) -> bool {
        // A lane that met a defect waits for its writes before its thread ends.
        self.orders.is_closed() || self.thread.is_finished()
    }

    /// Lets the lane end after its last order and waits for it.
    pub(super) fn join(self) -> std::io::Result<()> {
        drop(self.orders);
        self.thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a lane panicked")))
    }
}

async fn serve(disk: LaneDisk, mut orders: mpsc::Receiver<Order>) {
    let mut clients = Clients::default();
    let mut spans = tokio::task::JoinSet::new();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(ended) = spans.join_next() => match ended {
                Ok(()) => continue,
                // A defect: nobody will tell of this span's end, so the lane ends, which the driver sees.
                Err(_) => return,
            },
        };
        let Some(order) = order else { break };
        let client = clients.of(&order.shared.wire);
        let worker = Worker { disk: disk.clone(), client, shared: order.shared.clone() };
        spans.spawn_local(async move { worker.run(order).await });
    }
    while spans.join_next().await.is_some() {}
}

/// The clients of a lane, the one used last at the end: runs with the same settings share connections.
#[derive(Default)]
struct Clients(Vec<(Arc<Settings>, Rc<Client>)>);

impl Clients {
    fn of(&mut self, settings: &Arc<Settings>) -> Rc<Client> {
        let known = self.0.iter().position(|(of, _)| Arc::ptr_eq(of, settings)).map(|place| self.0.remove(place));
        let (settings, client) = known.unwrap_or_else(|| (settings.clone(), Rc::new(Client::new(settings.clone()))));
        if CLIENTS_MAX <= self.0.len() {
            self.0.remove(0);
        }
        self.0.push((settings, client.clone()));
        client
    }
}

/// One span under way.
struct Worker {
    disk: LaneDisk,
    client: Rc<Client>,
    shared: Arc<Shared>,
}

/// Full slabs of consecutive pieces, not yet written.
#[derive(Default)]
struct Batch {
    slabs: Vec<(Slab, usize)>,
    proofs: Vec<PieceProof>,
    first_piece: u64,
    /// The span waited for a slab, a write or durability since the last batch.
    held: bool,
}

impl Batch {
    fn push(&mut self, slab: Slab, filled: usize, proof: PieceProof) {
        self.slabs.push((slab, filled));
        self.proofs.push(proof);
    }
}

/// How far a span has come.
struct Position {
    offset: u64,
    batch: Batch,
    /// The first piece of a stream without length, until it is known whether more follows.
    first: Option<(Slab, usize)>,
}

/// Hashes a piece while its slab is hot.
fn prove(index: u64, bytes: &[u8], order: &Order) -> PieceProof {
    verify::prove_piece(order.asked.size, index, bytes, order.sums)
}

/// Hashes the only piece of a stream: it is the whole file.
fn prove_sole(bytes: &[u8], order: &Order) -> PieceProof {
    verify::prove_sole_piece(bytes, order.sums)
}

/// Writes under way of one span: each reports its pieces itself.
type Writes = tokio::task::JoinSet<Result<(), Failure>>;

impl Worker {
    async fn run(self, order: Order) {
        let span = order.span;
        let mut writes = Writes::new();
        let mut result = self.fetch(&order, &mut writes).await;
        while let Some(done) = writes.join_next().await {
            let done = done.unwrap_or_else(|_| Err(Failure::new(FailureKind::Disk, "a write was lost")));
            // The disk's failure outranks the network's: it decides whether the run can go on.
            result = match (result, done) {
                (_, Err(failure)) => Err(failure),
                (kept, Ok(())) => kept,
            };
        }
        if let (Ok(Some(size)), None) = (&result, order.asked.size) {
            self.tell(Event::Sized { span, file: order.file, size: *size }).await;
        }
        self.tell(Event::Ended { span, result: result.map(|_| ()) }).await;
    }

    /// The driver may be gone after a forced stop; then nobody is left to tell.
    async fn tell(&self, event: Event) {
        if self.shared.events.send(event).await.is_err() {
            tracing::debug!("the driver has left; an event is dropped");
        }
    }

    /// Fetches the span; `Ok(Some(size))` when the body's end told the size of a stream.
    async fn fetch(&self, order: &Order, writes: &mut Writes) -> Result<Option<u64>, Failure> {
        let mut reply = self.unless_stopped(self.client.get(&order.access, &order.asked, order.connection)).await?;
        let range = order.asked.range.or(order.asked.size.map(|size| ByteRange::new(0, size)));
        let start = range.map_or(0, |range| range.start);
        let batch = Batch { first_piece: start / PIECE_BYTES, ..Batch::default() };
        let mut at = Position { offset: start, batch, first: None };
        let outcome = loop {
            if range.is_some_and(|range| range.end <= at.offset) {
                break Ok(None);
            }
            match self.piece(order, &mut reply, &mut at, writes).await {
                Ok(0) => break Ok(Some(at.offset)),
                Ok(filled) => at.offset += filled,
                Err(failure) => break Err(failure),
            }
        };
        if at.first.is_some() {
            self.shared.gate.give_back(1);
        }
        // What is whole and hashed is worth keeping, however the span ended.
        self.flush(order, &mut at.batch, writes).await?;
        let size = outcome?;
        reply.finish();
        Ok(size)
    }

    /// Fills, hashes and queues the piece at `offset`; returns its length, 0 at the end of a stream.
    async fn piece(
        &self,
        order: &Order,
        reply: &mut Reply,
        at: &mut Position,
        writes: &mut Writes,
    ) -> Result<u64, Failure> {
        let index = at.offset / PIECE_BYTES;
        let wanted = order.asked.size.map_or(PIECE_BYTES, |size| piece_range(size, index).len());
        let wanted =
            usize::try_from(wanted).map_err(|_| Failure::new(FailureKind::BadReply, "a piece larger than memory"))?;
        let mut slab = self.slab(order, &mut at.batch, writes).await?;
        let began = Instant::now();
        let filled = self
            .fill(order, reply, at, &mut slab[..wanted], writes)
            .await
            .inspect_err(|_| self.shared.gate.give_back(1))?;
        if filled < wanted && order.asked.size.is_some() {
            self.shared.gate.give_back(1);
            return Err(Failure::new(FailureKind::Broken, "the body ended early"));
        }
        if let Some(ordered) = &order.ordered {
            ordered.offer(at.offset, &slab[..filled]);
        }
        let streams = order.asked.size.is_none();
        if let Some((first, first_filled)) = at.first.take() {
            // Only now is it known whether the first piece of a stream is the whole of it.
            let proof = if filled == 0 {
                prove_sole(&first[..first_filled], order)
            } else {
                prove(0, &first[..first_filled], order)
            };
            at.batch.push(first, first_filled, proof);
        }
        if filled == 0 {
            self.shared.gate.give_back(1);
        } else if streams && index == 0 {
            at.first = Some((slab, filled));
        } else {
            let proof = prove(index, &slab[..filled], order);
            at.batch.push(slab, filled, proof);
        }
        // A neighbour that waits for a slab must not wait for this batch to grow, nor must bytes of a slow link.
        let hurry = SLOW_PIECE < began.elapsed() || 0 < self.shared.pool.waiting();
        if hurry || BATCH_SLABS_MAX <= at.batch.slabs.len() {
            self.flush(order, &mut at.batch, writes).await?;
        }
        Ok(u64::try_from(filled).unwrap_or(u64::MAX))
    }

    /// Fills `buf` from the reply; where that ends early after real progress, asks its unreceived rest anew.
    async fn fill(
        &self,
        order: &Order,
        reply: &mut Reply,
        at: &mut Position,
        buf: &mut [u8],
        writes: &mut Writes,
    ) -> Result<usize, Failure> {
        let mut have = 0;
        loop {
            let failure = match self.unless_stopped(reply.fill(&mut buf[have..])).await {
                Ok(filled) => return Ok(have + filled),
                Err(failure) => failure,
            };
            have += reply.filled_before_failure();
            let next = at.offset + u64::try_from(have).unwrap_or(0);
            let rest = order.asked.range.map(|range| ByteRange::new(next, range.end)).filter(|rest| !rest.is_empty());
            let early = matches!(failure.kind, FailureKind::Broken | FailureKind::Stalled);
            let stopped = *self.shared.stop.borrow();
            if rest.is_none() || !early || stopped || reply.delivered() < CONTINUE_BYTES_MIN {
                return Err(failure);
            }
            self.flush(order, &mut at.batch, writes).await?;
            self.tell(Event::Continued { span: order.span }).await;
            let asked = Asked { range: rest, ..order.asked.clone() };
            *reply = self.unless_stopped(self.client.get(&order.access, &asked, Connection::Fresh)).await?;
        }
    }

    /// A slab and the right to receive one more piece. Full slabs go out before any wait.
    async fn slab(&self, order: &Order, batch: &mut Batch, writes: &mut Writes) -> Result<Slab, Failure> {
        if !self.shared.gate.try_take() {
            self.flush(order, batch, writes).await?;
            let _waiting = self.shared.waits.disk();
            batch.held = true;
            self.unless_stopped(async {
                self.shared.gate.take().await;
                Ok(())
            })
            .await?;
        }
        if let Some(slab) = self.shared.pool.try_lease() {
            return Ok(slab);
        }
        let waited = async {
            self.flush(order, batch, writes).await?;
            let _waiting = self.shared.waits.memory();
            batch.held = true;
            self.unless_stopped(async { Ok(self.shared.pool.lease().await) }).await
        };
        waited.await.inspect_err(|_| self.shared.gate.give_back(1))
    }

    /// Starts the write of what `batch` holds; waits first when enough writes are under way.
    async fn flush(&self, order: &Order, batch: &mut Batch, writes: &mut Writes) -> Result<(), Failure> {
        if batch.slabs.is_empty() {
            return Ok(());
        }
        let bytes = batch.slabs.iter().map(|(_, filled)| u64::try_from(*filled).unwrap_or(0)).sum();
        self.tell(Event::Received { bytes, held: std::mem::take(&mut batch.held) }).await;
        while WRITES_PER_SPAN <= writes.len() {
            let _waiting = self.shared.waits.disk();
            batch.held = true;
            match writes.join_next().await {
                Some(Ok(done)) => done?,
                Some(Err(_)) => return Err(Failure::new(FailureKind::Disk, "a write was lost")),
                None => break,
            }
        }
        let (slabs, proofs) = (std::mem::take(&mut batch.slabs), std::mem::take(&mut batch.proofs));
        let first = batch.first_piece;
        batch.first_piece += u64::try_from(proofs.len()).unwrap_or(0);
        let (disk, part, shared) = (self.disk.clone(), order.part.clone(), self.shared.clone());
        let (span, file) = (order.span, order.file);
        writes.spawn_local(async move {
            let count = proofs.len();
            if let Err(error) = disk.write(&part, first * PIECE_BYTES, slabs).await {
                shared.gate.give_back(count);
                return Err(Failure::disk("write to the part file", &error));
            }
            for (piece, proof) in (first..).zip(proofs) {
                if shared.events.send(Event::Written { span, file, piece, proof }).await.is_err() {
                    tracing::debug!("the driver has left; a written piece stays unclaimed");
                }
            }
            Ok(())
        });
        Ok(())
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut stop = self.shared.stop.clone();
        tokio::select! {
            biased;
            result = work => result,
            // An error means the driver is gone, which is a stop too.
            _ = stop.wait_for(|stopped| *stopped) => Err(Failure::new(FailureKind::Broken, "stopped")),
        }
    }
}
