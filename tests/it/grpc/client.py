"""A client of gRPC: `client.py TARGET CASE [COUNT]`. Says what it got, by lines."""
import sys
import threading
import time

import grpc

target, case, *rest = sys.argv[1:]
# What it calls a unix socket by itself is no authority that all servers take.
options = [("grpc.enable_retries", 0), ("grpc.default_authority", "localhost")]
channel = grpc.insecure_channel(target, options=options)


def method(name, kind):
    return getattr(channel, kind)("/test.Echo/" + name)


def say(*words):
    print(*words, flush=True)


def kinds():
    assert method("Unary", "unary_unary")(b"one", timeout=30) == b"one"
    assert list(method("Down", "unary_stream")(b"100")) == [str(n).encode() for n in range(100)]
    pieces = [b"x" * 1000] * 200
    assert method("Up", "stream_unary")(iter(pieces)) == b"200000"
    assert list(method("Both", "stream_stream")(iter(pieces))) == pieces
    say("ok")


def fail():
    """Failures that the proxy tries again, in either place; each call has a name of its own."""
    for way in ("head", "trailers"):
        for number in range(20):
            try:
                answer = method("Fail", "unary_unary")(f"{way} {way}{number}".encode())
                say(way, answer.decode())
            except grpc.RpcError as error:
                say(way, error.code().name, error.details())


def refused():
    try:
        method("Unary", "unary_unary")(b"one")
    except grpc.RpcError as error:
        say(error.code().name, error.details())
        say(*sorted(key for key, _ in error.trailing_metadata() or ()))


def cancel():
    """Leaves a conversation in its middle."""

    def requests():
        yield b"hello"
        threading.Event().wait(60)

    call = method("Hang", "stream_stream")(requests())
    next(call)
    say("leaving", time.monotonic())
    call.cancel()


def left():
    """Is left by the server in the middle of a conversation."""
    go = threading.Event()

    def requests():
        yield b"hello"
        go.wait()
        yield b"leave"
        threading.Event().wait(60)

    call = method("Hang", "stream_stream")(requests())
    next(call)
    go.set()
    try:
        for _ in call:
            pass
        say("ended", time.monotonic())
    except grpc.RpcError as error:
        say(error.code().name, time.monotonic())


def many():
    """A conversation of so many messages, as fast as it goes."""
    count, passed = int(rest[0]), 0
    tenth = max(count // 10, 1)
    began = time.monotonic()
    for message in method("Both", "stream_stream")(str(n).encode() for n in range(count)):
        assert message == str(passed).encode()
        passed += 1
        if passed % tenth == 0:
            say("passed", passed)
    assert passed == count
    say("took", int((time.monotonic() - began) * 1000), "ms")


cases = (kinds, fail, refused, cancel, left, many)
{each.__name__: each for each in cases}[case]()
# Threads that still wait are of calls that are over.
sys.stdout.flush()
__import__("os")._exit(0)
