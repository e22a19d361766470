//! `dray bench pull`, `all` and `serve` from outside: rows, pages, broken peers, signals, the line's delays and faults.
//!
//! Files are small and nothing is asserted about speed: times have lower bounds alone.

mod rig;
#[path = "bench/servers.rs"]
mod servers;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rig::dray::{Dray, Run, Running};
use rig::oracle::{Content, MIB};
use rig::server::wait_until;
use rig::{folder, nginx};
use rustix::process::Signal;
use serde_json::Value;

const READY_MAX: Duration = Duration::from_secs(60);

/// A bench of small files on the arena, its report on stdout.
fn bench(dest: &Path, flags: &[&str]) -> Dray {
    let words = ["bench", "pull", "--json", "-", "--size", "3MiB", "--io", "threads"];
    let rounds = if flags.contains(&"--rounds") { "5" } else { "1" };
    Dray::new(words.iter().chain(flags)).args([dest]).env("DRAY_STALL_TIMEOUT", "1s").env("DRAY_ROUNDS", rounds)
}

fn report(run: &Run) -> Value {
    run.assert_code(0);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name} in {report:#}"))
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// A program of this name that does `script`.
fn plant(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("make it run");
}

#[test]
fn every_protocol_of_the_arena_gives_rows_of_the_same_bytes() {
    let dest = folder();
    let flags = ["--serve", "http,https,s3", "--files", "2", "--peers", "curl,curl-parallel", "--rounds", "2"];
    let run = bench(dest.path(), &flags).run();
    let report = report(&run);
    assert_eq!(report["schema"], "dray.bench/1");
    assert_eq!(
        (&report["rounds"], &report["work"]["files"], &report["work"]["bytes"]),
        (&2.into(), &2.into(), &(6 * MIB).into())
    );
    let names = ["dray threads http", "curl http", "curl-parallel http", "dray threads https", "curl https"];
    for name in names.iter().chain(&["curl-parallel https", "dray threads s3"]) {
        let row = row(&report, name);
        assert_eq!(row["failed"], Value::Null, "{row:#}");
        let samples = row["samples"].as_array().expect("samples");
        assert_eq!(samples.len(), 2, "{row:#}");
        for sample in samples {
            let number = |name: &str| sample[name].as_f64().expect("a number");
            assert_eq!(sample["bytes"], 6 * MIB);
            assert!(0.0 < number("seconds") && number("seconds") <= number("synced_seconds"), "{sample}");
            assert!(0.0 < number("cpu_seconds"), "{sample}");
            // So short a run as curl's may end before the first look at its memory.
            assert!(0.0 < number("rss_bytes_max") || !name.starts_with("dray"), "{sample}");
        }
        assert_eq!(row["durable"], name.starts_with("dray"));
        // The table is for people, who see it although stdout is taken.
        assert!(run.stderr.contains(&format!("\n{name} ")), "{}", run.stderr);
    }
    assert_eq!(row(&report, "dray threads http")["proof"], "blake3");
    assert_eq!(row(&report, "dray threads s3")["proof"], "blake3 + crc64nvme");
    assert_eq!(row(&report, "curl http")["proof"], "size");
    assert!(!run.stdout.contains("ARENA"), "no keys in the report");
    assert_eq!(entries(dest.path()), 0);
}

#[test]
fn peers_that_are_not_installed_are_named_where_nobody_asked_for_one() {
    let (dest, programs) = (folder(), folder());
    let flags = ["--serve", "http,s3", "--files", "2"];
    let run = bench(dest.path(), &flags).env("DRAY_BENCH_PATH", programs.path()).run();
    let report = report(&run);
    let line = run.stderr.lines().find(|line| line.starts_with("left out: ")).expect("a line");
    for name in ["pget", "s5cmd", "kserve_storage"] {
        assert_eq!(line.matches(&format!("{name} is not installed")).count(), 1, "{line}");
        assert!(!run.stdout.contains(name), "{report:#}");
    }
    assert!(!line.contains("curl is not"), "{line}");
    row(&report, "curl http");
}

#[test]
fn a_broken_peer_is_a_row_that_says_how() {
    let zeros = |bytes: u64| {
        format!("while [ $# -gt 0 ]; do if [ \"$1\" = -o ]; then head -c {bytes} /dev/zero >\"$2\"; fi; shift; done")
    };
    for (script, timeout, why) in [
        (zeros(3 * MIB), "60s", "shard-00001-of-00001.bin has other bytes than its source"),
        (zeros(MIB), "60s", "shard-00001-of-00001.bin has 1048576 bytes of 3145728"),
        ("true".to_owned(), "60s", "shard-00001-of-00001.bin is missing"),
        ("echo first >&2; echo the cause >&2; exit 3".to_owned(), "60s", "exit status: 3: the cause"),
        (
            "while [ $# -gt 1 ]; do shift; done; echo \"no $1?X-Amz-Signature=word\" >&2; exit 3".to_owned(),
            "60s",
            "exit status: 3: no URL?…",
        ),
        ("kill -9 $$".to_owned(), "60s", "signal: 9 (SIGKILL): "),
        ("sleep 1000".to_owned(), "15s", "not done after 15 s"),
    ] {
        let (dest, programs) = (folder(), folder());
        plant(programs.path(), "curl", &script);
        let flags = ["--serve", "http", "--peers", "curl,pget", "--rounds", "2", "--run-timeout", timeout];
        let run = bench(dest.path(), &flags).env("DRAY_BENCH_PATH", programs.path()).run();
        let report = report(&run);
        let url = report["rows"][0]["command"].as_str().and_then(|line| line.split(' ').nth(2)).expect("its URL");
        let why = why.replace("URL", url);
        assert_eq!(row(&report, "curl http")["failed"], why);
        assert!(!run.stdout.contains("X-Amz-Signature") && !run.stderr.contains("X-Amz-Signature"));
        assert_eq!(row(&report, "curl http")["samples"], Value::Array(Vec::new()));
        assert_eq!(row(&report, "pget http")["failed"], "pget is not installed");
        assert_eq!(row(&report, "dray threads http")["samples"].as_array().map(Vec::len), Some(2));
        assert!(run.stderr.contains(&format!("curl http: failed: {why}")), "{}", run.stderr);
        assert_eq!(entries(dest.path()), 0);
    }
}

#[test]
fn a_signal_leaves_no_child_and_no_folder() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (around, programs) = (folder(), folder());
        let pids = programs.path().join("pids");
        let script = format!("sleep 1000 & echo $! $$ >{0}.new && mv {0}.new {0}; sleep 1000", pids.display());
        plant(programs.path(), "curl", &script);
        let dest = around.path().join("new");
        let flags = ["--serve", "http", "--peers", "curl"];
        let running = bench(&dest, &flags).env("DRAY_BENCH_PATH", programs.path()).spawn();
        wait_until("the peer runs", READY_MAX, || pids.exists());
        assert_eq!(entries(&dest), 1, "a folder of its own");
        running.signal(signal);
        running.wait().assert_fails(code);
        let pids = fs::read_to_string(pids).expect("pids");
        for pid in pids.split_whitespace() {
            // Killed; a zombie until its new parent has seen it.
            let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            wait_until("it is gone", READY_MAX, || !state().contains("(sleep) S") && !state().contains("(curl) S"));
        }
        assert!(!dest.exists(), "what the bench made goes with it");
    }
}

