//! The floors: what `dray bench hash|disk|tls|origin|lane` measure, leave behind and refuse. Nothing is said of speed.

mod rig;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dray_arena::{Content as Made, Fault, FaultOrigin, On, Rule, Script};
use rig::dray::{Dray, Run};
use rig::oracle::{Content, MIB, hash_file};
use rig::server::wait_until;
use rig::{folder, nginx, weed};
use rustix::process::Signal;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

const PATH: &str = "/models/weights.bin";
const BOUND: Duration = Duration::from_secs(30);

fn bench(args: &[&str]) -> Dray {
    Dray::new(["bench"]).args(args)
}

/// What `--json -` printed.
#[track_caller]
fn json(run: &Run) -> Value {
    run.assert_code(0);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout));
    assert_eq!(report["schema"], "dray.bench/1");
    assert!(report["machine"]["cpus"].as_u64().expect("CPUs") != 0, "{}", report["machine"]);
    report
}

fn rows(report: &Value) -> &Vec<Value> {
    report["rows"].as_array().expect("rows")
}

fn names(report: &Value) -> Vec<String> {
    rows(report).iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

/// Every row is a floor with `rounds` samples; each moved something and took some time.
#[track_caller]
fn assert_measured(row: &Value, rounds: usize) {
    assert_eq!(row["kind"], "floor", "{row}");
    let samples = row["samples"].as_array().expect("samples");
    assert_eq!(samples.len(), rounds, "{row}");
    for sample in samples {
        let figure = |name: &str| sample[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        assert!(0.0 < figure("bytes") && 0.0 < figure("seconds") && 0.0 < figure("cpu_seconds"), "{row}");
        assert!(figure("seconds") <= figure("synced_seconds"), "{row}");
    }
}

fn bytes(row: &Value) -> Vec<u64> {
    let samples = row["samples"].as_array().expect("samples").iter();
    samples.map(|sample| sample["bytes"].as_u64().expect("bytes")).collect()
}

/// All that is in a folder, state too.
fn everything(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[track_caller]
fn figure(report: &Value, name: &str, unit: &str) -> f64 {
    let figures = report["figures"].as_array().expect("figures");
    let found = figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("{name}: {figures:?}"));
    assert_eq!(found["unit"], unit, "{found}");
    let part = |name: &str| found[name].as_f64().expect("a figure");
    assert!(part("min") <= part("median") && part("median") <= part("max"), "{found}");
    part("median")
}

#[test]
fn every_sum_has_a_row_of_one_core_and_of_all() {
    let report = json(&bench(&["hash", "--rounds", "2", "--seconds", "10ms", "--json", "-"]).run());
    let sums = ["blake3", "blake3 + crc64nvme", "blake3 + crc32c", "sha256", "md5", "sha1"];
    let cpus = report["machine"]["cpus"].as_u64().expect("CPUs");
    let mut expected: Vec<String> = sums.iter().map(|sum| format!("{sum}, 1 core")).collect();
    if cpus != 1 {
        expected.extend(sums.iter().map(|sum| format!("{sum}, {cpus} cores")));
    }
    assert_eq!(names(&report), expected);
    for row in rows(&report) {
        assert_measured(row, 2);
        assert!(bytes(row).iter().all(|bytes| bytes.is_multiple_of(MIB)), "{row}");
        assert_eq!(row["name"].as_str().expect("a name").split(',').next(), row["proof"].as_str());
    }
}

#[test]
fn figures_go_to_a_file_beside_the_table() {
    let out = folder();
    let file = out.path().join("hash.json");
    let run = bench(&["hash", "--seconds", "10ms", "--json", file.to_str().expect("UTF-8")]).run();
    run.assert_code(0);
    for words in ["GiB/s", "CPU-s/GiB", "blake3 + crc64nvme, 1 core", "3 rounds in turn, medians"] {
        assert!(run.stdout.contains(words), "{words} in:\n{}", run.stdout);
    }
    let report: Value = serde_json::from_slice(&fs::read(&file).expect("a report")).expect("JSON");
    assert_eq!(report["rounds"], 3);
    rows(&report).iter().for_each(|row| assert_measured(row, 3));
}

#[test]
fn every_cipher_is_decrypted_both_ways_and_handshakes_are_counted() {
    let report = json(&bench(&["tls", "--rounds", "2", "--seconds", "20ms", "--json", "-"]).run());
    let (last, records) = rows(&report).split_last().expect("rows");
    let expected: Vec<String> = ["AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"]
        .iter()
        .flat_map(|cipher| ["in place", "as a stream"].map(|way| format!("{cipher}, {way}")))
        .collect();
    assert_eq!(names(&report)[..expected.len()], expected);
    records.iter().for_each(|row| assert_measured(row, 2));
    assert_eq!((&last["name"], last["samples"].as_array().map(Vec::len)), (&"full handshakes".into(), Some(0)));
    assert!(0.0 < figure(&report, "both ends in one thread", "1/s"));
    assert!(0.0 < figure(&report, "client's CPU of one", "s"));
}

#[test]
fn the_disk_is_measured_in_every_way_it_allows_and_is_left_as_it_was() {
    let place = folder();
    fs::write(place.path().join("kept"), "x").expect("write");
    let path = place.path().to_str().expect("UTF-8");
    let report = json(&bench(&["disk", path, "--size", "16MiB", "--rounds", "1", "--json", "-"]).run());
    assert_eq!(everything(place.path()), set(&["kept"]));
    let doctor = Dray::new(["doctor", path]).run().stdout;
    let allowed = |what: &str| doctor.contains(what);
    let mut expected = Vec::new();
    for (rung, there) in
        [("uring", allowed("io_uring      allowed")), ("threads", allowed("O_DIRECT")), ("buffered", true)]
    {
        let depths = |size: u64| [1, 2, 4, 8, 16].map(move |depth| format!("{rung} {size} MiB x {depth}"));
        expected.extend([1, 4].into_iter().filter(|_| there).flat_map(depths));
        if rung == "threads" && there {
            expected.extend([1, 4].map(|size| format!("direct {size} MiB, one at a time")));
        }
    }
    expected.push("page cache 1 MiB, one at a time".to_owned());
    assert_eq!(names(&report), expected);
    for row in rows(&report) {
        assert_measured(row, 1);
        assert_eq!((row["durable"].as_bool(), bytes(row)), (Some(true), vec![16 * MIB]), "{row}");
    }
    let best = report["notes"][0].as_str().expect("a note");
    assert!(best.starts_with("the disk's floor: ") && expected.iter().any(|name| best.ends_with(name)), "{best}");
}

#[test]
fn a_disk_run_that_is_interrupted_removes_what_it_wrote() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let place = folder();
        let path = place.path().to_str().expect("UTF-8").to_owned();
        let mut running = bench(&["disk", &path, "--size", "64MiB", "--rounds", "1000"]).spawn();
        wait_until("something is written", BOUND, || {
            assert!(!running.has_ended(), "the run ended before it was stopped");
            fs::read_dir(place.path()).expect("a folder").any(|entry| {
                fs::read_dir(entry.expect("an entry").path().join(".dray/parts")).is_ok_and(|parts| parts.count() != 0)
            })
        });
        running.signal(signal);
        running.wait().assert_fails(code);
        assert_eq!(everything(place.path()), set(&[]));
    }
}

