#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Does this kernel's verifier take every probe's BPF object? Says so without the agent, whose
# ladder would step down. run.sh makes a case of this file: the checks are the objects.
# boots: full
# checks: objects
# limit: 90
. /payload/lib.sh

[ -d /payload/objects ] || skip_rest "no BPF object, or no bpftool on the host"
for name in $(checks_left); do
  if bpftool prog loadall "/payload/objects/${name#object-}.bpf.o" "/sys/fs/bpf/$name" >/tmp/object.log 2>&1; then
    ok "$name"
  else
    tail -n 40 /tmp/object.log
    bad "$name" "$(grep -m 1 'failed to load' /tmp/object.log): $(grep -B 1 '^processed' /tmp/object.log | head -n 1)"
  fi
  rm -rf "/sys/fs/bpf/$name"
done
