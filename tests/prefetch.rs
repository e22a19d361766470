//! `dray prefetch` with real servers: mixed origins, failures beside successes, room, priorities, stops and re-runs.

mod rig;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dray_arena::{HubArena, Kept, Repo};
use rustix::process::Signal;
use serde_json::Value;

use rig::dray::{Dray, Run};
use rig::hub::committed;
use rig::nginx::{Nginx, Options};
use rig::oracle::{Content, Expected, MIB, change_times, tree};
use rig::server::wait_until;
use rig::{fake_gcs, folder, nginx, weed};

/// What the process may hold with the default budget of 64 MiB: slabs, program, threads, TLS.
const RESIDENT_MAX: u64 = 96 * MIB;

/// A folder with a list in it, and the folder that the models go to.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: folder() }
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("write");
        path
    }

    /// `dray prefetch LIST --into DIR --report FILE` of a list with this text.
    fn prefetch(&self, list: &str) -> Dray {
        let list = self.write("list", list);
        let [into, report] = [self.models(), self.report_path()];
        let [list, into, report] = [&list, &into, &report].map(|path| path.to_str().expect("UTF-8").to_owned());
        Dray::new(["prefetch", &list, "--into", &into, "--report", &report])
    }

    fn report_path(&self) -> PathBuf {
        self.folder.path().join("report.json")
    }

    fn report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.report_path()).expect("a report")).expect("JSON")
    }
}

/// The models of a report as (name, exit, bytes fetched).
fn rows(report: &Value) -> Vec<(String, u64, u64)> {
    let row = |row: &Value| {
        let number = |value: &Value| value.as_u64().expect("a number");
        let name = row["name"].as_str().expect("a name").to_owned();
        (name, number(&row["exit"]), number(&row["report"]["bytes"]["fetched"]))
    };
    report["models"].as_array().expect("models").iter().map(row).collect()
}

/// The table on stdout: its rows' first two columns.
fn outcomes(run: &Run) -> Vec<(String, String)> {
    let words = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((words.next()?, words.next()?))
    };
    run.stdout.lines().skip(1).map(|line| words(line).expect("two columns")).collect()
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(name, outcome)| ((*name).to_owned(), (*outcome).to_owned())).collect()
}

/// Bytes of the requests that have ended so far, while others go on.
fn logged(nginx: &Nginx, part: &str) -> u64 {
    nginx.logged(part).iter().map(|request| request.bytes).sum()
}

/// A file that an nginx serves.
fn served(nginx: &Nginx, path: &str, seed: u64, size: u64) -> Content {
    let content = Content::new(seed, size);
    content.write_file(&nginx.root().join(path));
    content
}

