//! Runs that are stopped, started again, or run beside each other.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::rig::dray::{Dray, Run};
use crate::rig::nginx::{Nginx, Options};
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::server::wait_until;
use crate::rig::{folder, nginx, nginx_before_weed, weed};

const SIZE: u64 = 160 * MIB;
/// The grace of 4.5 s, and the time a slow disk needs for the writes that nobody can call back.
const STOP_MAX: Duration = Duration::from_secs(15);
/// What a stop may cost: the spans in flight, which fit the memory bound.
const LOST_MAX: u64 = 64 * MIB;

/// Four connections of this rate take some three seconds for `SIZE`.
const RATE: &str = "12m";

fn slow_nginx() -> Nginx {
    Nginx::start(&Options { limit_rate: RATE, upstream: None })
}

fn slowed(src: &str, dest: &Path, rung: &str) -> Dray {
    Dray::pull(src, dest).args(["--connections", "4", "--io", rung])
}

/// Starts a pull, stops it by `signal` once `enough` bytes have gone out, and checks how it ends.
fn interrupt(pull: Dray, nginx: &Nginx, enough: u64, signal: Signal, code: i32) -> Run {
    let sent = || -> u64 { nginx.logged("weights").iter().map(|request| request.bytes).sum() };
    let before = sent();
    let mut running = pull.spawn();
    wait_until("some spans arrived", Duration::from_secs(30), || {
        assert!(!running.has_ended(), "the pull ended before it was stopped");
        before + enough <= sent()
    });
    let asked = Instant::now();
    running.signal(signal);
    let run = running.wait();
    assert!(asked.elapsed() < STOP_MAX, "the stop took {:?}", asked.elapsed());
    run.assert_fails(code);
    assert_ne!(run.report()["outcome"], "sealed");
    run
}

fn resume_refetches_the_rest_only(rung: &str, signal: Signal, code: i32) {
    let nginx = slow_nginx();
    let content = Content::new(1, SIZE);
    content.write_file(&nginx.root().join("weights"));
    let dest = folder();
    interrupt(slowed(&nginx.slow("weights"), dest.path(), rung), &nginx, 32 * MIB, signal, code);
    assert_eq!(tree(dest.path()).len(), 0, "a file that is not whole has no final name");
    let before = nginx.bytes_sent("weights");

    let run = slowed(&nginx.slow("weights"), dest.path(), rung).run();
    run.assert_sealed();
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
    let (fetched, reused) = (run.count("bytes.fetched"), run.count("bytes.reused"));
    assert!(0 < reused, "something was kept: {}", run.report()["bytes"]);
    assert_eq!(fetched + reused, SIZE);
    let after = nginx.bytes_sent("weights") - before;
    assert!(fetched <= after + MIB && after <= fetched + MIB, "fetched {fetched}, sent {after}");
    assert!(before + after <= SIZE + LOST_MAX, "sent {before} and then {after}");
}

#[test]
fn resume_refetches_only_the_missing_pieces_after_sigterm_with_uring() {
    resume_refetches_the_rest_only("uring", Signal::TERM, 143);
}

#[test]
fn resume_refetches_only_the_missing_pieces_after_sigterm_with_threads() {
    resume_refetches_the_rest_only("threads", Signal::TERM, 143);
}

#[test]
fn resume_refetches_only_the_missing_pieces_after_sigint_buffered() {
    resume_refetches_the_rest_only("buffered", Signal::INT, 130);
}

#[test]
fn resume_by_another_rung_keeps_what_is_there() {
    let nginx = slow_nginx();
    let content = Content::new(2, SIZE);
    content.write_file(&nginx.root().join("weights"));
    let dest = folder();
    let url = nginx.slow("weights");
    interrupt(slowed(&url, dest.path(), "uring"), &nginx, 24 * MIB, Signal::TERM, 143);
    interrupt(slowed(&url, dest.path(), "buffered"), &nginx, 24 * MIB, Signal::INT, 130);
    let run = slowed(&url, dest.path(), "threads").run();
    run.assert_sealed();
    assert!(0 < run.count("bytes.reused"));
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
    assert!(nginx.bytes_sent("weights") <= SIZE + 2 * LOST_MAX);
}

