//! Generations as the real store keeps them and as stores get them wrong: the emulators heed none.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rig::dray::{Dray, Run};
use crate::rig::fake::{Asked, Fake, Reply, reply};
use crate::rig::folder;
use crate::rig::oracle::tree;
use crate::shelf::{BUCKET, Shelf, is_media, refusal};

/// Several pieces, so that one reply is not all.
const BYTES: usize = 24 << 20;

fn bytes(mark: u8) -> Vec<u8> {
    (0..BYTES).map(|at| mark ^ u8::try_from(at % 251).expect("a byte")).collect()
}

/// The object as it was planned, and as it is once some of it was read.
fn shelves() -> [Shelf; 2] {
    [Shelf::of(&[("m/weights", &bytes(0))]), Shelf::of(&[("m/weights", &bytes(1))]).at("18")]
}

/// A store that replaces its object when two ranges of it were read; `after` answers from then on.
fn store(after: impl Fn(&Asked, &[Shelf; 2]) -> Reply + Send + Sync + 'static) -> Fake {
    let (shelves, read) = (shelves(), Arc::new(AtomicUsize::new(0)));
    Fake::start(move |asked| {
        let before = if is_media(asked) { read.fetch_add(1, Ordering::Relaxed) } else { read.load(Ordering::Relaxed) };
        if before < 2 { shelves[0].answer(asked) } else { after(asked, &shelves) }
    })
}

fn pull(store: &Fake, dest: &Path) -> Run {
    let dray = Dray::pull(&format!("gs://{BUCKET}/m"), dest).env("STORAGE_EMULATOR_HOST", store.url(""));
    dray.args(["--connections", "2"]).run()
}

/// The pull ends whole as the generation whose bytes bear `mark`.
fn assert_ends_as(mark: u8, generation: &str, store: &Fake) {
    let dest = folder();
    let run = pull(store, dest.path());
    assert_eq!(run.assert_sealed()["assurance"], "origin");
    assert!(fs::read(dest.path().join("weights")).expect("weights") == bytes(mark), "nothing is mixed");
    let receipt = fs::read_to_string(dest.path().join(".dray/receipt.json")).expect("a receipt");
    assert!(receipt.contains(&format!("\"version_id\": \"{generation}\"")), "{receipt}");
}

fn assert_fails(exit: i32, words: &str, store: &Fake) {
    let dest = folder();
    let run = pull(store, dest.path());
    let line = run.assert_fails(exit);
    assert!(line.contains(words), "{line}");
    assert_eq!(tree(dest.path()).len(), 0);
    assert!(store.asked().len() < 100, "{} requests", store.asked().len());
}

/// The generation that a read names.
fn named<'a>(asked: &Asked, shelves: &'a [Shelf; 2]) -> &'a Shelf {
    if is_media(asked) && asked.parameter("generation") == Some("17") { &shelves[0] } else { &shelves[1] }
}

#[test]
fn a_bucket_that_keeps_old_versions_finishes_the_planned_one() {
    assert_ends_as(0, "17", &store(|asked, shelves| named(asked, shelves).answer(asked)));
}

#[test]
fn a_bucket_without_old_versions_ends_as_the_new_one_whole() {
    assert_ends_as(1, "18", &store(|asked, shelves| shelves[1].answer(asked)));
    // As a precondition on the generation is refused.
    let refused = |asked: &Asked, shelves: &[Shelf; 2]| {
        let stale = is_media(asked) && asked.parameter("generation") == Some("17");
        if stale {
            refusal(412, "At least one of the pre-conditions you specified did not hold.")
        } else {
            shelves[1].answer(asked)
        }
    };
    assert_ends_as(1, "18", &store(refused));
}

#[test]
fn a_store_that_serves_another_generation_than_was_named_is_not_mixed_in() {
    // It says which it serves.
    let wrong = |asked: &Asked, shelves: &[Shelf; 2]| {
        let honest = if asked.parameter("generation") == Some("17") { "17" } else { "18" };
        let range = ranged(asked, &bytes(1));
        let told = range.header("x-goog-generation", "18");
        if is_media(asked) && honest == "17" { told } else { shelves[1].answer(asked) }
    };
    assert_ends_as(1, "18", &store(wrong));
    // It does not: only the sum can tell, and another try brings the same.
    let silent = |asked: &Asked, shelves: &[Shelf; 2]| {
        if is_media(asked) { ranged(asked, &bytes(1)) } else { shelves[0].answer(asked) }
    };
    assert_fails(5, "crc32c", &store(silent));
}

/// The range that is asked for, of whatever bytes.
fn ranged(asked: &Asked, bytes: &[u8]) -> Reply {
    let range = asked.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let Some((first, last)) = range else { return reply(200, bytes) };
    let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
    reply(206, &bytes[first..=last]).header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
}

#[test]
fn a_store_that_calls_a_read_unmodified_is_a_network_error() {
    let unmodified = |asked: &Asked, shelves: &[Shelf; 2]| {
        if is_media(asked) { reply(304, "") } else { shelves[0].answer(asked) }
    };
    assert_fails(7, "304", &store(unmodified));
}
