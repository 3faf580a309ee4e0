#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every route of the API answers as its clients expect: shapes of Prometheus, own documents, errors.
# timeout: 60
. "$(dirname "$0")/lib.bash"

get() { curl -s --max-time 10 --unix-socket "$SOCK" "http://mno$1"; }
shape() { # TARGET JQ-FILTER
  get "$1" >"$W/body"
  jq -e "$2" "$W/body" || { head -c 400 "$W/body"; return 1; }
}
is() { ok "$1" shape "$1" "$2"; }
status_of() { # CODE CURL-ARGUMENTS...
  local want=$1 got
  shift
  got=$(curl -s -o "$W/body" -w '%{http_code}' --max-time 10 --unix-socket "$SOCK" "$@")
  [ "$got" = "$want" ] || { echo "status $got, not $want"; head -c 300 "$W/body"; return 1; }
}
problem() { jq -e --arg c "$1" '.status >= 400 and .title and .detail and .code == $c' "$W/body"; }

ok "starts" start_agent --no-bpf
now=$(date +%s)
ok "two samples are there" until_ok shape "/api/v1/query?query=node_load1[10s]" '.data.result[0].values | length >= 2'
is "/api/v1/query?query=node_load1" '.status == "success" and .data.resultType == "vector" and
  (.data.result[0] | .metric.__name__ == "node_load1" and (.value[1] | type) == "string")'
is "/api/v1/query_range?query=node_load1&start=$((now - 10))&end=$((now + 5))&step=1" '
  .data.resultType == "matrix" and (.data.result[0].values | length) >= 1'
is "/api/v1/series?match[]=node_load1" '.data == [{"__name__": "node_load1"}]'
is "/api/v1/labels" '.status == "success" and (.data | index("__name__") != null and . == sort)'
is "/api/v1/labels?match[]=node_load1" '.data == ["__name__"]'
is "/api/v1/label/__name__/values" '.data | index("node_load1") != null and . == sort'
is "/api/v1/metadata?metric=node_load1" '.data.node_load1[0] | .type == "gauge" and (.help | length) > 0'
is "/api/v1/status/buildinfo" '.data.version | length > 0'
is "/mno/v1/status" '.version and (.probes | type) == "array" and .level == "L0"'
is "/mno/v1/probes" '.probes | type == "array"'
is "/mno/v1/proc?since=1m" '(.processes | type) == "array" and .completeness'
is "/mno/v1/events?since=1m" '.events | type == "array"'
is "/mno/v1/top?interval=1s" '(.cgroups | type) == "array" and (.processes | type) == "array"'
is "/mno/v1/doctor" '.host.kernel and (.attach | length) > 10 and (.levels | length) == 5 and
  any(.findings[]; .what == "BPF is switched off")'
put() { curl -s -f -X PUT --max-time 10 --unix-socket "$SOCK" "$@" >"$W/body" || { cat "$W/body"; return 1; }; }
ok "a document is put" put -d '{"a":1}' http://mno/mno/v1/docs/n/c/i%2F1
is "/mno/v1/docs" '.namespaces[0].name == "n" and .documents == 1'
is "/mno/v1/docs/n" '.namespaces[0].collections[0].name == "c"'
is "/mno/v1/docs/n/c?where=a=1" '.documents[0].id == "i/1" and .cursor == null'
is "/mno/v1/docs/n/c/i%2F1" '.a == 1'
ok "an index is declared" put 'http://mno/mno/v1/docs/n/c/_index/a?path=a'
is "/mno/v1/docs/n/c/_index" '.indexes[0].name == "a"'
is "/mno/v1/docs/n/c/_index/a" '.path == "a" and .type == "ordered"'
ok "/mno/v1/docs/txn" status_of 200 -d '[{"op":"delete","ns":"n","coll":"c","id":"i/1","if_present":true}]' http://mno/mno/v1/docs/txn
ok "again: precondition" status_of 412 -d '[{"op":"delete","ns":"n","coll":"c","id":"i/1","if_present":true}]' http://mno/mno/v1/docs/txn
ok "is a problem document" problem precondition
ok "/mno/v1/docs/_watch" sh -c "curl -s --max-time 2 --unix-socket '$SOCK' 'http://mno/mno/v1/docs/_watch?since=1' >'$W/body'; grep -q '^event: change' '$W/body'"
ok "POST form" status_of 200 -d 'query=node_load1' http://mno/api/v1/query
ok "unknown label name" status_of 400 'http://mno/api/v1/label/a%2Db/values'
ok "syntax error is bad_data" status_of 400 'http://mno/api/v1/query?query=node_load1%7B'
ok "in Prometheus' shape" jq -e '.status == "error" and .errorType == "bad_data" and .error' "$W/body"
ok "unknown path" status_of 404 http://mno/mno/v1/nothing
ok "is a problem document" problem not_found
ok "wrong method" status_of 405 -X DELETE http://mno/mno/v1/status
ok "bad parameter" status_of 400 'http://mno/mno/v1/proc?since=yesterday'
ok "is a problem document, too" problem bad_request
ok "every GET route is in this test" sh -c "sed -n 's/^ROUTE[_A-Z]*(\"GET[^\"]*\", \"\\([^\"]*\\)\".*/\\1/p' agent/api/routes.def |
  sed 's/<[a-z]*>.*//' | while read -r r; do grep -qF -- \"\$r\" tests/integration/*.sh || { echo \"\$r\"; exit 1; }; done"
finish
