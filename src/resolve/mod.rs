//! A source to a [`Manifest`]: ask its registry, list, filter, check every name, describe.
//!
//! In: a [`Source`], filters, the environment. Out: a manifest and the [`Origin`] it came from.
//! Holds: names are checked before the first object is asked about; one unsafe name refuses the whole plan.

mod cache;
mod filter;
mod listed;
pub mod registry;

use std::path::Path;
use std::sync::Arc;

use crate::audit::Audit;
use crate::error::{Error, storage};
use crate::manifest::{Entry, Manifest, SafePath, collisions};
use crate::origin::{Artifacts, Azure, Found, Gcs, Http, Hub, Local, Origin, S3};
use crate::uri::Source;
use crate::wire::{self, Policy};

pub use crate::origin::Environment;
pub use cache::Cached;
pub use filter::Filter;
pub use registry::{Located, locate};

/// What resolving needs beside the source.
#[derive(Debug)]
pub struct Settings {
    /// The process's variables, read once. The AWS credential chain reads its own.
    pub environment: Environment,
    /// TLS, proxies, name servers and timeouts, shared with the data connections.
    pub wire: Arc<wire::Settings>,
    /// Which files are wanted.
    pub filter: Filter,
    /// Where registry answers and credentials are written down.
    pub audit: Audit,
}

/// Finds out what `source` holds, through its registry where it belongs to one.
///
/// # Errors
/// As [`locate`] and [`resolve_named`].
pub async fn resolve(source: &Source, settings: &Settings) -> Result<(Manifest, Arc<dyn Origin>), Error> {
    let Some(located) = locate(source, settings).await? else {
        return resolve_named(source, Policy::Configured, settings).await;
    };
    let Located { source, named, environment, note } = located;
    tracing::info!("{note}");
    let Settings { wire, filter, audit, .. } = settings;
    let settings = Settings { environment, wire: wire.clone(), filter: filter.clone(), audit: audit.clone() };
    resolve_named(&source, named, &settings).await
}

/// Finds out what a source holds that `named` named: the user, or a registry.
///
/// # Errors
/// By exit class: [`Error::NotFound`] when nothing is there or nothing passes the filter, [`Error::Policy`] for
/// names that are unsafe or collide, the origin's own otherwise. [`Error::Usage`] for a [`Source::Demo`]: its
/// endpoint must be started first, and is an [`Source::S3`] then. [`Error::Policy`] for a source that needs [`locate`].
pub async fn resolve_named(
    source: &Source,
    named: Policy,
    settings: &Settings,
) -> Result<(Manifest, Arc<dyn Origin>), Error> {
    let Settings { environment, wire, .. } = settings;
    let source = &absolute(source)?;
    let origin: Arc<dyn Origin> = match source {
        Source::S3(s3) => Arc::new(S3::connect(s3, environment, wire, named).await?),
        // Its endpoint is configuration: a registry can name a bucket, no address.
        Source::Gcs(gcs) => Arc::new(Gcs::connect(gcs, environment, wire.clone()).await?),
        Source::Azure(azure) => Arc::new(Azure::connect(azure, environment, wire.clone(), named).await?),
        Source::Http(http) => Arc::new(Http::new(http, environment, wire.clone(), named)?),
        Source::Artifacts(artifacts) => Arc::new(Artifacts::new(artifacts, environment, wire.clone(), named)?),
        Source::Hub(hub) => Arc::new(Hub::new(hub, environment, wire.clone(), &settings.audit)?),
        // A registry cannot name one: `Source::named_by_registry`.
        Source::Local(local) => Arc::new(Local::new(local)),
        Source::Demo(_) => return Err(Error::Usage("this build has no demo:// server".to_owned())),
        Source::Registry(_) | Source::Mlflow(_) => {
            return Err(Error::Policy("a registry's name does not lead to another registry: refused".to_owned()));
        }
    };
    let found = listed::listed(origin.as_ref(), settings).await?;
    let entries = if names_one_object(source, &found) {
        entries(found, &settings.filter.of_one_object())?
    } else {
        entries(found, &settings.filter)?
    };
    let entries = origin.detail(entries).await?;
    Ok((Manifest { source: source.canonical(), entries }, origin))
}

