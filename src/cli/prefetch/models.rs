//! The models by their priority: all resolved, the room for all of them counted, then each pulled, small ones several
//! at once.
//!
//! Holds: a model begins only after all before it have begun; all that are under way share one crew and one budget.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::audit::Audit;
use crate::cli::environment::Wires;
use crate::cli::layout::Layout;
use crate::cli::metrics::Metrics;
use crate::cli::options::Common;
use crate::cli::prefetch::board::Board;
use crate::cli::prefetch::list::Model;
use crate::cli::prefetch::outcome::Row;
use crate::cli::prefetch::share::{Budget, MODELS_MAX, Share};
use crate::cli::progress::observer;
use crate::cli::pull::{self, Archives, Notes, Resolved, Wanted};
use crate::disk::place;
use crate::engine::{self, Crew, Phase, Pull, Signals, Snapshot};
use crate::error::Error;
use crate::formats::Allowed;
use crate::limits::Limits;
use crate::origin::Environment;
use crate::report::{self, Report};
use crate::resolve::Filter;
use crate::units::{show_duration, show_size};

/// Sources that are resolved at once: listings wait for the network, and each holds its replies in memory.
const RESOLVED_AT_ONCE: usize = 4;

/// What is the same for all models.
pub(super) struct Setting<'a> {
    pub(super) into: &'a Path,
    pub(super) archives: Archives,
    pub(super) formats: Option<Allowed>,
    pub(super) common: &'a Common,
    pub(super) environment: &'a Environment,
    pub(super) audit: &'a Audit,
    pub(super) metrics: &'a Metrics,
    pub(super) wires: &'a Wires,
    pub(super) started: Instant,
}

/// A model with its own patterns, pin and folder.
pub(super) struct Planned {
    pub(super) model: Model,
    pub(super) filter: Filter,
    pub(super) common: Common,
    pub(super) dest: PathBuf,
}

/// A model whose source was asked.
pub(super) struct Asked {
    pub(super) planned: Planned,
    /// `Err` is why this one cannot be fetched.
    pub(super) pull: Result<(Resolved, Pull), Error>,
}

/// How all of it ended.
pub(super) struct Ended {
    /// A row per model, in the order in which they were taken.
    pub(super) rows: Vec<Row>,
    /// What ended the run for all of them: a signal, no room.
    pub(super) stop: Option<Error>,
}

/// Resolves, counts, pulls.
///
/// # Errors
/// When nothing could begin.
pub(super) async fn fetch(setting: &Setting<'_>, planned: Vec<Planned>) -> Result<Ended, Error> {
    let mut signals = Signals::watch()?;
    let board = Board::new(observer(setting.common.progress, std::io::stderr().is_terminal()), setting.started);
    let mut asked = resolve_all(setting, planned, &board, &mut signals).await;
    let interrupted = asked.iter().find_map(|asked| asked.pull.as_ref().err().filter(|error| is_stop(error)));
    let stop = match interrupted {
        Some(stop) => Some(stop.clone()),
        None => preflight(setting, &mut asked).map(|line| board.note(&line)).err(),
    };
    asked.iter().filter_map(|asked| asked.pull.as_ref().ok()).for_each(|(_, pull)| board.plan(&pull.manifest));
    let limits = setting.common.limits(setting.environment)?;
    let (crew, signals) = (RefCell::default(), RefCell::new(&mut signals));
    let run = Run { setting, board: &board, limits: &limits, crew, signals, count: asked.len() };
    let ended = run.work(asked, Budget::new(&limits), stop).await;
    board.end(if ended.rows.iter().all(|row| row.error.is_none()) { Phase::Sealed } else { Phase::Stopped });
    Ok(ended)
}

/// What the models' turns share.
struct Run<'a> {
    setting: &'a Setting<'a>,
    board: &'a Rc<Board>,
    limits: &'a Limits,
    crew: RefCell<Option<Arc<Crew>>>,
    signals: RefCell<&'a mut Signals>,
    count: usize,
}

/// A model that has its turn.
struct Turn {
    number: usize,
    share: Share,
    asked: Asked,
}

