//! The driver's hands: blocking file work and control requests, each answered by one message.
//!
//! At most [`BLOCKING_MAX`] file operations run at once; the rest wait their turn.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::disk::{Dest, PartFile, Probe};
use crate::engine::admit::{self, Unnamed};
use crate::engine::observe::Stopwatch;
use crate::engine::ordered::{self, Ordered, Source};
use crate::error::{Error, Failure};
use crate::formats::Allowed;
use crate::journal::file::JournalFile;
use crate::journal::record::Record;
use crate::manifest::{Entry, FileId, SafePath};
use crate::origin::Origin;
use crate::schedule::{CheckpointId, Event, FILE_SEAL, FileIndex, FileStep};
use crate::wire::Access;

/// File operations at once: ext4 commits concurrent syncs together, more than this gains nothing.
pub(super) const BLOCKING_MAX: usize = 8;

/// Read-backs at once, 4 MiB each: one per CPU of the usual quota, and memory keeps its bound.
const HASHERS_MAX: usize = 2;

/// What a task tells the driver.
pub(super) enum Message {
    /// A part file is open.
    Opened { file: FileIndex, id: FileId, result: Result<Arc<PartFile>, Failure> },
    /// The journal took its records, or failed; it comes back either way.
    Appended { checkpoint: CheckpointId, journal: JournalFile, result: Result<(), Failure> },
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
pub(super) type Signed = (Access, Option<std::time::Duration>);

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

/// Runs tasks for the driver.
#[derive(Clone)]
pub(super) struct Tasks {
    syncs: Arc<Syncs>,
    messages: mpsc::Sender<Message>,
    hands: Hands,
}

impl Tasks {
    /// Tasks that answer on `messages`.
    pub(super) fn new(messages: mpsc::Sender<Message>, hands: Hands) -> Self {
        Self { syncs: Arc::default(), messages, hands }
    }

    /// How long syncs took so far.
    pub(super) fn syncs(&self) -> &Syncs {
        &self.syncs
    }

    fn answer(&self, work: impl Future<Output = Message> + Send + 'static) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let message = work.await;
            if messages.send(message).await.is_err() {
                tracing::debug!("the driver has left; an answer is dropped");
            }
        });
    }

    async fn run_blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let lost = || Failure::new(crate::error::FailureKind::Disk, "a file operation was lost");
        let _turn = self.hands.blocking.acquire_owned().await.map_err(|_| lost())?;
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(lost()))
    }

    /// Creates or adopts a part file.
    pub(super) fn open(&self, dest: Arc<Dest>, probe: Arc<Probe>, file: FileIndex, id: FileId, size: Option<u64>) {
        let tasks = self.clone();
        self.answer(async move {
            let result = tasks.run_blocking(move || dest.part_open(&id, size, &probe).map(Arc::new)).await;
            Message::Opened { file, id, result }
        });
    }

    /// Syncs the data of `parts`, side by side.
    pub(super) fn sync(&self, checkpoint: CheckpointId, parts: Vec<Arc<PartFile>>) {
        let tasks = self.clone();
        self.answer(async move {
            let sync = |part: Arc<PartFile>| {
                let syncs = tasks.syncs.clone();
                tasks.clone().run_blocking(move || {
                    let synced = syncs.data.time(|| part.sync_data());
                    synced.map_err(|error| Failure::disk("sync a part file", &error))
                })
            };
            let results = futures::future::join_all(parts.into_iter().map(sync)).await;
            Message::Event(Event::DataSynced { checkpoint, result: results.into_iter().collect() })
        });
    }

    /// Appends `records` and syncs the journal.
    pub(super) fn append(&self, checkpoint: CheckpointId, mut journal: JournalFile, records: Vec<Record>) {
        let syncs = self.syncs.clone();
        self.answer(async move {
            // Not counted against the blocking bound: a checkpoint must not queue behind a hundred opens.
            let work = tokio::task::spawn_blocking(move || {
                let result = journal.append(&records).and_then(|()| syncs.journal.time(|| journal.sync()));
                (journal, result.map_err(|error| Failure::disk("write the journal", &error)))
            });
            match work.await {
                Ok((journal, result)) => Message::Appended { checkpoint, journal, result },
                Err(_) => {
                    let lost = Failure::new(crate::error::FailureKind::Disk, "the journal was lost");
                    Message::Event(Event::Appended { checkpoint, result: Err(lost) })
                }
            }
        });
    }

    /// Signs an access to `entry`.
    pub(super) fn sign(&self, origin: Arc<dyn Origin>, file: FileIndex, entry: Entry, purpose: Purpose) {
        self.answer(async move {
            let result = match &purpose {
                Purpose::Renewal(Some(refused)) => origin.renew(&entry, refused).await,
                Purpose::Renewal(None) | Purpose::Order => origin.access(&entry).await,
            };
            Message::Signed { file, purpose, result }
        });
    }

    /// Asks what `entry` is now.
    pub(super) fn restat(&self, origin: Arc<dyn Origin>, file: FileIndex, entry: Entry) {
        self.answer(async move {
            let result = origin.stat(&entry).await;
            Message::Restated { file, result }
        });
    }

    /// Reads back beside the spans what went past a file's sums. Answers nobody: the sums' end meets every failure again.
    pub(super) fn follow(&self, ordered: Arc<Ordered>, written: u64, source: Source) {
        let tasks = self.clone();
        tokio::spawn(async move {
            let _turn = tasks.hands.hashers.clone().acquire_owned().await;
            let work = move || {
                let result = ordered::catch_up(&ordered, written, &source);
                ordered.followed();
                result
            };
            if let Err(failure) = tasks.run_blocking(work).await {
                tracing::debug!(detail = %failure.detail, "what went past the sums was not read back");
            }
        });
    }

    /// Completes the sums over a file's bytes in order.
    pub(super) fn hash(&self, file: FileIndex, ordered: Arc<Ordered>, size: u64, source: Source) {
        let tasks = self.clone();
        self.answer(async move {
            let _turn = tasks.hands.hashers.clone().acquire_owned().await;
            let result = tasks.run_blocking(move || ordered::complete(&ordered, size, &source)).await;
            Message::Event(Event::Hashed { file, result })
        });
    }

    /// Runs [`FILE_SEAL`] on one part file.
    pub(super) fn seal(&self, dest: Arc<Dest>, file: FileIndex, part: Arc<PartFile>, path: SafePath, size: u64) {
        let tasks = self.clone();
        self.answer(async move {
            let steps = move || FILE_SEAL.into_iter().try_for_each(|step| dest.seal_step(step, &part, &path, size));
            Message::Event(Event::Sealed { file, result: tasks.run_blocking(steps).await })
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
        let tasks = self.clone();
        self.answer(async move {
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
        let tasks = self.clone();
        self.answer(async move { Message::Event(Event::Published { result: tasks.run_blocking(work).await }) });
    }
}
