#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What holds on a disk that 70_power_write.sh wrote and the power was cut from; sourced by cases.

new_row() { [ "$(rows '[.[] | select(any(.argv[]?; . == "vm-after-cut"))] | length')" -ge 1 ]; }

lines() {
  if [ -f "$1" ]; then grep -c . "$1"; else echo 0; fi
}

# power_read ACKED [OPTION...]: starts the agent on /mnt/mno and sets first, last, count (of the ticks that its
# ledger shows) and lost (seconds between the last one and line ACKED of the synced file).
power_read() {
  acked=$1
  shift
  agent_start "$@" || return 1
  rows '[.[].argv[]? | select(startswith("vm-tick-")) | ltrimstr("vm-tick-") | tonumber] | unique |
    "\(min // 0) \(max // 0) \(length)"' >/tmp/ticks
  read -r first last count </tmp/ticks
  lost=$(awk -v last="$last" -v acked="$acked" 'NR == 1 || $1 == last { at = $2 } $1 == acked { end = $2 }
    END { late = end - at; if (late < 0) late = 0; printf "%.1f", late }' /mnt/synced)
  echo "ticks $first..$last, $count rows, acknowledged $acked, $lost s lost"
}

# One commit a second: at most two seconds before the cut may be missing, by the guest's clock. The
# half second more is the time a short process takes here.
recent_enough() { awk -v lost="${lost:-99}" 'BEGIN { exit !(lost <= 2.5) }'; }
