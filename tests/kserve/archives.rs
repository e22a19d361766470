//! Archives under KServe's rule: one file named so is unpacked, from every kind of source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Row;
use crate::rig::oracle::{Content, MIB, receipt};
use crate::rig::{folder, nginx, weed};

/// Two files, and the folder that archives are made of.
fn model() -> (tempfile::TempDir, [(&'static str, Content); 2]) {
    let root = folder();
    let files = [("model.pth", Content::new(1, MIB + 5)), ("sub/config.json", Content::new(2, 99))];
    files.iter().for_each(|(name, content)| content.write_file(&root.path().join(name)));
    (root, files)
}

fn pack(form: &str, source: &Path, out: &Path) {
    fs::create_dir_all(out.parent().expect("a parent")).expect("create folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archives/make.py");
    let made = Command::new("python3").args(["-B", script, "pack", form]).args([source, out]).status();
    assert!(made.expect("start python3").success(), "make.py {form}");
}

#[test]
fn one_archive_of_a_web_server_is_unpacked() {
    let nginx = nginx();
    let (root, files) = model();
    let files: Vec<_> = files.iter().map(|(name, content)| (*name, content)).collect();
    for (form, name) in [
        ("tar", "m.tar"),
        ("tar.gz", "m.tar.gz"),
        ("tar.gz", "m.tgz"),
        ("tar.gz", "m.TAR.GZ"),
        ("tar.bz2", "m.tar.bz2"),
        ("tar.xz", "m.tar.xz"),
        ("zip", "m.zip"),
        ("zip", "download"),
        ("zip", "m.zip.bin"),
    ] {
        pack(form, root.path(), &nginx.root().join(name));
    }
    let plain = Content::new(3, 77);
    for name in ["m.gz", "m.tar.zst", "not-one.zip"] {
        plain.write_file(&nginx.root().join(name));
    }
    let rows = [
        Row::takes("tar", nginx.http("m.tar"), &files),
        Row::takes("tar.gz", nginx.http("m.tar.gz"), &files),
        Row::takes("tgz", nginx.http("m.tgz"), &files),
        Row::takes("capitals", nginx.http("m.TAR.GZ"), &files),
        Row::takes("tar.bz2", nginx.http("m.tar.bz2"), &files),
        Row::takes("tar.xz", nginx.http("m.tar.xz"), &files),
        Row::takes("zip", nginx.http("m.zip"), &files),
        Row::takes("zip without ranges", nginx.no_range("m.zip"), &files),
        Row::takes("a zip by its query", nginx.http("download?path=/a/model.zip"), &files),
        Row::takes("patterns mean nothing here", nginx.http("m.zip"), &files).env("STORAGE_ALLOW_PATTERNS", "*.txt"),
        Row::takes("gzip is no archive", nginx.http("m.gz"), &[("m.gz", &plain)]),
        Row::takes("upstream knows no zstd", nginx.http("m.tar.zst"), &[("m.tar.zst", &plain)]),
        Row::fails("a zip that is none", nginx.http("not-one.zip"), 5, "the archive is damaged"),
        Row::fails("an archive that is not there", nginx.http("absent.zip"), 3, "404"),
    ];
    rows.into_iter().for_each(|row| drop(row.check()));
    let early = [
        Row::fails("compress", nginx.http("m.tar.Z"), 6, "`m.tar.Z` is packed in a way"),
        Row::fails("a packed zip", nginx.http("m.zip.gz"), 6, "`m.zip.gz` is packed in a way"),
    ];
    for row in early {
        Row { trees: vec![None], ..row }.check();
    }
    assert!(nginx.requests("m.tar.Z").is_empty() && nginx.requests("m.zip.gz").is_empty());
}

#[test]
fn one_archive_of_a_bucket_is_unpacked_and_several_are_not() {
    let (root, files) = model();
    let files: Vec<_> = files.iter().map(|(name, content)| (*name, content)).collect();
    let bucket = weed().bucket("kserve-archives");
    let packed = root.path().join("m.tar.xz");
    pack("tar.xz", root.path(), &packed);
    bucket.put_file("one/m.tar.xz", &packed, "CRC64NVME");
    bucket.put_file("deep/er/m.tar.xz", &packed, "CRC64NVME");
    let (config, weights) = (Content::new(4, 10), Content::new(5, 20));
    bucket.put(&[("two/m.tar.gz", &config), ("two/n.tar.gz", &weights), ("filtered/config.json", &config)]);
    bucket.put_file("filtered/m.tar.xz", &packed, "CRC64NVME");
    let endpoint = &bucket.endpoint;
    let whole = Content::of_file(&packed);
    let rows = [
        Row::takes("a prefix with one archive", bucket.uri("one"), &files),
        Row::takes("the archive by its key", bucket.uri("one/m.tar.xz"), &files),
        Row::takes("an archive in a folder", bucket.uri("deep"), &files),
        Row::takes("what filters leave", bucket.uri("filtered"), &files).env("STORAGE_ALLOW_PATTERNS", "*.xz"),
        Row::takes("only proven ones", bucket.uri("one"), &files).env("DRAY_REQUIRE", "origin"),
        Row::takes("several", bucket.uri("two"), &[("m.tar.gz", &config), ("n.tar.gz", &weights)]),
        Row::takes("an archive and a file", bucket.uri("filtered"), &[("config.json", &config), ("m.tar.xz", &whole)]),
    ];
    rows.into_iter().for_each(|row| drop(row.keyed(endpoint).check()));
    let around = folder();
    let row = Row { what: "assurance", sources: vec![bucket.uri("one")], ..Row::default() };
    row.keyed(endpoint).run(around.path());
    let receipt = receipt(&around.path().join("0"));
    assert_eq!((&receipt["archive"]["assurance"], &receipt["archive"]["kind"]), (&"origin".into(), &"tar".into()));
    assert_eq!(receipt["files"][0]["assurance"], "origin", "a member is as well known as its archive");
}

#[test]
fn one_archive_of_this_machine_is_unpacked_and_stays() {
    let (root, files) = model();
    let files: Vec<_> = files.iter().map(|(name, content)| (*name, content)).collect();
    let lone = folder();
    let place = lone.path().join("m.zip");
    pack("zip", root.path(), &place);
    let text = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let bad = lone.path().join("bad/m.tar");
    Content::new(1, 5000).write_file(&bad);
    let rows = [
        Row::takes("the archive itself", text(&place), &files),
        Row::takes("by file://", format!("file://{}", text(&place)), &files),
        Row::takes("by a pattern", format!("file://{}/*.zip", lone.path().display()), &files),
        Row::fails("a tar that is none", text(&bad), 5, "the archive is damaged"),
    ];
    rows.into_iter().for_each(|row| drop(row.check()));
    assert!(place.exists());
    let around = folder();
    let row = Row { what: "again", sources: vec![text(&place)], ..Row::default() };
    let first = row.run(around.path());
    assert!(first.stderr.contains("unpacked"), "{}", first.stderr);
    let changed = || fs::metadata(around.path().join("0/model.pth")).and_then(|data| data.modified()).expect("mtime");
    let before = changed();
    row.run(around.path());
    assert_eq!(changed(), before, "a second run writes nothing");
}
