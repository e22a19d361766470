//! The machine under a measurement: figures mean nothing without it.
//!
//! In: `/proc`, and the place that bytes go to. Out: words and numbers for people. Holds: what cannot be read is empty
//! or zero, and no measurement fails for it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::{Dest, IoWish, place, probe};

/// What a reader must know of the machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Model name of the first CPU.
    pub cpu: String,
    /// CPUs this process may use: affinity and cgroup quota.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// The file system that bytes go to: type and device, as `/proc/self/mountinfo` has them.
    pub file_system: String,
    /// `uring`, `threads` or `buffered`: the way to the disk that dray takes there.
    pub io: String,
    /// Processes that wanted to run over the last minute, when the bench began: noise.
    pub load_average: f64,
}

impl Machine {
    /// Reads the machine, and what `dest` allows where bytes go anywhere.
    pub fn read(dest: Option<&Path>) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: field(&text("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: place::cpus(),
            memory_bytes: field(&text("/proc/meminfo"), "MemTotal").and_then(|size| kib(&size)).unwrap_or(0),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: dest.and_then(|dest| file_system(&text("/proc/self/mountinfo"), dest)).unwrap_or_default(),
            io: dest.and_then(way).unwrap_or_default(),
            load_average: text("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }

    /// The machine and the file system where `dest` is or will be. Nothing is tried there: [`Machine::io`] stays empty.
    pub fn at(dest: &Path) -> Self {
        let there = dest.ancestors().find(|path| path.exists());
        // A relative path ends with the empty one, which is here.
        let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self { file_system: file_system(&mounts, there).unwrap_or_default(), ..Self::read(None) }
    }
}

/// The first value of `name` in lines of `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

fn kib(size: &str) -> Option<u64> {
    size.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Type and device of the longest mount point above `dest`.
fn file_system(mounts: &str, dest: &Path) -> Option<String> {
    let dest = dest.canonicalize().ok()?;
    let of_line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.to_owned();
        let mut after = after.split(' ');
        let (kind, device) = (after.next()?, after.next()?);
        dest.starts_with(&point).then(|| (point.len(), format!("{kind} on {device}")))
    };
    // The last of two mounts on one point hides the first.
    mounts.lines().filter_map(of_line).max_by_key(|(length, _)| *length).map(|(_, words)| words)
}

fn way(dest: &Path) -> Option<String> {
    let dest = Dest::open_existing(dest).ok()?;
    probe(&dest, IoWish::Auto).ok().map(|probe| probe.rung.word().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_lies_on_its_nearest_mount() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().canonicalize().unwrap();
        let mounts = format!(
            "1 0 8:1 / / rw - ext4 /dev/root rw\n2 1 0:5 / {} rw - tmpfs tmpfs rw\n3 1 0:6 / /nowhere rw - xfs x rw\n",
            inner.display()
        );
        assert_eq!(file_system(&mounts, &inner).as_deref(), Some("tmpfs on tmpfs"));
        assert_eq!(file_system(&mounts, Path::new("/")).as_deref(), Some("ext4 on /dev/root"));
        assert_eq!(file_system("", &inner), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: A CPU: fast\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A CPU: fast"));
        assert_eq!(field(text, "name"), None);
        assert_eq!(kib("16 kB"), Some(16384));
    }
}