#[test]
fn work_of_a_peer_is_counted_over_its_processes() {
    let (dest, programs) = (folder(), folder());
    let burn = "head -c 90000000 /dev/zero | tail -c 90000000 >/dev/null
        sh -c 'i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done'
        exec /usr/bin/curl \"$@\"";
    plant(programs.path(), "curl", burn);
    let flags = ["--serve", "http", "--peers", "curl"];
    let report = report(&bench(dest.path(), &flags).env("DRAY_BENCH_PATH", programs.path()).run());
    let row = row(&report, "curl http");
    assert_eq!(row["failed"], Value::Null, "{row:#}");
    let sample = &row["samples"][0];
    assert!(0.05 <= sample["cpu_seconds"].as_f64().expect("a number"), "{sample}");
    assert!(80 * MIB <= sample["rss_bytes_max"].as_u64().expect("a number"), "{sample}");
}

#[test]
fn an_origin_of_somebody_elses_is_measured_by_what_the_first_one_brought() {
    let nginx = nginx();
    Content::new(1, 5 * MIB + 1).write_file(&nginx.root().join("weights"));
    let (dest, programs) = (folder(), folder());
    plant(programs.path(), "wget", "head -c 5242881 /dev/zero >\"$4/weights\"");
    let url = nginx.http("weights");
    let words = ["bench", "pull", "--json", "-", "--rounds", "1", "--io", "threads", "--peers", "curl,wget", &url];
    let report = report(&Dray::new(words).args([dest.path()]).env("DRAY_BENCH_PATH", programs.path()).run());
    assert_eq!((&report["work"]["origin"], &report["work"]["bytes"]), (&url.clone().into(), &(5 * MIB + 1).into()));
    assert_eq!(row(&report, "curl http")["failed"], Value::Null);
    assert_eq!(row(&report, "wget http")["failed"], "weights has other bytes than its source");
    let words = ["bench", "pull", &nginx.http("absent")];
    Dray::new(words).args([dest.path()]).run().assert_fails(3);
}

