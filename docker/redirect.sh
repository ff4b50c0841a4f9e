#!/usr/bin/env bash
# Sends the TCP connections that this machine, container or pod opens to a listener of Outrigger
# with `original_destination: true`, except for those of Outrigger itself: without that exception
# its own connections would come back to it for ever.
#
#   redirect.sh apply --uid UID | --mark MARK [OPTION...]
#   redirect.sh remove
#   redirect.sh show
#
#   --port PORT           where the listener is (15001). Redirected connections arrive at 127.0.0.1
#                         and ::1, so bind one listener to each, or one to [::]
#   --uid UID             spare the connections of this user: the one that Outrigger runs as
#   --mark MARK           spare the connections with this mark (SO_MARK), such as 0x1
#   --ports P[,P...]      redirect these destination ports alone (all)
#   --exclude NET         spare this network, IPv4 or IPv6; can be given again
#   --exclude-port PORT   spare this destination port; can be given again
#   --with nft|iptables   which tool to use (nft, if it is there)
#
# Loopback is never redirected. `apply` replaces the rules that it has made before, with nft in one
# step; `remove` takes them away, and nothing else. Needs CAP_NET_ADMIN in the network namespace.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

table=outrigger
chain=OUTRIGGER

fail() {
  echo "redirect.sh: $*" >&2
  exit 2
}

number() {
  if ! [[ $2 =~ ^[0-9]{1,9}$ ]] || [ "$2" -lt 1 ] || [ "$2" -gt "$3" ]; then
    fail "$1 wants a number from 1 to $3, not \`$2\`"
  fi
}

command=${1:-}
[ $# = 0 ] || shift
port=15001 uid='' mark='' ports=() nets4=() nets6=() spared=() with=''
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || fail "$1 wants a value"
  case $1 in
    --port) number "$1" "$2" 65535 && port=$2 ;;
    --uid)
      [[ $2 =~ ^[0-9]+$ ]] || fail "--uid wants a number, not \`$2\`"
      uid=$2
      ;;
    --mark)
      [[ $2 =~ ^(0x[0-9a-fA-F]+|[0-9]+)$ ]] || fail "--mark wants a number, not \`$2\`"
      mark=$2
      ;;
    --ports)
      IFS=, read -ra ports <<<"$2"
      for one in "${ports[@]}"; do number "$1" "$one" 65535; done
      ;;
    --exclude)
      [[ $2 =~ ^[0-9a-fA-F.:]+(/[0-9]+)?$ ]] || fail "--exclude wants a network, not \`$2\`"
      if [[ $2 == *:* ]]; then nets6+=("$2"); else nets4+=("$2"); fi
      ;;
    --exclude-port) number "$1" "$2" 65535 && spared+=("$2") ;;
    --with)
      [[ $2 =~ ^(nft|iptables)$ ]] || fail "--with wants nft or iptables, not \`$2\`"
      with=$2
      ;;
    *) fail "$1 is not known; see the head of this file" ;;
  esac
  shift 2
done

joined() {
  local IFS=,
  echo "$*"
}

# The rules for nft: the table is made if it is not there, so that it can be taken away and made
# anew, all in one transaction.
nft_rules() {
  echo "add table inet $table"
  echo "delete table inet $table"
  echo "table inet $table {"
  echo "  chain output {"
  echo "    type nat hook output priority -100; policy accept;"
  echo "    oifname \"lo\" return"
  [ -z "$uid" ] || echo "    meta skuid $uid return"
  [ -z "$mark" ] || echo "    meta mark $mark return"
  [ "${#nets4[@]}" = 0 ] || echo "    ip daddr { $(joined "${nets4[@]}") } return"
  [ "${#nets6[@]}" = 0 ] || echo "    ip6 daddr { $(joined "${nets6[@]}") } return"
  [ "${#spared[@]}" = 0 ] || echo "    tcp dport { $(joined "${spared[@]}") } return"
  if [ "${#ports[@]}" = 0 ]; then
    echo "    meta l4proto tcp redirect to :$port"
  else
    echo "    tcp dport { $(joined "${ports[@]}") } redirect to :$port"
  fi
  echo "  }"
  echo "}"
}

# The same for iptables or ip6tables ($1), with the networks of its family. The new chain is whole
# before connections are sent through it.
iptables_apply() {
  local tool=$1 one
  shift
  iptables_remove "$tool"
  "$tool" -w -t nat -N "$chain"
  "$tool" -w -t nat -A "$chain" -o lo -j RETURN
  [ -z "$uid" ] || "$tool" -w -t nat -A "$chain" -m owner --uid-owner "$uid" -j RETURN
  [ -z "$mark" ] || "$tool" -w -t nat -A "$chain" -m mark --mark "$mark" -j RETURN
  for one in "$@"; do "$tool" -w -t nat -A "$chain" -d "$one" -j RETURN; done
  for one in "${spared[@]}"; do "$tool" -w -t nat -A "$chain" -p tcp --dport "$one" -j RETURN; done
  if [ "${#ports[@]}" = 0 ]; then
    "$tool" -w -t nat -A "$chain" -p tcp -j REDIRECT --to-ports "$port"
  fi
  for one in "${ports[@]}"; do
    "$tool" -w -t nat -A "$chain" -p tcp --dport "$one" -j REDIRECT --to-ports "$port"
  done
  "$tool" -w -t nat -A OUTPUT -p tcp -j "$chain"
}

iptables_remove() {
  local tool=$1
  while "$tool" -w -t nat -D OUTPUT -p tcp -j "$chain" 2>/dev/null; do :; done
  "$tool" -w -t nat -F "$chain" 2>/dev/null || true
  "$tool" -w -t nat -X "$chain" 2>/dev/null || true
}

remove_all() {
  local tool
  if command -v nft >/dev/null; then
    printf 'add table inet %s\ndelete table inet %s\n' "$table" "$table" | nft -f -
  fi
  for tool in iptables ip6tables; do
    if command -v "$tool" >/dev/null; then iptables_remove "$tool"; fi
  done
}

case $command in
  apply)
    [ -n "$uid$mark" ] || fail "apply needs --uid or --mark, or Outrigger would talk to itself"
    if [ -z "$with" ]; then
      if command -v nft >/dev/null; then with=nft; else with=iptables; fi
    fi
    if [ "$with" = nft ]; then
      for tool in iptables ip6tables; do
        if command -v "$tool" >/dev/null; then iptables_remove "$tool"; fi
      done
      nft_rules | nft -f -
    else
      if command -v nft >/dev/null; then
        printf 'add table inet %s\ndelete table inet %s\n' "$table" "$table" | nft -f -
      fi
      iptables_apply iptables "${nets4[@]}"
      iptables_apply ip6tables "${nets6[@]}"
    fi
    ;;
  remove) remove_all ;;
  show)
    if command -v nft >/dev/null && nft list table inet "$table" 2>/dev/null; then exit 0; fi
    for tool in iptables ip6tables; do
      if command -v "$tool" >/dev/null && "$tool" -w -t nat -S "$chain" 2>/dev/null; then :; fi
    done
    ;;
  *) fail "say apply, remove or show; see the head of this file" ;;
esac
