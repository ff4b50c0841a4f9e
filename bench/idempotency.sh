#!/usr/bin/env bash
# What an Idempotency-Key costs: the latency of new keys, replays and conflicts on each kind of
# store, and past the proxy for comparison. Redis and etcd are started on free ports, three members
# of etcd; all are stopped at the end.
#
#   bash bench/idempotency.sh                    all stores
#   bash bench/idempotency.sh embedded memory    these
#
# OUTRIGGER=<binary> takes a proxy that is built already; REQUESTS=<n> the number of each kind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/packages.sh
need python3 python3
need redis-server redis-server
need etcd-server etcd
if [ -z "${OUTRIGGER:-}" ]; then
  cargo build --release --locked
  OUTRIGGER=${CARGO_TARGET_DIR:-target}/release/outrigger
fi
exec python3 bench/idempotency.py "$OUTRIGGER" "${REQUESTS:-3000}" "$@"
