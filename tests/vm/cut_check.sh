#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cut_check.sh IMAGE ROWS DOCS: is the store of a disk that lost its power what was acknowledged?
# The file system's journal is replayed as a mount would do it; no root is needed. $POWER_LOAD:
# the program that wrote the store; $POWER_SUM: of the documents that were there before.
PATH=$PATH:/usr/sbin:/sbin
dir=$(mktemp -d "$(dirname "$1")/cut.XXXXXX") || exit 2
trap 'rm -rf "$dir"' EXIT
e2fsck -y -E journal_only "$1" >"$dir/log" 2>&1
if [ $? -gt 1 ]; then
  cat "$dir/log" >&2
  exit 2
fi
debugfs -R "rdump /state $dir" "$1" >"$dir/log" 2>&1
"$POWER_LOAD" check "$dir/state" "$2" "$3" "$POWER_SUM"
