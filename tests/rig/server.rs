//! A server process that cannot outlive its test.
//!
//! Each server hangs under a small shell that holds the read end of a pipe. When the write end
//! closes (drop, panic, or death of the test process, whose statics are never dropped), the shell
//! kills its one child by pid and removes the state folder.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const READY_MAX: Duration = Duration::from_secs(60);
const TRIES_MAX: u32 = 4;

const KEEPER: &str = r#"
trap '' INT
state=$1; shift
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
{ read -r _ <&3; kill -9 "$server"; } 2>/dev/null &
watch=$!
wait "$server"
code=$?
if kill "$watch" 2>/dev/null; then exit "$code"; fi
rm -rf "$state"
"#;

/// A running server and its state folder.
pub(crate) struct Server {
    keeper: Child,
    state: PathBuf,
}

impl Server {
    /// Starts a server by `plan`, which is given the state folder and `N` free ports, and waits
    /// until each port that `plan` names accepts. Asks again with other ports when one was taken.
    pub(crate) fn start<const N: usize>(
        name: &str,
        plan: impl Fn(&Path, [u16; N]) -> (Command, Vec<u16>),
    ) -> (Self, [u16; N]) {
        let mut log = String::new();
        for _ in 0..TRIES_MAX {
            let state = tempfile::Builder::new().prefix(&format!("dray-{name}-")).tempdir().expect("temporary folder");
            let ports = free_ports::<N>();
            let (command, awaited) = plan(state.path(), ports);
            let mut server = Self::spawn(&command, state.keep());
            if server.accepts(&awaited) {
                return (server, ports);
            }
            log = server.log();
        }
        panic!("{name} did not start; its log:\n{log}");
    }

    fn spawn(command: &Command, state: PathBuf) -> Self {
        let log = File::create(state.join("server.log")).expect("server log");
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", KEEPER, "keeper"])
            .arg(&state)
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(&state)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("server log"))
            .stderr(log);
        for (name, value) in command.get_envs() {
            shell.env(name, value.expect("no variable is removed"));
        }
        let keeper = shell.spawn().expect("start /bin/sh");
        Self { keeper, state }
    }

    fn accepts(&mut self, ports: &[u16]) -> bool {
        let deadline = Instant::now() + READY_MAX;
        let open = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
        while !ports.iter().all(open) {
            let ended = self.keeper.try_wait().expect("wait for the server");
            if ended.is_some() || deadline < Instant::now() {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// The folder the server keeps its files in.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// What the server has printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.state.join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().expect("wait for the server");
        // Already gone unless the server ended by itself.
        fs::remove_dir_all(&self.state).ok();
    }
}

/// Ports nobody listens on now; all are held until the last is chosen, so they differ.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    std::array::from_fn(|i| held[i].local_addr().expect("a bound port").port())
}

/// Polls `done` until it holds; panics with `what` after `bound`.
pub(crate) fn wait_until(what: &str, bound: Duration, done: impl FnMut() -> bool) {
    assert!(holds_within(bound, done), "{what}: not within {bound:?}");
}

/// Polls `done` until it holds; false after `bound`.
pub(crate) fn holds_within(bound: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + bound;
    while !done() {
        if deadline < Instant::now() {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// A program of the test venv that `scripts/test-deps.sh` made.
pub(crate) fn venv(program: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |dir| root.join(dir));
    let venv = std::env::var_os("DRAY_TEST_VENV").map_or(target.join("test-venv"), PathBuf::from);
    let path = venv.join("bin").join(program);
    assert!(path.exists(), "{} is missing: run scripts/test-deps.sh", path.display());
    path
}