#[test]
fn what_does_not_fit_is_refused_before_the_first_byte() {
    let (nginx, place) = (nginx(), folder());
    let path = place.path().to_str().expect("UTF-8");
    let line = bench(&["disk", path, "--size", "1000TiB"]).run().assert_fails(9).to_owned();
    assert!(line.contains("free, too little to write 1000"), "{line}");
    let holes = fs::File::create(nginx.root().join("vast")).expect("create");
    holes.set_len(8 << 40).expect("a file of holes");
    bench(&["lane", &nginx.http("vast"), path]).run().assert_fails(9);
    assert_eq!(nginx.bytes_sent("vast"), 0);
    assert_eq!(everything(place.path()), set(&[]));
}

/// Fetches `content` by the lane and holds the file against it.
#[track_caller]
fn lands(run: Dray, content: &Content, dest: &Path, name: &str) {
    let report = json(&run.args(["--rounds", "2", "--json", "-"]).run());
    assert_eq!(hash_file(&dest.join(name)), content.blake3);
    assert_eq!(everything(dest), set(&[name]), "nothing but the file");
    let [row] = rows(&report).as_slice() else { panic!("one row: {report}") };
    assert_measured(row, 2);
    assert_eq!(
        (&row["durable"], &row["proof"], bytes(row)),
        (&true.into(), &"blake3, runs alike".into(), vec![content.size; 2])
    );
    let said = format!("blake3 {} of {} bytes", content.blake3.to_hex(), content.size);
    assert_eq!(report["notes"][0], said.as_str());
}

