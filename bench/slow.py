"""Measures what bench/slow.sh describes."""

import asyncio
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

import servers

RATE, SECONDS = 500, 10
# A client sends a byte, or looks at its connection, so often.
PAUSE = 4
# Clients that connect at once, so that no backlog is the measure.
AT_ONCE = 200
CONFIG = """
admin: { bind: 127.0.0.1:@ADMIN@ }
telemetry: { access_log: { to: none } }
runtime: { workers: 1 }
listeners:
  - { name: in, bind: 127.0.0.1:@PORT@, limits: { max_connections: 15000 } }
upstreams: { u: { endpoints: ["127.0.0.1:@BACKEND@"] } }
routes: [{ name: all, upstream: u }]
"""
GET = b"GET / HTTP/1.1\r\nhost: slow\r\n\r\n"


async def idle(reader, writer):
    """Asks once, and keeps its connection."""
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    await reader.read()


async def head(reader, writer):
    """Sends a head that does not end."""
    for byte in GET[:-2] + b"x: " + b"y" * 100_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(PAUSE)


async def body(reader, writer):
    """Sends a body that does not end."""
    writer.write(b"POST / HTTP/1.1\r\nhost: slow\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(PAUSE)


async def read(reader, writer):
    """Asks again and again, and reads nothing."""
    writer.transport.pause_reading()
    for _ in range(16):
        writer.write(GET)
    while not writer.is_closing():
        await asyncio.sleep(PAUSE)


KINDS = {"idle": idle, "head": head, "body": body, "read": read}


class Crowd:
    """Clients of a kind, who come back when they are sent away."""

    def __init__(self, kind, port, clients):
        self.act, self.port, self.clients = KINDS[kind], port, clients
        self.open, self.came = 0, 0
        self.gate = asyncio.Semaphore(AT_ONCE)

    async def one(self):
        while True:
            try:
                async with self.gate:
                    pair = await asyncio.open_connection("127.0.0.1", self.port, limit=4096)
                self.open, self.came = self.open + 1, self.came + 1
                try:
                    await self.act(*pair)
                finally:
                    self.open -= 1
                    pair[1].close()
            except (OSError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(PAUSE)

    async def gather(self):
        tasks = [asyncio.create_task(self.one()) for _ in range(self.clients)]
        while self.came < self.clients:
            await asyncio.sleep(0.1)
        return tasks


def resident(process):
    """The resident memory of a process, kB."""
    children = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in children if line.startswith("VmRSS")).split()[1])


async def load(rig, core, port):
    """Good answers of all, and p50 and p99 in ms."""
    command = ["taskset", "-c", str(core), rig, "load", "--port", str(port), "--rate",
               f"{RATE}/s", "--duration", f"{SECONDS + 1}s", "--mark", "1s", "--deadline", "5s"]
    ended = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    out, _ = await ended.communicate()
    part = json.loads(out)["parts"][1]["all"]
    return f"{100 * part['good'] / part['offered']:.2f} %", part["p50_ms"], part["p99_ms"]


async def measure(rig, kind, clients, folder):
    proxy_core, upstream_core, load_core = servers.cores()
    with contextlib.ExitStack() as started:
        backend, port, admin = (servers.free_port() for _ in range(3))

        def serve(name, command, core, ready):
            out = started.enter_context(open(folder / f"{name}.out", "w"))
            return started.enter_context(servers.Server(command, core, ready, out))

        serve("upstream", [rig, "upstream", "--port", str(backend), "--slots", "64",
                           "--service", "1ms"], upstream_core, servers.answers(backend, "/ready"))
        text = CONFIG
        for key, value in {"PORT": port, "ADMIN": admin, "BACKEND": backend}.items():
            text = text.replace(f"@{key}@", str(value))
        config = folder / "outrigger.yaml"
        config.write_text(text)
        proxy = serve("outrigger", servers.command_of("outrigger", str(config)), proxy_core,
                      servers.listens(port))
        before = await load(rig, load_core, port)
        empty = resident(proxy.process)
        crowd = Crowd(kind, port, clients)
        tasks = await crowd.gather()
        during = await load(rig, load_core, port)
        full, there = resident(proxy.process), crowd.open
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    each = (full - empty) / max(there, 1)
    return before, during, there, each


async def main():
    rig, clients, kinds = sys.argv[1], int(sys.argv[2]), sys.argv[3:] or list(KINDS)
    print(f"{RATE} requests a second of others, good and p50/p99 in ms, alone and beside "
          f"{clients} slow clients.\n")
    print("| slow clients | alone | beside them | connections | kB each |")
    print("|---|---|---|---:|---:|")
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="slow-") as folder:
            before, during, there, each = await measure(rig, kind, clients, pathlib.Path(folder))
        row = [f"{good}, {p50:.2f} / {p99:.2f}" for good, p50, p99 in (before, during)]
        print(f"| {kind} | {' | '.join(row)} | {there} | {each:.1f} |", flush=True)


asyncio.run(main())
