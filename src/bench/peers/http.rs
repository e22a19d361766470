//! Tools that take URLs.

use super::{How, Task, Tool};

/// What `--peers` calls them.
pub(super) const NAMES: &[&str] = &["curl", "curl-parallel", "aria2c", "axel", "wget", "pget", "hf_transfer"];

/// `-x` and `-s`: what aria2 allows to one server (its manual: 1 to 16).
const STREAMS: &str = "16";

/// One program a file, as an old script has it; `$1` is the program, `$2` the folder, then URL and name in turn.
const AXEL: &str = "set -e; axel=$1; dest=$2; shift 2; while [ $# -gt 0 ]; do \
                    \"$axel\" -q -n 16 -o \"$dest/$2\" \"$1\"; shift 2; done";

const PGET: &str = "set -e; pget=$1; dest=$2; shift 2; while [ $# -gt 0 ]; do \
                    \"$pget\" --log-level error \"$1\" \"$dest/$2\"; shift 2; done";

/// As huggingface_hub called it: 128 requests of 10 MiB at most, 8 files at once.
const HF_TRANSFER: &str = "\
import sys
from concurrent.futures import ThreadPoolExecutor
import hf_transfer
dest, pairs = sys.argv[1], sys.argv[2:]
def take(url, name):
    hf_transfer.download(url=url, filename=f'{dest}/{name}', max_files=128, chunk_size=10 << 20,
                         parallel_failures=3, max_retries=5)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(take, pairs[::2], pairs[1::2]))
";

/// The tools for `task`.
pub(super) fn tools(task: &Task<'_>) -> Vec<Tool> {
    let tool = |name, how| Tool { name, proof: "size", how };
    let pairs: Vec<String> = task.named_urls().flat_map(|(url, name)| [url.to_owned(), name]).collect();
    let mut tools = vec![tool("curl", How::Program("curl", curl(task, &[])))];
    if 1 < task.files.len() {
        // One file has nothing to be parallel with: curl asks for it whole.
        tools.push(tool("curl-parallel", How::Program("curl", curl(task, &["-Z"]))));
    }
    tools.push(tool("aria2c", How::Program("aria2c", aria2c(task))));
    tools.push(tool("axel", How::EachFile("axel", AXEL, pairs.clone())));
    tools.push(tool("wget", How::Program("wget", wget(task))));
    tools.push(tool("pget", How::EachFile("pget", PGET, pairs.clone())));
    let python = [vec![task.dest()], pairs].concat();
    tools.push(tool("hf_transfer", How::Python("hf_transfer", HF_TRANSFER, python)));
    tools
}

/// `man curl`: `-q`, which must be first, leaves out settings of the user's own; `-Z` moves up to 50 at once; `--fail`
/// makes an HTTP error one of the program.
fn curl(task: &Task<'_>, flags: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = ["-q", "-sS", "--fail"].iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
    if let Some(authority) = &task.origin.authority {
        args.extend(["--cacert".to_owned(), authority.to_string_lossy().into_owned()]);
    }
    for (url, name) in task.named_urls() {
        args.extend(["-o".to_owned(), format!("{}/{name}", task.dest()), url.to_owned()]);
    }
    args
}

/// aria2's manual: `-x` and `-s` 16, pieces from 1 MiB (`-k`), and `falloc` as the fastest allocation on ext4 and XFS.
fn aria2c(task: &Task<'_>) -> Vec<String> {
    let parallel = task.files.len().min(16).to_string();
    let flags = ["--no-conf", "-q", "-x", STREAMS, "-s", STREAMS, "-k", "1M", "--file-allocation=falloc", "-Z"];
    let mut args: Vec<String> = flags.map(str::to_owned).to_vec();
    args.extend(["-j".to_owned(), parallel, "-d".to_owned(), task.dest()]);
    if let Some(authority) = &task.origin.authority {
        args.push(format!("--ca-certificate={}", authority.to_string_lossy()));
    }
    args.extend(task.origin.urls.iter().cloned());
    args
}

fn wget(task: &Task<'_>) -> Vec<String> {
    let mut args = vec!["--no-config".to_owned(), "-q".to_owned(), "-P".to_owned(), task.dest()];
    if let Some(authority) = &task.origin.authority {
        args.push(format!("--ca-certificate={}", authority.to_string_lossy()));
    }
    args.extend(task.origin.urls.iter().cloned());
    args
}