#[test]
fn the_lanes_file_is_the_source_whatever_its_size_by_every_way() {
    let nginx = nginx();
    for (seed, size) in [(1, 1), (2, MIB), (3, 4 * MIB + 1), (4, 33 * MIB + 5)] {
        let content = Content::new(seed, size);
        content.write_file(&nginx.root().join("weights"));
        for url in [nginx.http("weights"), nginx.https("weights")] {
            for io in ["auto", "threads", "buffered"] {
                let dest = folder();
                let path = dest.path().to_str().expect("UTF-8");
                let run = bench(&["lane", &url, path, "--io", io, "--span", "4MiB"]).env("SSL_CERT_FILE", nginx.ca());
                lands(run, &content, dest.path(), "weights");
            }
        }
    }
}

#[test]
fn the_lane_takes_an_object_of_s3_by_a_signed_url() {
    let (content, dest) = (Content::new(9, 9 * MIB + 1), folder());
    let bucket = weed().bucket("floors-lane");
    bucket.put(&[("m/weights", &content)]);
    let path = dest.path().to_str().expect("UTF-8");
    let run = bench(&["lane", &bucket.uri("m/weights"), path]).s3(&weed().endpoint());
    lands(run, &content, dest.path(), "weights");
    let line = bench(&["lane", &bucket.uri("m"), path, "--rounds", "1"]).s3(&weed().endpoint());
    bucket.put(&[("m/other", &content)]);
    assert!(line.run().assert_fails(2).contains("the lane takes one object, the source has 2"));
}

#[test]
fn the_steps_of_the_lane_stand_side_by_side_and_those_without_writes_touch_nothing() {
    let (nginx, content) = (nginx(), Content::new(5, 9 * MIB));
    content.write_file(&nginx.root().join("weights"));
    for (flags, steps) in [
        (&["--no-hash", "--no-write"][..], &["receive"][..]),
        (&["--no-write", "--steps"], &["receive", "receive + hash"]),
        (&["--no-hash"], &["receive + write"]),
        (&["--steps"], &["receive", "receive + hash", "receive + hash + write"]),
    ] {
        let dest = folder();
        let path = dest.path().join("made");
        let url = nginx.http("weights");
        let run = bench(&["lane", &url, path.to_str().expect("UTF-8"), "--rounds", "1", "--json", "-"]).args(flags);
        let report = json(&run.run());
        let seen: Vec<String> = names(&report);
        let seen: Vec<&str> = seen.iter().filter_map(|name| Some(name.split_once(": ")?.1)).collect();
        assert_eq!(seen, steps);
        let writes = steps.iter().any(|step| step.contains("write"));
        assert_eq!(path.exists(), writes, "{flags:?}");
        let hashes = steps.iter().any(|step| step.contains("hash"));
        assert_eq!(report["notes"].as_array().map(Vec::len), Some(usize::from(hashes)), "{flags:?}");
    }
}

#[test]
fn a_reply_that_is_not_what_was_asked_for_ends_the_lane_in_its_class() {
    let gets = |fault| Script::calm().rule(Rule::new(fault).on(On::Get));
    let ways = [&["--io", "threads"][..], &["--io", "auto"]];
    for (code, script) in [
        (7, gets(Fault::ShortBody { after: MIB + 17 })),
        (7, gets(Fault::ShortBody { after: 0 })),
        (7, gets(Fault::ResetMidBody { after: MIB + 17 })),
        (7, gets(Fault::CloseBeforeHeaders)),
        (7, gets(Fault::Ok200ForRange)),
        (7, gets(Fault::WrongRange { shift: MIB })),
        (7, gets(Fault::ShorterRange { by: 100 })),
        (7, gets(Fault::TooLong { extra: 5 })),
        (7, gets(Fault::ExtraBytes { extra: 9 })),
        (7, gets(Fault::ChunkedBody)),
        (7, gets(Fault::Garbage)),
        (7, gets(Fault::Status500)),
        (7, gets(Fault::Redirect { status: 302, location: "/elsewhere".to_owned() })),
        (8, gets(Fault::OtherEtag("\"other\"".to_owned()))),
        (3, gets(Fault::NotFound404)),
        (4, gets(Fault::AccessDenied403)),
    ] {
        for way in ways {
            let origin = FaultOrigin::start(vec![(PATH.to_owned(), Made::generated(1, 9 * MIB))], script.clone());
            let (origin, dest) = (origin.expect("origin"), folder());
            let path = dest.path().to_str().expect("UTF-8");
            let one = ["--rounds", "1", "--span", "4MiB", "--connections", "1"];
            let run = bench(&["lane", &origin.url(PATH), path]).args(one).args(way).run();
            run.assert_fails(code);
            assert_eq!(run.stdout, "");
            assert_eq!(everything(dest.path()), set(&[]), "{script:?}");
        }
    }
}

