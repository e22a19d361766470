//! `dray pull --trace` and `dray bench page`: what is written down, and what a browser makes of it.

mod rig;
mod page {
    pub(crate) mod browser;
    pub(crate) mod png;
}

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dray_arena::{Content as Made, Fault, FaultOrigin, Rule, Script};
use page::browser::{self, Scheme};
use rig::dray::{Dray, Run};
use rig::oracle::{Content, MIB, tree};
use rig::server::wait_until;
use rig::{folder, nginx};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use serde_json::{Value, json};

const SIZE: u64 = 24 * MIB + 5;

/// The lines of a trace, each as JSON.
fn lines(trace: &Path) -> Vec<Value> {
    let text = fs::read_to_string(trace).expect("the trace");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The values of one kind of line.
fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter_map(|line| line.get(kind)).collect()
}

/// `dray bench page FILE… -o page.html` in `around`.
fn drawn(around: &Path, files: &[&Path]) -> (Run, PathBuf) {
    let page = around.join("page.html");
    let mut args = vec![OsStr::new("bench"), OsStr::new("page"), OsStr::new("-o"), page.as_os_str()];
    args.extend(files.iter().map(|file| file.as_os_str()));
    (Dray::new(args).run(), page)
}

/// The page of `files`.
fn page_of(around: &Path, files: &[&Path]) -> (String, PathBuf) {
    let (run, page) = drawn(around, files);
    run.assert_code(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    (fs::read_to_string(&page).expect("the page"), page)
}

/// A file behind a slow server, pulled with a trace; the server ends with the call.
fn traced(around: &Path) -> PathBuf {
    let nginx = nginx();
    Content::new(5, SIZE).write_file(&nginx.root().join("weights"));
    let trace = around.join("run.trace");
    let run =
        Dray::pull(&nginx.slow("weights"), &around.join("dest")).args([OsStr::new("--trace"), trace.as_os_str()]).run();
    run.assert_sealed();
    trace
}

/// A report with figures that are easy to work out, and one row without any.
fn report() -> Value {
    let samples = |figures: &[(f64, f64, u64)]| -> Vec<Value> {
        let one = |(seconds, cpu, rss): &(f64, f64, u64)| json!({ "bytes": 1u64 << 30, "seconds": seconds, "synced_seconds": seconds + 0.5, "cpu_seconds": cpu, "rss_bytes_max": rss << 20 });
        figures.iter().map(one).collect()
    };
    let row = |name: &str, kind: &str, figures: &[(f64, f64, u64)]| json!({ "name": name, "kind": kind, "command": format!("{name} URL DEST"), "proof": "blake3", "durable": kind == "dray", "samples": samples(figures) });
    let mut missing = row("axel", "peer", &[]);
    missing["failed"] = json!("not on PATH");
    json!({
        "schema": "dray.bench/1",
        "machine": { "cpu": "A <b>CPU</b>", "cpus": 2, "memory_bytes": 1u64 << 34, "kernel": "6.18", "file_system": "ext4 on /dev/vda", "io": "uring", "load_average": 0.5 },
        "work": { "origin": "http://127.0.0.1/weights", "files": 1, "bytes": 1u64 << 30, "dest": "/tmp/x", "cache": "dropped" },
        "rounds": 3,
        "rows": [
            row("lane uring: receive", "floor", &[(0.5, 0.25, 0), (0.5, 0.25, 0), (0.5, 0.25, 0)]),
            row("lane uring: receive + hash", "floor", &[(0.5, 0.5, 0), (0.5, 0.5, 0), (0.5, 0.5, 0)]),
            row("lane uring: receive + hash + write", "floor", &[(0.5, 0.5475, 0), (0.5, 0.5475, 0), (0.5, 0.5475, 0)]),
            row("dray uring", "dray", &[(1.0, 0.75, 60), (0.5, 0.6875, 64), (0.8, 0.64, 62)]),
            row("curl", "peer", &[(2.0, 1.5, 19), (4.0, 1.25, 20), (2.5, 1.75, 21)]),
            missing,
        ],
    })
}

fn write_json(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec_pretty(value).expect("JSON")).expect("write");
}