#[test]
fn what_is_wrong_is_said_before_anything_is_measured() {
    let dest = folder();
    fs::write(dest.path().join("model.bin"), "somebody's").expect("write a file");
    let line = bench(dest.path(), &[]).run().assert_fails(2).to_owned();
    assert!(line.contains("not empty"), "{line}");
    assert_eq!(fs::read_to_string(dest.path().join("model.bin")).expect("the file"), "somebody's");
    for command in ["pull", "all"] {
        let line = Dray::new(["bench", command]).run().assert_fails(2).to_owned();
        assert!(line.contains("DEST is missing") && !line.contains("<URI>"), "{line}");
        // A list of URLs and no DEST: the last of them is none.
        let line = Dray::new(["bench", command, "http://h/a", "http://h/b"]).run().assert_fails(2).to_owned();
        assert!(line.contains("DEST is missing"), "{line}");
        let help = Dray::new(["bench", command, "--help"]).run();
        help.assert_code(0);
        assert!(help.stdout.contains("[OPTIONS] [URI]... DEST\n") && !help.stdout.contains("<URI>"), "{}", help.stdout);
    }
    for (flags, word) in [
        (&["--peers", "curl,browser"][..], "browser"),
        (&["--rounds", "0"], "rounds"),
        (&["--faults=-1"], "faults"),
        (&["--per-connection", "0"], "per-connection"),
        (&["--html", "/nowhere/at/all.html"], "--html"),
        (&["--serve", "ftp"], "ftp"),
        (&["--json", "/nowhere/at/all.json"], "--json"),
    ] {
        let dest = folder();
        let line = bench(dest.path(), &[]).args(flags).run().assert_fails(2).to_owned();
        assert!(line.contains(word), "{line}");
        assert_eq!(entries(dest.path()), 0);
    }
}

#[test]
fn pulls_through_the_mix_of_faults_end_sealed() {
    let dest = folder();
    let flags = ["--serve", "http,s3", "--files", "6", "--peers", "none", "--faults=20"];
    let run = bench(dest.path(), &flags).run();
    let report = report(&run);
    for name in ["dray threads http", "dray threads s3"] {
        assert_eq!(row(&report, name)["failed"], Value::Null, "{report:#}");
    }
    let line = run.stderr.lines().find(|line| line.starts_with("the arena was asked")).expect("what was met");
    let met: u64 = line.split([' ', ':', ',']).filter_map(|word| word.parse::<u64>().ok()).skip(1).sum();
    assert!(0 < met, "{line}");
}

