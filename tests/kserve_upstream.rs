//! The table of the storage-initializer contract, run by upstream's own initializer: what is the same, and what is
//! meant to differ.
//!
//! `make test-upstream` runs it; `scripts/upstream-deps.sh` installs upstream. Success or failure and the tree of
//! each DEST are compared: exit codes and last lines are dray's own.

mod rig;

#[path = "kserve/differences.rs"]
mod differences;
#[expect(dead_code, reason = "what only dray's own run of the table uses")]
#[path = "kserve/mod.rs"]
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use differences::{DIFFERENCES, Difference, How};
use table::row::Row;

/// Where the Hub's client keeps its notes in a DEST; docs/kserve.md has it as one difference of all `hf://` runs.
const NOTES: &str = " has .cache/huggingface/";

/// Runs at once: most of a run is Python starting.
const AT_ONCE: usize = 3;

#[test]
fn upstream_ends_as_the_table_says_but_for_the_listed_differences() {
    let python = upstream();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kserve/upstream.py");
    let listed: BTreeMap<&str, &Difference> = DIFFERENCES.iter().map(|one| (one.row, one)).collect();
    assert_eq!(listed.len(), DIFFERENCES.len(), "a row is listed once");
    let rows: Vec<&Row> = table::all().filter(|row| row.dray_only.is_none()).collect();
    for name in listed.keys() {
        assert!(rows.iter().any(|row| row.name == *name), "{name} is listed, and no row that upstream runs");
    }
    let queue = Mutex::new(rows.iter());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = next(&queue) {
                    let found = compare(row, &python, &script);
                    if let Err(text) = judge(row, listed.get(row.name).copied(), found) {
                        wrong.lock().expect("no thread has failed").push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no thread has failed");
    println!("{} rows, {} listed differences", rows.len(), listed.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn next<'a>(queue: &Mutex<std::slice::Iter<'_, &'a Row>>) -> Option<&'a Row> {
    queue.lock().expect("no thread has failed").next().copied()
}

/// How upstream's run differs from the row, with what it said; nothing when it does not.
fn compare(row: &Row, python: &Path, script: &Path) -> Option<(How, String)> {
    let mut ended = table::stage::run(row, &[python, script]);
    ended.astray.retain(|line| !line.contains(NOTES));
    let good = ended.run.code() == 0;
    let how = match (row.exit == 0, good, ended.astray.is_empty()) {
        (true, false, _) => How::Fails,
        (false, true, _) => How::Succeeds,
        (_, _, false) => How::OtherFiles,
        (_, _, true) => return None,
    };
    Some((how, format!("{:?}; {}", ended.astray, ended.run.last_line())))
}

fn judge(row: &Row, listed: Option<&Difference>, found: Option<(How, String)>) -> Result<(), String> {
    match (listed, found) {
        (None, None) => Ok(()),
        (Some(listed), Some((how, _))) if listed.how == how => Ok(()),
        (Some(listed), Some((how, text))) => {
            Err(format!("{}: listed as {:?}, but upstream {how:?}: {text}", row.name, listed.how))
        }
        (None, Some((how, text))) => Err(format!("{}: not listed: upstream {how:?}: {text}", row.name)),
        (Some(listed), None) => Err(format!("{}: no longer differs; listed: {}", row.name, listed.why)),
    }
}

fn upstream() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |dir| root.join(dir));
    let venv = std::env::var_os("DRAY_UPSTREAM_VENV").map_or(target.join("upstream-venv"), PathBuf::from);
    let python = venv.join("bin/python");
    assert!(python.exists(), "{} is missing: run scripts/upstream-deps.sh", python.display());
    python
}
