"""The storage-initializer contract in image_check.py's sandbox, under a memory limit a pod could have.

SeaweedFS holds a model larger than the limit; nginx before it counts the bytes that are really sent. The kernel says
what the limit did, and the source's own digests say what must be in DEST.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

MIB = 1 << 20
MEMORY_MAX = 256 * MIB
KEY, SECRET = "test-access-key", "test-secret-key"
# Name to MiB: half as much again as the limit, so that a copy of the model in memory or in dirty pages would not fit.
MODEL = {"model-00001.safetensors": 208, "model-00002.safetensors": 191, "nested/config.json": 1}
TOTAL = sum(MODEL.values()) * MIB
# Slow enough for a signal to find the run half way, fast enough for a check.
FIRST_RATE = "48MiB"
# What a SIGKILL may cost: what was in flight, and what was written and in no list yet.
LOST_MAX = 96 * MIB
SETTLE_SECONDS = 2


class Cgroup:
    """A memory limit over a new group of processes; version 1 or 2, whichever is mounted."""

    def __init__(self):
        base = Path("/sys/fs/cgroup")
        self.version = 2 if (base / "cgroup.controllers").exists() else 1
        self.folder = (base if self.version == 2 else base / "memory") / f"dray-image-check-{os.getpid()}"
        if self.version == 2:
            (base / "cgroup.subtree_control").write_text("+memory")
        self.folder.mkdir()
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        try:
            (self.folder / name).write_text(str(MEMORY_MAX))
        except OSError:
            self.folder.rmdir()
            raise

    def wrap(self, command):
        """The same command, begun within the group."""
        script = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        return ["sh", "-c", script, str(self.folder), *command]

    def holds(self, pid):
        return str(pid) in (self.folder / "cgroup.procs").read_text().split()

    def number(self, first, second):
        """A counter by its file in version 1 and 2; a word after the file's name picks a line."""
        file, _, line = (first if self.version == 1 else second).partition(" ")
        text = (self.folder / file).read_text()
        if line:
            text = next((text.split()[1] for text in text.splitlines() if text.startswith(f"{line} ")), "-1")
        return int(text)

    def oom_kills(self):
        return self.number("memory.oom_control oom_kill", "memory.events oom_kill")

    def limit_hits(self):
        return self.number("memory.failcnt", "memory.events max")

    def peak(self):
        return self.number("memory.max_usage_in_bytes", "memory.peak")

    def remove(self):
        for _ in range(100):
            try:
                return self.folder.rmdir()
            except OSError:  # the kernel lets go of the last process a moment after it is reaped
                time.sleep(0.05)


class Store:
    """SeaweedFS with the model in it."""

    def __init__(self, work, venv, free_port):
        self.work = work / "weed"
        self.source = self.work / "source"
        self.source.mkdir(parents=True)
        self.venv, self.free_port = venv, free_port
        identity = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
        identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
        (self.work / "identities.json").write_text(json.dumps({"identities": [identity]}))
        for _ in range(4):
            if self.start():
                break
        else:
            raise RuntimeError(f"weed does not start:\n{(self.work / 'log').read_text()[-2000:]}")
        self.fill()

    def start(self):
        parts = ("s3", "master", "volume", "filer")
        # A port and its gRPC twin each; all are held at once until the last is chosen.
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * len(parts))]
        ports = [one.getsockname()[1] for one in held]
        for one in held:
            one.close()
        flags = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-volume.max=200"]
        flags += ["-master.volumeSizeLimitMB=512", "-volume.preStopSeconds=0"]
        for number, part in enumerate(parts):
            flags += [f"-{part}.port={ports[2 * number]}", f"-{part}.port.grpc={ports[2 * number + 1]}"]
        data = self.work / f"data-{ports[0]}"
        data.mkdir()
        command = [self.venv / "bin/weed", "server", f"-dir={data}", *flags]
        command.append(f"-s3.config={self.work / 'identities.json'}")
        self.port, self.endpoint = ports[0], f"http://127.0.0.1:{ports[0]}"
        log = open(self.work / "log", "ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.work)
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            if self.ask({"op": "bucket"}) is None or self.ask({"op": "keys"}) is None:
                return True
            time.sleep(0.2)
        self.stop()
        return False

    def ask(self, request):
        """One request of the tests' uploader; the error, or nothing."""
        request |= {"endpoint": self.endpoint, "bucket": "models", "access": KEY, "secret": SECRET}
        script = Path(__file__).parent.parent / "tests/rig/s3put.py"
        command = [self.venv / "bin/python", script]
        done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, timeout=120)
        return json.loads(done.stdout or '{"error": "no reply"}').get("error")

    def fill(self):
        for seed, (name, size) in enumerate(MODEL.items()):
            path = self.source / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(random.Random(seed).randbytes(size * MIB))
            put = {"op": "multipart", "key": f"llm/{name}", "file": str(path), "length": size * MIB, "part": 16 * MIB}
            for _ in range(20):  # the gateway accepts a little before its volumes do
                error = self.ask(put)
                if error is None:
                    break
                time.sleep(0.5)
            else:
                raise RuntimeError(f"weed takes no object: {error}")

    def stop(self):
        self.process.kill()
        self.process.wait()


