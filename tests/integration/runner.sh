#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The test runner itself: a made-up tree with one test of each outcome must be counted rightly.
set -euo pipefail
cd "$(dirname "$0")/../.."
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
mkdir -p "$d/tests/integration"
cp tests/run.sh "$d/tests/"
script() { printf '#!/bin/sh\n%s\n' "$2" >"$d/tests/integration/$1.sh" && chmod +x "$d/tests/integration/$1.sh"; }
script pass 'echo fine'
script fail 'echo "wrong: 1 is not 2"; exit 1'
script skip 'echo "no such kernel"; exit 77'
script counts 'echo "skip one: too old"; echo "3 passed, 1 failed, 1 skipped"; exit 1'
script lies 'echo "2 passed, 0 failed, 0 skipped"; exit 3'
script hangs '# timeout: 1
sleep 60'
script cmocka 'echo "[==========] 4 test(s) run."; echo "[  PASSED  ] 4 test(s)."'
script reads 'read -r x; [ -z "$x" ]'
out=$("$d/tests/run.sh" integration) && { echo "a run with failures ended with 0"; exit 1; }

n=0
want() { # TEXT
  n=$((n + 1))
  grep -qF -- "$1" <<<"$out" || { echo "not in the output: $1"; echo "$out"; exit 1; }
}
[ "$(tail -n 1 <<<"$out")" = "11 passed, 4 failed, 2 skipped" ] || {
  echo "wrong sum: $(tail -n 1 <<<"$out")"
  echo "$out"
  exit 1
}
want "integration/skip: no such kernel"
want "integration/counts: one: too old"
want "FAILED integration/hangs: 1 (no end after its time limit)"
want "FAILED integration/lies: 1 (exit status 3)"
want "wrong: 1 is not 2"
rm "$d"/tests/integration/{fail,counts,lies,hangs}.sh
"$d/tests/run.sh" integration >/dev/null || { echo "a run without failures ended with $?"; exit 1; }
echo "$((n + 2)) passed, 0 failed, 0 skipped"
