//! The Hub's own client.

use super::{How, Task, Tool};

/// What `--peers` calls it.
pub(super) const NAMES: &[&str] = &["hf"];

/// `hf download`: its Xet downloads are parallel by themselves.
pub(super) fn tools(task: &Task<'_>) -> Vec<Tool> {
    let name = task.origin.uri.strip_prefix("hf://").unwrap_or_default();
    let (kind, name) = match name.strip_prefix("datasets/") {
        Some(name) => ("dataset", name),
        None => ("model", name),
    };
    let (name, revision) = name.split_once(':').unwrap_or((name, "main"));
    let args = ["download", "--quiet", "--repo-type", kind, "--revision", revision, "--local-dir"];
    let mut args: Vec<String> = args.map(str::to_owned).to_vec();
    args.extend([task.dest(), name.to_owned()]);
    // What it says of content: the length of each reply, and the ETag as a name.
    vec![Tool { name: "hf", proof: "size", how: How::Program("hf", args) }]
}

/// The Hub's reference of environment variables: all of the machine for Xet, and no cache on disk that a later round
/// would read in place of the network.
pub(super) fn env(task: &Task<'_>) -> Vec<(String, String)> {
    let cache = task.place.scratch.join("xet").to_string_lossy().into_owned();
    let pairs = [("HF_XET_HIGH_PERFORMANCE", "1"), ("HF_XET_CHUNK_CACHE_SIZE_BYTES", "0"), ("HF_XET_CACHE", &cache)];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}
