//! SIGKILL at seeded random points, started again until done.
//!
//! Half of the kills fall in the last tenth of the bytes and the sealing after it. A final name must
//! never stand over wrong bytes, and a kill may cost no more than 64 MiB of bytes sent again.
//! `DRAY_KILLS` is the number of kills a backend (20; `make kill9` takes 200), `SEED` replays.

mod rig;

use std::path::Path;
use std::thread;
use std::time::Duration;

use rig::dray::{Dray, Running};
use rig::nginx::Nginx;
use rig::oracle::{Content, Expected, MIB, Random};
use rig::{folder, nginx_before_weed, weed};
use rustix::process::Signal;

const LARGE: u64 = 256 * MIB;
const LOST_MAX_PER_KILL: u64 = 64 * MIB;
/// More kills than this in one chain would leave no last tenth to kill in.
const CHAIN_MAX: u64 = 4;
/// Four connections of this rate take about a second for `LARGE`.
const RATE: &str = "60m";

/// A source, what it must become, and where its bytes are counted.
struct Subject<'a> {
    nginx: &'a Nginx,
    src: String,
    /// Part of the path and query of every data request.
    counted: &'static str,
    expected: Expected,
}

impl Subject<'_> {
    fn pull(&self, dest: &Path, rung: &str) -> Dray {
        Dray::pull(&self.src, dest).s3(&self.nginx.slow_s3()).args(["--io", rung, "--connections", "4"])
    }

    fn sent_since(&self, mark: u64) -> u64 {
        self.nginx.logged_since(mark, self.counted).iter().map(|request| request.bytes).sum()
    }
}

/// Where a kill falls: once this many bytes of the chain have been sent, and a moment later.
struct Point {
    late: bool,
    bytes: u64,
    delay: Duration,
}

impl Point {
    fn draw(random: &mut Random, late: bool, total: u64) -> Self {
        // nginx logs a span when it is whole: the moments after it reach what lies between two lines.
        let delay = Duration::from_micros(random.below(200_000));
        let bytes = if late { total / 10 * 9 + random.below(total / 10) } else { random.below(total / 10 * 9) };
        Self { late, bytes: bytes.saturating_sub(8 * MIB), delay }
    }