#[test]
fn two_runs_that_bring_other_bytes_are_no_measurement() {
    let script = Script::calm().rule(Rule::new(Fault::FlipByte { at: 5 * MIB }).on(On::Get).covering(5 * MIB).nth(2));
    let origin = FaultOrigin::start(vec![(PATH.to_owned(), Made::generated(1, 9 * MIB))], script).expect("origin");
    let dest = folder();
    let path = dest.path().to_str().expect("UTF-8");
    let run = bench(&["lane", &origin.url(PATH), path, "--rounds", "2"]).run();
    assert!(run.assert_fails(8).contains("two runs hash to two digests"));
    assert_eq!(everything(dest.path()), set(&[]));
}

/// Serves `size` bytes over TLS, with `extra` bytes in the record that ends each body.
fn chatty(state: &Path, size: usize, extra: usize) -> String {
    let certificate = CertificateDer::from_pem_file(state.with_file_name("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(state.with_file_name("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).expect("TLS"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("https://localhost:{}/weights", listener.local_addr().expect("an address").port());
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).expect("TLS");
            let mut stream = StreamOwned::new(tls, tcp.expect("a connection"));
            thread::spawn(move || {
                while let Some(head) = head(&mut stream) {
                    let range = head.split_once("bytes=").and_then(|(_, range)| range.lines().next()?.split_once('-'));
                    let reply = range.map_or_else(
                        || format!("HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: {size}\r\n\r\n").into_bytes(),
                        |(first, last)| {
                            let length = last.parse::<usize>().expect("a last byte") + 1 - first.parse::<usize>().expect("a first");
                            let lines = format!("HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\nContent-Range: bytes {first}-{last}/{size}\r\nContent-Length: {length}\r\n\r\n");
                            [lines.into_bytes(), vec![0; length + extra]].concat()
                        },
                    );
                    // The client may have left: that is the test's to judge.
                    drop(stream.write_all(&reply).and_then(|()| stream.flush()));
                }
            });
        }
    });
    url
}

/// The next request in lower case; `None` at the end of the connection.
fn head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).expect("UTF-8").to_ascii_lowercase())
}

#[test]
fn bytes_behind_a_body_end_the_lane_over_tls_as_well() {
    let (nginx, dest) = (nginx(), folder());
    let path = dest.path().to_str().expect("UTF-8");
    let size = 9 << 20;
    for io in ["threads", "auto"] {
        let run = |extra| {
            let url = chatty(&nginx.ca(), size, extra);
            let one = ["--rounds", "1", "--span", "4MiB", "--connections", "1", "--no-write", "--io", io];
            bench(&["lane", &url, path]).args(one).env("SSL_CERT_FILE", nginx.ca()).run()
        };
        run(0).assert_code(0);
        let line = run(9).assert_fails(7).to_owned();
        assert!(line.contains("the peer speaks unasked"), "{io}: {line}");
    }
}

#[test]
fn a_file_that_is_there_already_is_not_replaced() {
    let (nginx, dest) = (nginx(), folder());
    Content::new(10, MIB).write_file(&nginx.root().join("taken"));
    fs::write(dest.path().join("taken"), "mine").expect("write");
    let line =
        bench(&["lane", &nginx.http("taken"), dest.path().to_str().expect("UTF-8")]).run().assert_fails(2).to_owned();
    assert!(line.contains("is there already"), "{line}");
    assert_eq!(fs::read_to_string(dest.path().join("taken")).expect("read"), "mine");
    assert_eq!(everything(dest.path()), set(&["taken"]));
    assert_eq!(nginx.bytes_sent("taken"), 0);
}

/// A lane of each kind, and the origin.
const RECEIVERS: [&[&str]; 3] = [
    &["lane", "--no-write", "--span", "4MiB", "--io", "threads"],
    &["lane", "--no-write", "--span", "4MiB"],
    &["origin"],
];

