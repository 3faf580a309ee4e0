#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The kernel's own behaviour, without the agent: what the enforcement level is judged by.
# boots: full no-bpf-lsm confidentiality
# checks: lsm-program
# limit: 30
. /payload/lib.sh

out=$(/payload/lsm_smoke /sys/fs/cgroup)
status=$?
expect=0
# The trap: without bpf in lsm= the program loads and attaches without error and never runs.
[ "$VM_BOOT" = no-bpf-lsm ] && expect=4
if [ $status -eq $expect ]; then
  ok lsm-program "$out"
else
  bad lsm-program "status $status instead of $expect: $out"
fi
