#!/usr/bin/env python3
"""Origins that dray did not write, for `dray bench`: nginx by http and https, SeaweedFS by S3.

    benches/rig.py --serve http,s3 --size 2GiB -- target/release/dray bench all URI target/bench-dest --rounds 5

Starts them on free ports of 127.0.0.1 with sources in tmpfs, runs the command behind `--` once for each, and stops them.
In place of its word URI the command is given the URL of each file by http and https, and the prefix of all by S3.
`--cgroup 1cpu,256MiB` confines the command, and so the programs it runs, and not the servers (root; v1 and v2);
`400MiB/s` holds its writes to the disk that this folder lies on.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB, GIB = 1 << 20, 1 << 30
ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TEST_VENV = Path(os.environ.get("DRAY_TEST_VENV", TARGET / "test-venv"))
BENCH_VENV = Path(os.environ.get("DRAY_BENCH_VENV", TARGET / "bench-venv"))
BENCH_PATH = [BENCH_VENV / "native", BENCH_VENV / "bin", TEST_VENV / "bin", TARGET / "hub-venv/bin"]
# KServe's initializer, with libraries of its own.
BENCH_PATH += [Path(os.environ.get("DRAY_UPSTREAM_VENV", TARGET / "upstream-venv")) / "bin"]
KEY, SECRET = "bench-access-key", "bench-secret-key"
READY_SECONDS_MAX = 60
# A stopped bench kills and waits for what it runs, and removes its files.
STOP_SECONDS_MAX = 120
# prctl(2): what a child is sent when its parent dies.
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
# What a server has to write is of no use to anybody.
SERVER_SECONDS_MAX = 5
# AWS's CLI, by its S3 configuration page; src/bench/peers/s3.rs writes the same for the arena.
AWS_CONFIG = """[default]
s3 =
  addressing_style = path
  max_concurrent_requests = 20
  multipart_threshold = 16MB
  multipart_chunksize = 16MB
"""
# With the checksum that S3 keeps of every object a current SDK uploads.
UPLOAD = """
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
import boto3
from boto3.s3.transfer import TransferConfig
folder, deadline = sys.argv[1], time.monotonic() + float(sys.argv[2])
client = boto3.client("s3")
while True:
    try:
        client.create_bucket(Bucket="models")
        client.put_object(Bucket="models", Key="probe", Body=b"1")
        break
    except Exception as error:
        if deadline < time.monotonic():
            sys.exit(f"SeaweedFS takes nothing: {error}")
        time.sleep(0.5)
config = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20)
def upload(name):
    client.upload_file(f"{folder}/{name}", "models", f"weights/{name}", {"ChecksumAlgorithm": "CRC64NVME"}, Config=config)
with ThreadPoolExecutor(4) as pool:
    list(pool.map(upload, os.listdir(folder)))
