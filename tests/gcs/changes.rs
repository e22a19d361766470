//! Pulls that are killed, and objects that are replaced or deleted under them: fake-gcs-server.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::dray::Running;
use crate::rig::gcs::Bucket;
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::server::wait_until;
use crate::rig::{fake_gcs, folder};

const SIZE: u64 = 48 * MIB;

/// A pull of `weights` at 5 MiB a second, once some of it is durable.
fn half_way(bucket: &Bucket, dest: &Path) -> Running {
    let mut running = bucket.pull("m", dest).args(["--limit-rate", "5MiB", "--connections", "4"]).spawn();
    let journal = dest.join(".dray/journal");
    wait_until("something is durable", Duration::from_secs(30), || {
        assert!(!running.has_ended(), "the pull ended before it was disturbed");
        fs::metadata(&journal).is_ok_and(|journal| 600 < journal.len())
    });
    running
}

fn filled(name: &str, content: &Content) -> Bucket {
    let bucket = fake_gcs().bucket(name);
    bucket.put(&[("m/weights", content)]);
    bucket
}

#[test]
fn a_killed_pull_goes_on_where_its_journal_ends() {
    let content = Content::new(1, SIZE);
    let bucket = filled("killed", &content);
    let dest = folder();
    let running = half_way(&bucket, dest.path());
    running.signal(Signal::KILL);
    assert!(running.wait().killed());
    assert_eq!(tree(dest.path()).len(), 0, "a file that is not whole has no final name");
    let run = bucket.pull("m", dest.path()).run();
    assert_eq!(run.assert_sealed()["assurance"], "origin", "the store's checksum covers what was there before");
    assert!(0 < run.count("bytes.reused"), "{}", run.report());
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
    let again = bucket.pull("m", dest.path()).run();
    again.assert_sealed();
    assert_eq!(
        (again.count("bytes.fetched"), again.count("requests.total")),
        (0, 0),
        "a sealed folder asks for no data"
    );
}

#[test]
fn an_object_replaced_in_mid_pull_ends_as_the_new_version_whole() {
    // The same size, so that only the generation can tell; and another.
    for (name, size) in [("replaced-same", SIZE), ("replaced-other", SIZE + MIB + 1)] {
        let (old, new) = (Content::new(1, SIZE), Content::new(2, size));
        let bucket = filled(name, &old);
        let dest = folder();
        let running = half_way(&bucket, dest.path());
        bucket.put(&[("m/weights", &new)]);
        let run = running.wait();
        assert_eq!(run.assert_sealed()["assurance"], "origin");
        assert!(run.stderr.contains("changed at its source"), "{}", run.stderr);
        Expected::of([("weights", &new)]).assert_sealed(dest.path());
    }
}

#[test]
fn an_object_replaced_between_two_runs_is_fetched_whole_again() {
    let (old, new) = (Content::new(1, SIZE), Content::new(2, SIZE));
    let bucket = filled("replaced-between", &old);
    let dest = folder();
    let running = half_way(&bucket, dest.path());
    running.signal(Signal::TERM);
    running.wait().assert_fails(143);
    bucket.put(&[("m/weights", &new)]);
    let run = bucket.pull("m", dest.path()).run();
    run.assert_sealed();
    assert_eq!(run.count("bytes.fetched"), SIZE, "nothing of the old generation is kept");
    Expected::of([("weights", &new)]).assert_sealed(dest.path());
}
