#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
# mnoctl against an agent of cardboard that answers from tests/integration/cli and misbehaves on
# demand: every verb, every exit code, hostile answers, terminals and pipes; then the real agent.
# shellcheck source=tests/integration/lib.bash
unset NO_COLOR # the runner sets it; here it is a case of its own
. "$(dirname "$0")/lib.bash"
export LC_ALL=C.UTF-8 TERM=xterm TZ=UTC
unset MNO_SOCKET COLUMNS
for p in mnoctl tests/prog/fake_agent; do [ -x "$O/$p" ] || { echo "$O/$p is not built"; exit 1; }; done
DIR=$W/answers
cp -r tests/integration/cli "$DIR"
FAKE=
fake_up() { # [ROUTES]: (re)starts the cardboard agent
  fake_down
  [ $# = 0 ] || printf '%s\n' "$@" >"$DIR/routes"
  rm -f "$SOCK"
  "$O/tests/prog/fake_agent" "$SOCK" "$DIR" &
  FAKE=$!
  for _ in $(seq 100); do [ -S "$SOCK" ] && return; sleep 0.02; done
}
fake_down() {
  [ -z "$FAKE" ] || { kill "$FAKE" 2>/dev/null; wait "$FAKE" 2>/dev/null; }
  FAKE=
}
trap 'fake_down; end_agent; rm -rf "$W"' EXIT

# run EXIT ARGS...: the exit status is EXIT, and nothing printed could move a terminal's cursor
run() {
  local want=$1 r
  shift
  timeout 20 "$O/mnoctl" -s "$SOCK" "$@" >"$W/stdout" 2>"$W/stderr" </dev/null
  r=$?
  cat "$W/stdout" "$W/stderr"
  [ "$r" = "$want" ] || { echo "exit status $r, expected $want"; return 1; }
  if LC_ALL=C grep -nP '[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\x8b-\x8f\xa8-\xae]' \
    "$W/stdout" "$W/stderr"; then
    echo "control characters in the output"
    return 1
  fi
}
# says EXIT TEXT ARGS...
says() {
  local want=$1 text=$2
  shift 2
  run "$want" "$@" && { grep -qF -- "$text" "$W/stdout" "$W/stderr" || { echo "no: $text"; return 1; }; }
}
# json EXIT FILTER ARGS...: one or more documents, for each of which the jq filter holds
json() {
  local want=$1 filter=$2
  shift 2
  run "$want" -j "$@" && [ ! -s "$W/stderr" ] && jq -es "length > 0 and all($filter)" "$W/stdout" >/dev/null
}
asked() { # TEXT: the last request contains it
  tail -n 1 "$DIR/requests" | grep -F -- "$1" >/dev/null || { tail -n 2 "$DIR/requests"; return 1; }
}
tty_says() { # TEXT ARGS...
  local text=$1
  shift
  tty_run 100 '' "$@"
  grep -qF -- "$text" "$W/tty"
}
# tty COLUMNS KEYS ARGS...: on a terminal of that width, with keys pressed one after the other
tty_run() {
  local columns=$1 keys=$2
  shift 2
  { for ((i = 0; i < ${#keys}; i++)); do sleep 0.4; printf '%s' "${keys:i:1}"; done; sleep 0.4; } |
    timeout 20 script -qec "stty cols $columns rows 24; $O/mnoctl -s $SOCK $*" /dev/null >"$W/tty"
  local r=$?
  cat -v "$W/tty"
  return $r
}
plain_tty() { sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g' "$W/tty" | tr -d '\r'; }
fits() { # COLUMNS: no line of the terminal is longer
  local line bad=0
  while IFS= read -r line; do
    if ((${#line} > $1)); then echo "too long: $line"; bad=1; fi
  done < <(plain_tty)
  return $bad
}

fake_up
ok "status" says 0 'web-3  mno 0.1.0  up 4 h 12 min  enforcement L2' status
ok "status counts probes" says 0 '2/3 probes running   1 degraded: block' status
ok "status never rounds a loss away" says 0 'complete   99.99 %   seen 18,204,113 = stored 18,204,110 + sampled out 0 + dropped 3' status
ok "status tells the share of BPF" says 0 'of one core, BPF 0.51 % of it (budget 1.0 %)' status
ok "status sets the cache of the store apart" says 0 'memory 20.0 MiB + 6.2 MiB BPF (budget 64 MiB) + file cache 11.4 MiB' status
ok "status -j" json 0 '.completeness.seen == 18204113 and (.probes | length) == 4' status
ok "doctor" says 0 '! warning  kernel.task_delayacct is 0' doctor
ok "doctor names a level's reason" says 0 'lsm= lacks bpf' doctor
ok "doctor -j" json 0 '.host.btf and (.findings | length) == 2' doctor
ok "probes" says 0 'system calls by cgroup' probes
ok "probes list -j" json 0 '.probes | length == 3' probes list
ok "probes enable" says 0 'syscall is running by raw_tp, ends by itself in' probes enable syscall --for 60s
ok "probes enable asks for the time" asked 'POST /mno/v1/probes/syscall/enable?for=60s'
ok "probes enable -j" json 0 '.state == "running"' probes enable syscall
ok "probes disable" says 0 'tcp is off' probes disable tcp
: >"$DIR/requests"
ok "dry run" says 0 'would load and attach syscall (system calls by cgroup) for 60s' probes enable syscall --for 60s --dry-run
ok "dry run of what is so already" says 0 'nothing would change' probes enable proc --dry-run
ok "dry run -j" json 0 '.dry_run and .would_change and .action == "disable"' probes disable tcp --dry-run
ok "dry runs change nothing" bash -c "! grep POST '$DIR/requests'"
ok "enabled already" says 1 'proc is enabled already' probes enable proc
ok "probe refused by the kernel" says 1 'the verifier refused the program' probes enable tcp
ok "probe misspelt" says 1 'no probe "syscal". Did you mean "syscall"?' probes enable syscal
ok "proc list by a user's name" says 0 'nobody' proc list --comm nobody --uid root
ok "proc list by a user's name asks for the number" asked 'uid=0'
ok "proc list, no such user" says 5 'neither a user of this host nor a number' proc list --uid no-such-user
ok "proc list" says 0 "convert 'in file.png' out.webp" proc list
ok "proc list asks for ten minutes" asked '/mno/v1/proc?since=10m'
ok "proc list with filters" says 0 'nobody' proc list --since 1h --comm nobody --uid 0 --running
ok "proc list passes them on" asked '/mno/v1/proc?since=1h&comm=nobody&uid=0&running=1'
ok "proc list, nothing found" says 0 'no process found: looked at those alive since 10m, comm nobody' proc list --comm nobody
ok "proc list, cut" says 0 'there are more' proc list -n 3
ok "proc list -j" json 0 'type == "array" and length == 3 and .[0].pid == 48122' proc list
ok "proc list, bad value" says 5 'since: not a time' proc list --comm bad
ok "proc show" says 0 '48122 /usr/bin/convert   ended' proc show 48122
ok "proc show, chain" says 0 '48119 work\x1b[31mer\xe2\x80\xae ← 812 nginx ← 1 (not in the ledger)' proc show 48122
ok "proc show, end" says 0 'SIGKILL (out of memory) from the kernel' proc show 48122
ok "proc show, killer" says 0 'SIGKILL sent by 99 killall' proc show 99
ok "proc show, what next" says 0 'mnoctl proc show 99        mnoctl events --pid 48122 --since' proc show 99
ok "proc show, running" says 0 'running, started' proc show 812
ok "proc show -j" json 0 '.processes[0].pid == 48122' proc show 48122
ok "proc show, unknown" says 1 'no process 4242' proc show 4242
ok "proc show, unknown -j" json 1 '.error.code == "no" and (.error.message | contains("4242"))' proc show 4242
ok "proc show, not a number" says 5 'is not a PID' proc show nginx
ok "proc tree" says 0 '   └─ 48122 convert' proc tree
ok "proc tree PID" says 0 '└─ 48122 convert' proc tree 48119
ok "proc tree, unknown" says 1 'no running process 4242' proc tree 4242
ok "proc tree -j" json 0 '.processes | length == 3' proc tree
ok "events" says 0 'argv=convert a\x1b]0;x\x07' events
ok "events in units" says 0 'duration=2.6 s  rss_peak=255 MiB  life=2.0 s' events
ok "events -j" json 0 '.events | length == 2' events
ok "events, none" says 0 'no events: looked at signal since 1h' events --kind signal --since 1h
ok "events, kind misspelt" says 5 'unknown kind of event "exce". Did you mean "exec"?' events --kind exce
ok "events of a process" says 0 'no events: looked at signal about process 7 since 1h' events --pid 7 --kind signal --since 1h
ok "events of a process asks for it" asked 'pid=7&kind=signal'
ok "events --follow of a process" says 0 '1 event in' events --follow --pid 1 -n 1
ok "events --follow of another" says 3 'the agent ended the stream' events --follow --pid 2
ok "events --follow of another shows none" bash -c "! grep -qE 'exec|exit' '$W/stdout'"
ok "events, kind unlike any" says 5 'it is one of: fork exec exit' events --kind zzzzzz
ok "events, numbers with names" says 0 'exit_signal=SIGKILL  life=2.0 s' events --since 2m
ok "events, times of day" says 0 'target_start=2023-11-14 22:13:20.700' events --since 2m
ok "events, zeros that say nothing" bash -c "! grep -E 'error=|code=0|file=|exit_signal=0' '$W/stdout'"
ok "events in order of time" bash -c "head -n 1 '$W/stdout' | grep -q first"
ok "events, sampled out" says 0 'complete 100 %, sampled out 7, on the way to the store 5 · 5 events since 2m' events --since 2m
ok "events --follow to the agent's end" says 3 'the agent ended the stream' events --follow --kind exec --kind exit
ok "events --follow asks for the kinds" asked 'GET /mno/v1/events?follow=1&kind=exec&kind=exit'
ok "events --follow counts the lost" says 0 '12 events lost' events --follow -n 2
ok "events --follow -j" json 0 '.kind == "exec" or (.kind == "lost" and .lost == 12) or .kind == "exit"' events --follow -n 2
ok "top" says 0 'system.slice/backup 5.4 %' top
ok "top says how to fill a column" says 0 'To do: mnoctl probes enable syscall --for 60s' top
ok "top by process" says 0 'conv\x1b[2Jert' top --by process
ok "top sorts" bash -c "'$O/mnoctl' -s '$SOCK' top --by process --sort read | sed -n 2p | grep -q tar"
ok "top, so many times" bash -c "[ \$('$O/mnoctl' -s '$SOCK' top -n 3 -i 100ms | grep -c '^cgroup ') = 3 ]"
ok "top waits as long as it asked the agent to" asked 'GET /mno/v1/top?interval=100ms'
ok "top -j" json 0 '.processes | length == 2' top -n 2 -i 100ms
ok "top, a column of the other table" says 5 'has no column "read"' top --sort read
ok "query" says 0 '1700000000.250 1048576 node_memory_MemFree_bytes' query node_memory_MemFree_bytes
ok "query --since" says 0 '1700000003.000 NaN node_cpu_seconds_total{mode="user",cpu="0"}' query x --since 1h --step 30s
ok "query passes the step on" asked '&step=30.000'
ok "query -j" json 0 '.data.resultType == "matrix"' query x --since 1h
ok "query, quotes in labels" says 0 '{path="a\"b\\c"}' query quoted
ok "query, a native histogram" says 0 '1700000000.250 {"count":"12","sum":"18","buckets":[[0,"0.5","1","2"],[0,"1","2","10"]]} lat_seconds{i="a"}' query lat_seconds
ok "query, what the agent warns of" says 0 'warning: 3 stored columns are damaged' query lat_seconds
ok "query --since, floats and native histograms" says 0 '1700000002.000 {"count":"13","sum":"19.5"} lat_seconds{i="a"}' query lat_seconds --since 1h
ok "query --since, floats beside them" says 0 '1700000000.000 7 lat_seconds{i="a"}' query lat_seconds --since 1h
ok "query, a number" says 0 '42' query 42
ok "query, nothing found" says 0 'node_laod1 is not stored. Did you mean "node_load1"?' query node_laod1
ok "query, bad expression" says 5 'parse error: unexpected ")"' query 'sum)'
ok "query, bad expression -j" json 5 '.error.code == "invalid" and (.error.message | contains("parse error"))' query 'sum)'
ok "query, agent fails" says 6 'it broke' query broken
ok "query, too many samples" says 5 'the limit is 11000' query x --since 30d --step 1s
ok "query --step alone" says 2 'goes with --since' query x --step 1s
ok "version" says 0 'mnod   0.1.0' version
ok "version -j" json 0 '.version == "0.1.0" and .agent == "0.1.0"' version
ok "--version" says 0 'mno 0.1.0' --version
ok "help" says 0 'usage: mnoctl [-s SOCKET] [-j] VERB' help
ok "-h of a verb" says 0 'mnoctl proc show 48122' proc -h
ok "help -j" json 0 '.verbs | length >= 10' help
ok "help, verb misspelt" says 2 'Did you mean "status"?' help statsu
ok "no verb" says 2 'which verb?'
ok "unknown verb" says 2 'mnoctl: unknown verb "statsu". Did you mean "status"?' statsu
ok "unknown verb -j" json 2 '.error.code == "usage" and (.error.message | contains("status"))' statsu
ok "unknown option" says 2 'Did you mean "--follow"?' events --folow
ok "bad value" says 5 '--for "60x" is not a duration' probes enable syscall --for 60x
ok "control characters in arguments" says 2 'unknown verb "\x1b[31mred"' $'\e[31mred'
ok "answer cannot be written" bash -c "'$O/mnoctl' -s '$SOCK' status >/dev/full 2>'$W/e'; [ \$? = 6 ] && grep -q 'cannot write' '$W/e'"
ok "completion has no options to list" bash -c "! '$O/mnoctl' completion -h | grep -qE '^options$|OPTIONS'"
ok "names of metrics" bash -c "'$O/mnoctl' -s '$SOCK' completion --names metrics | grep -qx node_load1"
ok "names for completion" bash -c "'$O/mnoctl' -s '$SOCK' completion --names kinds | grep -qx tcp_close"

# ---- unhealthy, refused, gone ----
fake_up 'GET /mno/v1/status 200 length status-ill.json' 'GET /mno/v1/doctor 200 length doctor-error.json' \
  '* * 403 length forbidden.json'
ok "status, unhealthy" says 1 'No space left on device; lost 77 rows' status
ok "status, unhealthy -j" json 1 '.store.last_error != ""' status
ok "doctor with an error" says 1 '! error' doctor
ok "doctor with an error -j" json 1 '.findings | length == 2' doctor
ok "refused" says 4 'only root and members of the group mno may ask' probes
ok "refused, with what to do" says 4 'usermod -aG mno YOU' top
ok "refused -j" json 4 '.error.code == "refused" and .error.hint != null' events
ok "refused stream" says 4 'only root' events --follow
fake_down
ok "nobody listens" says 3 'nobody listens at' status
rm -f "$SOCK"
ok "no socket" says 3 "no agent at $SOCK" status
ok "no socket, nothing to count" bash -c "! '$O/mnoctl' -s '$SOCK' events --follow 2>/dev/null | grep ."
ok "no socket, with what to do" says 3 'systemctl start mnod' top
ok "no socket -j" json 3 '.error.code == "unreachable" and .error.hint != null' status
ok "version without agent" says 0 'does not answer' version
ok "names without agent" run 3 completion --names probes
ok "names without agent are silent" bash -c "[ ! -s '$W/stdout' ] && [ ! -s '$W/stderr' ]"
ok "not a socket" bash -c "'$O/mnoctl' -s '$DIR/routes' status 2>'$W/e'; [ \$? = 3 ] && grep -q 'not a socket' '$W/e'"
ok "socket path too long" bash -c "'$O/mnoctl' -s '/$(printf 'x%.0s' {1..200})' status 2>/dev/null; [ \$? = 5 ]"
ok "MNO_SOCKET" bash -c "MNO_SOCKET=/nonexistent/m.sock '$O/mnoctl' status 2>&1 | grep -q 'no agent at /nonexistent/m.sock'"
if [ "$(id -u)" = 0 ] && id nobody >/dev/null 2>&1; then
  fake_up
  chmod 755 "$W" && chmod 600 "$SOCK"
  cp "$O/mnoctl" "$W/mnoctl"
  ok "socket not permitted" bash -c "setpriv --reuid nobody --clear-groups '$W/mnoctl' -s '$SOCK' status 2>'$W/e'; [ \$? = 4 ] && grep -q 'group mno' '$W/e'"
else
  skip "socket not permitted" "needs root and the user nobody"
fi

# ---- answers that are wrong: MODE EXIT TEXT FILE ----
while read -r mode want file text; do
  fake_up "* * 200 $mode $file"
  ok "agent: $mode $file" says "$want" "$text" probes
  ok "agent: $mode $file -j" json "$want" '.error.message != ""' probes
done <<'EOF'
close 3 status.json closed without an answer
head-cut 3 status.json closed without an answer
length-long 3 probes.json broke off in the middle
chunked-cut 3 probes.json broke off in the middle
length-short 6 probes.json not an answer of the agent
garbage 6 probes.json not an answer of the agent
endless 6 probes.json has no end
endless-body 6 probes.json has no end
length 6 nonsense.json not an answer of the agent
length 6 half.json not an answer of the agent
length 6 deep.json not an answer of the agent
EOF
fake_up '* * 200 hang status.json'
t0=$SECONDS
ok "agent hangs" says 3 'no answer in time' status
ok "agent hangs: given up after 10 s" test $((SECONDS - t0)) -le 13
fake_up 'GET /mno/v1/events 200 stream broken.sse'
ok "event that is not JSON" says 6 'not JSON' events --follow
fake_up 'GET /mno/v1/events 200 length status.json'
ok "stream that is none" says 6 'not an answer' events --follow
# an answer without anything in it, and one of other types, must not crash any verb
echo '{}' >"$DIR/o.json"
echo '[1,null,"x"]' >"$DIR/a.json"
echo '{"probes":7,"processes":[null,3,{"pid":"x","argv":[null,{}],"killer":5}],"completeness":[],"events":[null,{"kind":4}],"cgroups":{"a":1},"host":[],"findings":[null],"data":{"result":[null,{"metric":[],"value":{}}],"resultType":"vector"}}' >"$DIR/w.json"
for f in o a w; do
  fake_up "* * 200 length $f.json"
  for v in status doctor probes top 'top --by process' 'proc list' 'proc show 5' 'proc tree' events 'query x' 'query x --since 1h' version; do
    # shellcheck disable=SC2086
    ok "odd answer $f: $v" bash -c "'$O/mnoctl' -s '$SOCK' $v >/dev/null 2>&1; r=\$?; [ \$r -le 6 ]"
  done
done

# ---- answers in which one member is of another type ----
mutants() { # FILE EVERY: each member replaced, one document a line; every so many of them
  jq -c '. as $d | paths as $p | (null, -1, 1e300, "x\u001b[31m\u009b", [], {}) as $v | $d | setpath($p; $v)' \
    "tests/integration/cli/$1" | awk -v n="$2" 'NR % n == 0'
}
survives() { # FILE EVERY ARGS...
  local file=$1 every=$2 n=0 r
  shift 2
  : >"$W/all"
  while IFS= read -r line; do
    printf '%s' "$line" >"$DIR/m.json"
    n=$((n + 1))
    timeout 10 "$O/mnoctl" -s "$SOCK" "$@" >>"$W/all" 2>&1 </dev/null
    r=$?
    [ $r -le 6 ] || { echo "exit status $r for $line"; return 1; }
  done < <(mutants "$file" "$every")
  echo "$n answers"
  [ $n -ge 10 ] && ! LC_ALL=C grep -aP '[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]' "$W/all"
}
fake_up '* * 200 length m.json'
ok "mutants: status" survives status.json 7 status
ok "mutants: probes" survives probes.json 5 probes
ok "mutants: doctor" survives doctor.json 5 doctor
ok "mutants: top" survives top.json 5 top
ok "mutants: top by process" survives top.json 7 top --by process
ok "mutants: proc list" survives proc.json 7 proc list
ok "mutants: proc show" survives proc-killed.json 3 proc show 48122
ok "mutants: proc tree" survives proc.json 7 proc tree
ok "mutants: events" survives events.json 3 events
ok "mutants: query" survives vector.json 1 query x
ok "mutants: query, native histograms" survives hist.json 2 query x
ok "mutants: query --since" survives matrix.json 2 query x --since 1h

# ---- interrupted ----
fake_up 'GET /mno/v1/events 200 stream-hang events.sse' "$(cat tests/integration/cli/routes)"
interrupt() {
  "$O/mnoctl" -s "$SOCK" events --follow >"$W/follow" &
  local p=$!
  until_ok grep -q exit "$W/follow"
  kill -TERM $p
  wait $p && grep -q '2 events in' "$W/follow"
}
ok "events --follow ends cleanly" interrupt

# ---- terminals ----
if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
  for n in 60 80 140; do
    for v in status probes "proc list" "proc show 48122" "query x --since 1h" doctor events; do
      [ "$v" = events ] && continue # one line an event, however long
      ok "terminal of $n columns: $v" tty_run $n '' "$v"
      ok "terminal of $n columns: $v fits" fits $n
    done
  done
  ok "colours on a terminal" bash -c "grep -q $'\e\\[1m' '$W/tty'"
  ok "histogram on a terminal" tty_says '13 values, mean 1.5 s' query lat_seconds --since 1h
  ok "chart on a terminal" tty_run 100 '' query x --since 1h
  ok "chart is drawn" grep -q '▁' "$W/tty"
  ok "--no-color" tty_run 100 '' --no-color status
  ok "--no-color has none" bash -c "! grep -q $'\e' '$W/tty'"
  NO_COLOR=1 ok "NO_COLOR" tty_run 100 '' status
  ok "NO_COLOR has none" bash -c "! grep -q $'\e' '$W/tty'"
  ok "ASCII terminal" env LC_ALL=C bash -c "script -qec 'stty cols 100; $O/mnoctl -s $SOCK query x --since 1h' /dev/null </dev/null >'$W/tty'; ! LC_ALL=C grep -P '[\x80-\xff]' '$W/tty'"
  ok "top live, keys p s c q" tty_run 100 pscq top
  ok "top live: alternate screen and back" bash -c "grep -q $'\e\\[?1049h' '$W/tty' && grep -q $'\e\\[?1049l' '$W/tty'"
  ok "top live: both tables" bash -c "grep -q 'who made it wait' '$W/tty' && grep -q 'by wait' '$W/tty' && grep -q memory '$W/tty'"
  ok "top live, so many times" tty_run 100 '' top -n 2
  fake_up "* * 200 close status.json"
  ok "top live, agent gone" bash -c "script -qec '$O/mnoctl -s $SOCK top' /dev/null </dev/null >'$W/tty'; [ \$? = 3 ] && tail -n 3 '$W/tty' | grep -q 'closed without'"
else
  skip "terminals" "script(1) cannot open a pseudo terminal here"
fi

# ---- generated pages ----
fake_up "$(cat tests/integration/cli/routes)"
"$O/mnoctl" completion bash >"$W/c.bash"
"$O/mnoctl" completion zsh >"$W/_mnoctl"
"$O/mnoctl" help --man >"$W/mnoctl.1"
complete_bash() { # WORDS...: what is offered for the last one
  env -i PATH="$PWD/$O:$PATH" MNO_SOCKET="$SOCK" bash -c '. "$1"; shift; COMP_WORDS=(mnoctl "$@"); COMP_CWORD=$#
    _mnoctl; printf "%s\n" "${COMPREPLY[@]}"' _ "$W/c.bash" "$@"
}
offers() { # WORD WORDS...
  local want=$1
  shift
  complete_bash "$@" | tee /dev/stderr | grep -x -- "$want" >/dev/null
}
ok "bash: script loads" bash -nu "$W/c.bash"
ok "bash: verbs" offers status st
ok "bash: options of a verb" offers --follow events --f
ok "bash: words" offers enable probes en
ok "bash: probe names" offers syscall probes enable sy
ok "bash: metrics" offers node_cpu_seconds_total query node_c
ok "bash: event kinds" offers tcp_close events --kind tc
ok "bash: values" offers process top --by p
ok "bash: options with -s before" offers --dry-run -s "$SOCK" probes --d
if command -v zsh >/dev/null; then
  ok "zsh: script loads" zsh -n "$W/_mnoctl"
  ok "zsh: completion system takes it" zsh -fc "fpath=('$W' \$fpath); autoload -Uz compinit; compinit -u -d '$W/zd'; [[ \$_comps[mnoctl] == _mnoctl ]]"
else
  skip "zsh completion" "zsh is not installed"
fi
if command -v groff >/dev/null; then
  ok "man page without warnings" bash -c "groff -ww -man -Tutf8 -P-cbou '$W/mnoctl.1' 2>&1 >'$W/page' | grep . && exit 1; grep -q 'EXIT STATUS' '$W/page' && grep -q 'proc show 48122' '$W/page' && ! grep -q '[?]\\.' '$W/page'"
else
  skip "man page" "groff is not installed"
fi
if command -v man >/dev/null; then
  ok "man -l" bash -c "man --warnings -l '$W/mnoctl.1' 2>'$W/e' | grep -q EXAMPLES && [ ! -s '$W/e' ]"
else
  skip "man -l" "man is not installed"
fi
fake_down
rm -f "$SOCK"

# ---- the real one ----
if [ ! -x "$O/mnod" ]; then
  skip "real agent" "$O/mnod is not built"
elif ! { { [ "$(id -u)" = 0 ] && start_agent; } || { end_agent; start_agent --no-bpf; }; }; then
  ok "real agent starts" false
else
  ok "real: status -j has the fixed keys" json 0 'has("version") and has("uptime_seconds") and has("probes") and has("completeness") and has("memory") and has("cpu_percent") and has("store") and has("level")' status
  for v in status probes 'proc list' 'proc tree' events 'top' version; do
    # shellcheck disable=SC2086
    ok "real: $v" run 0 $v
    # shellcheck disable=SC2086
    [ "$v" = events ] || ok "real: $v -j" json 0 '. != null' $v
  done
  ok "real: doctor" bash -c "'$O/mnoctl' -s '$SOCK' -j doctor | jq -e .host.kernel"
  ok "real: query" until_ok bash -c "'$O/mnoctl' -s '$SOCK' query node_load1 | grep -q node_load1"
  ok "real: bad expression" run 5 query 'sum)('
  ok "real: probe misspelt" says 1 'no probe "syscal"' probes enable syscal
  ok "real: kind misspelt" says 5 'id you mean' events --kind exce
  ok "real: proc show" says 0 "$$ " proc show $$
  [ "$(id -u)" != 0 ] || ok "real: events --follow" timeout 20 bash -c "'$O/mnoctl' -s '$SOCK' -j events --follow -n 1 >'$W/e' & sleep 1; '$O/mnoctl' --version; wait \$! && jq -e .kind '$W/e'"
  end_agent
fi
finish
