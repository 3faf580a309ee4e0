#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Starts that cannot work, or only in part: a clear word, the documented exit status, nothing lost.
# timeout: 240
. "$(dirname "$0")/lib.bash"
need_root

# mnod must end with CODE and say TEXT
refused() { # CODE TEXT COMMAND...
  local want=$1 text=$2 got
  shift 2
  timeout 20 "$@" >"$W/said" 2>&1
  got=$?
  cat "$W/said"
  if [ "$got" = "$want" ] && grep -q -- "$text" "$W/said"; then return 0; fi
  echo "exit $got, not $want, or not: $text"
  return 1
}
at() { # STATE SOCKET
  timeout 20 "$O/mnod" --no-bpf --for 1s --state "$1" --socket "$2"
}
touch "$W/file"
ln -s nowhere "$W/dangling"
N=("$O/mnod" --no-bpf --for 1s)
ok "state is a file" refused 6 "no folder: choose" "${N[@]}" --state "$W/file" --socket "$SOCK"
ok "state below a file" refused 6 "no folder: choose" "${N[@]}" --state "$W/file/x" --socket "$SOCK"
ok "state below nothing" refused 6 "make the folders" "${N[@]}" --state "$W/a/b" --socket "$SOCK"
ok "state is a link to nothing" refused 6 "make the folders" "${N[@]}" --state "$W/dangling" --socket "$SOCK"
ok "socket is a file" refused 6 "is no socket" "${N[@]}" --state "$W/state" --socket "$W/file"
ok "the file is still there" test -f "$W/file"
ok "socket path too long" refused 2 "107 bytes" "${N[@]}" --state "$W/state" --socket "$W/$(printf 'a%.0s' {1..120})"
ok "no such user" refused 6 "another --user" "${N[@]}" --state "$W/state" --socket "$SOCK" --user nobody-of-that-name

python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$SOCK"
ok "a socket that nobody listens at is replaced" at "$W/state" "$SOCK"

# started without standard streams: the log's number must not be a file of the store
no_streams() {
  "$O/mnod" --no-bpf --state "$W/state" --socket "$SOCK" <&- >&- 2>&- &
  AGENT=$!
  until_ok ctl -j status && [ "$(readlink /proc/$AGENT/fd/2)" = /dev/null ] && [ "$(readlink /proc/$AGENT/fd/0)" = /dev/null ]
}
ok "starts without standard streams" no_streams
ok "and ends" end_agent TERM

mkdir "$W/disk"
if mount -t tmpfs -o size=8m mno-test "$W/disk" 2>/dev/null; then
  trap 'end_agent; umount "$W/disk"; rm -rf "$W"' EXIT
  dd if=/dev/zero of="$W/disk/fill" bs=64k status=none 2>/dev/null
  ok "a new state on a full disk" refused 6 "free some space" "${N[@]}" --state "$W/disk/state" --socket "$SOCK"
  rm -rf "$W/disk/state" "$W/disk/fill"
  ok "a state is made when there is room" at "$W/disk/state" "$SOCK"
  dd if=/dev/zero of="$W/disk/fill" bs=4k status=none 2>/dev/null
  rm -r "$W/state"
  ln -s "$W/disk/state" "$W/state"
  lost() { { ctl -j status || true; } | jq -e '.store.rows_lost > 0 and (.store.last_error | test("space"))'; }
  "$O/mnod" --no-bpf --state "$W/disk/state" --socket "$SOCK" >>"$W/log" 2>&1 &
  AGENT=$! # status says that it is ill: start_agent would wait for a healthy one
  ok "a known state on a full disk: starts, counts" until_ok lost
  ok "ends cleanly on a full disk" end_agent TERM
  rm "$W/disk/fill"
  ok "and starts again when there is room" start_agent --no-bpf
  kept() { ctl -j query 'node_load1[10m]' | jq -e '.data.result[0].values | length >= 1'; }
  ok "what was stored is still there" kept
  end_agent
  rm "$W/state"
else
  skip "full disk at start" "cannot mount a tmpfs"
fi

