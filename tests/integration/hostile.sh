#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A local user who may ask, and wants harm: random, huge and cut-off bodies on every route, paths with
# .. and NUL; and a host without luck: a disk that fills and empties under load, becomes read-only, a
# partition deleted behind the agent's back, foreign files, kill -9 again and again.
# timeout: 400
. "$(dirname "$0")/lib.bash"
need_root
KILLS=${KILLS:-12}
export ASAN_OPTIONS="detect_leaks=1 ${ASAN_OPTIONS:-}"
ask() { curl -s -m 20 --unix-socket "$SOCK" "$@"; }
alive() { kill -0 "$AGENT" && ctl -j status | jq -e '.store.series > 100'; }

cat >"$W/attack.py" <<'PY'
import random, re, socket, sys
sock, seconds = sys.argv[1], float(sys.argv[2])
import time
rnd = random.Random(7)
routes = []
for line in open("agent/api/routes.def"):
    m = re.match(r'ROUTE(\w*)\("([^"]*)", "([^"]*)"', line)
    if m:
        routes += [(v.strip(), m.group(3)) for v in m.group(2).split(",")]
assert len(routes) > 40
names = ["x", "..", ".", "%2e%2e", "%2e%2e%2fmain", "a%00b", "%00", "%", "%zz", "_index", "%ff%fe", "a" * 3000,
         "%0d%0aX:%201", "~", "%2f", "ts-20200101", "\xff\xfe", "'\"<>", "%F0%9F%92%A3"]
params = ["query", "match[]", "start", "end", "step", "time", "timeout", "limit", "where", "cursor", "dir", "name", "keep",
          "format", "file", "source", "environment", "for", "since", "until", "pid", "kind", "path", "type", "unique",
          "quota_documents", "quota_bytes", "interval", "deep", "all", "keys", "values", "meta", "follow", "cancel"]
values = ["", "0", "-1", "1e308", "NaN", "18446744073709551616", "9" * 400, "../../etc", "/etc/shadow", "%00", "/proc/self/mem",
          "file:/etc/passwd", "passphrase:/etc/shadow", "keyring:x", "1970-01-01T00:00:00Z", "{", "a=b", "(((((", "%ff", "up{a=~\"(a%2B)%2B$\"}",
          "[" * 900, "true", "prometheus-text", "remote-write", "csv", "openmetrics"]
bodies = [b"", b"\0" * 5000, b"{" * 70000, b'{"ops":[' + b'{"op":"put","ns":"a","coll":"b","id":"c","value":1},' * 9000 + b"]}",
          b'{"ops":[{"op":"put","ns":"..","coll":"../main","id":"\\u0000","value":{}}]}', b'{"ops":null}', b'[]', b'"x"', b'{"ops":[[]]}',
          b'{"ops":[{"op":"get"},{"op":"delete","ns":1}]}', b'{"ops":[{"op":"put","ns":"a","coll":"b","id":"c","if":-1,"value":' + b"[" * 5000,
          rnd.randbytes(300000), b"\xff" * 100, b"up 1 1\n" * 3000, b"a{b=\"" + b"x" * 200000, b"time,a\n1,2,3\n\"\n", b"# EOF\n" * 9, b"1" * 400000]
skip = re.compile(r"rotate-kek|migrate")
def ask(raw, wait=8):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(wait)
    s.connect(sock)
    try:
        s.sendall(raw)
    except (BrokenPipeError, ConnectionResetError):
        pass
    got = b""
    try:
        while b"\r\n\r\n" not in got:
            d = s.recv(65536)
            if not d:
                break
            got += d
    except (ConnectionResetError, socket.timeout) as e:
        got = got or type(e).__name__.encode()
    s.close()
    return got