#[test]
fn the_trace_of_a_pull_adds_up() {
    let around = folder();
    let lines = lines(&traced(around.path()));
    assert_eq!(lines[0]["schema"], "dray.trace/1");
    assert_eq!(lines[0]["dest"], around.path().join("dest").to_str().expect("UTF-8"));
    assert!(lines[0]["machine"]["cpus"].as_u64().is_some_and(|cpus| 0 < cpus), "{}", lines[0]);
    let ticks = of_kind(&lines, "tick");
    let at = |tick: &Value| tick["at"].as_f64().expect("a time");
    assert!(5 <= ticks.len() && ticks.is_sorted_by(|a, b| at(a) <= at(b)), "{ticks:?}");
    let last = ticks.last().expect("a tick");
    assert_eq!((&last["received"], &last["durable"], &last["phase"]), (&json!(SIZE), &json!(SIZE), &json!("sealed")));
    assert!(ticks.iter().any(|tick| 0 < tick["active"].as_u64().expect("a count")), "requests ran: {ticks:?}");
    let spans = of_kind(&lines, "span");
    assert_eq!(spans.iter().map(|span| span["bytes"].as_u64().expect("bytes")).sum::<u64>(), SIZE);
    for span in spans {
        // 2 MiB a second and connection.
        let (bytes, seconds) = (span["bytes"].as_u64().expect("bytes"), span["seconds"].as_f64().expect("seconds"));
        assert_eq!(span["end"], "done");
        assert!(seconds <= at(span) && (bytes <= 4 * MIB || 0.5 < seconds), "{span}");
    }
    let end = of_kind(&lines, "end")[0];
    assert_eq!(
        (&end["outcome"], &end["bytes_fetched"], &end["lines_lost"]),
        (&json!("sealed"), &json!(SIZE), &json!(0))
    );
    let threads = end["threads"].as_array().expect("threads");
    let time = |thread: &Value| thread["user"].as_f64().expect("user") + thread["system"].as_f64().expect("system");
    assert!(["control", "lane-0"].iter().all(|name| threads.iter().any(|thread| thread["name"] == *name)), "{end}");
    let (sum, whole) = (threads.iter().map(time).sum::<f64>(), end["cpu_seconds"].as_f64().expect("seconds"));
    // The kernel counts threads in hundredths of a second, and cuts off what is less; user and system time each.
    let cut_off = 0.02 * f64::from(u32::try_from(threads.len()).expect("few"));
    assert!((sum - whole).abs() <= cut_off + 0.1 + whole / 4.0, "threads {sum}, process {whole}");
    assert!(lines.last().expect("a line").get("end").is_some());
}

#[test]
fn pages_are_seen_whole_on_every_screen_and_ask_for_nothing() {
    let around = folder();
    let report_file = around.path().join("report.json");
    write_json(&report_file, &report());
    let (html, page) = page_of(around.path(), &[&report_file, &traced(around.path())]);
    assert!(!html.contains("<script") && !html.contains("src="), "nothing to load");
    let mut papers = Vec::new();
    for (width, scheme) in [(1200, Scheme::Light), (1200, Scheme::Dark), (400, Scheme::Light), (400, Scheme::Dark)] {
        let seen = browser::look(&page, width, scheme);
        assert_eq!((seen.console, seen.asked), (Vec::new(), Vec::new()), "{width} {scheme:?}");
        let measured = &seen.measured;
        assert_eq!(measured["title"], "dray: bench");
        assert_eq!(measured["overflow"], 0, "{width} {scheme:?}: wider than its window");
        let plots = measured["plots"].as_array().expect("plots");
        let names: Vec<&str> = plots.iter().map(|plot| plot["name"].as_str().expect("a name")).collect();
        assert_eq!(
            names,
            ["rate", "cpu-per-gib", "memory", "steps", "throughput", "concurrency", "latency", "busy", "cpu"]
        );
        for plot in plots {
            assert_eq!(plot["shown"], 1, "{width}: {plot}");
            let side = |name: &str| plot[name].as_f64().expect("pixels");
            assert!(0.75 * f64::from(width) < side("width") && 100.0 < side("height"), "{width}: {plot}");
        }
        for (words, least) in [("ink", 7.0), ("plot", 7.0), ("quiet", 4.5)] {
            let contrast = contrast(&measured[words], &measured["paper"]);
            assert!(least <= contrast, "{scheme:?}: {words} on paper has a contrast of {contrast}");
        }
        let picture = browser::paint(&page, width, scheme);
        assert_eq!(picture.width, width as usize);
        assert!(50 < picture.colours(), "{width} {scheme:?} is blank");
        papers.push(picture.pixel(2, picture.height - 2));
    }
    assert_eq!((papers[0], papers[1]), (papers[2], papers[3]));
    assert!(papers[0].iter().all(|light| 200 < *light) && papers[1].iter().all(|dark| *dark < 60), "{papers:?}");
}

