# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For tests with a real agent: `. tests/integration/lib.bash`. $1 of the script is the build folder.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
O=${1:-build}
W=$(mktemp -d)
SOCK=$W/mno.sock
AGENT=
passed=0 failed=0 skipped=0
trap 'end_agent; rm -rf "$W"' EXIT

need_root() { [ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }; }

# Runs the calling script again with a /sys/fs/bpf of its own, so that its pins are its own.
own_bpffs() { # ARGUMENTS of the script
  [ -z "${MNO_OWN_BPFFS:-}" ] || return 0
  rm -rf "$W"
  export MNO_OWN_BPFFS=1
  # shellcheck disable=SC2016
  exec unshare --mount --propagation private sh -c \
    'mount -t bpf -o mode=700 bpf /sys/fs/bpf || { echo "no bpffs can be mounted"; exit 77; }; exec "$@"' sh "$0" "$@"
}

start_agent() { # OPTIONS...: waits until it answers; its log is $W/log
  "$O/mnod" --state "$W/state" --socket "$SOCK" "$@" >>"$W/log" 2>&1 &
  AGENT=$!
  for _ in $(seq 200); do
    if "$O/mnoctl" -s "$SOCK" -j status >/dev/null 2>&1; then return 0; fi
    kill -0 $AGENT 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}
end_agent() { # SIGNAL: ends it and returns its exit status
  [ -n "$AGENT" ] || return 0
  kill -s "${1:-TERM}" "$AGENT" 2>/dev/null
  wait "$AGENT" 2>/dev/null
  local r=$?
  AGENT=
  return $r
}
ctl() { "$O/mnoctl" -s "$SOCK" "$@"; }
ok() { # NAME COMMAND...
  local name=$1
  shift
  if "$@" >"$W/out" 2>&1; then
    passed=$((passed + 1))
    echo "ok   $name"
  else
    failed=$((failed + 1))
    echo "fail $name"
    sed 's/^/     /' "$W/out" | tail -n 15
  fi
}
skip() { # NAME REASON
  skipped=$((skipped + 1))
  echo "skip $1: $2"
}
# until COMMAND...: tries it for 10 s
until_ok() {
  for _ in $(seq 100); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  "$@"
}
finish() {
  [ "$failed" = 0 ] || { echo "--- agent log"; tail -n 30 "$W/log" 2>/dev/null; }
  echo "$passed passed, $failed failed, $skipped skipped"
  exit $((failed > 0))
}
# What was seen is stored, sampled or dropped, and nothing is under way.
identity() {
  ctl -j status | jq -e '.completeness | .seen == .stored + .sampled + .dropped
    and .dropped == 0 and (.in_flight // 0) == 0' >/dev/null
}
