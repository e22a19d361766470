#!/usr/bin/env python3
"""dray beside its peers: the same files from loopback to one disk, in one run.

    cargo build --release && scripts/bench-deps.sh && benches/peers.py

Sources lie in tmpfs. nginx serves them by HTTP; SeaweedFS serves the same files by S3. Each round runs
every tool once (A B C, A B C, ...), so a machine that slows down slows all of them. A tool that is not
installed is named in the output. Reported per tool: GiB/s to exit, GiB/s with an fsync of what it left
behind (dray and dd have nothing left), CPU-seconds per GiB of the tool's process tree, and the largest
resident set (with a floor of some 20 MiB: what this script itself takes when it starts a tool).
What limits: the disk, then the CPU. Read ratios within one run, not figures of two machines.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MIB, GIB = 1 << 20, 1 << 30
ROOT = Path(__file__).resolve().parent.parent
VENVS = [ROOT / "target/bench-venv/bin", ROOT / "target/test-venv/bin"]
KEY, SECRET = "bench-access-key", "bench-secret-key"
RUN_SECONDS_MAX = 900


def find(program):
    """A program on PATH or in the venvs of scripts/*-deps.sh; pip's launchers give way to the binary."""
    for venv in VENVS:
        for real in venv.parent.glob(f"lib/python3*/site-packages/{program}/**/{program}"):
            if real.is_file() and os.access(real, os.X_OK):
                return str(real)
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *map(str, VENVS)])
    return shutil.which(program, path=path)


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def wait_for_port(port, server):
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"a server ended at its start: {server.args[0]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"a server does not listen: {server.args[0]}")


@dataclass
class Workload:
    """Files of one size, served under `name/` and put under the key prefix `name/`."""

    name: str
    count: int
    size: int

    @property
    def files(self):
        return [f"{self.name}/{self.name}-{i:02}.bin" for i in range(self.count)]

    @property
    def total(self):
        return self.count * self.size


@dataclass
class Origin:
    """The running servers and where the source files are."""

    sources: Path
    http: str
    s3: str | None
    servers: list = field(default_factory=list)

    def url(self, file):
        return f"{self.http}/{file}"


