"""Runs each proxy in turn in front of one backend, and compares them by medians over rounds.

Method. The proxy has core 0 to itself; the backend and the load share core 1, or have a core each
where there are three. In each round every proxy is started anew, warmed up, loaded for a fixed time
with keep-alive connections, and stopped; the order turns by one each round, so that no proxy is
always first. CPU is user and system time of the proxy's processes over the load, divided by the
requests that the load counted. Ratios are medians of the ratios within each round, which cancels
what the machine did in that round. Throughput and its latencies are of a closed loop: a ceiling.
With `--rate`, a second load sends at a fixed rate, whatever the answers do, and its latencies are
the ones to compare. Any failed request fails the run.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import servers  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
SENDERS = 16
PROXIES = ["outrigger", "nginx", "haproxy", "envoy"]
SIZES = {"1KiB": 1024, "64KiB": 65536, "1MiB": 1048576}


def arguments():
    parser = argparse.ArgumentParser(prog="bench/compare.sh", description="Compares proxies.")
    parser.add_argument("--duration", type=float, default=5, help="seconds of load in a run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each proxy")
    parser.add_argument("--connections", type=int, default=32, help="keep-alive connections")
    parser.add_argument("--only", default=",".join(PROXIES), help="proxies, with commas between")
    parser.add_argument("--bodies", default="1KiB", help="any of 1KiB,64KiB,1MiB")
    parser.add_argument("--tls", action="store_true", help="clients speak TLS; upstreams do not")
    parser.add_argument("--rate", type=int, default=0, help="also load at this many requests/s")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",")
    chosen.bodies = chosen.bodies.split(",")
    for name, known in [(n, PROXIES) for n in chosen.only] + [(n, SIZES) for n in chosen.bodies]:
        if name not in known:
            parser.error(f"`{name}` is none of {', '.join(known)}")
    return chosen


class Proxy(servers.Server):
    """A server whose costs are read."""

    def pids(self):
        """The server and its children: each was started in a session of its own."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if int(fields[3]) == self.process.pid:
                    found.append(entry)
        return found

    def cpu(self):
        """Seconds of user and system time so far."""
        ticks = 0
        for entry in self.pids():
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def memory(self):
        """MiB in memory, shared pages counted once."""
        kib = 0
        for entry in self.pids():
            found = re.search(r"^Pss:\s+(\d+)", (entry / "smaps_rollup").read_text(), re.M)
            kib += int(found[1])
        return kib / 1024


def scheme(chosen):
    return "https" if chosen.tls else "http"


def tls(chosen, folder):
    """What each proxy's file says of TLS, with one certificate for all of them."""
    names = ["NGINX_TLS", "HAPROXY_TLS", "OUTRIGGER_TLS", "ENVOY_TLS"]
    if not chosen.tls:
        return dict(zip(names, ["", "", "null", "null"]))
    cert, key, both = folder / "tls.crt", folder / "tls.key", folder / "tls.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-days", "2"]
    command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"]
    command += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(cert.read_text() + key.read_text())
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    pair = f"certificate_chain: {{ filename: {cert} }}, private_key: {{ filename: {key} }}"
    context = f"common_tls_context: {{ tls_certificates: [{{ {pair} }}] }}"
    return dict(zip(names, [
        f" ssl; ssl_certificate {cert}; ssl_certificate_key {key}",
        f" ssl crt {both}",
        f"{{ cert: {cert}, key: {key} }}",
        f'{{ name: envoy.transport_sockets.tls, typed_config: {{ "@type": {kind}, {context} }} }}',
    ]))


