#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The programs of tests/bpf on this kernel, where nothing is refused. run.sh makes a case of this
# file: the checks are the programs that were built.
# boots: full
# checks: bpf-tests
# limit: 320
. /payload/lib.sh

[ -d /payload/bpf ] || skip_rest "no program of tests/bpf was built: make tests"
# A file system on a disk: some tests look for their own reads and writes there.
mount -t ext4 /dev/vda /mnt || fail_rest "the scratch disk does not mount"
cd /mnt || exit 1
for name in $(checks_left); do
  timeout -s KILL 100 "/payload/bpf/$name" >/tmp/bpf.log 2>&1
  status=$?
  cat /tmp/bpf.log
  case $status in
  0) ok "$name" ;;
  77) skip "$name" "$(tail -n 1 /tmp/bpf.log)" ;;
  *) bad "$name" "status $status: $(grep -m 1 -E 'FAILED|error|rror:' /tmp/bpf.log)" ;;
  esac
done
cd / && umount -l /mnt
