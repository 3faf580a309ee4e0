#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: run.sh BUILD_DIR [GROUP]: prints figures, never judges them. A group is a program
# BUILD_DIR/bench/GROUP or a script tests/bench/GROUP.sh; without one, all run in turn.
# Exit 1 if one failed to measure; one that cannot run here says why and is no failure.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
O=${1:?usage: run.sh BUILD_DIR [GROUP]} only=${2:-} failed=0 ran=0
groups=$({
  for p in "$O"/bench/*; do [ -f "$p" ] && [ -x "$p" ] && basename "$p"; done
  for s in tests/bench/*.sh; do basename "$s" .sh; done
} | grep -vx run | sort -u)

for group in $groups; do
  [ -z "$only" ] || [ "$only" = "$group" ] || continue
  ran=$((ran + 1))
  echo "== $group"
  if [ -f "tests/bench/$group.sh" ]; then
    "tests/bench/$group.sh" "$O"
  else
    "$O/bench/$group"
  fi
  rc=$?
  [ $rc = 0 ] || [ $rc = 77 ] || { echo "$group: exit status $rc" >&2; failed=1; }
done
[ $ran -gt 0 ] || { echo "run.sh: no group '$only'; there are:" $groups >&2; exit 2; }
exit $failed
