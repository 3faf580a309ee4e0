#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every GET route, imports, documents, backups, checks and new keys, all at once for LOAD seconds
# (12): the agent answers, loses nothing and ends cleanly. With a build of SANITIZE=1 or
# SANITIZE=thread: without a report, leaks at the end included.
# timeout: 400
. "$(dirname "$0")/lib.bash"
need_root
own_bpffs "$@"
LOAD=${LOAD:-12}
export TSAN_OPTIONS="exitcode=66 suppressions=$PWD/tests/race.supp ${TSAN_OPTIONS:-}"
export ASAN_OPTIONS="detect_leaks=1 ${ASAN_OPTIONS:-}"
END=
ask() { curl -s -m 30 --unix-socket "$SOCK" "$@"; }
going() { [ "$(date +%s)" -lt "$END" ]; }

gets() { # NUMBER: all of them again and again, each with its own start
  local paths n
  mapfile -t paths < <(sed -n 's/^ROUTE[_A-Z]*("GET[^"]*", "\([^"]*\)".*/\1/p' agent/api/routes.def |
    grep -v _watch | sed 's/<name>/host/; s/<ns>/load/; s/<coll>/c/; s/<id>/a1/')
  [ ${#paths[@]} -gt 20 ] || return 1
  n=$1
  while going; do
    n=$(((n + 1) % ${#paths[@]}))
    case ${paths[n]} in
      */query) set -- -G --data-urlencode 'query={__name__=~"node_.*"}[1m]' ;;
      */query_range) set -- -G --data-urlencode 'query={__name__=~"(load|node)_.*"}' -d "start=$(($(date +%s) - 600))" -d "end=$(date +%s)" -d step=5 ;;
      */series) set -- -G --data-urlencode 'match[]={__name__!=""}' ;;
      *) set -- ;;
    esac
    ask -o /dev/null -w "%{http_code} ${paths[n]}\n" "http://mno${paths[n]}" "$@"
  done >>"$W/gets.$1.log"
}
imports() {
  local n=0 now
  while going; do
    now=$(date +%s)
    n=$((n + 1))
    for ((k = 0; k < 2000; k++)); do echo "load_x{i=\"$((k % 50))\",n=\"$((n % 7))\"} $k $(((now - k) * 1000))"; done |
      ctl -j import --format prometheus-text - >>"$W/imports.log" 2>&1
  done
}
docs() { # WHO
  local n=0
  ask -X PUT "http://mno/mno/v1/docs/load/c/_index/n?path=n" -o /dev/null
  while going; do
    n=$((n + 1))
    ask -o /dev/null -w '%{http_code}\n' http://mno/mno/v1/docs/txn -d "{\"ops\":[
      {\"op\":\"put\",\"ns\":\"load\",\"coll\":\"c\",\"id\":\"a$((n % 50))\",\"value\":{\"n\":$n,\"who\":\"$1\"}},
      {\"op\":\"delete\",\"ns\":\"load\",\"coll\":\"c\",\"id\":\"a$(((n + 25) % 50))\"}]}" >>"$W/docs.log"
    ask -X DELETE "http://mno/mno/v1/docs/load/c/a$((n % 50))" -o /dev/null
    ask -X PUT -d "{\"n\":$n}" "http://mno/mno/v1/docs/load/c/a1" -o /dev/null
  done
}
jobs_of() {
  while going; do
    ctl -j backup create --dir "$W/backups" >>"$W/jobs.log" 2>&1
    ask -X POST 'http://mno/mno/v1/store/check?deep=1' -o /dev/null
    ask -X POST 'http://mno/mno/v1/store/key/rotate-data' -o /dev/null
    ask -X POST 'http://mno/mno/v1/store/key/rotate-kek' -o /dev/null
    ask -X POST "http://mno/mno/v1/backup/prune?dir=$W/backups&keep=2" -o /dev/null
    ask -X POST 'http://mno/mno/v1/probes/syscall/enable?for=2s' -o /dev/null
    sleep 1
  done
}
watch() { while going; do ask -N -m 3 'http://mno/mno/v1/docs/_watch?since=0' 'http://mno/mno/v1/events?follow=1' -o /dev/null; done; }

load() {
  local pids=() p
  mkdir -p "$W/backups"
  END=$(($(date +%s) + LOAD))
  for p in 0 7 14 21; do gets $p & pids+=($!); done
  imports & pids+=($!)
  docs one & pids+=($!)
  docs two & pids+=($!)
  jobs_of & pids+=($!)
  watch & pids+=($!)
  wait "${pids[@]}"
  kill -0 "$AGENT" || return 1
}
answered() { # no answer of 5xx (but 503 and 507, which are promises) nor a closed connection
  cat "$W"/gets.*.log >"$W/gets"
  [ "$(wc -l <"$W/gets")" -gt 30 ] || return 1
  ! grep -E '^(000|500|502|504)' "$W/gets" | sort | uniq -c | grep .
}
txns() { grep '^200' "$W/docs.log" >/dev/null && ! grep -vE '^(200|404|409|503)' "$W/docs.log" | sort | uniq -c | grep .; }
reports() { ! grep -nE -A25 'WARNING: ThreadSanitizer|ERROR: (Address|Leak)Sanitizer|runtime error:' "$W/log"; }
undamaged() { ! grep -n 'damage' "$W/log"; }
counted() { # every import told how many it took
  jq -e -s 'length > 0 and all(.accepted == 2000)' "$W/imports.log"
}
kept() { ctl -j status | jq -e '(.store.rows_lost // 0) == 0 and (.store.last_error // 0) == 0'; }

ok "starts" start_agent
ok "bears the load" load
ok "every route answered" answered
ok "transactions were answered" txns
ok "imports are counted" counted
ok "no row was lost" kept
ok "nothing is taken for damaged while keys change" undamaged
ok "ends cleanly" end_agent TERM
ok "no report" reports
finish
