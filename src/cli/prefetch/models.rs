//! The models one after another: all resolved, the room for all of them counted, then each pulled.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};

use crate::audit::Audit;
use crate::cli::layout::Layout;
use crate::cli::metrics::Metrics;
use crate::cli::options::Common;
use crate::cli::prefetch::list::Model;
use crate::cli::prefetch::outcome::Row;
use crate::cli::progress::observer;
use crate::cli::pull::{self, Archives, Notes, Resolved, Wanted};
use crate::disk::place;
use crate::engine::{self, Observer, Phase, Pull, Signals, Snapshot};
use crate::error::Error;
use crate::formats::Allowed;
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
    let mut watcher = watching(setting);
    setting.metrics.tell(setting.common.metrics, setting.common.progress, watcher.as_mut());
    let look = || Snapshot::early(Phase::Resolving, setting.started);
    let resolving = resolve(setting, planned, &mut signals);
    let (mut asked, notes) = engine::observed(watcher.as_mut(), look, resolving).await;
    notes.tell(watcher.as_mut());
    let interrupted = asked.iter().find_map(|asked| asked.pull.as_ref().err().filter(|error| is_stop(error)));
    let mut stop = match interrupted {
        Some(stop) => Some(stop.clone()),
        None => preflight(setting, &mut asked).map(|line| watcher.note(&line)).err(),
    };
    let count = asked.len();
    let mut rows = Vec::with_capacity(count);
    for (number, asked) in asked.into_iter().enumerate() {
        stop = stop.or_else(|| signals.next().now_or_never());
        let row = match (&stop, left(setting)) {
            (Some(why), _) => Row::not_begun(&asked, why),
            (None, Err(late)) => Row::not_begun(&asked, &late),
            (None, Ok(left)) => {
                if 0 < number {
                    watcher = watching(setting);
                }
                let name = &asked.planned.model.name;
                watcher.note(&format!("{name}: {} of {count}, to {}", number + 1, asked.planned.dest.display()));
                one(setting, asked, left, watcher.as_mut()).await
            }
        };
        stop = stop.or_else(|| row.error.clone().filter(is_stop));
        rows.push(row);
    }
    Ok(Ended { rows, stop })
}

/// Whether an error is not of one model.
fn is_stop(error: &Error) -> bool {
    matches!(error, Error::Interrupted { .. })
}

fn watching(setting: &Setting<'_>) -> Box<dyn Observer> {
    setting.metrics.watching(observer(setting.common.progress, std::io::stderr().is_terminal()))
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

/// Pulls one model. Its failure is in its row.
async fn one(setting: &Setting<'_>, asked: Asked, left: Option<Duration>, watcher: &mut dyn Observer) -> Row {
    let Asked { planned, pull } = asked;
    let (began, cpu_before) = (Instant::now(), place::usage().cpu_seconds);
    let (mut report, result) = match pull {
        Ok((resolved, mut pull)) => {
            pull.limits.deadline = left;
            pull.started = began;
            let outcome = engine::pull(pull, watcher).await;
            drop(resolved);
            (outcome.report, outcome.result)
        }
        Err(error) => {
            watcher.tick(&Snapshot::early(Phase::Stopped, began));
            let report = Report::of_failure(&pull::shown(&planned.model.uri), &planned.dest, &error, began);
            (report, Err(error))
        }
    };
    // The process's time counts all models before this one too.
    report.cpu_seconds -= cpu_before;
    match &result {
        Ok(()) => watcher.end(&report::summary(&report)),
        Err(error) => {
            pull::refused(setting.audit, error);
            let time = show_duration(began.elapsed());
            watcher.note(&format!("{} failed after {time}: {error}", planned.model.name));
        }
    }
    Row::of(&planned, report, result.err())
}
