"""The checks of image-check.sh: dray in a runtime root like the image's, under bubblewrap.

Each check prints one line; the last line counts them. Nothing here trusts dray's own word where another witness
can be had: bytes are compared with the origin's file, the sandbox is read from /proc, the root from the outside.
"""

import ctypes
import hashlib
import json
import os
import pwd
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

from image_init import Initializer

MIB = 1 << 20
BIG, TINY = "weights.safetensors", "config.json"
# Where the pod's volume is mounted; KServe uses this very path.
DEST = "/mnt/models"
# The one other thing a pod may write: kubelet mounts this file.
REPORT = "/dev/termination-log"
RUN_SECONDS_MAX = 120
STOP_SECONDS_MAX = 5
# The same numbers on every architecture that has them.
IO_URING_CALLS = {"setup": 425, "enter": 426, "register": 427}
# What container runtimes answer: EPERM (Docker's and containerd's default profile), ENOSYS (newer ones, gVisor).
ERRNOS = {"EPERM": 1, "ENOSYS": 38}

passed, failed = 0, 0


def check(name, good, why=""):
    global passed, failed
    if good:
        passed += 1
        print(f"ok    {name}", flush=True)
    else:
        failed += 1
        print(f"FAIL  {name}: {why}", flush=True)
    return good


def die(text):
    sys.exit(f"image-check: error: {text}")


def seccomp_filter(errno):
    """A classic BPF program: io_uring's three calls return `errno`, everything else is allowed."""
    load, ge, gt, ret = 0x20, 0x35, 0x25, 0x06
    program = [
        (load, 0, 0, 0),  # A = seccomp_data.nr
        (ge, 0, 2, IO_URING_CALLS["setup"]),
        (gt, 1, 0, IO_URING_CALLS["register"]),
        (ret, 0, 0, 0x0005_0000 | errno),  # SECCOMP_RET_ERRNO
        (ret, 0, 0, 0x7FFF_0000),  # SECCOMP_RET_ALLOW
    ]
    return b"".join(struct.pack("HBBI", *line) for line in program)


def random_uid():
    while True:
        # Within what a nested user namespace maps too; more would suit OpenShift but fail there.
        uid = random.randrange(20_000, 60_000)
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid


