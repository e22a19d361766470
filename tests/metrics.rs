//! `--metrics` from outside: what a probe and Prometheus see of a pull, of pairs, of one that stalls or waits.
//!
//! The page is read by a strict parser of its own; the report, which a FIFO holds back, is the second opinion.

mod rig;

#[path = "metrics/page.rs"]
mod page;
#[path = "metrics/probe.rs"]
mod probe;

use std::fs;
use std::path::Path;
use std::time::Duration;

use dray_arena::{Content as Generated, Fault, FaultOrigin, On, Rule, Script};
use page::Page;
use probe::{Fifo, Probe, ask};
use rig::dray::Dray;
use rig::nginx::{Nginx, Options};
use rig::oracle::{Content, Expected, MIB, flip_bit};
use rig::server::wait_until;
use rig::{folder, nginx};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(30);

/// A pull with metrics.
fn watched(source: &str, dest: &Path) -> Dray {
    Dray::new(["pull", source, dest.to_str().expect("UTF-8"), "--metrics", "127.0.0.1:0"])
}

/// A pull whose report goes to `fifo`, where it waits until somebody reads.
fn pull(source: &str, dest: &Path, fifo: &Fifo) -> Dray {
    watched(source, dest).env("DRAY_REPORT", fifo.path())
}

/// An origin that answers HEAD, and nothing else until its script changes.
fn silent() -> FaultOrigin {
    let script = Script::calm().rule(Rule::new(Fault::StallNoHeaders).on(On::Get));
    FaultOrigin::start(vec![("/m/weights".to_owned(), Generated::generated(1, 3 * MIB))], script).expect("origin")
}

#[test]
fn a_pull_is_seen_from_its_first_byte_to_its_report() {
    let nginx = Nginx::start(&Options { limit_rate: "3m", upstream: None });
    let content = Content::new(1, 20 * MIB + 3);
    content.write_file(&nginx.root().join("weights"));
    let (dest, fifo) = (folder(), Fifo::new());
    let source = nginx.slow("weights?token=CANARY-TOKEN").replace("http://", "http://user:CANARY-PASSWORD@");
    let running = pull(&source, dest.path(), &fifo).args(["--connections", "2"]).spawn();
    let probe = Probe::of(&running);
    let mut before = Page::default();
    wait_until("the pull is sealed", SOON * 2, || {
        let page = probe.page();
        page.assert_follows(&before);
        before = page;
        probe.status("/readyz") == 200
    });
    assert!(before.seen_between("dray_received_bytes_total", 1.0, 20e6), "some page was read in mid-pull");
    let (page, text) = (probe.page(), probe.get("/metrics").body);
    let report = fifo.read();
    assert_eq!(running.wait().code(), 0);
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
    let size = content.size as f64;
    for name in ["dray_fetched_bytes_total", "dray_planned_bytes", "dray_durable_bytes"] {
        assert_eq!(page.value(name), size, "{name}");
    }
    assert_eq!(report["bytes"]["fetched"].as_u64(), Some(content.size));
    assert_eq!(page.sum("dray_requests_total"), report["requests"]["total"].as_f64().expect("a number"));
    assert_eq!(page.value("dray_retries_total"), report["requests"]["retried"].as_f64().expect("a number"));
    let origin = nginx.slow("").trim_end_matches('/').to_owned();
    let from_origin = page.labelled("dray_origin_received_bytes_total", "origin", &origin);
    assert_eq!(from_origin, page.value("dray_received_bytes_total"));
    assert!(size <= from_origin, "{from_origin}");
    assert_eq!((page.value("dray_planned_files"), page.value("dray_sealed_files")), (1.0, 1.0));
    assert_eq!((page.value("dray_models"), page.value("dray_sealed_models")), (1.0, 1.0));
    assert_eq!(page.labelled("dray_phase", "phase", "sealed"), 1.0);
    assert_eq!(page.sum("dray_phase"), 1.0);
    assert!(1.0 <= page.labelled("dray_sync_seconds_count", "kind", "data"));
    assert!(1.0 <= page.labelled("dray_sync_seconds_count", "kind", "journal"));
    assert!(0.0 < page.sum("dray_brake_seconds_total") && 0.0 < page.value("dray_cpu_seconds_total"));
    assert!(page.value("dray_resident_bytes") <= page.value("dray_resident_bytes_max"));
    assert_eq!(page.value("dray_slabs"), 64.0);
    assert_eq!(page.labelled("dray_build_info", "version", env!("CARGO_PKG_VERSION")), 1.0);
    assert!(!text.contains("CANARY"), "{text}");
}

