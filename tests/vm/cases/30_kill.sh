#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The agent is killed: the next one starts on its state and its pins, and what was committed stays.
# boots: full
# checks: kill-restart kill-keeps-rows kill-probes kill-clean-stop
# limit: 150
. /payload/lib.sh
need_agent
export STATE=/tmp/kill-state

seen_row() { [ "$(rows "[.[] | select(any(.argv[]?; . == \"$1\"))] | length")" = 1 ]; }

agent_start || fail_rest "the first agent did not start"
running=$(jq '[.probes[] | select(.state == "running")] | length' /tmp/status.json)
process vm-before-kill 3
wait_for 8 seen_row vm-before-kill || echo "the row was never visible before the kill"
# One commit a second: after two the row is stored.
sleep 2
agent_kill
agent_start || fail_rest "no start after SIGKILL: $(tail -n 1 /tmp/mnod.log)"
ok kill-restart
check kill-keeps-rows "the committed row is gone" seen_row vm-before-kill
again=$(jq '[.probes[] | select(.state == "running")] | length' /tmp/status.json)
process vm-after-kill 4
wait_for 8 seen_row vm-after-kill
if [ "$again" = "$running" ] && seen_row vm-after-kill; then
  ok kill-probes
else
  bad kill-probes "$again probes run instead of $running, or the new row is missing"
fi
agent_stop
status=$?
left=$(pins)
if [ "$status" -eq 0 ] && [ "$left" -eq 0 ]; then
  ok kill-clean-stop
else
  bad kill-clean-stop "exit status $status, $left pinned objects left"
fi
