//! One run of one program: its wall time, the CPU of its process tree, its peak memory, its last words.
//!
//! In: a command line, a folder for its output, a bound on time. Out: a [`Ran`], or why there is none.
//! Holds: every process of its group has ended when this returns, also when the harness is stopped.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use wait4::Wait4;

use crate::bench::Stop;
use crate::bench::contender::without_secrets;

/// How long after its start a child is first looked at; each later pause is twice as long, up to [`LOOK_EVERY`].
const LOOK_FIRST: Duration = Duration::from_millis(1);

/// How often a running child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a killed child may take to end: a blocked disk must not keep the harness for ever.
const DEATH_MAX: Duration = Duration::from_secs(60);

/// Bytes of output that are read back, from its end.
const SAID_MAX: u64 = 1 << 20;

/// Bytes of output on disk at which a child is stopped.
const OUTPUT_MAX: u64 = 64 << 20;

/// Processes of one tree that are looked at.
const TREE_MAX: usize = 64;

/// What the harness's own peak may grow by between a look and the start of a child.
const PEAK_SLACK: u64 = 4 << 20;

/// Characters of a child's last line that are kept.
const LINE_MAX: usize = 300;

/// What is to be run.
#[derive(Debug)]
pub struct Job<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// Variables on top of the harness's own; an empty one is taken away.
    pub env: &'a [(String, String)],
    /// A folder for its output; it is started there.
    pub scratch: &'a Path,
    /// The longest it may take.
    pub within: Duration,
}

/// A program that ended by itself.
#[derive(Debug)]
pub struct Ran {
    /// When it was started.
    pub began: Instant,
    /// Wall time to its exit.
    pub seconds: f64,
    /// User and system time of it and of the children it waited for.
    pub cpu_seconds: f64,
    /// Peak resident memory of the largest process in its tree.
    pub rss_bytes_max: u64,
    /// What it wrote to stdout, the last mebibyte of it.
    pub stdout: String,
}

/// Why there is no [`Ran`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It could not be started, failed, or took too long: the line to show.
    Failed(String),
    /// The harness was told to stop.
    Stopped,
}

