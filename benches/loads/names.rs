//! The names of a model with many small files, as a listing finds them.

use dray::manifest::{Entry, Manifest, Ranges, Version};
use dray::origin::Found;
use dray::resolve::{Filter, entries};

/// `count` names in nested folders.
pub(crate) fn names(count: u64) -> Vec<String> {
    let name = |n: u64| format!("layers/{:03}/experts/{:04}/model-{n:06}-of-100000.safetensors", n % 64, n % 1000);
    (0..count).map(name).collect()
}

/// Objects of 4 MiB under these names.
pub(crate) fn found(names: &[String]) -> Vec<Found> {
    let found = |path: &String| Found {
        path: path.clone(),
        object: format!("models/large/{path}"),
        size: Some(4 << 20),
        version: Version { etag: Some(format!("\"{:032x}\"", path.len())), ..Version::default() },
        ranges: Ranges::Assumed,
        stated: Vec::new(),
    };
    names.iter().map(found).collect()
}

/// Every name checked, none left out.
pub(crate) fn manifest(found: Vec<Found>) -> Manifest {
    let entries = entries(found, &Filter::default()).expect("names are safe");
    Manifest { source: "s3://bucket/models/large".to_owned(), entries }
}

/// A byte of every file's id, added up.
pub(crate) fn ids(manifest: &Manifest) -> u64 {
    let first = |entry: &Entry| u64::from(entry.id(&manifest.source).0[0]);
    manifest.entries.iter().map(first).sum()
}
