#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# selftest.sh KERNEL_DIR: does the lane notice what it must notice? Prints `ok|FAIL CHECK [reason]`.
# A guest that hangs, panics, ends early or says nothing must never look like a pass, and QEMU
# must be gone whatever happens to the script that started it.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernel=$1
mark=vm.selftest=$$
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT

boot() { "$here/boot.sh" -o "$work/out" -a "$mark" "$@" 2>"$work/err"; }

check() {
  local name=$1 reason=$2
  shift 2
  if "$@"; then echo "ok $name"; else echo "FAIL $name $reason"; fi
}

qemu_left() {
  local file
  for file in /proc/[0-9]*/cmdline; do
    { tr '\0' ' ' <"$file"; } 2>/dev/null | grep -q "^qemu.*$mark" && return 0
  done
  return 1
}
no_qemu() {
  local i
  for i in 1 2 3 4 5 6 7 8 9 10; do
    qemu_left || return 0
    sleep 0.1
  done
  return 1
}

test_status() {
  local status
  [ "$(boot -t 30 "$kernel" 'echo hello; echo x >/out/file; exit 7')" = hello ]
  status=$?
  check exit-status "output or /out lost" [ "$status $(cat "$work/out/rc" "$work/out/file" 2>/dev/null | tr '\n' ' ')" = "0 7 x " ]
}

test_limit() {
  local status
  boot -t 4 "$kernel" 'sleep 100' >/dev/null
  status=$?
  check hard-limit "status $status instead of 124" [ $status = 124 ]
  check hard-limit-kills "QEMU still runs" no_qemu
}

test_killed() {
  local pid i child
  boot -t 30 "$kernel" 'sleep 100' >/dev/null &
  pid=$!
  for ((i = 0; i < 6000; i++)); do # guests of others go first
    qemu_left && break
    sleep 0.1
  done
  # The function runs in a child shell; the script is that shell's child.
  read -r child _ <"/proc/$pid/task/$pid/children"
  check script-started "QEMU never ran" qemu_left
  kill -KILL "$pid" "$child"
  wait "$pid" 2>/dev/null
  check script-killed "QEMU outlived the script" no_qemu
}

# Cases that do everything wrong, run by the lane itself.
test_lane() {
  local cases=$work/cases out
  mkdir "$cases"
  printf '# boots: full\n# checks: silent\n# limit: 5\nexit 0\n' >"$cases/1.sh"
  printf '# boots: full\n# checks: twice\n# limit: 5\n. /payload/lib.sh\nok twice\nok twice\n' >"$cases/2.sh"
  printf '# boots: full\n# checks: stuck\n# limit: 1\n. /payload/lib.sh\nsleep 9\nok stuck\n' >"$cases/3.sh"
  printf '# boots: full\n# checks: fine\n# limit: 5\n. /payload/lib.sh\nok fine\n' >"$cases/4.sh"
  printf '# boots: full\n# checks: panic\n# limit: 5\necho c >/proc/sysrq-trigger\n' >"$cases/5.sh"
  printf '# boots: full\n# checks: after\n# limit: 5\n. /payload/lib.sh\nok after\n' >"$cases/6.sh"
  out=$(MNO_VM_CASES=$cases MNO_VM_LOGS=$work/log "$here/run.sh" -k "$(basename "$kernel")" -b full 2>/dev/null |
    cut -d ' ' -f 1-3 | sort | tr '\n' ';')
  check lane-notices "got $out" [ "$out" = "$(printf '%s;' '2 passed, 6' "FAIL $(basename "$kernel") full/after" \
    "FAIL $(basename "$kernel") full/kernel-log" "FAIL $(basename "$kernel") full/panic" \
    "FAIL $(basename "$kernel") full/silent" "FAIL $(basename "$kernel") full/stuck" \
    "FAIL $(basename "$kernel") full/twice" "ok $(basename "$kernel") full/fine" \
    "ok $(basename "$kernel") full/twice")" ]
}

test_status
test_limit
test_killed
test_lane
