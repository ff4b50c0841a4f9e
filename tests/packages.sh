# shellcheck shell=bash
# Installs Debian packages when a command is missing; other scripts read this file.
# Nothing is installed, and no package list is fetched, where everything is there.

apt_is_fresh=no

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "error: $1 needs root, and there is no sudo" >&2
    return 1
  fi
}

# Packages of servers start them at once. A policy that forbids it stands while we install, unless
# the machine has one of its own.
install_quietly() {
  local policy=/usr/sbin/policy-rc.d ours=no failed=0
  if [ ! -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
  fi
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null || failed=1
  if [ "$ours" = yes ]; then as_root rm -f "$policy"; fi
  return "$failed"
}

# fetch PACKAGE REASON: installs it.
fetch() {
  echo "    installing $1 for $2"
  if ! command -v apt-get >/dev/null; then
    echo "error: $2 missing, and no apt-get here; install what Debian calls $1" >&2
    return 1
  fi
  if [ "$apt_is_fresh" = no ]; then
    as_root apt-get update -qq </dev/null
    apt_is_fresh=yes
  fi
  if ! install_quietly "$1"; then
    echo "error: could not install $1, which has $2" >&2
    return 1
  fi
}

# need PACKAGE COMMAND...: makes sure that every command is there.
need() {
  local package=$1 command missing=()
  shift
  for command in "$@"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("$command")
  done
  if [ "${#missing[@]}" = 0 ]; then return; fi
  fetch "$package" "${missing[*]}"
}

# need_module PACKAGE MODULE: makes sure that a module of Python is there.
need_module() {
  if python3 -c "import $2" 2>/dev/null; then return; fi
  fetch "$1" "$2"
}
