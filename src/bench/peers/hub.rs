//! The Hub's own client.

use super::{How, Task, Tool};
use crate::uri::{RepoKind, Source};

/// What `--peers` calls it.
pub(super) const NAMES: &[&str] = &["hf"];

/// `hf download`: its Xet downloads are parallel by themselves.
pub(super) fn tools(task: &Task<'_>) -> Vec<Tool> {
    let Ok(Source::Hub(source)) = Source::parse(&task.origin.uri) else { return Vec::new() };
    let kind = match source.kind {
        RepoKind::Model => "model",
        RepoKind::Dataset => "dataset",
    };
    let revision = source.revision.as_deref().unwrap_or("main");
    let args = ["download", "--quiet", "--repo-type", kind, "--revision", revision, "--local-dir"];
    let mut args: Vec<String> = args.map(str::to_owned).to_vec();
    args.extend([task.dest(), format!("{}/{}", source.owner, source.name)]);
    if !source.path.is_empty() {
        // A folder ends in a slash there.
        let one = task.files.len() == 1 && source.path.rsplit('/').next() == Some(task.files[0].path.as_str());
        args.push(if one { source.path } else { format!("{}/", source.path) });
    }
    // What it says of content: the length of each reply, and the ETag as a name.
    vec![Tool { name: "hf", proof: "size", how: How::Program("hf", args) }]
}

/// The Hub's reference of environment variables: all of the machine for Xet, nothing on disk that a later round would
/// read in place of the network, and no look for a newer version of itself.
pub(super) fn env(task: &Task<'_>) -> Vec<(String, String)> {
    let cache = task.place.scratch.join("xet").to_string_lossy().into_owned();
    let pairs = [
        ("HF_XET_HIGH_PERFORMANCE", "1"),
        ("HF_XET_CHUNK_CACHE_SIZE_BYTES", "0"),
        ("HF_XET_CACHE", &cache),
        ("HF_HUB_DISABLE_SHARED_BLOBS", "1"),
        ("HF_HUB_DISABLE_UPDATE_CHECK", "1"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}
