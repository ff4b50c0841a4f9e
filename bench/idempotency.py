"""Measures what bench/idempotency.sh describes."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

STORES = ("memory", "embedded", "redis", "etcd")
# New keys a second: the rate for which the bars are given.
RATE = 1000
CONNECTIONS = 64


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Client:
    """A keep-alive connection that knows just enough HTTP."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None

    async def post(self, key, body=b"amount=1"):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = (
            f"POST /charges HTTP/1.1\r\nhost: bench\r\nidempotency-key: {key}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        await self.reader.readexactly(int(fields.get("content-length", 0)))
        return int(lines[0].split()[1]), fields.get("idempotency-status", "")


class Upstream(asyncio.Protocol):
    """Answers each request at once, whatever it is."""

    ANSWER = b"HTTP/1.1 201 Created\r\ncontent-length: 16\r\n\r\n0123456789abcdef"

    def connection_made(self, transport):
        self.transport, self.held = transport, b""

    def data_received(self, data):
        self.held += data
        while b"\r\n\r\n" in self.held:
            head, rest = self.held.split(b"\r\n\r\n", 1)
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if len(rest) < length:
                return
            self.held = rest[length:]
            self.transport.write(self.ANSWER)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def paced(clients, keys, rate, wanted):
    """Sends a request for each key at fixed times; latencies count from those times."""
    took, idle = [], list(clients)
    began = time.perf_counter()

    async def one(due, key):
        client = idle.pop() if idle else Client(clients[0].port)
        status, said = await client.post(key)
        took.append(time.perf_counter() - due)
        idle.append(client)
        if not wanted(status, said):
            raise SystemExit(f"unexpected answer: {status} {said}")

    tasks = []
    for number, key in enumerate(keys):
        due = began + number / rate
        delay = due - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(one(due, key)))
    await asyncio.gather(*tasks)
    return took


async def saturated(port, prefix, requests):
    """How many new keys a second so many connections get through."""

    async def worker(number):
        client = Client(port)
        for place in range(requests // CONNECTIONS):
            await client.post(f"{prefix}-{number}-{place}")

    began = time.perf_counter()
    await asyncio.gather(*(worker(number) for number in range(CONNECTIONS)))
    return requests // CONNECTIONS * CONNECTIONS / (time.perf_counter() - began)


def start(processes, command, **more):
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    processes.append(subprocess.Popen(command, **{**quiet, **more}))


def store_of(kind, folder, processes):
    """The settings of a store, and what it needs, started."""
    if kind == "memory":
        return "memory: { max_entries: 1000000, max_bytes: 1GiB }"
    if kind == "embedded":
        return f"embedded: {{ path: {folder}/records.redb }}"
    if kind == "redis":
        port = free_port()
        start(processes, ["redis-server", "--port", str(port), "--dir", folder, "--save", "",
                          "--appendonly", "yes", "--appendfsync", "always"])
        return f'redis: {{ url: "redis://127.0.0.1:{port}", op_timeout: 5s }}'
    peers = [(free_port(), free_port()) for _ in range(3)]
    cluster = ",".join(f"m{i}=http://127.0.0.1:{peer}" for i, (_, peer) in enumerate(peers))
    for i, (client, peer) in enumerate(peers):
        urls = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        start(processes, ["etcd", "--name", f"m{i}", "--data-dir", f"{folder}/m{i}",
                          "--listen-client-urls", urls[0], "--advertise-client-urls", urls[0],
                          "--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1],
                          "--initial-cluster", cluster])
    ends = ", ".join(f'"http://127.0.0.1:{client}"' for client, _ in peers)
    return f"etcd: {{ endpoints: [{ends}], op_timeout: 5s }}"


async def measure(kind, binary, upstream, requests):
    folder, processes = tempfile.mkdtemp(prefix="idempotency-"), []
    try:
        port, admin = free_port(), free_port()
        keyed = "idempotency: { store: s, scope: [none], claim_deadline: 5s, commit_deadline: 5s }"
        with open(f"{folder}/outrigger.yaml", "w", encoding="utf-8") as file:
            file.write(
                f"admin: {{ bind: 127.0.0.1:{admin} }}\n"
                "telemetry: { access_log: { to: none } }\n"
                "runtime: { workers: 1 }\n"
                f"stores: {{ s: {{ {store_of(kind, folder, processes)} }} }}\n"
                f"listeners: [{{ name: in, bind: 127.0.0.1:{port} }}]\n"
                f'upstreams: {{ u: {{ endpoints: ["127.0.0.1:{upstream}"] }} }}\n'
                f"routes: [{{ name: r, upstream: u, {keyed} }}]\n"
            )
        start(processes, [binary, "run", f"{folder}/outrigger.yaml"])
        client = Client(port)
        for _ in range(300):
            try:
                if (await client.post("warm"))[0] == 201:
                    break
            except (OSError, asyncio.IncompleteReadError):
                client = Client(port)
            await asyncio.sleep(0.1)
        else:
            raise SystemExit(f"{kind}: the proxy does not serve")
        keys = [f"key-{number}" for number in range(requests)]
        clients = [Client(port) for _ in range(CONNECTIONS)]
        new = await paced(clients, keys, RATE, lambda status, said: said.startswith("executed"))
        again = await paced(clients, keys, RATE, lambda status, said: said.startswith("replayed"))
        other = [Client(port) for _ in range(CONNECTIONS)]
        for client in other:
            client.post = lambda key, post=client.post: post(key, b"amount=2")
        wrong = await paced(other, keys, RATE, lambda status, said: status == 422)
        most = await saturated(port, "more", requests)
        return new, again, wrong, most
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def main():
    binary, requests, kinds = os.path.abspath(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or STORES
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    upstream = server.sockets[0].getsockname()[1]
    straight = await paced([Client(upstream) for _ in range(CONNECTIONS)],
                           range(requests), RATE, lambda status, said: status == 201)
    half, most = percentile(straight, 0.5), percentile(straight, 0.99)
    print(f"{requests} requests of each kind at {RATE}/s; straight to the upstream: "
          f"p50 {half * 1e3:.2f} ms, p99 {most * 1e3:.2f} ms. Below, what is added to that.\n")
    print(f"{'store':9} {'new p50':>8} {'p99':>8} {'replay p50':>11} {'p99':>8} "
          f"{'conflict p50':>13} {'p99':>8} {'new keys/s':>11}")
    for kind in kinds:
        new, again, wrong, rate = await measure(kind, binary, upstream, requests)
        added = [(percentile(took, 0.5) - half, percentile(took, 0.99) - most)
                 for took in (new, again, wrong)]
        (a, b), (c, d), (e, f) = [(x * 1e3, y * 1e3) for x, y in added]
        print(f"{kind:9} {a:8.2f} {b:8.2f} {c:11.2f} {d:8.2f} {e:13.2f} {f:8.2f} {rate:11.0f}",
              flush=True)


asyncio.run(main())
