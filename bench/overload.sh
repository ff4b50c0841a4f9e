#!/usr/bin/env bash
# Measures what is left of an overloaded upstream's capacity behind Outrigger, Envoy, HAProxy and
# nothing; `--help` lists scenarios and options. Installs and builds what is missing, then hands
# over to overload/overload.py; METHOD.md says what is measured.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# shellcheck source=../tests/packages.sh
source "$here/../tests/packages.sh"
# shellcheck source=envoy.sh
source "$here/envoy.sh"
need haproxy haproxy
need python3 python3
need util-linux taskset
need_envoy overload "$@"

# shellcheck source=binaries.sh
source "$here/binaries.sh"

export ENVOY=${ENVOY:-}
export PATH=$PATH:/usr/sbin:/sbin PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/overload/overload.py" "$@"
