"""Starts and stops the servers of a comparison; the scripts that compare import this file.

Each server runs on a core that is given, listens on a port that was free, and is stopped by its own
process id when its block ends.
"""

import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

START_LIMIT = 20.0
STOP_LIMIT = 5.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cores():
    """The core of the proxy, of the backend and of the load."""
    found = sorted(os.sched_getaffinity(0))
    if len(found) < 2:
        sys.exit("bench: one core only; the proxy needs one to itself")
    return found[0], found[1], found[min(2, len(found) - 1)]


def command_of(name, config):
    """How a proxy is started with its file."""
    return {
        "outrigger": [os.environ["OUTRIGGER"], "run", config],
        "nginx": ["nginx", "-c", config],
        "haproxy": ["haproxy", "-db", "-f", config],
        "envoy": [os.environ["ENVOY"], "-c", config, "--concurrency", "1", "-l", "error",
                  "--disable-hot-restart"],
    }[name]


def configure(source, folder, values):
    """Writes a file of configuration with each `@KEY@` replaced, and tells where it is."""
    text = source.read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    path = folder / f"run-{source.name}"
    path.write_text(text)
    return str(path)


def answers(port, path, length=None, scheme="http"):
    """A test whether a server answers 200, with so many bytes; for `Server`. Over TLS it believes
    any certificate: this run has made it."""
    context = ssl._create_unverified_context() if scheme == "https" else None
    def test():
        url = f"{scheme}://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(url, timeout=1, context=context) as answer:
            return answer.status == 200 and length in (None, len(answer.read()))
    return test


def listens(port):
    """A test whether a server takes connections, for one that a request would teach something."""
    def test():
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    return test


class Server:
    """A started server that is stopped, with its children, when the block ends."""

    def __init__(self, command, core, ready, log):
        self.command, self.core, self.ready, self.log = command, core, ready, log

    def __enter__(self):
        self.process = subprocess.Popen(
            ["taskset", "-c", str(self.core), *self.command],
            stdout=self.log, stderr=self.log, start_new_session=True,
        )
        limit = time.monotonic() + START_LIMIT
        while True:
            try:
                if self.ready():
                    return self
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > limit:
                self.__exit__()
                sys.exit(f"bench: {self.command[0]} did not answer; see above\n{self.tail()}")
            time.sleep(0.02)

    def tail(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text(errors="replace")[-2000:]

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
