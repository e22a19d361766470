//! Pulls one model: resolve, adopt what is on disk, drive the schedule, seal, report.
//!
//! The driver owns the scheduler and is the only one that does; lanes and blocking file work answer it with events.
//! Holds: a failure leaves a resumable directory; the receipt is removed before the first name changes and written last.

mod admit;
mod copy;
mod crew;
mod demand;
mod digests;
mod drive;
mod gate;
mod lane;
mod listed;
mod local;
mod lock;
mod named;
mod observe;
mod ordered;
mod prepare;
mod prove;
mod publish;
mod read;
mod resume;
mod room;
mod signals;
mod stage;
mod tasks;
mod unpack;
mod waits;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::audit::Audit;
use crate::disk::{Dest, IoWish};
use crate::error::Error;
use crate::formats::Allowed;
use crate::limits::Limits;
use crate::manifest::receipt::Receipt;
use crate::manifest::{Manifest, Names};
use crate::origin::Origin;
use crate::report::Report;
use crate::unpack::Kind;
use crate::wire::Settings;

pub use admit::admit_local;
pub use crew::Crew;
pub use demand::Require;
pub use digests::digests;
pub use observe::{DURATION_BOUNDS, Durations, EndedSpan, Observer, Phase, Snapshot, Unobserved, observed};
pub use prove::{Damage, Proof, prove, repairable, withdraw};
pub use publish::demanded;
pub use read::ReadBytes;
pub use room::room_needed;
pub use signals::Signals;
pub use unpack::{LocalArchive, unpack_local};

/// One model to pull.
pub struct Pull {
    /// The source as the user named it, in canonical form: a registry's model, where [`Manifest::source`] is what it resolved to.
    pub asked: String,
    /// What to fetch.
    pub manifest: Manifest,
    /// Where it comes from.
    pub origin: Arc<dyn Origin>,
    /// The directory it lands in; made when missing.
    pub dest: PathBuf,
    /// What is added beside the files once they have their names. DEST is then a repository's folder in a cache of the
    /// Hub, which is never entered through a link.
    pub names: Option<Arc<Names>>,
    /// Bounds of the run.
    pub limits: Limits,
    /// Which way to the disk is wanted.
    pub io: IoWish,
    /// TLS, proxies and timeouts of the data connections.
    pub wire: Arc<Settings>,
    /// The one file is an archive of this kind: its members are published instead of it.
    pub unpack: Option<Kind>,
    /// What must be known of each file.
    pub require: Require,
    /// Digests that files must have.
    pub pin: Option<Receipt>,
    /// What a repair must come back to: the directory's own receipt.
    pub sealed: Option<Receipt>,
    /// Formats that files may have by their content; any when it is not given.
    pub formats: Option<Allowed>,
    /// Seeds jitter; the same seed and events give the same actions.
    pub seed: u64,
    /// Where digests, refusals and the publication are written down.
    pub audit: Audit,
    /// Lanes and slabs shared with other pulls at once; `None` for some of its own.
    pub crew: Option<Arc<Crew>>,
    /// When the run began: the deadline and the report count from here.
    pub started: Instant,
}

impl Pull {
    fn deadline(&self) -> Option<Instant> {
        self.limits.deadline.map(|deadline| self.started + deadline)
    }
}

/// How a run ended. The report is there on failure too.
pub struct Outcome {
    /// Everything machines want to know.
    pub report: Report,
    /// Success means sealed.
    pub result: Result<(), Error>,
}

/// Downloads, proves and publishes one model.
///
/// Whatever happens, what was durable stays under `DEST/.dray/` and the same call goes on from there.
pub async fn pull(pull: Pull, observer: &mut dyn Observer) -> Outcome {
    if pull.io == IoWish::Discard {
        let error = Error::Internal("a pull that would write nothing".to_owned());
        return Outcome { report: publish::empty_report(&pull, &error), result: Err(error) };
    }
    run(pull, observer).await
}

async fn run(mut pull: Pull, observer: &mut dyn Observer) -> Outcome {
    pull.pin = pull.pin.map(Receipt::of_fetched);
    if let Err(error) = demand::few_enough(&mut pull).and_then(|()| demand::apply(&mut pull)) {
        observer.tick(&Snapshot::early(Phase::Stopped, pull.started));
        let report = publish::empty_report(&pull, &error);
        return Outcome { report, result: Err(error) };
    }
    match pull.unpack {
        Some(kind) => unpack::run(pull, kind, observer).await,
        None => fetch(pull, None, observer).await,
    }
}

/// Brings the files of `pull` over, from wherever they are.
async fn fetch(pull: Pull, place: Option<Arc<Dest>>, observer: &mut dyn Observer) -> Outcome {
    if pull.origin.is_local() {
        return local::run(pull, place, observer).await;
    }
    drive::run(pull, place, observer).await
}