#[test]
fn models_of_mixed_origins_are_sealed_beside_a_missing_one_and_a_wrong_pin() {
    let (nginx, place) = (nginx(), Place::new());
    let web = served(&nginx, "web/weights", 1, 9 * MIB + 1);
    let pinned = served(&nginx, "pinned.bin", 2, 3 * MIB);
    let [s3, small, gs, hub] =
        [(3, 20 * MIB), (4, 7), (5, 5 * MIB), (6, 2 * MIB)].map(|(seed, size)| Content::new(seed, size));
    let bucket = weed().bucket("prefetch");
    bucket.put(&[("iris/a/weights", &s3), ("iris/config.json", &small), ("iris/notes.txt", &small)]);
    let gcs = fake_gcs().bucket("prefetch");
    gcs.put(&[("m/part", &gs)]);
    let files = [("config.json", &small, Kept::Git), ("model.safetensors", &hub, Kept::Lfs)];
    let arena = HubArena::start([committed(Repo::model("org/model"), "main", &files)]).expect("start the Hub");
    // A lock of other bytes under the same name.
    let other = folder();
    served(&nginx, "other/pinned.bin", 7, 3 * MIB);
    Dray::pull(&nginx.http("other/pinned.bin"), other.path()).run().assert_sealed();
    fs::copy(other.path().join(".dray/receipt.json"), place.folder.path().join("wrong.lock")).expect("copy");

    let list = format!(
        "models:\n\
         - {{ uri: '{}', name: s3, priority: 5, ignore: ['*.txt'] }}\n\
         - '{}'\n\
         - {{ uri: '{}', name: lost, priority: 9 }}\n\
         - {{ uri: '{}', name: hub, subdir: hub/org-model }}\n\
         - {{ uri: '{}', name: pinned, pin: wrong.lock }}\n\
         - {{ uri: '{}', name: gs }}\n",
        bucket.uri("iris"),
        nginx.http("web/weights"),
        bucket.uri("lost"),
        "hf://org/model",
        nginx.http("pinned.bin"),
        gcs.uri("m"),
    );
    let prefetch = || gcs.here(place.prefetch(&list)).s3(&weed().endpoint()).env("HF_ENDPOINT", arena.endpoint());
    let run = prefetch().run();
    let line = run.assert_fails(5);
    assert!(line.contains("2 of 6 models failed; pinned: "), "{line}");
    let expected = [
        ("lost", "not_found"),
        ("s3", "sealed"),
        ("weights", "sealed"),
        ("hub", "sealed"),
        ("pinned", "integrity"),
        ("gs", "sealed"),
        ("all", "integrity"),
    ];
    assert_eq!(outcomes(&run), pairs(&expected));
    let into = place.models();
    Expected::of([("a/weights", &s3), ("config.json", &small)]).assert_sealed(&into.join("s3"));
    Expected::of([("weights", &web)]).assert_sealed(&into.join("weights"));
    Expected::of([("config.json", &small), ("model.safetensors", &hub)]).assert_sealed(&into.join("hub/org-model"));
    Expected::of([("part", &gs)]).assert_sealed(&into.join("gs"));
    assert!(!into.join("lost").exists(), "nothing is made for a model that is not there");
    assert_eq!(tree(&into.join("pinned")).len(), 0, "what its pin refutes has no final name");

    let report = place.report();
    assert_eq!(report["schema"], "dray.prefetch/1");
    assert_eq!(report["outcome"], "integrity");
    let exits: Vec<(String, u64)> = rows(&report).into_iter().map(|(name, exit, _)| (name, exit)).collect();
    let expected = [("lost", 3), ("s3", 0), ("weights", 0), ("hub", 0), ("pinned", 5), ("gs", 0)];
    assert_eq!(exits, expected.map(|(name, exit)| (name.to_owned(), exit)));
    let one = &report["models"][1]["report"];
    assert_eq!((&one["schema"], &one["outcome"]), (&"dray.report/1".into(), &"sealed".into()));
    assert_eq!(one["files"].as_array().map(Vec::len), Some(2), "{one}");
    let resident = report["rss_bytes_max"].as_u64().expect("a number");
    assert!(0 < resident && resident <= RESIDENT_MAX, "{resident}");

    // The pin mended: the rest is left alone, and only what is missing is fetched.
    let before = change_times(&into.join("s3"));
    fs::remove_file(place.folder.path().join("wrong.lock")).expect("remove");
    let right = folder();
    Dray::pull(&nginx.http("pinned.bin"), right.path()).run().assert_sealed();
    fs::copy(right.path().join(".dray/receipt.json"), place.folder.path().join("wrong.lock")).expect("copy");
    prefetch().run().assert_fails(3);
    let fetched: Vec<u64> = rows(&place.report()).into_iter().map(|(_, _, fetched)| fetched).collect();
    // What the wrong pin refuted was durable, and is just what the right one wants.
    assert_eq!(fetched, [0; 6]);
    assert_eq!(change_times(&into.join("s3")), before);
    Expected::of([("pinned.bin", &pinned)]).assert_sealed(&into.join("pinned"));
}

