//! What the machine and the cgroup grant this process, and what it has used.
//!
//! In: `/proc` and the cgroup file systems. Out: CPUs and memory it may use. Holds: the smallest limit on the way
//! from our cgroup to the root counts; what cannot be read limits nothing.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A limit beyond this is no limit: cgroup v1 writes "none" as a number near 2^63.
const MEMORY_LIMIT_MAX: u64 = 1 << 60;

/// What this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// The affinity mask, cut down to the cgroup's quota rounded up.
    cpus: usize,
    memory_bytes_max: Option<u64>,
}

impl Place {
    /// Reads the limits of this process.
    fn here() -> Self {
        Self::read(Path::new("/"), affinity())
    }

    /// Reads the limits from the `proc` and cgroup files below `root`.
    fn read(root: &Path, affinity: usize) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let (groups, table) = (text("proc/self/cgroup"), text("proc/self/mountinfo"));
        let mut place = Self { cpus: affinity.max(1), memory_bytes_max: None };
        for (folder, kind) in folders(root, &groups, &table) {
            if let Some(cpus) = cpu_quota(&folder, kind) {
                place.cpus = place.cpus.min(cpus);
            }
            if let Some(limit) = memory_max(&folder, kind) {
                place.memory_bytes_max = Some(place.memory_bytes_max.map_or(limit, |least| least.min(limit)));
            }
        }
        place
    }
}

/// The version of a cgroup hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V1,
    V2,
}

/// Every folder from our cgroups up to the roots of their hierarchies.
fn folders(root: &Path, groups: &str, table: &str) -> Vec<(PathBuf, Kind)> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let kind = if controllers.is_empty() { Kind::V2 } else { Kind::V1 };
        let ours = |mount: &Mount<'_>| match kind {
            Kind::V2 => mount.kind == "cgroup2",
            Kind::V1 => {
                mount.kind == "cgroup" && controllers.split(',').all(|c| mount.options.split(',').any(|o| o == c))
            }
        };
        let Some(mount) = mounts(table).find(ours) else { continue };
        // Inside a container the mount's root is our own group or one above it.
        let below = Path::new(path).strip_prefix(mount.root).unwrap_or(Path::new(""));
        let point = root.join(mount.point.trim_start_matches('/'));
        let mut folder = point.join(below.strip_prefix("/").unwrap_or(below));
        while folder.starts_with(&point) {
            found.push((folder.clone(), kind));
            if !folder.pop() {
                break;
            }
        }
    }
    found
}

/// The CPU quota of one group, rounded up to whole CPUs.
fn cpu_quota(folder: &Path, kind: Kind) -> Option<usize> {
    let (quota, period) = match kind {
        Kind::V2 => {
            let text = std::fs::read_to_string(folder.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
        }
        Kind::V1 => (number(&folder.join("cpu.cfs_quota_us"))?, number(&folder.join("cpu.cfs_period_us"))?),
    };
    if quota == 0 || period == 0 {
        return None;
    }
    usize::try_from(quota.div_ceil(period)).ok()
}

/// The memory limit of one group in bytes.
fn memory_max(folder: &Path, kind: Kind) -> Option<u64> {
    let name = match kind {
        Kind::V1 => "memory.limit_in_bytes",
        Kind::V2 => "memory.max",
    };
    number(&folder.join(name)).filter(|limit| *limit < MEMORY_LIMIT_MAX)
}

/// A file that holds one number; `max` and -1 are none.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn affinity() -> usize {
    match rustix::thread::sched_getaffinity(None) {
        Ok(mask) => usize::try_from(mask.count()).unwrap_or(1),
        // More CPUs than the mask has room for.
        Err(_) => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
    }
}

/// One line of a mount table (proc_pid_mountinfo(5)).
pub(super) struct Mount<'a> {
    /// `major:minor`.
    pub(super) device: &'a str,
    /// What of the file system is mounted.
    pub(super) root: &'a str,
    /// Where.
    pub(super) point: &'a str,
    /// Its type.
    pub(super) kind: &'a str,
    /// Options of the file system itself.
    pub(super) options: &'a str,
}

/// The lines of a mount table that can be read.
pub(super) fn mounts(table: &str) -> impl Iterator<Item = Mount<'_>> {
    table.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let mut system = system.split(' ');
        Some(Mount {
            device: mount.next()?,
            root: mount.next()?,
            point: mount.next()?,
            kind: system.next()?,
            options: system.nth(1).unwrap_or(""),
        })
    })
}

