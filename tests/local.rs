//! Sources on this machine: a file or a folder to a sealed directory, whatever happens in between.
//!
//! What must be on disk comes from `rig::oracle`.

mod rig;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use rig::dray::{Dray, Run, Running};
use rig::folder;
use rig::oracle::{Content, Expected, MIB, change_times, flip_bit, tree};
use rig::server::wait_until;
use rustix::process::Signal;
use serde_json::Value;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn model() -> Expected {
    let files = [
        ("config.json", 700),
        (".hidden", 3),
        ("empty", 0),
        ("sub/vocab größe.txt", MIB + 1),
        ("weights.safetensors", 37 * MIB - 3),
    ]
    .map(|(name, size)| (name, Content::new(size, size)));
    Expected::of(files.iter().map(|(name, content)| (*name, content)))
}

fn write(expected: &Expected) -> tempfile::TempDir {
    let source = folder();
    expected.files.iter().for_each(|(path, content)| content.write_file(&source.path().join(path)));
    source
}

fn pull(source: &Path, dest: &Path) -> Run {
    Dray::pull(text(source), dest).run()
}

#[test]
fn a_folder_lands_whole_and_a_second_run_does_nothing() {
    let (expected, dest) = (model(), folder());
    let source = write(&expected);
    for (run, asked) in [text(source.path()).to_owned(), format!("file://{}/", text(source.path()))].iter().enumerate()
    {
        let pulled = Dray::pull(asked, dest.path()).run();
        let report = pulled.assert_sealed();
        expected.assert_sealed(dest.path());
        let (fetched, reused) = if run == 0 { (expected.total(), 0) } else { (0, expected.total()) };
        assert_eq!((pulled.count("bytes.fetched"), pulled.count("bytes.reused")), (fetched, reused), "{report}");
        assert_eq!((pulled.count("requests.total"), report["assurance"].as_str()), (0, Some("hashed")), "{report}");
        assert_eq!(report["resolved"], format!("file://{}", text(source.path())));
    }
    Dray::new(["verify", text(dest.path())]).run().assert_code(0);
    let times = change_times(dest.path());
    pull(source.path(), dest.path()).assert_sealed();
    assert_eq!(change_times(dest.path()), times);
}

#[test]
fn one_file_lands_under_its_name_and_filters_choose_among_a_folders() {
    let expected = model();
    let source = write(&expected);
    let dest = folder();
    pull(&source.path().join("config.json"), dest.path()).assert_sealed();
    assert_eq!(tree(dest.path()).into_iter().collect::<Vec<_>>(), ["config.json"]);
    let dest = folder();
    let run = Dray::pull(text(source.path()), dest.path()).args(["--allow", "*.txt", "--allow", "c*"]).run();
    run.assert_sealed();
    assert_eq!(tree(dest.path()).into_iter().collect::<Vec<_>>(), ["config.json", "sub/vocab größe.txt"]);
    let none = Dray::pull(text(source.path()), folder().path()).args(["--allow", "*.gguf"]).run();
    none.assert_fails(3);
}

#[test]
fn a_plan_names_every_file_and_a_lock_pins_it() {
    let expected = model();
    let source = write(&expected);
    let plan = Dray::new(["plan", text(source.path()), "--json"]).run();
    plan.assert_code(0);
    let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
    let paths: Vec<&str> = plan["files"].as_array().expect("files").iter().filter_map(|f| f["path"].as_str()).collect();
    assert_eq!(paths, expected.files.keys().collect::<Vec<_>>());
    assert_eq!(plan["bytes"], expected.total());

    let work = folder();
    let lock = work.path().join("model.lock");
    Dray::new(["lock", text(source.path()), "-o", text(&lock)]).run().assert_code(0);
    let pinned =
        |dest: &Path| Dray::pull(text(source.path()), dest).args(["--pin", text(&lock), "--require", "pinned"]).run();
    let dest = folder();
    assert_eq!(pinned(dest.path()).assert_sealed()["assurance"], "pinned");
    expected.assert_sealed(dest.path());
    flip_bit(&source.path().join("weights.safetensors"), 20 * MIB);
    let dest = folder();
    for _ in 0..2 {
        let run = pinned(dest.path());
        assert!(run.assert_fails(5).contains("weights.safetensors"), "{}", run.last_line());
        assert!(!dest.path().join("weights.safetensors").exists());
    }
    let origin = Dray::pull(text(source.path()), folder().path()).args(["--require", "origin"]).run();
    assert!(origin.assert_fails(5).contains("cannot be proven"), "{}", origin.last_line());
}

