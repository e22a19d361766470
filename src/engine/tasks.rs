//! The driver's hands: blocking file work and control requests, each answered by one message.
//!
//! At most [`BLOCKING_MAX`] file operations run at once; the rest wait their turn. What opens, syncs and seals small
//! files is gathered and shared out to as few threads as are through in a moment: each thread woken, and each answer,
//! costs more CPU than most of these operations.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use crate::disk::{Dest, DestLock, PartFile, Probe};
use crate::engine::admit::{self, Unnamed};
use crate::engine::observe::Stopwatch;
use crate::engine::ordered::{self, Ordered, Source};
use crate::error::{Error, Failure};
use crate::formats::Allowed;
use crate::journal::file::{JournalFile, WrittenFile};
use crate::journal::record::Record;
use crate::journal::written::WrittenPiece;
use crate::manifest::{Entry, FileId, SafePath};
use crate::origin::Origin;
use crate::schedule::{CheckpointId, Event, FILE_SEAL, FileIndex, FileStep, Kept};
use crate::wire::Access;

/// File operations at once: ext4 commits concurrent syncs together, more than this gains nothing.
pub(super) const BLOCKING_MAX: usize = 8;

/// Read-backs at once, 4 MiB each: one per CPU of the usual quota, and memory keeps its bound.
const HASHERS_MAX: usize = 2;

/// A thread that is through within this time needs no help.
const THREAD_WORTH: Duration = Duration::from_millis(2);

/// What a task tells the driver.
pub(super) enum Message {
    /// A part file is open.
    Opened { file: FileIndex, id: FileId, result: Result<Arc<PartFile>, Failure> },
    /// The journal took its records, or failed; it comes back either way.
    Appended { checkpoint: CheckpointId, journal: JournalFile, result: Result<(), Failure> },
    /// The list of written pieces is written, or failed; it comes back either way.
    Noted { list: WrittenFile, result: Result<(), Failure> },
    /// An access was signed; `renewal` when the scheduler asked for it, else an order waits for it.
    Signed { file: FileIndex, purpose: Purpose, result: Result<Signed, Failure> },
    /// A file is of a format that is not allowed, or broken.
    Refused { file: FileIndex, error: Error },
    /// An object was asked for again after it had changed.
    Restated { file: FileIndex, result: Result<Entry, Failure> },
    /// Something that needs no more than its event.
    Event(Event),
}

/// Why an access was asked for.
pub(super) enum Purpose {
    /// An order to a lane waits for it.
    Order,
    /// The scheduler's `Renew`, and which access was refused, unless it had come to its end by itself.
    Renewal(Option<Arc<Access>>),
}

/// A signed access and how long it may be used.
pub(super) type Signed = (Access, Option<Duration>);

/// How long syncs took.
#[derive(Default)]
pub(super) struct Syncs {
    /// Of part files.
    pub(super) data: Stopwatch,
    /// Of the journal.
    pub(super) journal: Stopwatch,
}

/// Turns at blocking work, of all pulls that share them.
#[derive(Clone)]
pub(super) struct Hands {
    blocking: Arc<Semaphore>,
    hashers: Arc<Semaphore>,
}

impl Default for Hands {
    fn default() -> Self {
        let [blocking, hashers] = [BLOCKING_MAX, HASHERS_MAX].map(|turns| Arc::new(Semaphore::new(turns)));
        Self { blocking, hashers }
    }
}

impl Hands {
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let _turn = self.blocking.clone().acquire_owned().await.map_err(|_| lost())?;
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(lost()))
    }
}

/// Runs tasks for the driver.
pub(super) struct Tasks {
    means: Means,
    opens: Vec<Opening>,
    seals: Vec<Sealing>,
}

/// What every task needs.
#[derive(Clone)]
struct Means {
    syncs: Arc<Syncs>,
    /// How long opening a part file took, and sealing a file.
    opens: Arc<Stopwatch>,
    seals: Arc<Stopwatch>,
    messages: mpsc::Sender<Message>,
    hands: Hands,
    /// Held as long as anything is done to DEST, also when the run was stopped or dropped meanwhile: another run would
    /// meet names that change under it.
    lock: Arc<DestLock>,
}

/// A part file to be created or adopted.
pub(super) struct Opening {
    pub(super) dest: Arc<Dest>,
    pub(super) probe: Arc<Probe>,
    pub(super) file: FileIndex,
    pub(super) id: FileId,
    pub(super) size: Option<u64>,
    pub(super) kept: Kept,
}

