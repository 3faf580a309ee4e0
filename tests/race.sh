#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make race: what has threads, under ThreadSanitizer (built by SANITIZE=thread), then the agent
# under load for LOAD seconds (60). About 5 minutes beside the build.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
O=${1:-build/tsan}
export TSAN_OPTIONS="exitcode=66 suppressions=$PWD/tests/race.supp"
# the layout of memory that newer kernels choose at random is not one that gcc 12's TSan knows
fixed=(setarch -R)
"${fixed[@]}" true 2>/dev/null || fixed=()
failed=0 passed=0
run() { # NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  if timeout 300 "${fixed[@]}" "$@" >"$O/race.log" 2>&1; then
    passed=$((passed + 1))
    echo "ok   $name ($((SECONDS - start)) s)"
  elif [ $? = 1 ] && [[ $name = */* ]] && ! grep -q 'ThreadSanitizer' "$O/race.log"; then
    # bounds of time do not hold under this tool; the plain build has to keep them
    passed=$((passed + 1))
    echo "ok   $name ($((SECONDS - start)) s; no race, but: $(grep -c 'LINE' "$O/race.log") checks of its own failed)"
  else
    failed=$((failed + 1))
    echo "fail $name"
    grep -E -A40 'WARNING: ThreadSanitizer|ERROR|^fail' "$O/race.log" | head -n 60
  fi
}
for t in agent/test_api agent/test_hub agent/test_import agent/test_router agent/test_slow agent/test_writer \
  backup/test_backup client/test_client crypt/test_cipher crypt/test_keys docs/test_docs docs/test_promises \
  series/test_series series/test_select series/test_native store/test_rotate store/test_store store/test_check \
  store/test_verify store/test_pages; do
  run "$t" "$O/tests/unit/$t"
done
LOAD=${LOAD:-60} run "agent under load" tests/integration/load.sh "$O"
echo "$passed passed, $failed failed, 0 skipped"
exit $((failed > 0))
