#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# QEMU was killed under 70_power_write.sh: the guest's page cache is gone, what it had handed to
# the disk is not.
# boots: power-check
# checks: power-synced-found power-unsynced-lost store-opens store-last-commit store-no-gap store-continues
# limit: 100
. /payload/lib.sh
. /payload/power.sh
export STATE=/mnt/mno

mount -t ext4 /dev/vda /mnt || fail_rest "the disk does not mount"
synced=$(lines /mnt/synced)
check power-synced-found "$synced of 24 lines" [ "$synced" = 24 ]
# Proves that the cut took something away, so that the other checks mean something.
unsynced=$(lines /mnt/unsynced)
check power-unsynced-lost "all $unsynced lines survived: not a power cut" [ "$unsynced" -lt 24 ]

need_agent
power_read 24 || fail_rest "no start: $(tail -n 1 /tmp/mnod.log)"
ok store-opens
check store-last-commit "last row is tick $last of 24, $lost s before the cut" recent_enough
check store-no-gap "$count rows for ticks $first to $last" [ "$first $count" = "1 $last" ]
process vm-after-cut 6
wait_for 8 new_row
check store-continues "a new row is not stored" new_row
agent_stop
