//! docs/kserve.md: it names every file of `deploy/`, and the last lines that it explains are the ones that `dray` says.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dray_arena::{Access, HubArena, Kept, Repo};
use rustix::process::Signal;

use crate::manifests;
use crate::rig::dray::{Dray, Run};
use crate::rig::oracle::{Content, MIB};
use crate::rig::server::{free_ports, wait_until};
use crate::rig::{folder, nginx, weed};

/// Rows that no run here can show: why.
const NOT_SHOWN: [(&str, &str); 3] = [
    ("another process holds this directory and does not finish", "after two minutes"),
    ("cannot resolve host", "asks a name server, which a test machine may not have"),
    ("none, ", "a killed container says nothing"),
];

/// A row of the table: what is quoted of the last line, and the exit code.
fn explained() -> Vec<(String, i32)> {
    let guide = text();
    let table = guide.split("## What to do about a last line").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = table.expect("a table").lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let row = |line: &str| {
        let mut columns = line.split(" | ");
        let quoted = columns.next().expect("a quote").trim_start_matches("| ").trim_matches('`').to_owned();
        (quoted, columns.next().and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no exit code: {line}")))
    };
    rows.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn text() -> String {
    fs::read_to_string(manifests::root().join("docs/kserve.md")).expect("docs/kserve.md")
}

/// Whether `line` has the quoted parts, in their order; `…` stands for anything.
fn quotes(quoted: &str, line: &str) -> bool {
    let mut rest = line;
    quoted.split('…').map(str::trim).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Exit code and last line of what goes wrong before a byte is fetched, or at the disk.
fn failed_at_home(dest: &Path) -> Vec<(i32, String)> {
    let nginx = nginx();
    Content::new(1, 4 * MIB).write_file(&nginx.root().join("weights"));
    Content::new(1, MIB).write_file(&nginx.root().join("weights.zip"));
    let pair = |source: &str| Dray::new([OsStr::new(source), dest.as_os_str()]);
    let (weights, [closed]) = (nginx.http("weights"), free_ports());
    let mut runs = vec![
        Dray::new([weights.as_str()]).run(),
        pair(&weights).args(["--memory", "64MiB"]).run(),
        pair("modelscope://models/llama-70b").run(),
        pair(&weights).env("STORAGE_CONFIG", "type: s3").run(),
        pair("s3://models/llama-70b")
            .env("CA_BUNDLE_CONFIGMAP_NAME", "x")
            .env("CA_BUNDLE_VOLUME_MOUNT_POINT", dest)
            .run(),
        pair(&weights).env("CONFIDENTIAL_ENABLED", "true").run(),
        pair(&nginx.http("denied/401")).run(),
        pair(&weights).env("DRAY_REQUIRE", "origin").run(),
        pair(&nginx.http("weights.zip")).run(),
        pair(&nginx.http("weights.tar.Z")).run(),
        pair(&format!("http://127.0.0.1:{closed}/weights")).run(),
        pair(&nginx.https("weights")).run(),
        pair(&weights).env("DRAY_DEADLINE", "1ms").run(),
    ];
    let slow = pair(&weights).env("DRAY_LIMIT_RATE", "64KiB").spawn();
    wait_until("dray handles SIGTERM", Duration::from_secs(30), || slow.handles(Signal::TERM));
    slow.signal(Signal::TERM);
    runs.push(slow.wait());
    let mut lines: Vec<(i32, String)> = runs.iter().map(|run| (run.code(), run.last_line().to_owned())).collect();
    let locked = folder();
    fs::set_permissions(locked.path(), Permissions::from_mode(0o555)).expect("chmod");
    for (mounts, dest) in [
        (vec!["--size", "1500000", "--tmpfs", "/mnt"], Path::new("/mnt/models")),
        (vec!["--dir", "/tmp"], Path::new("/mnt/models")),
        (vec!["--bind", locked.path().to_str().expect("UTF-8"), "/mnt"], Path::new("/mnt")),
    ] {
        lines.push(boxed(&mounts, &weights, dest));
    }
    lines
}

/// A run as a user of a number, with everything read-only but what `mounts` says.
fn boxed(mounts: &[&str], source: &str, dest: &Path) -> (i32, String) {
    let output = Command::new("bwrap")
        .args(["--unshare-user", "--uid", "54321", "--gid", "54321", "--cap-drop", "ALL", "--clearenv"])
        .args(["--ro-bind", "/", "/", "--dev", "/dev"])
        .args(mounts)
        .args([env!("CARGO_BIN_EXE_dray"), source])
        .arg(dest)
        .output()
        .expect("run bwrap; scripts/test-deps.sh installs it");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("a code"), stderr.lines().last().expect("a last line").to_owned())
}

/// What the Hub says no to.
fn refused_by_the_hub(dest: &Path) -> Vec<(i32, String)> {
    let files = [("config.json", dray_arena::Content::bytes("{}"), Kept::Git)];
    let gated = Repo::model("org/gated").with_commit("main", files).with_access(Access::GatedForAll);
    let hub = HubArena::start([gated]).expect("start the Hub");
    let pair = |source: &str| Dray::new([OsStr::new(source), dest.as_os_str()]).env("HF_ENDPOINT", hub.endpoint());
    let runs: [Run; 3] = [
        pair("hf://org/absent").run(),
        pair("hf://org/gated").run(),
        pair("hf://org/gated").env("HF_HUB_OFFLINE", "1").run(),
    ];
    runs.iter().map(|run| (run.code(), run.last_line().to_owned())).collect()
}

/// What an object store says no to.
fn refused_by_a_store(dest: &Path) -> Vec<(i32, String)> {
    let bucket = weed().bucket("guide");
    bucket.put(&[("iris/model.bin", &Content::new(1, MIB))]);
    let pair = |source: &str| Dray::new([OsStr::new(source), dest.as_os_str()]).s3(&bucket.endpoint);
    let anonymous = Dray::new([OsStr::new(&bucket.uri("iris")), dest.as_os_str()]);
    let runs: [Run; 4] = [
        pair("s3://nobody-made-this/iris").run(),
        pair(&bucket.uri("absent")).run(),
        anonymous.env("AWS_ENDPOINT_URL", &bucket.endpoint).env("AWS_REGION", "us-east-1").run(),
        pair(&bucket.uri("iris")).env("AWS_SECRET_ACCESS_KEY", "not-the-secret").run(),
    ];
    runs.iter().map(|run| (run.code(), run.last_line().to_owned())).collect()
}

#[test]
fn every_last_line_it_explains_is_one_that_dray_says() {
    let dest = folder();
    let mut said = failed_at_home(dest.path());
    said.extend(refused_by_a_store(dest.path()));
    said.extend(refused_by_the_hub(dest.path()));
    let rows = explained();
    assert!(20 <= rows.len(), "{} rows", rows.len());
    for (quoted, exit) in rows {
        let excused = NOT_SHOWN.iter().any(|(row, _)| quoted.starts_with(row));
        let shown = said.iter().any(|(code, line)| *code == exit && quotes(&quoted, line));
        assert!(excused || shown, "`{quoted}`, exit {exit}, is none of:\n{said:#?}");
    }
    assert!(!quotes("bucket … is on fire", "error: bucket `b` not found"));
}

#[test]
fn every_manifest_is_in_the_guide() {
    let guide = text();
    for (path, _) in manifests::folder("deploy") {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        // How the others are put together.
        let helper = ["kustomization.yaml", "image-fields.yaml"].contains(&name);
        assert!(guide.contains(&format!("`{name}`")) || helper, "{name}");
    }
}
