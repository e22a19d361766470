//! The process itself: arguments, order, milestones, the termination log, restarts, a strange user.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::Row;
use crate::rig::dray::Dray;
use crate::rig::nginx::Nginx;
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::server::wait_until;
use crate::rig::{folder, nginx};

fn served(size: u64) -> (Nginx, Content) {
    let nginx = nginx();
    let content = Content::new(1, size);
    content.write_file(&nginx.root().join("weights"));
    (nginx, content)
}

#[test]
fn arguments_that_are_no_pairs_exit_2() {
    let around = folder();
    let dest = around.path().join("0");
    let dest = dest.to_str().expect("UTF-8");
    for (words, last) in [
        (&["s3://bucket/model"][..], "in pairs"),
        (&["s3://bucket/model", dest, "s3://bucket/other"], "in pairs"),
        (&["s3://bucket/model", dest, "--memory", "8MiB"], "DRAY_<FLAG>"),
        (&["--memory", "8MiB", "s3://bucket/model", dest], "error: "),
        (&["s3://bucket/model", ""], "empty"),
        (&["hf://model", dest], "Invalid Hugging Face URI format"),
        (&["gs://bucket/model", dest], "gs"),
        (&["nonsense://x", dest], "scheme"),
        (&["model-of-nobody", dest], "error: "),
        (&["", dest], "error: "),
        (&["s3://bucket/model", dest, "nonsense://x", dest], "scheme"),
    ] {
        let run = Dray::new(words).run();
        let line = run.assert_fails(2);
        assert!(line.contains(last), "{words:?}: {line}");
        assert_eq!(run.stdout, "", "{words:?}");
        assert_eq!(tree(around.path()).len(), 0, "{words:?}");
    }
    let run = Dray::new(["pull"]).run();
    assert!(run.assert_fails(2).contains("required"), "a command stays a command: {}", run.stderr);
    let bare = Dray::new([""; 0]).run();
    bare.assert_fails(2);
    assert!(bare.stderr.contains("Usage:"), "{}", bare.stderr);
}

#[test]
fn settings_come_from_variables_alone() {
    let (nginx, content) = served(MIB);
    let around = folder();
    let report = around.path().join("report.json");
    let report = report.to_str().expect("UTF-8").to_owned();
    let files = [("weights", &content)];
    Row::takes("flags by variable", nginx.http("weights"), &files)
        .env("DRAY_IO", "buffered")
        .env("DRAY_REPORT", &report)
        .check();
    let written: Value = serde_json::from_str(&fs::read_to_string(&report).expect("a report")).expect("JSON");
    assert_eq!((&written["outcome"], &written["io"]["backend"]), (&"sealed".into(), &"buffered".into()));
    for (name, value, exit) in [
        ("DRAY_IO", "floppy", 2),
        ("DRAY_MEMORY", "1", 2),
        ("DRAY_REQUIRE", "pinned", 5),
        ("CONFIDENTIAL_ENABLED", "true", 2),
        ("STORAGE_ALLOW_PATTERNS", "[unclosed", 2),
    ] {
        let around = folder();
        let row = Row { sources: vec![nginx.http("weights")], exit, what: name, ..Row::default() };
        row.env(name, value).run(around.path());
        assert_eq!(tree(around.path()).len(), 0, "{name}");
    }
}

#[test]
fn pairs_run_in_order_and_the_first_failure_ends_the_run() {
    let (nginx, content) = served(MIB);
    let files = || Some(vec![("weights", &content)]);
    let row = |what, paths: &[&str]| Row {
        what,
        sources: paths.iter().map(|path| nginx.http(path)).collect(),
        ..Row::default()
    };
    let run = Row { trees: vec![files(), files()], ..row("two pairs", &["weights", "weights"]) }.check();
    let milestones: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("cop")).collect();
    let shape = milestones.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!(shape, ["copying", "copied", "copying", "copied"], "{}", run.stderr);
    assert!(milestones[0].ends_with("(1 of 2)") && milestones[2].ends_with("(2 of 2)"), "{milestones:?}");
    let trees = vec![files(), Some(Vec::new()), Some(Vec::new())];
    let row = Row { exit: 3, last: "404", trees, ..row("the second fails", &["weights", "absent", "weights"]) };
    let run = row.check();
    assert!(!run.stderr.contains("3 of 3"), "the third is not begun: {}", run.stderr);
}