impl Opening {
    fn open(self) -> Result<PartFile, Failure> {
        let Self { dest, probe, id, size, kept, .. } = self;
        match (kept, size) {
            (Kept::Unjournaled, Some(size)) => dest.piece_open(&id, size, &probe),
            (Kept::Journaled, _) | (_, None) => dest.part_open(&id, size, &probe),
        }
    }
}

/// A part file to go through [`FILE_SEAL`].
pub(super) struct Sealing {
    pub(super) dest: Arc<Dest>,
    pub(super) file: FileIndex,
    pub(super) part: Arc<PartFile>,
    pub(super) path: SafePath,
    pub(super) size: u64,
}

/// The threads for `items` operations that took about `each` lately: so many that all are through in a moment.
fn threads_for(items: usize, each: Option<Duration>) -> usize {
    let most = items.clamp(1, BLOCKING_MAX);
    let Some(each) = each else { return most };
    let all = each.as_micros().saturating_mul(u128::try_from(items).unwrap_or(u128::MAX));
    usize::try_from(all.div_ceil(THREAD_WORTH.as_micros())).unwrap_or(most).clamp(1, most)
}

/// Shares `items` out to as many threads as `watch` says they need.
fn shared_out<T>(items: Vec<T>, watch: &Stopwatch) -> Vec<Vec<T>> {
    let threads = threads_for(items.len(), watch.durations().mean());
    let mut shares: Vec<Vec<T>> = (0..threads.min(items.len())).map(|_| Vec::new()).collect();
    for (number, item) in items.into_iter().enumerate() {
        shares[number % threads].push(item);
    }
    shares
}

/// `work`, with the lock held to its end.
fn held<T>(lock: Arc<DestLock>, work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    move || {
        let _lock = lock;
        work()
    }
}

fn lost() -> Failure {
    Failure::new(crate::error::FailureKind::Disk, "a file operation was lost")
}

impl Means {
    fn answer(&self, work: impl Future<Output = Message> + Send + 'static) {
        self.answer_all(async move { [work.await] });
    }

    fn answer_all<M: IntoIterator<Item = Message, IntoIter: Send> + Send>(
        &self,
        work: impl Future<Output = M> + Send + 'static,
    ) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            for message in work.await {
                if messages.send(message).await.is_err() {
                    tracing::debug!("the driver has left; an answer is dropped");
                }
            }
        });
    }

    async fn run_blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.hands.in_turn(held(self.lock, work)).await
    }

    /// Does `work` with each of `items` on one thread; a defect fails them all.
    async fn run_each<I: Send + 'static, T: Send + 'static>(
        self,
        items: Vec<I>,
        work: impl FnMut(I) -> Result<T, Failure> + Send + 'static,
    ) -> Vec<Result<T, Failure>> {
        let count = items.len();
        let done = self.run_blocking(move || Ok(items.into_iter().map(work).collect())).await;
        done.unwrap_or_else(|failure| (0..count).map(|_| Err(failure.clone())).collect())
    }
}

impl Tasks {
    /// Tasks that answer on `messages`.
    pub(super) fn new(messages: mpsc::Sender<Message>, hands: Hands, lock: DestLock) -> Self {
        let [opens, seals] = [Arc::default(), Arc::default()];
        let means = Means { syncs: Arc::default(), opens, seals, messages, hands, lock: Arc::new(lock) };
        Self { means, opens: Vec::new(), seals: Vec::new() }
    }

    /// How long syncs took so far.
    pub(super) fn syncs(&self) -> &Syncs {
        &self.means.syncs
    }

    /// Creates or adopts a part file, once [`Tasks::start`] is called.
    pub(super) fn open(&mut self, opening: Opening) {
        self.opens.push(opening);
    }

    /// Runs [`FILE_SEAL`] on one part file, once [`Tasks::start`] is called.
    pub(super) fn seal(&mut self, sealing: Sealing) {
        self.seals.push(sealing);
    }

    /// Starts what was gathered: the driver wants nothing more just now.
    pub(super) fn start(&mut self) {
        for share in shared_out(std::mem::take(&mut self.opens), &self.means.opens) {
            self.open_all(share);
        }
        for share in shared_out(std::mem::take(&mut self.seals), &self.means.seals) {
            self.seal_all(share);
        }
    }

