#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# After the power cut of 70_power_write.sh: what was committed is there, and the store opens.
# boots: power-check
# checks: power-synced-found power-unsynced-lost store-opens store-last-commit store-no-gap store-continues
# limit: 45
. /payload/lib.sh
export STATE=/mnt/mno
ticks=30

tick_rows() {
  rows '[.[].argv[]? | select(startswith("vm-tick-")) | ltrimstr("vm-tick-") | tonumber] | unique'
}
new_row() { [ "$(rows '[.[] | select(any(.argv[]?; . == "vm-after-cut"))] | length')" = 1 ]; }

mount -t ext4 /dev/vda /mnt || fail_rest "the disk does not mount"
synced=$(wc -l </mnt/synced)
check power-synced-found "$synced of $ticks lines" [ "$synced" = $ticks ]
# Proves that the cut took something away, so that the other checks mean something.
unsynced=$(wc -l </mnt/unsynced 2>/dev/null || echo 0)
check power-unsynced-lost "all $unsynced lines survived: not a power cut" [ "$unsynced" -lt $ticks ]

need_agent
agent_start || fail_rest "no start: $(tail -n 1 /tmp/mnod.log)"
ok store-opens
tick_rows >/tmp/ticks
last=$(jq 'max // 0' /tmp/ticks)
count=$(jq length /tmp/ticks)
first=$(jq 'min // 0' /tmp/ticks)
# At most two seconds before the cut may be lost (one commit a second), by the guest's clock.
lost=$(awk -v last="$last" '$1 == last { at = $2 } { end = $2 } END { printf "%.1f", end - at }' /mnt/synced)
echo "ticks $first..$last of $ticks, $count rows, $lost s lost"
check store-last-commit "last row is tick $last of $ticks, $lost s before the cut" \
  awk -v lost="$lost" -v last="$last" 'BEGIN { exit !(last > 0 && lost <= 2.5) }'
check store-no-gap "$count rows for ticks $first to $last" [ "$first $count" = "1 $last" ]
process vm-after-cut 6
wait_for 8 new_row
check store-continues "a new row is not stored" new_row
agent_stop
