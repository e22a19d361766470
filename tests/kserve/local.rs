//! Pairs from paths of this machine: links, not copies.

use super::row::{Entry, Row};

pub(super) fn rows() -> Vec<Row> {
    let text = |text: &str| Entry::Text(text.to_owned());
    let link = |path: &str| Entry::Link(format!("{{src}}/{path}"));
    let with_model = |row: Row| {
        ["a.bin", "b.json", ".hidden", "sub/c.bin"]
            .into_iter()
            .fold(row, |row, name| row.placed(&format!("src/{name}"), text(name)))
    };
    let takes = |name, source, linked: &[&str]| {
        let row = with_model(Row::takes(name, source, &[]));
        linked.iter().fold(row, |row, path| row.holds(path.rsplit('/').next().unwrap_or(path), link(path)))
    };
    let fails = |name, source, last| with_model(Row::fails(name, source, 3, last));
    vec![
        takes("local/folder", "{src}", &["a.bin", "b.json", "sub"]),
        takes("local/folder-as-file-uri", "file://{src}", &["a.bin", "b.json", "sub"]),
        takes("local/folder-into-one-that-is-there", "{src}", &["a.bin", "b.json", "sub"])
            .placed("0/mine.txt", text("mine"))
            .holds("mine.txt", text("mine")),
        takes("local/a-name-that-is-there-stays", "{src}", &["a.bin", "sub"])
            .placed("0/b.json", text("mine"))
            .holds("b.json", text("mine")),
        takes("local/folder-within", "{src}/sub", &["sub/c.bin"]),
        takes("local/one-file", "{src}/a.bin", &["a.bin"]),
        takes("local/one-file-as-file-uri", "file://{src}/a.bin", &["a.bin"]),
        takes("local/a-hidden-file-by-name", "{src}/.hidden", &[".hidden"]),
        takes("local/a-pattern", "file://{src}/*.bin", &["a.bin"]),
        takes("local/a-pattern-for-a-folder", "file://{src}/s*/c.bin", &["sub/c.bin"]),
        takes("local/one-file-is-not-filtered", "{src}/a.bin", &["a.bin"]).env("STORAGE_ALLOW_PATTERNS", "*.json"),
        takes("local/allowed", "{src}", &["b.json"]).env("STORAGE_ALLOW_PATTERNS", "*.json"),
        takes("local/ignored", "{src}", &["a.bin", "b.json"]).env("STORAGE_IGNORE_PATTERNS", "sub"),
        takes("local/proof-is-asked-of-a-link", "{src}", &[])
            .env("DRAY_REQUIRE", "pinned")
            .ends(5, "not proven")
            .dray_only("a variable of dray's own"),
        fails("local/nothing-passes", "{src}", "nothing matches").env("STORAGE_ALLOW_PATTERNS", "*.gguf"),
        fails("local/a-pattern-without-match", "file://{src}/*.gguf", "nothing matches"),
        fails("local/not-there", "{src}/absent", "does not exist"),
        fails("local/not-there-as-file-uri", "file://{src}/absent", "does not exist"),
        fails("local/an-empty-folder", "{src}/sub/none", "does not exist"),
        Row::fails("local/a-volume-that-is-not-there", "/mnt/pvc/model", 3, "does not exist"),
        Row::takes("local/mounted-by-kserve", "/mnt/models/model-of-nobody", &[]),
        Row::refuses("local/file-uri-without-path", &["file://", "{0}"], 2, "names no path"),
    ]
}