/// The source by a name that means the same wherever the next run is started from.
fn absolute(source: &Source) -> Result<Source, Error> {
    let Source::Local(local) = source else { return Ok(source.clone()) };
    let folder = std::env::current_dir().map_err(|error| storage("find the working directory", &error))?;
    Ok(Source::Local(local.within(&folder)))
}

/// Whether `source` named the very object that was found, rather than a folder.
fn names_one_object(source: &Source, found: &[Found]) -> bool {
    match (source, found) {
        (Source::Http(_), _) => true,
        (Source::S3(s3), [only]) => only.object == s3.key,
        (Source::Gcs(gcs), [only]) => only.object == gcs.object,
        (Source::Azure(azure), [only]) => only.object == azure.blob,
        (Source::Hub(hub), [only]) => only.object == hub.path,
        (Source::Artifacts(artifacts), [only]) => only.object == artifacts.path,
        (Source::Local(local), [only]) => Path::new(&only.object) == local.path,
        _ => false,
    }
}

/// The wanted objects under checked names, sorted by path.
///
/// # Errors
/// [`Error::NotFound`] when none is wanted, [`Error::Policy`] for unsafe or colliding names.
pub fn entries(found: Vec<Found>, filter: &Filter) -> Result<Vec<Entry>, Error> {
    let offered = found.len();
    let wanted = found.into_iter().filter(|found| filter.takes(&found.path));
    let mut entries = wanted.map(entry).collect::<Result<Vec<Entry>, Error>>()?;
    if entries.is_empty() {
        return Err(Error::NotFound(format!(
            "none of the source's {offered} files passes the filters for allowed and ignored files"
        )));
    }
    collisions(entries.iter().map(|entry| &entry.path))?;
    entries.sort_unstable_by(|one, two| one.path.cmp(&two.path));
    Ok(entries)
}

fn entry(found: Found) -> Result<Entry, Error> {
    let path =
        SafePath::parse(&found.path).map_err(|error| Error::Policy(format!("{error}; leave it out with --ignore")))?;
    let Found { object, size, version, ranges, stated, .. } = found;
    Ok(Entry { path, object, size, version, ranges, stated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Ranges, Version};

    fn found(paths: &[&str]) -> Vec<Found> {
        let found = |path: &&str| Found {
            path: (*path).to_owned(),
            object: format!("m/{path}"),
            size: Some(1),
            version: Version::default(),
            ranges: Ranges::Assumed,
            stated: Vec::new(),
        };
        paths.iter().map(found).collect()
    }

    #[test]
    fn entries_are_sorted_by_path() {
        let entries = entries(found(&["b", "a/c", "a b"]), &Filter::default()).unwrap();
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["a b", "a/c", "b"]);
        assert_eq!(entries[0].object, "m/a b");
    }

    #[test]
    fn one_bad_name_refuses_the_plan_unless_it_is_ignored() {
        for bad in ["../x", "/etc/passwd", "a\\b", "a\0b", "", "b/c/d", "B"] {
            let names = found(&["b", bad]);
            assert!(matches!(entries(names.clone(), &Filter::default()), Err(Error::Policy(_))), "{bad:?}");
            let ignore = Filter::new(&[], &[globset_escape(bad)]).unwrap();
            assert_eq!(entries(names, &ignore).map(|entries| entries.len()), Ok(1), "{bad:?}");
        }
    }

    fn globset_escape(name: &str) -> String {
        name.replace('\\', "[\\\\]")
    }

    #[test]
    fn nothing_left_is_not_found() {
        let none = Filter::new(&["*.gguf".to_owned()], &[]).unwrap();
        assert!(matches!(entries(found(&["a.bin"]), &none), Err(Error::NotFound(_))));
    }
}
