#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The agent's socket against clients that are slow, broken, gone or not allowed to ask.
# timeout: 120
. "$(dirname "$0")/lib.bash"
need_root

abuse() { timeout 60 "$O/tests/prog/api_abuse" "$SOCK" "$@"; }
rss() { ctl -j status | jq .memory.rss_bytes; }
alive() { kill -0 "$AGENT" && ctl status >/dev/null; }

ok "starts" start_agent
before=$(rss)
for c in "slow 1000" half-closed pipelined too-large garbage "streams 65" "heavy 20" "hoarders 16" slowloris; do
  # shellcheck disable=SC2086
  ok "$c" abuse $c
  ok "alive after $c" alive
done
small() { [ $(($(rss) - before)) -lt $((48 << 20)) ]; }
case $O in
*san*) skip "memory came back" "the address sanitizer keeps freed memory" ;;
*) ok "memory came back (less than 48 MiB more)" small ;;
esac
streams_free() {
  timeout 1 curl -sN --unix-socket "$SOCK" 'http://mno/mno/v1/events?follow=1' >"$W/stream"
  grep -q 'mno events' "$W/stream"
}
ok "streams of clients that left are free again" until_ok streams_free

# Longer than the time-out of an idle connection.
paused_reader() {
  curl -sN --unix-socket "$SOCK" 'http://mno/mno/v1/events?follow=1&kind=exec' >"$W/paused" &
  local pid=$!
  until_ok grep -q 'mno events' "$W/paused"
  kill -STOP $pid
  "$O/tests/prog/burst" 3000 0 16 >"$W/burst"
  sleep 12
  kill -CONT $pid
  until_ok grep -q burst "$W/paused"
  /bin/true the-last-one
  until_ok grep -q 'the-last-one' "$W/paused"
  local r=$?
  kill $pid
  return $r
}
ok "a stream's reader may pause" paused_reader
ok "the socket is for its owner and group only" sh -c "[ \$(stat -c %a '$SOCK') = 660 ]"
refused() {
  chmod 711 "$W" && chmod 666 "$SOCK" || return 1
  # what the connection's credentials say counts, not the file's mode
  setpriv --reuid 65534 --regid 65534 --clear-groups curl -s --unix-socket "$SOCK" \
    -w '%{http_code}' http://mno/mno/v1/status | tee "$W/403"
  grep -q '403$' "$W/403" && grep -q '"code":"forbidden"' "$W/403" && grep -q 'usermod' "$W/403"
}
if command -v setpriv >/dev/null; then ok "another user is refused, with the reason" refused
else skip "another user is refused" "setpriv is not installed"; fi
# The group is made up, for the agent's eyes only.
member() {
  { grep -v '^mno:' /etc/group; echo 'mno:x:64999:'; } >"$W/group"
  unshare -m sh -c "mount --bind '$W/group' /etc/group &&
    exec '$O/mnod' --no-bpf --state '$W/grouped' --socket '$W/g.sock' --for 20s" >>"$W/log" 2>&1 &
  local pid=$!
  until_ok test -S "$W/g.sock"
  [ "$(stat -c %g "$W/g.sock")" = 64999 ] && setpriv --reuid 65534 --regid 65534 --groups 64999 \
    curl -sf --unix-socket "$W/g.sock" http://mno/mno/v1/status | grep '"uptime_seconds"' >/dev/null
  local r=$?
  # ... but not where the agent, as root, makes or reads files
  setpriv --reuid 65534 --regid 65534 --groups 64999 curl -s -X POST --unix-socket "$W/g.sock" \
    -w '%{http_code}' "http://mno/mno/v1/store/key/rotate-kek?source=file:$W/planted" |
    tee "$W/planted.out"
  grep '403$' "$W/planted.out" >/dev/null && [ ! -e "$W/planted" ] || r=1
  kill $pid
  wait $pid
  return $r
}
if command -v setpriv >/dev/null; then ok "a member of group mno may ask, but not choose where the key is" member
else skip "a member of group mno may ask, but not choose where the key is" "setpriv is not installed"; fi

stale() {
  end_agent KILL
  [ -S "$SOCK" ] || return 1
  start_agent
}
ok "the socket of a killed agent is replaced" stale
second() {
  "$O/mnod" --no-bpf --state "$W/other" --socket "$SOCK" --for 1s >"$W/two" 2>&1
  [ $? = 7 ] && grep -q 'another agent answers there' "$W/two"
}
ok "a socket on which somebody answers is not" second
ok "and still works" alive

"$O/tests/prog/api_abuse" "$SOCK" stream-end >"$W/stream" &
stream=$!
until_ok grep -q ready "$W/stream"
ok "the agent ends while a stream is open" end_agent
ok "the stream's client is told" wait $stream
ok "the socket is gone" test ! -e "$SOCK"
finish
