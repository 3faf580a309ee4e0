#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real agent on this kernel: ledger, accounting, restarts, refusals.
# timeout: 240
. "$(dirname "$0")/lib.bash"
need_root

states() { ctl -j status | jq -e '[.probes[] | select(.name | IN("proc","sched","block","tcp","memory")) | .state] |
  length == 5 and all(. == "running" or . == "degraded")'; }
status_keys() { ctl -j status | jq -e '.version and .uptime_seconds >= 0 and (.probes | length > 5) and
  .memory.rss_bytes > 0 and .memory.bpf_bytes > 0 and (.cpu_percent | type == "number") and
  .store.bytes > 0 and .store.series > 100 and (.level | test("^L[0-4]$"))'; }

# All children of a burst are in the ledger, with exit code and CPU time (within 2 ms or 20 %).
burst() { # N MS PARALLEL
  "$O/tests/prog/burst" "$@" | sort -n >"$W/want"
  until_ok identity
  ctl -j proc list --since 5m --limit 100000 | jq -r '.[] | select(.comm == "burst" and .argv[1] == "child" and .exit_code != null)
    | [.pid, .exit_code, (.cpu_ns / 1000 | floor), (.argv[2] | tonumber)] | @tsv' | sort -n >"$W/got"
  awk 'NR == FNR { code[$1] = $2; cpu[$1] = $3; n++; next }
    ($1 in code) && code[$1] == $2 && $4 == $2 {
      d = $3 - cpu[$1]; if (d < 0) d = -d
      if (d < 2000 || d < cpu[$1] / 5) { seen[$1] = 1 } else print "cpu of " $1 ": " $3 ", not " cpu[$1] }
    END { for (p in code) if (!(p in seen)) { if (bad++ < 5) print "missing or wrong: " p }
      print n - bad " of " n; exit bad > 0 }' "$W/want" "$W/got"
}

ok "starts" start_agent
ok "first sample is stored before it answers" grep -q 'first sample stored' "$W/log"
ok "default probes run" states
ok "status has all keys" until_ok status_keys
ok "1,000 processes of 3 ms are in the ledger" burst 1000 3 64
ok "identity is exact" until_ok identity
ok "the burst's parent is known" sh -c "'$O/mnoctl' -s '$SOCK' -j proc list --since 5m --limit 100000 |
  jq -e 'any(.[]; .comm == \"burst\" and .argv[1] == \"1000\" and .exit_code == 0)'"
ok "what ran before is known" sh -c "'$O/mnoctl' -s '$SOCK' -j proc list --since 5m --limit 100000 |
  jq -e --argjson me $$ 'any(.[]; .pid == \$me and (.argv | length) > 0 and .exe != \"\")'"

evil=$(printf 'ev\033[2Jil\377')
cp /bin/true "$W/$evil"
"$W/$evil" "$(printf 'a\tb\033')" 2>/dev/null
seen_evil() { ctl -j proc list --since 1m --limit 1000 | jq -e 'any(.[]; .comm | startswith("ev\u001b[2Jil"))'; }
ok "a hostile name is stored" until_ok seen_evil
no_escape() { ! ctl proc list --since 1m | grep "$(printf '\033')" >/dev/null; }
ok "and escaped on output" no_escape

sh -c 'kill -9 $$' 2>/dev/null
sleep 60 &
victim=$!
kill -9 $victim
wait $victim 2>/dev/null
killed() { ctl -j proc list --since 1m --limit 100000 | jq -e --argjson me $$ --argjson v $victim \
  '.[] | select(.pid == $v) | .exit_signal == 9 and .killer.pid == $me'; }
ok "who killed it is known" until_ok killed

ok "metrics pass promtool" sh -c "curl -sf --unix-socket '$SOCK' http://mno/metrics | promtool check metrics"
samples() { ctl -j query 'node_load1' | jq -e '.data.result | length == 1'; }
ok "a query answers" until_ok samples

second() { "$O/mnod" --state "$W/state" --socket "$W/two.sock" --for 1s; [ $? = 7 ]; }
ok "a second agent on the same state is refused (7)" second
second_socket() { "$O/mnod" --no-bpf --state "$W/state2" --socket "$SOCK" --for 1s; [ $? = 7 ]; }
ok "a second agent on the same socket is refused (7)" second_socket

ok "the syscall probe comes for a time" ctl probes enable syscall --for 2s
gone() { ctl -j status | jq -e '.probes[] | select(.name == "syscall") | .state == "off"'; }
ok "and goes by itself" until_ok gone

if ! grep -q 'not pinned' "$W/log"; then
  ok "objects are pinned with names" bpftool map dump pinned /sys/fs/bpf/mno/proc/stats
  ok "no program is left unpinned" test -e /sys/fs/bpf/mno/proc/on_exec
else
  skip "pins" "another agent owns /sys/fs/bpf/mno"
fi
ok "ends cleanly" end_agent TERM
ok "the last word on completeness is said" grep -q 'records seen .* dropped 0$' "$W/log"
grep -q "not pinned" "$W/log" || ok "no pin is left" sh -c "! ls /sys/fs/bpf/mno/proc 2>/dev/null | grep ."

# killed again and again under load: nothing that was committed goes, no repair is needed
kill_loop() {
  local i last=0 t
  for i in 1 2 3 4 5; do
    start_agent || return 1
    "$O/tests/prog/burst" 300 1 8 >/dev/null &
    sleep 1.$((RANDOM % 9))
    t=$(ctl -j status | jq '.store.last_ms')
    end_agent KILL
    wait
    [ "$t" -gt "$last" ] || { echo "round $i: last sample $t, before it $last"; return 1; }
    last=$t
  done
  start_agent || return 1
  ctl -j query 'node_load1[10m]' | jq -e --argjson last "$last" \
    '.data.result[0].values | map(.[0] * 1000) | length >= 5 and (map(select(. == ($last | tonumber))) | length) == 1'
}
ok "kill -9 in a loop: no gap before the last commit" kill_loop
ok "and it still works after it" states
end_agent

# what ends while no agent runs has a row, marked as one whose end was not seen
sleep 300 &
unwatched=$!
start_agent
until_ok identity
end_agent TERM
kill -9 $unwatched
wait $unwatched 2>/dev/null
start_agent
lost() { ctl -j proc list --since 5m --limit 100000 | jq -e --argjson p $unwatched \
  'any(.[]; .pid == $p and .lost_exit and .running == false and .argv == ["sleep", "300"])'; }
ok "what ends while no agent runs is not forgotten" lost
end_agent

for_ends() { timeout 20 "$O/mnod" --state "$W/state" --socket "$SOCK" --for 1s; }
ok "--for ends by itself with 0" for_ends
no_bpf() { start_agent --no-bpf && ctl -j status | jq -e '.store.series > 100 and .level == "L0" or .degraded'; }
ok "--no-bpf keeps the file sources" no_bpf
end_agent

reference() { "$O/mnod" --describe-events | grep '| rss_peak_bytes |' >/dev/null; }
ok "the reference page of records is made from their tables" reference
ok "bad option: did you mean" sh -c "'$O/mnod' --stat x 2>&1 | grep -q 'Did you mean --state' ; '$O/mnod' --stat x 2>/dev/null; [ \$? = 2 ]"
echo '{"retentoin": "14d", "budget_percent": "x"}' >"$W/bad.json"
bad_config() { "$O/mnod" --check-config --config "$W/bad.json" >"$W/cfg" 2>&1; [ $? = 5 ] && grep -q 'Did you mean "retention"' "$W/cfg" && grep -q '/budget_percent' "$W/cfg"; }
ok "bad settings are told all at once (5)" bad_config
unworkable() { # every path of it: all are told, each with its key and what to do; nothing is made
  local k
  head -c 32 /dev/zero >"$W/open.key" && chmod 0644 "$W/open.key" && touch "$W/file"
  printf '{"state": "%s/no/where", "socket": "%s/file", "store_key": "file:%s/open.key", "user": "nobody-here",
    "backup_dir": "%s/file/below", "retentoin": 1}' "$W" "$W" "$W" "$W" >"$W/paths.json"
  "$O/mnod" --check-config --config "$W/paths.json" >"$W/cfg" 2>&1
  [ $? = 5 ] || return 1
  for k in state socket store_key user backup_dir; do
    grep "^/$k: .*What to do: ." "$W/cfg" || { echo "not told: $k"; cat "$W/cfg"; return 1; }
  done
  grep -q 'Did you mean "retention"' "$W/cfg" && [ "$(wc -l <"$W/cfg")" = 6 ] && [ ! -e "$W/no" ] || { cat "$W/cfg"; return 1; }
  printf 'short' >"$W/short.key" && chmod 0600 "$W/short.key"
  "$O/mnod" --check-config --state "$W/new" --socket "$W/new/s" --config /dev/stdin <<<"{\"store_key\":\"file:$W/short.key\"}" >"$W/cfg" 2>&1
  [ $? = 5 ] && grep '5 bytes, not 32' "$W/cfg"
}
ok "--check-config tells all that cannot work at once" unworkable
workable() { "$O/mnod" --check-config --config /dev/stdin --state "$W/fresh" --socket "$W/sock" \
  <<<"{\"backup_dir\":\"$W/bk\"}" && [ ! -e "$W/fresh" ] && [ ! -e "$W/bk" ]; }
ok "and lets pass what can be made, without making it" workable
unwritable() { "$O/mnod" --state /proc/nowhere --socket "$SOCK" --for 1s; r=$?; [ $r = 4 ] || [ $r = 6 ]; }
ok "a state directory that cannot be is refused" unwritable
finish
