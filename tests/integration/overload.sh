#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Too much for the agent: what is lost is counted to the last record, and nothing else is lost.
# timeout: 150
. "$(dirname "$0")/lib.bash"
need_root

probe() { { ctl -j status || true; } | jq -e ".probes[] | select(.name == \"$1\") | $2"; }
exact() { probe proc '.in_flight == 0 and .seen == .stored + .sampled + .dropped'; }
# The kernel's own counters, read past the agent, agree with what it says.
kernel_seen() {
  bpftool -j map dump pinned /sys/fs/bpf/mno/proc/stats | jq '[.[] | (.formatted // .).value.seen] | add'
}
kernel_agrees() {
  local before after
  before=$(kernel_seen)
  sleep 2 # the next commit
  ctl -j status >"$W/status"
  after=$(kernel_seen)
  jq -e --argjson a "$before" --argjson b "$after" \
    '.probes[] | select(.name == "proc") | .seen + .in_flight >= $a and .seen <= $b' "$W/status"
}

start_agent || finish
# stopped, it cannot empty its ring, which then overflows
kill -STOP "$AGENT"
"$O/tests/prog/burst" 12000 0 16 >"$W/want"
kill -CONT "$AGENT"
overflowed() { probe proc '.dropped > 1000 and .stored > 1000'; }
ok "a full ring drops and counts" until_ok overflowed
ok "the identity is exact" until_ok exact
if ! grep -q 'not pinned' "$W/log"; then
  ok "the kernel's counters agree" until_ok kernel_agrees
else
  skip "the kernel's counters agree" "another agent owns /sys/fs/bpf/mno"
fi
says() { ctl status | grep 'dropped [1-9]' >/dev/null; }
ok "status says so" says
# no process hangs about as running for ever because its exit was lost
no_ghosts() { ctl -j proc list --since 1m --running --limit 100000 |
  jq -e '[.[] | select(.comm == "burst")] | length == 0'; }
for _ in $(seq 250); do no_ghosts >/dev/null 2>&1 && break; sleep 0.1; done
ok "processes whose end was lost do not stay as running" no_ghosts

dropped=$(probe proc .dropped)
"$O/tests/prog/burst" 2000 0 16 >"$W/want"
recovered() { probe proc ".dropped == $dropped and .in_flight == 0"; }
ok "afterwards nothing is lost" until_ok recovered

# signals have a budget: a flood is sampled, and told
"$O/tests/prog/signals" 200000
sampled() { probe proc '.sampled > 0 and .in_flight == 0 and .seen == .stored + .sampled + .dropped'; }
ok "a flood of signals is sampled within its budget" until_ok sampled
ok "ends cleanly" end_agent TERM
unexplained() { ! grep 'unexplained' "$W/log"; }
ok "nothing is unexplained" unexplained
finish
