//! Pulls that are killed, and blobs that are replaced or deleted under them: Azurite.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::azure::Container;
use crate::rig::dray::Running;
use crate::rig::oracle::{Content, Expected, MIB, tree};
use crate::rig::server::wait_until;
use crate::rig::{azurite, folder};

const SIZE: u64 = 40 * MIB;

/// A pull of `weights` slow enough for an upload beside it, once some of it is durable.
fn half_way(container: &Container, dest: &Path) -> Running {
    let mut running = container.pull("m", dest).args(["--limit-rate", "5MiB", "--connections", "4"]).spawn();
    let journal = dest.join(".dray/journal");
    wait_until("something is durable", Duration::from_secs(30), || {
        assert!(!running.has_ended(), "the pull ended before it was disturbed");
        fs::metadata(&journal).is_ok_and(|journal| 600 < journal.len())
    });
    running
}

fn filled(name: &str, content: &Content) -> Container {
    let container = azurite().container(name);
    container.put_all(&[("m/weights", content)]);
    container
}

#[test]
fn a_killed_pull_goes_on_where_its_journal_ends() {
    let content = Content::new(1, SIZE);
    let container = filled("killed", &content);
    let dest = folder();
    let running = half_way(&container, dest.path());
    running.signal(Signal::KILL);
    assert!(running.wait().killed());
    assert_eq!(tree(dest.path()).len(), 0, "a file that is not whole has no final name");
    // The same place by another name.
    let run = container.here(crate::rig::dray::Dray::pull(&container.url("m"), dest.path())).run();
    assert_eq!(run.assert_sealed()["assurance"], "origin");
    assert!(0 < run.count("bytes.reused"), "{}", run.report());
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
    let again = container.pull("m", dest.path()).run();
    again.assert_sealed();
    assert_eq!((again.count("bytes.fetched"), again.count("requests.total")), (0, 0), "no data is asked for");
}

#[test]
fn a_blob_replaced_in_mid_pull_ends_as_the_new_version_whole() {
    // The same size, so that only the ETag can tell; and another.
    for (name, size) in [("replaced-same", SIZE), ("replaced-other", SIZE + MIB + 1)] {
        let (old, new) = (Content::new(1, SIZE), Content::new(2, size));
        let container = filled(name, &old);
        let dest = folder();
        let running = half_way(&container, dest.path());
        container.put_all(&[("m/weights", &new)]);
        let run = running.wait();
        run.assert_sealed();
        assert!(run.stderr.contains("changed at its source"), "{}", run.stderr);
        Expected::of([("weights", &new)]).assert_sealed(dest.path());
    }
}

#[test]
fn a_blob_replaced_between_two_runs_is_fetched_whole_again() {
    let (old, new) = (Content::new(1, SIZE), Content::new(2, SIZE));
    let container = filled("replaced-between", &old);
    let dest = folder();
    let running = half_way(&container, dest.path());
    running.signal(Signal::TERM);
    running.wait().assert_fails(143);
    container.put_all(&[("m/weights", &new)]);
    let run = container.pull("m", dest.path()).run();
    run.assert_sealed();
    assert_eq!(run.count("bytes.fetched"), SIZE, "nothing of the old version is kept");
    Expected::of([("weights", &new)]).assert_sealed(dest.path());
}