#[test]
fn several_urls_of_somebody_elses_are_files_that_everybody_brings() {
    let nginx = nginx();
    for (folder, number) in [("a", 1), ("b", 2)] {
        fs::create_dir(nginx.root().join(folder)).expect("make a folder");
        Content::new(number, 2 * MIB + number).write_file(&nginx.root().join(folder).join(format!("weights-{number}")));
        Content::new(number, MIB).write_file(&nginx.root().join(folder).join("same"));
    }
    let (dest, programs) = (folder(), folder());
    let zeros = |number: u64| format!("head -c {} /dev/zero >\"$4/weights-{number}\"", 2 * MIB + number);
    plant(programs.path(), "wget", &[zeros(1), zeros(2)].join("; "));
    for scheme in ["http", "https"] {
        let url = |path: &str| if scheme == "http" { nginx.http(path) } else { nginx.https(path) };
        let [first, second] = ["a/weights-1?X-Amz-Signature=word", "b/weights-2"].map(url);
        let words = ["bench", "pull", "--json", "-", "--rounds", "1", "--io", "threads"];
        let peers = ["--peers", "curl,curl-parallel,wget"];
        let dray =
            Dray::new(words).args(peers).args([&first, &second]).args([dest.path()]).env("SSL_CERT_FILE", nginx.ca());
        let run = dray.env("DRAY_BENCH_PATH", programs.path()).run();
        let report = report(&run);
        let work = &report["work"];
        assert_eq!((&work["files"], &work["bytes"]), (&2.into(), &(4 * MIB + 3).into()));
        assert!(work["origin"].as_str().is_some_and(|it| it.ends_with("/a/weights-1 and 1 more")), "{work}");
        assert!(!run.stdout.contains("Signature") && !run.stderr.contains("Signature"), "{}", run.stderr);
        for name in ["dray threads", "curl", "curl-parallel"] {
            assert_eq!(row(&report, &format!("{name} {scheme}"))["failed"], Value::Null, "{report:#}");
        }
        let why = "weights-1 has other bytes than its source";
        assert_eq!(row(&report, &format!("wget {scheme}"))["failed"], why);
    }
    for (uris, word) in [
        ([nginx.http("a/same"), nginx.http("b/same")], "two files are named same"),
        ([nginx.http("a/same"), nginx.https("b/weights-2")], "files by https"),
        (["s3://b/m".to_owned(), "s3://b/n".to_owned()], "any other source stands alone"),
    ] {
        let line = Dray::new(["bench", "pull"]).args(&uris).args([dest.path()]).run().assert_fails(2).to_owned();
        assert!(line.contains(word), "{line}");
    }
    let gone = [nginx.http("a/same"), nginx.http("b/absent")];
    Dray::new(["bench", "pull"]).args(&gone).args([dest.path()]).run().assert_fails(3);
    assert_eq!(entries(dest.path()), 0);
}

/// The arena alone.
struct Serving {
    running: Running,
    told: String,
}

fn serve(flags: &[&str]) -> Serving {
    let running = Dray::new(["bench", "serve", "--size", "2MiB"].iter().chain(flags)).spawn();
    wait_until("it serves", READY_MAX, || running.stderr_so_far().contains("serving"));
    let told = running.stdout_so_far();
    Serving { running, told }
}

impl Serving {
    fn value(&self, name: &str) -> String {
        let line = self.told.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
        line.unwrap_or_else(|| panic!("{name} in {}", self.told)).to_owned()
    }

    fn url(&self, scheme: &str) -> String {
        let line = self.told.lines().find_map(|line| line.strip_prefix("# ").filter(|url| url.starts_with(scheme)));
        line.unwrap_or_else(|| panic!("{scheme} in {}", self.told)).to_owned()
    }

