//! The Hub's own client.

use super::{How, Task, Tool};

/// What `--peers` calls it.
pub(super) const NAMES: &[&str] = &["hf"];

/// `hf download`, by the Hub's guide: its Xet downloads are parallel by themselves.
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