#[test]
fn health_fails_while_an_origin_is_silent_and_comes_back() {
    let origin = silent();
    let (dest, fifo) = (folder(), Fifo::new());
    let running = pull(&origin.url("/m/weights"), dest.path(), &fifo).args(["--stall-timeout", "1s"]).spawn();
    let probe = Probe::of(&running);
    assert_eq!(probe.status("/healthz"), 200, "what has just begun is well");
    wait_until("health fails", SOON, || probe.status("/healthz") == 503);
    let page = probe.page();
    assert!(1.0 <= page.value("dray_idle_seconds"));
    assert_eq!(page.labelled("dray_phase", "phase", "fetching"), 1.0);
    assert_eq!(probe.status("/readyz"), 503);
    assert!(probe.get("/healthz").body.contains("while fetching"));
    wait_until("a silent request was given up", SOON, || {
        1.0 <= probe.page().labelled("dray_requests_total", "outcome", "stalled")
    });
    origin.set_script(Script::calm());
    wait_until("the pull is sealed", SOON, || probe.status("/readyz") == 200);
    assert_eq!(probe.status("/healthz"), 200);
    fifo.read();
    assert_eq!(running.wait().code(), 0);
}

#[test]
fn the_counts_of_pairs_add_up() {
    let nginx = nginx();
    let (one, two) = (Content::new(1, 5 * MIB + 1), Content::new(2, 3 * MIB));
    one.write_file(&nginx.root().join("one"));
    two.write_file(&nginx.root().join("two"));
    let (local, around, fifo) = (folder(), folder(), Fifo::new());
    fs::write(local.path().join("config.json"), "{}").expect("write");
    let dest = |name: &str| around.path().join(name).to_str().expect("UTF-8").to_owned();
    let pairs = [
        nginx.http("one"),
        dest("a"),
        local.path().to_str().expect("UTF-8").to_owned(),
        dest("b"),
        nginx.http("two"),
        dest("c"),
    ];
    let running = Dray::new(&pairs).env("DRAY_METRICS", "127.0.0.1:0").env("DRAY_REPORT", fifo.path()).spawn();
    let probe = Probe::of(&running);
    wait_until("the first is sealed", SOON, || probe.page().value("dray_sealed_models") == 1.0);
    let first = probe.page();
    assert_eq!((probe.status("/readyz"), first.value("dray_models")), (503, 3.0));
    assert_eq!(first.value("dray_fetched_bytes_total"), one.size as f64);
    fifo.read();
    wait_until("the last is sealed", SOON, || probe.status("/readyz") == 200);
    let last = probe.page();
    last.assert_follows(&first);
    let both = (one.size + two.size) as f64;
    for name in ["dray_fetched_bytes_total", "dray_planned_bytes", "dray_durable_bytes"] {
        assert_eq!(last.value(name), both, "{name}");
    }
    assert_eq!((last.value("dray_sealed_models"), last.value("dray_sealed_files")), (3.0, 2.0));
    fifo.read();
    assert_eq!(running.wait().code(), 0);
}

#[test]
fn what_was_there_before_is_reused_and_what_a_kill_left_is_read_back() {
    let nginx = Nginx::start(&Options { limit_rate: "6m", upstream: None });
    let content = Content::new(3, 24 * MIB);
    content.write_file(&nginx.root().join("weights"));
    let dest = folder();
    let running = watched(&nginx.slow("weights"), dest.path()).args(["--connections", "2"]).spawn();
    let probe = Probe::of(&running);
    wait_until("a part is durable", SOON, || 2.0 * MIB as f64 <= probe.page().value("dray_durable_bytes"));
    running.signal(Signal::KILL);
    assert!(running.wait().killed());
    for resumed in [true, false] {
        let fifo = Fifo::new();
        let running = pull(&nginx.slow("weights"), dest.path(), &fifo).spawn();
        let probe = Probe::of(&running);
        wait_until("the pull is sealed", SOON, || probe.status("/readyz") == 200);
        let page = probe.page();
        let value = |name: &str| page.value(name);
        assert_eq!(value("dray_reused_bytes_total") + value("dray_fetched_bytes_total"), content.size as f64);
        assert_eq!(0.0 < value("dray_read_back_bytes_total"), resumed, "after a kill the claims are read back");
        assert_eq!(0.0 < value("dray_fetched_bytes_total"), resumed);
        assert!(2.0 * MIB as f64 <= value("dray_reused_bytes_total"));
        fifo.read();
        assert_eq!(running.wait().code(), 0);
    }
}