/// `dray bench` of one of [`RECEIVERS`].
fn receiver(args: &[&str], url: &str) -> Dray {
    let dest: &[&str] = if args[0] == "lane" { &[url, "unused"] } else { &[url] };
    bench(args).args(dest)
}

#[test]
fn connections_are_counted_over_all_lanes() {
    for args in RECEIVERS {
        for (wanted, count) in [("1", 1), ("3", 3)] {
            let made = vec![(PATH.to_owned(), Made::generated(1, 65 * MIB))];
            let origin = FaultOrigin::start(made, Script::calm()).expect("origin");
            let bounds = ["--rounds", "1", "--connections", wanted];
            receiver(args, &origin.url(PATH)).args(bounds).run().assert_code(0);
            let log = origin.log();
            let gets: Vec<u64> = log.iter().filter(|seen| seen.method == "GET").map(|seen| seen.connection).collect();
            let used: BTreeSet<&u64> = gets.iter().collect();
            assert!(count < gets.len() && (1..=count).contains(&used.len()), "{args:?} {wanted}: {gets:?}");
        }
    }
}

#[test]
fn a_signal_is_heard_while_an_origin_drips() {
    for args in RECEIVERS {
        let script = Script::calm().rule(Rule::new(Fault::Drip { every: Duration::from_millis(20) }).on(On::Get));
        let made = vec![(PATH.to_owned(), Made::generated(1, 9 * MIB))];
        let origin = FaultOrigin::start(made, script).expect("origin");
        let mut running = receiver(args, &origin.url(PATH)).args(["--rounds", "1"]).spawn();
        wait_until("bytes are sent", BOUND, || {
            assert!(!running.has_ended(), "the run ended before it was stopped");
            origin.body_bytes_sent() != 0
        });
        let asked = Instant::now();
        running.signal(Signal::INT);
        running.wait().assert_fails(130);
        // A stall, which ends it as well, takes 10 s.
        assert!(asked.elapsed() < Duration::from_secs(6), "{args:?}: {:?}", asked.elapsed());
    }
}

/// Answers for a file on the first connection, once nobody else can connect any more: the queue of `listener` is full.
fn answer_when_full(listener: &TcpListener) {
    let (mut client, _) = listener.accept().expect("a client");
    let place = listener.local_addr().expect("an address");
    let queued = (0..10_000).map_while(|_| TcpStream::connect_timeout(&place, Duration::from_millis(200)).ok());
    let _queued: Vec<TcpStream> = queued.collect();
    let (mut seen, mut block) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = client.read(&mut block) {
        seen.extend_from_slice(&block[..read]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 9437184\r\nAccept-Ranges: bytes\r\nETag: \"1\"\r\n\r\n";
            client.write_all(head.as_bytes()).expect("answer");
        }
    }
}

#[test]
fn a_signal_is_heard_while_a_lane_connects() {
    for io in ["threads", "buffered"] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let origin = thread::spawn(move || answer_when_full(&listener));
        let dest = folder();
        let path = dest.path().to_str().expect("UTF-8");
        let url = format!("http://127.0.0.1:{port}/weights");
        let mut running = bench(&["lane", &url, path, "--io", io, "--no-write"]).spawn();
        wait_until("the lane connects", BOUND, || {
            assert!(!running.has_ended(), "{}", running.stderr_so_far());
            connecting(running.id(), port) != 0
        });
        let asked = Instant::now();
        running.signal(Signal::INT);
        running.wait().assert_fails(130);
        // Nobody answers, which ends it as well, after 10 s.
        assert!(asked.elapsed() < Duration::from_secs(6), "{io}: {:?}", asked.elapsed());
        origin.join().expect("the origin");
    }
}

/// Sockets of the process that wait for an answer of `port`, by the kernel's table: state 2 is SYN_SENT.
fn connecting(pid: u32, port: u16) -> usize {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let owners = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links: BTreeSet<_> = owners.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    let waits = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, remote, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return false };
        let of_process = || links.contains(Path::new(&format!("socket:[{inode}]")));
        remote.ends_with(&format!(":{port:04X}")) && *state == "02" && of_process()
    };
    table.lines().filter(waits).count()
}

