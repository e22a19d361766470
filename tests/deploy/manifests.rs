//! The files, read and judged by `manifests.py` in the venv that `scripts/deploy-deps.sh` made.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Where manifests are. No two files have one name.
pub(crate) const FOLDERS: [&str; 2] = ["deploy", "deploy/prefetch"];

/// (file, document) of everything in [`FOLDERS`], in the order of the names.
pub(crate) fn all() -> &'static [(String, Value)] {
    static ALL: OnceLock<Vec<(String, Value)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let files = FOLDERS.into_iter().flat_map(folder).map(|(path, _)| path.to_str().expect("UTF-8").to_owned());
        let arguments: Vec<String> = std::iter::once("load".to_owned()).chain(files).collect();
        let listed = ask(&arguments, &Value::Null);
        let entry = |entry: &Value| (entry["file"].as_str().expect("a name").to_owned(), entry["document"].clone());
        listed.as_array().expect("a list").iter().map(entry).collect()
    })
}

/// The documents of one file of `deploy/`.
pub(crate) fn documents(file: &str) -> Vec<Value> {
    let found: Vec<Value> =
        all().iter().filter(|(name, _)| name == file).map(|(_, document)| document.clone()).collect();
    assert!(!found.is_empty(), "deploy/{file} holds nothing");
    found
}

/// The complaints of the schemas about each document.
pub(crate) fn complaints(documents: &[Value]) -> Vec<Vec<String>> {
    let answer = ask(&["check".into()], &Value::Array(documents.to_vec()));
    serde_json::from_value(answer).expect("a list for each document")
}

/// `patch` merged over `base` by the patch strategies of the Kubernetes schema of a container.
pub(crate) fn merged(base: &Value, patch: &Value) -> Value {
    ask(&["merge".into()], &serde_json::json!({"base": base, "patch": patch}))
}

/// The files of a folder of the project, without those of its folders: (path, text), by name.
pub(crate) fn folder(name: &str) -> Vec<(PathBuf, String)> {
    let listed = fs::read_dir(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("a text file"))).collect()
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn ask(arguments: &[String], stdin: &Value) -> Value {
    let mut child = Command::new(python())
        .arg(root().join("tests/deploy/manifests.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start python");
    let mut pipe = child.stdin.take().expect("piped");
    pipe.write_all(stdin.to_string().as_bytes()).expect("tell python");
    drop(pipe);
    let output = child.wait_with_output().expect("wait for python");
    assert!(output.status.success(), "manifests.py {arguments:?} failed");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn python() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), |dir| root().join(dir));
    let venv = std::env::var_os("DRAY_DEPLOY_VENV").map_or(target.join("deploy-venv"), PathBuf::from);
    let path = venv.join("bin/python");
    assert!(path.exists(), "{} is missing: run scripts/deploy-deps.sh", path.display());
    path
}
