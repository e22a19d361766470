//! Runs the `dray` binary as an outsider would: a clean environment, a bound on time, all output kept.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::s3::{ACCESS_KEY, SECRET_KEY};

const TIME_MAX: Duration = Duration::from_secs(120);

/// One run to be: arguments and environment.
pub(crate) struct Dray {
    command: Command,
    home: tempfile::TempDir,
    time_max: Duration,
}

impl Dray {
    /// `dray` with a clean environment and a home of its own.
    pub(crate) fn new<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        Self::program(env!("CARGO_BIN_EXE_dray"), args)
    }

    /// Another program under the same conditions.
    pub(crate) fn program<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> Self {
        let home = tempfile::tempdir().expect("temporary folder");
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", home.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command, home, time_max: TIME_MAX }
    }

    /// `dray pull src dest --report FILE`.
    pub(crate) fn pull(src: &str, dest: &Path) -> Self {
        let this = Self::new([OsStr::new("pull"), OsStr::new(src), dest.as_os_str()]);
        let report = this.report_path();
        this.args([OsStr::new("--report"), report.as_os_str()])
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The folder it is started in.
    pub(crate) fn within_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The endpoint and the credentials that the rig's S3 servers know.
    pub(crate) fn s3(self, endpoint: &str) -> Self {
        self.env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_REGION", "us-east-1")
    }

    /// The longest the run may take.
    pub(crate) fn within(mut self, time_max: Duration) -> Self {
        self.time_max = time_max;
        self
    }

    pub(crate) fn run(self) -> Run {
        self.spawn().wait()
    }

    pub(crate) fn spawn(mut self) -> Running {
        let mut child = self.command.spawn().expect("start dray");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let shown = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let report = self.report_path();
        Running {
            child,
            home: self.home,
            shown,
            report,
            output: [stdout, stderr],
            started: Instant::now(),
            time_max: self.time_max,
            resident_max: 0,
        }
    }

    fn report_path(&self) -> PathBuf {
        self.home.path().join("report.json")
    }
}

/// What a process has printed so far, and the thread that reads it.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

fn collect(mut from: impl Read + Send + 'static) -> Output {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let shared = bytes.clone();
    let reader = thread::spawn(move || {
        let mut block = [0; 4096];
        loop {
            let length = from.read(&mut block).expect("read output");
            if length == 0 {
                break;
            }
            shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&block[..length]);
        }
    });
    Output { bytes, reader: Some(reader) }
}

impl Output {
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn whole(&mut self) -> String {
        self.reader.take().expect("waited for once").join().expect("reader");
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).expect("output is UTF-8")
    }
}

/// A run under way; killed when dropped.
pub(crate) struct Running {
    child: Child,
    home: tempfile::TempDir,
    shown: String,
    report: PathBuf,
    output: [Output; 2],
    started: Instant,
    time_max: Duration,
    resident_max: u64,
}

impl Running {
    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // The run may have ended just now; it is not reaped before `wait`, so the pid is still its own.
        kill_process(pid, signal).expect("signal dray");
    }

    /// Whether the process has a handler for `signal` by now.
    pub(crate) fn handles(&self, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap_or("0");
        let caught = u64::from_str_radix(mask, 16).expect("a mask of signals");
        caught & (1 << (signal.as_raw() - 1)) != 0
    }

    /// What is on stdout by now.
    pub(crate) fn stdout_so_far(&self) -> String {
        self.output[0].so_far()
    }

    /// What is on stderr by now.
    pub(crate) fn stderr_so_far(&self) -> String {
        self.output[1].so_far()
    }

    /// Bytes resident at the most so far, as the kernel counts them; 0 once the process has ended, and before it is
    /// what it was started as: until then it has this process's memory.
    fn resident_peak(&self) -> u64 {
        let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
        if program(&self.child.id().to_string()) == program("self") {
            return 0;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kib << 10
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait for dray").is_some()
    }

    pub(crate) fn wait(mut self) -> Run {
        while !self.has_ended() {
            if self.time_max < self.started.elapsed() {
                self.child.kill().expect("kill dray");
                let [_, stderr] = self.output().map(|text| tail(&text));
                panic!("dray {} took over {:?}; stderr:\n{stderr}", self.shown, self.time_max);
            }
            self.resident_max = self.resident_max.max(self.resident_peak());
            thread::sleep(Duration::from_millis(2));
        }
        let status = self.child.wait().expect("wait for dray");
        let seconds = self.started.elapsed().as_secs_f64();
        let [stdout, stderr] = self.output();
        let report = fs::read_to_string(&self.report).ok();
        let report = report.map(|text| serde_json::from_str(&text).expect("the report is JSON"));
        let resident_max = self.resident_max;
        Run { status, stdout, stderr, report, seconds, resident_max, shown: self.shown.clone() }
    }

    fn output(&mut self) -> [String; 2] {
        let [stdout, stderr] = &mut self.output;
        [stdout.whole(), stderr.whole()]
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// A run that has ended.
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) report: Option<Value>,
    pub(crate) seconds: f64,
    /// The process's own peak of resident bytes, seen every few milliseconds.
    pub(crate) resident_max: u64,
    shown: String,
}

impl Run {
    /// The exit code, or 128 and the signal's number when a signal ended the process itself.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().expect("a code or a signal"))
    }

    pub(crate) fn killed(&self) -> bool {
        self.status.signal() == Some(9)
    }

    /// The last line on stderr that is not empty.
    pub(crate) fn last_line(&self) -> &str {
        self.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default()
    }

    /// Exit 0, nothing on stdout, and the report says sealed.
    pub(crate) fn assert_sealed(&self) -> &Value {
        self.assert_code(0);
        assert_eq!(self.stdout, "", "stdout of dray {}", self.shown);
        let report = self.report();
        assert_eq!(report["outcome"], "sealed", "{report}");
        let bytes = &report["bytes"];
        let part = |name: &str| bytes[name].as_u64().unwrap_or_else(|| panic!("bytes.{name}: {report}"));
        assert!(part("total") <= part("fetched") + part("reused"), "{bytes}");
        report
    }

    /// The exit code is `code`, and the last line is one short `error: ` line; returns it.
    pub(crate) fn assert_fails(&self, code: i32) -> &str {
        self.assert_code(code);
        let line = self.last_line();
        assert!(line.starts_with("error: "), "last line of dray {}: {line:?}\n{}", self.shown, tail(&self.stderr));
        assert!(line.len() <= 500, "the error line is short: {line}");
        line
    }

    pub(crate) fn assert_code(&self, code: i32) {
        let stderr = tail(&self.stderr);
        assert_eq!(self.code(), code, "exit code of dray {}; stderr:\n{stderr}", self.shown);
    }

    pub(crate) fn report(&self) -> &Value {
        let report = self.report.as_ref();
        report.unwrap_or_else(|| panic!("no report of dray {}; stderr:\n{}", self.shown, tail(&self.stderr)))
    }

    /// A counter of the report, as `bytes.fetched`.
    pub(crate) fn count(&self, path: &str) -> u64 {
        let value = path.split('.').fold(self.report(), |value, name| &value[name]);
        value.as_u64().unwrap_or_else(|| panic!("{path} in {}", self.report()))
    }

    /// The report's entry of one file.
    pub(crate) fn file(&self, path: &str) -> &Value {
        let files = self.report()["files"].as_array().expect("files");
        let entry = files.iter().find(|file| file["path"] == path);
        entry.unwrap_or_else(|| panic!("{path} is not in {}", self.report()))
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
