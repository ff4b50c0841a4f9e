#!/usr/bin/env bash
# Tests the container image with a Docker daemon of its own: size, rights, the way it stops, and
# docker/compose.yaml with requests through the sidecar, also when the upstream goes and comes back.
# Needs root and no registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=$PATH:/usr/sbin:/sbin
source tests/packages.sh

fail() {
  echo "docker/test.sh: FAILED: $*" >&2
  exit 1
}
passed() { echo "    ok: $*"; }

# within SECONDS COMMAND...: repeats the command until it succeeds.
within() {
  local limit=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$limit" ]; then return 1; fi
    sleep 0.1
  done
}

[ "$(id -u)" = 0 ] || fail "a Docker daemon needs root"
need docker.io dockerd docker
need iptables iptables
need iproute2 ip
need util-linux unshare
need busybox-static busybox
docker compose version >/dev/null 2>&1 || need docker-compose docker-compose
[ -s /etc/ssl/certs/ca-certificates.crt ] || install_quietly ca-certificates

# The daemon keeps everything below one folder, has a network and mounts of its own, which vanish
# with it, and is stopped by its own process id: a daemon of the machine sees nothing of this.
folder=$(mktemp -d)
daemon=
clean() {
  set +e
  if [ -n "$daemon" ]; then
    docker ps --all --quiet | xargs --no-run-if-empty docker rm --force >/dev/null
    kill "$daemon"
    wait "$daemon"
  fi
  rm -rf "$folder"
}
trap clean EXIT

export DOCKER_HOST=unix://$folder/docker.sock DOCKER_CONFIG=$folder/client DOCKER_BUILDKIT=0
unshare --net --mount sh -c 'ip link set lo up && exec dockerd "$@"' sh \
  --host "$DOCKER_HOST" --data-root "$folder/images" --exec-root "$folder/run" \
  --pidfile "$folder/pid" >"$folder/dockerd.log" 2>&1 &
daemon=$!
within 30 docker version || { tail -20 "$folder/dockerd.log" >&2; fail "dockerd did not start"; }

# The files of a service that calls and of one that answers, made of one static program.
mkdir -p "$folder/busybox/bin"
cp "$(PATH=/bin:/usr/bin command -v busybox)" "$folder/busybox/bin/busybox"
for name in sh sleep wget httpd nc; do ln -s busybox "$folder/busybox/bin/$name"; done
printf 'FROM scratch\nCOPY bin /bin\nENV PATH=/bin\n' >"$folder/busybox/Dockerfile"
docker build --quiet --tag outrigger-test-app "$folder/busybox" >/dev/null

image=outrigger-test
# What link-time optimisation gains is not seen here, and its minutes are: without it the binary is
# a seventh larger.
CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
  bash docker/build.sh "$image"
passed "the image is within its size"

[ "$(docker image inspect --format '{{.Config.User}}' "$image")" = 65532:65532 ] ||
  fail "the image does not run as 65532:65532"

healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$1")" = healthy ]; }

# Nothing listens at the upstream: the sidecar must start and stop without it.
sed 's/payments:8080/127.0.0.1:9/' docker/outrigger.yaml >"$folder/outrigger.yaml"
chmod 644 "$folder/outrigger.yaml"
one=$(docker run --detach --read-only --cap-drop ALL --security-opt no-new-privileges \
  --volume "$folder/outrigger.yaml:/etc/outrigger/outrigger.yaml:ro" "$image")
within 20 healthy "$one" || { docker logs "$one" >&2; fail "the container did not become healthy"; }
status=/proc/$(docker inspect --format '{{.State.Pid}}' "$one")/status
grep -q '^Uid:.65532.65532' "$status" || fail "it runs as another user than 65532"
grep -q '^CapEff:.0000000000000000$' "$status" || fail "it has capabilities"
grep -q '^NoNewPrivs:.1$' "$status" || fail "it could gain rights"
passed "healthy with a read-only root, no rights and no capability"

started=$(date +%s%N)
docker stop --time 10 "$one" >/dev/null
took=$((($(date +%s%N) - started) / 1000000))
code=$(docker inspect --format '{{.State.ExitCode}}' "$one")
[ "$code" = 0 ] || { docker logs "$one" >&2; fail "SIGTERM as process 1 ended with code $code"; }
[ "$took" -lt 2000 ] || fail "an idle container took $took ms to stop"
docker rm "$one" >/dev/null
passed "SIGTERM as process 1: code 0 after $took ms"

compose() {
  local command=(docker-compose)
  if docker compose version >/dev/null 2>&1; then command=(docker compose); fi
  APP_IMAGE=outrigger-test-app OUTRIGGER_IMAGE=$image \
    "${command[@]}" --project-name outrigger-test --file docker/compose.yaml "$@" </dev/null
}
compose up --detach >"$folder/compose.log" 2>&1 ||
  { cat "$folder/compose.log" >&2; fail "compose up"; }
sidecar=$(compose ps --quiet outrigger)
within 20 healthy "$sidecar" || { compose logs >&2; fail "the sidecar did not become healthy"; }

ask() { compose exec -T app wget -S -O - http://127.0.0.1:15001/charges.json 2>&1; }
answered() { ask | grep -q '"status":"ok"'; }
within 10 answered || { ask >&2 || true; compose logs >&2; fail "no answer through the sidecar"; }
passed "a request from the service reaches the upstream through the sidecar"

# wget keeps the head of an error to itself. nc stays open while it waits: to close one's side is
# to give the request up.
bare() {
  compose exec -T app sh -c \
    '{ printf "GET / HTTP/1.0\r\n\r\n"; sleep 4; } | nc 127.0.0.1 15001' 2>&1
}
refused() { bare | grep -qi '^x-outrigger-reason:'; }
address() {
  docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"
}
old=$(address "$(compose ps --quiet payments)")
compose stop payments >/dev/null 2>&1
within 20 refused || { bare >&2 || true; fail "no reason in the answer without an upstream"; }
passed "without the upstream the sidecar answers for it, with a reason"

# A container that holds the old address makes sure that the upstream returns under another one.
payments=$(compose ps --all --quiet payments)
names='{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}'
network=$(docker inspect --format "$names" \
  "$payments")
compose rm --force payments >/dev/null 2>&1
holder=$(docker run --detach --network "$network" outrigger-test-app sleep 600)
compose up --detach payments >>"$folder/compose.log" 2>&1 ||
  { cat "$folder/compose.log" >&2; fail "compose up of the upstream"; }
[ "$(address "$holder")" = "$old" ] || fail "$old, the address of the upstream, is not held"
new=$(address "$(compose ps --quiet payments)")
[ "$new" != "$old" ] || fail "the upstream has come back under the same address"
# A name is asked for again after half a minute at the latest, an address is gone when two answers
# lack it, and a circuit that has been open for long is tried again after a minute.
within 180 answered || { compose logs >&2; fail "no answer from the upstream at its new address"; }
passed "the upstream is found again when it comes back as $new instead of $old"

docker rm --force "$holder" >/dev/null
compose down --timeout 5 >/dev/null 2>&1
echo "docker/test.sh: 6 passed, 0 failed"
