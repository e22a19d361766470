//! Somebody else's files, for a bench of whole pulls.
//!
//! In: URIs. Out: the origin that contenders are given, and the files they are to bring.
//! Holds: of several URIs each is one file, and a URL is asked about here before anybody is measured.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures::{StreamExt, TryStreamExt};

use crate::audit::Audit;
use crate::bench::contender::{Origin, SourceFile};
use crate::cli::environment::{self, Wires};
use crate::cli::local;
use crate::cli::progress::eprintln_line;
use crate::cli::pull::{self, Asked};
use crate::error::Error;
use crate::limits::Limits;
use crate::origin::Environment;
use crate::resolve::Filter;
use crate::wire::Counters;

/// URLs that are asked about at the same time.
const ASKED_AT_ONCE: usize = 4;

/// URIs of one bench at most: `dray prefetch` takes no more of them.
const SOURCES_MAX: usize = 10_000;

/// Somebody else's files.
pub(super) struct Found {
    pub(super) origin: Origin,
    pub(super) files: Vec<SourceFile>,
    /// Where they are, without secrets.
    pub(super) shown: String,
}

/// Resolves `sources` to the files that are there; `None` where there are no sources.
///
/// # Errors
/// `Usage` for files without a size, and for several URIs that are not files of one protocol, each with a name of its
/// own; else whatever resolving one gave.
pub(super) async fn find(sources: &[String]) -> Result<Option<Found>, Error> {
    let [first, others @ ..] = sources else { return Ok(None) };
    let written: Vec<_> = sources.iter().map(|source| local::written(source)).collect();
    let word = |source: &str| source.split_once("://").map_or("file", |(scheme, _)| scheme).to_ascii_lowercase();
    let (uri, scheme) = (written[0].to_string(), word(&written[0]));
    let has_urls = scheme == "http" || scheme == "https";
    if !others.is_empty() {
        alike(&scheme, written.iter().map(|source| word(source)))?;
    }
    let environment = environment::process()?;
    let asked = written.iter().map(|source| files(source, &environment));
    let models: Vec<_> = futures::stream::iter(asked).buffered(ASKED_AT_ONCE).try_collect().await?;
    if !others.is_empty() {
        apart(&models)?;
    }
    let urls = if has_urls { written.iter().map(ToString::to_string).collect() } else { Vec::new() };
    let authority = environment.var("SSL_CERT_FILE").map(PathBuf::from);
    let shown = match others.len() {
        0 => pull::shown(first),
        more => format!("{} and {more} more", pull::shown(first)),
    };
    let origin = Origin { word: scheme, uri, urls, env: Vec::new(), authority };
    Ok(Some(Found { origin, files: models.into_iter().flatten().collect(), shown }))
}

/// The files of one source.
async fn files(source: &str, environment: &Environment) -> Result<Vec<SourceFile>, Error> {
    let (limits, audit, counters, filter) =
        (Limits::default(), Audit::default(), Counters::default(), Filter::default());
    let asked = Asked {
        source,
        filter: &filter,
        environment,
        limits: &limits,
        audit: &audit,
        counters: &counters,
        wires: &Wires::default(),
    };
    let resolved = pull::resolve_source(asked, &mut |line| eprintln_line(line)).await?;
    let unknown = || Error::Usage("a bench needs files whose sizes their origin states".to_owned());
    let files = resolved.manifest.entries.iter().map(|entry| {
        let size = entry.size.ok_or_else(unknown)?;
        Ok(SourceFile { path: entry.path.as_str().to_owned(), size, digest: None })
    });
    files.collect()
}

/// Refuses several URIs that no peer could take by one command.
fn alike(scheme: &str, mut words: impl ExactSizeIterator<Item = String>) -> Result<(), Error> {
    if SOURCES_MAX < words.len() {
        return Err(Error::Usage(format!("more than {SOURCES_MAX} URIs")));
    }
    if !matches!(scheme, "http" | "https") || words.any(|word| word != scheme) {
        let text = "several URIs are files by http, or files by https; any other source stands alone";
        return Err(Error::Usage(text.to_owned()));
    }
    Ok(())
}

/// Refuses files of one name: tools lay them into one folder.
fn apart(models: &[Vec<SourceFile>]) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for files in models {
        let [file] = files.as_slice() else {
            return Err(Error::Usage("of several URIs each is one file".to_owned()));
        };
        if !names.insert(file.path.as_str()) {
            return Err(Error::Usage(format!("two files are named {}", file.path)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_uris_are_files_of_one_protocol_with_names_of_their_own() {
        for (words, admitted) in [
            (&["http", "http"][..], true),
            (&["https", "https"], true),
            (&["http", "https"], false),
            (&["s3", "s3"], false),
        ] {
            let seen = alike(words[0], words.iter().map(|word| (*word).to_owned()));
            assert_eq!(seen.is_ok(), admitted, "{words:?}");
        }
        let file = |path: &str| SourceFile { path: path.to_owned(), size: 1, digest: None };
        assert!(apart(&[vec![file("a")], vec![file("b")]]).is_ok());
        for models in [[vec![file("a")], vec![file("a")]], [vec![file("a"), file("b")], vec![file("c")]]] {
            assert!(matches!(apart(&models), Err(Error::Usage(_))));
        }
    }
}
