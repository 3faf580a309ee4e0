#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: instructions.sh [BUILD_DIR]: counts the instructions of fixed workloads under cachegrind and
# compares them with tests/bench/instructions.table: over 3 % more is a failure, over 3 % less a
# hint. UPDATE=1 writes the table anew; the commit that raises a figure says why.
# Counts depend on compiler, libraries and vector units: where these are others than the table's,
# figures are shown and nothing is compared. Last line: N passed, N failed, N skipped.
# timeout: 180
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
O=$(realpath "${1:-build}") table=tests/bench/instructions.table LIMIT=3
run=$O/bench/instructions passed=0 failed=0 skipped=0
[ -x "$run" ] || { echo "instructions.sh: make bench-bins first" >&2; exit 2; }
command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed"; exit 77; }

machine() { # what counts depend on, upstream versions
  local p
  printf '%s %s' "$(uname -m)" "$(grep -om1 -w avx2 /proc/cpuinfo)"
  printf ' %s' "$(strings -a "$run" 2>/dev/null | sed -n 's/^GCC: .* /gcc=/p; s/.*clang version \([0-9.]*\).*/clang=\1/p' |
    sort -u | paste -sd' ')"
  for p in libc6 liblmdb0 libzstd1 libsodium23 libpcre2-8-0 valgrind; do
    printf ' %s' "$p=$(dpkg-query -W -f '${Version}' $p 2>/dev/null | sed 's/^[0-9]*://; s/[-+~].*//')"
  done
}
refs() { # WORK N: instructions
  valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null "$run" "$1" "$2" 2>&1 |
    awk '/ I +refs:/ { gsub(/,/, ""); n = $NF } END { if (n == "") exit 1; print n }'
}
judge() { # COUNT TABLE'S: "ok|less|more PERCENT"
  awk -v n="$1" -v t="$2" -v l=$LIMIT 'BEGIN {
    d = 100 * (n / t - 1); print (d > l ? "more" : d < -l ? "less" : "ok"), sprintf("%+.1f", d) }'
}
[ "$(judge 1031 1000) $(judge 1029 1000) $(judge 960 1000)" = "more +3.1 ok +2.9 less -4.0" ] ||
  { echo "fail self-test: the comparison lets too much pass"; exit 1; }

here=$(machine)
was=$(sed -n 's/^machine //p' "$table" 2>/dev/null)
counts=''
for work in $("$run"); do
  if ! a=$(refs "$work" 0) || ! b=$(refs "$work" 1) || [ $((b - a)) -le 0 ]; then
    # valgrind 3.19 does not read the debug information of every compiler
    if [ "$here" = "$was" ]; then failed=$((failed + 1)) what=fail; else skipped=$((skipped + 1)) what=skip; fi
    echo "$what $work: not counted; see: valgrind --tool=cachegrind $run $work 1"
    continue
  fi
  n=$((b - a)) counts+="$work $n"$'\n'
  t=$(awk -v w="$work" '$1 == w { print $2 }' "$table" 2>/dev/null)
  m=$(awk "BEGIN { printf \"%.2f\", $n / 1e6 }")
  echo "bench instructions-$work $m M"
  if [ "${UPDATE:-0}" = 1 ]; then
    echo "ok $work: ${t:-new} -> $n"
    passed=$((passed + 1))
  elif [ "$here" != "$was" ]; then
    echo "skip $work: counted with other compiler or libraries than the table"
    skipped=$((skipped + 1))
  elif [ -z "$t" ]; then
    echo "fail $work: has no row in $table; make bench BENCH=instructions UPDATE=1"
    failed=$((failed + 1))
  else
    read -r what percent < <(judge "$n" "$t")
    case $what in
    more) echo "fail $work: $percent % ($t -> $n); less, or UPDATE=1 and a commit that says why" ;;
    less) echo "ok $work: $percent %; make bench BENCH=instructions UPDATE=1 keeps the gain" ;;
    *) echo "ok $work: $percent %" ;;
    esac
    if [ "$what" = more ]; then failed=$((failed + 1)); else passed=$((passed + 1)); fi
  fi
done
if [ "${UPDATE:-0}" = 1 ] && [ $((failed + skipped)) = 0 ]; then
  {
    echo "# Instructions of the workloads of instructions.c. Made by: make bench BENCH=instructions UPDATE=1"
    echo "machine $here"
    printf '%s' "$counts"
  } >"$table"
elif [ "$here" != "$was" ]; then
  echo "# here: $here"
  echo "# table: ${was:-none}"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