# an ordinary user: no BPF, but files; and what is missing is said
mkdir -m 755 "$W/user"
chmod 755 "$W"
chown 65534:65534 "$W/user"
user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if "${user[@]}" "$O/mnod" --version >/dev/null 2>&1; then
  "${user[@]}" "$O/mnod" --state "$W/user/state" --socket "$W/user/sock" >"$W/userlog" 2>&1 &
  AGENT=$!
  SOCK=$W/user/sock
  answers() { { ctl -j status || true; } | jq -e '.store.series > 100'; }
  ok "an ordinary user gets the sources from files" until_ok answers
  why() { { ctl -j status || true; } | jq -e 'any(.degraded[]; .what | test("no BPF program")) and
    any(.degraded[]; .todo | test("CAP_BPF")) and any(.probes[]; .reason | test("CAP_BPF"))'; }
  ok "and is told which rights are missing" why
  once() { { ctl -j status || true; } | jq -e '[.degraded[].what] | length == (unique | length)'; }
  ok "once each" once
  ok "in the log, too" grep -q 'probe proc does not run: .*CAP_BPF' "$W/userlog"
  ok "ends cleanly without rights" end_agent TERM
  SOCK=$W/mno.sock
  ok "default paths are not for them" refused 4 "run it as root" "${user[@]}" \
    "$O/mnod" --for 1s --state /var/lib/mno-of-root --socket "$W/user/sock"
else
  skip "an ordinary user" "may not run the program here"
fi

# places that are not what they should be, in a mount namespace of their own
hidden() { # PREPARE TEXT: the agent runs all the same, and says TEXT
  # shellcheck disable=SC2016
  unshare --mount --propagation private sh -c "$1"'; shift; exec "$@"' sh "$1" \
    timeout 30 "$O/mnod" --state "$W/state" --socket "$SOCK" --for 1s >"$W/said" 2>&1
  local r=$?
  cat "$W/said"
  [ $r = 0 ] && grep -q -- "$2" "$W/said"
}
if unshare --mount --propagation private mount -t bpf bpf /sys/fs/bpf 2>/dev/null; then
  ok "no control groups to be seen" hidden 'mount -t tmpfs none /sys/fs/cgroup' 'told apart by control group'
  ok "bpffs is read-only" hidden 'mount -t bpf bpf /sys/fs/bpf; mount -o remount,ro,bind /sys/fs/bpf' \
    'not pinned: .*Read-only'
  ok "the place of the pins is taken" hidden 'mount -t bpf bpf /sys/fs/bpf
    bpftool map create /sys/fs/bpf/mno type array key 4 value 4 entries 1 name taken' 'not pinned: .*Not a directory'
  ok "bpffs is not mounted: it is" hidden 'while umount /sys/fs/bpf 2>/dev/null; do :; done' 'mounted bpffs'
else
  skip "hidden places" "no mount namespace of its own"
fi

# a program that lies deeper than a path can be walked: cut, and marked so
start_agent >/dev/null
deep=$W/$(printf 'd/%.0s' {1..60})
mkdir -p "$deep"
cp /bin/true "$deep/deeptrue"
"$deep/deeptrue"
cut_path() { ctl -j proc list --since 1m --limit 100000 | jq -e 'any(.[]; .comm == "deeptrue" and (.exe | startswith(".../")) and
  (.exe | endswith("/d/deeptrue")))'; }
if ctl -j status | jq -e '.probes[] | select(.name == "proc") | .state | IN("running", "degraded")' >/dev/null; then
  ok "a path that was cut is marked" until_ok cut_path
else
  skip "a path that was cut" "the probe proc does not run"
fi
ok "ends cleanly" end_agent TERM

# the last commit of all cannot succeed: what that costs is said
if mountpoint -q "$W/disk"; then
  rm -rf "$W/state"
  ln -s "$W/disk/state" "$W/state"
  start_agent
  if ctl -j status | jq -e '.probes[] | select(.name == "proc") | .state | IN("running", "degraded")' >/dev/null; then
    dd if=/dev/zero of="$W/disk/fill" bs=4k status=none 2>/dev/null
    for _ in $(seq 20); do /bin/true; done
    sleep 0.3
    ok "ends on a disk that has become full" end_agent TERM
    ok "and says which processes it could not store" grep -q '[1-9][0-9]* processes that have ended are lost' "$W/log"
  else
    skip "ended processes and a full disk" "the probe proc does not run"
  fi
fi
finish
