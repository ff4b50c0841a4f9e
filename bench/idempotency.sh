#!/usr/bin/env bash
# What an Idempotency-Key costs: the latency that new keys, replays and conflicts add to a request,
# on each kind of store, and how many new keys a second it takes. Redis (append-only file, fsync
# always) and three members of etcd are started on free ports; all is stopped at the end.
#
#   bash bench/idempotency.sh                    all stores
#   bash bench/idempotency.sh embedded memory    these
#   bash bench/idempotency.sh outage             how soon Redis is missed, and found again
#
# OUTRIGGER=<binary> and RIG=<binary> take what is built already; FOLDER=<folder> is where the
# stores' files go, for a disk other than that of the temporary folder.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# shellcheck source=../tests/packages.sh
source "$here/../tests/packages.sh"
need python3 python3
need redis-server redis-server
need etcd-server etcd
need wrk wrk
need util-linux taskset

# shellcheck source=binaries.sh
source "$here/binaries.sh"

export ENVOY=${ENVOY:-} PATH=$PATH:/usr/sbin:/sbin PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/idempotency.py" "$RIG" "$@"
