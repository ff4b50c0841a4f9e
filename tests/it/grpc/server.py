"""A server of gRPC whose messages are plain bytes. Tells its port, and what it sees, by lines."""
import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

said = threading.Lock()
failed = set()


def say(*words):
    with said:
        print(*words, flush=True)


def unary(request, context):
    return request


def down(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def up(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def both(requests, context):
    yield from requests


def fail(request, context):
    """Fails the first attempt of each call, in the head or in trailers behind the head."""
    way, name = request.decode().split()
    attempts = dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts", "0")
    say("attempt", name, attempts)
    if name not in failed:
        failed.add(name)
        if way == "trailers":
            context.send_initial_metadata([("x-early", "1")])
        context.abort(grpc.StatusCode.UNAVAILABLE, "not yet: \u00e9")
    return b"at last"


def hang(requests, context):
    """Answers messages, and says when the call is over."""
    context.add_callback(lambda: say("over", time.monotonic()))
    for request in requests:
        if request == b"leave":
            say("leaving", time.monotonic())
            context.cancel()
            return
        yield request


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Hang": grpc.stream_stream_rpc_method_handler(hang),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    states = health_pb2.HealthCheckResponse
    checks.set("", states.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say("port", port)
    for line in sys.stdin:
        checks.set("", states.SERVING if line.strip() == "serving" else states.NOT_SERVING)
        say("health", line.strip())
    server.stop(0)


main()
