#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The same samples in the agent and in a Prometheus, the same questions to both: answers and error
# texts must be equal. Skips without Prometheus (apt install prometheus).
# timeout: 150
. "$(dirname "$0")/lib.bash"
for tool in prometheus promtool jq curl; do
  command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
PORT=$((20000 + RANDOM % 20000))
PROM=
trap '[ -z "$PROM" ] || kill $PROM; end_agent; rm -rf "$W"' EXIT

mno() { # PATH CURL-OPTIONS...
  curl -s -G --unix-socket "$SOCK" "http://mno$1" "${@:2}"
}
peer() { curl -s -G "http://127.0.0.1:$PORT$1" "${@:2}"; }

# Samples of the agent as OpenMetrics, with their own times.
export_samples() {
  mno /api/v1/query --data-urlencode "query={__name__=~\"node_(load1|memory_.*|cpu_seconds_total|network_.*)\"}[1m]" |
    jq -r '.data.result[] | . as $s | ($s.metric | to_entries | map(select(.key != "__name__")
      | "\(.key)=\(.value | tojson)") | join(",")) as $l | $s.values[]
      | [$s.metric.__name__, "\($s.metric.__name__){\($l)} \(.[1]) \(.[0])"] | @tsv' |
    sort -s -k1,1 | awk -F'\t' '{ if ($1 != last) print "# TYPE " $1 " unknown"; last = $1; gsub(/\\\\/, "\\", $2); print $2 }
      END { print "# EOF" }' >"$W/samples.om"
  [ "$(wc -l <"$W/samples.om")" -gt 500 ]
}
start_peer() {
  echo 'global: {}' >"$W/p.yml"
  promtool tsdb create-blocks-from openmetrics "$W/samples.om" "$W/tsdb" >"$W/promtool" 2>&1 || { cat "$W/promtool"; return 1; }
  GOMAXPROCS=1 prometheus --config.file="$W/p.yml" --storage.tsdb.path="$W/tsdb" \
    --storage.tsdb.retention.time=100y --web.listen-address=127.0.0.1:$PORT >"$W/prom.log" 2>&1 &
  PROM=$!
  until_ok curl -sf "http://127.0.0.1:$PORT/-/ready"
}
same() { # PATH CURL-OPTIONS...: equal after sorting the series, keys and order of values included
  local n='if (.data | type) == "object" and .data.result then .data.result |= sort_by(.metric | to_entries) else . end'
  mno "$@" | jq -S "$n" >"$W/a"
  peer "$@" | jq -S "$n" >"$W/b"
  if [ -s "$W/a" ] && cmp -s "$W/a" "$W/b"; then return 0; fi
  echo "$*"
  diff "$W/b" "$W/a" | head -n 8
  return 1
}
not_empty() { # the answer in $W/a says something
  jq -e '.data.result | length > 0' "$W/a" >/dev/null || { echo "empty: $*"; return 1; }
}

answers() {
  local q bad=0
  for q in node_load1 'node_cpu_seconds_total{mode!="idle"}' '{__name__="node_load1"}' \
    'node_network_receive_bytes_total{device=~"lo|eth.*"}' 'node_load1 offset 3s' "node_load1 @ $((T - 2))" \
    'node_load1[5s]' 'node_cpu_seconds_total{cpu="0"}[10s] offset 2s' 'node_load1 offset -1s'; do
    { same /api/v1/query --data-urlencode "query=$q" -d "time=$T" && not_empty "$q"; } || bad=1
  done
  for q in node_load1 'node_memory_MemFree_bytes' 'node_cpu_seconds_total' 'node_load1 @ start()' \
    'node_load1 @ end() offset 1s' 'node_load1{nope=""}'; do
    { same /api/v1/query_range --data-urlencode "query=$q" -d "start=$((T - 8)).5" -d "end=$T.25" -d step=0.7 &&
      not_empty "$q"; } || bad=1
  done
  same /api/v1/query -d query=node_load1 -d time=1000 || bad=1
  same /api/v1/series --data-urlencode 'match[]=node_network_receive_bytes_total' || bad=1
  same /api/v1/label/mode/values --data-urlencode 'match[]=node_cpu_seconds_total' || bad=1
  same /api/v1/labels --data-urlencode 'match[]={__name__=~"node_(load1|cpu_seconds_total)"}' || bad=1
  return $bad
}

# Every query of the fuzzer's corpus: both take it, or both refuse it in the same words. Left out is
# what is refused here by name (functions, operators ...), regular expressions' own messages and
# limits, and texts that show Go's internals.
errors() {
  local f q bad=0 n=0
  for f in tests/fuzz/corpus/promql/q*; do
    q=$(cat "$f")
    mno /api/v1/query --data-urlencode "query=$q" -d time=1000 | jq -r '.error // "ok"' >"$W/a"
    if grep -q 'not supported: ask for\|error parsing regexp\|error parsing number' "$W/a"; then continue; fi
    case $q in '@ 5' | 'up[5m foo]' | '!' | *'{1,1001}'*) continue ;; esac
    peer /api/v1/query --data-urlencode "query=$q" -d time=1000 | jq -r '.error // "ok"' >"$W/b"
    n=$((n + 1))
    cmp -s "$W/a" "$W/b" && continue
    printf '%s\n  prometheus: %s\n  mno:        %s\n' "$q" "$(cat "$W/b")" "$(cat "$W/a")"
    bad=1
  done
  echo "$n queries compared"
  [ $n -gt 80 ] && [ $bad = 0 ]
}
parameters() {
  local bad=0 args
  while read -r path args; do
    # shellcheck disable=SC2086
    same "$path" $args || bad=1
  done <<'CASES'
/api/v1/query
/api/v1/query -d query=up -d time=abc
/api/v1/query -d query=up -d timeout=1x
/api/v1/query -d query=up -d time=1e20
/api/v1/query -d query=up -d time=-1
/api/v1/query -d query=up -d query=foo -d time=2026-11-23T16:30:00.123+01:00
/api/v1/query_range
/api/v1/query_range -d query=up -d start=5
/api/v1/query_range -d query=up -d start=5 -d end=2 -d step=1
/api/v1/query_range -d query=up -d start=5 -d end=7
/api/v1/query_range -d query=up -d start=5 -d end=7 -d step=0
/api/v1/query_range -d query=up -d start=5 -d end=7 -d step=-1
/api/v1/query_range -d query=up -d start=5 -d end=7 -d step=x
/api/v1/query_range -d query=up -d start=0 -d end=11001 -d step=1
/api/v1/query_range -d query=up -d start=0 -d end=11000 -d step=1s
/api/v1/query_range -d query=up[5m] -d start=5 -d end=7 -d step=1
/api/v1/query_range -d query=up{ -d start=5 -d end=7 -d step=1
/api/v1/series
/api/v1/series -d match[]=up{
/api/v1/series -d match[]={}
/api/v1/series -d match[]=up[5m]
/api/v1/series -d match[]=up -d start=x
/api/v1/labels -d start=5 -d end=1
/api/v1/label/1a/values
/api/v1/label/nope/values
CASES
  return $bad
}

ok "starts" start_agent --no-bpf
sleep 16
T=$(($(date +%s) - 3))
ok "samples are exported" export_samples
ok "peer has the same samples" start_peer
ok "answers are equal" answers
ok "errors are equal" errors
ok "parameters are checked alike" parameters
finish
