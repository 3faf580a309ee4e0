#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Keys of old backups, documents of a moment, partitions in archives, backups under load, from a
# passphrase and on a disk that fills up meanwhile; answers in JSON.
# timeout: 180
# shellcheck disable=SC2034
. "$(dirname "$0")/lib.bash"
need_root
B=$W/backups
not() { ! "$@"; }
newest() { find "$1" -maxdepth 1 -name '2*Z' | sort | tail -n 1; }
exits() { # EXIT COMMAND...: what it said is $W/said
  local want=$1 r
  shift
  "$@" >"$W/said" 2>&1
  r=$?
  cat "$W/said"
  [ $r = "$want" ]
}
said() { cat "$W/said"; grep -F -- "$1" "$W/said" >/dev/null; }
put() { ctl doc put shop goods "$1" --value "$2"; }
cat >"$W/conf.json" <<JSON
{"bpf": false, "backup_dir": "$B"}
JSON
cat >"$W/slow.json" <<JSON
{"bpf": false, "backup_bytes": 100000}
JSON

# --- keys
ok "starts" start_agent --config "$W/conf.json"
put a '{"n":1}' >/dev/null
one() { ctl -j backup list | jq -e '(.backups | length) == 1 and (.job.running | not)'; }
ok "the schedule makes the first backup at once" until_ok one
first=$(newest "$B")
id=$(ctl -j backup list | jq -r '.backups[0].kek_id')
ok "the key is changed" exits 0 ctl store key rotate-kek
ok "and says which backup needs the old one" said "$id, needed by 1 backup"
ok "which is kept, closed to others" test "$(stat -c %a:%s "$W/state/keys/kek.$id")" = 600:32
ok "JSON, too" sh -c "'$O/mnoctl' -s '$SOCK' -j store key | jq -e '.old_keys[0] | .kek_id == \"$id\" and .backups == [\"$(basename "$first")\"]'"
ok "the old backup is whole" exits 0 ctl backup verify "$(basename "$first")"
ok "by the kept key" said "every value was opened"
cp -p "$W/state/keys/kek.$id" "$W/old.kek"
ok "another change, old keys are destroyed" exits 0 ctl store key rotate-kek --forget-old
ok "and says what they were for" said "$id, needed by 1 backup"
ok "they are gone" not sh -c "ls '$W'/state/keys/kek.* 2>/dev/null | grep . >/dev/null"
ok "now the key is missing" exits 1 ctl backup verify "$(basename "$first")"
ok "and that is said" said "sealed under key $id, which is not here"
ok "not that it is damaged" not grep -i damaged "$W/said"
ok "restore with the new key" exits 5 "$O/mnoctl" -j restore "$first" --state "$W/back" --key "$W/state/keys/kek"
ok "is an error in JSON" sh -c "jq -e '.error.code == \"invalid\" and (.error.findings | length) >= 1' <'$W/said'"
ok "that names the key" said "sealed under key $id"
ok "restore with the old key" exits 0 "$O/mnoctl" -j restore "$first" --state "$W/back" --key "$W/old.kek"
ok "answers in JSON" jq -e '.damaged == 0 and .signature and .walked' "$W/said"
ok "over a store" exits 1 "$O/mnoctl" -j restore "$first" --state "$W/back" --key "$W/old.kek"
ok "is one, too" jq -e '.error.code == "no"' "$W/said"
ok "under an agent" exits 7 "$O/mnoctl" -j restore "$first" --state "$W/state" --replace
ok "has a code of its own" jq -e '.error.code == "busy"' "$W/said"
ok "which help explains" sh -c "'$O/mnoctl' help restore | tr -s '\n ' ' ' | grep '7 when an agent' >/dev/null"
ok "as does the list of all codes" sh -c "'$O/mnoctl' --help | grep -E '7 .*state directory' >/dev/null"

