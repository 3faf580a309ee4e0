#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The enforcing programs where tasks preempt each other anywhere in the kernel, where LSM programs
# are attached and never called, and where reads of kernel memory are refused. In the boot "full"
# they run with the other programs of tests/bpf.
# boots: preempt-full no-bpf-lsm confidentiality
# checks: enforce enforce-mode
# limit: 130
. /payload/lib.sh

[ -x /payload/bpf/test_enforce ] || skip_rest "test_enforce was not built: make tests"
timeout -s KILL 110 /payload/bpf/test_enforce >/tmp/enforce.log 2>&1
status=$?
cat /tmp/enforce.log
check enforce "status $status: $(grep -m 1 -E 'FAILED|rror:' /tmp/enforce.log)" [ $status = 0 ]

# What makes this boot another one is really so.
case $VM_BOOT in
preempt-full)
  mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
  mode=$(cat /sys/kernel/debug/sched/preempt)
  case $mode in
  *'(full)'*) ok enforce-mode ;;
  *) bad enforce-mode "preemption is $mode" ;;
  esac
  ;;
no-bpf-lsm)
  check enforce-mode "no word of lsm= in the reason" grep -q 'level L0: .*never called' /tmp/enforce.log
  ;;
*) check enforce-mode "not L4" grep -q 'level L4' /tmp/enforce.log ;;
esac