    fn open_all(&self, share: Vec<Opening>) {
        let means = self.means.clone();
        self.means.answer_all(async move {
            let opened: Vec<_> = share.iter().map(|Opening { file, id, .. }| (*file, *id)).collect();
            let (watch, mut failed) = (means.opens.clone(), None::<Failure>);
            let open = move |opening: Opening| {
                // The first failure ends the run: nobody waits for another lock after it.
                let open = || watch.time(|| opening.open()).map(Arc::new);
                let opened = failed.clone().map_or_else(open, Err);
                failed = opened.as_ref().err().cloned();
                opened
            };
            let results = means.run_each(share, open).await;
            opened.into_iter().zip(results).map(|((file, id), result)| Message::Opened { file, id, result })
        });
    }

    fn seal_all(&self, share: Vec<Sealing>) {
        let means = self.means.clone();
        self.means.answer_all(async move {
            let files: Vec<FileIndex> = share.iter().map(|sealing| sealing.file).collect();
            let watch = means.seals.clone();
            let seal = move |Sealing { dest, part, path, size, .. }: Sealing| {
                let mut steps = FILE_SEAL.into_iter();
                watch.time(|| steps.try_for_each(|step| dest.seal_step(step, &part, &path, size)))
            };
            let results = means.run_each(share, seal).await;
            let sealed = |(file, result)| Message::Event(Event::Sealed { file, result });
            files.into_iter().zip(results).map(sealed)
        });
    }

    /// Syncs the data of `parts`, side by side where that takes its time.
    pub(super) fn sync(&self, checkpoint: CheckpointId, parts: Vec<Arc<PartFile>>) {
        let means = self.means.clone();
        self.means.answer(async move {
            let sync = |share: Vec<Arc<PartFile>>| {
                let syncs = means.syncs.clone();
                means.clone().run_blocking(move || {
                    // Every part is tried: one that fails is poisoned, and the others owe it nothing.
                    let synced: Vec<_> = share.iter().map(|part| syncs.data.time(|| part.sync_data())).collect();
                    let synced: std::io::Result<()> = synced.into_iter().collect();
                    synced.map_err(|error| Failure::disk("sync a part file", &error))
                })
            };
            let shares = shared_out(parts, &means.syncs.data);
            let results = futures::future::join_all(shares.into_iter().map(sync)).await;
            Message::Event(Event::DataSynced { checkpoint, result: results.into_iter().collect() })
        });
    }

    /// Appends `records` and syncs the journal.
    pub(super) fn append(&self, checkpoint: CheckpointId, mut journal: JournalFile, records: Vec<Record>) {
        let (syncs, lock) = (self.means.syncs.clone(), self.means.lock.clone());
        self.means.answer(async move {
            // Not counted against the blocking bound: a checkpoint must not queue behind a hundred opens.
            let work = held(lock, move || {
                let result = journal.append(&records).and_then(|()| syncs.journal.time(|| journal.sync()));
                (journal, result.map_err(|error| Failure::disk("write the journal", &error)))
            });
            match tokio::task::spawn_blocking(work).await {
                Ok((journal, result)) => Message::Appended { checkpoint, journal, result },
                Err(_) => {
                    let lost = Failure::new(crate::error::FailureKind::Disk, "the journal was lost");
                    Message::Event(Event::Appended { checkpoint, result: Err(lost) })
                }
            }
        });
    }

    /// Writes the list of written pieces.
    pub(super) fn note(&self, mut list: WrittenFile, pieces: Vec<WrittenPiece>) {
        let lock = self.means.lock.clone();
        self.means.answer(async move {
            // Nor does this queue: as long as it takes, the gate is the closer.
            let work = held(lock, move || {
                let result = list.write(&pieces).map_err(|error| Failure::disk("list written pieces", &error));
                (list, result)
            });
            match tokio::task::spawn_blocking(work).await {
                Ok((list, result)) => Message::Noted { list, result },
                Err(_) => Message::Event(Event::Noted { result: Err(lost()) }),
            }
        });
    }

    /// Signs an access to `entry`.
    pub(super) fn sign(&self, origin: Arc<dyn Origin>, file: FileIndex, entry: Entry, purpose: Purpose) {
        self.means.answer(async move {
            let result = match &purpose {
                Purpose::Renewal(Some(refused)) => origin.renew(&entry, refused).await,
                Purpose::Renewal(None) | Purpose::Order => origin.access(&entry).await,
            };
            Message::Signed { file, purpose, result }
        });
    }

