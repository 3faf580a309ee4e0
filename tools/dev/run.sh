#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: run.sh BUILD_DIR [mnod options]: the agent in the foreground, state below BUILD_DIR/run.
set -eu
O=${1:-build}
[ $# -eq 0 ] || shift
[ -x "$O/mnod" ] || { echo "run.sh: $O/mnod is not there: run make first" >&2; exit 1; }
run=$O/run
mkdir -p "$run"
chmod 0700 "$run"
cat <<EOF
mno keeps its state below $run and runs until Ctrl-C. In another terminal:
  $O/mnoctl -s $run/mno.sock status      is it well, what does it cost
  $O/mnoctl -s $run/mno.sock top         who uses the machine, who waits, for whom
  $O/mnoctl -s $run/mno.sock proc tree   every process, short ones included
  $O/mnoctl -s $run/mno.sock doctor      what works on this host, what to change
  curl --unix-socket $run/mno.sock http://mno/metrics
EOF
[ "$(id -u)" = 0 ] || echo "Not root: no BPF probes, file sources only (sudo make run for all)." >&2
exec "$O/mnod" --state "$run/state" --socket "$run/mno.sock" "$@"
