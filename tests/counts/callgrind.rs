//! Counts instructions by running this very program under callgrind, one process a count.
//!
//! In: a case and a size. Out: the instructions between entry and exit of one marker function.
//! Holds: a count depends on no other case, on no variable of the caller, and on no thread.

use std::hint::black_box;
use std::process::{Command, Stdio};

use super::cases::{self, Work};

/// The argument that makes this program the counted one.
pub(crate) const COUNTED: &str = "--counted";

/// As callgrind matches it: a pattern, whether names are mangled or not.
const MARKER: &str = "*dray_counted_work*";

/// All that is counted happens in here; callgrind knows it by its name.
#[inline(never)]
fn dray_counted_work(work: Work) {
    work();
    // Keeps the call from being the last thing: a jump into it would look like the marker's exit.
    black_box(());
}

/// What the counted program does: the case once to warm up, and once to be counted.
pub(crate) fn run_counted(name: &str, size: u64) {
    let case = cases::CASES.iter().find(|case| case.name == name).expect("a case of the table");
    // Tables that are built at their first use, and what the processor is asked once, are no part of a case.
    case.work(case.size)();
    let work = case.work(size);
    dray_counted_work(work);
}

/// The instructions of `size` items of a case.
pub(crate) fn count(name: &str, size: u64) -> u64 {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={MARKER}"))
        .arg(std::env::current_exe().expect("this program's path"))
        .args([COUNTED, name, &size.to_string()]);
    // What a developer has set turns on logs and moves the stack.
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let ended = command.stdin(Stdio::null()).output();
    let ended =
        ended.unwrap_or_else(|error| panic!("valgrind does not start ({error}); scripts/counts-deps.sh installs it"));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{name} under valgrind: {}\n{said}", ended.status);
    collected(&said).unwrap_or_else(|| panic!("callgrind did not count {name}: is {MARKER} still there?\n{said}"))
}

/// The sum in callgrind's last words; none when it never came into the marker.
fn collected(said: &str) -> Option<u64> {
    let sum = said.lines().find_map(|line| line.split_once("Collected : "))?.1;
    sum.trim().parse().ok().filter(|count| 0 < *count)
}
