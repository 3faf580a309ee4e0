#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Metrics of others into a running agent: every format, damaged ones, any order, killed in between;
# what was taken is there once, and what was not is told.
# timeout: 240
. "$(dirname "$0")/lib.bash"
need_root

# gen FORMAT NAME SERIES TICKS [reverse]: NAME{i="k"} = tick * 10 + k, a second apart, from $T0 on
cat >"$W/gen.py" <<'PY'
import struct, sys
form, name, series, ticks, t0 = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
order = list(range(ticks))
if len(sys.argv) > 6:
    order.reverse()
out = sys.stdout.buffer

def varint(v):
    b = b""
    while v >= 0x80:
        b += bytes([v & 0x7F | 0x80])
        v >>= 7
    return b + bytes([v])
def field(no, b): return varint(no << 3 | 2) + varint(len(b)) + b
def label(n, v): return field(1, field(1, n.encode()) + field(2, v.encode()))
def snappy(b):  # literals only
    z = varint(len(b))
    for i in range(0, len(b), 60):
        z += bytes([(len(b[i:i + 60]) - 1) << 2]) + b[i:i + 60]
    return z

text = {"openmetrics": lambda t: "%d.000" % t, "prometheus-text": lambda t: "%d" % (t * 1000)}
if form in text:
    out.write(b"# TYPE %s gauge\n" % name.encode())
    for n in order:
        out.write("".join('%s{i="%d"} %d %s\n' % (name, k, n * 10 + k, text[form](t0 + n))
                          for k in range(series)).encode())
    if form == "openmetrics":
        out.write(b"# EOF\n")
elif form == "csv-long":
    out.write(b"series,time,value\n")
    for k in range(series):
        for n in order:
            out.write(b'"%s{i=""%d""}",%d,%d\n' % (name.encode(), k, t0 + n, n * 10 + k))
elif form == "csv-wide":
    out.write(("time," + ",".join('"%s{i=""%d""}"' % (name, k) for k in range(series)) + "\n").encode())
    for n in order:
        out.write(("%d," % (t0 + n) + ",".join(str(n * 10 + k) for k in range(series)) + "\n").encode())
elif form == "remote-write":
    for at in range(0, ticks, 50):
        req = b""
        for k in range(series):
            ts = label("__name__", name) + label("i", str(k))
            for n in order[at:at + 50]:
                ts += field(2, b"\x09" + struct.pack("<d", n * 10 + k) + b"\x10" + varint((t0 + n) * 1000))
            req += field(1, ts)
        z = snappy(req)
        out.write(varint(len(z)) + z)
PY
T0=$(($(date +%s) - 7200))
gen() { local f=$1 n=$2 s=$3 t=$4; shift 4; python3 "$W/gen.py" "$f" "$n" "$s" "$t" "$T0" "$@"; }
# the values of NAME{i="K"} over TICKS seconds, as an instant query of a range gives them
values() { # NAME K TICKS
  curl -sf --unix-socket "$SOCK" -G http://mno/api/v1/query --data-urlencode "query=$1{i=\"$2\"}[${3}s]" \
    --data-urlencode "time=$((T0 + $3 - 1))" | jq -c '[.data.result[].values[]]'
}
# all of NAME's TICKS for some of its SERIES: each once, in order, with its value
there() { # NAME SERIES TICKS
  local k
  for k in 0 $(($2 / 2)) $(($2 - 1)); do
    values "$1" "$k" "$3" | jq -e --argjson t0 "$T0" --argjson n "$3" --argjson k "$k" \
      '. == [range($n) | [$t0 + ., (. * 10 + $k | tostring)]]' >/dev/null ||
      { echo "$1{i=\"$k\"}:"; values "$1" "$k" "$3" | head -c 600; return 1; }
  done
}
taken() { # N: exactly so many accepted, none refused
  jq -e --argjson n "$1" '.accepted == $n and .refused_total == 0' "$W/answer"
}

ok "starts" start_agent --no-bpf
for form in openmetrics prometheus-text csv-long csv-wide remote-write; do
  metric=${form//-/_}
  of=$form
  case $form in csv-*) of=csv ;; esac
  gen "$form" "$metric" 7 300 >"$W/$metric"
  whole() { ctl -j import --format "$of" "$W/$metric" >"$W/answer" && taken 2100; }
  ok "$form: all is taken" whole
  ok "$form: and there" there "$metric" 7 300
  again() { ctl -j import - <"$W/$metric" >"$W/answer" && jq -e '.guessed' "$W/answer" && taken 2100; }
  ok "$form: again, from a pipe, without a name" again
  ok "$form: and there once" there "$metric" 7 300
done

backwards() { gen prometheus-text backwards 5 400 reverse | ctl -j import - >"$W/answer" && taken 2000; }
ok "times may go backwards" backwards
ok "and are in order" there backwards 5 400

range() {
  curl -sf --unix-socket "$SOCK" -G http://mno/api/v1/query_range --data-urlencode 'query=openmetrics{i="3"}' \
    -d "start=$T0" -d "end=$((T0 + 299))" -d step=1 |
    jq -e --argjson t0 "$T0" '.data.result[0].values == [range(300) | [$t0 + ., (. * 10 + 3 | tostring)]]'
}
ok "a range query tells the same" range