impl Run<'_> {
    /// Gives each model its turn, in their order, unless `stop` ends the run for all.
    async fn work(&self, asked: Vec<Asked>, mut budget: Budget, mut stop: Option<Error>) -> Ended {
        let mut rows: Vec<Option<Row>> = std::iter::repeat_with(|| None).take(self.count).collect();
        let mut waiting = asked.into_iter().enumerate().peekable();
        let mut under_way = FuturesUnordered::new();
        loop {
            stop = stop.or_else(|| self.signal());
            // Those that have failed already take nothing of the budget, and a list may be full of them.
            while under_way.len() < MODELS_MAX
                && let Some(share) = waiting.peek().and_then(|(_, asked)| self.share(&mut budget, &stop, asked))
            {
                let Some((number, mut asked)) = waiting.next() else { break };
                let ended = stop.clone().map_or_else(|| left(self.setting), Err);
                match ended {
                    Ok(left) => {
                        if let Ok((_, pull)) = &mut asked.pull {
                            pull.limits = Limits { deadline: left, ..budget.bounds(&pull.limits, share) };
                            pull.crew = self.crew_for(pull);
                        }
                        under_way.push(self.one(Turn { number, share, asked }));
                    }
                    Err(why) => {
                        budget.give_back(share);
                        rows[number] = Some(Row::not_begun(&asked, &why));
                    }
                }
            }
            let Some((number, share, row)) = under_way.next().await else { break };
            budget.give_back(share);
            stop = stop.or_else(|| row.error.clone().filter(is_stop));
            rows[number] = Some(row);
        }
        Ended { rows: rows.into_iter().flatten().collect(), stop }
    }

    /// A signal that came and that this run has not heard.
    fn signal(&self) -> Option<Error> {
        self.signals.borrow_mut().next().now_or_never()
    }

    /// The crew of all; `None` for an archive, which is alone and whose decoder takes the memory of the slabs, and where
    /// there can be none: the pull then makes its own, or says why it cannot.
    fn crew_for(&self, pull: &Pull) -> Option<Arc<Crew>> {
        let mut crew = self.crew.borrow_mut();
        if pull.unpack.is_some() {
            // Nobody works with it now: its slabs go back to the system.
            *crew = None;
        } else if crew.is_none() {
            *crew = Crew::new(self.limits).ok().map(Arc::new);
        }
        crew.clone()
    }

    /// What the next model takes, when it may begin: nothing where there is nothing to pull.
    fn share(&self, budget: &mut Budget, stop: &Option<Error>, asked: &Asked) -> Option<Share> {
        let share = match (&asked.pull, stop) {
            (Err(_), _) | (_, Some(_)) => Share::Part(0),
            // Those work with every processor, or with memory beside the slabs.
            (Ok((_, pull)), None) if pull.unpack.is_some() || pull.origin.is_local() => Share::Whole,
            (Ok((_, pull)), None) => budget.share(&pull.manifest),
        };
        budget.take(share).then_some(share)
    }

    /// Pulls one model. Its failure is in its row.
    async fn one(&self, turn: Turn) -> (usize, Share, Row) {
        let Turn { number, share, asked: Asked { planned, pull } } = turn;
        let Self { setting, board, count, .. } = *self;
        let began = Instant::now();
        let manifest = pull.as_ref().ok().map(|(_, pull)| pull.manifest.clone());
        let seat = board.begin(number, manifest.as_ref(), place::cpu_seconds());
        let mut watcher = setting.metrics.watching(seat);
        let name = &planned.model.name;
        watcher.note(&format!("{name}: {} of {count}, to {}", number + 1, planned.dest.display()));
        // The pull watches for itself from here on; what came before, others may have heard alone.
        let pull = pull.and_then(|pull| self.signal().map_or(Ok(pull), Err));
        let (mut report, result) = match pull {
            Ok((resolved, mut pull)) => {
                pull.started = began;
                let outcome = engine::pull(pull, watcher.as_mut()).await;
                drop(resolved);
                (outcome.report, outcome.result)
            }
            Err(error) => {
                watcher.tick(&Snapshot::early(Phase::Stopped, began));
                let report = Report::of_failure(&pull::shown(&planned.model.uri), &planned.dest, &error, began);
                (report, Err(error))
            }
        };
        // The process's time is that of all models.
        report.cpu_seconds = board.leave(number, place::cpu_seconds());
        match &result {
            Ok(()) => watcher.end(&report::summary(&report)),
            Err(error) => {
                pull::refused(setting.audit, error);
                let time = show_duration(began.elapsed());
                watcher.note(&format!("{name} failed after {time}: {error}"));
            }
        }
        (number, share, Row::of(&planned, report, result.err()))
    }
}

/// Whether an error is not of one model.
fn is_stop(error: &Error) -> bool {
    matches!(error, Error::Interrupted { .. })
}

