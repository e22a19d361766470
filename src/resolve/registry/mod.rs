//! A registry's name for a model to the place its files are.
//!
//! In: a [`Source`] that only a registry can read. Out: a [`Located`] source that an origin can.
//! Holds: a registry is asked with a few small requests in a bounded time; what it answers may name stores only, at
//! addresses its own peer may name; its credentials go nowhere else.

mod kubeflow;
mod mlflow;
mod select;

use std::time::Duration;

use crate::audit::Act;
use crate::error::Error;
use crate::origin::Environment;
use crate::resolve::Settings;
use crate::uri::Source;
use crate::wire::refusal::clean;
use crate::wire::{Class, Policy};

/// Bound of all requests that locate one model.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(150);

/// Where a registry says that a model is.
#[derive(Debug, Clone)]
pub struct Located {
    /// What to read.
    pub source: Source,
    /// Who named it: where it may lead.
    pub named: Policy,
    /// The process's variables, with the registry's own settings for the store where nothing stronger is set.
    pub environment: Environment,
    /// One line for people: what is which version, and where.
    pub note: String,
}

/// A registry's answer.
struct Answer {
    source: Source,
    named: Policy,
    environment: Environment,
    /// The version that was chosen in the registry's own words, and what there is to say about it.
    version: String,
    remark: Option<&'static str>,
}

/// Asks the registry that `source` belongs to; `None` for a source that needs none.
///
/// # Errors
/// By exit class: [`Error::NotFound`] for a model, version or artifact that is not there, [`Error::Denied`] for a
/// login that is refused, [`Error::Policy`] for an answer that may not be followed, [`Error::Network`] for a registry
/// that does not answer as it should, [`Error::Usage`] for settings that cannot be used.
pub async fn locate(source: &Source, settings: &Settings) -> Result<Option<Located>, Error> {
    let asking = async {
        match source {
            Source::Registry(registry) => kubeflow::locate(registry, settings).await.map(Some),
            Source::Mlflow(mlflow) => mlflow::locate(mlflow, settings).await.map(Some),
            Source::S3(_)
            | Source::Gcs(_)
            | Source::Azure(_)
            | Source::Http(_)
            | Source::Hub(_)
            | Source::Artifacts(_)
            | Source::Local(_)
            | Source::Demo(_) => Ok(None),
        }
    };
    let late = |_| Err(Error::Network("the registry takes too long to say where the model is".to_owned()));
    let Some(answer) = tokio::time::timeout(LOCATE_TIMEOUT, asking).await.unwrap_or_else(late)? else {
        return Ok(None);
    };
    let Answer { source: found, named, environment, version, remark } = answer;
    let version = clean(&version);
    let (asked, answered) = (source.canonical(), found.canonical());
    settings.audit.record(&Act::Registry { asked: &asked, version: &version, answered: &answered });
    let remark = remark.map(|remark| format!(" ({remark})")).unwrap_or_default();
    let note = format!("{asked} is version {version}{remark}: {answered}");
    Ok(Some(Located { source: found, named, environment, note }))
}

/// What a registry at a peer of `class` answered, read and admitted.
///
/// # Errors
/// As [`Source::named_by_registry`].
fn named(answer: &str, class: Class) -> Result<(Source, Policy), Error> {
    Ok((Source::named_by_registry(answer)?, Policy::NamedBy(class)))
}
