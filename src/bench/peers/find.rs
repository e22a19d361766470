//! Where peers are: folders that the user names, then `PATH`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::bench::Stop;
use crate::bench::child::{self, Job};

/// The longest that a Python may take to import a module.
const IMPORT_MAX: Duration = Duration::from_secs(60);

/// Looks for programs, and for modules of a Python beside them.
#[derive(Debug)]
pub struct Finder {
    folders: Vec<PathBuf>,
    scratch: PathBuf,
    stop: Stop,
    /// Modules that were looked for: an import costs a second.
    modules: Mutex<BTreeMap<&'static str, Option<String>>>,
}

impl Finder {
    /// Looks in `folders` first, then in those of `PATH`; `scratch` takes what a Python says, until `stop`.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>, path: Option<&str>, scratch: &Path, stop: &Stop) -> Self {
        let known = path.into_iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute());
        // Programs are started in a folder of their own, where a relative one is not.
        let folders = folders.into_iter().filter_map(|folder| std::path::absolute(folder).ok());
        let folders = folders.chain(known).chain(["/usr/sbin".into()]).collect();
        Self { folders, scratch: scratch.to_owned(), stop: stop.clone(), modules: Mutex::default() }
    }

    /// The first program of this name.
    pub fn program(&self, name: &str) -> Option<String> {
        self.programs(name).next()
    }

    /// The first Python that has `module`.
    pub fn python_with(&self, module: &'static str) -> Option<String> {
        let mut modules = self.modules.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        modules
            .entry(module)
            .or_insert_with(|| self.programs("python3").find(|python| self.imports(python, module)))
            .clone()
    }

    fn programs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let path = move |folder: &PathBuf| folder.join(name);
        let runs = |path: &PathBuf| {
            path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        };
        self.folders.iter().map(path).filter(runs).map(|path| path.to_string_lossy().into_owned())
    }

    fn imports(&self, python: &str, module: &str) -> bool {
        let argv = [python, "-c", &format!("import {module}")].map(str::to_owned);
        let job = Job { argv: &argv, env: &[], scratch: &self.scratch, within: IMPORT_MAX };
        child::run(&job, &self.stop).is_ok()
    }
}
