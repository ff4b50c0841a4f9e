"""Measures what bench/idempotency.sh describes; bench/METHOD.md says how."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import servers

STORES = ("memory", "embedded", "redis", "etcd")
# Requests a second; three members of etcd on the core of the load take fewer.
RATES = {"etcd": 100}
RATE = 1000
SECONDS = 10
CONNECTIONS = 64
# A closed loop of new keys: as many as the store takes.
KEYS = """
local number = 0
request = function()
  number = number + 1
  return wrk.format("POST", "/", {["idempotency-key"] = "most-" .. number}, "amount=1")
end
"""
CONFIG = """
admin: { bind: 127.0.0.1:@ADMIN@ }
telemetry: { access_log: { to: none } }
runtime: { workers: 1 }
stores: { s: { @STORE@ } }
listeners: [{ name: in, bind: 127.0.0.1:@PORT@ }]
upstreams:
  # The limit only looks on: load and upstream share a core here, and each halts the other.
  u: { endpoints: ["127.0.0.1:@BACKEND@"], concurrency: { mode: observe } }
routes:
  - name: keyed
    match: { methods: [POST] }
    upstream: u
    idempotency: { store: s, scope: [none], claim_deadline: 5s, commit_deadline: 5s }
  - { name: plain, upstream: u }