#[test]
fn a_run_that_is_killed_half_way_fetches_nothing_durable_again() {
    const SIZE: u64 = 48 * MIB;
    let nginx = Nginx::start(&Options { limit_rate: "12m", upstream: None });
    let place = Place::new();
    let models: Vec<Content> =
        (0..3).map(|number| served(&nginx, &format!("m{number}/weights"), 10 + number, SIZE)).collect();
    let list: String = (0..3)
        .map(|number| format!("- {{ uri: '{}', name: m{number} }}\n", nginx.slow(&format!("m{number}/weights"))))
        .collect();
    let prefetch = || place.prefetch(&list).args(["--connections", "4"]);
    let mut running = prefetch().spawn();
    let first = place.models().join("m0/.dray/receipt.json");
    wait_until("one model is sealed and the next begun", Duration::from_secs(60), || {
        assert!(!running.has_ended(), "the run ended before it was stopped");
        first.exists() && 16 * MIB <= logged(&nginx, "m1")
    });
    running.signal(Signal::KILL);
    assert!(running.wait().killed());
    let before: Vec<u64> = (0..3).map(|number| nginx.bytes_sent(&format!("m{number}"))).collect();
    assert_eq!(before[2], 0, "one model after another");

    let run = prefetch().run();
    run.assert_code(0);
    assert_eq!(outcomes(&run), pairs(&[("m0", "sealed"), ("m1", "sealed"), ("m2", "sealed"), ("all", "sealed")]));
    for (number, content) in models.iter().enumerate() {
        Expected::of([("weights", content)]).assert_sealed(&place.models().join(format!("m{number}")));
    }
    let sent: Vec<u64> = (0..3).map(|number| nginx.bytes_sent(&format!("m{number}"))).collect();
    assert_eq!(sent[0], before[0], "a sealed model is not asked for bytes");
    let report = place.report();
    let half = &report["models"][1]["report"]["bytes"];
    let (fetched, reused) = (half["fetched"].as_u64().expect("fetched"), half["reused"].as_u64().expect("reused"));
    assert_eq!(fetched + reused, SIZE);
    assert_eq!(report["bytes"]["reused"].as_u64(), Some(SIZE + reused));
    let again = sent[1] - before[1];
    assert!(again <= fetched + MIB, "sent {again} for {fetched}");
}

#[test]
fn a_stop_ends_the_whole_and_the_rest_is_not_begun() {
    let nginx = Nginx::start(&Options { limit_rate: "256k", upstream: None });
    let place = Place::new();
    let content = served(&nginx, "a/weights", 20, 64 * MIB);
    served(&nginx, "b/weights", 21, MIB);
    let list = format!(
        "- {{ uri: '{}', name: later }}\n- {{ uri: '{}', name: first, priority: 1 }}\n",
        nginx.http("b/weights"),
        nginx.slow("a/weights")
    );
    let mut running = place.prefetch(&list).args(["--connections", "4"]).spawn();
    let parts = place.models().join("first/.dray/parts");
    wait_until("the first model is begun", Duration::from_secs(30), || {
        assert!(!running.has_ended(), "the run ended before it was stopped");
        parts.is_dir() && tree(&parts).len() == 1
    });
    running.signal(Signal::TERM);
    let run = running.wait();
    let line = run.assert_fails(143);
    assert!(line.contains("run the same command again to resume"), "{line}");
    let table = [("first", "interrupted"), ("later", "interrupted"), ("all", "interrupted")];
    assert_eq!(outcomes(&run), pairs(&table));
    assert_eq!(nginx.bytes_sent("b/weights"), 0);
    assert!(!place.models().join("later").exists());
    let quick = list.replace(&nginx.slow("a/weights"), &nginx.http("a/weights"));
    place.prefetch(&quick).run().assert_code(0);
    Expected::of([("weights", &content)]).assert_sealed(&place.models().join("first"));
}

#[test]
fn models_that_do_not_fit_together_are_refused_before_the_first_byte() {
    let (nginx, place) = (nginx(), Place::new());
    served(&nginx, "weights", 30, MIB);
    let holes = fs::File::create(nginx.root().join("vast")).expect("create");
    holes.set_len(8 << 40).expect("a file of holes");
    let list = format!("{}\n{}\n", nginx.http("weights"), nginx.http("vast"));
    let run = place.prefetch(&list).run();
    let line = run.assert_fails(9);
    assert!(
        line.contains("more disk space") && line.contains("are free") && line.contains("nothing was fetched"),
        "{line}"
    );
    assert!(!place.models().exists());
    assert_eq!(nginx.bytes_sent("weights"), 0);
    assert_eq!(place.report()["outcome"], "disk_full");
    let exits: Vec<u64> = rows(&place.report()).into_iter().map(|(_, exit, _)| exit).collect();
    assert_eq!(exits, [9, 9]);
}