class Sandbox:
    """Finds how this place allows bubblewrap, and runs commands under it."""

    def __init__(self, work):
        self.work = work
        self.uid = random_uid()
        uid = str(self.uid)
        self.filters = {}
        for name, errno in ERRNOS.items():
            self.filters[name] = work / f"seccomp-{name}"
            self.filters[name].write_bytes(seccomp_filter(errno))
            self.filters[name].chmod(0o644)
        ways = [(["bwrap", "--unshare-user", "--uid", uid, "--gid", uid], False)]
        if os.geteuid() == 0:
            # Really another user first: root that is only renamed still owns what root owns.
            drop = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"]
            ways.insert(0, (drop + ["bwrap", "--unshare-user"], True))
        errors = []
        for prefix, dropped in ways:
            self.prefix, self.dropped = prefix, dropped
            probe = subprocess.run(
                [*self.command(), "--ro-bind", "/", "/", "id", "-u"], capture_output=True, text=True, timeout=30
            )
            if probe.returncode == 0 and probe.stdout.strip() == uid:
                return
            errors.append(f"{' '.join(prefix)}: exit {probe.returncode} {probe.stderr.strip()}")
        die("bubblewrap cannot run here; unprivileged user namespaces are needed\n  " + "\n  ".join(errors))

    def command(self):
        return [*self.prefix, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--as-pid-1"]

    def give(self, path):
        """Makes `path` writable to the user inside."""
        if self.dropped:
            os.chown(path, self.uid, self.uid)


def probe_filters():
    """Proves the filters on a program that is not dray: a filter that denies nothing would prove nothing."""
    for name, errno in ERRNOS.items():
        # A process of its own: a filter stays for life.
        here, there = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(there, filtered_answers(seccomp_filter(errno)).encode())
            os._exit(0)
        os.close(there)
        with open(here) as answers:
            found = answers.read()
        os.waitpid(child, 0)
        expected = f"0 {errno} {errno} {errno}"
        check(f"seccomp answers {name} to io_uring_setup, enter and register", found == expected, found)


def filtered_answers(program):
    """Puts itself under the filter; the errno of getpid, then of io_uring's calls."""
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privs, set_seccomp, mode_filter = 38, 22, 2
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    if libc.prctl(no_new_privs, 1, 0, 0, 0) or libc.prctl(set_seccomp, mode_filter, header, 0, 0):
        return f"prctl: {os.strerror(ctypes.get_errno())}"
    answers = [0 if os.getpid() else -1]
    for call in IO_URING_CALLS.values():
        ctypes.set_errno(0)
        answers.append(ctypes.get_errno() if libc.syscall(call, 0, 0, 0, 0, 0, 0) < 0 else 0)
    return " ".join(map(str, answers))


def make_root(root, binary):
    """The image's tree; a dynamic binary gets the libraries it names."""
    (root / "usr/bin").mkdir(parents=True)
    shutil.copy(binary, root / "usr/bin/dray")
    certificates = root / "etc/ssl/certs/ca-certificates.crt"
    certificates.parent.mkdir(parents=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", certificates)
    # Kubelet writes these two into every container.
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.0.1 origin.test\n")
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    for folder in ("proc", "dev", DEST[1:]):
        (root / folder).mkdir(parents=True)
    libraries = subprocess.run(["ldd", binary], capture_output=True, text=True)
    dynamic = libraries.returncode == 0 and "statically linked" not in libraries.stdout
    if dynamic:
        for library in re.findall(r"(?:=> )?(/\S+) \(0x", libraries.stdout):
            place = root / library[1:]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    return "dynamic, with its libraries" if dynamic else "static"


def snapshot(root):
    """Everything an intruder could change: names, kinds, modes, sizes, times."""
    listed = {}
    for path in sorted([root, *root.rglob("*")]):
        stat = path.lstat()
        listed[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return listed


class Origin:
    """nginx over loopback: one fast port, one that sends each connection 2 MiB a second."""

    def __init__(self, work):
        self.work = work / "nginx"
        (self.work / "root").mkdir(parents=True)
        (self.work / "tmp").mkdir()
        big = random.Random(7).randbytes(40 * MIB)
        (self.work / "root" / BIG).write_bytes(big)
        (self.work / "root" / TINY).write_bytes(b'{"model_type":"tiny"}\n')
        for attempt in range(5):
            self.fast, self.slow = free_port(), free_port()
            (self.work / "nginx.conf").write_text(self.configuration())
            self.process = subprocess.Popen(
                ["nginx", "-p", str(self.work), "-c", "nginx.conf", "-e", "stderr"],
                stderr=open(self.work / "error.log", "ab"),
            )
            if answers(self.process, self.slow):
                return
            self.stop()
        die(f"nginx does not start:\n{(self.work / 'error.log').read_text()}")

    def configuration(self):
        return f"""
            daemon off; master_process off; error_log stderr warn; pid nginx.pid;
            events {{ worker_connections 256; }}
            http {{
              access_log off; sendfile on; root root; default_type application/octet-stream;
              client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp;
              scgi_temp_path tmp;
              server {{ listen 127.0.0.1:{self.fast}; }}
              server {{ listen 127.0.0.1:{self.slow} sndbuf=256k; limit_rate 2m; sendfile_max_chunk 128k; }}
            }}"""

    def stop(self):
        self.process.kill()
        self.process.wait()

    def digest(self, name):
        return sha256(self.work / "root" / name)


class Counter:
    """nginx before an S3 server: says how many body bytes were sent, whatever anybody else counts."""

    def __init__(self, work, upstream):
        self.work = work / "counter"
        (self.work / "tmp").mkdir(parents=True)
        self.log = self.work / "access.log"
        for attempt in range(5):
            self.port = free_port()
            self.endpoint = f"http://127.0.0.1:{self.port}"
            (self.work / "nginx.conf").write_text(f"""
                daemon off; master_process off; error_log stderr warn; pid nginx.pid;
                events {{ worker_connections 256; }}
                http {{
                  log_format sent "$request_method $status $body_bytes_sent"; access_log access.log sent;
                  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp;
                  scgi_temp_path tmp; keepalive_requests 100000;
                  server {{ listen 127.0.0.1:{self.port} sndbuf=256k; location / {{
                    proxy_pass http://127.0.0.1:{upstream}; proxy_set_header Host $http_host; proxy_http_version 1.1;
                    proxy_set_header Connection ""; proxy_max_temp_file_size 0; proxy_force_ranges off; }} }}
                }}""")
            self.process = subprocess.Popen(
                ["nginx", "-p", str(self.work), "-c", "nginx.conf", "-e", "stderr"],
                stderr=open(self.work / "error.log", "ab"),
            )
            if answers(self.process, self.port):
                return
            self.stop()
        die(f"nginx does not start:\n{(self.work / 'error.log').read_text()}")

    def bytes_sent(self):
        """Of the replies that have ended."""
        return sum(int(line.split()[2]) for line in self.log.read_text().splitlines())

    def stop(self):
        self.process.kill()
        self.process.wait()


def answers(process, port):
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sha256(path):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "no such file"


class Run:
    """One dray in the sandbox: its process id here, exit code, stderr and report."""

    def __init__(self, sandbox, root, dest, arguments, denial, bind="--bind", environment=None, cgroup=None):
        self.denial = denial
        self.files = Path(tempfile.mkdtemp(dir=sandbox.work))
        self.files.chmod(0o755)
        report = self.files / "report"
        report.touch(mode=0o644)
        sandbox.give(report)
        self.stderr_file = open(self.files / "stderr", "w+b")
        self.stdout_file = open(self.files / "stdout", "w+b")
        program = open(sandbox.filters[denial], "rb")
        here, there = os.pipe()
        command = [
            *sandbox.command(),
            "--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev",
            "--bind", str(report), REPORT, "--remount-ro", "/dev",
            bind, str(dest), DEST,
            "--chdir", "/", "--clearenv",
            "--setenv", "SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt",
            *[word for name, value in (environment or {}).items() for word in ("--setenv", name, value)],
            "--seccomp", str(program.fileno()), "--info-fd", str(there),
            "/usr/bin/dray", *arguments,
        ]
        if cgroup:
            command = cgroup.wrap(command)
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.stdout_file, stderr=self.stderr_file,
            pass_fds=[program.fileno(), there],
        )
        program.close()
        os.close(there)
        self.pid = self.read_pid(here)

    def read_pid(self, here):
        """The process id of dray itself, as bubblewrap tells it; dray is process 1 in there, as in a pod."""
        text = b""
        until = time.monotonic() + 20
        with open(here, "rb", buffering=0) as info:
            while time.monotonic() < until:
                if not select.select([info], [], [], 1)[0]:
                    continue
                got = info.read(4096)
                text += got
                if b"}" in text or not got:
                    break
        try:
            return json.loads(text)["child-pid"]
        except (ValueError, KeyError):
            self.process.kill()
            die(f"bubblewrap told no process id: {text!r} {self.stderr()}")

    def wait(self):
        try:
            self.code = self.process.wait(RUN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.code = f"none: killed after {RUN_SECONDS_MAX} s"
        try:
            self.report = json.loads(self.termination_message())
        except ValueError:
            self.report = {}
        return self

    def termination_message(self):
        """What is in the file that kubelet would read."""
        return (self.files / "report").read_text()

    def stderr(self):
        return (self.files / "stderr").read_text(errors="replace")

    def stdout(self):
        return (self.files / "stdout").read_text(errors="replace")

    def last_line(self):
        lines = [line for line in self.stderr().splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def count(self, *path):
        value = self.report
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def why(self):
        return f"exit {self.code}; report {json.dumps(self.report)[:300]}; stderr ends:\n{self.stderr()[-1500:]}"


class Check:
    """The whole of it: one root, one origin, a fresh folder a run."""

    def __init__(self, work, binary):
        self.work = work
        self.sandbox = Sandbox(work)
        self.root = work / "root"
        kind = make_root(self.root, binary)
        self.before = snapshot(self.root)
        self.origin = Origin(work)
        user = "a user of its own" if self.sandbox.dropped else "a renamed user"
        print(f"image-check: {binary} is {kind}; uid {self.sandbox.uid} ({user})", flush=True)

    def folder(self, name):
        dest = self.work / name
        dest.mkdir(mode=0o755)
        self.sandbox.give(dest)
        return dest

    def pull(self, dest, url, denial, bind="--bind"):
        arguments = ["pull", url, DEST, "--report", REPORT, "--progress", "json"]
        return Run(self.sandbox, self.root, dest, arguments, denial, bind)

    def url(self, name, host="127.0.0.1", slow=False):
        return f"http://{host}:{self.origin.slow if slow else self.origin.fast}/{name}"

    def holds_only(self, dest, name):
        """DEST has the file with the right bytes, the receipt and the tree, and nothing else."""
        found = sorted(str(path.relative_to(dest)) for path in dest.rglob("*"))
        expected = sorted([name, ".dray", ".dray/receipt.json", ".dray/tree.b3"])
        check(f"{dest.name}: DEST holds the file and .dray, no more", found == expected, f"{found}")
        good = sha256(dest / name) == self.origin.digest(name)
        check(f"{dest.name}: bytes are the origin's", good, f"{dest / name} differs")

    def sealed(self, run, dest, name):
        good = run.code == 0 and run.report.get("outcome") == "sealed"
        if check(f"{dest.name}: exit 0, sealed", good, run.why()):
            self.holds_only(dest, name)

    def pulls_without_uring(self):
        for denial in ERRNOS:
            expected = "threads" if direct_works(self.work) else "buffered"
            for name, host in ((BIG, "127.0.0.1"), (TINY, "origin.test")):
                dest = self.folder(f"{denial}-{name.split('.')[0]}")
                run = self.pull(dest, self.url(name, host), denial).wait()
                self.sealed(run, dest, name)
                backend = run.count("io", "backend")
                check(f"{dest.name}: the report's backend is {expected}", backend == expected, f"{backend}")
            dest = self.folder(f"{denial}-doctor")
            run = Run(self.sandbox, self.root, dest, ["doctor", DEST], denial).wait()
            line = next((line for line in run.stdout().splitlines() if line.startswith("io_uring")), "no such line")
            refused = run.code == 0 and f"os error {ERRNOS[denial]}" in line
            check(f"{denial}: doctor tells that io_uring is refused, and why", refused, f"{line}; {run.why()}")

    def resumes_after_sigterm(self):
        dest = self.folder("resume")
        url = self.url(BIG, slow=True)
        run = self.pull(dest, url, "EPERM")
        if not check("resume: the first run is under way", *self.under_way(run)):
            run.process.kill()
            return
        self.sandbox_is_tight(run.pid)
        os.kill(run.pid, signal.SIGTERM)
        asked = time.monotonic()
        run.wait()
        took = time.monotonic() - asked
        check("resume: SIGTERM ends it with 143", run.code == 143, run.why())
        check(f"resume: it stops within {STOP_SECONDS_MAX} s", took < STOP_SECONDS_MAX, f"{took:.1f} s")
        check("resume: the last line says why", run.last_line().startswith("error: interrupted"), run.last_line())
        check("resume: nothing has its final name", not (dest / BIG).exists(), "the file is there")
        again = self.pull(dest, url, "ENOSYS").wait()
        self.sealed(again, dest, BIG)
        reused, fetched = again.count("bytes", "reused") or 0, again.count("bytes", "fetched") or 0
        check("resume: bytes are reused", 0 < reused, again.why())
        check("resume: no byte is fetched twice", reused + fetched == 40 * MIB, f"{reused} + {fetched}")
        third = self.pull(dest, url, "EPERM").wait()
        quiet = third.code == 0 and third.count("bytes", "fetched") == 0
        check("resume: a run over the sealed folder fetches nothing", quiet, third.why())

    def under_way(self, run):
        """Waits until at least a third has arrived and the end is not near."""
        until = time.monotonic() + 60
        while time.monotonic() < until and run.process.poll() is None:
            for line in reversed(run.stderr().splitlines()):
                got = re.search(r'"fetched":\s*(\d+)', line)
                if got and 12 * MIB <= int(got[1]):
                    return int(got[1]) < 36 * MIB, f"{got[1]} bytes had arrived: too late to interrupt"
            time.sleep(0.05)
        run.code, run.report = run.process.poll(), {}
        return False, f"no progress seen; {run.why()}"

    def sandbox_is_tight(self, pid):
        """The harness itself: what the kernel says of the running process."""
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        uids = status["Uid"].split()
        expected = str(self.sandbox.uid) if self.sandbox.dropped else str(os.getuid())
        check("sandbox: it runs as the random user", set(uids) == {expected}, f"{uids}")
        facts = (status["NoNewPrivs"].strip(), status["Seccomp"].strip(), int(status["CapEff"], 16))
        check("sandbox: no new privileges, seccomp on, no capabilities", facts == ("1", "2", 0), f"{facts}")
        writable = []
        for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
            place, options = line.split()[4:6]
            # Device nodes and /proc are mounts of their own; no file can be made through them.
            if "rw" in options.split(",") and not place.startswith(("/proc", "/dev/")):
                writable.append(place)
        check("sandbox: DEST is the only writable mount", writable == [DEST], f"{writable}")

    def read_only_dest(self):
        dest = self.folder("read-only")
        self.storage_error(self.pull(dest, self.url(BIG), "EPERM", bind="--ro-bind").wait(), dest)
        # The usual mistake in a pod: a volume without fsGroup.
        dest = self.folder("not-ours")
        dest.chmod(0o555)
        self.storage_error(self.pull(dest, self.url(BIG), "EPERM").wait(), dest)

    def storage_error(self, run, dest):
        check(f"{dest.name}: a DEST that cannot be written is exit 10", run.code == 10, run.why())
        last = run.last_line()
        check(f"{dest.name}: the last line is one error line", last.startswith("error: "), last)
        check(f"{dest.name}: the report says so", run.report.get("outcome") == "storage", run.why())

    def initializes(self):
        lent = SimpleNamespace(check=check, Run=Run, Counter=Counter, sha256=sha256, free_port=free_port, venv=venv(), DEST=DEST)
        initializer = Initializer(self, lent)
        try:
            initializer.run()
        finally:
            initializer.stop()

    def root_is_untouched(self):
        after = snapshot(self.root)
        changed = sorted(path for path in self.before.keys() | after.keys() if self.before.get(path) != after.get(path))
        check("root: nothing in it was made or changed", not changed, f"{changed}")

    def run(self):
        probe_filters()
        parts = (self.pulls_without_uring, self.resumes_after_sigterm, self.read_only_dest, self.initializes)
        for part in (*parts, self.root_is_untouched):
            try:
                part()
            except Exception:  # a broken part must count, and must not hide the others
                check(part.__name__, False, traceback.format_exc())


def venv():
    """The test servers' venv, which scripts/test-deps.sh makes."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parent.parent / "target"))
    folder = Path(os.environ.get("DRAY_TEST_VENV", target / "test-venv")).resolve()
    if not (folder / "bin/weed").exists():
        die(f"{folder}/bin/weed is missing; scripts/test-deps.sh installs it")
    return folder


def direct_works(folder):
    """Whether files here can bypass the page cache; memory takes the flag since Linux 6.6 and means nothing by it."""
    kind = subprocess.run(["stat", "--file-system", "--format=%T", folder], capture_output=True, text=True).stdout
    try:
        os.close(os.open(folder / "direct", os.O_CREAT | os.O_RDWR | os.O_DIRECT))
        return kind.strip() not in ("tmpfs", "ramfs")
    except OSError:
        return False


def main():
    binary = os.path.realpath(sys.argv[1])
    # On a disk: /tmp is often memory, where direct writes are refused.
    work = Path(tempfile.mkdtemp(prefix="image-check-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    origin = None
    try:
        work.chmod(0o755)
        whole = Check(work, binary)
        origin = whole.origin
        whole.run()
    finally:
        if origin:
            origin.stop()
        shutil.rmtree(work)
    print(f"image-check: {passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)


main()