/// The contrast of two colours as browsers write them: <https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio>.
fn contrast(one: &Value, other: &Value) -> f64 {
    let luminance = |colour: &Value| {
        let text = colour.as_str().expect("a colour").trim_start_matches("rgb(").trim_end_matches(')').to_owned();
        let parts: Vec<f64> = text.split(", ").map(|part| part.parse::<f64>().expect("a number") / 255.0).collect();
        let linear = |part: f64| if part <= 0.03928 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
        0.2126 * linear(parts[0]) + 0.7152 * linear(parts[1]) + 0.0722 * linear(parts[2])
    };
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn the_browser_of_these_tests_tells_of_scripts_and_requests() {
    let around = folder();
    let page = around.path().join("planted.html");
    fs::write(&page, "<img src=\"http://origin.invalid/x.png\"><script>console.error(\"planted\")</script>")
        .expect("write");
    let (console, asked) = browser::open(&page);
    assert!(console.iter().any(|line| line.contains("planted")), "{console:?}");
    assert!(asked.iter().any(|line| line.contains("origin.invalid/x.png")), "{asked:?}");
}

#[test]
fn a_killed_pull_leaves_a_trace_that_makes_a_page() {
    let around = folder();
    let nginx = nginx();
    Content::new(6, SIZE * 4).write_file(&nginx.root().join("weights"));
    let trace = around.path().join("run.trace");
    let run = Dray::pull(&nginx.slow("weights"), &around.path().join("dest")).env("DRAY_TRACE", &trace).spawn();
    let ticks = || fs::read_to_string(&trace).unwrap_or_default().matches("\"fetching\"").count();
    wait_until("some ticks are written", Duration::from_secs(60), || 4 <= ticks());
    run.signal(Signal::KILL);
    assert!(run.wait().killed());
    let whole = lines(&trace);
    assert!(of_kind(&whole, "end").is_empty());
    // A kill in the middle of a line.
    let mut text = fs::read(&trace).expect("the trace");
    text.extend_from_slice(b"{\"tick\":{\"at\":9.1,\"pha");
    fs::write(&trace, text).expect("write");
    let (html, _) = page_of(around.path(), &[&trace]);
    assert!(html.contains("without a last line: the run was killed there"), "{html}");
    for plot in ["throughput", "concurrency", "busy"] {
        assert!(html.contains(&format!("data-plot=\"{plot}\"")), "{plot}");
    }
}

#[test]
fn a_bench_report_shows_its_medians() {
    let around = folder();
    let report_file = around.path().join("report.json");
    write_json(&report_file, &report());
    let (html, _) = page_of(around.path(), &[&report_file]);
    for shown in [
        // 1 GiB in 1.0, 0.5 and 0.8 s; durable half a second later.
        ">1.25 (1.00–2.00)<",
        ">0.77 (0.67–1.00)<",
        ">0.69 (0.64–0.75)<",
        // 1 GiB in 2.0, 4.0 and 2.5 s.
        ">0.40 (0.25–0.50)<",
        ">1.50 (1.25–1.75)<",
        "dray ÷ peer is 3.12",
        "has 2.00 GiB/s: dray ÷ lane is 0.6",
        "peer ÷ dray is 2.18",
        "lie 80 % of the median apart: too noisy",
        "Without figures: axel.",
        ">failed: not on PATH<",
        "A &lt;b&gt;CPU&lt;/b&gt;",
        // What dray needs over the minimal lane: 0.6875 − 0.5475.
        ">the rest of dray</th><td class=\"n\">0.14<",
    ] {
        assert!(html.contains(shown), "{shown} in:\n{html}");
    }
}

/// A trace whose words are markup and whose numbers are no figures.
fn hostile() -> String {
    let evil = "</title><script>alert(1)</script><img src=x onerror=alert(2)>\"'\u{202e}\u{0}";
    let head = json!({ "schema": "dray.trace/1", "source": evil, "dest": evil, "began_unix": u64::MAX,
        "machine": { "cpu": evil, "kernel": "k".repeat(100_000), "load_average": -1e308 } });
    let mut lines = vec![head];
    for at in [0.0, -5.0, 1e308, 3.0, 1e300] {
        lines.push(json!({ "tick": { "at": at, "phase": evil, "received": u64::MAX, "durable": 7, "active": u64::MAX,
            "allowed": u64::MAX, "brake": evil, "held_bytes": u64::MAX, "retried": u64::MAX, "cpu_user": 1e308, "cpu_system": -1e308 } }));
    }
    for seconds in [0.0, -1.0, 1e308, 1e-300] {
        lines.push(json!({ "span": { "at": seconds, "seconds": seconds, "bytes": u64::MAX, "lane": u64::MAX, "end": "done" } }));
        lines.push(json!({ "span": { "end": evil } }));
    }
    lines.push(json!({ "tick": {}, "novelty": [1, 2] }));
    lines.push(json!({ "span": { "seconds": 1.0, "bytes": u64::MAX, "end": "done", "of": u64::MAX } }));
    let mut shares: serde_json::Map<String, Value> = (0..50_000).map(|of| (format!("b{of}"), json!(0.5))).collect();
    shares.extend([(evil.to_owned(), json!(1e308)), ("disk".to_owned(), json!(-1.0))]);
    lines.push(json!({ "end": { "outcome": evil, "error": evil, "seconds": 1e308, "bytes_fetched": u64::MAX, "cpu_seconds": -1.0,
        "shares": shares, "threads": [{ "name": evil, "user": 1e308, "system": 1e308 }] } }));
    lines.iter().map(|line| line.to_string() + "\n").collect()
}

#[test]
fn hostile_records_make_a_page_without_scripts() {
    let around = folder();
    let (trace, report_file) = (around.path().join("hostile.trace"), around.path().join("hostile.json"));
    fs::write(&trace, hostile()).expect("write");
    let mut hostile_report = report();
    let evil = "<svg onload=alert(3)>&\"'</svg>";
    hostile_report["work"]["origin"] = json!(evil);
    hostile_report["rows"][3]["name"] = json!(evil.repeat(50));
    hostile_report["rows"][4]["samples"][0] = json!({ "bytes": u64::MAX, "seconds": 1e-300, "synced_seconds": 0.0, "cpu_seconds": -1e308, "rss_bytes_max": u64::MAX });
    write_json(&report_file, &hostile_report);
    let (html, page) = page_of(around.path(), &[&trace, &report_file]);
    assert!(html.len() < 1 << 20, "{} bytes", html.len());
    let seen = browser::look(&page, 400, Scheme::Light);
    assert_eq!((seen.console, seen.asked), (Vec::new(), Vec::new()));
    assert_eq!((&seen.measured["scripts"], &seen.measured["overflow"]), (&json!(0), &json!(0)), "{}", seen.measured);
    for markup in ["<script", "<img", "onload=alert(3)>&\"", "NaN", "inf"] {
        assert!(!html.contains(markup), "{markup}");
    }
}

#[test]
fn what_is_no_record_exits_2_and_is_named() {
    let around = folder();
    let place = |name: &str| around.path().join(name);
    let head = "{\"schema\":\"dray.trace/1\"}\n";
    for (name, text, why) in [
        ("empty", String::new(), "neither"),
        ("other", "{\"schema\":\"dray.report/1\"}\n".to_owned(), "neither"),
        ("words", "hello\n".to_owned(), "neither"),
        ("broken", format!("{head}{{\"tick\":\n{{}}\n"), "line 2"),
        ("negative", format!("{head}{{\"tick\":{{\"received\":-1}}}}\n"), "line 2"),
        ("rows", "{\"schema\":\"dray.bench/1\",\"rows\":7}".to_owned(), "rows"),
    ] {
        fs::write(place(name), text).expect("write");
        let (run, _) = drawn(around.path(), &[&place(name)]);
        let line = run.assert_fails(2);
        assert!(line.contains(name) && line.contains(why), "{name}: {line}");
    }
    let huge = place("huge");
    File::create(&huge).expect("create").set_len((64 << 20) + 1).expect("a length");
    assert!(drawn(around.path(), &[&huge]).0.assert_fails(2).contains("longer than"));
    drawn(around.path(), &[&place("absent")]).0.assert_fails(2);
    drawn(around.path(), &[]).0.assert_fails(2);
}

#[test]
fn a_trace_that_cannot_be_written_exits_2_before_anything_moves() {
    let nginx = nginx();
    Content::new(7, MIB).write_file(&nginx.root().join("weights"));
    let around = folder();
    let dest = around.path().join("dest");
    fs::create_dir_all(dest.join(".dray")).expect("create");
    symlink(dest.join(".dray"), around.path().join("link")).expect("link");
    symlink(dest.join(".dray/absent"), around.path().join("dangling")).expect("link");
    fs::write(dest.join(".dray/held"), "as it was").expect("write");
    symlink(dest.join(".dray/held"), around.path().join("held")).expect("link");
    let fresh = around.path().join("fresh");
    fs::create_dir(&fresh).expect("create");
    make_pipe(&around.path().join("pipe"));
    for (trace, why) in [
        (around.path().join("nowhere/trace"), "No such file"),
        (around.path().to_owned(), "directory"),
        (dest.join(".dray/trace"), "dray's own"),
        (around.path().join("link/trace"), "dray's own"),
        (around.path().join("dangling"), "File exists"),
        (around.path().join("held"), "dray's own"),
        (fresh.join(".dray"), "dray's own"),
        (around.path().join("pipe"), "No such device"),
        (PathBuf::from("/dev/full"), "No space"),
    ] {
        let run = Dray::pull(&nginx.http("weights"), &dest).args([OsStr::new("--trace"), trace.as_os_str()]).run();
        let line = run.assert_fails(2);
        assert!(line.contains("--trace") && line.contains(why), "{}: {line}", trace.display());
        assert_eq!(tree(&dest).len(), 0, "{}", trace.display());
        let state: Vec<_> =
            fs::read_dir(dest.join(".dray")).expect("read").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(state, ["held"], "{}", trace.display());
    }
    assert_eq!(fs::read_to_string(dest.join(".dray/held")).expect("read"), "as it was");
    assert!(!fresh.join(".dray").exists());
    assert!(nginx.requests("weights").is_empty(), "nobody was asked");
}

fn make_pipe(place: &Path) {
    assert!(Command::new("mkfifo").arg(place).status().expect("run mkfifo").success());
}

#[test]
fn a_trace_whose_reader_leaves_costs_a_note_and_not_the_run() {
    let nginx = nginx();
    Content::new(8, SIZE).write_file(&nginx.root().join("weights"));
    let around = folder();
    let pipe = around.path().join("pipe");
    make_pipe(&pipe);
    let reader = rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let mut reader = File::from(reader.expect("open the pipe"));
    let run = Dray::pull(&nginx.slow("weights"), &around.path().join("dest")).env("DRAY_TRACE", &pipe).spawn();
    let mut block = [0; 64];
    wait_until("the first line comes", Duration::from_secs(60), || reader.read(&mut block).is_ok_and(|got| 0 < got));
    drop(reader);
    let run = run.wait();
    run.assert_sealed();
    assert_eq!(run.stderr.matches("the trace could not be written further").count(), 1, "{}", run.stderr);
}

#[test]
fn pairs_leave_a_trace_each_and_a_refused_pull_its_reason() {
    let nginx = nginx();
    Content::new(9, MIB).write_file(&nginx.root().join("weights"));
    let around = folder();
    let dest = |name: &str| around.path().join(name).to_str().expect("UTF-8").to_owned();
    let (one, two) = (nginx.http("weights"), nginx.http("absent"));
    let run = Dray::new([&one, &dest("a"), &two, &dest("b")]).env("DRAY_TRACE", around.path().join("trace")).run();
    run.assert_fails(3);
    for (name, outcome) in [("trace", "sealed"), ("trace.2", "not_found")] {
        let lines = lines(&around.path().join(name));
        assert_eq!(of_kind(&lines, "end")[0]["outcome"], outcome, "{name}");
    }
}

#[test]
fn a_later_pair_counts_its_own_processor_time() {
    let nginx = nginx();
    Content::new(10, 256 * MIB).write_file(&nginx.root().join("large"));
    Content::new(11, MIB).write_file(&nginx.root().join("small"));
    let around = folder();
    let dest = |name: &str| around.path().join(name).to_str().expect("UTF-8").to_owned();
    let words = [nginx.http("large"), dest("a"), nginx.http("small"), dest("b")];
    Dray::new(words).env("DRAY_TRACE", around.path().join("trace")).run().assert_code(0);
    let [large, small] = ["trace", "trace.2"].map(|name| {
        let lines = lines(&around.path().join(name));
        let end = of_kind(&lines, "end")[0];
        let threads = end["threads"].as_array().expect("threads").iter();
        let both = |thread: &Value| thread["user"].as_f64().expect("user") + thread["system"].as_f64().expect("system");
        let last = of_kind(&lines, "tick").last().map(|tick| tick["cpu_user"].as_f64().expect("user"));
        (end["cpu_seconds"].as_f64().expect("seconds"), threads.map(both).sum::<f64>(), last.expect("a tick"))
    });
    // 256 times the bytes: half leaves room for what a run of any size takes.
    let seen = format!("{large:?} {small:?}");
    assert!(small.0 < large.0 / 2.0 && small.1 < large.1 / 2.0 && small.2 < large.2 / 2.0, "{seen}");
}

#[test]
fn a_request_that_failed_is_told_by_its_class() {
    let script = Script::calm().rule(Rule::new(Fault::Status500).covering(17 * MIB).first(1));
    let origin = FaultOrigin::start(vec![("/weights".to_owned(), Made::generated(1, SIZE))], script).expect("origin");
    let around = folder();
    let trace = around.path().join("run.trace");
    Dray::pull(&origin.url("/weights"), &around.path().join("dest")).env("DRAY_TRACE", &trace).run().assert_sealed();
    let lines = lines(&trace);
    let spans = of_kind(&lines, "span");
    let ended = |word: &str| spans.iter().filter(|span| span["end"] == word).count();
    assert_eq!((ended("unavailable"), ended("done") + 1), (1, spans.len()), "{spans:?}");
    assert!(spans.iter().all(|span| span["of"] == 1), "{spans:?}");
    let end = of_kind(&lines, "end")[0];
    let last = *of_kind(&lines, "tick").last().expect("a tick");
    assert_eq!((&end["outcome"], &end["retried"]), (&json!("sealed"), &last["retried"]));
    let retried = end["retried"].as_u64().expect("a count");
    assert!(0 < retried, "{end}");
    let (html, _) = page_of(around.path(), &[&trace]);
    for shown in [&*format!("{retried} requests repeated a failed one."), "unavailable</th><td class=\"n\">1<"] {
        assert!(html.contains(shown), "{shown} in:\n{html}");
    }
}

#[test]
fn a_stopped_pull_says_so_in_its_last_line_and_outlives_the_next() {
    let around = folder();
    let nginx = nginx();
    Content::new(12, SIZE).write_file(&nginx.root().join("weights"));
    let (trace, old) = (around.path().join("run.trace"), around.path().join("run.trace.old"));
    let pull = || Dray::pull(&nginx.slow("weights"), &around.path().join("dest")).env("DRAY_TRACE", &trace);
    let run = pull().spawn();
    let under_way = || {
        let text = fs::read_to_string(&trace).unwrap_or_default();
        text.contains("\"fetching\"")
            && text.lines().any(|line| line.contains("\"tick\"") && !line.contains("\"received\":0,"))
    };
    wait_until("bytes come", Duration::from_secs(60), under_way);
    run.signal(Signal::TERM);
    run.wait().assert_fails(143);
    let stopped = lines(&trace);
    let spans = of_kind(&stopped, "span");
    assert!(spans.iter().any(|span| span["end"] == "stopped"), "{spans:?}");
    let end = &stopped.last().expect("a line")["end"];
    assert_eq!(end["outcome"], "interrupted", "{end}");
    assert!(!old.exists());
    pull().run().assert_sealed();
    assert_eq!(lines(&old), stopped);
    assert_eq!(lines(&trace).last().expect("a line")["end"]["outcome"], "sealed");
    // What sealed is not kept: the one that was stopped is.
    pull().run().assert_sealed();
    assert_eq!(lines(&old), stopped);
}

#[test]
fn a_page_is_not_written_over_what_it_is_drawn_from() {
    let around = folder();
    let report_file = around.path().join("page.html");
    write_json(&report_file, &report());
    let before = fs::read(&report_file).expect("read");
    symlink(&report_file, around.path().join("link")).expect("link");
    for input in ["page.html", "link"] {
        let line = drawn(around.path(), &[&around.path().join(input)]).0.assert_fails(2).to_owned();
        assert!(line.contains("--output") && line.contains("drawn from"), "{line}");
        assert_eq!(fs::read(&report_file).expect("read"), before);
    }
    let other = around.path().join("other.json");
    fs::rename(&report_file, &other).expect("rename");
    for (page, code) in [("nowhere/page.html", 2), (".", 2), ("page.html", 0)] {
        let page = around.path().join(page);
        let args = [OsStr::new("bench"), OsStr::new("page"), other.as_os_str(), OsStr::new("-o"), page.as_os_str()];
        Dray::new(args).run().assert_code(code);
    }
    assert_eq!(tree(around.path()), ["link", "other.json", "page.html"].map(str::to_owned).into());
}
