#!/usr/bin/env bash
# Runs h2spec, a conformance test of HTTP/2 servers (https://github.com/summerwind/h2spec), against
# a listener of Outrigger, in the clear and over TLS, and fails when a case does.
#
#   H2SPEC=/path/to/h2spec OUTRIGGER=/path/to/outrigger bash bench/h2spec.sh
#
# On Debian h2spec can be built from its source with golang-go and the packages
# golang-golang-x-net-dev, golang-github-fatih-color-dev and golang-github-spf13-cobra-dev.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
h2spec=${H2SPEC:?set H2SPEC to the path of an h2spec binary}
outrigger=${OUTRIGGER:-${CARGO_TARGET_DIR:-$here/../target}/release/outrigger}
clear_port=${CLEAR_PORT:-18080} tls_port=${TLS_PORT:-18443} back_port=${BACK_PORT:-18081}

work=$(mktemp -d)
pids=()
end() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap end EXIT

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
  -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
  -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null

# The service behind: it reads every body and answers with a few bytes, over HTTP/1.1.
cat > "$work/back.py" <<'PY'
import http.server, sys

class Back(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        if self.headers.get("transfer-encoding"):
            while (size := int(self.rfile.readline().split(b";")[0], 16)):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"hello")

    do_GET = do_POST = do_HEAD = do_OPTIONS = do_PUT = answer

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Back).serve_forever()
PY
# Many cases break off in the middle, of which it would complain.
python3 "$work/back.py" "$back_port" 2>/dev/null &
pids+=($!)

cat > "$work/outrigger.yaml" <<YAML
admin: { bind: "127.0.0.1:0" }
telemetry: { access_log: { to: none }, log: { level: warn } }
listeners:
  - { name: clear, bind: "127.0.0.1:$clear_port", protocols: [http2] }
  - name: tls
    bind: "127.0.0.1:$tls_port"
    tls: { cert: $work/cert.pem, key: $work/key.pem }
upstreams: { back: { endpoints: ["127.0.0.1:$back_port"] } }
routes: [{ name: all, upstream: back }]
YAML
"$outrigger" run "$work/outrigger.yaml" &
pids+=($!)
for port in "$clear_port" "$tls_port" "$back_port"; do
  until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.1; done
done

# run NAME EXPECTED ARGUMENTS...: fails when more cases fail than are expected to.
run() {
  local name=$1 expected=$2
  shift 2
  "$h2spec" -h 127.0.0.1 "$@" > "$work/$name.txt" 2>&1 || true
  local summary failed
  summary=$(grep -E '^[0-9]+ tests, ' "$work/$name.txt")
  failed=$(sed -E 's/.* ([0-9]+) failed.*/\1/' <<<"$summary")
  echo "$name: $summary"
  sed -n '/^Failures:/,$p' "$work/$name.txt"
  [ "$failed" -le "$expected" ]
}

run clear "${CLEAR_FAILS:-0}" -p "$clear_port"
run tls "${TLS_FAILS:-0}" -p "$tls_port" -t -k