/// Asks every source, while the board shows it.
async fn resolve_all(
    setting: &Setting<'_>,
    planned: Vec<Planned>,
    board: &Rc<Board>,
    signals: &mut Signals,
) -> Vec<Asked> {
    let number = planned.len();
    let seat = board.begin(number, None, place::cpu_seconds());
    let mut watcher = setting.metrics.watching(seat);
    setting.metrics.tell(setting.common.metrics, setting.common.progress, watcher.as_mut());
    let look = || Snapshot::early(Phase::Resolving, setting.started);
    let (asked, notes) = engine::observed(watcher.as_mut(), look, resolve(setting, planned, signals)).await;
    notes.tell(watcher.as_mut());
    watcher.tick(&Snapshot::early(Phase::Stopped, setting.started));
    board.leave(number, place::cpu_seconds());
    asked
}

/// Asks every source, unless a signal or the deadline ends all of it first.
async fn resolve(setting: &Setting<'_>, planned: Vec<Planned>, signals: &mut Signals) -> (Vec<Asked>, Notes) {
    let notes = Notes::default();
    // Each source that is asked hears signals itself; those whose turn comes later hear of them here.
    let stop: RefCell<(&mut Signals, Option<Error>)> = RefCell::new((signals, None));
    let ended = || {
        let (signals, stop) = &mut *stop.borrow_mut();
        *stop = stop.take().or_else(|| signals.next().now_or_never());
        stop.clone().map_or_else(|| left(setting), Err)
    };
    let ask = |planned: Planned| {
        let (notes, stop, ended) = (&notes, &stop, &ended);
        async move {
            let common = match ended() {
                Ok(deadline) => Common { deadline, ..planned.common.clone() },
                Err(why) => return Asked { planned, pull: Err(why) },
            };
            let wanted = Wanted {
                source: &planned.model.uri,
                dest: &planned.dest,
                common: &common,
                filter: &planned.filter,
                environment: setting.environment,
                audit: setting.audit,
                metrics: setting.metrics,
                wires: setting.wires,
                sealed: None,
                archives: setting.archives,
                layout: Layout::Files,
                formats: setting.formats.clone(),
            };
            let pull = pull::prepare(wanted, Instant::now(), notes).await;
            if let Err(why) = &pull
                && is_stop(why)
            {
                stop.borrow_mut().1 = Some(why.clone());
            }
            Asked { planned, pull }
        }
    };
    let asked = futures::stream::iter(planned).map(ask).buffered(RESOLVED_AT_ONCE).collect().await;
    (asked, notes)
}

/// Refuses models that do not fit together; else says what they come to.
///
/// A model whose folder cannot be looked at has failed by itself.
///
/// # Errors
/// [`Error::DiskFull`] with both figures; storage errors.
fn preflight(setting: &Setting<'_>, asked: &mut [Asked]) -> Result<String, Error> {
    let (mut needed, mut total, mut files, mut models) = (0_u64, 0_u64, 0, 0);
    for Asked { planned, pull } in asked {
        let Ok((_, begun)) = pull else { continue };
        match engine::room_needed(&planned.dest, &begun.manifest) {
            Ok(room) => {
                needed = needed.saturating_add(room);
                total = total.saturating_add(begun.manifest.total_bytes());
                files += begun.manifest.entries.len();
                models += 1;
            }
            Err(why) => *pull = Err(why),
        }
    }
    let into = setting.into.display();
    let failed = |error: std::io::Error| crate::error::storage(&format!("cannot look at `{into}`"), &error);
    let free = place::free_bytes(setting.into).map_err(failed)?;
    let (needed_text, free_text) = (show_size(needed), show_size(free));
    if free < needed {
        let text = format!("the models need {needed_text} more disk space and {free_text} are free at {into}");
        return Err(Error::DiskFull(format!("{text}; nothing was fetched")));
    }
    let size = show_size(total);
    Ok(format!("{models} models, {size} in {files} files; {needed_text} of disk space to go, {free_text} free"))
}

/// What is left of the deadline, which bounds all models together.
fn left(setting: &Setting<'_>) -> Result<Option<Duration>, Error> {
    let late = || Error::Network("the deadline passed before every model was whole; run again to resume".to_owned());
    let left = |deadline: Duration| deadline.checked_sub(setting.started.elapsed()).ok_or_else(late);
    setting.common.deadline.map(left).transpose()
}
