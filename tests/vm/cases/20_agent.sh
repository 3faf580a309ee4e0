#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The agent on a kernel that refuses nothing: start, all probes, ledger, identity, stop.
# boots: full
# checks: agent-start probes-running doctor-level ledger-exits ledger-signal cgroup-memory pinned identity clean-stop
# limit: 150
. /payload/lib.sh
need_agent

default_probes='["proc","sched","block","tcp","memory"]'
count=40

not_running() {
  jq -r "($default_probes - [.probes[] | select(.state == \"running\") | .name]) as \$absent |
    [\$absent[] as \$n | \$n + \"=\" +
     (([.probes[] | select(.name == \$n) | .state + \": \" + (.reason // \"\")] | first) // \"absent\")] |
    join(\", \")" /tmp/status.json
}

exits_in_ledger() {
  rows "[.[] | select(any(.argv[]?; startswith(\"vm-ledger-\"))) |
    select(.exit_code == ((.argv[] | select(startswith(\"vm-ledger-\")) | ltrimstr(\"vm-ledger-\") |
      tonumber) % 200))] | length"
}

all_exits_in_ledger() {
  found=$(exits_in_ledger)
  echo "$found of $count with the right exit code" >/tmp/why
  [ "$found" = $count ]
}

signal_in_ledger() {
  [ "$(rows '[.[] | select(any(.argv[]?; . == "vm-signal") and .exit_signal == 9)] | length')" = 1 ]
}

identity() {
  status '.completeness | .seen > 0 and .seen == .stored + .sampled + .dropped' ||
    ! jq -c .completeness /tmp/status.json >/tmp/why
}

memory_metric() {
  mnoctl -j query 'mno_cgroup_memory_current_bytes' >/tmp/why 2>&1 && grep -q '"metric"' /tmp/why
}

agent_start || fail_rest "the agent did not start: $(tail -n 1 /tmp/mnod.log)"
ok agent-start
absent=$(not_running)
check probes-running "$absent" [ -z "$absent" ]
check doctor-level "level is $(jq -r .level /tmp/status.json), not L4" doctor '.level == "L4"'

mkdir /sys/fs/cgroup/vm-work
n=0
while [ $n -lt $count ]; do
  n=$((n + 1))
  process vm-ledger-$n $n
done
sh -c 'kill -KILL $$' vm-signal

await ledger-exits 20 all_exits_in_ledger
check ledger-signal "no row with exit_signal 9" signal_in_ledger
await cgroup-memory 20 memory_metric
check pinned "nothing below /sys/fs/bpf/mno" [ "$(pins)" -gt 0 ]
await identity 20 identity
rmdir /sys/fs/cgroup/vm-work

agent_stop
status=$?
left=$(pins)
if [ "$status" -eq 0 ] && [ "$left" -eq 0 ]; then
  ok clean-stop
else
  bad clean-stop "exit status $status, $left pinned objects left"
fi