#[test]
fn a_folder_that_cannot_be_used_fails_its_model_alone() {
    let (nginx, place) = (nginx(), Place::new());
    let content = served(&nginx, "good/weights", 60, MIB);
    fs::create_dir(place.models()).expect("create");
    fs::write(place.models().join("bad"), "no folder").expect("write");
    let url = nginx.http("good/weights");
    let run = place.prefetch(&format!("- {{ uri: '{url}', name: bad }}\n- {{ uri: '{url}', name: good }}\n")).run();
    let line = run.assert_fails(2);
    assert!(line.contains("1 of 2 models failed; bad: "), "{line}");
    Expected::of([("weights", &content)]).assert_sealed(&place.models().join("good"));
}

#[test]
fn whole_files_of_a_pull_that_ended_early_need_no_room_again() {
    let place = Place::new();
    let bucket = weed().bucket("prefetch-room");
    let [whole, bad, other] = [(70, 24 * MIB), (71, 5), (72, 5)].map(|(seed, size)| Content::new(seed, size));
    bucket.put(&[("m/a", &whole), ("m/b", &other)]);
    let lock = folder();
    Dray::pull(&bucket.uri("m"), lock.path()).s3(&weed().endpoint()).run().assert_sealed();
    fs::copy(lock.path().join(".dray/receipt.json"), place.folder.path().join("m.lock")).expect("copy");
    bucket.put(&[("m/b", &bad)]);
    let list = format!("- {{ uri: '{}', pin: m.lock }}\n", bucket.uri("m"));
    let prefetch = || place.prefetch(&list).s3(&weed().endpoint()).args(["--progress", "lines"]);
    prefetch().run().assert_fails(5);
    assert!(tree(&place.models().join("m")).contains("a"), "the whole file has its name");
    let run = prefetch().run();
    run.assert_fails(5);
    let told = run.stderr.lines().find(|line| line.contains("of disk space to go")).expect("the room is told");
    assert!(told.contains("; 4.0") || told.contains("; 3.9"), "room for the state alone: {told}");
}

#[test]
fn sources_that_do_not_answer_end_with_the_deadline_of_the_whole() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = silent.local_addr().expect("an address");
    let list: String = (0..9).map(|number| format!("http://{address}/m{number}\n")).collect();
    let place = Place::new();
    let run = place.prefetch(&list).args(["--deadline", "1s"]).run();
    let line = run.assert_fails(7);
    assert!(line.contains("9 of 9 models failed"), "{line}");
    let late = run.stdout.lines().filter(|line| line.contains("network")).count();
    assert_eq!(late, 10, "{}", run.stdout);
    let waits: Vec<f64> = place.report()["models"]
        .as_array()
        .expect("models")
        .iter()
        .map(|row| row["report"]["seconds"].as_f64().expect("seconds"))
        .collect();
    assert!(waits.iter().sum::<f64>() < 9.0, "those whose turn comes after the deadline do not wait: {waits:?}");
}

#[test]
fn a_signal_while_sources_are_asked_ends_the_whole() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = silent.local_addr().expect("an address");
    let list: String = (0..40).map(|number| format!("http://{address}/m{number}\n")).collect();
    let place = Place::new();
    let running = place.prefetch(&list).spawn();
    let _asked = silent.accept().expect("a source is asked");
    wait_until("SIGTERM is heard", Duration::from_secs(30), || running.handles(Signal::TERM));
    running.signal(Signal::TERM);
    let run = running.wait();
    run.assert_fails(143);
    assert_eq!(run.stdout.lines().filter(|line| line.contains("interrupted")).count(), 41, "{}", run.stdout);
    silent.set_nonblocking(true).expect("set");
    let more = std::iter::from_fn(|| silent.accept().ok()).count();
    assert!(more < 8, "{more} further sources were asked");
}