class Registry:
    """The calls of Kubeflow's model registry that lead from a model's name to where its files are."""

    MODEL = {"id": "7", "name": "llm", "state": "LIVE", "createTimeSinceEpoch": "1700000000000"}
    OLD = {"id": "11", "name": "v1", "registeredModelId": "7", "state": "LIVE", "createTimeSinceEpoch": "1700000000001"}
    NEW = {"id": "12", "name": "v2", "registeredModelId": "7", "state": "LIVE", "createTimeSinceEpoch": "1700000000002"}

    def __init__(self, uri):
        artifact = {"id": "21", "name": "weights", "artifactType": "model-artifact", "uri": uri}
        artifact |= {"state": "LIVE", "createTimeSinceEpoch": "1700000000003"}
        document = {"id": "22", "name": "card", "artifactType": "doc-artifact", "uri": "https://nowhere.invalid/card"}
        document |= {"createTimeSinceEpoch": "1700000000004"}
        base = "/api/model_registry/v1alpha3"
        replies = {
            (f"{base}/registered_model", "llm"): self.MODEL,
            (f"{base}/model_version", "v2"): self.NEW,
            (f"{base}/registered_models/7/versions", None): self.page(self.NEW, self.OLD),
            (f"{base}/model_versions/12/artifacts", None): self.page(document, artifact),
        }
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                place = urlsplit(self.path)
                asked.append(place.path)
                reply = replies.get((place.path, parse_qs(place.query).get("name", [None])[0]))
                body = json.dumps(reply or {"code": "404", "message": "not found"}).encode()
                self.send_response(200 if reply else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def page(*items):
        return {"items": items, "nextPageToken": "", "pageSize": len(items), "size": len(items)}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Initializer:
    """The checks. `whole` is image_check's Check, `tools` what it lends: check, Run, sha256, free_port, venv."""

    def __init__(self, whole, tools):
        self.whole, self.tools, self.check = whole, tools, tools.check
        self.store = Store(whole.work, tools.venv, tools.free_port)
        self.proxy = tools.Counter(whole.work, self.store.port)
        self.registry = Registry("s3://models/llm")
        self.digests = {name: tools.sha256(self.store.source / name) for name in MODEL}

    def environment(self, more=None):
        variables = {
            "AWS_ENDPOINT_URL": self.proxy.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "DRAY_PROGRESS": "json",
        }
        return variables | (more or {})

    def start(self, source, dest, denial, cgroup, more=None):
        whole = self.whole
        arguments = [source, self.tools.DEST]
        environment = self.environment(more)
        return self.tools.Run(whole.sandbox, whole.root, dest, arguments, denial, environment=environment, cgroup=cgroup)

    def run(self):
        self.limited("init-s3", "s3://models/llm")
        registry = {"MODEL_REGISTRY_BASE_URL": self.registry.place, "MODEL_REGISTRY_SCHEME": "http"}
        self.limited("init-registry", "model-registry://llm", registry)
        place = "/api/model_registry/v1alpha3/model_versions/12/artifacts"
        asked = place in self.registry.asked or os.environ.get("DRAY_NO_CGROUP") == "1"
        self.check("init-registry: the newest live version's artifacts were asked for", asked, f"{self.registry.asked}")
        self.says_why()

    def limited(self, name, source, more=None):
        """Killed half way and started again, under the limit; the whole model is there and was not fetched twice."""
        try:
            cgroup = Cgroup()
        except OSError as error:
            if os.environ.get("DRAY_NO_CGROUP") == "1":
                print(f"NOT RUN {name}: no memory cgroup can be made ({error}), and DRAY_NO_CGROUP=1", flush=True)
                return
            why = f"no memory cgroup can be made: {error}; run as root, or set DRAY_NO_CGROUP=1 to do without"
            self.check(f"{name}: under a limit of 256 MiB", False, why)
            return
        try:
            self.killed_and_restarted(name, source, cgroup, more or {})
        finally:
            cgroup.remove()

    def killed_and_restarted(self, name, source, cgroup, more):
        check, dest = self.check, self.whole.folder(name)
        before = self.proxy.bytes_sent()
        run = self.start(source, dest, "EPERM", cgroup, more | {"DRAY_LIMIT_RATE": FIRST_RATE})
        if not check(f"{name}: the first run is half way", *self.half_way(run)):
            run.process.kill()
            return
        check(f"{name}: the kernel counts it under the limit", cgroup.holds(run.pid), f"{run.pid} is not in {cgroup.folder}")
        self.whole.sandbox_is_tight(run.pid)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        check(f"{name}: SIGKILL ended it", run.code in (-9, 137), run.why())
        self.only_whole_files(name, dest)
        time.sleep(SETTLE_SECONDS)
        first = self.proxy.bytes_sent() - before
        again = self.start(source, dest, "ENOSYS", cgroup, more).wait()
        check(f"{name}: the second run ends with exit 0", again.code == 0, again.why())
        self.holds_the_model(name, dest)
        time.sleep(SETTLE_SECONDS)
        second = self.proxy.bytes_sent() - before - first
        check(f"{name}: it resumed", 0 < second < TOTAL - TOTAL // 4, f"{second} of {TOTAL} bytes were sent again")
        most = TOTAL + LOST_MAX
        check(f"{name}: little is fetched twice", first + second <= most, f"{first} + {second} bytes were sent, not {most}")
        third = self.start(source, dest, "EPERM", cgroup, more).wait()
        quiet = third.code == 0 and self.proxy.bytes_sent() - before - first - second < MIB
        check(f"{name}: a run over the sealed folder fetches nothing", quiet, third.why())
        kills, peak, hits = cgroup.oom_kills(), cgroup.peak(), cgroup.limit_hits()
        check(f"{name}: no OOM kill", kills == 0, f"{kills} kills")
        check(f"{name}: the limit held", 0 < peak <= MEMORY_MAX, f"{peak} bytes at the peak")
        figures = f"{peak / MIB:.0f} MiB at the peak, page cache included; the limit was hit {hits} times"
        print(f"      {name}: {first / MIB:.0f} + {second / MIB:.0f} MiB sent for {TOTAL // MIB} MiB; {figures}", flush=True)

    def half_way(self, run):
        """Waits until two fifths have arrived and the end is not near."""
        until = time.monotonic() + 60
        while time.monotonic() < until and run.process.poll() is None:
            for line in reversed(run.stderr().splitlines()):
                got = re.search(r'"fetched":\s*(\d+)', line)
                if got and 2 * TOTAL // 5 <= int(got[1]):
                    return int(got[1]) < 9 * TOTAL // 10, f"{got[1]} bytes had arrived: too late to interrupt"
            time.sleep(0.05)
        run.code, run.report = run.process.poll(), {}
        return False, f"no progress seen; {run.why()}"

    def only_whole_files(self, name, dest):
        torn = [file for file in MODEL if (dest / file).exists() and self.tools.sha256(dest / file) != self.digests[file]]
        self.check(f"{name}: what has its final name is whole", not torn, f"{torn}")

    def holds_the_model(self, name, dest):
        files = {str(path.relative_to(dest)) for path in dest.rglob("*") if path.is_file()}
        expected = {*MODEL, ".dray/receipt.json", ".dray/tree.b3"}
        self.check(f"{name}: DEST holds the model and the receipt, no more", files == expected, f"{sorted(files)}")
        found = {file: self.tools.sha256(dest / file) for file in MODEL}
        self.check(f"{name}: sha256 of each file is the source's", found == self.digests, f"{found}")

    def says_why(self):
        dest = self.whole.folder("init-absent")
        run = self.start("s3://models/absent", dest, "EPERM", None).wait()
        self.check("init-absent: nothing there is exit 3", run.code == 3, run.why())
        message, last = run.termination_message(), run.last_line()
        good = last.startswith("error: ") and message.strip() == last
        self.check("init-absent: the termination message is the last line", good, f"{message!r}, {last!r}")

    def stop(self):
        self.registry.stop()
        self.proxy.stop()
        self.store.stop()