def seconds(text):
    """wrk writes 850.00us, 1.23ms, 1.20s or 1.00m."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[unit]


def closed_loop(chosen, core, port, size, duration):
    """Requests, requests per second, p50 and p99 in seconds."""
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{chosen.connections}", "--latency"]
    command += [f"-d{max(1, round(duration))}s", f"{scheme(chosen)}://127.0.0.1:{port}/{size}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"compare: requests failed\n{text}")
    pick = lambda pattern: re.search(pattern, text, re.M)[1]
    requests, rate = int(pick(r"(\d+) requests in")), float(pick(r"Requests/sec:\s+([\d.]+)"))
    return requests, rate, seconds(pick(r"^\s+50%\s+(\S+)")), seconds(pick(r"^\s+99%\s+(\S+)"))


def open_loop(chosen, core, port, size, folder):
    """p50 and p99 in seconds at a fixed rate.

    Each sender has one connection and a pace of its own, since the connections of one h2load send
    all at the same moment, and that would measure bursts.
    """
    duration, senders = max(1, round(chosen.duration)), []
    for at in range(SENDERS):
        log = folder / f"h2load-{at}.log"
        log.unlink(missing_ok=True)
        command = ["taskset", "-c", str(core), "h2load", "--h1", "-c1", f"-D{duration}"]
        command += [f"--log-file={log}", f"--rps={chosen.rate / SENDERS}"]
        command.append(f"{scheme(chosen)}://127.0.0.1:{port}/{size}")
        senders.append((log, subprocess.Popen(command, stdout=subprocess.DEVNULL)))
    rows = []
    for log, sender in senders:
        sender.wait()
        rows += [line.split("\t") for line in log.read_text().splitlines()]
    failed = sum(row[1] != "200" for row in rows)
    if failed or len(rows) < 0.9 * chosen.rate * duration:
        sys.exit(f"compare: {failed} of {len(rows)} requests failed, of {chosen.rate}/s wanted")
    times = sorted(int(row[2]) / 1e6 for row in rows)
    return times[len(times) // 2], times[len(times) * 99 // 100]


SOURCES = {"outrigger": "outrigger.yaml", "nginx": "nginx.conf", "haproxy": "haproxy.cfg",
           "envoy": "envoy.yaml", "backend": "backend.conf"}


def configure(folder, name, values):
    return servers.configure(HERE / SOURCES[name], folder, values)


def measure(chosen, name, body, folder, values):
    """One run of one proxy: its figures by name."""
    proxy_core, _, load_core = servers.cores()
    port = servers.free_port()
    values = values | {"PORT": port, "ADMIN": servers.free_port()}
    command = servers.command_of(name, configure(folder, name, values))
    ready, size, found = servers.answers(port, "/1024", 1024, scheme(chosen)), SIZES[body], {}
    with open(folder / f"{name}.out", "w") as log, Proxy(command, proxy_core, ready, log) as proxy:
        closed_loop(chosen, load_core, port, size, 1)
        before = proxy.cpu()
        requests, rate, p50, p99 = closed_loop(chosen, load_core, port, size, chosen.duration)
        found["cpu"] = (proxy.cpu() - before) / requests * 1e6
        found["rate"], found["p50"], found["p99"] = rate, p50 * 1e6, p99 * 1e6
        if chosen.rate:
            p50, p99 = open_loop(chosen, load_core, port, size, folder)
            found["open50"], found["open99"] = p50 * 1e6, p99 * 1e6
        found["memory"] = proxy.memory()
    return found


def table(chosen, body, runs):
    """The figures of one body size as Markdown."""
    columns = [("CPU us/request", "cpu", ".1f"), ("requests/s", "rate", ",.0f"),
               ("p50 us", "p50", ",.0f"), ("p99 us", "p99", ",.0f")]
    if chosen.rate:
        columns += [(f"p50 us at {chosen.rate}/s", "open50", ",.0f"),
                    (f"p99 us at {chosen.rate}/s", "open99", ",.0f")]
    columns.append(("MiB", "memory", ".1f"))
    beside = [name for name in ("nginx", "haproxy", "envoy") if name in chosen.only]
    heads = [head for head, _, _ in columns] + [f"CPU / {name}" for name in beside]
    over = " over TLS" if chosen.tls else ""
    print(f"\n| {body} answers{over} | " + " | ".join(heads) + " |")
    print("|---" + "|---:" * len(heads) + "|")
    for name in chosen.only:
        cells = [format(statistics.median(run[key] for run in runs[name]), form)
                 for _, key, form in columns]
        for other in beside:
            ratios = [a["cpu"] / b["cpu"] for a, b in zip(runs[name], runs[other])]
            cells.append(f"{statistics.median(ratios):.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def main():
    chosen = arguments()
    if "outrigger" in chosen.only and not os.access(os.environ["OUTRIGGER"], os.X_OK):
        sys.exit(f"compare: no {os.environ['OUTRIGGER']}; run `cargo build --release`, name a "
                 "binary in OUTRIGGER, or choose the others with --only")
    # The first Ctrl-C or SIGTERM unwinds the blocks, which stop what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="outrigger-bench-"))
    try:
        (folder / "bodies").mkdir()
        for size in SIZES.values():
            (folder / "bodies" / str(size)).write_bytes(b"x" * size)
        # nginx started by root serves as another user, who must reach the bodies.
        folder.chmod(0o755)
        port = servers.free_port()
        values = {"DIR": folder, "BACKEND": port, "KIB": "x" * 1024} | tls(chosen, folder)
        command = servers.command_of("nginx", configure(folder, "backend", values))
        ready = servers.answers(port, "/1024", 1024)
        with open(folder / "backend.out", "w") as log, \
                servers.Server(command, servers.cores()[1], ready, log):
            for body in chosen.bodies:
                runs = {name: [] for name in chosen.only}
                for turn in range(chosen.rounds):
                    at = turn % len(chosen.only)
                    for name in chosen.only[at:] + chosen.only[:at]:
                        found = measure(chosen, name, body, folder, values)
                        runs[name].append(found)
                        print(f"{body} round {turn + 1} {name}: {found['cpu']:.2f} us/request, "
                              f"{found['rate']:,.0f}/s", file=sys.stderr, flush=True)
                table(chosen, body, runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
