//! The storage-initializer contract, black box: arguments, environment and servers in; tree, exit code and last line out.
//!
//! Each row is one run. What must be on disk comes from `rig::oracle`; docs/kserve.md says where upstream differs.

mod rig;

#[path = "kserve/archives.rs"]
mod archives;
#[path = "kserve/http.rs"]
mod http;
#[path = "kserve/local.rs"]
mod local;
#[path = "kserve/process.rs"]
mod process;
#[path = "kserve/s3.rs"]
mod s3;

use std::collections::BTreeSet;
use std::path::Path;

use rig::dray::{Dray, Run};
use rig::folder;
use rig::oracle::{Content, hash_file, tree};

/// One run: pairs and environment, and how it must end.
#[derive(Default)]
struct Row<'a> {
    what: &'a str,
    /// One SRC for each DEST, which are `0`, `1`, … in a new folder.
    sources: Vec<String>,
    env: Vec<(&'a str, String)>,
    exit: i32,
    /// Part of the last line; of no interest when empty.
    last: &'a str,
    /// What each DEST holds in the end; `None` where it must not exist.
    trees: Vec<Option<Vec<(&'a str, &'a Content)>>>,
}

impl<'a> Row<'a> {
    /// One pair that succeeds with these files.
    fn takes(what: &'a str, source: String, files: &[(&'a str, &'a Content)]) -> Self {
        Self { what, sources: vec![source], trees: vec![Some(files.to_vec())], ..Self::default() }
    }

    /// One pair that fails and leaves an empty DEST.
    fn fails(what: &'a str, source: String, exit: i32, last: &'a str) -> Self {
        Self { what, sources: vec![source], exit, last, trees: vec![Some(Vec::new())], ..Self::default() }
    }

    fn env(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    fn check(self) -> Run {
        let around = folder();
        let run = self.run(around.path());
        assert_eq!(run.stdout, "", "{}: stdout", self.what);
        for (number, expected) in self.trees.iter().enumerate() {
            let dest = around.path().join(number.to_string());
            assert_eq!(dest.is_dir(), expected.is_some(), "{}: DEST {number} is there", self.what);
            let files = expected.as_deref().unwrap_or_default();
            let names: BTreeSet<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(tree(&dest), names, "{}: files of DEST {number}; stderr:\n{}", self.what, run.stderr);
            for (name, content) in files {
                assert_eq!(hash_file(&dest.join(name)), content.blake3, "{}: bytes of {name}", self.what);
            }
        }
        run
    }

    fn run(&self, around: &Path) -> Run {
        let dest = |number: usize| around.join(number.to_string()).into_os_string();
        let pairs = self.sources.iter().enumerate();
        let words = pairs.flat_map(|(number, source)| [source.into(), dest(number)]);
        let run = self.env.iter().fold(Dray::new(words), |dray, (name, value)| dray.env(name, value)).run();
        assert_eq!(run.code(), self.exit, "{}: exit; stderr:\n{}", self.what, run.stderr);
        let last = run.last_line();
        assert!(last.contains(self.last), "{}: last line: {last}", self.what);
        assert_eq!(last.starts_with("error: "), self.exit != 0, "{}: last line: {last}", self.what);
        assert!(last.len() <= 500, "{}: the last line is short: {last}", self.what);
        run
    }
}
