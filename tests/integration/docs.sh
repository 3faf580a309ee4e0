#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Documents by the command line, and what was acknowledged after kill -9 of the agent.
# timeout: 180
. "$(dirname "$0")/lib.bash"

same() { [ "$1" = "$2" ] || { echo "$1, not $2"; return 1; }; }
exits() { # CODE COMMAND...
  local want=$1 got
  shift
  "$@" >"$W/body" 2>&1
  got=$?
  [ $got = "$want" ] || { echo "exit $got, not $want"; cat "$W/body"; return 1; }
}

ok "starts" start_agent --no-bpf
ok "put" ctl doc put ops hosts web-3 --value '{"role":"web","cores":8}'
ok "put from standard input" sh -c "echo '{\"role\":\"db\",\"cores\":16}' | '$O/mnoctl' -s '$SOCK' doc put ops hosts db/1"
ok "get as it was" same "$(ctl doc get ops hosts web-3)" '{"role":"web","cores":8}'
ok "not there" exits 1 ctl doc get ops hosts nobody
ok "no JSON" exits 5 ctl doc put ops hosts x --value '{'
ok "an error is JSON with -j" sh -c "'$O/mnoctl' -j -s '$SOCK' doc get ops hosts nobody | jq -e .error.message"
version=$(ctl -j doc get ops hosts web-3 | jq .version)
ok "old version" exits 1 ctl doc put ops hosts web-3 --value 1 --if-version 999
ok "right version" ctl doc put ops hosts web-3 --value '{"role":"web","cores":9}' --if-version "$version"
ok "kinds" sh -c "printf 12.50 | '$O/mnoctl' -s '$SOCK' doc put ops sums a --kind decimal &&
  printf '\\377\\000\\001' | '$O/mnoctl' -s '$SOCK' doc put ops blobs b --kind binary"
ok "binary comes back" same "$(ctl doc get ops blobs b | od -An -tx1 | tr -d ' ')" ff0001
ok "decimal is a string" same "$(ctl -j doc get ops sums a | jq -r .value)" 12.50
ok "index" ctl doc index ops hosts add role --path role
ok "is built" until_ok sh -c "'$O/mnoctl' -s '$SOCK' -j doc index ops hosts | jq -e '.indexes[0].state == \"ready\"'"
ok "find uses it" sh -c "'$O/mnoctl' -s '$SOCK' -j doc find ops hosts role=db 'cores>=10' |
  jq -e '.index == \"role\" and (.documents | length) == 1 and .documents[0].id == \"db/1\"'"
ok "nothing fits" exits 1 ctl doc find ops hosts role=none
ok "bad condition" exits 5 ctl doc find ops hosts role
printf '{"ops":[{"op":"put","ns":"ops","coll":"t","id":"1","value":1},
  {"op":"check","ns":"ops","coll":"t","id":"2","if_present":true}]}' >"$W/txn"
ok "a transaction that fails" exits 1 ctl doc txn "$W/txn"
cp "$W/body" "$W/body.txn"
ok "says which operation it was" grep "operation 2: the document is not there" "$W/body.txn"
ok "leaves nothing" exits 1 ctl doc get ops t 1
ctl doc index ops u add n --path n --unique >/dev/null
printf '[{"op":"put","ns":"ops","coll":"u","id":"1","value":{"n":1}},
  {"op":"put","ns":"ops","coll":"u","id":"2","value":{"n":1}},
  {"op":"put","ns":"ops","coll":"u","id":"3","value":{"n":3}}]' >"$W/txn"
exits 1 ctl doc txn "$W/txn"
ok "also which has a value that is taken" grep "operation 2: documents" "$W/body"
exits 5 ctl doc get ops hosts "$(printf '%0300d' 1)"
ok "an id that is too long" grep "at most 256" "$W/body"
exits 5 ctl doc get ops hosts "$(printf '%0257d' 1)"
ok "by a byte" grep "1 to 256 bytes, this one has 257" "$W/body"
head -c 1100000 /dev/zero | tr '\0' 1 >"$W/big"
curl -s --unix-socket "$SOCK" -T "$W/big" http://mno/mno/v1/docs/ops/hosts/big >"$W/body"
ok "a body that is too long says the bound" grep 1048576 "$W/body"
ctl doc put ops pages a --value 1 && ctl doc put ops pages b --value 2 && ctl doc put ops sheets c --value 3
cursor=$(ctl -j doc find ops pages --limit 1 | jq -r .cursor)
ok "a cursor goes on" sh -c "'$O/mnoctl' -s '$SOCK' -j doc find ops pages --cursor '$cursor' | jq -e '.documents[0].id == \"b\"'"
exits 5 ctl doc find ops sheets --cursor "$cursor"
ok "but not with another query" grep "another query" "$W/body"
ok "quota" ctl doc quota small --documents 1
ok "first fits" ctl doc put small c a --value 1
ok "second does not" exits 1 ctl doc put small c b --value 1
ok "and says why" grep -q quota "$W/body"
ok "watch from the first change on" sh -c "timeout 3 '$O/mnoctl' -s '$SOCK' -j doc watch ops hosts --since 1 --values >'$W/seen'
  jq -es '[.[] | select(.op == \"put\")] | length == 3 and .[2].value.cores == 9' '$W/seen' && jq -es 'any(.[]; .op == \"index\" and .value.path != null)' '$W/seen'"
ok "delete" ctl doc delete ops hosts db/1
ok "delete again" exits 1 ctl doc delete ops hosts db/1
ok "drop needs --yes" exits 2 ctl doc drop ops hosts
ok "list" sh -c "'$O/mnoctl' -s '$SOCK' doc list | grep hosts"

# Two writers note what was acknowledged; the agent is killed under them, twenty times.
writer() { # NAME
  local i=0 v
  while [ ! -e "$W/stop" ]; do
    i=$((i + 1))
    v=$(curl -s -f --max-time 5 --unix-socket "$SOCK" -X PUT -d "{\"n\":$i,\"w\":\"$1\"}" \
      "http://mno/mno/v1/docs/crash/c/$1-$i") || { sleep 0.05; continue; }
    echo "$1-$i ${v//[!0-9]/}" >>"$W/acked-$1"
  done
}
ok "index of what will be killed" ctl doc index crash c add n --path n
writer a & A=$!
writer b & B=$!
killed=0
for _ in $(seq 20); do
  sleep "0.$((RANDOM % 4 + 1))"
  end_agent KILL
  start_agent --no-bpf && killed=$((killed + 1))
done
touch "$W/stop"
wait $A $B
ok "started again after each of 20 kills" same $killed 20
acked=$(cat "$W"/acked-* | wc -l)
ok "something was acknowledged ($acked)" test "$acked" -gt 100
lost() {
  curl -s --unix-socket "$SOCK" "http://mno/mno/v1/docs/crash/c?limit=10000" |
    jq -r '.documents[] | "\(.id) \(.version)"' | sort >"$W/there"
  sort "$W"/acked-* | comm -23 - "$W/there" >"$W/lost"
  [ -s "$W/there" ] && [ ! -s "$W/lost" ] || { head "$W/lost"; return 1; }
}
ok "nothing acknowledged is lost" lost
ok "the index agrees" sh -c "'$O/mnoctl' -s '$SOCK' -j doc find crash c 'n>=0' --limit 10000 |
  jq -e --argjson n \"\$(wc -l <'$W/there')\" '.index == \"n\" and .damaged == 0 and (.documents | length) == \$n'"
finish