#[test]
fn what_is_no_model_ends_with_its_own_code() {
    let source = write(&model());
    let at = |name: &str| source.path().join(name);
    let ends = |source: &Path, dest: &Path, code: i32, words: &str| {
        let run = pull(source, dest);
        assert!(run.assert_fails(code).contains(words), "{}", run.last_line());
        assert!(!dest.join("config.json").exists() || dest == at("").as_path(), "{words}");
    };
    ends(&at("absent"), folder().path(), 3, "does not exist");
    ends(&at("sub/deeper"), folder().path(), 3, "does not exist");
    ends(&at(""), &at("sub/dest"), 2, "within the source");
    fs::remove_dir_all(at("sub/dest")).expect("remove");
    ends(&at("config.json"), &at(""), 2, "within the source");
    fs::remove_dir_all(at(".dray")).ok();
    let socket = UnixListener::bind(at("socket")).expect("bind");
    ends(&at(""), folder().path(), 6, "no regular file");
    ends(&at("socket"), folder().path(), 6, "no regular file");
    drop(socket);
    fs::remove_file(at("socket")).expect("remove");
    symlink("/etc/hostname", at("out")).expect("link");
    ends(&at(""), folder().path(), 6, "leads out of the source");
    fs::remove_file(at("out")).expect("remove");
    symlink("config.json", at("in")).expect("link");
    let dest = folder();
    pull(source.path(), dest.path()).assert_sealed();
    assert!(
        dest.path().join("in").symlink_metadata().expect("metadata").is_file(),
        "a link lands as the file it leads to"
    );
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_a_byte_is_copied() {
    // Another file system than DEST's: nothing can be shared. All of it is a hole.
    let shm = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    File::create(shm.path().join("huge")).and_then(|file| file.set_len(4 << 40)).expect("a file of holes");
    let dest = folder();
    let run = pull(shm.path(), dest.path());
    assert!(run.assert_fails(9).contains("disk space"), "{}", run.last_line());
    assert!(tree(dest.path()).is_empty());
}

/// A source of two files: a small one that is sealed first, and one that takes a while.
fn slow_source() -> (Expected, tempfile::TempDir) {
    let (small, large) = (Content::new(1, 5 * MIB), Content::new(2, 400 * MIB));
    let expected = Expected::of([("a.bin", &small), ("b.bin", &large)]);
    // Another file system than DEST's: its bytes must be copied.
    let source = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    expected.files.iter().for_each(|(path, content)| content.write_file(&source.path().join(path)));
    (expected, source)
}

/// Starts a pull and waits until a part of the large file is journaled.
fn started(source: &Path, dest: &Path) -> Running {
    let running = Dray::pull(text(source), dest).spawn();
    let journal = dest.join(".dray/journal");
    let sealed_only = 512 * 5;
    wait_until("a claim of the large file", Duration::from_secs(30), || {
        fs::metadata(&journal).is_ok_and(|data| sealed_only < data.len())
    });
    running
}

#[test]
fn a_killed_copy_goes_on_from_what_is_durable() {
    let (expected, source) = slow_source();
    for signal in [Signal::KILL, Signal::TERM] {
        let dest = folder();
        let running = started(source.path(), dest.path());
        running.signal(signal);
        let run = running.wait();
        assert_eq!(run.code(), 128 + signal.as_raw());
        assert!(expected.assert_only_whole_files(dest.path()) <= 1);
        let run = pull(source.path(), dest.path());
        run.assert_sealed();
        expected.assert_sealed(dest.path());
        let reused = run.count("bytes.reused");
        assert!(69 * MIB <= reused, "{signal:?}: {reused} bytes are not copied again");
        assert_eq!(run.count("bytes.fetched") + reused, expected.total());
    }
}

#[test]
fn a_source_that_changes_under_the_copy_is_not_published() {
    let (_, source) = slow_source();
    let at = source.path().join("b.bin");
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("cut off", |at| File::options().write(true).open(at).and_then(|file| file.set_len(1)).expect("cut")),
        ("touched", |at| {
            let file = File::options().write(true).open(at).expect("open");
            file.set_modified(SystemTime::now() + Duration::from_secs(9)).expect("touch");
        }),
        ("longer", |at| {
            let file = File::options().write(true).open(at).expect("open");
            let size = file.metadata().expect("metadata").len();
            file.set_len(size + 1).expect("lengthen");
        }),
    ];
    for (what, change) in changes.into_iter().rev() {
        let dest = folder();
        let running = started(source.path(), dest.path());
        change(&at);
        let run = running.wait();
        assert!(run.assert_fails(8).contains("`b.bin` changed"), "{what}: {}", run.last_line());
        assert_eq!(tree(dest.path()).into_iter().collect::<Vec<_>>(), ["a.bin"], "{what}");
        let now = Expected::of([
            ("a.bin", &Content::of_file(&source.path().join("a.bin"))),
            ("b.bin", &Content::of_file(&at)),
        ]);
        pull(source.path(), dest.path()).assert_sealed();
        now.assert_sealed(dest.path());
    }
}