# --- documents of a moment
put z '{"n":0}' >/dev/null
ok "backup of the new key" ctl backup create
base=$(newest "$B")
put a '{"n":2}' >/dev/null
ctl doc index shop goods add n --path n >/dev/null
put b '{"n":3}' >/dev/null
seq=$(ctl -j doc get shop goods b | jq .version)
sleep 1.1
at=$(date +%s)
sleep 1.1
ctl doc delete shop goods b >/dev/null
put a '{"n":9}' >/dev/null
ok "a later backup" ctl backup create
until_docs() { # WHEN
  rm -rf "$W/then"
  exits 0 "$O/mnoctl" -j restore "$base" --state "$W/then" --key "$W/state/keys/kek" --docs-until "$1"
}
as_then() {
  "$O/mnod" --no-bpf --state "$W/then" --socket "$W/then.sock" >>"$W/log" 2>&1 &
  local p=$! r=0
  until_ok "$O/mnoctl" -s "$W/then.sock" status || r=1
  "$O/mnoctl" -s "$W/then.sock" -j doc get shop goods a | jq -e '.value.n == 2' || r=1
  "$O/mnoctl" -s "$W/then.sock" -j doc get shop goods b | jq -e '.value.n == 3' || r=1
  "$O/mnoctl" -s "$W/then.sock" doc find shop goods n=3 | grep b >/dev/null || r=1
  kill $p && wait $p 2>/dev/null
  return $r
}
ok "documents until a change" until_docs "seq:$seq"
ok "are as they were" as_then
ok "documents until a time" until_docs "$at"
ok "are as they were" as_then
ok "a time after the last backup" exits 1 "$O/mnoctl" -j restore "$base" --state "$W/then2" --key "$W/state/keys/kek" --docs-until "$(($(date +%s) + 5))"
ok "is refused" said "are in no backup"
ok "and leaves nothing" not test -e "$W/then2"
ok "a time before the backup" exits 1 "$O/mnoctl" restore "$base" --state "$W/then2" --key "$W/state/keys/kek" --docs-until seq:1
ok "is refused" said "name an older one"
ok "no moment" exits 2 "$O/mnod" --restore "$base" --state "$W/then2" --docs-until yesterday

# --- archives
day=$(date -u -d '-2 days' +%Y%m%d)
t=$(date -u -d "$day 12:00" +%s)
for i in $(seq 0 299); do echo "archived_metric{k=\"v\"} $i $((t + i * 10))"; done >"$W/old.om"
echo "# EOF" >>"$W/old.om"
ok "import of an older day" ctl import --format openmetrics "$W/old.om"
ask() {
  curl -sf --unix-socket "$SOCK" "http://mno/api/v1/query?query=archived_metric%5B1h%5D&time=$((t + 3000))" |
    jq '[.data.result[].values | length] | add // 0'
}
has() { [ "$(ask)" = "$1" ]; }
ok "it is there" until_ok has 300
ok "today cannot be archived" exits 1 ctl store archive "ts-$(date -u +%Y%m%d)" "$W/archive"
ok "archive --move" exits 0 ctl store archive "ts-$day" "$W/archive" --move
ok "says what" said "ts-$day archived"
ok "it is not here any more" has 0
ok "and not in the list" sh -c "'$O/mnoctl' -s '$SOCK' -j store | jq -e '[.environments[].name] | index(\"ts-$day\") | not'"
code() { curl -s -o /dev/null -w '%{http_code}' -X POST --unix-socket "$SOCK" "http://mno$1"; }
ok "POST /mno/v1/store/archive without a directory" test "$(code "/mno/v1/store/archive?partition=ts-$day")" = 400
ok "POST /mno/v1/store/attach without one" test "$(code /mno/v1/store/attach)" = 400
ok "POST /mno/v1/store/detach without a partition" test "$(code /mno/v1/store/detach)" = 400
ok "POST /mno/v1/store/key/forget-old" test "$(code /mno/v1/store/key/forget-old)" = 200
ok "attach" ctl store attach "$W/archive/ts-$day"
ok "it is there again" has 300
ok "attach twice is refused" exits 1 ctl store attach "$W/archive/ts-$day"
ok "detach" ctl store detach "ts-$day"
ok "it is gone again" has 0
ok "JSON of the job" sh -c "'$O/mnoctl' -s '$SOCK' -j store attach '$W/archive/ts-$day' | jq -e '.what == \"attach\" and .partitions == [\"ts-$day\"]'"
ok "ends" end_agent TERM
ok "starts again" start_agent --config "$W/conf.json"
ok "it is still there" has 300
printf '\377' | dd of="$W/archive/ts-$day/ts-$day/data.mdb" bs=1 seek=9000 conv=notrunc status=none
ok "detach, with its record" ctl store detach "ts-$day" --forget
ok "a damaged archive" exits 1 ctl store attach "$W/archive/ts-$day"
ok "is said to be one" said "its bytes are not what they were"

# --- under load: two documents change together, a backup never has one of them alone
writer() {
  local i=0
  while [ ! -e "$W/stop" ]; do
    i=$((i + 1))
    echo "[{\"op\":\"put\",\"ns\":\"load\",\"coll\":\"x\",\"id\":\"a\",\"value\":$i},{\"op\":\"put\",\"ns\":\"load\",\"coll\":\"y\",\"id\":\"b\",\"value\":$i}]" |
      ctl doc txn - >/dev/null || break
  done
}
writer &
w=$!
for i in 1 2 3; do
  ok "backup under load $i" ctl backup create
  ok "is whole" ctl backup verify
