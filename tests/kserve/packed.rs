//! Models that are one archive: what is unpacked, what stays packed, what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::row::{Entry, Row};
use super::stores::{site, stored};
use crate::rig::folder;
use crate::rig::oracle::{Content, MIB};

/// Names of archives on the web server and the forms they have.
const WEB: [(&str, &str); 10] = [
    ("typed/tar/m.tar", "tar"),
    ("typed/tar/m.tar.gz", "tar.gz"),
    ("typed/tar/m.tgz", "tar.gz"),
    ("m.TAR.GZ", "tar.gz"),
    ("typed/tar/m.tar.bz2", "tar.bz2"),
    ("typed/tar/m.tar.xz", "tar.xz"),
    ("typed/zip/m.zip", "zip"),
    ("typed/zip/download", "zip"),
    ("m.zip.bin", "zip"),
    ("untyped.zip", "zip"),
];

/// A model of two files, its archives, and where they are.
pub(crate) struct Packed {
    /// Held for its drop.
    _root: tempfile::TempDir,
    pub(crate) files: [(&'static str, Content); 2],
    /// A zip of them.
    pub(crate) zip: PathBuf,
}

/// Archives of one model: on the web server, in the bucket, and a zip on this machine.
pub(crate) fn packed() -> &'static Packed {
    static PACKED: OnceLock<Packed> = OnceLock::new();
    PACKED.get_or_init(|| {
        let root = folder();
        let source = root.path().join("model");
        let files = [("model.pth", Content::new(11, MIB + 5)), ("sub/config.json", Content::new(12, 99))];
        files.iter().for_each(|(name, content)| content.write_file(&source.join(name)));
        let web = site().nginx.root();
        WEB.iter().for_each(|(name, form)| pack(form, &source, &web.join(name)));
        let xz = root.path().join("m.tar.xz");
        pack("tar.xz", &source, &xz);
        let bucket = &stored().bucket;
        for key in ["one/m.tar.xz", "deep/er/m.tar.xz", "filtered/m.tar.xz"] {
            bucket.put_file(key, &xz, "CRC64NVME");
        }
        bucket.put(&[("filtered/config.json", &stored().config)]);
        let plain = Content::new(13, 77);
        for name in ["m.gz", "m.tar.zst", "not-one.zip"] {
            plain.write_file(&web.join(name));
        }
        let zip = root.path().join("m.zip");
        pack("zip", &source, &zip);
        Packed { _root: root, files, zip }
    })
}

fn pack(form: &str, source: &Path, out: &Path) {
    fs::create_dir_all(out.parent().expect("a parent")).expect("create folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archives/make.py");
    let made = Command::new("python3").args(["-B", script, "pack", form]).args([source, out]).status();
    assert!(made.expect("start python3").success(), "make.py {form}");
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = web();
    rows.extend(buckets());
    rows.extend(local());
    rows
}

fn files() -> Vec<(&'static str, &'static Content)> {
    packed().files.iter().map(|(name, content)| (*name, content)).collect()
}

fn web() -> Vec<Row> {
    let (nginx, files) = (&site().nginx, &files()[..]);
    let plain = &Content::new(13, 77);
    let takes = |name, path: &str| Row::takes(name, nginx.http(path), files);
    vec![
        takes("packed/tar", "typed/tar/m.tar"),
        takes("packed/tar-gz", "typed/tar/m.tar.gz"),
        takes("packed/tgz", "typed/tar/m.tgz"),
        takes("packed/capitals", "m.TAR.GZ"),
        takes("packed/tar-bz2", "typed/tar/m.tar.bz2"),
        takes("packed/tar-xz", "typed/tar/m.tar.xz"),
        takes("packed/zip", "typed/zip/m.zip"),
        takes("packed/of-any-type", "untyped.zip"),
        takes("packed/with-a-query", "typed/zip/m.zip?download=1"),
        takes("packed/by-its-query", "typed/zip/download?path=/a/model.zip"),
        takes("packed/patterns-mean-nothing", "typed/zip/m.zip").env("STORAGE_ALLOW_PATTERNS", "*.txt"),
        Row::takes("packed/without-ranges", nginx.no_range("typed/zip/m.zip"), files),
        Row::takes("packed/gzip-is-no-archive", nginx.http("m.gz"), &[("m.gz", plain)]),
        Row::takes("packed/no-zstd", nginx.http("m.tar.zst"), &[("m.tar.zst", plain)]),
        Row::takes("packed/another-ending", nginx.http("m.zip.bin"), &[("m.zip.bin", &zip_bytes())]),
        Row::fails("packed/a-zip-that-is-none", nginx.http("not-one.zip"), 5, "the archive is damaged"),
        Row::fails("packed/not-there", nginx.http("absent.zip"), 3, "404"),
        Row::refuses("packed/compress", &[&nginx.http("m.tar.Z"), "{0}"], 6, "`m.tar.Z` is packed in a way"),
        Row::refuses("packed/a-packed-zip", &[&nginx.http("m.zip.gz"), "{0}"], 6, "`m.zip.gz` is packed in a way"),
    ]
}

/// The zip on the web server, as a file like any other.
fn zip_bytes() -> Content {
    Content::of_file(&site().nginx.root().join("m.zip.bin"))
}

fn buckets() -> Vec<Row> {
    let (stored, files) = (stored(), &files()[..]);
    let (endpoint, bucket) = (&stored.bucket.endpoint, &stored.bucket);
    let whole = Content::of_file(&packed().zip.with_file_name("m.tar.xz"));
    let two = [("m.tar.gz", &stored.other), ("n.bin", &stored.config)];
    let mixed = [("config.json", &stored.config), ("m.tar.xz", &whole)];
    let rows = vec![
        Row::takes("packed/alone-below-a-prefix", bucket.uri("one"), files),
        Row::takes("packed/by-its-key", bucket.uri("one/m.tar.xz"), files),
        Row::takes("packed/within-a-folder", bucket.uri("deep"), files),
        Row::takes("packed/what-patterns-leave", bucket.uri("filtered"), files).env("STORAGE_ALLOW_PATTERNS", "*.xz"),
        Row::takes("packed/vouched-for", bucket.uri("one"), files).env("DRAY_REQUIRE", "origin"),
        Row::takes("packed/among-others-stays-packed", bucket.uri("two"), &two),
        Row::takes("packed/beside-a-file", bucket.uri("filtered"), &mixed),
        Row::fails("packed/none-below-a-prefix", bucket.uri("packed"), 5, "the archive is damaged"),
    ];
    rows.into_iter().map(|row| row.keyed(endpoint)).collect()
}

fn local() -> Vec<Row> {
    let (files, zip) = (&files()[..], packed().zip.display().to_string());
    let pattern = zip.replace("m.zip", "*.zip");
    vec![
        Row::takes("packed/on-this-machine", &zip, files),
        Row::takes("packed/on-this-machine-as-file-uri", format!("file://{zip}"), files),
        Row::takes("packed/on-this-machine-by-a-pattern", format!("file://{pattern}"), files),
        Row::fails("packed/none-on-this-machine", "{src}/m.tar", 5, "the archive is damaged")
            .placed("src/m.tar", Entry::from(&Content::new(14, 5000))),
    ]
}
