#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The running agent keeps two capabilities in every thread, and can still load a probe with them.
# timeout: 90
. "$(dirname "$0")/lib.bash"
need_root
own_bpffs "$@"
KEPT=000000c000000000 # CAP_PERFMON, CAP_BPF
ADMIN=0000000000200000

field() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }
threads_dropped() {
  local t n=0
  for t in "/proc/$AGENT/task"/*; do
    n=$((n + 1))
    for set in CapEff CapPrm; do
      [ "$(sed -n "s/^$set:[[:space:]]*//p" "$t/status")" = $KEPT ] || { cat "$t/comm"; return 1; }
    done
    for set in CapBnd CapInh CapAmb; do
      [ "$(sed -n "s/^$set:[[:space:]]*//p" "$t/status")" = 0000000000000000 ] || { cat "$t/comm"; return 1; }
    done
    grep -q '^NoNewPrivs:[[:space:]]*1$' "$t/status" || { cat "$t/comm"; return 1; }
  done
  echo "$n threads"
  [ $n -gt 3 ]
}
broker() { cat "/proc/$AGENT/task/$AGENT/children"; }
broker_has_one() {
  local b
  b=$(broker)
  b=${b%% *}
  [ "$(cat "/proc/$b/comm")" = mnod-stats ] && [ "$(field "$b" CapEff)" = $ADMIN ] &&
    [ "$(field "$b" CapPrm)" = $ADMIN ] && [ "$(field "$b" NoNewPrivs)" = 1 ]
}
probe() { ctl -j status | jq -e --arg p "$1" --arg s "$2" 'any(.probes[]; .name == $p and .state == $s)'; }
priced() { ctl -j status | jq -e 'any(.probes[]; .cost_ns_per_event > 0)'; }
level() { ctl -j doctor | jq -e '.level | test("^L[0-4]$")'; }

no_core() { grep -E '^Max core file size +0 +0 ' "/proc/$AGENT/limits"; }
undumpable() { [ "$(stat -c %u "/proc/$AGENT/maps")" = 0 ]; } # root's, whoever the process runs as

ok "starts" start_agent
ok "dumps no core" no_core
ok "doctor is done" level
ok "every thread has dropped" until_ok threads_dropped
ok "the broker has CAP_SYS_ADMIN only" broker_has_one
ok "a probe loads on demand" ctl probes enable syscall --for 20s
ok "and runs" until_ok probe syscall running
ok "the price of probes is known" until_ok priced
no_pins() { [ -z "$(find /sys/fs/bpf/mno -type f 2>/dev/null)" ]; }
children=$(broker)
pinned() { [ -e "/sys/fs/bpf/mno/$1/stats" ]; }
ok "it is pinned" pinned syscall
ok "ends cleanly" end_agent TERM
ok "no pin is left" no_pins
gone() { ! kill -0 "${children%% *}" 2>/dev/null; }
ok "the broker went with it" until_ok gone
: >"$W/log"
ok "starts as another user" start_agent --user nobody
is_nobody() { [ "$(field "$AGENT" Uid | cut -f1)" = "$(id -u nobody)" ]; }
ok "is that user" is_nobody
ok "with the same rights" until_ok threads_dropped
ok "dumps no core, too" no_core
ok "and that user's other programs cannot look into it" until_ok undumpable
ok "and loads a probe on demand" ctl probes enable syscall --for 20s
ok "which is pinned, too" pinned syscall
ok "ends cleanly, too" end_agent TERM
ok "and no pin is left" no_pins
finish
