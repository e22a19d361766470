//! Runs with everything logged, and the search for secrets in everything that a run leaves behind.

use std::fs;
use std::path::{Path, PathBuf};

use super::between::Asked;
use super::site::Place;
use crate::rig::dray::{Dray, Run};
use crate::rig::folder;
use crate::rig::oracle::tree;

/// Shorter values are ordinary words.
const SECRET_BYTES_MIN: usize = 8;

/// Headers whose values are secrets.
const SECRET_HEADERS: [&str; 5] =
    ["authorization", "proxy-authorization", "cookie", "x-amz-security-token", "x-ms-copy-source-authorization"];

/// Parameters whose values are secrets.
const SECRET_PARAMETERS: [&str; 5] =
    ["X-Amz-Signature", "X-Amz-Security-Token", "X-Goog-Signature", "sig", "Signature"];

/// A DEST with nothing beside it but an audit log and a trace.
pub(crate) struct Trial {
    around: tempfile::TempDir,
}

impl Trial {
    pub(crate) fn new() -> Self {
        Self { around: folder() }
    }

    pub(crate) fn dest(&self) -> PathBuf {
        self.around.path().join("dest")
    }

    /// `dray pull` of `path` with everything logged.
    pub(crate) fn dray(&self, place: &dyn Place, path: &str) -> Dray {
        self.logged(place.here(Dray::pull(&place.uri(path), &self.dest())))
    }

    /// The run with everything logged.
    pub(crate) fn logged(&self, dray: Dray) -> Dray {
        let beside = |name: &str| self.around.path().join(name);
        dray.env("DRAY_LOG", "trace").env("DRAY_AUDIT", beside("audit.jsonl")).env("DRAY_TRACE", beside("trace.jsonl"))
    }

    /// Runs a pull of `path`; no secret shows anywhere.
    pub(crate) fn pull(&self, place: &dyn Place, path: &str, args: &[&str]) -> Run {
        let run = self.dray(place, path).args(args).run();
        self.assert_silent(place, &run, &[]);
        run
    }

    /// Nothing that is secret is in the output, the report, the audit log, the trace, or any file below DEST.
    pub(crate) fn assert_silent(&self, place: &dyn Place, run: &Run, more: &[String]) {
        let mut texts = vec![("stdout".to_owned(), run.stdout.clone()), ("stderr".to_owned(), run.stderr.clone())];
        texts.extend(run.report.iter().map(|report| ("the report".to_owned(), report.to_string())));
        for (path, bytes) in self.written() {
            texts.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
        assert_without(&texts, &[secrets(place), more.to_vec()].concat());
    }

    /// Every file of the trial: audit log, trace, model, state.
    fn written(&self) -> Vec<(String, Vec<u8>)> {
        let read = |name: String| {
            let bytes = fs::read(self.around.path().join(&name)).expect("read");
            (name, bytes)
        };
        tree(self.around.path()).into_iter().map(read).collect()
    }

    /// Nothing was written but below DEST, and nothing there has a final name.
    pub(crate) fn assert_nothing_published(&self) {
        let mut names = tree(self.around.path());
        names.retain(|name| name != "audit.jsonl" && name != "trace.jsonl" && !name.starts_with("dest/.dray/"));
        assert!(names.is_empty(), "files with final names: {names:?}");
        let above = self.around.path().parent().expect("a parent");
        assert!(!above.join("evil").exists() && !Path::new("/evil").exists(), "a file outside DEST");
    }
}

/// None of the `canaries` is in any of the texts, which have names.
pub(crate) fn assert_without(texts: &[(String, String)], canaries: &[String]) {
    assert!(!canaries.is_empty() && canaries.iter().all(|canary| SECRET_BYTES_MIN <= canary.len()), "{canaries:?}");
    for (name, text) in texts {
        for canary in canaries {
            if let Some(at) = text.find(canary.as_str()) {
                let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
                panic!("the secret {canary} is in {name}: {}", text[from..].lines().next().unwrap_or_default());
            }
        }
    }
}

/// What the place knows to be secret, and what its servers were told in secret.
pub(crate) fn secrets(place: &dyn Place) -> Vec<String> {
    let mut secrets = place.canaries();
    for asked in place.front().asked().into_iter().chain(place.data().asked()) {
        secrets.extend(told(&asked));
    }
    secrets.retain(|secret| SECRET_BYTES_MIN <= secret.len());
    secrets.sort();
    secrets.dedup();
    secrets
}

/// The secrets that a request carries.
fn told(asked: &Asked) -> Vec<String> {
    let headers = asked.headers.iter().filter(|(name, _)| SECRET_HEADERS.contains(&name.as_str()));
    // `Bearer x` leaks as `x`, a signature without the scope before it.
    let headers = headers.filter_map(|(_, value)| value.rsplit([' ', '=']).find(|part| !part.is_empty()));
    let query = asked.target.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(|(name, _)| SECRET_PARAMETERS.contains(name)).map(|(_, value)| value);
    headers.chain(values).map(str::to_owned).collect()
}
