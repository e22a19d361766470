//! `gs://`: which objects land where, against fake-gcs-server.

use std::sync::OnceLock;

use super::packed::packed;
use super::row::{Entry, Row};
use super::stores::stored;
use crate::rig::fake_gcs;
use crate::rig::gcs::Bucket;
use crate::rig::oracle::{Content, MIB};

/// Objects of the one bucket that most rows read, as names and contents.
struct Shelf {
    bucket: Bucket,
    config: Content,
    weights: Content,
    deep: Content,
    empty: Content,
}

fn shelf() -> &'static Shelf {
    static SHELF: OnceLock<Shelf> = OnceLock::new();
    SHELF.get_or_init(|| {
        let shelf = Shelf {
            bucket: fake_gcs().bucket("kserve"),
            config: Content::new(1, 300),
            weights: Content::new(2, 2 * MIB + 1),
            deep: Content::new(3, 77),
            empty: Content::new(4, 0),
        };
        shelf.bucket.put(&[
            ("plain/config.json", &shelf.config),
            ("plain/weights.bin", &shelf.weights),
            ("plain/sub/deep.bin", &shelf.deep),
            ("model/weights.bin", &shelf.weights),
            ("model-v2/other.bin", &shelf.deep),
            ("model.txt", &shelf.config),
            ("marked/", &shelf.empty),
            ("marked/sub/", &shelf.empty),
            ("marked/sub/a", &shelf.deep),
            ("hollow/", &shelf.empty),
            ("zero/__init__.py", &shelf.empty),
            ("zero/weights.bin", &shelf.weights),
            ("both", &shelf.config),
            ("both/below", &shelf.deep),
            ("again/again/again", &shelf.deep),
            ("odd/a b+%41#?.txt", &shelf.config),
            ("packed/m.zip.txt", &shelf.config),
        ]);
        let zip = &packed().zip;
        ["one/m.zip", "packed/m.zip"].into_iter().for_each(|name| shelf.bucket.put_file(name, zip));
        shelf
    })
}

impl Shelf {
    /// A row that takes what is below `path`, and no more than `files`.
    fn takes(&self, name: &'static str, path: &str, files: &[(&str, &Content)]) -> Row {
        Row::takes(name, self.bucket.uri(path), files)
    }

    fn fails(&self, name: &'static str, path: &str, exit: i32, last: &'static str) -> Row {
        Row::fails(name, self.bucket.uri(path), exit, last)
    }

