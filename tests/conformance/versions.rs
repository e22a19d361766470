//! One version of each file, and what its origin states of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Went;
use super::between::Fault;
use super::canary::Trial;
use super::site::{Place, Replaced, Site, States};
use crate::rig::oracle::{Content, Expected, MIB};

/// Several requests for bytes.
const SIZE: u64 = 24 * MIB;

/// Few requests at once, so that one can be told from the next.
const SLOWLY: [&str; 2] = ["--connections", "2"];

pub(crate) fn pins_every_read(site: &Site) -> Went {
    let content = Content::new(1, SIZE);
    let place = (site.open)(&[("m/weights", &content)]);
    let trial = Trial::new();
    trial.pull(&*place, "m/weights", &SLOWLY).assert_sealed();
    Expected::of([("weights", &content)]).assert_sealed(&trial.dest());
    let reads: Vec<_> = place.data().asked().into_iter().filter(|asked| asked.wants_bytes()).collect();
    assert!(2 <= reads.len(), "{} requests for bytes", reads.len());
    for asked in &reads {
        assert!(place.is_pinned(asked), "no version is named: {asked:?}");
    }
    Went::Well
}

/// Replaces the object while its `nth` request for bytes is on its way.
fn replace(site: &Site, nth: usize, size: u64) {
    let (old, new) = (Content::new(1, SIZE), Content::new(2, size));
    let place: Arc<dyn Place> = Arc::from((site.open)(&[("m/weights", &old)]));
    let (weak, replacement) = (Arc::downgrade(&place), new.clone());
    let reads = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&reads);
    place.data().judge(move |asked| {
        if asked.wants_bytes() && seen.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            let place = weak.upgrade().expect("a place");
            place.put(&[("m/weights", &replacement)]);
        }
        None
    });
    let trial = Trial::new();
    let run = trial.pull(&*place, "m/weights", &SLOWLY);
    assert!(nth <= reads.load(Ordering::SeqCst), "it was replaced");
    if run.code() == 8 {
        trial.assert_nothing_published();
        return;
    }
    run.assert_sealed();
    let whole = match place.replaced() {
        Replaced::IsGone => &new,
        Replaced::StaysReadable => &old,
    };
    Expected::of([("weights", whole)]).assert_sealed(&trial.dest());
}

pub(crate) fn replaced_before_reading(site: &Site) -> Went {
    replace(site, 1, SIZE);
    Went::Well
}

pub(crate) fn replaced_in_mid_pull(site: &Site) -> Went {
    replace(site, 3, SIZE);
    replace(site, 3, SIZE + MIB + 1);
    Went::Well
}

pub(crate) fn a_good_checksum_counts(site: &Site) -> Went {
    let content = Content::new(1, 3 * MIB + 5);
    let place = (site.open)(&[("m/weights", &content)]);
    let trial = Trial::new();
    let run = trial.pull(&*place, "m/weights", &[]);
    if place.states() == States::Nothing {
        assert_eq!(run.assert_sealed()["assurance"], "hashed", "a computed digest is not called verified");
        return Went::Cannot;
    }
    assert_eq!(run.assert_sealed()["assurance"], "origin");
    let checks = run.file("weights")["checks"].as_array().expect("checks").len();
    assert!(0 < checks, "{}", run.report());
    Expected::of([("weights", &content)]).assert_sealed(&trial.dest());
    Went::Well
}

pub(crate) fn a_bad_checksum_exits_5(site: &Site) -> Went {
    let content = Content::new(1, 3 * MIB + 5);
    let place = (site.open)(&[("m/weights", &content)]);
    if place.states() == States::Nothing {
        return Went::Cannot;
    }
    place.data().judge(|asked| asked.wants_bytes().then_some(Fault::Flip { at: 1000 }));
    let trial = Trial::new();
    trial.pull(&*place, "m/weights", &[]).assert_fails(5);
    trial.assert_nothing_published();
    Went::Well
}
