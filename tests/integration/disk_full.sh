#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A full disk: the agent lives, says so, counts what is lost, and goes on when there is room again.
# timeout: 120
# shellcheck disable=SC2034
. "$(dirname "$0")/lib.bash"
need_root
mkdir "$W/disk"
mount -t tmpfs -o size=24m mno-test "$W/disk" 2>/dev/null || { echo "cannot mount a tmpfs"; exit 77; }
trap 'end_agent; umount "$W/disk"; rm -rf "$W"' EXIT
"$O/mnod" --no-bpf --state "$W/disk/state" --socket "$SOCK" >"$W/log" 2>&1 &
AGENT=$! # for end_agent
answers() { ctl -j status; }
ok "starts on a small disk" until_ok answers
stored() { ctl -j status | jq -e '.store.commits >= 2'; }
ok "stores" until_ok stored
dd if=/dev/zero of="$W/disk/fill" bs=1M status=none 2>/dev/null
lost() { { ctl -j status || true; } | jq -e '.store.rows_lost >= 2 and .store.last_error != 0 and .store.last_error != null'; }
ok "counts what it cannot store" until_ok lost
ok "is alive and says why" grep -q 'nothing is stored until this is mended' "$W/log"
ok "metrics still answer" sh -c "curl -sf --unix-socket '$SOCK' http://mno/metrics | grep -q node_load1"
rm "$W/disk/fill"
n=$(ctl -j status | jq '.store.commits')
again() { { ctl -j status || true; } | jq -e --argjson n "$n" '.store.commits > $n + 1'; }
ok "goes on when there is room" until_ok again
values() { ctl -j query 'node_load1[5m]' | jq -e '.data.result[0].values | length >= 3'; }
ok "what was stored is still there" values
ok "ends cleanly" end_agent TERM
finish