    /// The files of `plain/`.
    fn plain(&self) -> [(&'static str, &Content); 3] {
        [("config.json", &self.config), ("weights.bin", &self.weights), ("sub/deep.bin", &self.deep)]
    }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = places();
    rows.extend(absent());
    rows.extend(chosen());
    rows.extend(hostile());
    let endpoint = format!("http://{}", shelf().bucket.host());
    rows.into_iter().map(|row| row.env("STORAGE_EMULATOR_HOST", &endpoint)).collect()
}

/// Names below a prefix, and objects that are named in full.
fn places() -> Vec<Row> {
    let (shelf, stored) = (shelf(), stored());
    let config = [("config.json", &shelf.config)];
    let weights = [("weights.bin", &shelf.weights)];
    let zero = [("__init__.py", &shelf.empty), ("weights.bin", &shelf.weights)];
    let older = || Entry::Text("older".to_owned());
    let whole = fake_gcs().bucket("kserve-whole");
    whole.put(&[("weights.bin", &shelf.weights), ("sub/deep.bin", &shelf.deep)]);
    let all = [("weights.bin", &shelf.weights), ("sub/deep.bin", &shelf.deep)];
    vec![
        shelf.takes("gcs/prefix", "plain", &shelf.plain()),
        shelf.takes("gcs/prefix-with-a-slash", "plain/", &shelf.plain()),
        shelf.takes("gcs/nested-prefix", "plain/sub", &[("deep.bin", &shelf.deep)]),
        shelf.takes("gcs/sibling-prefix", "model", &weights),
        shelf.takes("gcs/prefix-again-below-itself", "again", &[("again/again", &shelf.deep)]),
        shelf.takes("gcs/exact-object", "plain/config.json", &config),
        shelf.takes("gcs/exact-object-at-the-top", "model.txt", &[("model.txt", &shelf.config)]),
        shelf.takes("gcs/object-beside-its-folder", "both", &[("both", &shelf.config)]),
        shelf.takes("gcs/folder-objects", "marked", &[("sub/a", &shelf.deep)]),
        shelf.takes("gcs/zero-bytes", "zero", &zero),
        shelf.takes("gcs/zero-bytes-exact", "zero/__init__.py", &zero[..1]),
        shelf.takes("gcs/odd-names", "odd", &[("a b+%41#?.txt", &shelf.config)]),
        Row::takes("gcs/whole-bucket", "gs://kserve-whole", &all),
        shelf.takes("gcs/over-an-older-file", "model", &weights).placed("0/weights.bin", older()),
        shelf.takes("gcs/beside-another-file", "model", &weights).placed("0/mine", older()).holds("mine", older()),
        Row::of("gcs/after-s3", &[&stored.bucket.uri("model/"), "{0}", &shelf.bucket.uri("plain"), "{1}"])
            .keyed(&stored.bucket.endpoint)
            .dest(&[("weights.bin", &stored.weights)])
            .dest(&shelf.plain()),
    ]
}

/// Nothing is there, or nothing that can be meant.
fn absent() -> Vec<Row> {
    let shelf = shelf();
    vec![
        shelf.fails("gcs/nothing-there", "absent", 3, "`absent`"),
        shelf.fails("gcs/part-of-a-segment", "mod", 3, "`mod`"),
        shelf.fails("gcs/folder-object-alone", "hollow", 3, "`hollow`"),
        Row::fails("gcs/no-such-bucket", "gs://kserve-absent/m", 3, "kserve-absent"),
        Row::refuses("gcs/no-bucket", &["gs:///m", "{0}"], 2, "bucket"),
    ]
}

/// Patterns and archives.
fn chosen() -> Vec<Row> {
    let shelf = shelf();
    let files: Vec<_> = packed().files.iter().map(|(name, content)| (*name, content)).collect();
    let bins = [("weights.bin", &shelf.weights), ("sub/deep.bin", &shelf.deep)];
    let zip = Content::of_file(&packed().zip);
    let two = [("m.zip", &zip), ("m.zip.txt", &shelf.config)];
    vec![
        shelf.takes("gcs/allowed", "plain", &bins).env("STORAGE_ALLOW_PATTERNS", "*.bin"),
        shelf.takes("gcs/ignored", "plain", &bins[..1]).env("STORAGE_IGNORE_PATTERNS", r#"["*.json", "sub/*"]"#),
        shelf
            .takes("gcs/ignored-wins", "plain", &bins[..1])
            .env("STORAGE_ALLOW_PATTERNS", "*.bin")
            .env("STORAGE_IGNORE_PATTERNS", "sub/*"),
        shelf.fails("gcs/nothing-passes", "plain", 3, "filters").env("STORAGE_ALLOW_PATTERNS", "*.gguf"),
        shelf
            .takes("gcs/exact-object-is-not-filtered", "model/weights.bin", &bins[..1])
            .env("STORAGE_ALLOW_PATTERNS", "*.json"),
        shelf.takes("gcs/archive-below-a-prefix", "one", &files),
        shelf.takes("gcs/archive-by-its-name", "one/m.zip", &files),
        shelf.takes("gcs/archive-that-patterns-leave", "packed", &files).env("STORAGE_ALLOW_PATTERNS", "*.zip"),
        shelf.takes("gcs/archive-among-others-stays-packed", "packed", &two),
    ]
}

/// Names that no folder can hold, or that would leave it.
fn hostile() -> Vec<Row> {
    let some = Content::new(8, 10);
    let row = |name, bucket: &str, objects: [&str; 2]| {
        let bucket = fake_gcs().bucket(bucket);
        bucket.put(&objects.map(|object| (object, &some)));
        Row::fails(name, bucket.uri("m"), 6, "error: ")
    };
    vec![
        row("gcs/climbs-out", "kserve-climbs", ["m/good", "m/../evil"]),
        row("gcs/climbs-within", "kserve-climbs-within", ["m/good", "m/a/../b"]),
        row("gcs/backslash", "kserve-backslash", ["m/bad\\name", "m/good"]),
        row("gcs/file-and-folder", "kserve-both", ["m/a", "m/a/b"]),
        row("gcs/state-folder", "kserve-state", ["m/good", "m/.dray/receipt.json"]),
    ]
}
