#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fills a store, whose documents are of an older form and migrate, with power_load.c on each of
# three disks whose writes the host logs: as it should be, with a writer that never syncs, and on a
# file system that never flushes the disk's cache.
# What is left of each at 1,000 cuts the host looks at (run.sh).
# boots: power-store
# checks: writes writes-without-sync writes-without-flush
# limit: 90
. /payload/lib.sh
load=/payload/power_load
[ -x $load ] || skip_rest "power_load was not built"

# fill NAME DEVICE MOUNT-OPTIONS STEPS [nosync]
fill() {
  name=$1 device=/dev/$2 options=$3 steps=$4
  shift 4
  mount -t ext4 -o "$options" "$device" /mnt &&
    $load write /mnt/state "$device" "$VM_MARK" "$steps" "$@" 2>/tmp/why
  check "$name" "$(tail -n 1 /tmp/why)" [ $? = 0 ]
  umount /mnt
}

fill writes vda rw 40
fill writes-without-sync vdb rw 12 nosync
fill writes-without-flush vdc barrier=0 12