/// CPUs this process may use: one lane each. Read once: thirty files in a cgroup of the first version.
pub fn cpus() -> usize {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(|| Place::here().cpus)
}

/// The cgroup's memory limit in bytes, if there is one. Page cache and tmpfs count towards it.
pub fn memory_limit() -> Option<u64> {
    Place::here().memory_bytes_max
}

/// Bytes an unprivileged process may still write where `path` is, or will be: its nearest parent that is there tells.
/// XFS counts a project quota in; other quotas show when space is reserved.
///
/// # Errors
/// The file system's.
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let there = path.ancestors().find(|path| path.exists());
    // A relative path ends with the empty one, which is here.
    let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let about = rustix::fs::statvfs(there)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// What this process has used so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// CPU time of all threads, user and system.
    pub cpu_seconds: f64,
    /// The most memory that was ever resident; 0 where `/proc` does not tell.
    pub rss_bytes_max: u64,
    /// Memory that is resident now; 0 where `/proc` does not tell.
    pub rss_bytes: u64,
}

/// CPU time of all threads of this process so far, user and system; costs less than [`usage`].
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    cpu.as_secs_f64()
}

/// Reads what this process has used so far.
pub fn usage() -> Usage {
    // Room for all of it: the kernel is asked once, not in small steps.
    let mut status = String::with_capacity(STATUS_BYTES);
    let read = File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut status));
    if let Err(error) = read {
        tracing::debug!(%error, "the process's own figures cannot be read");
    }
    let bytes = |name| status_bytes(&status, name).unwrap_or(0);
    Usage { cpu_seconds: cpu_seconds(), rss_bytes_max: bytes("VmHWM:"), rss_bytes: bytes("VmRSS:") }
}

/// More than `/proc/self/status` has.
const STATUS_BYTES: usize = 8 << 10;

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds the files below a folder and reads a place of 8 CPUs from them.
    fn check(files: &[(&str, &str)], cpus: usize, memory_bytes_max: Option<u64>) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        assert_eq!(Place::read(root.path(), 8), Place { cpus, memory_bytes_max }, "{files:?}");
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 23 0:27 /docker/a /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 23 0:28 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn the_smallest_limit_up_to_the_root_counts_v2() {
        let base = [("proc/self/cgroup", "0::/pod/init\n"), ("proc/self/mountinfo", V2)];
        let with = |more: &[(&'static str, &'static str)]| [&base[..], more].concat();
        check(&with(&[]), 8, None);
        check(&with(&[("sys/fs/cgroup/pod/init/cpu.max", "max 100000\n")]), 8, None);
        check(&with(&[("sys/fs/cgroup/pod/init/cpu.max", "150000 100000\n")]), 2, None);
        check(
            &with(&[("sys/fs/cgroup/pod/cpu.max", "50000 100000\n"), ("sys/fs/cgroup/pod/init/memory.max", "max")]),
            1,
            None,
        );
        check(
            &with(&[("sys/fs/cgroup/pod/memory.max", "1073741824\n"), ("sys/fs/cgroup/memory.max", "99999999999\n")]),
            8,
            Some(1 << 30),
        );
    }

    #[test]
    fn a_container_without_its_own_namespace_finds_its_group_v1() {
        let groups = "3:memory:/docker/a\n2:cpu,cpuacct:/docker/a\n1:name=systemd:/x\n0::/\n";
        check(
            &[
                ("proc/self/cgroup", groups),
                ("proc/self/mountinfo", V1),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
            ],
            3,
            Some(256 << 20),
        );
        check(
            &[
                ("proc/self/cgroup", groups),
                ("proc/self/mountinfo", V1),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
            8,
            None,
        );
    }

    #[test]
    fn a_place_without_proc_has_no_limits() {
        check(&[], 8, None);
        check(&[("proc/self/cgroup", "garbage\n0::\n:::\n"), ("proc/self/mountinfo", "x - \n - - -\n")], 8, None);
    }

    #[test]
    fn this_process_has_used_something() {
        assert!(1 <= cpus());
        let usage = usage();
        assert!((1 << 20) < usage.rss_bytes_max && 0.0 < usage.cpu_seconds, "{usage:?}");
    }
}