done
touch "$W/stop"
wait $w
consistent() {
  local d p r=0 a b
  for d in $(find "$B" -maxdepth 1 -name '2*Z' | sort | tail -n 3); do
    rm -rf "$W/load"
    "$O/mnoctl" restore "$d" --state "$W/load" --key "$W/state/keys/kek" || return 1
    "$O/mnod" --no-bpf --state "$W/load" --socket "$W/load.sock" >>"$W/log" 2>&1 &
    p=$!
    until_ok "$O/mnoctl" -s "$W/load.sock" status || r=1
    a=$("$O/mnoctl" -s "$W/load.sock" -j doc get load x a | jq .value)
    b=$("$O/mnoctl" -s "$W/load.sock" -j doc get load y b | jq .value)
    echo "$a $b"
    [ -n "$a" ] && [ "$a" = "$b" ] || r=1
    kill $p && wait $p 2>/dev/null
  done
  return $r
}
ok "each is of one moment" consistent
ok "ends" end_agent TERM
ok "backups are listed without an agent" sh -c "'$O/mnoctl' -s '$SOCK' -j backup list --dir '$B' | jq -e '.backups | length >= 5'"
ok "as a table, too" exits 0 "$O/mnoctl" -s "$SOCK" backup list --dir "$B"
ok "no such directory is an error in JSON" sh -c "'$O/mnoctl' -s '$SOCK' -j backup list --dir '$W/nothing' | jq -e .error.message"

# --- a passphrase; a disk that fills up
echo 'a long phrase' >"$W/phrase" && chmod 600 "$W/phrase"
mv "$W/state" "$W/state.file"
cat >"$W/phrase.json" <<JSON
{"bpf": false, "store_key": "passphrase:$W/phrase"}
JSON
ok "starts with a passphrase" start_agent --config "$W/phrase.json"
put p '{"n":1}' >/dev/null
ok "backup" ctl backup create --dir "$W/phrases"
ok "is whole" ctl backup verify --dir "$W/phrases"
ok "ends" end_agent TERM
mv "$W/phrase" "$W/phrase.kept"
ok "restore without the passphrase" exits 5 "$O/mnoctl" restore "$(newest "$W/phrases")" --state "$W/back4"
ok "says which key" said "sealed under key"
echo 'a wrong phrase' >"$W/phrase.wrong" && chmod 600 "$W/phrase.wrong"
ok "with a wrong one" exits 5 "$O/mnoctl" restore "$(newest "$W/phrases")" --state "$W/back4" --key "$W/phrase.wrong"
ok "with the right one from elsewhere" exits 0 "$O/mnoctl" restore "$(newest "$W/phrases")" --state "$W/back4" --key "$W/phrase.kept"
ok "an agent finds it there" sh -c "'$O/mnod' --no-bpf --state '$W/back4' --check-store | grep ' 0 damaged'"

mv "$W/phrase.kept" "$W/phrase"
ok "starts slowly" start_agent --config "$W/slow.json"
mkdir "$W/small"
if mount -t tmpfs -o size=48m mno-test "$W/small" 2>/dev/null; then
  head -c $((48 * 1048576 - 65536)) /dev/zero >"$W/small/fill"
  ok "too little room is told before" exits 1 ctl backup create --dir "$W/small"
  ok "with how much is needed" said "are needed"
  rm "$W/small/fill"
  ctl backup create --dir "$W/small" >"$W/made" 2>&1 &
  c=$!
  sleep 0.4
  head -c 60000000 /dev/zero >"$W/small/fill" 2>/dev/null
  wait $c
  r=$?
  ok "a disk that fills up meanwhile is an error" test $r != 0
  ok "and partial files are removed" sh -c "! ls -d '$W'/small/.partial-* 2>/dev/null | grep . >/dev/null"
  rm "$W/small/fill"
  mkdir "$W/small/s"
  head -c 50000000 /dev/zero >"$W/small/fill" 2>/dev/null
  ok "restore to a full disk" exits 6 "$O/mnoctl" -j restore "$(newest "$B")" --state "$W/small/s/state" --key "$W/state.file/keys/kek"
  ok "is an error in JSON" jq -e '.error.message' "$W/said"
  ok "and leaves nothing" test "$(find "$W/small/s" -mindepth 1 | wc -l)" = 0
  umount "$W/small"
else
  skip "full disk" "a tmpfs cannot be mounted"
fi
ok "ends" end_agent TERM
finish