"""


def find(program):
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *map(str, BENCH_PATH)])
    found = shutil.which(program, path=path)
    return found or die(f"{program} is missing: scripts/bench-deps.sh installs it")


def die(why):
    print(f"error: {why}", file=sys.stderr)
    sys.exit(2)


def end_with_rig():
    """In a new child: a rig that is killed stops nothing by itself."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Rig:
    """The servers that run, and the folder with all that is theirs."""

    def __init__(self, state, files, size):
        self.state, self.servers = state, []
        self.sources = state / "sources/weights"
        self.sources.mkdir(parents=True)
        self.names = [f"shard-{n:05}-of-{files:05}.bin" for n in range(1, files + 1)]
        for name in self.names:
            with open(self.sources / name, "wb") as out:
                for at in range(0, size, MIB):
                    out.write(os.urandom(min(MIB, size - at)))

    def start(self, command, ports):
        with open(self.state / f"{Path(command[0]).name}.log", "wb") as out:
            server = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, preexec_fn=end_with_rig)
        self.servers.append(server)
        deadline = time.monotonic() + READY_SECONDS_MAX
        for port in ports:
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if server.poll() is not None or deadline < time.monotonic():
                    log = Path(out.name).read_text(errors="replace")[-600:]
                    die(f"{command[0]} does not listen: {log}")
                time.sleep(0.1)

    def stop(self):
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            try:
                server.wait(SERVER_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def http(self, scheme):
        port = free_port()
        tls = self.certificate() if scheme == "https" else ""
        temps = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temps = " ".join(f"{kind}_temp_path {self.state}/tmp;" for kind in temps)
        config = self.state / f"nginx-{scheme}.conf"
        user = "root" if os.getuid() == 0 else "nobody"
        config.write_text(
            f"daemon off; worker_processes 2; user {user};\n"
            f"error_log stderr warn; pid {self.state}/nginx-{scheme}.pid; events {{ worker_connections 1024; }}\n"
            f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; {temps}\n"
            f"  server {{ listen 127.0.0.1:{port}{' ssl' if tls else ''}; {tls} root {self.state}/sources; }} }}\n"
        )
        self.start([find("nginx"), "-c", str(config), "-e", "stderr"], [port])
        environment = {"SSL_CERT_FILE": str(self.state / "ca.pem")} if tls else {}
        return [f"{scheme}://127.0.0.1:{port}/weights/{name}" for name in self.names], environment

    def certificate(self):
        """A private authority, and a server's certificate by it."""
        state = self.state
        new = [find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        new += ["-days", "2"]
        authority = [*new, "-subj", "/CN=rig authority", "-keyout", state / "ca.key", "-out", state / "ca.pem"]
        leaf = [*new, "-subj", "/CN=rig", "-addext", "subjectAltName=IP:127.0.0.1"]
        leaf += ["-addext", "basicConstraints=critical,CA:FALSE", "-CA", state / "ca.pem", "-CAkey", state / "ca.key"]
        leaf += ["-keyout", state / "leaf.key", "-out", state / "leaf.pem"]
        for command in (authority, leaf):
            subprocess.run([str(word) for word in command], check=True, stderr=subprocess.DEVNULL)
        return f"ssl_certificate {state}/leaf.pem; ssl_certificate_key {state}/leaf.key;"

    def s3(self):
        folder = self.state / "weed"
        folder.mkdir()
        ports = {name: (free_port(), free_port()) for name in ("master", "volume", "filer", "s3")}
        identity = {"name": "bench", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
        identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
        (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
        command = [find("weed"), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder}/identities.json", "-volume.max=100"]
        for name, (port, grpc) in ports.items():
            command += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
        self.start(command, [port for port, _ in ports.values()])
        environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3'][0]}",
            "AWS_CONFIG_FILE": str(self.state / "aws-config"),
        }
        (self.state / "aws-config").write_text(AWS_CONFIG)
        self.fill({**os.environ, **environment, "S3_ENDPOINT_URL": environment["AWS_ENDPOINT_URL"]})
        return ["s3://models/weights"], environment

    def fill(self, environment):
        """Uploads the sources; the gateway listens a little before its volumes do."""
        python = TEST_VENV / "bin/python"
        if not python.exists():
            die("boto3 is missing: scripts/test-deps.sh installs it")
        subprocess.run([str(python), "-c", UPLOAD, str(self.sources), str(READY_SECONDS_MAX)], env=environment, check=True)


def cgroup_files(limits):
    """(file, value) pairs that limit a new cgroup; its memory includes the page cache."""
    cpus, memory, writes = limits
    base, name = Path("/sys/fs/cgroup"), f"dray-rig-{os.getpid()}"
    if (base / "cgroup.controllers").exists():
        (base / "cgroup.subtree_control").write_text("+cpu +memory" + (" +io" if writes else ""))
        quota, room = (base / name / "cpu.max", f"{cpus * 100000} 100000"), base / name / "memory.max"
        disk = (base / name / "io.max", "{} wbps={}")
    else:
        quota = (base / "cpu" / name / "cpu.cfs_quota_us", str(cpus * 100000))
        room = base / "memory" / name / "memory.limit_in_bytes"
        disk = (base / "blkio" / name / "blkio.throttle.write_bps_device", "{} {}")
    files = ([quota] if cpus else []) + ([(room, str(memory))] if memory else [])
    return files + ([(disk[0], disk[1].format(disk_of(ROOT), writes))] if writes else [])


def disk_of(path):
    """The whole disk that `path` lies on, by its numbers; cgroups take no partition."""
    number = os.stat(path).st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    disk = device.parent if (device / "partition").exists() else device
    return (disk / "dev").read_text().strip()


def make_cgroups(limits, folders):
    """Makes what `limits` ask for; `folders` gets each as soon as it is there."""
    try:
        for file, value in cgroup_files(limits):
            file.parent.mkdir(exist_ok=True)
            folders[str(file.parent)] = None
            file.write_text(value)
    except OSError as error:
        die(f"--cgroup is not available here: {error}")


def confined(command, folders):
    script = 'for folder in $FOLDERS; do echo $$ >"$folder/cgroup.procs" || exit 2; done; exec "$@"'
    return ["env", f"FOLDERS={' '.join(folders)}", "sh", "-c", script, "sh", *command]


def remove_cgroups(folders):
    for folder in folders:
        # A process that was killed leaves its group a little later.
        for wait in (0.1, 0.4, 1.5, None):
            try:
                os.rmdir(folder)
                break
            except OSError as error:
                if wait is None:
                    print(f"{folder} stays: {error}", file=sys.stderr)
                else:
                    time.sleep(wait)


def no_second_signal():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def run(command, environment):
    """The exit code of `command`, as a shell says it; stopped as a user would stop it."""
    try:
        bench = subprocess.Popen(command, env={**os.environ, **environment}, preexec_fn=end_with_rig)
    except OSError as error:
        die(f"{command[0]}: {error.strerror}")
    try:
        code = bench.wait()
    except BaseException:
        # To the end of its tidying no second signal: it would leave a contender behind.
        no_second_signal()
        bench.terminate()
        try:
            bench.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            bench.kill()
            bench.wait()
        raise
    return code if 0 <= code else 128 - code


def size(text):
    for unit, factor in (("GiB", GIB), ("MiB", MIB)):
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    raise argparse.ArgumentTypeError(f"a size is 256MiB or 2GiB, not {text}")


def limits(text):
    cpus, memory, writes = 0, 0, 0
    for word in text.split(","):
        if word.endswith("cpu"):
            cpus = int(word.removesuffix("cpu"))
        elif word.endswith("/s"):
            writes = size(word.removesuffix("/s"))
        else:
            memory = size(word)
    return cpus, memory, writes


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", default="http,s3", help="of http, https, s3")
    parser.add_argument("--size", type=size, default=2 * GIB, help="of each file")
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--sources", type=Path, default=Path("/dev/shm"), help="tmpfs for the sources")
    parser.add_argument("--cgroup", type=limits, help="for the command, as 1cpu,256MiB,400MiB/s")
    parser.add_argument("command", nargs="+", help="with the word URI in it")
    options = parser.parse_args()
    if unknown := set(options.serve.split(",")) - {"http", "https", "s3"}:
        parser.error(f"--serve: {', '.join(sorted(unknown))} is not http, https or s3")
    if "URI" not in options.command:
        parser.error("the command needs the word URI")
    return options


def main():
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    state, rig, folders, worst = None, None, {}, 0
    try:
        if options.cgroup:
            make_cgroups(options.cgroup, folders)
        state = Path(tempfile.mkdtemp(prefix="dray-rig-", dir=options.sources))
        # nginx's workers may be somebody else.
        state.chmod(0o755)
        (state / "tmp").mkdir()
        rig = Rig(state, options.files, options.size)
        for word in options.serve.split(","):
            uris, environment = rig.s3() if word == "s3" else rig.http(word)
            command = [given for word in options.command for given in (uris if word == "URI" else [word])]
            command = confined(command, folders) if folders else command
            environment["DRAY_BENCH_PATH"] = os.environ.get("DRAY_BENCH_PATH") or os.pathsep.join(map(str, BENCH_PATH))
            worst = max(worst, run(command, environment))
    finally:
        no_second_signal()
        if rig:
            rig.stop()
        if state:
            shutil.rmtree(state, ignore_errors=True)
        remove_cgroups(folders)
    sys.exit(worst)


if __name__ == "__main__":
    main()
