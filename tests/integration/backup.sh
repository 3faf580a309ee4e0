#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Backups of a running agent: by hand and by schedule, verified, damaged, cut off by kill -9, on a
# full disk, pruned, restored; the restored store gives the same answers.
# timeout: 180
# shellcheck disable=SC2034
. "$(dirname "$0")/lib.bash"
need_root
B=$W/backups
cat >"$W/slow.json" <<EOF
{"bpf": false, "backup_bytes": 100000}
EOF
cat >"$W/often.json" <<EOF
{"bpf": false, "backup_dir": "$W/often", "backup_every": "1m", "backup_keep": 1}
EOF
latest() { find "$B" -maxdepth 1 -name '2*Z' | sort | tail -n 1; }
partials() { find "$1" -maxdepth 1 -name '.partial-*' | wc -l; }
ask() { curl -sf --unix-socket "$1" "http://mno/api/v1/query?query=node_load1%5B1h%5D&time=$end"; }
# What is to be compared later: some samples, up to a second that is over.
stored() {
  end=$(ctl -j status | jq '.store.last_ms / 1000 | floor - 1')
  ask "$SOCK" | jq -e '.data.result[0].values | length > 2'
}

ok "starts" start_agent --no-bpf
ok "stores" until_ok stored
ok "backup create" ctl backup create --dir "$B"
ok "the key is not in it" sh -c "! find '$B' -name 'kek*' | grep . >/dev/null"
ok "backup create again" ctl backup create --dir "$B"
ask "$SOCK" | jq -c '.data.result[0].values' >"$W/answer"
ok "there is an answer to compare" sh -c "jq -e 'length > 1' <'$W/answer'"
ok "backup list shows both" sh -c "'$O/mnoctl' -s '$SOCK' -j backup list --dir '$B' | jq -e '[.backups[] | select(.complete and .signed)] | length == 2'"
ok "backup verify" sh -c "'$O/mnoctl' -s '$SOCK' -j backup verify --dir '$B' | jq -e '.damaged == 0 and .signature and .walked'"

post() { curl -s -o /dev/null -w '%{http_code}' -X POST --unix-socket "$SOCK" "http://mno$1"; }
ok "POST /mno/v1/backup without a directory" test "$(post /mno/v1/backup)" = 400
ok "POST /mno/v1/backup/verify without a directory" test "$(post /mno/v1/backup/verify)" = 400
ok "POST /mno/v1/backup/prune keeping none" test "$(post "/mno/v1/backup/prune?dir=$B&keep=0")" = 400
ok "restore to an empty place" "$O/mnoctl" restore "$(latest)" --state "$W/back" --key "$W/state/keys/kek"
not() { ! "$@"; }
ok "restore without the key is refused" not "$O/mnoctl" restore "$(latest)" --state "$W/back2"
ok "and leaves nothing" not test -e "$W/back2"
head -c 32 /dev/urandom >"$W/wrong" && chmod 0600 "$W/wrong"
ok "restore with a wrong key is refused" not "$O/mnoctl" restore "$(latest)" --state "$W/back2" --key "$W/wrong"
ok "restore over a store is refused" not "$O/mnoctl" restore "$(latest)" --state "$W/back" --key "$W/state/keys/kek"
ok "restore --replace" "$O/mnoctl" restore "$(latest)" --state "$W/back" --replace
ok "keeps the old one" sh -c "ls -d '$W'/.old-back-*"
ok "restore under a running agent is refused" not "$O/mnoctl" restore "$(latest)" --state "$W/state" --replace
"$O/mnod" --no-bpf --state "$W/back" --socket "$W/back.sock" >>"$W/log" 2>&1 &
second=$!
ok "an agent starts on it" until_ok "$O/mnoctl" -s "$W/back.sock" status
ask "$W/back.sock" | jq -c '.data.result[0].values' >"$W/answer2"
ok "the same answer" cmp "$W/answer" "$W/answer2"
kill $second && wait $second 2>/dev/null

# damage
f=$(latest)/main/data.mdb
printf '\377' | dd of="$f" bs=1 seek=9000 conv=notrunc status=none
ok "a changed byte is found" not ctl backup verify --dir "$B"
ctl backup verify --dir "$B" >"$W/said" 2>&1
ok "and named" grep -q 'main/data.mdb: its bytes are not what they were. It holds: label dictionary' "$W/said"
ok "it is not restored" not "$O/mnoctl" restore "$(latest)" --state "$W/back3" --key "$W/state/keys/kek"
ok "prune keeps the last whole one" not ctl backup prune --keep 1 --dir "$B"
ok "backup create after damage" ctl backup create --dir "$B"
ok "backup prune" ctl backup prune --keep 1 --dir "$B"
ok "one stays" test "$(find "$B" -maxdepth 1 -name '2*Z' | wc -l)" = 1
ok "ends" end_agent TERM

# kill -9 in the middle
ok "starts slowly" start_agent --config "$W/slow.json"
before=$(latest)
for i in 1 2 3 4 5; do
  ctl backup create --dir "$B" >/dev/null 2>&1 &
  c=$!
  sleep "0.$((RANDOM % 9 + 1))"
  end_agent KILL
  wait $c 2>/dev/null
  start_agent --config "$W/slow.json"
done
ok "kill -9 leaves no half backup under a name" test "$(latest)" = "$before"
ok "but one that is visibly incomplete" test "$(partials "$B")" -ge 1
ok "ends cleanly in the middle of a backup" sh -c "'$O/mnoctl' -s '$SOCK' backup create --dir '$B' >/dev/null 2>&1 & sleep 0.3"
ok "ends" end_agent TERM
ok "a backup that was ended is gone" test "$(partials "$B")" = 0
for i in 1 2 3 4 5 6; do
  "$O/mnod" --restore "$(latest)" --state "$W/killed" --key "$W/state/keys/kek" >/dev/null 2>&1 &
  p=$!
  sleep "0.00$((RANDOM % 9 + 1))"
  kill -9 $p 2>/dev/null
  wait $p 2>/dev/null
  if [ -e "$W/killed" ]; then
    "$O/mnod" --state "$W/killed" --check-store >/dev/null || echo "$i" >>"$W/half"
    rm -rf "$W/killed"
  fi
done
ok "a restore that was killed leaves all or nothing" not test -e "$W/half"
ok "and the next one works" "$O/mnoctl" restore "$(latest)" --state "$W/killed" --key "$W/state/keys/kek"

# schedule, full disk
ok "starts with a schedule" start_agent --config "$W/often.json"
scheduled() { ctl -j backup list | jq -e '.backups | length == 1'; }
ok "the schedule made one" until_ok scheduled
ok "the metric says so" until_ok sh -c "curl -sf --unix-socket '$SOCK' http://mno/metrics | grep '^mno_backups_total 1' >/dev/null"
mkdir "$W/small"
if mount -t tmpfs -o size=64k mno-test "$W/small" 2>/dev/null; then
  ok "a full disk is an error" not ctl backup create --dir "$W/small"
  ok "partial files are removed" test "$(partials "$W/small")" = 0
  ok "status says it" sh -c "'$O/mnoctl' -s '$SOCK' -j status | jq -e '[.degraded[] | select(.what == \"the last backup failed\")] | length == 1'"
  umount "$W/small"
else
  skip "full disk" "a tmpfs cannot be mounted"
fi
ok "ends" end_agent TERM
finish