def make_sources(folder, workloads):
    for work in workloads:
        (folder / work.name).mkdir()
        for file in work.files:
            with open(folder / file, "wb") as out:
                for _ in range(work.size // MIB):
                    out.write(os.urandom(MIB))


def start_nginx(state, sources):
    port = free_port()
    config = state / "nginx.conf"
    temps = " ".join(f"{kind}_temp_path {state}/tmp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config.write_text(
        f"daemon off; worker_processes 2; user {'root' if os.getuid() == 0 else 'nobody'};\n"
        f"error_log stderr warn; pid {state}/nginx.pid; events {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; {temps}\n"
        f"  server {{ listen 127.0.0.1:{port}; root {sources}; }} }}\n"
    )
    server = start([find("nginx"), "-c", str(config), "-e", "stderr"], state / "nginx.log")
    wait_for_port(port, server)
    return server, f"http://127.0.0.1:{port}"


def start_weed(state):
    names = ("master", "volume", "filer", "s3")
    ports = {name: (free_port(), free_port()) for name in names}
    identity = {"name": "bench", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    (state / "identities.json").write_text(json.dumps({"identities": [identity]}))
    command = [find("weed"), "server", f"-dir={state}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={state}/identities.json", "-volume.max=100"]
    for name, (port, grpc) in ports.items():
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
    server = start(command, state / "weed.log")
    for port, _ in ports.values():
        wait_for_port(port, server)
    return server, f"http://127.0.0.1:{ports['s3'][0]}"


def start(command, log):
    with open(log, "wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)


def fill_s3(origin, workloads):
    """Uploads the sources by rclone or s5cmd, whichever is there."""
    environment = s3_environment(origin)
    for work in workloads:
        source = str(origin.sources / work.name)
        if find("rclone"):
            command = [find("rclone"), "copy", source, f":s3:models/{work.name}", "--s3-upload-concurrency", "4"]
        else:
            command = [find("s5cmd"), "cp", f"{source}/*", f"s3://models/{work.name}/"]
            subprocess.run([find("s5cmd"), "mb", "s3://models"], env=environment, capture_output=True)
        subprocess.run(command, env=environment, check=True)


def s3_environment(origin):
    rclone = {"PROVIDER": "Other", "ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET, "ENDPOINT": origin.s3 or ""}
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(origin.sources),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": origin.s3 or "",
        "S3_ENDPOINT_URL": origin.s3 or "",
        **{f"RCLONE_S3_{name}": value for name, value in rclone.items()},
    }


def dray(options, origin, work, dest, source, rung):
    base = [str(options.dray), "pull"]
    flags = ["--io", rung, "--progress", "none"]
    if source == "s3":
        return [*base, f"s3://models/{work.name}", str(dest), *flags]
    # A URL names one file: several go one after the other, each with all the connections.
    script = 'set -e; dest=$1; shift; for url; do "$DRAY" pull "$url" "$dest/${url##*/}.d" $FLAGS; done'
    urls = [origin.url(file) for file in work.files]
    return ["env", f"DRAY={options.dray}", f"FLAGS={' '.join(flags)}", "sh", "-c", script, "sh", str(dest), *urls]


def curl(origin, work, dest):
    pairs = [["-o", str(dest / Path(file).name), origin.url(file)] for file in work.files]
    return ["curl", "-sS", "--fail", "-Z", *[word for pair in pairs for word in pair]]


def aria2(origin, work, dest):
    flags = ["-q", "-d", str(dest), "-j", str(work.count), "-k", "8M", "--file-allocation=falloc"]
    split = str(16 if work.count == 1 else 4)
    return ["aria2c", *flags, "-x", split, "-s", split, "-Z", *map(origin.url, work.files)]


def s5cmd(work, dest):
    flags = ["--concurrency", "8", "--part-size", "16"]
    return [find("s5cmd"), "cp", *flags, f"s3://models/{work.name}/*", f"{dest}/"]


def rclone(work, dest):
    flags = ["--transfers", str(min(work.count, 4)), "--multi-thread-streams", "8", "--multi-thread-chunk-size", "16M"]
    return [find("rclone"), "copy", *flags, "--ignore-checksum", f":s3:models/{work.name}", str(dest)]


def dd(origin, work, dest):
    script = 'set -e; dest=$1; shift; for file; do dd if="$file" of="$dest/${file##*/}" oflag=direct bs=4M status=none; done'
    return ["sh", "-c", script, "sh", str(dest), *[str(origin.sources / file) for file in work.files]]


def tools(options, origin):
    """Name to a function (workload, destination) -> command; None where the program is missing."""
    s3 = origin.s3 is not None
    table = {"dd direct": lambda work, dest: dd(origin, work, dest)}
    for rung in ("uring", "threads"):
        table[f"dray {rung} http"] = lambda work, dest, rung=rung: dray(options, origin, work, dest, "http", rung)
        table[f"dray {rung} s3"] = s3 and (lambda work, dest, rung=rung: dray(options, origin, work, dest, "s3", rung))
    if options.cgroup:
        for rung in ("uring", "threads"):
            for memory in (None, 256 * MIB):
                name = f"dray {rung} 1cpu{' 256MiB' if memory else ''}"
                table[name] = lambda work, dest, rung=rung, memory=memory: confined(
                    dray(options, origin, work, dest, "http", rung), memory
                )
    table["curl http"] = find("curl") and (lambda work, dest: curl(origin, work, dest))
    table["aria2c http"] = find("aria2c") and (lambda work, dest: aria2(origin, work, dest))
    table["s5cmd s3"] = s3 and find("s5cmd") and s5cmd
    table["rclone s3"] = s3 and find("rclone") and rclone
    if not options.dray.exists():
        sys.exit(f"{options.dray} is not there: cargo build --release")
    return {name: tool for name, tool in table.items() if wanted(name, options.tools)}


def wanted(name, patterns):
    return not patterns or any(pattern in name for pattern in patterns)


def cgroup_files(memory):
    """(file, value) pairs that limit a new cgroup to one CPU and `memory` bytes, page cache included."""
    name = f"dray-bench-{os.getpid()}{'-memory' if memory else ''}"
    base = Path("/sys/fs/cgroup")
    if (base / "cgroup.controllers").exists():
        (base / "cgroup.subtree_control").write_text("+cpu +memory")
        limits = [(base / name / "cpu.max", "100000 100000")]
        limits += [(base / name / "memory.max", str(memory))] if memory else []
    else:
        limits = [(base / "cpu" / name / "cpu.cfs_quota_us", "100000")]
        limits += [(base / "memory" / name / "memory.limit_in_bytes", str(memory))] if memory else []
    return limits


def confined(command, memory):
    folders = []
    for file, value in cgroup_files(memory):
        file.parent.mkdir(exist_ok=True)
        file.write_text(value)
        folders.append(str(file.parent))
    script = 'for folder in $FOLDERS; do echo $$ >"$folder/cgroup.procs"; done; exec "$@"'
    return ["env", f"FOLDERS={' '.join(folders)}", "sh", "-c", script, "sh", *command]


def remove_cgroups():
    for folder in Path("/sys/fs/cgroup").glob(f"**/dray-bench-{os.getpid()}*"):
        folder.rmdir()


@dataclass
class Sample:
    seconds: float
    synced: float
    cpu: float
    rss: int


def run_once(command, environment, dest, log):
    """Runs one tool in an emptied folder. Raises CalledProcessError when it fails."""
    shutil.rmtree(dest, ignore_errors=True)
    dest.mkdir()
    os.sync()
    with open(log, "wb") as out:
        started = time.monotonic()
        child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        alarm = signal.signal(signal.SIGALRM, lambda *_: child.kill())
        signal.alarm(RUN_SECONDS_MAX)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        signal.alarm(0)
        signal.signal(signal.SIGALRM, alarm)
    if child.returncode != 0:
        raise subprocess.CalledProcessError(child.returncode, command, Path(log).read_text(errors="replace")[-600:])
    sync_files(dest)
    synced = time.monotonic() - started
    return Sample(seconds, synced, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def sync_files(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def check_bytes(origin, work, dest):
    """Every file arrived whole, wherever the tool put it below `dest`."""
    found = {path.name: path for path in dest.rglob("*.bin") if path.is_file()}
    for file in work.files:
        path = found.get(Path(file).name)
        same = path and subprocess.run(["cmp", "-s", str(origin.sources / file), str(path)]).returncode == 0
        if not same:
            raise ValueError(f"{file} differs or is missing")


def measure(options, origin, work, table):
    """Rounds of all tools. Returns name -> samples, or name -> why there are none."""
    samples = {name: [] for name in table}
    failed = {name: "left out: no program, or no S3 origin" for name, tool in table.items() if not tool}
    dest = options.dest / f"peers-{os.getpid()}"
    for number in range(options.rounds):
        for name, tool in table.items():
            if name in failed:
                continue
            try:
                sample = run_once(tool(work, dest), s3_environment(origin), dest, options.dest / "peers.log")
                if number == 0:
                    check_bytes(origin, work, dest)
                samples[name].append(sample)
                rate = work.total / GIB / sample.seconds
                print(f"{work.name} round {number + 1} {name}: {rate:.2f} GiB/s", file=sys.stderr)
            except (subprocess.CalledProcessError, ValueError) as error:
                said = (getattr(error, "output", None) or "").strip().splitlines()
                failed[name] = f"exit {error.returncode}: {said[-1]}" if said else str(error)
                print(f"{work.name} {name}: failed: {failed[name]}", file=sys.stderr)
    shutil.rmtree(dest, ignore_errors=True)
    return samples, failed


def summary(work, samples):
    gib = work.total / GIB
    rates = [gib / sample.seconds for sample in samples]
    return {
        "rate": statistics.median(rates),
        "rate_min": min(rates),
        "rate_max": max(rates),
        "rate_synced": statistics.median(gib / sample.synced for sample in samples),
        "cpu_per_gib": statistics.median(sample.cpu / gib for sample in samples),
        "rss_mib": max(sample.rss for sample in samples) / MIB,
    }


def table_lines(work, results, failed):
    floor = results.get("dd direct", {}).get("rate")
    yield f"\n### {work.count} × {work.size // MIB} MiB\n"
    yield "| tool | GiB/s (min–max) | with sync | ÷ dd | CPU-s/GiB | RSS MiB |"
    yield "|---|---|---|---|---|---|"
    for name, row in results.items():
        ratio = f"{row['rate'] / floor:.2f}" if floor else "–"
        spread = f"{row['rate']:.2f} ({row['rate_min']:.2f}–{row['rate_max']:.2f})"
        yield f"| {name} | {spread} | {row['rate_synced']:.2f} | {ratio} | {row['cpu_per_gib']:.2f} | {row['rss_mib']:.0f} |"
    for name, why in failed.items():
        yield f"| {name} | {why[:120]} | | | | |"


def machine():
    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {"cpu": model[0] if model else platform.machine(), "cpus": os.cpu_count(), "kernel": platform.release()}


def size(text):
    for unit, factor in (("GiB", GIB), ("MiB", MIB)):
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    raise argparse.ArgumentTypeError(f"a size is 256MiB or 2GiB, not {text}")


def workload(text):
    count, _, each = text.rpartition("x")
    return Workload(f"w{text.lower()}", int(count or 1), size(each))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dray", type=Path, default=ROOT / "target/release/dray")
    parser.add_argument("--dest", type=Path, default=ROOT / "target/bench-dest", help="a folder on the disk to measure")
    parser.add_argument("--sources", type=Path, default=Path("/dev/shm"), help="tmpfs for the sources")
    parser.add_argument("--work", type=workload, nargs="+", default=[workload("1x2GiB"), workload("8x256MiB")])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tools", nargs="+", help="only tools whose name contains one of these words")
    parser.add_argument("--no-s3", action="store_true", help="leave SeaweedFS and the S3 tools out")
    parser.add_argument("--cgroup", action="store_true", help="dray with one CPU, and with 256 MiB, too (root)")
    parser.add_argument("--json", type=Path, help="write every sample here")
    options = parser.parse_args()
    options.dray = options.dray.resolve()
    options.dest = options.dest.resolve()
    if options.cgroup and os.getuid() != 0:
        parser.error("--cgroup needs root")
    return options


def serve(options, state, servers):
    sources = state / "sources"
    sources.mkdir()
    (state / "tmp").mkdir()
    make_sources(sources, options.work)
    server, http = start_nginx(state, sources)
    servers.append(server)
    origin = Origin(sources, http, None)
    if not options.no_s3 and find("weed") and (find("rclone") or find("s5cmd")):
        (state / "weed").mkdir()
        server, origin.s3 = start_weed(state / "weed")
        servers.append(server)
        fill_s3(origin, options.work)
    return origin


def main():
    options = arguments()
    options.dest.mkdir(parents=True, exist_ok=True)
    state = Path(tempfile.mkdtemp(prefix="dray-peers-", dir=options.sources))
    servers, record = [], {"machine": machine(), "rounds": options.rounds, "work": {}}
    try:
        origin = serve(options, state, servers)
        print(f"{record['machine']}, medians of {options.rounds} rounds")
        for work in options.work:
            samples, failed = measure(options, origin, work, tools(options, origin))
            results = {name: summary(work, rows) for name, rows in samples.items() if rows and name not in failed}
            print("\n".join(table_lines(work, results, failed)), flush=True)
            raw = {name: [vars(sample) for sample in rows] for name, rows in samples.items()}
            record["work"][work.name] = {"bytes": work.total, "results": results, "failed": failed, "samples": raw}
    finally:
        for server in servers:
            server.terminate()
            server.wait()
        shutil.rmtree(state, ignore_errors=True)
        remove_cgroups()
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
