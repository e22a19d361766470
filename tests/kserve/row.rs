//! One row of the table: what a run is given and how it must end. Data; how it is run is in `stage.rs`.
//!
//! In arguments, variables and texts `{0}`, `{1}`, … stand for the DESTs and `{src}` for a folder of the row's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dray_arena::FaultOrigin;

use crate::rig::oracle::Content;

/// DESTs a row may have.
pub(crate) const DESTS_MAX: usize = 4;

/// One run: what it is given, and how it must end.
pub(crate) struct Row {
    /// `area/what`: stable, unique in the table.
    pub(crate) name: &'static str,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(&'static str, String)>,
    /// What is there before, as paths like `src/a.bin` and `0/b.json`.
    pub(crate) placed: Vec<(String, Entry)>,
    pub(crate) exit: i32,
    /// Part of the last line; of no interest when empty.
    pub(crate) last: &'static str,
    /// What each DEST holds in the end; `None` where dray must not even make it.
    pub(crate) dests: Vec<Option<BTreeMap<String, Entry>>>,
    pub(crate) stage: Stage,
    /// The row's own server, where it has one.
    pub(crate) origin: Option<Arc<FaultOrigin>>,
    /// Most requests `origin` may see of dray.
    pub(crate) requests_max: Option<u64>,
    /// Why upstream is not asked.
    pub(crate) dray_only: Option<&'static str>,
}

/// A file, or a link in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Bytes(Content),
    Text(String),
    Link(String),
}

/// The conditions of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Plain,
    /// Killed by SIGKILL half way and started again; then the row's origin sends this much at most.
    Restarted {
        again_max: u64,
    },
    /// A user without a name, a read-only root, nothing writable but the DESTs.
    Sandboxed,
    /// The process itself never holds more than this resident.
    Lean {
        resident_max: u64,
    },
}

impl From<&Content> for Entry {
    fn from(content: &Content) -> Self {
        Self::Bytes(content.clone())
    }
}

impl Row {
    /// These arguments; they must succeed, and there is no DEST to look at yet.
    pub(crate) fn of(name: &'static str, argv: &[&str]) -> Self {
        Self {
            name,
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: Vec::new(),
            placed: Vec::new(),
            exit: 0,
            last: "",
            dests: Vec::new(),
            stage: Stage::Plain,
            origin: None,
            requests_max: None,
            dray_only: None,
        }
    }

    /// One pair that succeeds with these files and no others.
    pub(crate) fn takes(name: &'static str, source: impl AsRef<str>, files: &[(&str, &Content)]) -> Self {
        Self::of(name, &[source.as_ref(), "{0}"]).dest(files)
    }

    /// One pair that fails and leaves an empty DEST.
    pub(crate) fn fails(name: &'static str, source: impl AsRef<str>, exit: i32, last: &'static str) -> Self {
        Self::of(name, &[source.as_ref(), "{0}"]).dest(&[]).ends(exit, last)
    }

    /// Arguments or settings that are refused before anything is made.
    pub(crate) fn refuses(name: &'static str, argv: &[&str], exit: i32, last: &'static str) -> Self {
        let mut row = Self::of(name, argv).ends(exit, last);
        row.dests = vec![None];
        row
    }

    pub(crate) fn ends(mut self, exit: i32, last: &'static str) -> Self {
        self.exit = exit;
        self.last = last;
        self
    }

    /// What the next DEST holds.
    pub(crate) fn dest(mut self, files: &[(&str, &Content)]) -> Self {
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), Entry::from(*content)));
        self.dests.push(Some(files.collect()));
        self
    }

    /// DEST 0 holds this too.
    pub(crate) fn holds(mut self, path: &str, entry: Entry) -> Self {
        let dest = self.dests.first_mut().and_then(Option::as_mut).expect("DEST 0 is expected");
        dest.insert(path.to_owned(), entry);
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// This is there before the run.
    pub(crate) fn placed(mut self, path: &str, entry: Entry) -> Self {
        self.placed.push((path.to_owned(), entry));
        self
    }

    pub(crate) fn stage(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    /// Keeps the row's own server until the row has run.
    pub(crate) fn origin(mut self, origin: &Arc<FaultOrigin>) -> Self {
        self.origin = Some(Arc::clone(origin));
        self
    }

    pub(crate) fn requests_max(mut self, requests: u64) -> Self {
        self.requests_max = Some(requests);
        self
    }

    pub(crate) fn dray_only(mut self, why: &'static str) -> Self {
        self.dray_only = Some(why);
        self
    }
}

/// `text` with the places of one run in it.
pub(crate) fn filled(text: &str, around: &Path) -> String {
    let at = |name: &str| around.join(name).to_str().expect("UTF-8").to_owned();
    let mut text = text.replace("{src}", &at("src"));
    for number in 0..DESTS_MAX {
        text = text.replace(&format!("{{{number}}}"), &at(&number.to_string()));
    }
    text
}
