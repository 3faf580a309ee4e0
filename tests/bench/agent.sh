#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: agent.sh [BUILD_DIR]: what the running agent costs. Needs root. Prints lines
#   bench NAME VALUE UNIT [note]
# Knobs (environment): BENCH_SECONDS of watching the idle agent (60), BENCH_PAIRS of runs with the
# agent off and on (15), BENCH_SERIES to reach by making empty cgroups (2000).
# Added cost is the median over pairs of runs, off and on by turns, so that a load from elsewhere
# hits both alike; beside it stands what the kernel itself counts for the agent's programs.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
O=${1:-build}
SECONDS_IDLE=${BENCH_SECONDS:-60} PAIRS=${BENCH_PAIRS:-15} SERIES=${BENCH_SERIES:-2000}
[ "$(id -u)" = 0 ] || { echo "skipped: needs root for BPF"; exit 77; }
[ -x "$O/mnod" ] && [ -x "$O/tests/prog/work" ] || { echo "agent.sh: make bench-bins all first" >&2; exit 2; }
O=$(realpath "$O")
W=$(mktemp -d "$O/bench-agent.XXXXXX") agent='' made=() stats_was=''
work=$O/tests/prog/work
CG=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
HZ=$(getconf CLK_TCK)

cleanup() {
  stop_agent
  [ -z "$stats_was" ] || echo "$stats_was" >/proc/sys/kernel/bpf_stats_enabled
  for dir in "${made[@]}"; do rmdir "$dir"; done
  rm -rf "$W"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

now_us() { echo "${EPOCHREALTIME/[.,]/}"; }
median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'; }
quartiles() { sort -g | awk '{ v[NR] = $1 } END { printf "%.2f..%.2f", v[int((NR + 3) / 4)], v[int((3 * NR + 3) / 4)] }'; }
status() { "$O/mnoctl" -s "$W/sock" -j status | jq -r "$1"; }

# Sets $agent and $started_us: from exec until the first sample was stored.
start_agent() {
  local line begin
  rm -rf "$W/state" "$W/log"
  mkfifo "$W/log"
  begin=$(now_us)
  "$O/mnod" --state "$W/state" --socket "$W/sock" >"$W/log" 2>&1 &
  agent=$!
  exec 3<"$W/log"
  while IFS= read -r -t 10 line <&3; do
    case $line in *'first sample stored'*) break ;; esac
  done
  started_us=$(($(now_us) - begin))
  cat <&3 >"$W/messages" &
  exec 3<&-
  rm -f "$W/log"
}
stop_agent() {
  [ -n "$agent" ] || return 0
  kill "$agent" 2>/dev/null
  wait "$agent" 2>/dev/null
  agent=''
}

cpu_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$agent/stat"; }
# run_time_ns and run_cnt of all programs that the agent holds
bpf_runs() {
  cat "/proc/$agent"/fdinfo/* 2>/dev/null | awk '/^run_time_ns:/ { t += $2 } /^run_cnt:/ { n += $2 } END { printf "%d %d\n", t, n }'
}
bpf_timing() {
  [ -n "$stats_was" ] || stats_was=$(cat /proc/sys/kernel/bpf_stats_enabled)
  echo "$1" >/proc/sys/kernel/bpf_stats_enabled
}

# --- time to the first sample ------------------------------------------------------------------
for _ in 1 2 3 4 5; do
  start_agent
  echo "$started_us"
  stop_agent
done >"$W/starts"
echo "bench start $(median <"$W/starts" | awk '{ printf "%.0f", $1 / 1000 }') ms exec until the first sample is stored, median of 5"

# --- added cost ----------------------------------------------------------------------------------
# "name count": a run of some 50 ms
set -- "syscall 500000" "spawn 60" "tcp 2000"
for ((pair = 0; pair < PAIRS; pair++)); do
  for turn in $((pair % 2)) $((1 - pair % 2)); do
    if [ "$turn" = 1 ]; then
      start_agent
      sleep 1.2 # its first ticks are over
    fi
    for what; do
      # the better of three: what the machine does besides only ever adds
      for _ in 1 2 3; do $work $what; done | sort -g | head -n 1 >>"$W/${what% *}.$turn"
    done
    [ "$turn" = 0 ] || stop_agent
  done
done
for what; do
  name=${what% *}
  paste "$W/$name.0" "$W/$name.1" | awk '{ print $2 - $1 }' >"$W/$name.added"
  off=$(median <"$W/$name.0") added=$(median <"$W/$name.added")
  awk -v n="$name" -v off="$off" -v a="$added" -v q="$(quartiles <"$W/$name.added")" 'BEGIN {
    printf "bench %s-added %.1f ns of %.0f ns without the agent: %.2f %% (quartiles %s ns)\n", n, a, off, 100 * a / off, q }'
done

# --- the same, as the kernel counts it: exact, but for the two clock readings per run, which are
# taken off by what an empty run measures (about 30 ns here) -------------------------------------
start_agent
sleep 1.2
bpf_timing 1
for what; do
  read -r t0 n0 < <(bpf_runs)
  ns=$($work $what)
  read -r t1 n1 < <(bpf_runs)
  awk -v n="${what% *}" -v c="${what#* }" -v t=$((t1 - t0)) -v r=$((n1 - n0)) -v ns="$ns" 'BEGIN {
    printf "bench %s-bpf %.1f ns in %.2f program runs an operation of %.0f ns\n", n, t / c, r / c, ns }'
done
bpf_timing "$stats_was"
stop_agent

# --- an idle host --------------------------------------------------------------------------------
start_agent
sleep 3
have=$(status .store.series)
if [ -n "$CG" ]; then
  while [ "$have" -lt "$SERIES" ] && [ ${#made[@]} -lt 1000 ]; do
    for _ in {1..50}; do
      dir=$CG/mno-bench-$$-${#made[@]}
      mkdir "$dir" 2>/dev/null && made+=("$dir") || break 2
    done
    sleep 2
    have=$(status .store.series)
  done
fi
samples0=$(status .store.samples) ticks0=$(cpu_ticks) t0=$(now_us)
bpf_timing 1
read -r bpf0 _ < <(bpf_runs)
sleep "$SECONDS_IDLE"
read -r bpf1 _ < <(bpf_runs)
bpf_timing "$stats_was"
ticks1=$(cpu_ticks) t1=$(now_us) samples1=$(status .store.samples)
awk -v ticks=$((ticks1 - ticks0)) -v hz="$HZ" -v us=$((t1 - t0)) -v bpf=$((bpf1 - bpf0)) -v s=$((samples1 - samples0)) 'BEGIN {
  p = 1e8 * ticks / hz / us; b = bpf / 10 / us
  printf "bench agent-cpu %.2f %% of a core: process %.2f, programs %.2f; %.0f samples a second\n", p + b, p, b, 1e6 * s / us }'
rss=$(status .memory.rss_bytes) bpf=$(status .memory.bpf_bytes)
awk -v r="$rss" -v b="$bpf" -v s="$(status .store.series)" 'BEGIN {
  printf "bench agent-memory %.1f MiB: process %.1f, BPF %.1f; %d series\n", (r + b) / 1048576, r / 1048576, b / 1048576, s }'
stop_agent
