//! Runs a row, by dray or by upstream's initializer, and says what is not as the row has it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dray_arena::Script;
use rustix::process::Signal;

use super::row::{DESTS_MAX, Entry, Row, Stage, filled};
use crate::rig::dray::{Dray, Run};
use crate::rig::folder;
use crate::rig::oracle::{hash_file, tree};
use crate::rig::s3::SECRET_KEY;
use crate::rig::server::wait_until;

/// Length of the last line at the most: it becomes a pod's failure message.
const LAST_LINE_MAX: usize = 500;

/// Rows put this where a secret would be; nobody may repeat it.
const CANARY: &str = "canary";

/// What ran the row and what it left.
pub(crate) struct Ended {
    pub(crate) run: Run,
    /// Body bytes that the row's origin sent after the restart.
    pub(crate) again: u64,
    /// What the DESTs hold otherwise than the row says.
    pub(crate) astray: Vec<String>,
    around: tempfile::TempDir,
}

/// Runs the row by `program`, whose first words are given.
pub(crate) fn run(row: &Row, program: &[&Path]) -> Ended {
    let around = folder();
    for (path, entry) in &row.placed {
        place(&around.path().join(path), entry, around.path());
    }
    let mut again = 0;
    if let (Stage::Restarted { .. }, Some(origin)) = (row.stage, &row.origin) {
        let mut running = command(row, program, around.path()).spawn();
        wait_until("the run is half way", Duration::from_secs(60), || {
            assert!(!running.has_ended(), "{}: it ended before it was half way", row.name);
            is_under_way(&around.path().join("0"))
        });
        running.signal(Signal::KILL);
        assert!(running.wait().killed(), "{}: it was killed", row.name);
        origin.set_script(Script::calm());
        again = origin.body_bytes_sent();
    }
    let run = command(row, program, around.path()).run();
    if let (Stage::Restarted { .. }, Some(origin)) = (row.stage, &row.origin) {
        again = origin.body_bytes_sent() - again;
    }
    let astray = astray(row, around.path());
    Ended { run, again, astray, around }
}

/// What is wrong with dray's run of this row.
pub(crate) fn problems(row: &Row) -> Vec<String> {
    let ended = run(row, &[Path::new(env!("CARGO_BIN_EXE_dray"))]);
    let run = &ended.run;
    println!("{:6.2} s {}", run.seconds, row.name);
    let mut found = ended.astray.clone();
    let mut claim = |good: bool, what: String| {
        if !good {
            found.push(what);
        }
    };
    let last = run.last_line();
    claim(run.code() == row.exit, format!("exit {} instead of {}", run.code(), row.exit));
    claim(last.contains(row.last), format!("the last line lacks {:?}", row.last));
    claim(last.starts_with("error: ") == (row.exit != 0), "an error line ends a failure, and nothing else".to_owned());
    claim(last.len() <= LAST_LINE_MAX, "the last line is long".to_owned());
    claim(run.stdout.is_empty(), format!("stdout: {}", run.stdout));
    for secret in [CANARY, SECRET_KEY] {
        claim(!run.stderr.contains(secret), format!("stderr repeats a secret ({secret})"));
    }
    for (number, dest) in row.dests.iter().enumerate() {
        let there = ended.around.path().join(number.to_string()).is_dir();
        claim(there == dest.is_some(), format!("DEST {number} is there: {there}"));
    }
    if let Stage::Lean { resident_max } = row.stage {
        let peak = run.resident_max;
        claim(0 < peak && peak <= resident_max, format!("{peak} bytes were resident"));
    }
    if let Stage::Restarted { again_max } = row.stage {
        println!("         {} bytes after the restart", ended.again);
        claim(ended.again <= again_max, format!("{} bytes were sent after the restart", ended.again));
    }
    let requests = row.origin.as_ref().map_or(0, |origin| origin.requests());
    claim(row.requests_max.is_none_or(|most| requests <= most), format!("the origin saw {requests} requests"));
    if !found.is_empty() {
        found.push(format!("stderr:\n{}", run.stderr));
    }
    found
}

fn command(row: &Row, program: &[&Path], around: &Path) -> Dray {
    let words = row.argv.iter().map(|word| OsString::from(filled(word, around)));
    let mut words: Vec<OsString> = program.iter().map(|word| word.as_os_str().to_owned()).chain(words).collect();
    if row.stage == Stage::Sandboxed {
        words.splice(0..0, sandbox(row, around));
    }
    let first = words.remove(0);
    let variables = row.env.iter();
    variables.fold(Dray::program(first, words), |dray, (name, value)| dray.env(name, filled(value, around)))
}

/// bubblewrap: another user, a read-only root, and the DESTs, which must be there to be bound.
fn sandbox(row: &Row, around: &Path) -> Vec<OsString> {
    let user = (20_000 + std::process::id() % 40_000).to_string();
    let fixed = ["bwrap", "--unshare-user", "--uid", &user, "--gid", &user, "--ro-bind", "/", "/"];
    let bare = ["--dev", "/dev", "--remount-ro", "/dev", "--chdir", "/"];
    let mut words: Vec<OsString> = fixed.iter().chain(&bare).map(OsString::from).collect();
    for number in 0..row.dests.len() {
        let dest = around.join(number.to_string());
        fs::create_dir_all(&dest).expect("create DEST");
        words.extend(["--bind".into(), dest.clone().into(), dest.into()]);
    }
    words
}

/// Whether a run has something that a restart could lose: a journal with pieces in it, or a growing file.
fn is_under_way(dest: &Path) -> bool {
    let length = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let files = tree(dest);
    1000 < length(dest.join(".dray/journal")) || files.iter().any(|name| 8 << 20 < length(dest.join(name)))
}

fn place(path: &Path, entry: &Entry, around: &Path) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("create folder");
    match entry {
        Entry::Bytes(content) => content.write_file(path),
        Entry::Text(text) => fs::write(path, filled(text, around)).expect("write"),
        Entry::Link(target) => symlink(filled(target, around), path).expect("link"),
    }
}

/// What the DESTs hold otherwise than the row says, and what lies beside them.
fn astray(row: &Row, around: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let empty = BTreeMap::new();
    for (number, dest) in row.dests.iter().enumerate() {
        let expected = dest.as_ref().unwrap_or(&empty);
        let folder = around.join(number.to_string());
        let mut names = tree(&folder);
        // A DEST may be a folder further down; its state is its own.
        names.retain(|name| !name.contains("/.dray/"));
        for name in names.iter().filter(|name| !expected.contains_key(*name)) {
            found.push(format!("DEST {number} has {name}"));
        }
        for (name, entry) in expected {
            if !names.contains(name) {
                found.push(format!("DEST {number} lacks {name}"));
            } else if !is_as(&folder.join(name), entry, around) {
                found.push(format!("{name} in DEST {number} is something else"));
            }
        }
    }
    let known = |name: &str| name == "src" || name.parse::<usize>().is_ok_and(|number| number < DESTS_MAX);
    for entry in fs::read_dir(around).expect("the folder around") {
        let name = entry.expect("folder entry").file_name();
        let name = name.to_string_lossy();
        if !known(&name) {
            found.push(format!("{name} lies outside the DESTs"));
        }
    }
    found
}

fn is_as(path: &Path, entry: &Entry, around: &Path) -> bool {
    match entry {
        Entry::Bytes(content) => hash_file(path) == content.blake3,
        Entry::Text(text) => fs::read_to_string(path).is_ok_and(|found| found == filled(text, around)),
        Entry::Link(target) => fs::read_link(path).is_ok_and(|found| found == Path::new(&filled(target, around))),
    }
}