    fn end(self) {
        self.running.signal(Signal::INT);
        self.running.wait().assert_code(0);
    }
}

#[test]
fn delay_and_pace_are_seen_by_a_plain_client() {
    let serving = serve(&["--serve", "http", "--rtt", "150ms", "--per-connection", "4MiB"]);
    let url = serving.url("http://");
    let (host, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).expect("a URL");
    let began = Instant::now();
    let mut stream = TcpStream::connect(host).expect("connect");
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("ask");
    let mut first = [0];
    stream.read_exact(&mut first).expect("a reply");
    let waited = began.elapsed();
    assert!(Duration::from_millis(300) <= waited, "a connection and a reply: {waited:?}");
    let read = stream.read_to_end(&mut Vec::new()).expect("the rest");
    assert!(2 * 1024 * 1024 < read);
    // And 2 MiB at 4 MiB/s, but for a step and the slack.
    let took = began.elapsed();
    assert!(Duration::from_millis(700) <= took, "{took:?}");
    serving.end();
}

#[test]
fn what_serve_prints_is_what_clients_need() {
    let serving = serve(&["--serve", "https,s3", "--files", "2"]);
    let dest = folder();
    let pull = |uri: &str, dest: PathBuf| Dray::pull(uri, &dest);
    let run = pull(&serving.url("https://"), dest.path().join("https"))
        .env("SSL_CERT_FILE", serving.value("SSL_CERT_FILE"))
        .run();
    run.assert_sealed();
    let mut s3 = pull(&serving.url("s3://"), dest.path().join("s3"));
    for name in ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"] {
        s3 = s3.env(name, serving.value(name));
    }
    s3.run().assert_sealed();
    let name = "shard-00001-of-00002.bin";
    let bytes = |folder: &str| fs::read(dest.path().join(folder).join(name)).expect("a file");
    assert_eq!(blake3::hash(&bytes("https")), blake3::hash(&bytes("s3")));
    // Nobody else is trusted.
    pull(&serving.url("https://"), dest.path().join("untrusted")).run().assert_fails(7);
    serving.end();
}

#[test]
fn all_runs_floors_in_turn_with_the_rest() {
    let (dest, around) = (folder(), folder());
    let words = ["bench", "all", "--json", "-", "--serve", "http,s3", "--peers", "none"];
    let page = around.path().join("page.html");
    let mut dray = Dray::new(words).args([dest.path()]);
    // Flags of the bench by their variables: its children are given what is meant for them.
    for (name, value) in [
        ("DRAY_IO", "threads,buffered"),
        ("DRAY_SIZE", "8MiB"),
        ("DRAY_ROUNDS", "1"),
        ("DRAY_CONNECTIONS", "4"),
        ("DRAY_MEMORY", "64MiB"),
        ("DRAY_CACHE", "warm"),
        ("DRAY_TOUCH", "9MiB"),
        ("DRAY_STEPS", "true"),
        ("DRAY_NO_HASH", "true"),
    ] {
        dray = dray.env(name, value);
    }
    // That one shortens the floors, as docs/bench.md has it.
    let run = dray.env("DRAY_SECONDS", "10ms").env("DRAY_HTML", &page).run();
    let report = report(&run);
    assert_eq!(report["work"]["cache"], "warm, 9.00 MiB touched before each run");
    let rows = report["rows"].as_array().expect("rows");
    let floors: Vec<&str> =
        rows.iter().filter_map(|row| row["name"].as_str()).filter(|name| !name.starts_with("dray")).collect();
    for kind in ["hash", "disk", "origin", "lane"] {
        assert!(floors.iter().any(|name| name.split(' ').next() == Some(kind)), "{kind} in {floors:?}");
    }
    assert!(rows.iter().all(|row| row["failed"].is_null()), "{report:#}");
    for origin in ["http", "s3"] {
        for name in ["dray threads", "dray buffered", "origin"] {
            let of = |row: &&Value| row["name"].as_str().is_some_and(|it| it.starts_with(name) && it.ends_with(origin));
            let row = rows.iter().find(of).unwrap_or_else(|| panic!("{name} of {origin} in {floors:?}"));
            assert_eq!(row["origin"], origin);
        }
        let line = run.stderr.lines().find(|line| line.contains("the nearest floor by rate") && line.contains(origin));
        let other = if origin == "s3" { " http`" } else { " s3`" };
        assert!(line.is_some_and(|line| !line.contains(other)), "{}", run.stderr);
    }
    let lane = floors.iter().filter(|name| name.starts_with("lane")).collect::<Vec<_>>();
    assert!(lane.len() == 4 && lane.iter().all(|name| name.contains("receive + hash + write")), "{lane:?}");
    let html = fs::read_to_string(&page).expect("a page");
    for plot in ["rate", "cpu-per-gib", "memory", "steps"] {
        assert!(html.contains(&format!("data-plot=\"{plot}\"")), "{plot}");
    }
    assert_eq!(entries(dest.path()), 0);
}

