#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An agent started on a store of format 1: migrates it, answers from it, takes it back on demand.
# timeout: 120
. "$(dirname "$0")/lib.bash"

FIXTURE=tests/fixtures/store-1
get() { curl -s --max-time 10 --unix-socket "$SOCK" "http://mno$1"; }
post() { curl -s --max-time 10 -X POST --unix-socket "$SOCK" "http://mno$1"; }
mnod_word() { "$O/mnod" --state "$W/state" --migrate "$1"; }
says() { # TEXT COMMAND...
  local text=$1
  shift
  "$@" >"$W/said" 2>&1
  cat "$W/said"
  grep -F -- "$text" "$W/said" >/dev/null
}
names() { ls -A "$W/state"; }

mkdir -p "$W/state"
zstd -dq "$FIXTURE/data.mdb.zst" -o "$W/state/data.mdb"
echo mine >"$W/state/notes.txt"
cp "$W/state/data.mdb" "$W/old.mdb"

ok "dry run says what is needed" says "of free disk are needed" mnod_word dry-run
ok "dry run changes nothing" cmp "$W/state/data.mdb" "$W/old.mdb"
ok "starts" start_agent --no-bpf
ok "says so" says "migration: done: 15.3 k records" cat "$W/log"
ok "/mno/v1/migrate" test "$(get /mno/v1/migrate | jq -c '[.stage, .from, .to, .samples, .damaged]')" = '["done",1,2,15164,0]'
ok "old samples are answered" test "$(get '/api/v1/query_range?query=m0_total&start=1699999200&end=1700006400&step=60' |
  jq '.data.result | length')" -ge 1
ok "mnoctl migrate" says "15,164 samples" ctl migrate
ok "rollback --dry-run" says "nothing was changed" ctl migrate rollback --dry-run
ok "/mno/v1/migrate/rollback" test "$(post /mno/v1/migrate/rollback | jq .undo_wanted)" = true
ok "rollback --cancel" says '"undo_wanted":false' ctl -j migrate rollback --cancel
ok "rollback" says "the next start of mnod takes the migration back" ctl migrate rollback
ok "ends" end_agent
start_agent --no-bpf && end_agent
ok "the next start takes it back" says "was put back to format 1 on demand" cat "$W/log"
ok "the old form is as it was" cmp "$W/state/data.mdb" "$W/old.mdb"
ok "what was collected since is kept" test -s "$W/state/.undone-2/main/data.mdb"
ok "files of others stay" says notes.txt names
ok "run migrates again" says "migrated from format 1 to 2" mnod_word run
ok "starts again" start_agent --no-bpf
ok "/mno/v1/migrate/confirm" test "$(post /mno/v1/migrate/confirm | jq -r .stage)" = none
ok "confirm twice is refused" says "no old form" ctl migrate confirm
ok "nothing is left of it" test "$(names | grep -c '^\.')" = 0
ok "ends again" end_agent
finish