#[test]
fn a_list_comes_from_stdin_and_the_report_goes_to_stdout() {
    let (nginx, into) = (nginx(), folder());
    let content = served(&nginx, "deep/weights", 40, MIB + 1);
    let script = format!(
        "printf '# today\\n%s\\n' '{}' | '{}' prefetch - --into '{}' --json",
        nginx.http("deep/weights"),
        env!("CARGO_BIN_EXE_dray"),
        into.path().display()
    );
    let run = Dray::program("/bin/sh", ["-c", &script]).run();
    run.assert_code(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(rows(&report), [("weights".to_owned(), 0, MIB + 1)]);
    Expected::of([("weights", &content)]).assert_sealed(&into.path().join("weights"));
}

#[test]
fn mistakes_are_told_before_anything_moves() {
    let place = Place::new();
    let list = "s3://bucket/m\n";
    for (text, extra, why) in [
        ("", &[][..], "names no model"),
        ("ftp://host/m\n", &[], "model 1: the source's scheme"),
        ("- {uri: s3://bkt/m, pin: nowhere.lock}\n", &[], "m: --pin"),
        ("- {uri: s3://bkt/m, allow: ['[']}\n", &[], "m: --allow"),
        (list, &["--pin", "x.lock"][..], "name it in the list"),
        (list, &["--memory", "1MiB"], "--memory"),
    ] {
        let run = place.prefetch(text).args(extra).run();
        let line = run.assert_fails(2);
        assert!(line.contains(why), "{text}: {line}");
        assert!(!place.models().exists() && run.stdout.is_empty());
    }
    let nowhere = Dray::new(["prefetch", "/nowhere/list", "--into", "x"]).run();
    assert!(nowhere.assert_fails(2).contains("/nowhere/list"));
    let run = Dray::new([Path::new("prefetch"), &place.write("list", list)]).run();
    run.assert_fails(2);
    assert!(run.stderr.contains("--into"), "{}", run.stderr);
}

#[test]
fn a_deadline_bounds_all_models_together() {
    let nginx = Nginx::start(&Options { limit_rate: "1m", upstream: None });
    let place = Place::new();
    for name in ["a", "b"] {
        served(&nginx, &format!("{name}/weights"), 50, 256 * MIB);
    }
    let list = format!(
        "- {{ uri: '{}', name: a }}\n- {{ uri: '{}', name: b }}\n",
        nginx.slow("a/weights"),
        nginx.slow("b/weights")
    );
    let run = place.prefetch(&list).args(["--deadline", "1s"]).run();
    let line = run.assert_fails(7);
    assert!(line.contains("2 of 2 models failed; a: the deadline passed"), "{line}");
    assert_eq!(nginx.bytes_sent("b/weights"), 0);
}

/// Models of this list that have begun and not ended: they have a part file.
fn under_way(place: &Place, names: &[String]) -> usize {
    let begun = |name: &&String| {
        let parts = place.models().join(name).join(".dray/parts");
        fs::read_dir(parts).is_ok_and(|mut files| files.next().is_some())
    };
    names.iter().filter(begun).count()
}

/// A list of models of one file each, all served slowly.
fn slow_list(nginx: &Nginx, names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("- {{ uri: '{}', name: {name} }}\n", nginx.slow(&format!("{name}/weights"))))
        .collect()
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

#[test]
fn small_models_are_pulled_at_once_within_the_connections_and_in_their_order() {
    let nginx = Nginx::start(&Options { limit_rate: "256k", upstream: None });
    let place = Place::new();
    let names = numbered("m", 6);
    let models: Vec<Content> =
        (80..).zip(&names).map(|(seed, name)| served(&nginx, &format!("{name}/weights"), seed, 3 * MIB)).collect();
    let list = slow_list(&nginx, &names);
    let mut running = place.prefetch(&list).args(["--connections", "4"]).spawn();
    wait_until("four models are under way", Duration::from_secs(30), || {
        assert!(!running.has_ended(), "the run ended before four were under way");
        under_way(&place, &names) == 4
    });
    let begun: Vec<bool> = names.iter().map(|name| place.models().join(name).exists()).collect();
    assert_eq!(begun, [true, true, true, true, false, false], "the others wait for a connection");
    running.signal(Signal::TERM);
    let run = running.wait();
    let line = run.assert_fails(143);
    assert!(line.contains("run the same command again to resume"), "{line}");
    assert_eq!(run.stdout.lines().filter(|line| line.contains("interrupted")).count(), 7, "{}", run.stdout);
    assert!(!place.models().join("m5").exists(), "nothing begins after a signal");

    let quick = names.iter().fold(list, |list, name| {
        let path = format!("{name}/weights");
        list.replace(&nginx.slow(&path), &nginx.http(&path))
    });
    place.prefetch(&quick).args(["--connections", "4"]).run().assert_code(0);
    let rows: Vec<String> = rows(&place.report()).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(rows, names, "the report keeps the order of the list, whoever ends first");
    for (name, content) in names.iter().zip(&models) {
        Expected::of([("weights", content)]).assert_sealed(&place.models().join(name));
    }
}

#[test]
fn nothing_overtakes_a_model_that_waits_for_all_connections() {
    let nginx = Nginx::start(&Options { limit_rate: "256k", upstream: None });
    let place = Place::new();
    for (seed, (name, size)) in (90..).zip([("small", MIB), ("large", 64 * MIB), ("last", MIB)]) {
        served(&nginx, &format!("{name}/weights"), seed, size);
    }
    let names = ["small", "large", "last"].map(str::to_owned);
    let mut running = place.prefetch(&slow_list(&nginx, &names)).args(["--connections", "4"]).spawn();
    wait_until("the small model is under way", Duration::from_secs(30), || {
        assert!(!running.has_ended(), "the run ended");
        0 < under_way(&place, &names)
    });
    // Until the small one is whole: longer than a model takes to begin.
    wait_until("the small model ends", Duration::from_secs(60), || {
        assert!(!running.has_ended(), "the run ended");
        if place.models().join("small/.dray/receipt.json").exists() {
            return true;
        }
        let begun = place.models().join("large").exists() || place.models().join("last").exists();
        assert!(!begun || place.models().join("small/.dray/receipt.json").exists(), "begun beside a model before it");
        false
    });
    wait_until("the large model is under way", Duration::from_secs(30), || {
        place.models().join("large/.dray/parts").exists()
    });
    assert!(!place.models().join("last").exists(), "a large model has all connections");
    running.signal(Signal::TERM);
    running.wait().assert_fails(143);
    assert_eq!(nginx.bytes_sent("last/weights"), 0);
}

#[test]
fn one_rate_holds_over_models_that_are_pulled_at_once() {
    const RATE: u64 = 4 * MIB;
    let (nginx, place) = (nginx(), Place::new());
    let names = numbered("rate", 6);
    for (seed, name) in (100..).zip(&names) {
        served(&nginx, &format!("{name}/weights"), seed, 2 * MIB);
    }
    let urls: String = names
        .iter()
        .map(|name| format!("- {{ uri: '{}', name: {name} }}\n", nginx.http(&format!("{name}/weights"))))
        .collect();
    let began = std::time::Instant::now();
    place.prefetch(&urls).args(["--limit-rate", "4MiB"]).run().assert_code(0);
    // A tenth of a second may pass as a burst, and each of two reads per lane is paid for after it came.
    let least = Duration::from_secs_f64((12 * MIB - 2 * MIB) as f64 / RATE as f64);
    assert!(least < began.elapsed(), "{:?} for 12 MiB at 4 MiB/s", began.elapsed());
}

#[test]
fn many_small_models_share_memory_and_connections_and_fail_alone() {
    const COUNT: usize = 48;
    let (nginx, place) = (nginx(), Place::new());
    let names = numbered("small", COUNT);
    let models: Vec<Content> =
        (200..).zip(&names).map(|(seed, name)| served(&nginx, &format!("{name}/weights"), seed, 2 * MIB + 7)).collect();
    let other = folder();
    served(&nginx, "elsewhere/weights", 300, 2 * MIB + 7);
    Dray::pull(&nginx.http("elsewhere/weights"), other.path()).run().assert_sealed();
    fs::copy(other.path().join(".dray/receipt.json"), place.folder.path().join("wrong.lock")).expect("copy");
    let line = |(number, name): (usize, &String)| {
        let (path, pin) = match number {
            5 => (format!("{name}/lost"), ""),
            9 => (format!("{name}/weights"), ", pin: wrong.lock"),
            _ => (format!("{name}/weights"), ""),
        };
        format!("- {{ uri: '{}', name: {name}{pin} }}\n", nginx.http(&path))
    };
    let list: String = names.iter().enumerate().map(line).collect();
    let run = place.prefetch(&list).run();
    let line = run.assert_fails(5);
    assert!(line.contains("2 of 48 models failed; small9: "), "{line}");
    let report = place.report();
    for (number, (name, exit, fetched)) in rows(&report).into_iter().enumerate() {
        assert_eq!(name, names[number]);
        let expected = match number {
            5 => (3, 0),
            9 => (5, fetched),
            _ => (0, 2 * MIB + 7),
        };
        assert_eq!((exit, fetched), expected, "{name}");
        if exit == 0 {
            Expected::of([("weights", &models[number])]).assert_sealed(&place.models().join(&name));
        }
    }
    let gets = nginx.requests("small").into_iter().filter(|request| request.method == "GET");
    let connections: BTreeSet<u64> = gets.map(|request| request.connection).collect();
    assert!(connections.len() < COUNT / 2, "a connection is used again: {} for {COUNT}", connections.len());
    let resident = report["rss_bytes_max"].as_u64().expect("a number");
    assert!(resident <= RESIDENT_MAX, "{resident}");
    let cpu = |value: &Value| value["cpu_seconds"].as_f64().expect("seconds");
    let each: Vec<f64> = report["models"].as_array().expect("models").iter().map(|row| cpu(&row["report"])).collect();
    assert!(each.iter().all(|seconds| 0.0 <= *seconds), "{each:?}");
    assert!(each.iter().sum::<f64>() <= cpu(&report), "{each:?} of {}", cpu(&report));
    assert!(place.models().join("small9/.dray").exists(), "what a pin refutes stays to be resumed");

    // Everything is there: nothing is asked but what failed.
    let sent = nginx.bytes_sent("small1/weights");
    place.prefetch(&list).run().assert_fails(5);
    assert_eq!(nginx.bytes_sent("small1/weights"), sent);
}

#[test]
fn models_that_were_killed_at_once_go_on_and_sealed_ones_are_left_alone() {
    let nginx = Nginx::start(&Options { limit_rate: "1m", upstream: None });
    let place = Place::new();
    let names = numbered("k", 8);
    let models: Vec<Content> = (400..)
        .zip(&names)
        .map(|(seed, name)| {
            // The first two are over soon, the others are cut in the middle.
            let size = if seed < 402 { 1000 } else { 4 * MIB };
            served(&nginx, &format!("{name}/weights"), seed, size)
        })
        .collect();
    let list = slow_list(&nginx, &names);
    let prefetch = || place.prefetch(&list).args(["--connections", "6"]);
    let mut running = prefetch().spawn();
    wait_until("two are sealed and others under way", Duration::from_secs(60), || {
        assert!(!running.has_ended(), "the run ended before it was stopped");
        let sealed = |name: &str| place.models().join(name).join(".dray/receipt.json").exists();
        sealed("k0") && sealed("k1") && 2 <= under_way(&place, &names)
    });
    running.signal(Signal::KILL);
    assert!(running.wait().killed());
    let before = nginx.bytes_sent("k0/weights") + nginx.bytes_sent("k1/weights");
    prefetch().run().assert_code(0);
    for (name, content) in names.iter().zip(&models) {
        Expected::of([("weights", content)]).assert_sealed(&place.models().join(name));
    }
    assert_eq!(nginx.bytes_sent("k0/weights") + nginx.bytes_sent("k1/weights"), before);
}
