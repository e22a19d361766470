//! `benches/rig.py` from outside: what it serves, what it leaves, how it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::rig::dray::Dray;
use super::rig::folder;
use super::rig::oracle::MIB;
use super::rig::server::wait_until;

const READY_MAX: Duration = Duration::from_secs(90);

/// Where the command writes down what it saw: processes, its words.
const SEEN: &str =
    "cat /proc/[0-9]*/stat >$OUT/processes 2>/dev/null; echo $PPID >$OUT/rig.new; mv $OUT/rig.new $OUT/rig";

/// The rig around `script`, which finds the URIs in `$@` and a folder for what it saw in `$OUT`.
fn rig(sources: &Path, out: &Path, flags: &[&str], script: &str) -> Dray {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |dir| root.join(dir));
    let words = [root.join("benches/rig.py"), "--sources".into(), sources.to_owned(), "--size".into(), "1MiB".into()];
    let mut rig = Dray::program("/usr/bin/env", ["python3"]).args(words).args(flags);
    rig = rig.args(["--", "sh", "-c", script, "sh", "URI"]).env("OUT", out).env("DRAY", env!("CARGO_BIN_EXE_dray"));
    if let Some(venv) = std::env::var_os("DRAY_TEST_VENV") {
        rig = rig.env("DRAY_TEST_VENV", venv);
    }
    rig.env("CARGO_TARGET_DIR", target).env("SOURCES", sources)
}

/// A process as the kernel tells it from one that has its number later: number, name, parent and start.
fn process(stat: &str) -> Option<(String, String)> {
    let (name, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some((format!("{name}) {}", fields.get(19)?), (*fields.get(1)?).to_owned()))
}

/// The servers that ran below the rig when `SEEN` was written, by their names.
fn servers(out: &Path) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let rig = read("rig").trim().to_owned();
    let all = read("processes");
    let of_rig = all.lines().filter_map(process).filter(|(_, parent)| *parent == rig).map(|(name, _)| name);
    of_rig.filter(|name| !name.contains("(sh)")).collect()
}

fn count(servers: &[String], name: &str) -> usize {
    servers.iter().filter(|server| server.contains(name)).count()
}

/// Whether the very process that `server` names is there.
fn runs(server: &String) -> bool {
    let pid = server.split(' ').next().expect("a number");
    let now = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that has ended stays in the table until its new parent looks.
    !now.contains(") Z ") && process(&now).is_some_and(|(name, _)| name == *server)
}

/// Nothing that the rig started runs, and its folder of sources is gone.
fn assert_gone(servers: &[String], sources: &Path) {
    assert!(!servers.iter().any(runs), "{servers:?}");
    assert_eq!(super::entries(sources), 0);
}

#[test]
fn each_server_of_the_rig_gives_all_its_files_to_dray_and_a_peer_and_is_gone_afterwards() {
    let (sources, out) = (folder(), folder());
    let script = format!(
        "set -e; {SEEN}; word=${{1%%:*}}
        cp -r $SOURCES/dray-rig-*/sources/weights $OUT/$word
        printf '%s\\n' \"$@\" >$OUT/$word-uris
        $DRAY pull $1 $OUT/pulled-$word --progress none
        $DRAY bench pull \"$@\" $OUT/dest --json $OUT/$word.json --rounds 1 --io threads --peers curl,awscrt"
    );
    let flags = ["--serve", "http,https,s3", "--files", "2"];
    rig(sources.path(), out.path(), &flags, &script).run().assert_code(0);
    let read = |path: PathBuf| fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let names = ["shard-00001-of-00002.bin", "shard-00002-of-00002.bin"];
    for (word, uris, pulled) in [("http", 2, 1), ("https", 2, 1), ("s3", 1, 2)] {
        let given = fs::read_to_string(out.path().join(format!("{word}-uris"))).expect("URIs");
        assert_eq!(given.lines().count(), uris, "{given}");
        for name in &names[..pulled] {
            let served = read(out.path().join(word).join(name));
            assert_eq!(u64::try_from(served.len()).expect("a length"), MIB);
            assert!(served == read(out.path().join(format!("pulled-{word}")).join(name)), "{word} {name}");
        }
        let report: Value = serde_json::from_slice(&read(out.path().join(format!("{word}.json")))).expect("JSON");
        assert_eq!((&report["work"]["files"], &report["work"]["bytes"]), (&2.into(), &(2 * MIB).into()));
        // That one is among what every test of S3 needs.
        let peer = if word == "s3" { "awscrt" } else { "curl" };
        for name in ["dray threads", peer] {
            let row = super::row(&report, &format!("{name} {word}"));
            assert_eq!((&row["failed"], row["samples"].as_array().map(Vec::len)), (&Value::Null, Some(1)), "{row:#}");
        }
    }
    let servers = servers(out.path());
    assert_eq!([count(&servers, "(nginx)"), count(&servers, "(weed)")], [2, 1], "{servers:?}");
    assert_gone(&servers, sources.path());
}

