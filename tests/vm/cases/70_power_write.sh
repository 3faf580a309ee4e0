#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes to the disk until the power goes: the agent's state, a file that is synced line by line
# and one that never is. The host cuts the power at the last line on the console, and knows from
# VM_MARK, a sector behind the file system, how far the synced file had come at any time.
# boots: power-write
# checks:
# limit: 100
. /payload/lib.sh
export STATE=/mnt/mno

mount -t ext4 /dev/vda /mnt || exit 1
if command -v mnod >/dev/null; then
  agent_start || echo "agent did not start" >/dev/console
fi
n=0
while [ $n -lt 24 ]; do
  n=$((n + 1))
  process vm-tick-$n 5
  echo "$n $(cut -d ' ' -f 1 /proc/uptime)" |
    dd of=/mnt/synced oflag=append conv=notrunc,fsync 2>/dev/null
  echo $n | dd of=/dev/vda oflag=direct bs=512 seek="$VM_MARK" conv=sync,notrunc 2>/dev/null ||
    echo "VM-NO-MARK" >/dev/console
  echo $n >>/mnt/unsynced
  usleep 200000
done
echo "VM-POWER-CUT" >/dev/console
sleep 30