told() {
  { echo "fine 1 ${T0}000"; echo "broken"; echo "bad{x=\"\\q\"} 1 ${T0}000"; echo "nan x ${T0}000"
    echo "old 1 1000"; echo "new 1 $((T0 + 86400))000"; printf 'utf{x="\377"} 1 %s000\n' "$T0"; } >"$W/mixed.prom"
  ctl import "$W/mixed.prom" >"$W/told" || return 1
  for w in '1 sample of' bad_syntax bad_value too_old too_new bad_utf8 'line 2: broken' 'taken for prometheus-text'; do
    grep -qF "$w" "$W/told" || { echo "not told: $w"; cat "$W/told"; return 1; }
  done
}
ok "what is refused is told, with examples" told
all_bad() { echo "nonsense" | ctl import --format csv -; [ $? = 5 ]; }
ok "exit status 5 when all is refused" all_bad
unknown() { echo "<html>" | ctl import -; [ $? = 5 ]; }
ok "exit status 5 when it cannot be told what it is" unknown
no_file() { ctl import "$W/none"; [ $? = 5 ]; }
ok "exit status 5 without the file" no_file
no_format() { ctl import --format yaml "$W/mixed.prom"; [ $? = 5 ]; }
ok "a format that there is not" no_format
cut() { # the file ends in the middle of a message: what came before it is stored
  head -c $(($(stat -c %s "$W/remote_write") - 9)) "$W/remote_write" >"$W/cut"
  ctl -j import --format remote-write "$W/cut" | jq -e '.accepted == 1750 and .refused.cut_off == 1'
}
ok "a message that is cut off" cut
no_end() {
  head -n 100 "$W/openmetrics" | ctl -j import --format openmetrics - | jq -e '.end_missing and .accepted == 99'
}
ok "OpenMetrics without its end is told" no_end
random_bytes() {
  for f in openmetrics prometheus-text csv remote-write; do
    head -c 3000000 /dev/urandom | ctl -j import --format $f - >"$W/answer"
    jq -e '.accepted == 0 and .refused_total > 0' "$W/answer" >/dev/null || { head -c 500 "$W/answer"; return 1; }
  done
}
ok "random bytes are refused" random_bytes
labels() {
  python3 - "$T0" <<'PY' >"$W/labels"
import sys
t = sys.argv[1] + "000"
for n in (0, 1, 4096, 65536, 262144, 2000000):
    print('size{a="%s"} 1 %s' % ("x" * n, t))
for n in (60, 100, 1000):
    print("many{%s} 1 %s" % (",".join('l%d="v"' % i for i in range(n)), t))
PY
  ctl -j import --format prometheus-text "$W/labels" >"$W/answer"
  jq -e '.accepted + .refused_total == 9 and .accepted >= 4 and .refused.too_many_labels >= 1
    and .refused.labels_too_long >= 1 and .refused.too_long == 1' "$W/answer" || { cut -c1-600 "$W/answer"; return 1; }
  ctl -j query size | jq -e . >/dev/null
}
ok "labels of 0 to 2 MB, up to 1,000 of them" labels
at_time() {
  echo 'scrape{i="0"} 42' | ctl import --time 1h --format prometheus-text - >"$W/told" || return 1
  curl -sf --unix-socket "$SOCK" -G http://mno/api/v1/query -d 'query=scrape[10m]' -d "time=$(($(date +%s) - 3500))" |
    jq -e '.data.result[0].values[0][1] == "42"'
}
ok "samples without a time get the one that is given" at_time

# larger than all buffers; the agent goes on with its own rows meanwhile
gen prometheus-text big 200 3000 >"$W/big"
big() { ctl -j import "$W/big" >"$W/answer" && taken 600000; }
before=$(ctl -j status | jq .store.rows_lost)
ok "600,000 samples" big
ok "and there" there big 200 3000
own() { ctl -j status | jq -e --argjson n "$before" '.store.rows_lost == $n and (.store.last_error // 0) == 0'; }
ok "no own row was lost" own
lives() { ctl -j query 'node_load1[20s]' | jq -e '.data.result[0].values | length >= 5'; }
ok "own series go on" until_ok lives

progress() { # a pipe that pauses: what came so far is told
  (head -c 4000000 "$W/big"; sleep 3) | ctl -j import --format prometheus-text - >"$W/answer" &
  local pid=$! r
  shown() {
    curl -sf --unix-socket "$SOCK" http://mno/mno/v1/imports |
      jq -e '.imports[0] | .bytes > 3000000 and .lines > 1000 and .format == "prometheus-text"'
  }
  until_ok shown
  r=$?
  wait $pid
  [ $r = 0 ] && curl -sf --unix-socket "$SOCK" http://mno/mno/v1/imports | jq -e '.imports == []'
}
ok "an import that runs tells how far it is" progress

killed() { # in the middle: a part is with the agent, the rest has yet to come
  gen prometheus-text torn 200 3000 >"$W/torn"
  (head -c 9000000 "$W/torn"; sleep 20) | ctl -j import --format prometheus-text - >"$W/answer" 2>&1 &
  local pid=$! r
  under_way() { curl -sf --unix-socket "$SOCK" http://mno/mno/v1/imports | jq -e '.imports[0].accepted > 0'; }
  until_ok under_way || return 1
  end_agent KILL
  wait $pid
  r=$?
  [ $r != 0 ] || { echo "the import did not notice"; return 1; }
  start_agent --no-bpf || return 1
  ctl -j import "$W/torn" >"$W/answer" && taken 600000
}
ok "killed in an import, and again" killed
ok "all is there once" there torn 200 3000
ok "and what was imported before, too" there big 200 3000
restart() { end_agent && start_agent --no-bpf && there torn 200 3000 && there remote_write 7 300; }
ok "after a clean restart, too" restart
client_gone() {
  timeout -s KILL 0.1 "$O/mnoctl" -s "$SOCK" import --format prometheus-text - < <(cat "$W/torn"; sleep 5)
  ctl -j import "$W/torn" >"$W/answer" && taken 600000
}
ok "a client that was killed, then again" client_gone
ok "ends cleanly" end_agent TERM
finish