#[test]
fn a_signal_to_the_rig_ends_the_bench_as_it_would_by_itself_and_then_the_servers() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (sources, out) = (folder(), folder());
        let script = format!(
            "{SEEN}; exec $DRAY bench pull \"$@\" $OUT/dest --rounds 1000 --io threads --peers none 2>$OUT/stderr"
        );
        let running = rig(sources.path(), out.path(), &["--serve", "http"], &script).spawn();
        let stderr = || fs::read_to_string(out.path().join("stderr")).unwrap_or_default();
        wait_until("rounds are run", READY_MAX, || stderr().contains("round 2 of"));
        running.signal(signal);
        running.wait().assert_code(code);
        let last = stderr().lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("error: interrupted"), "the bench tidied up: {last}");
        assert!(!out.path().join("dest").exists());
        let servers = servers(out.path());
        assert_eq!(count(&servers, "(nginx)"), 1, "{servers:?}");
        assert_gone(&servers, sources.path());
    }
}

#[test]
fn a_killed_rig_takes_its_servers_and_the_bench_with_it() {
    let (sources, out) = (folder(), folder());
    let script =
        format!("{SEEN}; exec $DRAY bench pull \"$@\" $OUT/dest --rounds 1000 --io threads --peers none 2>$OUT/stderr");
    let running = rig(sources.path(), out.path(), &["--serve", "http,s3"], &script).spawn();
    let stderr = || fs::read_to_string(out.path().join("stderr")).unwrap_or_default();
    wait_until("rounds are run", READY_MAX, || stderr().contains("round 2 of"));
    running.signal(Signal::KILL);
    running.wait();
    wait_until("the bench tidied up", READY_MAX, || stderr().contains("error: interrupted"));
    let servers = servers(out.path());
    assert_eq!(count(&servers, "(nginx)"), 1, "{servers:?}");
    wait_until("the servers are gone", READY_MAX, || servers.iter().all(|server| !runs(server)));
}

#[test]
fn the_rig_ends_with_the_commands_code_and_refuses_what_it_does_not_know() {
    let (sources, out) = (folder(), folder());
    let http = ["--serve", "http"];
    for (flags, script, code, word) in [
        (&http[..], "exit 7", 7, ""),
        (&http, "kill -9 $$", 137, ""),
        (&["--serve", "http,ftp"], "true", 2, "--serve: ftp is not http, https or s3"),
        (&["--size", "1kg"], "true", 2, "a size is"),
    ] {
        let run = rig(sources.path(), out.path(), flags, script).run();
        run.assert_code(code);
        assert!(run.stderr.contains(word), "{}", run.stderr);
        assert_eq!(super::entries(sources.path()), 0);
    }
}

/// Whether this process may limit groups of control: they are its to make, and the machine has both kinds.
fn has_cgroups() -> bool {
    let base = Path::new("/sys/fs/cgroup");
    if base.join("cgroup.controllers").exists() {
        return fs::write(base.join("cgroup.subtree_control"), "+cpu +memory").is_ok();
    }
    ["cpu/cpu.cfs_quota_us", "memory/memory.limit_in_bytes"].iter().all(|file| {
        let (group, file) = file.split_once('/').expect("a group and a file");
        let made = base.join(group).join(format!("dray-test-{}", std::process::id()));
        let allowed = fs::create_dir(&made).is_ok() && made.join(file).exists();
        // Where none was made there is none to remove.
        fs::remove_dir(&made).ok();
        allowed
    })
}

#[test]
fn a_limit_holds_the_command_and_not_the_servers_or_is_refused_by_its_name() {
    let (sources, out) = (folder(), folder());
    let script = format!("{SEEN}; cat /proc/self/cgroup >$OUT/own; cat /proc/$PPID/cgroup >$OUT/parent");
    let flags = ["--serve", "http", "--cgroup", "1cpu,256MiB"];
    let run = rig(sources.path(), out.path(), &flags, &script).run();
    if !has_cgroups() {
        run.assert_code(2);
        assert!(run.stderr.contains("error: --cgroup is not available here: "), "{}", run.stderr);
        assert_eq!(super::entries(sources.path()), 0);
        return;
    }
    run.assert_code(0);
    let read = |name: &str| fs::read_to_string(out.path().join(name)).expect("what was seen");
    let group = format!("/dray-rig-{}", read("rig").trim());
    assert!(read("own").contains(&group) && !read("parent").contains(&group), "{}", read("own"));
    let left = ["", "cpu", "memory"].map(|kind| Path::new("/sys/fs/cgroup").join(kind).join(&group[1..]).exists());
    assert_eq!(left, [false; 3]);
    assert_gone(&servers(out.path()), sources.path());
}