    /// Waits for the point, and kills. False when the run ended by itself before.
    fn strike(&self, running: &mut Running, subject: &Subject<'_>, mark: u64) -> bool {
        while subject.sent_since(mark) < self.bytes {
            if running.has_ended() {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(self.delay);
        if running.has_ended() {
            return false;
        }
        running.signal(Signal::KILL);
        true
    }
}

/// Kills that struck.
#[derive(Default)]
struct Kills {
    all: u64,
    late: u64,
}

/// Kills one pull several times and then lets it end.
fn chain(subject: &Subject<'_>, rung: &str, random: &mut Random, kills_max: u64) -> Kills {
    let around = folder();
    let dest = around.path().join("dest");
    let total = subject.expected.total();
    let sent_before = subject.nginx.bytes_sent(subject.counted);
    let mark = subject.nginx.mark();
    let mut points: Vec<Point> = (0..kills_max).map(|i| Point::draw(random, i % 2 == 0, total)).collect();
    points.sort_by_key(|point| point.bytes);
    let mut kills = Kills::default();
    for point in points {
        let mut running = subject.pull(&dest, rung).spawn();
        let struck = point.strike(&mut running, subject, mark);
        let run = running.wait();
        subject.expected.assert_only_whole_files(&dest);
        if struck && run.killed() {
            kills.all += 1;
            kills.late += u64::from(point.late);
        } else {
            run.assert_sealed();
            break;
        }
    }
    subject.pull(&dest, rung).run().assert_sealed();
    subject.expected.assert_sealed(&dest);
    let sent = subject.nginx.bytes_sent(subject.counted) - sent_before;
    let sent_max = total + kills.all * LOST_MAX_PER_KILL;
    assert!(sent <= sent_max, "{sent} bytes sent for {total} and {} kills", kills.all);
    kills
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}

/// Chains over both subjects until enough kills have struck.
fn kill_until_enough(subjects: &[Subject<'_>], rung: &str) {
    let wanted = number("DRAY_KILLS", 20);
    let seed = number("SEED", 2026);
    let mut random = Random::new(seed);
    let mut kills = Kills::default();
    let mut chains = 0;
    while kills.all < wanted {
        let subject = &subjects[chains % subjects.len()];
        let kills_max = (1 + random.below(CHAIN_MAX)).min(wanted - kills.all);
        println!("SEED={seed} chain {chains}: {} {rung}, up to {kills_max} kills after {}", subject.src, kills.all);
        let struck = chain(subject, rung, &mut random, kills_max);
        kills = Kills { all: kills.all + struck.all, late: kills.late + struck.late };
        chains += 1;
        assert!(chains <= 20 + 4 * usize::try_from(wanted).expect("a count"), "kills keep missing");
    }
    println!("{rung}: {} kills, {} of them in the last tenth, in {chains} chains", kills.all, kills.late);
}

fn subjects<'a>(nginx: &'a Nginx, bucket: &str) -> [Subject<'a>; 2] {
    let large = Content::new(1, LARGE);
    large.write_file(&nginx.root().join("single-weights"));
    let single = Subject {
        nginx,
        src: nginx.slow("single-weights"),
        counted: "/single-weights",
        expected: Expected::of([("single-weights", &large)]),
    };
    let bucket = weed().bucket(bucket);
    let small = [("config.json", 700), ("empty", 0), ("tokenizer/vocab", 3 * MIB + 1), ("tail", 9 * MIB - 5)]
        .map(|(name, size)| (name, Content::new(size, size)));
    bucket.put_multipart("prefix/weights", &large, 16 * MIB, Some(("CRC64NVME", "FULL_OBJECT")));
    for (name, content) in &small {
        bucket.put(&[(&format!("prefix/{name}"), content)]);
    }
    let files = small.iter().map(|(name, content)| (*name, content)).chain([("weights", &large)]);
    let expected = Expected::of(files);
    [single, Subject { nginx, src: bucket.uri("prefix"), counted: "/prefix/", expected }]
}

#[test]
fn sigkill_at_any_point_leaves_a_resumable_folder_with_uring() {
    let nginx = nginx_before_weed(RATE);
    kill_until_enough(&subjects(&nginx, "kill-uring"), "uring");
}

#[test]
fn sigkill_at_any_point_leaves_a_resumable_folder_with_threads() {
    let nginx = nginx_before_weed(RATE);
    kill_until_enough(&subjects(&nginx, "kill-threads"), "threads");
}

#[test]
fn sigkill_of_a_lone_piece_leaves_nothing_or_the_whole_file() {
    let nginx = nginx_before_weed(RATE);
    let content = Content::new(7, MIB - 3);
    content.write_file(&nginx.root().join("lone-piece"));
    let expected = Expected::of([("lone-piece", &content)]);
    let seed = number("SEED", 2026);
    let mut random = Random::new(seed);
    let mut kills = 0;
    for round in 0..number("DRAY_KILLS", 20) {
        let around = folder();
        let dest = around.path().join("dest");
        let pull = || Dray::pull(&nginx.slow("lone-piece"), &dest);
        for _ in 0..2 {
            let mut running = pull().spawn();
            // All of a run, from its start to its end, is within this time on most machines.
            thread::sleep(Duration::from_micros(random.below(120_000)));
            if !running.has_ended() {
                running.signal(Signal::KILL);
            }
            kills += u64::from(running.wait().killed());
            expected.assert_only_whole_files(&dest);
        }
        println!("SEED={seed} round {round}: {kills} kills");
        pull().run().assert_sealed();
        expected.assert_sealed(&dest);
        let kept = std::fs::read_dir(dest.join(".dray")).expect("a sealed folder has its state");
        let mut kept: Vec<_> = kept.map(|entry| entry.expect("a name").file_name()).collect();
        kept.sort();
        assert_eq!(kept, ["receipt.json", "tree.b3"]);
    }
    assert!(0 < kills, "every kill missed");
}
