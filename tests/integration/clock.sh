#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The wall clock steps under the running agent, by seconds and by decades, back and forth: it goes
# on storing at once, what was stored is still there, and retention believes no step.
# timeout: 300
. "$(dirname "$0")/lib.bash"

${CC:-cc} -D_GNU_SOURCE -O1 -shared -fPIC -o "$W/clock.so" tests/support/preload/clock.c ||
  { echo "no compiler for the library that steps the clock"; exit 77; }
export CLOCK_OFFSET=$W/offset
export ASAN_OPTIONS="verify_asan_link_order=0 ${ASAN_OPTIONS:-}"
DAY=86400
step() { echo "$1" >"$W/new" && mv "$W/new" "$CLOCK_OFFSET"; }
values() { # FROM TO: how many samples of a series are stored there
  curl -s --max-time 10 -G --unix-socket "$SOCK" http://mno/api/v1/query -d "time=$2" \
    --data-urlencode "query=node_load1[$(($2 - $1))s]" | jq '.data.result[0].values | length'
}
grows() { # OFFSET: samples are stored by a clock that is so far ahead
  local now=$(($(date +%s) + $1)) before
  before=$(values $((now - 60)) $((now + 20)))
  sleep 3.5
  [ "$(values $((now - 60)) $((now + 20)))" -ge $((before + 2)) ]
}
kept() { [ "$(values $((T0 - 60)) $((T0 + 20)))" -ge "$HELD" ]; }
sound() { "$O/mnod" --check-store --state "$W/state"; }

start() { LD_PRELOAD=$W/clock.so start_agent --no-bpf; }
step 0
ok "starts" start
T0=$(date +%s)
ok "stores" grows 0
HELD=$(values $((T0 - 60)) $((T0 + 20)))
for days in -1 200 7300 32850; do
  step $((days * DAY))
  ok "the clock steps by $days days: it stores at once" grows $((days * DAY))
  step 0
  ok "and when it is right again" grows 0
  ok "nothing is lost" kept
done
step -"$T0"
sleep 3
step 0
ok "stores after a visit to 1970" grows 0
step $((500 * DAY)) # longer than between two looks at what is past its time
sleep 63
step 0
ok "retention does not believe a step" kept
step $((500 * DAY))
ok "ends with a wrong clock" end_agent TERM
ok "starts with a wrong clock" start
sleep 2
step 0
ok "retention does not believe it then, either" kept
ok "it stores" grows 0
ok "lives, and says so" grep -q 'retention goes by it' "$W/log"
ok "ends cleanly" end_agent TERM
ok "is sound" sound
finish
