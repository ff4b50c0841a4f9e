#!/usr/bin/env bash
# Measures Outrigger beside nginx, HAProxy and Envoy in front of one backend; `--help` lists the
# options. Installs what is missing, then hands over to compare/compare.py, which holds the method.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# shellcheck source=../tests/packages.sh
source "$here/../tests/packages.sh"
# shellcheck source=envoy.sh
source "$here/envoy.sh"
need nginx nginx
need haproxy haproxy
need wrk wrk
need nghttp2-client h2load
need python3 python3
need util-linux taskset

need_envoy compare "$@"

target=${CARGO_TARGET_DIR:-$here/../target}
export ENVOY=${ENVOY:-} OUTRIGGER=${OUTRIGGER:-$target/release/outrigger}
export PATH=$PATH:/usr/sbin:/sbin PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/compare/compare.py" "$@"
