//! CPU time of this process's threads, by name.
//!
//! In: `/proc/self/task`. Out: user and system time, those of threads that have ended included as far as they were
//! seen. Holds: names and threads that are remembered are bounded; what cannot be read counts nothing.

use std::collections::BTreeMap;
use std::path::Path;

use crate::bench::trace::ThreadTime;

/// The kernel's clock ticks a second in `/proc`: USER_HZ, 100 on every architecture that dray is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Names that are told apart, and threads that are looked at.
const NAMES_MAX: usize = 64;
const THREADS_MAX: usize = 256;

/// What was seen so far.
pub(super) struct Threads {
    /// What the process had taken when this began.
    before: Ticks,
    /// The same by name.
    before_by_name: BTreeMap<String, Ticks>,
    /// By thread id, for those that were there at the last look.
    live: BTreeMap<u32, (String, Ticks)>,
    /// By name, of those that have ended.
    ended: BTreeMap<String, Ticks>,
}

/// User and system time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Time {
    pub(super) user: f64,
    pub(super) system: f64,
}

/// The same in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ticks(u64, u64);

impl Ticks {
    fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0), self.1.saturating_add(other.1))
    }

    fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0), self.1.saturating_sub(other.1))
    }

    #[expect(clippy::cast_precision_loss, reason = "display only: ticks of a century fit")]
    fn time(self) -> Time {
        Time { user: self.0 as f64 / TICKS_PER_SECOND, system: self.1 as f64 / TICKS_PER_SECOND }
    }
}

impl Threads {
    /// Counts from now on: what the process did before is not this run's.
    pub(super) fn from_now() -> Self {
        let mut threads = Self {
            before: Ticks::default(),
            before_by_name: BTreeMap::new(),
            live: BTreeMap::new(),
            ended: BTreeMap::new(),
        };
        threads.before = threads.see();
        threads.before_by_name = threads.sums();
        threads
    }

    /// Looks at every thread; yields the time of the whole process.
    pub(super) fn look(&mut self) -> Time {
        self.see().less(self.before).time()
    }

    fn see(&mut self) -> Ticks {
        let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().take(THREADS_MAX);
        let now: BTreeMap<u32, (String, Ticks)> = entries
            .filter_map(|entry| {
                let id = entry.file_name().to_str()?.parse().ok()?;
                let (name, ticks) = stat(&entry.path().join("stat"))?;
                // The first thread is called after the program's file, whatever that is called.
                let name = if id == std::process::id() { "control".to_owned() } else { name };
                Some((id, (name, ticks)))
            })
            .collect();
        for (id, (name, ticks)) in std::mem::replace(&mut self.live, now) {
            if self.live.get(&id).is_none_or(|(same, _)| *same != name) {
                self.end(name, ticks);
            }
        }
        stat(Path::new("/proc/self/stat")).map_or_else(Ticks::default, |(_, ticks)| ticks)
    }

    /// Remembers the time of a thread that has ended.
    fn end(&mut self, name: String, ticks: Ticks) {
        let fits = self.ended.len() < NAMES_MAX || self.ended.contains_key(&name);
        let sum = self.ended.entry(if fits { name } else { "others".to_owned() }).or_default();
        *sum = sum.plus(ticks);
    }

    fn sums(&self) -> BTreeMap<String, Ticks> {
        let mut sums = self.ended.clone();
        for (name, ticks) in self.live.values() {
            let sum = sums.entry(name.clone()).or_default();
            *sum = sum.plus(*ticks);
        }
        sums
    }

    /// The time of all threads seen, longest first.
    pub(super) fn by_name(&mut self) -> Vec<ThreadTime> {
        self.see();
        let mut times: Vec<ThreadTime> = self
            .sums()
            .into_iter()
            .map(|(name, ticks)| {
                let before = self.before_by_name.get(&name).copied().unwrap_or_default();
                let Time { user, system } = ticks.less(before).time();
                ThreadTime { name, user, system }
            })
            .collect();
        times.sort_by(|a, b| (b.user + b.system).total_cmp(&(a.user + a.system)));
        times
    }
}

/// Name and time of one `stat` file (proc_pid_stat(5)).
fn stat(path: &Path) -> Option<(String, Ticks)> {
    fields(&std::fs::read_to_string(path).ok()?)
}

fn fields(text: &str) -> Option<(String, Ticks)> {
    // The name may hold spaces and brackets of its own.
    let (before, after) = text.rsplit_once(')')?;
    let mut numbers = after.split_ascii_whitespace().skip(11);
    let ticks = Ticks(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((shown(before.split_once('(')?.1), ticks))
}

/// What a thread is called on a page: runtimes name their threads after themselves.
fn shown(name: &str) -> String {
    match name {
        name if name.starts_with("tokio-") => "blocking pool",
        name if name.starts_with("iou-") => "io_uring workers",
        name => name,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_yields_name_and_both_times() {
        let line = "7 (a (b) c) S 1 7 7 0 -1 4194560 3 0 0 0 250 75 0 0 20 0 9 0 1 2 3";
        assert_eq!(fields(line), Some(("a (b) c".to_owned(), Ticks(250, 75))));
        assert_eq!(fields("7 (lane-0) S 1").map(|(name, _)| name), None);
        assert_eq!(Ticks(250, 75).time(), Time { user: 2.5, system: 0.75 });
    }

    /// Takes `milliseconds` of processor time.
    fn spin(milliseconds: u64) {
        let taken = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let milliseconds = i64::try_from(milliseconds).unwrap();
        while taken().tv_sec * 1000 + taken().tv_nsec / 1_000_000 < milliseconds {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn names_beyond_the_bound_are_others_and_known_ones_are_not() {
        let mut threads = Threads::from_now();
        (0..NAMES_MAX).for_each(|number| threads.end(format!("thread {number}"), Ticks(1, 1)));
        threads.end("thread 0".to_owned(), Ticks(5, 0));
        threads.end("one more".to_owned(), Ticks(7, 0));
        threads.end("another".to_owned(), Ticks(7, 0));
        assert_eq!((threads.ended["thread 0"], threads.ended["others"]), (Ticks(6, 1), Ticks(14, 0)));
        assert_eq!(threads.ended.len(), NAMES_MAX + 1);
    }

    #[test]
    fn what_a_process_did_before_is_not_counted() {
        let thread = std::thread::Builder::new().name("baseline".to_owned()).spawn(|| {
            spin(300);
            let mut threads = Threads::from_now();
            let times = threads.by_name();
            (stat(Path::new("/proc/thread-self/stat")), times)
        });
        let (own, times) = thread.unwrap().join().unwrap();
        let Some((name, whole)) = own else { panic!("no stat") };
        let time = times.iter().find(|time| time.name == name).unwrap();
        assert!(time.user + time.system < whole.time().user + whole.time().system, "{times:?}");
        assert!(time.user + time.system <= 0.05, "{times:?}");
    }

    #[test]
    fn time_of_a_thread_that_ended_is_kept() {
        let mut threads = Threads::from_now();
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let (ready, spun) = std::sync::mpsc::sync_channel(1);
        let spinner = std::thread::Builder::new().name("spinner".to_owned()).spawn(move || {
            spin(300);
            ready.send(()).unwrap();
            wait.recv().ok();
        });
        spun.recv().unwrap();
        threads.look();
        drop(go);
        spinner.unwrap().join().unwrap();
        let times = threads.by_name();
        let time = times.iter().find(|time| time.name == "spinner").unwrap();
        assert!(0.0 < time.user + time.system, "{times:?}");
    }
}