#[test]
fn a_repair_is_seen_too() {
    let nginx = nginx();
    let content = Content::new(4, 4 * MIB);
    content.write_file(&nginx.root().join("weights"));
    let dest = folder();
    Dray::pull(&nginx.http("weights"), dest.path()).run().assert_sealed();
    flip_bit(&dest.path().join("weights"), MIB + 5);
    let fifo = Fifo::new();
    let dir = dest.path().to_str().expect("UTF-8");
    let verify = Dray::new(["verify", dir, "--repair", "--metrics", "127.0.0.1:0"]).env("DRAY_REPORT", fifo.path());
    let running = verify.spawn();
    let probe = Probe::of(&running);
    wait_until("the directory is sealed again", SOON, || probe.status("/readyz") == 200);
    assert_eq!(probe.page().value("dray_fetched_bytes_total"), MIB as f64, "one piece");
    fifo.read();
    assert_eq!(running.wait().code(), 0);
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
}

#[test]
fn every_wait_is_answered_and_says_something() {
    let origin = silent();
    let deaf = FaultOrigin::start(Vec::new(), Script::always(Fault::StallNoHeaders)).expect("origin");
    let (held, other) = (folder(), folder());
    let patient = |source: &str, dest: &Path, kind: &str| {
        watched(source, dest).args(["--progress", kind, "--stall-timeout", "20s"]).spawn()
    };
    let holder = patient(&origin.url("/m/weights"), held.path(), "lines");
    let probe = Probe::of(&holder);
    wait_until("the holder fetches", SOON, || probe.page().labelled("dray_phase", "phase", "fetching") == 1.0);
    let waiting = patient(&origin.url("/m/weights"), held.path(), "lines");
    let resolving = patient(&deaf.url("/m/weights"), other.path(), "lines");
    let in_json = patient(&deaf.url("/m/weights"), other.path(), "json");
    for (running, phase, line) in [
        (&waiting, "waiting", "waiting for another process on this directory, "),
        (&resolving, "resolving", "resolving the source, "),
        (&holder, "fetching", "fetching "),
        (&in_json, "resolving", r#""phase":"resolving""#),
    ] {
        let probe = Probe::of(running);
        wait_until(phase, SOON, || probe.page().labelled("dray_phase", "phase", phase) == 1.0);
        assert_eq!((probe.status("/readyz"), probe.status("/healthz")), (503, 200), "{phase}");
        wait_until(phase, Duration::from_secs(10), || running.stderr_so_far().contains(line));
    }
    for running in [waiting, resolving, in_json, holder] {
        running.signal(Signal::TERM);
        running.wait().assert_code(143);
    }
}

#[test]
fn clients_of_every_kind_are_answered_or_dropped() {
    let origin = silent();
    let dest = folder();
    let running = watched(&origin.url("/m/weights"), dest.path()).args(["--stall-timeout", "60s"]).spawn();
    let probe = Probe::of(&running);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", 200),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405),
        ("DELETE /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("GARBAGE\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        ("\0\u{1}\u{2}\r\n\r\n", 400),
    ] {
        assert_eq!(ask(probe.address, request).status, status, "{request:?}");
    }
    let head = ask(probe.address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let page = probe.get("/metrics");
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{}", page.head);
    let endless = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    assert!(matches!(probe::try_ask(probe.address, &endless), None | Some(431)), "a head without end");
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..100).map(|_| scope.spawn(|| probe.get("/metrics").status)).collect();
        assert!(asked.into_iter().all(|answer| answer.join().expect("an answer") == 200), "all of a hundred at once");
    });
    let silent_clients = probe::silent_clients(probe.address, 300);
    assert_eq!(probe.status("/healthz"), 200, "in spite of 300 clients who say nothing");
    probe::assert_all_dropped(silent_clients);
    assert_eq!(probe.status("/healthz"), 200);
    running.signal(Signal::TERM);
    running.wait().assert_code(143);
}

#[test]
fn an_address_that_cannot_be_had_ends_the_run_before_it_begins() {
    let nginx = nginx();
    Content::new(1, MIB).write_file(&nginx.root().join("weights"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken = taken.local_addr().expect("an address").to_string();
    let around = folder();
    for (address, why) in [
        (taken.as_str(), "in use"),
        ("203.0.113.1:9090", "cannot listen"),
        ("localhost:9090", "is not an address"),
        ("9090", "is not an address"),
    ] {
        let dest = around.path().join("dest");
        let run = Dray::pull(&nginx.http("weights"), &dest).args(["--metrics", address]).run();
        assert!(run.assert_fails(2).contains(why), "{address}: {}", run.last_line());
        assert!(!dest.exists(), "nothing was begun");
    }
    assert!(nginx.requests("weights").is_empty());
    for (kind, lines) in [("none", 1), ("lines", 1), ("json", 1)] {
        let dest = folder();
        let run = Dray::pull(&nginx.http("weights"), dest.path()).args(["--metrics", ":0", "--progress", kind]).run();
        run.assert_sealed();
        assert_eq!(run.stderr.matches("metrics at http://").count(), lines, "{kind}: {}", run.stderr);
    }
}
