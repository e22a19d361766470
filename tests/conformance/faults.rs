//! Origins that are busy, hang up, fall silent; pulls that are killed.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::Went;
use super::between::{Asked, Fault};
use super::canary::{Trial, assert_without, secrets};
use super::site::{Place, Site};
use crate::rig::oracle::{Content, Expected, MIB};
use crate::rig::server::{holds_within, wait_until};

const SIZE: u64 = 9 * MIB + 7;

fn assert_heals(site: &Site, args: &[&str], judge: impl Fn(&dyn Place)) {
    let content = Content::new(1, SIZE);
    let place = (site.open)(&[("m/weights", &content)]);
    judge(&*place);
    let trial = Trial::new();
    trial.pull(&*place, "m/weights", args).assert_sealed();
    Expected::of([("weights", &content)]).assert_sealed(&trial.dest());
}

/// The fault on the first `times` of what `which` takes.
fn first(
    times: usize,
    which: fn(&Asked) -> bool,
    fault: Fault,
) -> impl FnMut(&Asked) -> Option<Fault> + Send + 'static {
    let seen = AtomicUsize::new(0);
    move |asked| (which(asked) && seen.fetch_add(1, Ordering::SeqCst) < times).then(|| fault.clone())
}

/// Each kind of request is refused once.
pub(crate) fn busy_answers_are_waited_out(site: &Site) -> Went {
    for status in [429, 500, 503] {
        assert_heals(site, &[], |place| {
            let mut bytes = first(1, Asked::wants_bytes, Fault::busy(status, 0));
            let mut rest = first(1, |asked| !asked.wants_bytes(), Fault::busy(status, 0));
            place.data().judge(first(1, Asked::wants_bytes, Fault::busy(status, 0)));
            place.front().judge(move |asked| bytes(asked).or_else(|| rest(asked)));
        });
    }
    assert_heals(site, &[], |place| place.data().judge(first(1, Asked::wants_bytes, Fault::busy(503, 1))));
    Went::Well
}

pub(crate) fn an_origin_that_stays_busy_exits_7(site: &Site) -> Went {
    let content = Content::new(1, 10);
    let place = (site.open)(&[("m/weights", &content)]);
    place.front().judge(|_| Some(Fault::busy(503, 0)));
    let trial = Trial::new();
    let run = trial.pull(&*place, "m/weights", &[]);
    run.assert_fails(7);
    trial.assert_nothing_published();
    assert!(place.front().asked().len() <= 40, "a handful of tries: {}", place.front().asked().len());
    assert!(run.seconds < 40.0, "{} s", run.seconds);
    Went::Well
}

pub(crate) fn cut_bodies_go_on(site: &Site) -> Went {
    for after in [0, 300_000] {
        assert_heals(site, &[], |place| place.data().judge(first(3, Asked::wants_bytes, Fault::Cut { after })));
    }
    Went::Well
}

pub(crate) fn stalled_bodies_go_on(site: &Site) -> Went {
    assert_heals(site, &["--stall-timeout", "3s"], |place| {
        place.data().judge(first(2, Asked::wants_bytes, Fault::Stall { after: 200_000 }));
    });
    Went::Well
}

/// Killed in mid-pull with its metrics served; what it leaves has no secret, and the next run goes on from there.
pub(crate) fn a_killed_pull_resumes(site: &Site) -> Went {
    let content = Content::new(1, 40 * MIB);
    let place = (site.open)(&[("m/weights", &content)]);
    let trial = Trial::new();
    let slow = ["--limit-rate", "12MiB", "--connections", "2", "--metrics", "127.0.0.1:0"];
    let mut running = trial.dray(&*place, "m/weights").args(slow).spawn();
    let journal = trial.dest().join(".dray/journal");
    wait_until("something is durable", Duration::from_secs(40), || {
        assert!(!running.has_ended(), "the pull ended before it was killed: {}", running.stderr_so_far());
        fs::metadata(&journal).is_ok_and(|journal| 600 < journal.len())
    });
    let page = metrics(&running.stderr_so_far());
    assert!(page.contains("dray_"), "a page of metrics: {page}");
    assert_without(&[("the metrics".to_owned(), page)], &secrets(&*place));
    running.signal(Signal::KILL);
    let run = running.wait();
    assert!(run.killed());
    trial.assert_silent(&*place, &run, &[]);
    trial.assert_nothing_published();
    let run = trial.pull(&*place, "m/weights", &[]);
    run.assert_sealed();
    assert!(0 < run.count("bytes.reused"), "{}", run.report());
    Expected::of([("weights", &content)]).assert_sealed(&trial.dest());
    // Once more: nothing is left to do.
    let before = place.data().asked().len();
    trial.pull(&*place, "m/weights", &[]).assert_sealed();
    let again = place.data().asked()[before..].iter().filter(|asked| asked.wants_bytes()).count();
    assert_eq!(again, 0, "a sealed folder asks for no bytes");
    Went::Well
}

/// The page of a run that says on stderr where its metrics are.
fn metrics(stderr: &str) -> String {
    use std::io::{Read, Write};
    let address = stderr.split_once("metrics at http://").and_then(|(_, rest)| rest.split_once("/metrics"));
    let (address, _) = address.unwrap_or_else(|| panic!("no address of metrics: {stderr}"));
    let mut page = String::new();
    assert!(
        holds_within(Duration::from_secs(10), || {
            let Ok(mut stream) = std::net::TcpStream::connect(address) else { return false };
            let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: suite\r\nConnection: close\r\n\r\n");
            asked.and_then(|()| stream.read_to_string(&mut page)).is_ok_and(|length| 0 < length)
        }),
        "the metrics do not answer"
    );
    page
}
