#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An agent started on documents of form 1: migrates them while it serves, takes them back on demand.
# timeout: 120
. "$(dirname "$0")/lib.bash"

FIXTURE=tests/fixtures/docs-1
get() { curl -s --max-time 10 --unix-socket "$SOCK" "http://mno$1"; }
post() { curl -s --max-time 10 -X POST --unix-socket "$SOCK" "http://mno$1"; }
says() { # TEXT COMMAND...
  local text=$1
  shift
  "$@" >"$W/said" 2>&1
  cat "$W/said"
  grep -F -- "$text" "$W/said" >/dev/null
}
stage() { get /mno/v1/migrate | jq -r .documents.stage; }
comes_to() { # STAGE
  for _ in $(seq 200); do
    test "$(stage)" = "$1" && return 0
    sleep 0.05
  done
  stage
  return 1
}
put_fresh() { echo '{"a":1}' | ctl doc put assets hosts fresh; }
host() { get /mno/v1/docs/assets/hosts/host-005; }

for f in "$FIXTURE"/*/*.zst; do
  to=$W/state/${f#"$FIXTURE"/}
  mkdir -p "${to%/*}"
  zstd -dq "$f" -o "${to%.zst}"
done
chmod -R go= "$W/state"

ok "starts" start_agent --no-bpf
ok "documents are there" test "$(host | jq -r '.value.name // .name')" = host-005
ok "they are migrated" comes_to "done"
ok "and still there" test "$(host | jq -r '.value.name // .name')" = host-005
ok "/mno/v1/migrate" test "$(get /mno/v1/migrate | jq -c '.documents | [.from, .to, .total, .damaged, .failed]')" = '[1,2,350,0,false]'
ok "the log says so" says "from form 1 to 2: done" cat "$W/log"
ok "mnoctl migrate" says "rollback --documents puts it back" ctl migrate
ok "mnoctl -j migrate" says '"stage":"done"' ctl -j migrate
ok "rollback --dry-run" says "nothing was changed" ctl migrate rollback --documents --dry-run
ok "nothing to run" says '"stage":"done"' ctl -j migrate run
ok "rollback" ctl migrate rollback --documents
ok "they are put back" comes_to undone
ok "what comes next is said" says "mnoctl migrate run migrates them again" ctl migrate
ok "documents are the same" test "$(host | jq -r '.value.name // .name')" = host-005
ok "ends" end_agent
ok "starts again" start_agent --no-bpf
ok "they stay so" test "$(stage)" = undone
ok "confirm is refused" says "no old form" ctl migrate confirm
ok "/mno/v1/migrate/run" test "$(post /mno/v1/migrate/run | jq -r .documents.total)" = 350
ok "they are migrated again" comes_to "done"
ok "a document is written" put_fresh
ok "confirm" ctl migrate confirm
ok "the old form is gone" comes_to none
ok "all is whole" ctl store check --deep
ok "ends again" end_agent
finish
