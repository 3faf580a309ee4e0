#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
# The store as people see it: figures, search for damage, change of keys while the agent works and
# when it is killed in the middle, damage that is told and does not stop the rest.
. "$(dirname "$0")/lib.bash"

get() { curl -s --max-time 10 --unix-socket "$SOCK" "http://mno$1"; }
post() { curl -s --max-time 10 -X POST --unix-socket "$SOCK" "http://mno$1"; }
shape() { get "$1" | jq -e "$2"; }
posted() { post "$1" | jq -e "$2"; }
says() { # EXIT TEXT ARGS...
  local want=$1 text=$2 r
  shift 2
  ctl "$@" >"$W/said" 2>&1
  r=$?
  cat "$W/said"
  [ $r = "$want" ] && grep -F -- "$text" "$W/said" >/dev/null
}
offline() { # EXIT TEXT
  local r
  "$O/mnod" --state "$W/state" --check-store >"$W/said" 2>&1
  r=$?
  cat "$W/said"
  [ $r = "$1" ] && grep -F -- "$2" "$W/said" >/dev/null
}
samples() { ctl -j store | jq -e .samples; }
# What the environments hold when nothing is left out; 64 series of the dictionary are one value.
entries() { ctl -j store | jq '[.environments[].entries] | add'; }
whole() {
  local held
  held=$(entries)
  ctl -j store check |
    jq -e --argjson held "$held" '.damaged == 0 and .values >= $held and (.findings | length) == 0'
}
kek() { ctl -j store key status | jq -r .key.kek_id; }
changed() { [ "$(kek)" != "$1" ]; }
# flip FILE: in each page one bit of the last sealed record of a series in it, if there is one
flip() {
  python3 - "$1" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    d = bytearray(f.read())
    for page in range(0, len(d), 4096):
        upper = int.from_bytes(d[page + 14:page + 16], "little")
        at = d.rfind(b"Sm\x02", page + upper, page + 4000)
        if d[page + 10] == 2 and at > 0:
            d[at + 60] ^= 4
    f.seek(0)
    f.write(d)
PY
}

ok "starts" start_agent --no-bpf
ok "samples are stored" until_ok shape /mno/v1/store '.samples > 300'
ok "figures of the store" shape /mno/v1/store '.bytes > 0 and .key.encrypted and .damaged == 0 and
  any(.environments[]; .name == "main" and .commits > 0 and .longest_sync_ms > 0 and .key_id == 1)'
ok "table" says 0 "label dictionary" store
ok "metrics" bash -c "curl -s --unix-socket '$SOCK' http://mno/metrics | grep '^mno_store_map_bytes [1-9]' >/dev/null"
ok "sound" says 0 "sound:" store check --deep
ok "sound, as JSON" whole
ok "the check by its route" posted '/mno/v1/store/check?deep=1' 'has("running")'
ok "what the check found" shape /mno/v1/store/check '.passes >= 1'
ok "unknown word" says 2 'unknown argument' store nothing

old=$(kek)
ok "the key is changed" says 0 "wraps the data keys" store key rotate-kek
ok "it is another one" changed "$old"
ok "by its route" posted /mno/v1/store/key/rotate-kek '.changed == 1'
ok "no such source" says 5 "key was not changed" store key rotate-kek --source nonsense:x
ok "new data keys" says 0 "wraps the data keys" store key rotate-data
ok "one at a time, or it is done" posted '/mno/v1/store/key/rotate-data?environment=main' '.code == "conflict" or .changed == 1'
ok "no such environment" says 1 "not changed" store key rotate-data ts-19700101
ok "values are sealed anew" until_ok shape /mno/v1/store '.key.resealing == false and .key.resealed > .series / 64'
ok "the old data key is gone" shape /mno/v1/store '.environments[0].keys == 1 and .environments[0].key_id >= 2'
ok "sound after it" says 0 "sound:" store check --deep

for i in 1 2 3 4 5 6; do
  (while ctl store key rotate-kek && ctl store key rotate-data; do :; done) >/dev/null 2>&1 &
  loop=$!
  sleep "0.$((i * 13 % 7 + 1))"
  end_agent KILL
  wait $loop
  ok "starts after kill -9 in the middle of it ($i)" start_agent --no-bpf
  ok "and is sound ($i)" says 0 "sound:" store check --deep
done

ok "passphrase" bash -c "echo 'a long phrase' >'$W/phrase' && chmod 600 '$W/phrase'"
ok "from a passphrase" says 0 "wraps" store key rotate-kek --source "passphrase:$W/phrase"
before=$(samples)
ok "ends" end_agent
ok "sound, looked at from outside" offline 0 " 0 damaged"
ok "starts with the passphrase, which the store remembers" start_agent --no-bpf
ok "all samples are there" [ "$(samples)" -ge "$before" ]
end_agent

ok "a bit flips" flip "$W/state/main/data.mdb"
ok "it is found and mended" offline 0 "flipped bits in data.mdb were found and mended"
head -c 300 /dev/urandom >"$W/state/main/pages.sum"
ok "a damaged file of sums does not matter" offline 0 " 0 damaged"
ok "a bit flips again" flip "$W/state/main/data.mdb"
rm -f "$W/state/main/pages.sum"
ok "without sums it is told" offline 1 "stored data is damaged"
ok "the rest serves" start_agent --no-bpf
ok "the agent tells it, too" says 1 "stored data is damaged" store check
quarantined() { get /mno/v1/store/quarantine | jq -e "$1"; }
ok "what is damaged is in quarantine" until_ok quarantined '.count > 0 and all(.values[]; .lost != "" and .bytes > 0)'
env=$(get /mno/v1/store/quarantine | jq -r '.values[0].environment')
id=$(get /mno/v1/store/quarantine | jq -r '.values[0].id')
ok "as a table" says 0 "$env" store quarantine
ok "one with its bytes" bash -c "'$O/mnoctl' -s '$SOCK' -j store quarantine show '$env' '$id' | jq -e '.values[0].value_base64 | length > 40'"
ok "the status says it" bash -c "curl -s --unix-socket '$SOCK' http://mno/mno/v1/status | jq -e 'any(.degraded[]; .what | contains(\"quarantine\"))'"
ok "it is dropped" says 0 "with the next commit" store quarantine drop "$env" "$id"
gone() { [ "$(get "/mno/v1/store/quarantine?environment=$env&id=$id" | jq -r .code)" = not_found ]; }
ok "and gone" until_ok gone
drop_all() {
  get /mno/v1/store/quarantine | jq -r '.values[] | "\(.environment) \(.id)"' |
    while read -r env id; do ctl store quarantine drop "$env" "$id"; done
  quarantined '.count == 0 and .waiting == 0'
}
ok "so are all others" until_ok drop_all
not_told() { get /mno/v1/status | jq -e 'all(.degraded[]; .what | contains("quarantine") | not)'; }
ok "the status says no more of it" until_ok not_told
ok "there is no such one" says 1 "no such value" store quarantine drop main 999999
ok "both words are needed" says 2 "wants an environment and an id" store quarantine show main
ok "as a metric" until_ok bash -c "curl -s --unix-socket '$SOCK' http://mno/metrics | grep '^mno_store_scrub_damaged [1-9]' >/dev/null"
finish
