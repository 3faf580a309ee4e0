#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The installed unit under systemd as process 1: start, readiness, rights, restart, stop.
# boots: systemd
# checks: system-up unit-starts unit-ready unit-rights unit-no-new-privs unit-socket unit-probes unit-pinned unit-watchdog unit-restarts unit-stops
# limit: 180
. /payload/lib.sh
unset MNO_SOCKET

property() { systemctl show -p "$1" --value mnod.service; }
main_pid() { property MainPID; }
of_process() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$(main_pid)/status"; }
is_active() { [ "$(systemctl is-active mnod.service)" = active ]; }

# Neither the set in use nor the one that could be raised again holds a capability with which a
# taken-over agent could become anything it likes: DAC_OVERRIDE SETUID SYS_MODULE SYS_RAWIO
# SYS_ADMIN SYS_BOOT MKNOD SETFCAP MAC_ADMIN.
rights_dropped() {
  for set in CapEff CapPrm; do
    caps=$((0x$(of_process $set)))
    for bit in 1 7 16 17 21 22 27 31 33; do
      [ $((caps >> bit & 1)) = 0 ] || return 1
    done
  done
}

restarted() {
  [ "$(main_pid)" != "$killed" ] && [ "$(main_pid)" != 0 ] && is_active && status_answers
}

failed=$(systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1)
check system-up "failed units: $failed" [ -z "$failed" ]
[ ! -s /payload/skip-reason ] || skip_rest "$(cat /payload/skip-reason)"

# With Type=notify this returns when the agent has said that it is ready, or not at all.
systemctl start mnod.service || {
  systemctl status --no-pager --lines=20 mnod.service
  fail_rest "the unit did not start: $(journalctl -u mnod --no-pager -n 1 -o cat)"
}
check unit-starts "$(systemctl is-active mnod.service)" is_active
check unit-ready "Type=$(property Type)" [ "$(property Type)" = notify ]
systemctl show -p ActiveEnterTimestampMonotonic -p InactiveExitTimestampMonotonic mnod.service
grep -E '^(Uid|Cap|NoNewPrivs|Seccomp)' "/proc/$(main_pid)/status"
wait_for 5 rights_dropped
check unit-rights "CapEff $(of_process CapEff) CapPrm $(of_process CapPrm)" rights_dropped
check unit-no-new-privs "NoNewPrivs $(of_process NoNewPrivs)" [ "$(of_process NoNewPrivs)" = 1 ]
wait_for 10 status_answers
check unit-socket "$(cat /tmp/status.err)" status_answers
check unit-probes "$(jq -c '[.probes[] | {name, state, reason}]' /tmp/status.json)" \
  status '[.probes[] | select(.state == "running")] | length >= 5'
check unit-pinned "nothing below /sys/fs/bpf/mno: $(journalctl -u mnod --no-pager -o cat | grep pinned)" \
  [ "$(pins)" -gt 0 ]
check unit-watchdog "no watchdog set" [ "$(property WatchdogUSec)" != 0 ]
killed=$(main_pid)
kill -KILL "$killed"
wait_for 25 restarted
check unit-restarts "$(property ActiveState), $(property NRestarts) restarts" restarted
systemctl stop mnod.service
if [ "$(property Result)" = success ] && [ "$(pins)" -eq 0 ]; then
  ok unit-stops
else
  bad unit-stops "result $(property Result), $(pins) pinned objects left"
fi
journalctl -u mnod --no-pager -o cat | tail -n 20
