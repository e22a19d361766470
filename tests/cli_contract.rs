//! The command line as scripts see it: exit codes, the last line, stdout, environment, secrets.

mod rig;

use std::fs;
use std::path::Path;

use rig::dray::{Dray, Run};
use rig::nginx::Nginx;
use rig::oracle::{Content, Expected, MIB, tree};
use rig::server::free_ports;
use rig::{folder, nginx, nginx_before_weed, weed};
use serde_json::Value;

/// A small file behind a fresh nginx.
fn served() -> (Nginx, Content) {
    let nginx = nginx();
    let content = Content::new(1, 2 * MIB + 1);
    content.write_file(&nginx.root().join("weights"));
    (nginx, content)
}

fn refused(args: &[&str]) {
    let dest = folder();
    let args: Vec<String> = args.iter().map(|arg| arg.replace("DEST", dest.path().to_str().expect("UTF-8"))).collect();
    let run = Dray::new(&args).run();
    run.assert_fails(2);
    assert_eq!(run.stdout, "", "stdout of {args:?}");
    assert_eq!(tree(dest.path()).len(), 0);
}

#[test]
fn bad_arguments_exit_2_with_one_error_line_last() {
    for args in [
        &["pull"][..],
        &["pull", "s3://bucket/model"],
        &["pull", "--no-such-flag", "s3://bucket/model", "DEST"],
        &["no-such-command"],
        &["verify"],
        &["plan"],
        &["verify", "DEST", "--no-such-flag"],
    ] {
        refused(args);
    }
}

#[test]
fn a_bad_source_exits_2() {
    for source in [
        "",
        "model",
        "s3://",
        "s3:///key",
        "ftp://host/file",
        "http://",
        "http:///file",
        "https://host:99999/x",
        "nonsense://x",
    ] {
        refused(&["pull", source, "DEST"]);
    }
}

#[test]
fn a_bad_value_exits_2_and_is_named() {
    for (flag, value) in [
        ("--memory", "lots"),
        ("--memory", "-1"),
        ("--memory", "64XB"),
        ("--memory", "99999999999999999999"),
        ("--stall-timeout", "soon"),
        ("--stall-timeout", "-5s"),
        ("--deadline", "10 parsecs"),
        ("--limit-rate", "fast"),
        ("--connections", "many"),
        ("--connections", "0"),
        ("--io", "floppy"),
        ("--progress", "loud"),
        ("--require", "faith"),
        ("--allow", "[unclosed"),
    ] {
        let dest = folder();
        let joined = format!("{flag}={value}");
        let run = Dray::new(["pull", "s3://bucket/model", dest.path().to_str().expect("UTF-8"), &joined]).run();
        let line = run.assert_fails(2);
        assert!(line.contains(flag) || line.contains(value), "{joined}: {line}");
    }
}

#[test]
fn every_command_has_help_on_stdout() {
    let top = Dray::new(["--help"]).run();
    top.assert_code(0);
    assert_eq!(top.stderr, "");
    for command in ["pull", "plan", "verify"] {
        assert!(top.stdout.contains(command), "{command} is in:\n{}", top.stdout);
    }
    let after = top.stdout.split_once("Commands:").expect("a list of commands").1;
    let listed = after.lines().skip(1).take_while(|line| !line.trim().is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("    "));
    for name in names.filter_map(|line| line.split_whitespace().next()) {
        let run = Dray::new([name, "--help"]).run();
        run.assert_code(0);
        assert!(run.stdout.contains("Usage:"), "dray {name} --help:\n{}", run.stdout);
        assert_eq!(run.stderr, "");
    }
}

