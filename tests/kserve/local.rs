//! Pairs from paths of this machine: links, not copies.

use std::fs;
use std::path::Path;

use crate::Row;
use crate::rig::dray::Dray;
use crate::rig::folder;
use crate::rig::oracle::{Content, tree};

/// A model on disk: `a.bin`, `b.json`, `.hidden`, `sub/c.bin`.
fn model() -> (tempfile::TempDir, Content) {
    let root = folder();
    let content = Content::new(1, 1000);
    for name in ["a.bin", "b.json", ".hidden", "sub/c.bin"] {
        content.write_file(&root.path().join(name));
    }
    (root, content)
}

#[test]
fn paths_are_linked_entry_by_entry() {
    let (root, content) = model();
    let lone = folder();
    content.write_file(&lone.path().join("m.tar"));
    let empty = folder();
    let at = |path: &str| root.path().join(path).to_str().expect("UTF-8").to_owned();
    let here = at("").trim_end_matches('/').to_owned();
    let (a, b) = (("a.bin", &content), ("b.json", &content));
    let rows = [
        Row::takes("one file", at("a.bin"), &[a]),
        Row::takes("one file by file://", format!("file://{}", at("a.bin")), &[a]),
        Row::takes("a pattern", format!("file://{}", at("*.bin")), &[a]),
        Row::takes("a pattern within a folder", format!("file://{}", at("s*/c.bin")), &[("c.bin", &content)]),
        Row::takes("one file is not filtered", at("a.bin"), &[a]).env("STORAGE_ALLOW_PATTERNS", "*.json"),
        Row::takes("an allowed entry", here.clone(), &[b]).env("STORAGE_ALLOW_PATTERNS", "*.json"),
        Row::takes("KServe's own mount", "/mnt/models/model-of-nobody".to_owned(), &[]),
        Row::fails("a pattern without match", format!("file://{}", at("*.gguf")), 3, "nothing matches"),
        Row::fails("a path that is not there", at("absent"), 3, "does not exist"),
        Row::fails("a volume that is not there", "/mnt/pvc/model".to_owned(), 3, "does not exist"),
        Row::fails("an empty folder", empty.path().to_str().expect("UTF-8").to_owned(), 3, "nothing matches"),
        Row::fails("a folder with one archive", lone.path().to_str().expect("UTF-8").to_owned(), 5, "archive"),
    ];
    rows.into_iter().for_each(|row| drop(row.check()));
}

#[test]
fn a_folder_s_entries_become_links_and_what_is_there_stays() {
    let (root, _) = model();
    let dest = folder();
    fs::write(dest.path().join("b.json"), "mine").expect("write");
    for _ in 0..2 {
        Dray::new([root.path(), dest.path()]).run().assert_code(0);
        let links = |name: &str| fs::read_link(dest.path().join(name)).ok();
        assert_eq!(links("a.bin"), Some(root.path().join("a.bin")));
        assert_eq!(links("sub"), Some(root.path().join("sub")));
        assert_eq!(
            tree(dest.path()),
            ["a.bin", "b.json", "sub"].map(str::to_owned).into(),
            "hidden names are left out"
        );
        assert_eq!(fs::read_to_string(dest.path().join("b.json")).expect("read"), "mine");
    }
}

#[test]
fn a_folder_onto_itself_is_nothing_to_do() {
    let empty = folder();
    let run = Dray::new([empty.path(), empty.path()]).run();
    run.assert_code(0);
    assert_eq!(tree(empty.path()).len(), 0);
    assert!(!Path::new("/mnt/models/model-of-nobody").exists());
}
