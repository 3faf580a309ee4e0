#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: getppid.sh [BUILD_DIR]: what a system call costs more under the syscall probe, and under
# strace -c and bpftrace doing the same work. Needs root. Turns of all, the median of each.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
O=$(realpath "${1:-build}")
[ "$(id -u)" = 0 ] || { echo "skipped: needs root for BPF"; exit 77; }
if [ "${MNO_BENCH_NS:-}" != 1 ]; then # bpftrace looks for its events in a mounted tracefs
  MNO_BENCH_NS=1 exec unshare -m --propagation private "$0" "$O"
fi
mount -t tracefs none /sys/kernel/tracing 2>/dev/null
mount -t tracefs none /sys/kernel/debug/tracing 2>/dev/null ||
  { mount -t debugfs none /sys/kernel/debug 2>/dev/null; }
W=$(mktemp -d) work=$O/tests/prog/work agent='' TURNS=${BENCH_TURNS:-3}
trap '[ -z "$agent" ] || { kill $agent; wait $agent; } 2>/dev/null; rm -rf "$W"' EXIT
PROG='tracepoint:raw_syscalls:sys_enter { @s[tid] = nsecs; }
tracepoint:raw_syscalls:sys_exit /@s[tid]/ { @[args->id] = hist(nsecs - @s[tid]); delete(@s[tid]); }
BEGIN { printf("ready\n"); }'

"$O/mnod" --state "$W/state" --socket "$W/sock" >"$W/log" 2>&1 &
agent=$!
for _ in $(seq 100); do
  "$O/mnoctl" -s "$W/sock" -j status >/dev/null 2>&1 && break
  sleep 0.1
done
# wall time of one call in ns: strace's own work is in its process, so CPU time would hide it
run() { # NAME COUNT COMMAND...
  local name=$1 n=$2 t0=${EPOCHREALTIME/[.,]/}
  shift 2
  "$@" "$work" syscall "$n" >/dev/null
  awk -v n="$n" -v us=$((${EPOCHREALTIME/[.,]/} - t0)) 'BEGIN { print us * 1000 / n }' >>"$W/$name"
}
for _ in $(seq "$TURNS"); do
  run bare 2000000
  "$O/mnoctl" -s "$W/sock" probes enable syscall --for 60s >/dev/null || exit 1
  run mno 1000000
  "$O/mnoctl" -s "$W/sock" probes disable syscall >/dev/null
  if command -v strace >/dev/null; then run strace 30000 strace -c -o /dev/null; fi
  if command -v bpftrace >/dev/null; then
    timeout 30 bpftrace -e "$PROG" >"$W/bt" 2>&1 &
    for _ in $(seq 100); do
      grep -q ready "$W/bt" && break
      sleep 0.1
    done
    if grep -q ready "$W/bt"; then run bpftrace 500000; fi
    kill %% 2>/dev/null
    wait %% 2>/dev/null
  fi
done
median() { sort -g "$W/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
bare=$(median bare)
mno=$(median mno)
for peer in strace bpftrace; do
  if [ -s "$W/$peer" ]; then
    awk -v b="$bare" -v m="$mno" -v p="$(median $peer)" -v who=$peer 'BEGIN {
      printf "bench getppid-slowdown %.2f x ratio %.1f peer %s (added %.0f ns, %s %.0f ns)\n",
        m / b, (p - b) / (m - b), who, m - b, who, p - b }'
  else
    echo "skipped: $peer is not installed or does not run here"
  fi
done
