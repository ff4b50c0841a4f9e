#!/usr/bin/env bash
# Builds the image from a static binary of this tree and checks its size.
#   docker/build.sh [TAG]      the tag is `outrigger` unless given
# OUTRIGGER_STATIC names a static binary that is there already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tag=${1:-outrigger}
# More than this means that something was linked in which a sidecar does not need.
limit=$((20 * 1024 * 1024))
roots=/etc/ssl/certs/ca-certificates.crt

if [ ! -s "$roots" ]; then
  echo "error: no CA roots at $roots; install Debian's ca-certificates" >&2
  exit 1
fi
if [ -z "${OUTRIGGER_STATIC:-}" ]; then
  host=$(rustc --print host-tuple)
  RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --locked --release --bin outrigger --target "$host"
  OUTRIGGER_STATIC=${CARGO_TARGET_DIR:-target}/$host/release/outrigger
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$OUTRIGGER_STATIC" "$context/outrigger"
cp "$roots" "$context/ca-certificates.crt"
DOCKER_BUILDKIT=0 docker build --quiet --file docker/Dockerfile.local --tag "$tag" \
  "$context" >/dev/null

size=$(docker image inspect --format '{{.Size}}' "$tag")
echo "image $tag: $((size / 1024)) KiB"
if [ "$size" -gt "$limit" ]; then
  echo "error: the image is larger than $((limit / 1024)) KiB; see what was linked in" >&2
  exit 1
fi