seen, end, bad, n = {}, time.time() + seconds, 0, 0
while time.time() < end:
    verb, path = rnd.choice(routes)
    if skip.search(path) and verb != "GET":
        continue
    path = re.sub(r"<[a-z]+>", lambda m: rnd.choice(names), path)
    args = "&".join("%s=%s" % (rnd.choice(params), rnd.choice(values)) for _ in range(rnd.randrange(5)))
    if "follow=" in args or "_watch" in path:
        args = ""
        if "_watch" in path: continue
    if "dir=" in args and ("backup" in path):  # it may write where root may: not into this machine's folders
        args = re.sub(r"dir=/[^&]*", "dir=relative", args)
    body = rnd.choice(bodies) if verb != "GET" or rnd.random() < .1 else b""
    if rnd.random() < .3:
        body = body[:rnd.randrange(len(body) + 1)]
    length = len(body) + (rnd.choice([0, 0, 0, 1000, 10**18]) if body else 0)
    extra = rnd.choice(["", "", "If-Match: \"99999999999999999999\"\r\n", "If-None-Match: *\r\n", "Content-Type: \xff\r\n",
                        "Range: bytes=0-\r\n", "Expect: 100-continue\r\n", "Transfer-Encoding: chunked\r\n"])
    waits = length > len(body) or "chunked" in extra  # for a rest that does not come
    head = "%s %s%s HTTP/1.1\r\nHost: mno\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n" % (
        verb, path, "?" + args if args else "", length,
        extra)
    r = ask(head.encode("latin1") + body, .1 if waits else 8)
    m = re.match(rb"HTTP/1.1 (\d+)", r)
    code = m.group(1).decode() if m else r[:20].decode("latin1") or "closed"
    seen[code] = seen.get(code, 0) + 1
    n += 1
    if code in ("500", "502", "504") or (not m and not waits):
        bad += 1
        print(code, verb, path[:150], args[:200], body[:60], r[-300:])
