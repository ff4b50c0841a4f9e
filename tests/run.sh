#!/usr/bin/env bash
# Runs every check of the repository, on a bare Debian 12 with Rust too: what the tests need is
# installed from Debian's packages when it is missing. Stops at the first step that fails and names
# it.
#
#   bash tests/run.sh          everything
#   bash tests/run.sh quick    without the container image
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=$PATH:/usr/sbin:/sbin
source tests/packages.sh

step_name=start
report() {
  local code=$?
  if [ "$code" != 0 ]; then echo "tests/run.sh: step \"$step_name\" FAILED" >&2; fi
}
trap report EXIT

# step NAME COMMAND...: says what runs, runs it and says how long it took.
step() {
  step_name=$1
  shift
  local started=$SECONDS
  echo "==> $step_name: $*"
  "$@"
  echo "    $step_name: $((SECONDS - started)) s"
}

packages() {
  need gcc cc
  need curl curl
  need haproxy haproxy
  need nginx-light nginx
  need nftables nft
  need iptables iptables
  need iproute2 ip
  need etcd-server etcd
  need prometheus promtool
  need redis-server redis-server
  need openssl openssl
  need python3 python3
  need_module python3-venv ensurepip
  need openjdk-17-jdk-headless java javac
  need nodejs node
  need npm npm
}

# Clients and services in Python and Node.js that tests run. Their versions are fixed, so that a new
# release changes no result; a change of a list installs all of it anew.
python_packages=(
  stripe==16.1.0 localstripe==1.15.10 grpcio==1.85.1 grpcio-health-checking==1.85.1
  aiohttp==3.14.5 httpx==0.28.1 requests==2.34.2 urllib3==2.8.0 websockets==17.4
)
node_packages=(@grpc/grpc-js@1.14.7 undici@6.29.1 ws@8.23.0)

# installed AT PACKAGE...: whether exactly these were installed there.
installed() {
  [ "$(cat "$1/installed" 2>/dev/null)" = "${*:2}" ]
}

python() {
  local at=target/python
  if installed "$at" "${python_packages[@]}"; then return; fi
  rm -rf "$at"
  python3 -m venv "$at"
  "$at/bin/pip" install --quiet --disable-pip-version-check "${python_packages[@]}"
  echo "${python_packages[*]}" >"$at/installed"
}

node_modules() {
  local at=target/node
  if installed "$at" "${node_packages[@]}"; then return; fi
  rm -rf "$at"
  mkdir -p "$at"
  npm install --silent --no-fund --no-audit --no-save --prefix "$at" "${node_packages[@]}"
  echo "${node_packages[*]}" >"$at/installed"
}

# The version is fixed, so that a new release of the tool changes no result. Built without its
# optimisations: it runs for a second.
deny_version=0.20.2
deny() {
  if [ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $deny_version" ]; then
    cargo install --quiet --debug --locked cargo-deny --version "$deny_version"
  fi
  # The advisories need a database from the network and change without a commit of ours, so they
  # are not part of this gate: `cargo deny check advisories`.
  cargo deny --locked check bans licenses sources
}

step packages packages
step python python
step node node_modules
step format cargo fmt --all --check
step lint cargo clippy --locked --all-targets -- -D warnings
step licences deny
step build cargo test --locked --no-run
step tests cargo test --locked --no-fail-fast
if [ "${1:-}" != quick ]; then
  step container bash docker/test.sh
fi
echo "tests/run.sh: every step passed in $SECONDS s"