#[test]
fn the_last_line_is_the_termination_message() {
    let (nginx, _) = served(MIB);
    let around = folder();
    let log = around.path().join("termination-log");
    let path = log.to_str().expect("UTF-8").to_owned();
    let run = |path: &str, words: &[&str]| Dray::new(words).env("DRAY_TERMINATION_LOG", path).run();
    let dest = around.path().join("dest");
    let dest = dest.to_str().expect("UTF-8");
    let (absent, present) = (nginx.http("absent"), nginx.http("weights"));
    run(&path, &[&absent, dest]).assert_fails(3);
    assert!(!log.exists(), "it is not made");
    fs::write(&log, "an older and much longer message that must not shine through anywhere ".repeat(9)).expect("write");
    for words in [&[absent.as_str(), dest][..], &["s3://bucket/model"]] {
        let run = run(&path, words);
        assert_eq!(fs::read_to_string(&log).expect("read"), format!("{}\n", run.last_line()));
    }
    fs::write(&log, "").expect("write");
    run(&path, &[&present, dest]).assert_code(0);
    assert_eq!(fs::read_to_string(&log).expect("read"), "", "success leaves no message");
    run("/dev/full", &[&absent, dest]).assert_fails(3);
}

#[test]
fn a_restart_resumes_and_a_sealed_pair_is_not_fetched_again() {
    let (nginx, content) = served(24 * MIB);
    let around = folder();
    let dest = around.path().join("0");
    let report = around.path().join("report.json");
    let start = || Dray::new([Path::new(&nginx.http("weights")), &dest]).env("DRAY_REPORT", &report);
    let running = start().env("DRAY_LIMIT_RATE", "4MiB").spawn();
    let journaled = || fs::metadata(dest.join(".dray/journal")).is_ok_and(|journal| 600 < journal.len());
    wait_until("something is journaled", Duration::from_secs(30), journaled);
    running.signal(Signal::TERM);
    let run = running.wait();
    assert!(run.assert_fails(143).contains("SIGTERM"));
    let bytes = |name: &str| {
        let text = fs::read_to_string(&report).expect("a report");
        serde_json::from_str::<Value>(&text).expect("JSON")["bytes"][name].as_u64().expect("a number")
    };
    start().run().assert_code(0);
    assert!(0 < bytes("reused"), "it resumed");
    Expected::of([("weights", &content)]).assert_sealed(&dest);
    let mark = nginx.mark();
    start().run().assert_code(0);
    assert_eq!(bytes("fetched"), 0);
    assert!(nginx.logged_since(mark, "weights").iter().all(|request| request.method == "HEAD"), "no data request");
}

#[test]
fn a_long_pull_says_a_line_every_five_seconds() {
    let (nginx, _) = served(13 * MIB);
    let around = folder();
    let row = Row { what: "slow", sources: vec![nginx.http("weights")], ..Row::default() };
    let run = row.env("DRAY_LIMIT_RATE", "1MiB").run(around.path());
    let lines: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("fetching ")).collect();
    assert_eq!(lines.len(), 2, "{} s:\n{}", run.seconds, run.stderr);
    assert!(lines[0].contains(" of 13.0 MiB at "), "{}", lines[0]);
}

#[test]
fn a_user_without_a_name_and_nothing_writable_but_dest() {
    let (nginx, content) = served(3 * MIB);
    let dest = folder();
    let binary = env!("CARGO_BIN_EXE_dray");
    let output = Command::new("bwrap")
        .args(["--unshare-user", "--uid", "54321", "--gid", "54321", "--clearenv", "--ro-bind", "/", "/"])
        .args(["--tmpfs", "/etc", "--tmpfs", "/tmp", "--remount-ro", "/etc", "--remount-ro", "/tmp"])
        .args(["--dev", "/dev", "--remount-ro", "/dev", "--bind"])
        .args([dest.path(), dest.path()])
        .args(["--chdir", "/", "--setenv", "TMPDIR", "/nonexistent", binary, &nginx.http("weights")])
        .arg(dest.path())
        .output()
        .expect("run bwrap; scripts/test-deps.sh installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
}
