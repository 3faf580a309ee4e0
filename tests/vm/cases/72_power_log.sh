#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The same run, as a disk with a volatile cache would hold it after a cut at other moments: each
# disk has all that was flushed and nothing, or a random part, of the rest (logreplay.c). This
# finds flushes that are missing. VM_ACKED names the last acknowledged line of each.
# boots: power-log
# checks: cut-1 cut-2 cut-3 cut-4 cut-unsynced-lost
# limit: 180
. /payload/lib.sh
. /payload/power.sh
export STATE=/mnt/mno
survived=0

# examine DEVICE ACKED: sets wrong to what does not hold, if anything.
examine() {
  wrong=
  mount -t ext4 "/dev/$1" /mnt || { wrong="does not mount"; return; }
  : >>/mnt/synced # there is none before the first line
  synced=$(lines /mnt/synced)
  [ "$synced" -ge "$2" ] || wrong="$synced synced lines, $2 were acknowledged"
  [ "$2" -eq 0 ] || [ "$(lines /mnt/unsynced)" -lt "$2" ] || survived=$((survived + 1))
  if [ -z "$wrong" ] && command -v mnod >/dev/null; then
    # Without BPF it starts in a tenth of the time, and only what is stored is of interest here.
    if ! power_read "$2" --no-bpf; then
      wrong="the store does not open: $(tail -n 1 /tmp/mnod.log)"
    elif ! recent_enough; then
      wrong="last row is tick $last, $lost s before line $2"
    elif [ "$last" -gt 0 ] && [ "$first $count" != "1 $last" ]; then
      wrong="$count rows for ticks $first to $last"
    fi
    agent_stop || wrong="$wrong; no clean stop"
  fi
  umount /mnt
}

n=0
devices='vda vdb vdc vdd'
for mark in $VM_ACKED; do
  n=$((n + 1))
  # shellcheck disable=SC2086 # words
  examine "$(echo $devices | cut -d ' ' -f $n)" "$mark"
  check cut-$n "$wrong" [ -z "$wrong" ]
done
check cut-unsynced-lost "in $survived cuts nothing was lost" [ $survived -eq 0 ]
