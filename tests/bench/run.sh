#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: run.sh BUILD_DIR [GROUP]: prints figures, never judges them. A benchmark is a program
# BUILD_DIR/bench/NAME or a script tests/bench/NAME.sh; GROUP is one of them and all GROUP_*.
# Without one, all run in turn. BENCH_LOG holds what was printed so far, for tables at the end.
# Exit 1 if one failed to measure; one that cannot run here says why and is no failure.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
O=${1:?usage: run.sh BUILD_DIR [GROUP]} only=${2:-} failed=0 ran=0
# What is no benchmark: this script, the set-up, the writer of the rivals' input. Rivals come last:
# they are held against what was printed before.
names=$({
  for p in "$O"/bench/*; do [ -f "$p" ] && [ -x "$p" ] && basename "$p"; done
  for s in tests/bench/*.sh; do basename "$s" .sh; done
} | grep -vxE 'run|setup|dataset' |
  awk '{ print ($0 ~ /_peers$/) " " $0 }' | sort -u | cut -d' ' -f2)
export BENCH_LOG="$O/bench-log"
: >"$BENCH_LOG"

for name in $names; do
  case $name in "${only:-$name}" | "${only:-$name}"_*) ;; *) continue ;; esac
  ran=$((ran + 1))
  echo "== $name"
  if [ -f "tests/bench/$name.sh" ]; then
    "tests/bench/$name.sh" "$O"
  else
    "$O/bench/$name"
  fi | tee -a "$BENCH_LOG"
  rc=${PIPESTATUS[0]}
  [ "$rc" = 0 ] || [ "$rc" = 77 ] || { echo "$name: exit status $rc" >&2; failed=1; }
done
[ $ran -gt 0 ] || { echo "run.sh: no group '$only'; there are:" $names >&2; exit 2; }
exit $failed
