//! Pulls by HTTP and HTTPS.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::rig::dray::Dray;
use crate::rig::oracle::{Content, Expected, KIB, MIB, change_times, tree};
use crate::rig::server::free_ports;
use crate::rig::{folder, nginx, weed};
use crate::{BORDER_SIZES, RUNGS, border_files};

const FAILS_WITHIN: Duration = Duration::from_secs(20);

fn assert_pulls(url: &str, name: &str, content: &Content, flags: &[&str]) {
    let dest = folder();
    Dray::pull(url, dest.path()).args(flags).run().assert_sealed();
    Expected::of([(name, content)]).assert_sealed(dest.path());
}

#[test]
fn http_sizes_at_piece_and_span_borders_are_identical_on_every_rung() {
    let nginx = nginx();
    for (name, content) in border_files() {
        content.write_file(&nginx.root().join(&name));
        for rung in RUNGS {
            assert_pulls(&nginx.http(&name), &name, &content, &["--io", rung]);
        }
    }
}

#[test]
fn every_ranged_get_pins_the_version() {
    let nginx = nginx();
    let content = Content::new(1, 40 * MIB);
    content.write_file(&nginx.root().join("weights"));
    assert_pulls(&nginx.http("weights"), "weights", &content, &[]);
    let requests = nginx.requests("weights");
    let ranged: Vec<_> = requests.iter().filter(|request| !request.range.is_empty()).collect();
    assert!(2 <= ranged.len(), "several spans: {requests:?}");
    // A first request that learns the version cannot name it.
    let unpinned = ranged.iter().filter(|request| request.if_match.is_empty()).count();
    assert!(unpinned <= 1, "{ranged:?}");
    let sent: u64 = ranged.iter().map(|request| request.bytes).sum();
    assert!(sent <= content.size + MIB, "{sent} bytes sent for {}", content.size);
}

#[test]
fn a_server_without_ranges_works_at_every_size() {
    let nginx = nginx();
    for size in BORDER_SIZES.into_iter().chain([33 * MIB + 1]) {
        let content = Content::new(size, size);
        content.write_file(&nginx.root().join("weights"));
        assert_pulls(&nginx.no_range("weights"), "weights", &content, &[]);
    }
}

#[test]
fn https_needs_the_private_ca() {
    let nginx = nginx();
    let content = Content::new(2, 20 * MIB + 1);
    content.write_file(&nginx.root().join("weights"));
    let dest = folder();
    let run = Dray::pull(&nginx.https("weights"), dest.path()).within(FAILS_WITHIN).run();
    run.assert_fails(7);
    assert_eq!(tree(dest.path()).len(), 0);
    let run = Dray::pull(&nginx.https("weights"), dest.path()).env("SSL_CERT_FILE", nginx.ca()).run();
    run.assert_sealed();
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
}

#[test]
fn an_http_file_pulled_twice_is_asked_for_once() {
    let nginx = nginx();
    let content = Content::new(3, 9 * MIB);
    content.write_file(&nginx.root().join("weights"));
    let dest = folder();
    Dray::pull(&nginx.http("weights"), dest.path()).run().assert_sealed();
    let before = (nginx.bytes_sent("weights"), change_times(dest.path()));
    let run = Dray::pull(&nginx.http("weights"), dest.path()).run();
    run.assert_sealed();
    assert_eq!(run.count("bytes.fetched"), 0);
    let sent = nginx.bytes_sent("weights") - before.0;
    // A single byte may be asked for to learn the version.
    assert!(sent <= 1, "{sent} bytes sent again");
    assert_eq!(change_times(dest.path()), before.1);
}

#[test]
fn a_file_that_changed_since_is_fetched_anew() {
    let nginx = nginx();
    let dest = folder();
    for size in [9 * MIB, 5 * MIB + 1] {
        let content = Content::new(size, size);
        content.write_file(&nginx.root().join("weights"));
        Dray::pull(&nginx.http("weights"), dest.path()).run().assert_sealed();
        Expected::of([("weights", &content)]).assert_sealed(dest.path());
    }
}

#[test]
fn a_link_signed_for_get_alone_works() {
    let bucket = weed().bucket("presigned");
    let content = Content::new(4, 17 * MIB + 1);
    bucket.put(&[("models/weights.bin", &content)]);
    let url = bucket.presigned_get("models/weights.bin");
    assert_pulls(&url, "weights.bin", &content, &[]);
}

