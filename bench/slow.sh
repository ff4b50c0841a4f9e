#!/usr/bin/env bash
# What 10,000 slow clients cost the others, and how much memory they hold: clients that are idle,
# send a head byte by byte, send a body byte by byte, or do not read their answers.
#
#   bash bench/slow.sh                    all kinds
#   bash bench/slow.sh head               this one
#
# OUTRIGGER=<binary> and RIG=<binary> take what is built already; CLIENTS=<n> is another number.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# shellcheck source=../tests/packages.sh
source "$here/../tests/packages.sh"
need python3 python3
need util-linux taskset

# shellcheck source=binaries.sh
source "$here/binaries.sh"
ulimit -n "$(ulimit -Hn)"

export ENVOY=${ENVOY:-} PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/slow.py" "$RIG" "${CLIENTS:-10000}" "$@"
