#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /sys/fs/bpf is not mounted: the agent runs all the same, and mounts it or says so.
# boots: full
# checks: no-bpffs-start no-bpffs-named
# limit: 90
. /payload/lib.sh
need_agent
export STATE=/tmp/no-bpffs-state

mounted_or_named() {
  grep -q ' /sys/fs/bpf bpf ' /proc/mounts || doctor 'any(.findings[]; .what | test("/sys/fs/bpf"))'
}

umount /sys/fs/bpf
agent_start || fail_rest "the agent did not start: $(tail -n 1 /tmp/mnod.log)"
ok no-bpffs-start
check no-bpffs-named "neither mounted nor named by doctor" mounted_or_named
agent_stop