#[test]
fn a_new_version_replaces_the_old_one_and_copies_only_what_changed() {
    let mut expected = model();
    let source = write(&expected);
    let dest = folder();
    pull(source.path(), dest.path()).assert_sealed();
    let changed = Content::new(77, MIB);
    changed.write_file(&source.path().join("config.json"));
    expected.files.insert("config.json".to_owned(), changed);
    let run = pull(source.path(), dest.path());
    run.assert_sealed();
    expected.assert_sealed(dest.path());
    assert_eq!(run.count("bytes.fetched"), MIB);
}

#[test]
fn a_repair_copies_only_bad_pieces_again() {
    let expected = model();
    let source = write(&expected);
    let dest = folder();
    pull(source.path(), dest.path()).assert_sealed();
    flip_bit(&dest.path().join("weights.safetensors"), 9 * MIB + 5);
    Dray::new(["verify", text(dest.path())]).run().assert_fails(5);
    let report = dest.path().with_extension("report");
    Dray::new(["verify", text(dest.path()), "--repair", "--report", text(&report)]).run().assert_code(0);
    expected.assert_sealed(dest.path());
    let report: Value = serde_json::from_slice(&fs::read(&report).expect("report")).expect("JSON");
    assert_eq!(report["bytes"]["fetched"], MIB, "{report}");
}

#[test]
fn two_pulls_of_one_source_into_one_place_end_as_one() {
    let expected = model();
    let source = write(&expected);
    let dest = folder();
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let (source, dest) = (source.path().to_owned(), dest.path().to_owned());
            thread::spawn(move || pull(&source, &dest))
        })
        .collect();
    for run in runs {
        run.join().expect("a run").assert_sealed();
    }
    expected.assert_sealed(dest.path());
}

#[test]
fn paths_are_read_from_the_working_directory() {
    let expected = model();
    let source = write(&expected);
    let parent = source.path().parent().expect("a parent");
    let name = source.path().file_name().and_then(|name| name.to_str()).expect("UTF-8");
    for written in [name.to_owned(), format!("./{name}"), format!("{name}/sub/..")] {
        let dest = folder();
        Dray::pull(&written, dest.path()).within_folder(parent).run().assert_sealed();
        assert_eq!(tree(dest.path()).len(), expected.files.len(), "{written}");
    }
    let words = Dray::pull("no-such-thing", folder().path()).within_folder(parent).run();
    assert!(words.assert_fails(2).contains("no scheme"), "{}", words.last_line());
}

#[test]
fn a_large_copy_keeps_its_memory_bound() {
    let (expected, source) = slow_source();
    let dest = folder();
    let run = pull(source.path(), dest.path());
    run.assert_sealed();
    expected.assert_sealed(dest.path());
    assert!(run.resident_max < 96 * MIB, "{} bytes resident", run.resident_max);
}
