use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::bench::Stop;

fn task_of(word: &str, uri: &str, count: usize) -> (Origin, Vec<SourceFile>) {
    let urls = if word == "s3" { Vec::new() } else { (0..count).map(|n| format!("{word}://h/f{n}.bin")).collect() };
    let files = (0..count).map(|n| SourceFile { path: format!("f{n}.bin"), size: 1, digest: None });
    (Origin { word: word.to_owned(), uri: uri.to_owned(), urls, ..Origin::default() }, files.collect())
}

fn program(folder: &Path, name: &str) {
    let path = folder.join(name);
    std::fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn peers_that_are_missing_are_left_out_or_said() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { dest: folder.path().join("run"), scratch: folder.path().to_owned() };
    program(folder.path(), "curl");
    let finder = Finder::new([folder.path().to_owned()], None, folder.path(), &Stop::default());
    let (origin, files) = task_of("http", "http://h/f0.bin", 2);
    let names = |wanted: &Wanted| {
        let found = contenders(&origin, &files, &place, wanted, &finder).unwrap().contenders;
        found.into_iter().map(|it| (it.name, it.argv.map(|argv| argv.len()).ok())).collect::<Vec<_>>()
    };
    let curl = ("curl http".to_owned(), Some(10));
    assert_eq!(names(&Wanted::Auto), [curl.clone(), ("curl-parallel http".to_owned(), Some(11))]);
    assert_eq!(names(&Wanted::parse("axel,curl").unwrap()), [curl, ("axel http".to_owned(), None)]);
    assert_eq!(names(&Wanted::None), []);
    let left_out = contenders(&origin, &files, &place, &Wanted::Auto, &finder).unwrap().left_out;
    assert_eq!(
        left_out,
        ["aria2c", "axel", "wget", "pget", "hf_transfer"].map(|name| format!("{name} is not installed"))
    );
    assert!(Wanted::parse("curl,browser").unwrap_err().contains("browser"));
}

#[test]
fn s3_tools_get_keys_as_they_are_in_the_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { dest: folder.path().join("run"), scratch: folder.path().to_owned() };
    for name in ["python3", "s5cmd", "rclone"] {
        program(folder.path(), name);
    }
    let finder = Finder::new([folder.path().to_owned()], None, folder.path(), &Stop::default());
    for (uri, count, expected) in [
        ("s3://b/m/v1", 2, ["s3://b/m/v1/*", "m/v1/f1.bin f1.bin"]),
        ("s3://b", 2, ["s3://b/*", "f1.bin f1.bin"]),
        ("s3://b/m/f0.bin", 1, ["s3://b/m/f0.bin", "m/f0.bin f0.bin"]),
    ] {
        let (origin, files) = task_of("s3", uri, count);
        let found = contenders(&origin, &files, &place, &Wanted::Auto, &finder).unwrap().contenders;
        let line = |name: &str| found.iter().find(|it| it.name == name).unwrap().argv.clone().unwrap().join(" ");
        assert!(line("s5cmd s3").contains(&format!("16 {} ", expected[0])), "{}", line("s5cmd s3"));
        assert!(line("boto3 s3").ends_with(expected[1]), "{}", line("boto3 s3"));
    }
}

#[test]
fn the_hubs_client_is_asked_for_what_the_uri_names() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { dest: "/d/run".into(), scratch: folder.path().to_owned() };
    program(folder.path(), "hf");
    let finder = Finder::new([folder.path().to_owned()], None, folder.path(), &Stop::default());
    for (uri, path, expected) in [
        ("hf://o/n", "f0.bin", "--repo-type model --revision main --local-dir /d/run o/n"),
        ("hf://datasets/o/n:v1", "f0.bin", "--repo-type dataset --revision v1 --local-dir /d/run o/n"),
        ("hf://o/n@refs/pr/1", "f0.bin", "--repo-type model --revision refs/pr/1 --local-dir /d/run o/n"),
        ("hf://o/n:v1/a/f0.bin", "f0.bin", "--revision v1 --local-dir /d/run o/n a/f0.bin"),
        ("hf://o/n/a", "b/f0.bin", "--revision main --local-dir /d/run o/n a/"),
    ] {
        let (origin, mut files) = task_of("hf", uri, 1);
        files[0].path = path.to_owned();
        let found = contenders(&origin, &files, &place, &Wanted::Auto, &finder).unwrap().contenders;
        let line = found[0].argv.clone().unwrap().join(" ");
        assert!(line.ends_with(expected), "{uri}: {line}");
    }
}
