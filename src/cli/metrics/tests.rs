use std::time::Instant;

use super::*;
use crate::engine::Phase;
use crate::schedule::{Brake, Progress};

#[test]
fn addresses_need_a_port_and_no_name() {
    for (text, shown) in
        [("127.0.0.1:9090", "127.0.0.1:9090"), (":9090", ":9090"), ("[::1]:0", "[::1]:0"), (":0", ":0")]
    {
        assert_eq!(parse_address(text).map(|address| address.to_string()), Ok(shown.to_owned()));
    }
    for text in ["", ":", "9090", "127.0.0.1", "localhost:9090", ":99999", "::1:9090", "http://127.0.0.1:1", ":-1"] {
        assert!(parse_address(text).is_err(), "{text}");
    }
}

fn snapshot(phase: Phase, seconds: u64, bytes: u64, brake: Brake) -> Snapshot {
    let progress = Progress {
        bytes_total: 100,
        bytes_fetched: bytes,
        bytes_durable: bytes,
        requests_retried: 1,
        files_total: 2,
        ..Progress::default()
    };
    Snapshot { phase, elapsed: Duration::from_secs(seconds), progress, brake, read_bytes: 5, ..Snapshot::default() }
}

#[test]
fn counts_add_up_over_pulls_and_readiness_waits_for_the_last() {
    let figures = Figures::new(2, Duration::from_secs(10), Counters::default());
    for (number, fetched) in [(1, 60), (2, 140)] {
        let run = figures.begin();
        figures.take(run, &Snapshot::default());
        assert!(!figures.view(Instant::now()).ready());
        figures.take(run, &snapshot(Phase::Fetching, 2, 20, Brake::Disk));
        figures.take(run, &snapshot(Phase::Fetching, 3, fetched - (number - 1) * 60, Brake::Network));
        let done = snapshot(Phase::Sealed, 4, fetched - (number - 1) * 60, Brake::Network);
        figures.take(run, &done);
        figures.take(run, &done);
        let view = figures.view(Instant::now());
        assert_eq!((view.sums.bytes_fetched, view.sums.bytes_planned), (fetched, 100 * number));
        assert_eq!(
            (view.sums.bytes_read, view.sums.requests_retried, view.sums.files_planned),
            (5 * number, number, 2 * number)
        );
        assert_eq!(view.brakes[0], Duration::from_secs(number), "network");
        assert_eq!(view.brakes[3], Duration::from_secs(2 * number), "disk");
    }
    assert!(figures.view(Instant::now()).ready() && figures.view(Instant::now()).healthy());
}

#[test]
fn pulls_at_once_add_up_and_no_count_falls_when_one_ends() {
    let figures = Figures::new(3, Duration::from_secs(10), Counters::default());
    let [one, two] = [figures.begin(), figures.begin()];
    figures.take(one, &snapshot(Phase::Fetching, 2, 20, Brake::Disk));
    figures.take(two, &snapshot(Phase::Fetching, 2, 30, Brake::Disk));
    let fetched = || figures.view(Instant::now()).sums.bytes_fetched;
    assert_eq!(fetched(), 50);
    assert_eq!(figures.view(Instant::now()).brakes[3], Duration::from_secs(2), "each has half of the time");
    figures.take(one, &snapshot(Phase::Sealed, 3, 40, Brake::Network));
    assert_eq!(fetched(), 70);
    let three = figures.begin();
    assert_eq!(fetched(), 70, "what has ended is kept");
    figures.take(three, &snapshot(Phase::Fetching, 1, 5, Brake::Disk));
    figures.take(two, &snapshot(Phase::Stopped, 3, 35, Brake::Network));
    let view = figures.view(Instant::now());
    assert_eq!((view.sums.bytes_fetched, view.sealed, view.now.phase), (80, 1, Phase::Fetching));
}

#[test]
fn health_lasts_for_the_stall_timeout_after_a_move() {
    let counters = Counters::default();
    let stall = Duration::from_secs(10);
    let figures = Figures::new(1, stall, counters.clone());
    let run = figures.begin();
    let mut now = Instant::now();
    let moves: [&dyn Fn(); 5] = [
        &|| counters.answered(),
        &|| figures.take(run, &Snapshot { phase: Phase::Waiting, ..Snapshot::default() }),
        &|| figures.take(run, &Snapshot { phase: Phase::Waiting, moves: 1, ..Snapshot::default() }),
        &|| figures.take(run, &Snapshot { phase: Phase::Reading, read_bytes: 1, ..Snapshot::default() }),
        &|| figures.take(run, &snapshot(Phase::Reading, 1, 0, Brake::Network)),
    ];
    for (number, act) in moves.into_iter().enumerate() {
        act();
        assert!(figures.view(now).healthy(), "move {number}");
        // The same again is no move.
        figures.look(now + stall / 2);
        assert!(figures.view(now + stall - Duration::from_millis(1)).healthy(), "just in time after move {number}");
        now += stall;
        let view = figures.view(now);
        assert!(!view.healthy(), "nothing after move {number}");
        assert_eq!(view.idle, stall);
    }
    figures.take(run, &Snapshot { phase: Phase::Sealed, ..Snapshot::default() });
    assert!(figures.view(now + stall * 9).healthy(), "nothing has to move any more");
}