#[test]
fn a_page_has_plots_of_the_report_and_of_a_run() {
    let (dest, around) = (folder(), folder());
    let page = around.path().join("page.html");
    fs::write(&page, "yesterday's").expect("a page");
    let run = bench(dest.path(), &["--serve", "http", "--peers", "curl"]).env("DRAY_HTML", &page).run();
    report(&run);
    let html = fs::read_to_string(&page).expect("a page");
    for plot in ["rate", "cpu-per-gib", "memory", "throughput"] {
        assert!(html.contains(&format!("data-plot=\"{plot}\"")), "{plot}");
    }
    assert_eq!(fs::metadata(&page).expect("a page").permissions().mode() & 0o600, 0o600);
    assert_eq!((entries(dest.path()), entries(around.path())), (0, 1));
}

#[test]
fn pages_and_figures_of_before_stay_until_there_are_new_ones() {
    let (dest, around, programs) = (folder(), folder(), folder());
    let files = ["page.html", "report.json"].map(|name| around.path().join(name));
    for file in &files {
        fs::write(file, "yesterday's").expect("a file");
    }
    let begun = programs.path().join("begun");
    plant(programs.path(), "curl", &format!("touch {}; sleep 1000", begun.display()));
    let words = ["bench", "pull", "--size", "3MiB", "--io", "threads", "--rounds", "1", "--serve", "http"];
    let bench = |peers: &str| {
        let dray = Dray::new(words).args(["--peers", peers, "--html"]).args([&files[0]]);
        dray.args(["--json"]).args([&files[1]]).args([dest.path()]).env("DRAY_BENCH_PATH", programs.path())
    };
    let running = bench("curl").spawn();
    wait_until("the peer runs", READY_MAX, || begun.exists());
    running.signal(Signal::TERM);
    running.wait().assert_fails(143);
    for file in &files {
        assert_eq!(fs::read_to_string(file).expect("the file"), "yesterday's");
    }
    assert_eq!(entries(around.path()), 2, "no draft is left");
    // A table that nobody takes costs neither of them.
    let shell = "exec \"$@\" >/dev/full";
    let dray = env!("CARGO_BIN_EXE_dray");
    let run = Dray::program("/bin/sh", ["-c", shell, "sh", dray])
        .args(words)
        .args(["--peers", "none", "--html"])
        .args([&files[0]])
        .args(["--json"])
        .args([&files[1]])
        .args([dest.path()])
        .run();
    run.assert_fails(10);
    assert!(fs::read_to_string(&files[0]).expect("a page").contains("data-plot=\"rate\""));
    assert!(fs::read_to_string(&files[1]).expect("a report").contains("dray.bench/1"));
    // What is no file is written to, and stays what it is.
    let null = Dray::new(words).args(["--peers", "none", "--html", "/dev/null"]).args([dest.path()]).run();
    null.assert_code(0);
    assert!(!fs::metadata("/dev/null").expect("a device").is_file());
}