print(n, seen)
sys.exit(bad > 0 or n < 100)
PY
attack() { PYTHONWARNINGS=ignore python3 "$W/attack.py" "$SOCK" "${ATTACK:-10}"; }
nothing_outside() { [ "$(find / -xdev -newer "$W/mark" -name 'backup.json' -not -path "$W/*" -not -path '/proc/*' 2>/dev/null | wc -l)" = 0 ]; }

load_on() { # documents acknowledged go to $W/acked; imports beside them
  (n=0
  while :; do
    n=$((n + 1))
    # shellcheck disable=SC2015
    [ "$(ask -o /dev/null -w '%{http_code}' -X PUT -d "{\"n\":$n,\"fill\":\"$(printf 'x%.0s' {1..900})\"}" "http://mno/mno/v1/docs/l/c/d$1-$n")" = 200 ] &&
      echo "d$1-$n" >>"$W/acked" || sleep 0.05
  done) &
  LOADS+=($!)
}
import_on() {
  (n=0
  while :; do
    n=$((n + 1))
    for ((k = 0; k < 500; k++)); do echo "imp{i=\"$k\"} $n $((($(date +%s) - n % 3000) * 1000))"; done | ctl import --format prometheus-text - >/dev/null 2>&1
  done) &
  LOADS+=($!)
}
rotate_on() { # data keys change, and backups are asked for where there is no room
  (while :; do
    ask -X POST http://mno/mno/v1/store/key/rotate-data -o /dev/null
    ask -X POST http://mno/mno/v1/store/key/rotate-kek -o /dev/null
    ask -X POST "http://mno/mno/v1/backup?dir=$W/disk/backups" -o /dev/null
    ask -X POST 'http://mno/mno/v1/store/check?deep=1' -o /dev/null
    sleep 0.3
  done) &
  LOADS+=($!)
}
load_off() {
  local p
  for p in "${LOADS[@]}"; do kill "$p" 2>/dev/null; done
  wait "${LOADS[@]}" 2>/dev/null
  LOADS=()
}
LOADS=()
all_ids() {
  local page cursor=
  while page=$(ask -G "http://mno/mno/v1/docs/l/c" -d limit=5000 -d keys=1 ${cursor:+--data-urlencode "cursor=$cursor"}); do
    jq -r '.documents[].id' <<<"$page"
    cursor=$(jq -r '.cursor // ""' <<<"$page")
    [ -n "$cursor" ] || return 0
  done
}
acked_there() { # every document that was answered is there
  local have
  have=$(all_ids | sort)
  comm -23 <(sort "$W/acked") <(printf '%s\n' "$have") >"$W/missing"
  [ -s "$W/acked" ] && [ ! -s "$W/missing" ] || { wc -l "$W/acked" "$W/missing"; head -3 "$W/missing"; return 1; }
}
sound() { "$O/mnod" --check-store --state "$1" --socket "$SOCK"; }
no_report() { ! grep -nE -A25 'ERROR: (Address|Leak)Sanitizer|runtime error:' "$W/log"; }

touch "$W/mark"
ok "starts" start_agent --no-bpf
ok "bears random requests on all routes" attack
ok "lives" alive
ok "ends cleanly" end_agent TERM

mkdir "$W/disk"
if mount -t tmpfs -o size=48m mno-test "$W/disk" 2>/dev/null; then
  trap 'load_off; end_agent; umount "$W/disk"; rm -rf "$W"' EXIT
  mkdir "$W/disk/state" && rm -rf "$W/state" && ln -s "$W/disk/state" "$W/state"
  start_agent --no-bpf
  load_on a; load_on b; import_on; rotate_on
  sleep 2
  fill() { dd if=/dev/zero of="$W/disk/fill" bs=64k status=none 2>/dev/null; [ "$(df --output=avail "$W/disk" | tail -1)" -lt 300 ]; }
  for round in 1 2 3; do
    ok "round $round: the disk fills under load" fill
    told() { { ctl -j status || true; } | jq -e '.store.last_error | test("space")'; }
    ok "round $round: it says so" until_ok told
    refused() { [ "$(ask -o "$W/why" -w '%{http_code}' -X PUT -d '{}' http://mno/mno/v1/docs/l/c/full)" = 507 ] && grep -q space "$W/why"; }
    ok "round $round: documents are refused, not taken" refused
    rm "$W/disk/fill"
    taken() { ask -f -X PUT -d '{}' "http://mno/mno/v1/docs/l/c/round$round" -o /dev/null; }
    ok "round $round: and taken again when there is room" until_ok taken
    well() { { ctl -j status || true; } | jq -e '(.store.last_error // 0) == 0 or .store.last_error == ""'; }
    ok "round $round: samples, too" until_ok well
  done
  if mount -o remount,ro "$W/disk" 2>/dev/null; then
    mount -o remount,rw "$W/disk"
  else
    echo "(maps for writing keep a remount from being possible)"
  fi
  load_off
  undamaged() { ! grep -n 'damage in' "$W/log"; }
  ok "nothing was taken for damaged" undamaged
  ok "every document that was answered is there" acked_there
  ok "ends cleanly" end_agent TERM
  ok "and is sound" sound "$W/disk/state"
  rm "$W/state"
else
  skip "full disk under load" "cannot mount a tmpfs"
fi

rm -f "$W/acked"
ok "starts anew" start_agent --no-bpf
foreign() {
  mkdir "$W/state/ts-garbage" "$W/state/ts-20010203" "$W/state/event-99999999" && echo x >"$W/state/ts-20010203/data.mdb" &&
    mkfifo "$W/state/fifo" && ln -s / "$W/state/r1m-20200101" && echo y >"$W/state/ts-20010204" &&
    mkdir -p "$W/state/docs.old" && head -c 5000 /dev/urandom >"$W/state/docs.old/data.mdb"
}
ok "foreign files come" foreign
behind() { # today's partitions go away under the agent
  sleep 1.5
  rm -rf "$W"/state/ts-"$(date -u +%Y)"* "$W"/state/event-"$(date -u +%Y)"* "$W"/state/r10s-*
  sleep 2.5
  alive
}
ok "partitions are deleted behind its back: it lives" behind
ok "queries answer" sh -c "'$O/mnoctl' -s '$SOCK' -j query 'node_load1[5m]' >/dev/null"
check_under() { ask -X POST 'http://mno/mno/v1/store/check?deep=1' -o /dev/null; sleep 1; alive; }
ok "a check walks over it" check_under
ok "ends cleanly" end_agent TERM
rm -rf "$W/state/ts-garbage" "$W/state/ts-20010203" "$W/state/event-99999999" "$W/state/fifo" "$W/state/r1m-20200101" "$W/state/ts-20010204" "$W/state/docs.old" "$W"/state/*.damaged-*
ok "and starts again" start_agent --no-bpf
ok "it stores" until_ok alive

kills() {
  local i
  for i in $(seq "$KILLS"); do
    load_on "k$i"; import_on
    sleep "0.$((RANDOM % 9))"
    end_agent KILL
    load_off
    start_agent --no-bpf || { echo "not after kill $i"; return 1; }
  done
}
ok "killed $KILLS times under load" kills
ok "every document that was answered is there" acked_there
ok "ends cleanly" end_agent TERM
ok "and is sound" sound "$W/state"
ok "no report" no_report
finish
