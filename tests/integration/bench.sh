#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The runner of the benchmarks and the gate of instruction counts, on made-up benchmarks.
# timeout: 60
. "$(dirname "$0")/lib.bash"
dataset=$O/bench/dataset cpu=$O/tests/prog/cpu
mkdir -p "$W/tests/bench" "$W/b/bench" "$W/bin"
cp tests/bench/run.sh tests/bench/instructions.sh "$W/tests/bench/"
fake() { # FILE SCRIPT
  printf '#!/bin/bash\n%s\n' "$2" >"$1"
  chmod +x "$1"
}
fake "$W/b/bench/series" 'echo "bench one 1 B"'
fake "$W/b/bench/series_zz" 'echo "bench two 2 B"'
fake "$W/b/bench/series_other" 'echo "bench six 6 B"'
fake "$W/b/bench/serieslike" 'echo "bench three 3 B"'
fake "$W/b/bench/dataset" 'echo "bench four 4 B"'
# shellcheck disable=SC2016
fake "$W/tests/bench/series_peers.sh" 'grep -c "^bench" "$BENCH_LOG"'
fake "$W/b/bench/broken" 'echo "bench five 5 B"; exit 3'
fake "$W/b/bench/absent" 'echo "skipped: no such thing"; exit 77'
run() { "$W/tests/bench/run.sh" "$W/b" "$@"; }
is() { # WANT COMMAND...: its output, lines joined by blanks
  local want=$1 got
  shift
  got=$("$@" 2>/dev/null | paste -sd' ')
  [ "$got" = "$want" ] || { echo "got:  $got"; echo "want: $want"; false; }
}
status_is() { # STATUS COMMAND...
  local want=$1 r=0
  shift
  "$@" >/dev/null 2>&1 || r=$?
  [ $r = "$want" ] || { echo "exit status $r, not $want"; false; }
}
ok "a group is its program and all with its name in front, rivals last" is \
  "== series bench one 1 B == series_other bench six 6 B == series_zz bench two 2 B == series_peers 3" run series
ok "one of a group runs alone" is "== series_zz bench two 2 B" run series_zz
ok "what failed to measure is told" status_is 1 run broken
ok "what cannot run here is no failure" status_is 0 run absent
ok "no such group" status_is 2 run nonsense
ok "the input of rivals is no benchmark" status_is 2 run dataset

# --- the gate: a valgrind that counts what $W/n says ------------------------------------------
# shellcheck disable=SC2016
fake "$W/b/bench/instructions" '[ $# = 0 ] && echo work; exit 0'
fake "$W/bin/valgrind" "for n; do :; done; [ \$n = 0 ] && echo '==1== I   refs:      1,000' >&2 || echo \"==1== I   refs:      \$(cat $W/n)\" >&2"
gate() { PATH=$W/bin:$PATH "$W/tests/bench/instructions.sh" "$W/b"; }
update() { UPDATE=1 gate; }
echo "101,000" >"$W/n"
ok "without a table nothing is compared" is "1" eval 'gate | grep -c "^skip work"'
ok "a table is made" update
ok "it holds what the work took more than its set-up" grep -qx "work 100000" "$W/tests/bench/instructions.table"
echo "103,900" >"$W/n"
ok "2.9 % more pass" gate
echo "104,100" >"$W/n"
ok "3.1 % more fail" status_is 1 gate
echo "90,000" >"$W/n"
ok "less passes" gate
ok "and asks to keep the gain" is "1" eval 'gate | grep -c "keeps the gain"'
echo "1,000" >"$W/n"
ok "a work that does nothing fails" status_is 1 gate
sed -i 's/^machine .*/&x/' "$W/tests/bench/instructions.table"
ok "or is a skip where the table is another's" is "0 passed, 0 failed, 1 skipped" eval 'gate | tail -n 1'
sed -i 's/^\(machine .*\)x$/\1/' "$W/tests/bench/instructions.table"
echo "101,000" >"$W/n"
sed -i '/^work/d' "$W/tests/bench/instructions.table"
ok "a work without a row fails" status_is 1 gate
sed -i 's/^machine .*/machine other/' "$W/tests/bench/instructions.table"
ok "another machine's table is not compared with" is "0 passed, 0 failed, 1 skipped" eval 'gate | tail -n 1'

# --- tools -----------------------------------------------------------------------------------
# a recording of two series and three ticks
printf 'S a_total{x="q\\"{}"}\n1000,1\n1000,2.5\n1000,3\nS b\n2000,-7\n' | zstd -q >"$W/data.zst" || skip zstd "not installed"
if [ -s "$W/data.zst" ]; then
  export BENCH_DATA=$W/data.zst
  ok "the recording as OpenMetrics" is \
    'a_total{x="q\"{}"} 1 1.000 a_total{x="q\"{}"} 2.5 2.000 a_total{x="q\"{}"} 3 3.000 b -7 2.000 # EOF' "$dataset" openmetrics
  ok "as JSON lines of two copies" is \
    'a_total/h0/q"{} 3 a_total/h1/q"{} 3 b/h0/ 1 b/h1/ 1' \
    eval "$dataset json 2 | jq -r '[.metric.__name__, .metric.host, .metric.x // \"\"] as \$k | \"\(\$k | join(\"/\")) \(.values | length)\"'"
  ok "values stand beside their times" is '[[1,2.5,3],[1000,2000,3000]]' eval "$dataset json | head -n 1 | jq -c '[.values, .timestamps]'"
  export BENCH_DATA=$W/none
  ok "no recording is a skip" status_is 77 "$dataset" json
fi
ok "CPU time of a command" "$cpu" "$W/used" sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done'
ok "is more than nothing" awk '{ exit !($1 > 5 && $1 < 20000 && $2 > 100) }' "$W/used"
ok "its exit status is the command's" status_is 9 "$cpu" "$W/used" sh -c 'exit 9'
finish
