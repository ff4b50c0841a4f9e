# To be sourced: builds the proxy and the rig, unless OUTRIGGER and RIG name them already.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=${CARGO_TARGET_DIR:-$root/target}/release
if [ -z "${OUTRIGGER:-}" ]; then
  cargo build --quiet --locked --release --manifest-path "$root/Cargo.toml"
  OUTRIGGER=$built/outrigger
fi
if [ -z "${RIG:-}" ]; then
  # Apart from the proxy, since an example brings the features of its own dependencies.
  cargo build --quiet --locked --release --example rig --manifest-path "$root/Cargo.toml"
  RIG=$built/examples/rig
fi
export OUTRIGGER RIG