#[test]
fn resume_of_an_s3_prefix_keeps_sealed_files_and_pieces() {
    let nginx = nginx_before_weed(RATE);
    let bucket = weed().bucket("resume-prefix");
    let large = Content::new(3, 96 * MIB);
    let others: Vec<(String, Content)> = (0..6).map(|i| (format!("shard-{i}"), Content::new(i, 8 * MIB + i))).collect();
    bucket.put_multipart("model/weights", &large, 16 * MIB, Some(("CRC64NVME", "FULL_OBJECT")));
    let keys: Vec<String> = others.iter().map(|(name, _)| format!("model/{name}")).collect();
    bucket.put(&keys.iter().zip(&others).map(|(key, (_, content))| (key.as_str(), content)).collect::<Vec<_>>());
    let expected =
        Expected::of(others.iter().map(|(name, content)| (name.as_str(), content)).chain([("weights", &large)]));
    let dest = folder();
    let pull = || slowed(&bucket.uri("model"), dest.path(), "auto").s3(&nginx.slow_s3());
    let mut running = pull().spawn();
    wait_until("some spans arrived", Duration::from_secs(30), || {
        assert!(!running.has_ended(), "the pull ended before it was stopped");
        32 * MIB <= nginx.logged("/model/").iter().map(|request| request.bytes).sum::<u64>()
    });
    running.signal(Signal::TERM);
    running.wait().assert_fails(143);
    expected.assert_only_whole_files(dest.path());
    let run = pull().run();
    run.assert_sealed();
    expected.assert_sealed(dest.path());
    assert!(0 < run.count("bytes.reused"));
    assert_eq!(run.count("bytes.reused") + run.count("bytes.fetched"), expected.total());
    // The statement of the store still counts, though half the pieces were hashed by another process.
    assert_eq!(run.file("weights")["assurance"], "origin", "{}", run.report());
}

#[test]
fn a_source_that_changed_while_stopped_is_fetched_whole_again() {
    let nginx = slow_nginx();
    let [old, new] = [4, 5].map(|seed| Content::new(seed, 96 * MIB + seed));
    let dest = folder();
    old.write_file(&nginx.root().join("weights"));
    interrupt(slowed(&nginx.slow("weights"), dest.path(), "auto"), &nginx, 24 * MIB, Signal::TERM, 143);
    new.write_file(&nginx.root().join("weights"));
    let run = Dray::pull(&nginx.http("weights"), dest.path()).run();
    // Another port is another source, so nothing may be kept for that reason as well.
    run.assert_sealed();
    Expected::of([("weights", &new)]).assert_sealed(dest.path());

    let dest = folder();
    old.write_file(&nginx.root().join("weights"));
    interrupt(slowed(&nginx.slow("weights"), dest.path(), "auto"), &nginx, 24 * MIB, Signal::TERM, 143);
    new.write_file(&nginx.root().join("weights"));
    let run = slowed(&nginx.slow("weights"), dest.path(), "auto").run();
    run.assert_sealed();
    Expected::of([("weights", &new)]).assert_sealed(dest.path());
    assert_eq!(run.count("bytes.fetched"), new.size);
}

#[test]
fn two_processes_on_one_folder_both_succeed_and_fetch_once() {
    let nginx = nginx();
    let content = Content::new(6, SIZE);
    content.write_file(&nginx.root().join("weights"));
    let dest = folder();
    let both = [(); 2].map(|()| Dray::pull(&nginx.http("weights"), dest.path()).spawn());
    for run in both.map(|running| running.wait()) {
        run.assert_sealed();
    }
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
    let sent = nginx.bytes_sent("weights");
    assert!(sent <= SIZE + SIZE / 10, "{sent} bytes sent for {SIZE}");
}

#[test]
fn a_second_process_that_waits_obeys_a_signal() {
    let nginx = slow_nginx();
    let content = Content::new(7, SIZE);
    content.write_file(&nginx.root().join("weights"));
    let dest = folder();
    let first = slowed(&nginx.slow("weights"), dest.path(), "auto").spawn();
    wait_until("the first holds the folder", Duration::from_secs(30), || !nginx.logged("weights").is_empty());
    let second = slowed(&nginx.slow("weights"), dest.path(), "auto").args(["--progress", "lines"]).spawn();
    wait_until("the second handles signals", Duration::from_secs(10), || second.handles(Signal::TERM));
    second.signal(Signal::TERM);
    second.wait().assert_fails(143);
    first.wait().assert_sealed();
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
}