/// Runs `job` to its end. Blocks.
///
/// # Errors
/// [`Fault`].
pub fn run(job: &Job<'_>, stop: &Stop) -> Result<Ran, Fault> {
    if stop.is_asked() {
        return Err(Fault::Stopped);
    }
    let (program, args) = job.argv.split_first().ok_or_else(|| Fault::Failed("nothing to run".to_owned()))?;
    let failed = |error: std::io::Error| Fault::Failed(format!("{program}: {error}"));
    let output = [job.scratch.join("stdout"), job.scratch.join("stderr")];
    let [stdout, stderr] = [File::create(&output[0]).map_err(failed)?, File::create(&output[1]).map_err(failed)?];
    let mut command = Command::new(program);
    command.args(args).current_dir(job.scratch).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    // A group of its own: a shell's children are killed with it, and a terminal's Ctrl-C comes to the harness alone.
    command.process_group(0);
    for (name, value) in job.env {
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    // Memory of the harness counts for a child that is started from it: see `peak`.
    let own = own_peak();
    let began = Instant::now();
    let mut child = command.spawn().map_err(failed)?;
    let group = Pid::from_child(&child);
    let looked = watch(group, &output, job.within, stop);
    kill_all(group);
    let ended = looked.ended.or_else(|| looked.waiter.recv_timeout(DEATH_MAX).ok());
    let Some(ended) = ended else {
        return Err(Fault::Failed("killed, and still there a minute later".to_owned()));
    };
    let used = reap(&mut child).map_err(failed)?;
    if let Some(fault) = looked.fault {
        return Err(fault);
    }
    if !used.status.success() {
        return Err(Fault::Failed(last_words(&output, used.status)));
    }
    Ok(Ran {
        began,
        seconds: (ended - began).as_secs_f64(),
        cpu_seconds: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        rss_bytes_max: if own + PEAK_SLACK < used.rusage.maxrss { used.rusage.maxrss } else { looked.peak },
        stdout: tail(&output[0]),
    })
}

/// What was seen of a running child.
struct Looked {
    waiter: Receiver<Instant>,
    ended: Option<Instant>,
    fault: Option<Fault>,
    peak: u64,
}

/// Looks at the child until it ends or has to.
fn watch(group: Pid, output: &[std::path::PathBuf; 2], within: Duration, stop: &Stop) -> Looked {
    let (tell, waiter) = sync_channel(1);
    std::thread::spawn(move || {
        // It stays a zombie, so its number is nobody else's while the group may be killed.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(group), options), Err(rustix::io::Errno::INTR)) {}
        // Nobody waits any more when the child outlived its kill.
        tell.send(Instant::now()).ok();
    });
    let began = Instant::now();
    let (mut peak, mut pause) = (0, LOOK_FIRST);
    loop {
        peak = peak.max(peak_of_tree(group));
        let looked = waiter.recv_timeout(pause);
        pause = (2 * pause).min(LOOK_EVERY);
        let fault = match looked {
            Ok(ended) => return Looked { waiter, ended: Some(ended), fault: None, peak },
            Err(RecvTimeoutError::Disconnected) => Some(Fault::Failed("lost from sight".to_owned())),
            Err(RecvTimeoutError::Timeout) if stop.is_asked() => Some(Fault::Stopped),
            Err(RecvTimeoutError::Timeout) if within < began.elapsed() => {
                Some(Fault::Failed(format!("not done after {} s", within.as_secs_f64())))
            }
            Err(RecvTimeoutError::Timeout) => talkative(output),
        };
        if fault.is_some() {
            return Looked { waiter, ended: None, fault, peak };
        }
    }
}

fn talkative(output: &[std::path::PathBuf; 2]) -> Option<Fault> {
    let length = |path| std::fs::metadata(path).map_or(0, |about| about.len());
    let long = OUTPUT_MAX < output.iter().map(length).sum();
    long.then(|| Fault::Failed("it wrote more than 64 MiB of output".to_owned()))
}

fn kill_all(group: Pid) {
    // Nothing is left to kill in the usual case.
    kill_process_group(group, Signal::KILL).ok();
}

fn reap(child: &mut Child) -> std::io::Result<wait4::ResUse> {
    loop {
        match child.wait4() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The last line of what it wrote, stderr before stdout, behind how it ended.
fn last_words(output: &[std::path::PathBuf; 2], status: ExitStatus) -> String {
    let line = |path| tail(path).lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned());
    let said = line(&output[1]).or_else(|| line(&output[0])).unwrap_or_default();
    let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // A tool may well say its URL, signature and all.
    let said = said.split(' ').map(without_secrets).collect::<Vec<_>>().join(" ");
    let said: String = said.chars().take(LINE_MAX).collect();
    // "exit status: 7" and "signal: 9 (SIGKILL)" are the standard library's words.
    format!("{status}: {said}")
}

fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(SAID_MAX);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(SAID_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // Output that cannot be read is no output.
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// Peak resident bytes of the harness: Linux counts them for a child too, from before its program began.
fn own_peak() -> u64 {
    peak_of("self").unwrap_or(0)
}

/// The largest peak of the processes beneath `root` and itself.
fn peak_of_tree(root: Pid) -> u64 {
    let mut found = vec![root.as_raw_nonzero().to_string()];
    let mut at = 0;
    while at < found.len() && found.len() < TREE_MAX {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", found[at])).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().map(str::to_owned));
        at += 1;
    }
    found.iter().filter_map(|pid| peak_of(pid)).max().unwrap_or(0)
}

fn peak_of(pid: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, within: Duration, stop: &Stop) -> Result<Ran, Fault> {
        let scratch = tempfile::tempdir().unwrap();
        let argv = ["sh", "-c", script].map(str::to_owned);
        let env = [("WORD".to_owned(), "known".to_owned())];
        run(&Job { argv: &argv, env: &env, scratch: scratch.path(), within }, stop)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_run_has_its_time_its_work_and_its_words() {
        let ran = shell("sleep 0.3; echo $WORD", LONG, &Stop::default()).unwrap();
        assert!(0.3 <= ran.seconds, "{ran:?}");
        assert_eq!(ran.stdout, "known\n");
        // The loop's own process burns: a grandchild of the harness.
        let ran = shell("sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'", LONG, &Stop::default()).unwrap();
        assert!(0.05 <= ran.cpu_seconds, "{ran:?}");
        let memory = "head -c 60000000 /dev/zero | tail -c 60000000 | wc -c";
        let ran = shell(memory, LONG, &Stop::default()).unwrap();
        assert!((40 << 20) <= ran.rss_bytes_max, "{ran:?}");
    }

    #[test]
    fn failures_say_what_the_program_said() {
        let within = |script, time| match shell(script, time, &Stop::default()) {
            Err(Fault::Failed(line)) => line,
            other => panic!("{other:?}"),
        };
        let said = |script| within(script, LONG);
        assert_eq!(said("echo first >&2; echo the cause >&2; exit 7"), "exit status: 7: the cause");
        let url = "echo 'curl: (22) http://host/file?X-Amz-Signature=1 is gone' >&2; exit 22";
        assert_eq!(said(url), "exit status: 22: curl: (22) http://host/file?… is gone");
        assert_eq!(within("sleep 1000 & sleep 1000", Duration::from_millis(300)), "not done after 0.3 s");
        let argv = ["/nowhere/at-all".to_owned()];
        let job = Job { argv: &argv, env: &[], scratch: Path::new("/tmp"), within: LONG };
        assert!(matches!(run(&job, &Stop::default()), Err(Fault::Failed(_))));
    }

    #[test]
    fn a_stop_ends_the_child_and_starts_no_other() {
        let stop = Stop::default();
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while began.elapsed() < Duration::from_millis(100) {
                    std::thread::yield_now();
                }
                stop.ask(15);
            });
            assert_eq!(shell("sleep 1000", LONG, &stop).unwrap_err(), Fault::Stopped);
        });
        assert_eq!(shell("true", LONG, &stop).unwrap_err(), Fault::Stopped);
    }
}