    /// Asks what `entry` is now.
    pub(super) fn restat(&self, origin: Arc<dyn Origin>, file: FileIndex, entry: Entry) {
        self.means.answer(async move {
            let result = origin.stat(&entry).await;
            Message::Restated { file, result }
        });
    }

    /// Reads back beside the spans what went past a file's sums. Answers nobody: the sums' end meets every failure again.
    pub(super) fn follow(&self, ordered: Arc<Ordered>, written: u64, source: Source) {
        // Without the lock: it only reads, and the run may end before it.
        let hands = self.means.hands.clone();
        tokio::spawn(async move {
            let _turn = hands.hashers.clone().acquire_owned().await;
            let work = move || {
                let result = ordered::catch_up(&ordered, written, &source);
                ordered.followed();
                result
            };
            if let Err(failure) = hands.in_turn(work).await {
                tracing::debug!(detail = %failure.detail, "what went past the sums was not read back");
            }
        });
    }

    /// Completes the sums over a file's bytes in order.
    pub(super) fn hash(&self, file: FileIndex, ordered: Arc<Ordered>, size: u64, source: Source) {
        let tasks = self.means.clone();
        self.means.answer(async move {
            let _turn = tasks.hands.hashers.clone().acquire_owned().await;
            let result = tasks.run_blocking(move || ordered::complete(&ordered, size, &source)).await;
            Message::Event(Event::Hashed { file, result })
        });
    }

    /// Runs [`FILE_SEAL`] but for the rename, then looks at what the file is.
    pub(super) fn admit(
        &self,
        dest: Arc<Dest>,
        file: FileIndex,
        part: Arc<PartFile>,
        unnamed: Unnamed,
        allowed: Allowed,
    ) {
        let tasks = self.means.clone();
        self.means.answer(async move {
            let work = move || {
                let Unnamed { id, path, size } = &unnamed;
                let mut steps = FILE_SEAL.into_iter().filter(|step| *step != FileStep::Rename);
                steps.try_for_each(|step| dest.seal_step(step, &part, path, *size))?;
                Ok(admit::of_part(&dest, id, path, *size, &allowed))
            };
            match tasks.run_blocking(work).await {
                Ok(Ok(())) => Message::Event(Event::Sealed { file, result: Ok(()) }),
                Ok(Err(error)) => Message::Refused { file, error },
                Err(failure) => Message::Event(Event::Sealed { file, result: Err(failure) }),
            }
        });
    }

    /// Runs any other blocking work that ends in one event.
    pub(super) fn finish(&self, work: impl FnOnce() -> Result<(), Failure> + Send + 'static) {
        let tasks = self.means.clone();
        self.means.answer(async move { Message::Event(Event::Published { result: tasks.run_blocking(work).await }) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_threads_work_as_are_through_in_a_moment() {
        let micros = |each| Some(Duration::from_micros(each));
        for (items, each, threads) in [
            (0, None, 1),
            (1, None, 1),
            (16, None, 8),
            (16, micros(0), 1),
            (16, micros(125), 1),
            (17, micros(125), 2),
            (16, micros(500), 4),
            (3, micros(10_000), 3),
            (16, micros(1_000_000), 8),
            (usize::MAX, Some(Duration::MAX), 8),
        ] {
            assert_eq!(threads_for(items, each), threads, "{items} of {each:?}");
        }
    }

    #[test]
    fn everything_is_shared_out_once() {
        let watch = Stopwatch::default();
        assert_eq!(shared_out(Vec::<u32>::new(), &watch), Vec::<Vec<u32>>::new());
        let shares = shared_out((0..19).collect::<Vec<u32>>(), &watch);
        assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 2, 2, 2, 2, 2]);
        let mut items = shares.concat();
        items.sort_unstable();
        assert_eq!(items, (0..19).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_is_done_to_a_dest_holds_its_lock_though_the_run_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let locked = || Dest::open(folder.path()).unwrap().try_lock().unwrap();
        let (messages, answers) = mpsc::channel(8);
        let tasks = Tasks::new(messages, Hands::default(), locked().unwrap());
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let (began, mut begun) = mpsc::channel(1);
        tasks.finish(move || {
            began.blocking_send(()).unwrap();
            wait.recv().unwrap_err();
            Ok(())
        });
        begun.recv().await.unwrap();
        drop((tasks, answers));
        assert!(locked().is_none(), "its names change still");
        drop(go);
        let free = async {
            while locked().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), free).await.unwrap();
    }
}