#[test]
fn a_lane_that_is_interrupted_leaves_nothing() {
    let (nginx, content) = (nginx(), Content::new(6, 64 * MIB));
    content.write_file(&nginx.root().join("weights"));
    for io in ["threads", "auto"] {
        let dest = folder();
        let path = dest.path().to_str().expect("UTF-8");
        let mut running = bench(&["lane", &nginx.slow("weights"), path, "--io", io]).spawn();
        wait_until("the lane receives", BOUND, || {
            assert!(!running.has_ended(), "the run ended before it was stopped");
            !everything(dest.path()).is_empty()
        });
        running.signal(Signal::INT);
        running.wait().assert_fails(130);
        assert_eq!(everything(dest.path()), set(&[]));
    }
}

#[test]
fn the_origin_is_asked_for_every_byte_once_a_round() {
    let (nginx, content) = (nginx(), Content::new(7, 33 * MIB + 5));
    content.write_file(&nginx.root().join("weights"));
    for (flags, proof) in [(&[][..], "size"), (&["--hash"], "hashed, not compared")] {
        let mark = nginx.mark();
        let url = nginx.http("weights");
        let run = bench(&["origin", &url, "--rounds", "2", "--seconds", "60s", "--json", "-"]);
        let run = run.args(["--connections", "1"]).args(flags).run();
        let report = json(&run);
        let [row] = rows(&report).as_slice() else { panic!("one row: {report}") };
        assert_measured(row, 2);
        assert_eq!((bytes(row), &row["proof"]), (vec![content.size; 2], &proof.into()));
        // 16 MiB a request, as a pull of a large file asks.
        assert!((figure(&report, "requests", "1") - 3.0).abs() < 0.5, "{report}");
        let (median, tail) = (figure(&report, "first byte, median", "s"), figure(&report, "first byte, p95", "s"));
        assert!(0.0 < median && median <= tail, "{report}");
        assert!(0.0 < figure(&report, "connect + first byte, median", "s"));
        nginx.requests("weights");
        let asked = nginx.logged_since(mark, "weights");
        let sent: u64 = asked.iter().filter(|request| request.status == 206).map(|request| request.bytes).sum();
        assert_eq!(sent, 2 * content.size);
    }
}

#[test]
fn an_origin_that_refuses_ends_the_bench_in_its_class() {
    let script = Script::calm().rule(Rule::new(Fault::AccessDenied403).on(On::Get));
    let origin = FaultOrigin::start(vec![(PATH.to_owned(), Made::generated(1, MIB))], script).expect("origin");
    bench(&["origin", &origin.url(PATH), "--rounds", "1"]).run().assert_fails(4);
    let place = folder();
    fs::write(place.path().join("weights"), "x").expect("write");
    bench(&["origin", place.path().to_str().expect("UTF-8")]).run().assert_fails(2);
}

#[test]
fn a_slow_origin_is_measured_for_as_long_as_was_asked() {
    let (nginx, content) = (nginx(), Content::new(8, 64 * MIB));
    content.write_file(&nginx.root().join("weights"));
    let url = nginx.slow("weights");
    let run = bench(&["origin", &url, "--rounds", "1", "--seconds", "2s", "--connections", "2", "--json", "-"]).run();
    let row = &json(&run)["rows"][0];
    assert_measured(row, 1);
    assert!(bytes(row)[0] < content.size, "{row}");
    assert!(bytes(row)[0] <= nginx.bytes_sent("weights"), "no byte counts that was not sent: {row}");
}

#[test]
fn values_no_bench_could_work_with_exit_2() {
    for args in [
        &["hash", "--rounds", "0"][..],
        &["hash", "--seconds", "1ms"],
        &["hash", "--json", "/dev/null/figures"],
        &["disk", "/tmp", "--size", "1MiB"],
        &["lane", "http://127.0.0.1:1/x"],
        &["lane", "http://127.0.0.1:1/x", "/tmp", "--lanes", "0"],
        &["origin"],
        &["tls", "--seconds", "2h"],
    ] {
        bench(args).run().assert_fails(2);
    }
}

#[test]
fn every_flag_of_a_floor_names_its_variable() {
    for name in ["hash", "disk", "tls", "origin", "lane"] {
        let run = bench(&[name, "--help"]).run();
        run.assert_code(0);
        let flags = run.stdout.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        for flag in flags.filter(|flag| *flag != "help") {
            let variable = format!("DRAY_{}", flag.to_uppercase().replace('-', "_"));
            assert!(run.stdout.contains(&variable), "{variable} in:\n{}", run.stdout);
        }
    }
}
