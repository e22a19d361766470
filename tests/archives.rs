//! Archives: every format to its files, hostile and damaged ones to a refusal, and what a kill may cost.
//!
//! Python's own writers make them (`archives/make.py`); what must be on disk comes from `rig::oracle`.

mod rig;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rig::dray::{Dray, Run};
use rig::nginx::Nginx;
use rig::oracle::{Content, Expected, MIB, Random, change_times, flip_bit, hash_file, receipt, tree};
use rig::{folder, nginx, weed};
use rustix::process::Signal;

const MEMORY_MAX: u64 = 96 * MIB;

/// Says that the archive is whole and proven, until its members are published.
const PACKED: &str = ".dray/packed/.dray/receipt.json";

fn make(words: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archives/make.py");
    let done = Command::new("python3").arg("-B").arg(script).args(words).status().expect("start python3");
    assert!(done.success(), "make.py {words:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The files that most archives here hold: empty, small, over a piece, in folders, with a long name.
fn model() -> Expected {
    let long = format!("{}/{}.bin", "d".repeat(120), "n".repeat(150));
    let files = [
        ("config.json", 700),
        ("empty", 0),
        ("tokenizer/vocab größe.txt", MIB + 1),
        ("weights.safetensors", 5 * MIB - 3),
        (long.as_str(), 1000),
    ]
    .map(|(name, size)| (name, Content::new(size, size)));
    Expected::of(files.iter().map(|(name, content)| (*name, content)))
}

fn write(expected: &Expected, root: &Path) {
    for (path, content) in &expected.files {
        content.write_file(&root.join(path));
    }
    fs::create_dir_all(root.join("nothing in it")).expect("create folder");
}

/// An archive at `nginx` under this name.
fn serve(nginx: &Nginx, expected: &Expected, form: &str, name: &str) -> PathBuf {
    let source = folder();
    write(expected, source.path());
    let out = nginx.root().join(name);
    make(&["pack", form, text(source.path()), text(&out)]);
    out
}

fn unpack(source: &str, dest: &Path) -> Dray {
    Dray::pull(source, dest).args(["--unpack"])
}

/// Sealed as these files, with the archive's bytes as what was fetched.
fn assert_unpacked(run: &Run, expected: &Expected, archive: &Path, dest: &Path) {
    let report = run.assert_sealed();
    expected.assert_sealed(dest);
    let size = fs::metadata(archive).expect("metadata").len();
    assert_eq!((run.count("bytes.total"), run.count("bytes.fetched")), (size, size), "{report}");
    for (path, content) in &expected.files {
        assert_eq!(run.file(path)["blake3"], content.blake3.to_string(), "{path}");
    }
    assert_eq!(report["files"].as_array().map(Vec::len), Some(expected.files.len()));
    let receipt = receipt(dest);
    assert_eq!(receipt["archive"]["blake3"], hash_file(archive).to_string());
    assert!(run.count("rss_bytes_max") <= MEMORY_MAX, "{report}");
}

#[test]
fn every_format_ends_as_its_files() {
    let nginx = nginx();
    let expected = model();
    for (form, name) in [
        ("tar", "pax.tar"),
        ("tar-gnu", "gnu.tar"),
        ("tar-dot", "dot.TAR"),
        ("tar.gz", "m.tar.gz"),
        ("tar.gz", "m.TGZ"),
        ("tar.gz", "gzip-inside.tar"),
        ("tar", "plain-inside.taz"),
        ("tar.gz-members", "members.tar.gz"),
        ("tar.bz2", "m.tar.bz2"),
        ("tar.bz2", "m.tbz2"),
        ("tar.bz2-streams", "streams.tar.bz2"),
        ("tar.xz", "m.tar.xz"),
        ("tar.xz-9", "m.txz"),
        ("tar.xz-streams", "streams.txz"),
        ("zip", "m.zip"),
        ("zip-stored", "stored.ZIP"),
        ("zip-dot", "dot.zip"),
        ("zip-stream", "stream.zip"),
    ] {
        let archive = serve(&nginx, &expected, form, name);
        let around = folder();
        let dest = around.path().join("dest");
        let run = unpack(&nginx.http(name), &dest).run();
        assert_unpacked(&run, &expected, &archive, &dest);
    }
}

#[test]
fn archives_of_the_common_tools_end_as_their_files() {
    let nginx = nginx();
    let source = folder();
    // Info-ZIP states no encoding for other names.
    let mut expected = model();
    expected.files.retain(|path, _| path.is_ascii());
    write(&expected, source.path());
    let tar = |form: &str, name: &str, more: &[&str]| {
        (
            vec!["tar".to_owned(), form.to_owned(), "-cf".to_owned()],
            name.to_owned(),
            more.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(),
        )
    };
    let zip = |form: &str, name: &str| {
        (vec!["zip".to_owned(), "-q".to_owned(), form.to_owned()], name.to_owned(), vec![".".to_owned()])
    };
    for (front, name, back) in [
        tar("--format=gnu", "gnu.tar", &["."]),
        tar("--format=posix", "posix.tar", &["."]),
        tar("--format=posix", "posix.tar.xz", &["-J", "."]),
        tar("--format=gnu", "gnu.tar.bz2", &["-j", "."]),
        tar("--format=gnu", "gnu.tgz", &["-z", "."]),
        zip("-r", "tool.zip"),
        zip("-0r", "tool-stored.zip"),
    ] {
        let out = nginx.root().join(&name);
        let done = Command::new(&front[0]).args(&front[1..]).arg(&out).args(&back).current_dir(source.path()).status();
        assert!(done.expect("start the tool").success(), "{front:?} {name}");
        let around = folder();
        let dest = around.path().join("dest");
        let run = unpack(&nginx.http(&name), &dest).run();
        assert_unpacked(&run, &expected, &out, &dest);
    }
}

/// What is refused: which exit code, and a word of the last line.
const REFUSED: [(&str, i32, &str); 64] = [
    ("tar-absolute", 6, "absolute"),
    ("tar-climbs", 6, "`..`"),
    ("tar-climbs-inside", 6, "`..`"),
    ("tar-climbs-folder", 6, "`..`"),
    ("tar-state", 6, ".dray"),
    ("tar-backslash", 6, "backslash"),
    ("tar-not-utf8", 6, "UTF-8"),
    ("tar-symlink", 6, "`weights` is a link"),
    ("tar-symlink-then-through", 6, "`out` is a link"),
    ("tar-hardlink", 6, "`weights` is a link"),
    ("tar-device", 6, "device"),
    ("tar-block-device", 6, "device"),
    ("tar-fifo", 6, "FIFO"),
    ("tar-sparse", 6, "sparse"),
    ("tar-pax-sparse", 6, "sparse"),
    ("tar-unknown-type", 6, "neither a file nor a folder"),
    ("tar-twice", 6, "weights"),
    ("tar-twice-by-case", 6, "WEIGHTS"),
    ("tar-file-and-folder", 6, "weights/a"),
    ("tar-two-names", 6, "two names"),
    ("tar-two-sizes", 6, "two sizes"),
    ("tar-huge-pax", 6, "extended header"),
    ("tar-huge-pax-claimed", 6, "extended header"),
    ("tar-huge-long-name", 6, "extended header"),
    ("tar-many-headers", 6, "extended headers"),
    ("tar-bomb-claimed", 6, "unpacks to more than"),
    ("tar-bomb-behind-the-end", 6, "unpacks to more than"),
    ("tar-flood", 6, "over 50000 entries"),
    ("tar-base-256-negative", 5, "size"),
    ("tar.xz-memory", 6, "memory"),
    ("zip-absolute", 6, "absolute"),
    ("zip-climbs", 6, "`..`"),
    ("zip-climbs-folder", 6, "`..`"),
    ("zip-symlink", 6, "`weights` is a link"),
    ("zip-encrypted", 6, "encrypted"),
    ("zip-method", 6, "method 14"),
    ("zip-method-bzip2", 6, "method 12"),
    ("zip-twice-by-case", 6, "WEIGHTS"),
    ("zip-overlap", 6, "lies over another"),
    ("zip-flood", 6, "over 50000 entries"),
    ("zip-flood-claimed", 5, "directory"),
    ("zip-bomb-claimed", 6, "unpacks to more than"),
    ("zip-other-name-inside", 6, "something else of itself"),
    ("tar-truncated", 5, "too early"),
    ("tar-without-end", 5, "too early"),
    ("tar-empty-file", 5, "too early"),
    ("tar-checksum", 5, "checksum"),
    ("tar-not-one", 5, "damaged"),
    ("tar.gz-truncated", 5, "too early"),
    ("tar.gz-crc", 5, "damaged"),
    ("tar.gz-garbage-behind", 5, "damaged"),
    ("tar.bz2-truncated", 5, "damaged"),
    ("tar.bz2-crc", 5, "damaged"),
    ("tar.xz-truncated", 5, "damaged"),
    ("tar.xz-crc", 5, "damaged"),
    ("zip-truncated", 5, "directory"),
    ("zip-crc", 5, "checksum"),
    ("zip-shorter-than-said", 5, "another size"),
    ("zip-longer-than-said", 5, "too early"),
    ("zip-not-one", 5, "directory"),
    ("zip-front-garbage", 5, "directory"),
    ("zip-back-garbage", 5, "directory"),
    ("tar-no-file", 3, "holds no file"),
    ("zip-no-file", 3, "holds no file"),
];

#[test]
fn hostile_and_damaged_archives_publish_nothing() {
    let nginx = nginx();
    let around = folder();
    for (number, (name, exit, word)) in REFUSED.into_iter().enumerate() {
        let kind = name.split('-').next().unwrap_or_default();
        let served = format!("m{number}.{kind}");
        make(&["hostile", name, text(&nginx.root().join(&served))]);
        let dest = around.path().join("inner").join(number.to_string());
        let run = unpack(&nginx.http(&served), &dest).run();
        let line = run.assert_fails(exit);
        assert!(line.contains(word), "{name}: {line}");
        assert_eq!(tree(&dest), BTreeSet::new(), "{name}: nothing is published");
        assert!(!dest.join(".dray/receipt.json").exists(), "{name}");
        let staged = tree(&dest.join(".dray/parts"));
        assert_eq!(staged, BTreeSet::new(), "{name}: nothing unpacked is kept");
        assert!(run.count("rss_bytes_max") <= MEMORY_MAX, "{name}: {}", run.report());
        fs::remove_dir_all(&dest).expect("remove DEST");
    }
    assert_eq!(tree(around.path()), BTreeSet::new(), "nothing is written beside DEST");
    assert!(!Path::new("/etc/dray-was-here").exists());
}

#[test]
fn names_that_nothing_can_unpack_are_refused_before_anything_is_fetched() {
    let nginx = nginx();
    for name in ["m.tar.Z", "m.tar.br", "m.zip.gz"] {
        Content::new(1, MIB).write_file(&nginx.root().join(name));
        let around = folder();
        let line = unpack(&nginx.http(name), &around.path().join("dest")).run().assert_fails(6).to_owned();
        assert!(line.contains(name), "{line}");
        let asked = nginx.requests(name);
        assert!(asked.iter().all(|request| request.bytes <= 1), "{asked:?}");
    }
}

#[test]
fn what_is_not_one_archive_stays_as_it_is() {
    let nginx = nginx();
    let expected = model();
    serve(&nginx, &expected, "tar.gz", "m.tar.gz");
    let packed = Content::new(9, 99);
    let around = folder();
    // Without the flag, and with it for names that are no archive's.
    let run = Dray::pull(&nginx.http("m.tar.gz"), &around.path().join("as-it-is")).run();
    run.assert_sealed();
    assert_eq!(tree(&around.path().join("as-it-is")), BTreeSet::from(["m.tar.gz".to_owned()]));
    packed.write_file(&nginx.root().join("m.tar.zst"));
    let dest = around.path().join("zst");
    unpack(&nginx.http("m.tar.zst"), &dest).run().assert_sealed();
    Expected::of([("m.tar.zst", &packed)]).assert_sealed(&dest);
    let bucket = weed().bucket("archives-two");
    bucket.put(&[("m/a.tar.gz", &packed), ("m/b.tar.gz", &packed)]);
    let dest = around.path().join("two");
    unpack(&bucket.uri("m"), &dest).s3(&bucket.endpoint).run().assert_sealed();
    Expected::of([("a.tar.gz", &packed), ("b.tar.gz", &packed)]).assert_sealed(&dest);
    // The environment is as good as the flag.
    let dest = around.path().join("by-variable");
    Dray::pull(&nginx.http("m.tar.gz"), &dest).env("DRAY_UNPACK", "true").run().assert_sealed();
    expected.assert_sealed(&dest);
}

#[test]
fn a_run_after_success_asks_for_no_data_and_writes_nothing() {
    let nginx = nginx();
    let expected = model();
    serve(&nginx, &expected, "zip", "m.zip");
    let around = folder();
    let dest = around.path().join("dest");
    unpack(&nginx.http("m.zip"), &dest).run().assert_sealed();
    let (before, sent) = (change_times(&dest), nginx.bytes_sent("/m.zip"));
    let folder_before = fs::metadata(dest.join(".dray")).and_then(|data| data.modified()).expect("mtime");
    let again = unpack(&nginx.http("m.zip"), &dest).run();
    again.assert_sealed();
    assert_eq!(again.count("bytes.fetched"), 0);
    assert_eq!(again.report()["files"].as_array().map(Vec::len), Some(expected.files.len()));
    assert!(nginx.bytes_sent("/m.zip") <= sent + 1, "a data request was made");
    assert_eq!(change_times(&dest), before);
    assert_eq!(fs::metadata(dest.join(".dray")).and_then(|data| data.modified()).expect("mtime"), folder_before);
    // Another version is taken, whole.
    let mut other = model();
    other.files.insert("more.json".to_owned(), Content::new(77, 77));
    let archive = serve(&nginx, &other, "zip", "m.zip");
    assert_unpacked(&unpack(&nginx.http("m.zip"), &dest).run(), &other, &archive, &dest);
}

#[test]
fn verify_proves_members_and_repairs_them() {
    let nginx = nginx();
    let expected = model();
    serve(&nginx, &expected, "tar.gz", "m.tar.gz");
    let around = folder();
    let dest = around.path().join("dest");
    unpack(&nginx.http("m.tar.gz"), &dest).run().assert_sealed();
    let verify = |more: &[&str]| Dray::new([&["verify", text(&dest)], more].concat());
    verify(&[]).run().assert_code(0);
    flip_bit(&dest.join("weights.safetensors"), 2 * MIB + 17);
    fs::remove_file(dest.join("config.json")).expect("remove");
    let found = verify(&[]).run();
    found.assert_fails(5);
    assert!(found.stdout.contains("weights.safetensors (1 of 5 pieces differ)"), "{}", found.stdout);
    assert!(found.stdout.contains("config.json (missing)"), "{}", found.stdout);
    verify(&["--repair"]).run().assert_code(0);
    expected.assert_sealed(&dest);
    // A source that has moved on repairs nothing, and nothing is touched.
    flip_bit(&dest.join("weights.safetensors"), 17);
    let before = change_times(&dest);
    serve(&nginx, &Expected::of([("other", &Content::new(1, 10))]), "tar.gz", "m.tar.gz");
    verify(&["--repair"]).run().assert_fails(8);
    assert_eq!(change_times(&dest), before);
}

#[test]
fn a_receipt_pins_the_archive() {
    let nginx = nginx();
    let expected = model();
    let archive = serve(&nginx, &expected, "zip", "m.zip");
    let around = folder();
    let dest = around.path().join("dest");
    unpack(&nginx.http("m.zip"), &dest).run().assert_sealed();
    let pin = dest.join(".dray/receipt.json");
    let pinned = around.path().join("pinned");
    let run = unpack(&nginx.http("m.zip"), &pinned).args(["--pin", text(&pin), "--require", "pinned"]).run();
    assert_unpacked(&run, &expected, &archive, &pinned);
    assert_eq!(run.report()["assurance"], "pinned");
    assert_eq!(receipt(&pinned)["files"][0]["assurance"], "pinned");
    unpack(&nginx.http("m.zip"), &pinned).args(["--pin", text(&pin)]).run().assert_sealed();
    // The archive as it is has the same pin.
    Dray::pull(&nginx.http("m.zip"), &around.path().join("zip")).args(["--pin", text(&pin)]).run().assert_sealed();
    flip_bit(&archive, 4000);
    let other = around.path().join("other");
    unpack(&nginx.http("m.zip"), &other).args(["--pin", text(&pin)]).run().assert_fails(5);
    assert_eq!(tree(&other), BTreeSet::new());
}

#[test]
fn sigkill_at_any_point_leaves_whole_files_and_fetches_the_archive_once() {
    let nginx = nginx();
    let weights = Content::new(3, 96 * MIB);
    let names: Vec<String> = (0..40).map(|number| format!("shard-{number:02}/part.bin")).collect();
    let small: Vec<Content> = (0..40).map(|number| Content::new(number, 200_000 + number)).collect();
    let files = names.iter().map(String::as_str).zip(&small).chain([("weights", &weights)]);
    let expected = Expected::of(files);
    let archive = serve(&nginx, &expected, "tar", "m.tar");
    let size = fs::metadata(&archive).expect("metadata").len();
    let seed = 2026;
    let mut random = Random::new(seed);
    let (mut kills, mut after_fetch) = (0, 0);
    // However fast this machine is, kills fall within a run.
    let whole = unpack(&nginx.http("m.tar"), &folder().path().join("dest")).run();
    whole.assert_sealed();
    let undisturbed = (whole.seconds * 1e6) as u64;
    for chain in 0..8 {
        let around = folder();
        let dest = around.path().join("dest");
        let sent = nginx.bytes_sent("/m.tar");
        let (mut sealed, mut killed_before) = (false, 0);
        for number in 0..3 {
            let mut running =
                unpack(&nginx.http("m.tar"), &dest).args(["--io", "threads", "--connections", "2"]).spawn();
            // The first kill falls anywhere, the others while members are unpacked and published.
            while 0 < number && !dest.join(PACKED).exists() && !running.has_ended() {
                thread::sleep(Duration::from_millis(2));
            }
            thread::sleep(Duration::from_micros(random.below(undisturbed)));
            if running.has_ended() {
                running.wait().assert_sealed();
                sealed = true;
                continue;
            }
            running.signal(Signal::KILL);
            let run = running.wait();
            kills += u64::from(run.killed());
            expected.assert_only_whole_files(&dest);
            after_fetch += u64::from(run.killed() && dest.join(PACKED).exists());
            killed_before += u64::from(!sealed && run.killed());
            sealed |= dest.join(PACKED).exists() || dest.join(".dray/receipt.json").exists();
        }
        let run = unpack(&nginx.http("m.tar"), &dest).run();
        run.assert_sealed();
        expected.assert_sealed(&dest);
        let sent = nginx.bytes_sent("/m.tar") - sent;
        assert!(sent <= size + killed_before * 64 * MIB + 16, "SEED={seed} chain {chain}: {sent} bytes for {size}");
    }
    assert!(6 <= kills && 1 <= after_fetch, "{kills} kills, {after_fetch} of them with the archive there");
}

#[test]
fn signals_and_the_deadline_are_heard_while_unpacking() {
    let nginx = nginx();
    let weights = Content::new(3, 120 * MIB);
    let expected = Expected::of([("weights", &weights)]);
    let archive = serve(&nginx, &expected, "tar.gz", "m.tar.gz");
    let size = fs::metadata(&archive).expect("metadata").len();
    let around = folder();
    let dest = around.path().join("dest");
    for (signal, exit) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut running = unpack(&nginx.http("m.tar.gz"), &dest).spawn();
        // The first member's part file is the sign that unpacking goes on.
        let parts = dest.join(".dray/parts");
        while fs::read_dir(&parts).map_or(0, Iterator::count) == 0 {
            assert!(!running.has_ended(), "it ended before it was stopped");
            thread::sleep(Duration::from_millis(2));
        }
        running.signal(signal);
        let run = running.wait();
        run.assert_fails(exit);
        assert_eq!(tree(&dest), BTreeSet::new());
        fs::remove_dir_all(&parts).expect("remove the parts");
    }
    let late = unpack(&nginx.http("m.tar.gz"), &dest).args(["--deadline", "40ms"]).run();
    assert!(late.assert_fails(7).contains("deadline"));
    assert_eq!(late.report()["dest"], text(&dest));
    let run = unpack(&nginx.http("m.tar.gz"), &dest).run();
    run.assert_sealed();
    expected.assert_sealed(&dest);
    assert_eq!(run.count("bytes.fetched"), 0, "the archive was there");
    assert!(nginx.bytes_sent("/m.tar.gz") <= size + 16);
}

#[test]
fn the_archive_on_disk_is_proven_again_while_it_is_unpacked() {
    let nginx = nginx();
    let expected = Expected::of([("weights", &Content::new(3, 200 * MIB))]);
    serve(&nginx, &expected, "tar", "m.tar");
    let around = folder();
    let dest = around.path().join("dest");
    let mut running = unpack(&nginx.http("m.tar"), &dest).spawn();
    while fs::read_dir(dest.join(".dray/parts")).map_or(0, Iterator::count) == 0 {
        assert!(!running.has_ended(), "it ended before it was stopped");
        thread::sleep(Duration::from_millis(1));
    }
    running.signal(Signal::KILL);
    running.wait();
    flip_bit(&dest.join(".dray/packed/m.tar"), 150 * MIB);
    let line = unpack(&nginx.http("m.tar"), &dest).run().assert_fails(10).to_owned();
    assert!(line.contains("not what it was"), "{line}");
    assert_eq!(tree(&dest), BTreeSet::new());
    unpack(&nginx.http("m.tar"), &dest).run().assert_sealed();
    expected.assert_sealed(&dest);
}

#[test]
fn a_large_dictionary_stays_within_the_memory_of_a_small_pod() {
    let nginx = nginx();
    let source = folder();
    // Zeros: quick to pack, and they fill the decoder's 64 MiB dictionary all the same.
    let zeros = source.path().join("zeros");
    fs::File::create(&zeros).and_then(|file| file.set_len(80 * MIB)).expect("zeros");
    make(&["pack", "tar.xz-9", text(source.path()), text(&nginx.root().join("m.tar.xz"))]);
    let around = folder();
    let dest = around.path().join("dest");
    let run = unpack(&nginx.http("m.tar.xz"), &dest).run();
    run.assert_sealed();
    assert_eq!(hash_file(&dest.join("zeros")), hash_file(&zeros));
    let most = run.count("rss_bytes_max");
    assert!((64 * MIB..=MEMORY_MAX).contains(&most), "{most} bytes at most: less would prove nothing");
}

#[test]
fn a_member_over_eight_gibibytes_is_refused_by_the_disk_and_not_by_the_reader() {
    // Python writes its size into an extended header, GNU in binary: both ask for the space before a byte is read.
    let nginx = nginx();
    for form in ["tar-large-pax", "tar-large-gnu"] {
        let name = format!("{form}.tar.gz");
        make(&["hostile", form, text(&nginx.root().join(&name))]);
        let around = folder();
        let run = unpack(&nginx.http(&name), &around.path().join("dest")).run();
        // 9 GiB from an archive of a few bytes is a bomb by its size alone: the size was read.
        assert!(run.assert_fails(6).contains("unpacks to more than"), "{form}");
    }
}