"""


class Bench:
    """Starts the parts of one measurement on their cores, and stops them when it ends."""

    def __init__(self, rig, folder, started):
        self.rig, self.folder, self.started = rig, folder, started
        self.proxy_core, self.upstream_core, self.load_core = servers.cores()

    def serve(self, name, command, core, ready):
        out = self.started.enter_context(open(self.folder / f"{name}.out", "w"))
        return self.started.enter_context(servers.Server(command, core, ready, out))

    def upstream(self):
        port = servers.free_port()
        command = [self.rig, "upstream", "--port", str(port), "--slots", "64", "--service", "0s"]
        self.serve("upstream", command, self.upstream_core, servers.answers(port, "/ready"))
        return port

    def store(self, kind):
        """The settings of a store, and what it needs, started on the core of the load."""
        if kind == "memory":
            return "memory: { max_entries: 1000000, max_bytes: 1GiB }"
        if kind == "embedded":
            return f"embedded: {{ path: {self.folder}/records.redb }}"
        if kind == "redis":
            port = servers.free_port()
            self.redis(port)
            return f'redis: {{ url: "redis://127.0.0.1:{port}", op_timeout: 5s }}'
        peers = [(servers.free_port(), servers.free_port()) for _ in range(3)]
        cluster = ",".join(f"m{i}=http://127.0.0.1:{peer}" for i, (_, peer) in enumerate(peers))
        for i, (client, peer) in enumerate(peers):
            urls = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
            command = ["etcd", "--name", f"m{i}", "--data-dir", f"{self.folder}/m{i}",
                       "--listen-client-urls", urls[0], "--advertise-client-urls", urls[0],
                       "--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1],
                       "--initial-cluster", cluster]
            self.serve(f"m{i}", command, self.load_core, servers.listens(client))
        ends = ", ".join(f'"http://127.0.0.1:{client}"' for client, _ in peers)
        return f"etcd: {{ endpoints: [{ends}], op_timeout: 5s }}"

    def redis(self, port):
        command = ["redis-server", "--port", str(port), "--dir", str(self.folder),
                   "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        return self.serve("redis", command, self.load_core, servers.listens(port))

    def proxy(self, kind, backend, text=CONFIG):
        port, admin = servers.free_port(), servers.free_port()
        store = self.store(kind) if kind in STORES else kind
        values = {"PORT": port, "ADMIN": admin, "BACKEND": backend, "STORE": store}
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        config = self.folder / "outrigger.yaml"
        config.write_text(text)

        def ready():
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=1) as answer:
                return answer.status == 200

        self.serve("outrigger", servers.command_of("outrigger", str(config)), self.proxy_core,
                   ready)
        return port

    def load(self, port, rate, *more):
        """The counts and latencies of one stream of requests; those of the first second, in which
        connections are made, are not among them."""
        command = ["taskset", "-c", str(self.load_core), self.rig, "load", "--port", str(port),
                   "--rate", f"{rate}/s", "--duration", f"{SECONDS + 1}s", "--mark", "1s",
                   "--deadline", "5s", *more]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            sys.exit(f"idempotency: the load failed\n{ended.stderr}")
        part = json.loads(ended.stdout)["parts"][1]["all"]
        if part["good"] != part["offered"]:
            sys.exit(f"idempotency: not all answers were as expected: {part}")
        return part["p50_ms"], part["p99_ms"]

    def most(self, port):
        """How many new keys a second so many connections get through."""
        script = self.folder / "keys.lua"
        script.write_text(KEYS)
        command = ["taskset", "-c", str(self.load_core), "wrk", "-t1", f"-c{CONNECTIONS}", "-d5s",
                   "-s", str(script), f"http://127.0.0.1:{port}/"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in said:
            said = re.sub(r"Requests/sec.*", "", said)
        found = re.search(r"Requests/sec:\s+([0-9.]+)", said)
        return f"{float(found[1]):.0f}" if found else "-"


def post(port, key):
    """The status of a keyed request, and how long it took."""
    headers = {"idempotency-key": key}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", b"amount=1", headers)
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    return status, time.perf_counter() - began


def outage(rig):
    """How soon requests are refused whose store is gone, and served when it is back."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="idempotency-"))
    try:
        with contextlib.ExitStack() as started:
            bench, redis = Bench(rig, folder, started), servers.free_port()
            server = bench.redis(redis)
            store = f'redis: {{ url: "redis://127.0.0.1:{redis}" }}'
            # With the deadlines as they come.
            text = CONFIG.replace(", claim_deadline: 5s, commit_deadline: 5s", "")
            port = bench.proxy(store, bench.upstream(), text)
            if post(port, "before")[0] != 200:
                sys.exit("idempotency: a first request was not served")
            server.process.kill()
            server.process.wait()
            refused = []
            for number in range(100):
                status, took = post(port, f"gone-{number}")
                if status != 503:
                    sys.exit(f"idempotency: answered {status} without a store")
                refused.append(took * 1e3)
            bench.redis(redis)
            back, number = time.perf_counter(), 0
            while post(port, f"back-{number}")[0] != 200:
                number += 1
                time.sleep(0.01)
            back = time.perf_counter() - back
            known = post(port, "before")[0]
        print(f"Redis killed: 100 of 100 requests refused, the slowest after {max(refused):.0f} "
              f"ms.\nRedis back: the first request served after {back:.2f} s, an old key answered "
              f"{known}.")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(rig, kind):
    """The latencies past the store, of new keys, replays and conflicts, and the throughput."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="idempotency-", dir=os.environ.get("FOLDER")))
    try:
        with contextlib.ExitStack() as started:
            bench = Bench(rig, folder, started)
            port = bench.proxy(kind, bench.upstream())
            rate = RATES.get(kind, RATE)
            plain = bench.load(port, rate)
            new = bench.load(port, rate, "--keys", "k")
            again = bench.load(port, rate, "--keys", "k")
            other = bench.load(port, rate, "--keys", "k", "--body", "amount=2", "--good", "422")
            most = bench.most(port)
        return plain, new, again, other, most
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    rig, kinds = sys.argv[1], sys.argv[2:] or STORES
    if kinds == ["outage"]:
        return outage(rig)
    print(f"{RATE} requests a second ({RATES['etcd']} on etcd) for {SECONDS} s of each kind, "
          "p50/p99 in ms.\n`without` is the whole request through a route without keys; the "
          "others are what is\nadded to it.\n")
    print("| store | without | new key | replay | conflict | new keys a second at most |")
    print("|---|---|---|---|---|---|")
    for kind in kinds:
        plain, *rest, most = measure(rig, kind)
        added = [f"{took[0] - plain[0]:.2f} / {took[1] - plain[1]:.2f}" for took in rest]
        print(f"| {kind} | {plain[0]:.2f} / {plain[1]:.2f} | {' | '.join(added)} | {most} |",
              flush=True)


main()
