//! What a row of the table cannot say: milestones, the report, the termination log, runs that follow each other.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dray_arena::{Fault, FaultOrigin, On, Rule, Script};
use rustix::process::Signal;
use serde_json::Value;

use crate::rig::dray::{Dray, Run};
use crate::rig::nginx::Nginx;
use crate::rig::oracle::{Content, Expected, MIB, receipt, tree};
use crate::rig::server::wait_until;
use crate::rig::{folder, nginx};
use crate::table::{self, stores};

fn served(size: u64) -> (Nginx, Content) {
    let nginx = nginx();
    let content = Content::new(1, size);
    content.write_file(&nginx.root().join("weights"));
    (nginx, content)
}

/// Pairs from `nginx` into folders of `around`.
fn pairs(nginx: &Nginx, around: &Path, paths: &[&str]) -> Dray {
    let words = paths.iter().enumerate().flat_map(|(number, path)| {
        let dest = around.join(number.to_string());
        [nginx.http(path), dest.to_str().expect("UTF-8").to_owned()]
    });
    Dray::new(words)
}

fn milestones(run: &Run) -> Vec<&str> {
    run.stderr.lines().filter(|line| line.starts_with("cop")).collect()
}

#[test]
fn each_pair_says_when_it_begins_and_ends() {
    let (nginx, _) = served(MIB);
    let around = folder();
    let run = pairs(&nginx, around.path(), &["weights", "weights"]).run();
    run.assert_code(0);
    let lines = milestones(&run);
    let shape: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(shape, ["copying", "copied", "copying", "copied"], "{}", run.stderr);
    assert!(lines[0].ends_with("(1 of 2)") && lines[2].ends_with("(2 of 2)"), "{lines:?}");
}

#[test]
fn a_failed_pair_ends_the_run() {
    let (nginx, _) = served(MIB);
    let around = folder();
    let run = pairs(&nginx, around.path(), &["weights", "absent", "weights"]).run();
    run.assert_fails(3);
    assert!(!run.stderr.contains("3 of 3"), "the third is not begun: {}", run.stderr);
    assert_eq!(nginx.requests("weights").iter().filter(|request| request.method == "HEAD").count(), 1);
}

#[test]
fn what_is_refused_early_is_not_asked_for() {
    let (nginx, content) = served(MIB);
    for name in ["m.tar.Z", "m.zip.gz", "m.git"] {
        content.write_file(&nginx.root().join(name));
    }
    let dest = folder();
    let dest = dest.path().to_str().expect("UTF-8");
    for source in [nginx.http("m.tar.Z"), nginx.http("m.zip.gz"), nginx.https("m.git")] {
        let run = Dray::new([&source, dest]).run();
        assert_ne!(run.code(), 0, "{source}");
    }
    assert!(nginx.requests("").is_empty());
}

#[test]
fn headers_of_a_host_are_not_said_to_another() {
    let content = dray_arena::Content::generated(1, MIB);
    let away = FaultOrigin::start(vec![("/weights".to_owned(), content)], Script::calm()).expect("start the origin");
    let redirect = Fault::Redirect { status: 302, location: away.url("/weights") };
    let script = Script::calm().rule(Rule::new(redirect).on(On::Any));
    let home = FaultOrigin::start(Vec::new(), script).expect("start the origin");
    let dest = folder();
    let run = Dray::new([Path::new(&home.url("/weights")), dest.path()])
        .env("127.0.0.1-headers", r#"{"X-Token": "canary", "Authorization": "Bearer canary"}"#)
        .run();
    run.assert_code(0);
    let told = |origin: &FaultOrigin| origin.log().iter().filter(|seen| seen.header("x-token").is_some()).count();
    assert!(0 < told(&home), "its own host is told");
    assert!(away.log().iter().all(|seen| seen.headers.iter().all(|(_, value)| !value.contains("canary"))));
    assert!(0 < away.requests(), "it was asked");
}

#[test]
fn a_command_stays_a_command() {
    let run = Dray::new(["pull"]).run();
    assert!(run.assert_fails(2).contains("required"), "{}", run.stderr);
    let bare = Dray::new([""; 0]).run();
    bare.assert_fails(2);
    assert!(bare.stderr.contains("Usage:"), "{}", bare.stderr);
}

#[test]
fn a_report_is_written_where_the_variable_says() {
    let (nginx, _) = served(MIB);
    let around = folder();
    let report = around.path().join("report.json");
    pairs(&nginx, around.path(), &["weights"])
        .env("DRAY_IO", "buffered")
        .env("DRAY_REPORT", &report)
        .run()
        .assert_code(0);
    let written: Value = serde_json::from_str(&fs::read_to_string(&report).expect("a report")).expect("JSON");
    assert_eq!((&written["outcome"], &written["io"]["backend"]), (&"sealed".into(), &"buffered".into()));
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
    let run = pairs(&nginx, around.path(), &["weights"]).env("DRAY_LIMIT_RATE", "1MiB").run();
    run.assert_code(0);
    let lines: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("fetching ")).collect();
    // A machine that stalls takes longer, and then says more.
    let said = 2..=(run.seconds / 5.0) as usize;
    assert!(said.contains(&lines.len()), "{} s:\n{}", run.seconds, run.stderr);
    assert!(lines[0].contains(" of 13.0 MiB at "), "{}", lines[0]);
}

#[test]
fn linking_twice_is_linking_once() {
    let around = folder();
    let source = around.path().join("model");
    for name in ["a.bin", "sub/c.bin", ".hidden"] {
        Content::new(1, 10).write_file(&source.join(name));
    }
    let dest = around.path().join("dest");
    for _ in 0..2 {
        Dray::new([&source, &dest]).run().assert_code(0);
        assert_eq!(fs::read_link(dest.join("sub")).ok(), Some(source.join("sub")));
        assert_eq!(tree(&dest), ["a.bin", "sub"].map(str::to_owned).into(), "hidden names are left out");
    }
}

#[test]
fn a_folder_onto_itself_is_nothing_to_do() {
    let empty = folder();
    let run = Dray::new([empty.path(), empty.path()]).run();
    run.assert_code(0);
    assert_eq!(tree(empty.path()).len(), 0);
    assert!(!Path::new("/mnt/models/model-of-nobody").exists());
}

#[test]
fn members_are_as_well_known_as_their_archive() {
    let (stored, around) = (stores::stored(), folder());
    table::packed::packed();
    let source = stored.bucket.uri("one");
    let run = Dray::new([Path::new(&source), around.path()]).s3(&stored.bucket.endpoint).run();
    run.assert_code(0);
    let receipt = receipt(around.path());
    assert_eq!((&receipt["archive"]["assurance"], &receipt["archive"]["kind"]), (&"origin".into(), &"tar".into()));
    assert_eq!(receipt["files"][0]["assurance"], "origin");
}

#[test]
fn an_archive_of_this_machine_stays_and_is_unpacked_once() {
    let (zip, around) = (&table::packed::packed().zip, folder());
    let run = || Dray::new([zip.as_path(), around.path()]).run();
    let first = run();
    first.assert_code(0);
    assert!(first.stderr.contains("unpacked"), "{}", first.stderr);
    let changed = || fs::metadata(around.path().join("model.pth")).and_then(|data| data.modified()).expect("mtime");
    let before = changed();
    run().assert_code(0);
    assert!(zip.exists());
    assert_eq!(changed(), before, "a second run writes nothing");
}
