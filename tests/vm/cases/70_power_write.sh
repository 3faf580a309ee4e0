#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes to the disk until the power goes: the agent's state, a log that is synced line by line
# and one that never is. The host cuts the power at the last line on the console.
# boots: power-write
# checks:
# limit: 45
. /payload/lib.sh
export STATE=/mnt/mno

mount -t ext4 /dev/vda /mnt || exit 1
if command -v mnod >/dev/null; then
  agent_start || echo "agent did not start" >/dev/console
fi
n=0
while [ $n -lt 30 ]; do
  n=$((n + 1))
  process vm-tick-$n 5
  echo "$n $(cut -d ' ' -f 1 /proc/uptime)" |
    dd of=/mnt/synced oflag=append conv=notrunc,fsync 2>/dev/null
  cat /mnt/synced >/mnt/unsynced
  usleep 200000
done
echo "VM-POWER-CUT" >/dev/console
sleep 30