#[test]
fn the_version_is_one_line() {
    let run = Dray::new(["--version"]).run();
    run.assert_code(0);
    assert_eq!(run.stdout, format!("dray {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_of_pull_names_a_variable_for_every_flag() {
    let run = Dray::new(["pull", "--help"]).run();
    run.assert_code(0);
    for flag in [
        "allow",
        "ignore",
        "memory",
        "connections",
        "io",
        "stall-timeout",
        "deadline",
        "limit-rate",
        "progress",
        "report",
    ] {
        assert!(run.stdout.contains(&format!("--{flag}")), "--{flag} in:\n{}", run.stdout);
        let variable = format!("DRAY_{}", flag.to_uppercase().replace('-', "_"));
        assert!(run.stdout.contains(&variable), "{variable} in:\n{}", run.stdout);
    }
}

#[test]
fn flags_come_from_the_environment_and_a_flag_wins() {
    let (nginx, content) = served();
    let pull = |dest: &Path| Dray::new([Path::new("pull"), Path::new(&nginx.http("weights")), dest]);
    let around = folder();
    let report = around.path().join("report.json");
    let backend = || {
        let text = fs::read_to_string(&report).expect("the report");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        report["io"]["backend"].as_str().expect("a backend").to_owned()
    };
    let dest = around.path().join("one");
    let run = pull(&dest).env("DRAY_IO", "buffered").env("DRAY_REPORT", &report).run();
    run.assert_code(0);
    assert_eq!(backend(), "buffered");
    Expected::of([("weights", &content)]).assert_sealed(&dest);

    let dest = around.path().join("two");
    let run = pull(&dest).args(["--io", "threads"]).env("DRAY_IO", "buffered").env("DRAY_REPORT", &report).run();
    run.assert_code(0);
    assert_eq!(backend(), "threads");
}

#[test]
fn a_bad_value_in_the_environment_exits_2() {
    for (variable, value) in [
        ("DRAY_IO", "floppy"),
        ("DRAY_MEMORY", "lots"),
        ("DRAY_STALL_TIMEOUT", "soon"),
        ("DRAY_DEADLINE", "never"),
        ("DRAY_CONNECTIONS", "many"),
        ("DRAY_LIMIT_RATE", "fast"),
        ("DRAY_PROGRESS", "loud"),
    ] {
        let dest = folder();
        let run = Dray::pull("s3://bucket/model", dest.path()).env(variable, value).run();
        run.assert_fails(2);
    }
}

#[test]
fn json_progress_is_json_on_every_line() {
    let (nginx, _) = served();
    let dest = folder();
    let run = Dray::pull(&nginx.http("weights"), dest.path()).args(["--progress", "json"]).run();
    run.assert_sealed();
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert!(!lines.is_empty(), "some progress");
    for line in lines {
        let value: Result<Value, _> = serde_json::from_str(line);
        assert!(value.is_ok_and(|value| value.is_object()), "not a JSON object: {line}");
    }
}

#[test]
fn every_kind_of_progress_keeps_stdout_empty() {
    let (nginx, _) = served();
    for kind in ["auto", "bar", "lines", "json", "none"] {
        let dest = folder();
        let run = Dray::pull(&nginx.http("weights"), dest.path()).args(["--progress", kind]).run();
        run.assert_sealed();
        let absent = Dray::pull(&nginx.http("absent"), dest.path()).args(["--progress", kind]).run();
        absent.assert_fails(3);
        assert_eq!(absent.stdout, "");
    }
}

#[test]
fn a_failed_run_leaves_a_report_with_its_class() {
    let (nginx, _) = served();
    let [port] = free_ports();
    let dest = folder();
    let mut outcomes = Vec::new();
    for (url, code) in
        [(nginx.http("absent"), 3), (nginx.http("denied/403"), 4), (format!("http://127.0.0.1:{port}/x"), 7)]
    {
        let run = Dray::pull(&url, dest.path()).run();
        run.assert_fails(code);
        assert_eq!(run.report()["schema"], "dray.report/1");
        outcomes.push(run.report()["outcome"].as_str().expect("an outcome").to_owned());
    }
    outcomes.sort();
    outcomes.dedup();
    assert_eq!(outcomes.len(), 3, "each class has its own name: {outcomes:?}");
}

/// No canary is in the output, the report or anything that the run left in DEST or its state.
fn assert_no_secret(run: &Run, dest: &Path, canaries: &[&str]) {
    let mut shown = vec![("stdout".to_owned(), run.stdout.clone()), ("stderr".to_owned(), run.stderr.clone())];
    shown.extend(run.report.as_ref().map(|report| ("the report".to_owned(), report.to_string())));
    let state = dest.join(".dray");
    for name in tree(&state) {
        let bytes = fs::read(state.join(&name)).expect("read state");
        shown.push((name, String::from_utf8_lossy(&bytes).into_owned()));
    }
    for (place, text) in shown {
        for canary in canaries {
            if let Some(at) = text.find(canary) {
                let from = text[..at].rfind('\n').map_or(0, |end| end + 1);
                let line: String = text[from..].lines().next().unwrap_or_default().chars().take(600).collect();
                panic!("{canary} is in {place}: {line}");
            }
        }
    }
}

#[test]
fn no_credential_of_s3_is_ever_shown() {
    let nginx = nginx_before_weed("100m");
    let bucket = weed().bucket("canaries");
    bucket.put(&[("model/a", &Content::new(1, 9 * MIB))]);
    let dest = folder();
    let canaries = ["CANARY-SECRET", "CANARY-SESSION", rig::s3::SECRET_KEY, "X-Amz-Signature=0", "X-Amz-Signature=f"];
    let pull = || {
        Dray::pull(&bucket.uri("model"), dest.path())
            .s3(&nginx.s3())
            .env("RUST_LOG", "trace")
            .args(["--progress", "lines"])
    };
    let wrong = pull().env("AWS_SECRET_ACCESS_KEY", "CANARY-SECRET").run();
    wrong.assert_fails(4);
    assert_no_secret(&wrong, dest.path(), &canaries);
    let session = pull().env("AWS_SESSION_TOKEN", "CANARY-SESSION").run();
    assert_no_secret(&session, dest.path(), &canaries);
    let right = pull().run();
    right.assert_sealed();
    assert_no_secret(&right, dest.path(), &canaries);
    for line in right.stderr.lines() {
        let signature = line
            .split_once("X-Amz-Signature=")
            .map(|(_, rest)| rest.chars().take_while(char::is_ascii_hexdigit).count());
        assert!(signature.unwrap_or(0) < 8, "a signature is in: {line}");
    }
}

#[test]
fn no_userinfo_and_no_query_of_a_url_is_ever_shown() {
    let (nginx, _) = served();
    let canaries = ["CANARY-PASSWORD", "CANARY-TOKEN"];
    let address = nginx.http("").replace("http://", "");
    for (path, code) in [("weights", 0), ("absent", 3), ("denied/403", 4)] {
        let dest = folder();
        let url = format!("http://user:CANARY-PASSWORD@{address}{path}?token=CANARY-TOKEN");
        let run = Dray::pull(&url, dest.path()).env("RUST_LOG", "trace").args(["--progress", "lines"]).run();
        run.assert_code(code);
        assert_no_secret(&run, dest.path(), &canaries);
    }
    let plan =
        Dray::new(["plan", &format!("http://user:CANARY-PASSWORD@{address}weights?token=CANARY-TOKEN"), "--json"])
            .run();
    plan.assert_code(0);
    assert_no_secret(&plan, Path::new("/nonexistent"), &canaries);
    let bad = Dray::new(["plan", "ftp://user:CANARY-PASSWORD@host/x?token=CANARY-TOKEN"]).run();
    bad.assert_fails(2);
    assert_no_secret(&bad, Path::new("/nonexistent"), &canaries);
}