#[test]
fn absence_and_refusal_have_their_exit_codes() {
    let nginx = nginx();
    let dest = folder();
    for (path, code) in [("absent", 3), ("denied/401", 4), ("denied/403", 4)] {
        let run = Dray::pull(&nginx.http(path), dest.path()).within(FAILS_WITHIN).run();
        run.assert_fails(code);
        let requests = nginx.requests(path).len();
        assert!(requests <= 6, "{requests} requests for {path}");
    }
    assert_eq!(tree(dest.path()).len(), 0);
}

#[test]
fn a_server_that_keeps_failing_exits_7() {
    let nginx = nginx();
    let dest = folder();
    for path in ["failing/500", "failing/503"] {
        let run = Dray::pull(&nginx.http(path), dest.path()).run();
        run.assert_fails(7);
        let requests = nginx.requests(path).len();
        assert!((2..=40).contains(&requests), "{requests} requests for {path}");
    }
}

#[test]
fn a_redirect_is_followed_and_the_name_is_the_sources() {
    let nginx = nginx();
    let content = Content::new(5, 9 * MIB);
    content.write_file(&nginx.root().join("stored/blob-17"));
    assert_pulls(&nginx.http("moved/weights"), "weights", &content, &[]);
    let dest = folder();
    let run = Dray::pull(&nginx.http("loop/weights"), dest.path()).within(FAILS_WITHIN).run();
    run.assert_fails(6);
    assert!(nginx.requests("loop/weights").len() <= 24);
}

#[test]
fn a_redirect_to_plain_http_or_to_a_local_file_is_refused() {
    let nginx = nginx();
    Content::new(6, KIB).write_file(&nginx.root().join("weights"));
    let dest = folder();
    let url = nginx.https("downgrade/weights");
    let run = Dray::pull(&url, dest.path()).env("SSL_CERT_FILE", nginx.ca()).within(FAILS_WITHIN).run();
    run.assert_fails(6);
    Dray::pull(&nginx.http("to-file/weights"), dest.path()).within(FAILS_WITHIN).run().assert_fails(6);
    assert_eq!(tree(dest.path()).len(), 0);
}

#[test]
fn an_unknown_host_or_refused_port_exits_7_within_20_seconds() {
    let [port] = free_ports();
    let dest = folder();
    for url in [format!("http://127.0.0.1:{port}/weights"), "http://nowhere.invalid/weights".into()] {
        Dray::pull(&url, dest.path()).within(FAILS_WITHIN).run().assert_fails(7);
    }
}

#[test]
fn a_server_that_never_answers_exits_7_by_the_stall_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}/weights", listener.local_addr().expect("an address"));
    let dest = folder();
    let run = Dray::pull(&url, dest.path()).args(["--stall-timeout", "500ms"]).run();
    run.assert_fails(7);
}

#[test]
fn the_deadline_bounds_the_whole_run() {
    let nginx = nginx();
    Content::new(7, 64 * MIB).write_file(&nginx.root().join("weights"));
    let dest = folder();
    let run = Dray::pull(&nginx.slow("weights"), dest.path())
        .args(["--deadline", "2s", "--connections", "2"])
        .within(Duration::from_secs(10))
        .run();
    run.assert_fails(7);
    assert_eq!(tree(dest.path()).len(), 0);
}

#[test]
fn the_rate_limit_is_kept() {
    let nginx = nginx();
    let content = Content::new(8, 24 * MIB);
    content.write_file(&nginx.root().join("weights"));
    let started = Instant::now();
    assert_pulls(&nginx.http("weights"), "weights", &content, &["--limit-rate", "8MiB"]);
    let seconds = started.elapsed().as_secs_f64();
    // A burst of one second's worth is fair.
    assert!((1.9..12.0).contains(&seconds), "24 MiB at 8 MiB/s took {seconds} s");
}

#[test]
fn a_destination_that_is_a_file_is_left_alone() {
    let nginx = nginx();
    Content::new(9, KIB).write_file(&nginx.root().join("weights"));
    let around = folder();
    let dest = around.path().join("occupied");
    std::fs::write(&dest, "mine").expect("write");
    let run = Dray::pull(&nginx.http("weights"), Path::new(&dest)).run();
    assert!([2, 10].contains(&run.code()), "exit {}", run.code());
    assert_eq!(std::fs::read_to_string(&dest).expect("read"), "mine");
}
