"""Sets up one run: upstreams and load on one core, a proxy between them on the other.

Every run starts all of it anew, so that nothing learned in one run helps in the next.
"""

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import threading
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import servers  # noqa: E402

PROXIES = HERE / "proxies"
SAMPLE_INTERVAL = 0.25
SETTLE = 2
THRESHOLD = re.compile(r"^outrigger_upstream_shed_threshold\S* ([0-9.e+-]+)$", re.M)


class Contender:
    """What stands between load and upstream: `kind` is a proxy, or nothing."""

    def __init__(self, kind, config=None, label=None):
        self.kind, self.config, self.label = kind, config, label or kind

    def __str__(self):
        return self.label


class Run:
    """What load and upstreams counted, and the samples of Outrigger's shedding threshold."""

    def __init__(self, load, upstreams, thresholds):
        self.load, self.upstreams, self.thresholds = load, upstreams, thresholds

    def part(self, start):
        """The part of the load that begins at a second which was marked."""
        return next(part for part in self.load["parts"] if part["from"] == start)


class Watch:
    """Reads the threshold from Outrigger's metrics now and then while the block runs."""

    def __init__(self, port):
        self.port, self.samples, self.ended = port, [], threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def sample(self):
        while not self.ended.wait(SAMPLE_INTERVAL):
            try:
                url = f"http://127.0.0.1:{self.port}/metrics"
                with urllib.request.urlopen(url, timeout=1) as answer:
                    found = THRESHOLD.findall(answer.read().decode())
            except OSError:
                continue
            self.samples.append([float(value) for value in found])

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


class Stage:
    """Where runs take place: a folder for what they write, and the program of both ends."""

    def __init__(self, folder, rig, seed, rounds, more):
        self.folder, self.rig, self.seed, self.rounds = folder, rig, seed, rounds
        # Options of every load.
        self.more = more

    def run(self, contender, upstreams, load, turn=0):
        """One run; `upstreams` holds the options of each, `load` those of the load.

        Each turn has other arrivals, and all contenders have the same ones.
        """
        seed = str(self.seed + turn)
        proxy_core, upstream_core, load_core = servers.cores()
        ports = [servers.free_port() for _ in upstreams]
        logs = [self.folder / f"upstream-{at}.out" for at in range(len(upstreams))]
        with contextlib.ExitStack() as started:
            for options, port, log in zip(upstreams, ports, logs):
                command = [self.rig, "upstream", "--port", str(port), "--seed", seed]
                command += options
                out = started.enter_context(open(log, "w"))
                ready = servers.answers(port, "/ready")
                started.enter_context(servers.Server(command, upstream_core, ready, out))
            port, watch = ports[0], None
            if contender.kind != "nothing":
                port, admin = self.start(contender, ports, proxy_core, started)
                if contender.kind == "outrigger":
                    watch = started.enter_context(Watch(admin))
            command = ["taskset", "-c", str(load_core), self.rig, "load", "--port", str(port)]
            command += ["--seed", seed, *self.more, *load]
            ended = subprocess.run(command, capture_output=True, text=True)
            if ended.returncode:
                sys.exit(f"overload: the load failed\n{ended.stderr}")
        # The upstreams say what they did when they are stopped.
        found = [json.loads(log.read_text().splitlines()[-1]) for log in logs]
        return Run(json.loads(ended.stdout), found, watch.samples if watch else [])

    def start(self, contender, ports, core, started):
        """Starts the proxy; its port and that of its admin listener."""
        port, admin = servers.free_port(), servers.free_port()
        values = {"PORT": port, "ADMIN": admin, "BACKEND": ports[0]}
        values |= {f"BACKEND{at}": other for at, other in enumerate(ports[1:], 2)}
        config = servers.configure(PROXIES / contender.config, self.folder, values)
        command = servers.command_of(contender.kind, config)
        out = started.enter_context(open(self.folder / f"{contender.kind}.out", "w"))
        # A request would be a first, quick sample for a proxy that learns from latencies.
        started.enter_context(servers.Server(command, core, servers.listens(port), out))
        return port, admin
