#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: tests/run.sh [GROUP...]   (default: every group, in the order of the table below)
# Runs the tests, prints each group's result and time, then what was skipped and why, what failed
# with the end of its log. Last line: "N passed, N failed, N skipped". Exit 1 if anything failed.
#
# A program counts what cmocka reports; a script counts what its last line says in that same form,
# else one. Exit 77 is a skip, its reason is the last line of output; a line "skip NAME: reason" of
# a script that counts by itself is a skip, too. "# timeout: N" in a script's head sets its limit.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
unset MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES
export LC_ALL=C NO_COLOR=1 GIT_PAGER=cat
export ASAN_OPTIONS=halt_on_error=1:abort_on_error=0:detect_leaks=1:exitcode=99
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
BUDGET=${TEST_BUDGET:-3000} # seconds for all of it: against hangs, not a goal (12 min on 2 idle cores)
JOBS=${TEST_JOBS:-$(n=$(nproc); echo $((n > 4 ? 4 : n)))}
O=build
T=$O/test-results
rm -rf "$T"
mkdir -p "$T"
: >"$T/results"
trap 'kill $(jobs -p) 2>/dev/null; echo "interrupted" >&2; exit 130' INT TERM

left() { echo $((BUDGET - SECONDS > 5 ? BUDGET - SECONDS : 5)); }

# GROUP NAME LOG RC SECONDS: one line "group|name|passed|failed|skipped|seconds|reason" in results
record() {
  local group=$1 name=$2 log=$3 rc=$4 secs=$5 p=0 f=0 s=0 why='' last
  # a failing test that make started is followed by make's own line
  last=$(grep -avE '^[[:space:]]*$|^make(\[[0-9]+\])?: ' "$log" | tail -n 1 | tr -d '\r' | tr '|' '/')
  if [ "$rc" = 77 ]; then
    s=1 why=${last:-"no reason given"}
  elif [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
    p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]} s=${BASH_REMATCH[3]}
  elif grep -aq '^\[==========\] [0-9]* test(s) run' "$log"; then
    p=$(sum_cmocka PASSED "$log") f=$(sum_cmocka FAILED "$log") s=$(sum_cmocka SKIPPED "$log")
  elif [ "$rc" = 0 ]; then
    p=1
  elif [ "$rc" = 124 ] || [ "$rc" = 137 ]; then # what it said before its time was over
    p=$(grep -ac '^ok ' "$log") f=$(grep -acE '^(fail|FAIL) ' "$log") s=$(grep -ac '^skip ' "$log")
    f=$((f + 1)) why="no end after its time limit"
  fi
  # an exit status that the counts do not explain, and a program that ran nothing, are failures
  if [ "$rc" != 0 ] && [ "$rc" != 77 ] && [ "$f" = 0 ]; then
    f=1 why="exit status $rc"
  elif [ $((p + f + s)) = 0 ]; then
    f=1 why="ran no test"
  fi
  printf '%s|%s|%s|%s|%s|%s|%s\n' "$group" "$name" "$p" "$f" "$s" "$secs" "$why" >>"$T/results"
}

# cmocka prints "[  PASSED  ] 3 test(s)." once per group of tests
sum_cmocka() {
  sed -n "s/^\[  $1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$2" | awk '{ n += $1 } END { print n + 0 }'
}

# GROUP NAME LIMIT COMMAND...: runs one test to its end
one() {
  local group=$1 name=$2 limit=$3 log t0 rc max
  shift 3
  log=$(log_of "$group" "$name")
  max=$(left)
  t0=$SECONDS
  if [ "$max" -le 5 ]; then
    echo "the time for all tests is used up ($BUDGET s)" >"$log"
    record "$group" "$name" "$log" 124 0
    return
  fi
  timeout -k 10 $((limit < max ? limit : max)) "$@" >"$log" 2>&1 </dev/null
  rc=$?
  record "$group" "$name" "$log" $rc $((SECONDS - t0))
}

# Waits until fewer than N of our tests run.
throttle() {
  while [ "$(jobs -rp | wc -l)" -ge "$1" ]; do wait -n 2>/dev/null || true; done
}

limit_of() { # SCRIPT DEFAULT
  local n
  n=$(sed -n '1,12s/^# timeout: \([0-9][0-9]*\).*/\1/p' "$1" | head -n 1)
  echo "${n:-$2}"
}

log_of() { # GROUP NAME
  local n=${2//\//_}
  echo "$T/$1-${n//[^a-zA-Z0-9_.=-]/_}.log"
}

build() { # GROUP MAKE-ARGS...
  local group=$1
  shift
  one "$group" "make $*" 600 make --no-print-directory -k -j"$(nproc)" "$@"
}

group_build() { build build tests; }
group_build-san() { build build-san SANITIZE=1 tests; }
group_build-clang() {
  command -v clang >/dev/null || { skip build-clang all "clang is not installed"; return; }
  build build-clang CC=clang O=$O/clang tests
}
skip() { # GROUP NAME REASON
  echo "$1|$2|0|0|1|0|$3" >>"$T/results"
}
unit_in() { # GROUP BUILD-DIR LIMIT; goes by the sources, so that a program that is missing fails
  local t
  for t in $(find tests/unit -name 'test_*.c' | sort); do
    t=${t%.c}
    throttle "$JOBS"
    one "$1" "${t#tests/unit/}" "$3" "$2/$t" &
  done
  wait
}
group_unit() { unit_in unit $O 120; }
group_unit-san() { unit_in unit-san $O/san 240; }
group_fuzz() { # replays the corpora under the sanitizers
  local src name files
  for src in tests/fuzz/*.c; do
    [ -e "$src" ] || continue
    name=$(basename "$src" .c)
    files=$(find "tests/fuzz/corpus/$name" -type f 2>/dev/null | head -n 1)
    if [ -z "$files" ]; then
      echo "no corpus in tests/fuzz/corpus/$name" >"$T/fuzz-$name.log"
      record fuzz "$name" "$T/fuzz-$name.log" 1 0
      continue
    fi
    throttle "$JOBS"
    one fuzz "$name" 120 "$O/san/tests/fuzz/$name" "tests/fuzz/corpus/$name" &
  done
  wait
}
group_bpf() {
  local t
  if [ "$(id -u)" != 0 ]; then
    skip bpf all "needs root"
    return
  fi
  for t in tests/bpf/test_*.c; do
    [ -e "$t" ] && one bpf "$(basename "$t" .c)" 120 "$O/${t%.c}"
  done
  for t in tests/bpf/*.sh; do
    [ -e "$t" ] && one bpf "$(basename "$t")" "$(limit_of "$t" 120)" "$t" $O
  done
}
group_integration() {
  local t
  for t in tests/integration/*.sh; do
    [ -e "$t" ] && one integration "$(basename "$t" .sh)" "$(limit_of "$t" 180)" "$t" $O
  done
}
group_instructions() { # what must not grow slower in silence
  one instructions instructions "$(limit_of tests/bench/instructions.sh 180)" \
    tests/bench/instructions.sh $O
}
group_check() { one check check 180 tools/dev/check.sh; }
group_vm() {
  [ -x tests/vm/run.sh ] || return 0
  if ! command -v qemu-system-x86_64 >/dev/null; then
    skip vm all "qemu-system-x86_64 is not installed"
    return
  fi
  one vm vm "$(limit_of tests/vm/run.sh 1500)" make --no-print-directory vm-test
}

report() { # GROUP SECONDS
  awk -F'|' -v g="$1" -v t="$2" '$1 == g { p += $3; f += $4; s += $5 }
    END { printf "%-12s %5d passed %4d failed %4d skipped  %4d s\n", g, p, f, s, t }' "$T/results"
}

groups=(build build-san check unit unit-san fuzz instructions bpf integration build-clang vm)
[ $# -eq 0 ] || groups=("$@")
for g in "${groups[@]}"; do
  declare -F "group_$g" >/dev/null || { echo "tests/run.sh: no group $g" >&2; exit 2; }
  t0=$SECONDS
  [ -t 1 ] && printf '%-12s running\r' "$g"
  "group_$g"
  report "$g" $((SECONDS - t0))
done

if grep -q '^\([^|]*|\)\{4\}[1-9]' "$T/results"; then
  echo
  echo "skipped:"
  while IFS='|' read -r g n _ _ s _ why; do
    [ "$s" -gt 0 ] || continue
    if [ -n "$why" ]; then
      echo "  $g/$n: $why"
    elif grep -aq '^skip ' "$(log_of "$g" "$n")"; then
      sed -n "s|^skip |  $g/$n: |p" "$(log_of "$g" "$n")"
    else
      echo "  $g/$n: $s, reasons in $(log_of "$g" "$n")"
    fi
  done <"$T/results"
fi
if grep -q '^\([^|]*|\)\{3\}[1-9]' "$T/results"; then
  while IFS='|' read -r g n _ f _ _ why; do
    [ "$f" -gt 0 ] || continue
    echo
    echo "FAILED $g/$n: $f${why:+ ($why)}; $(log_of "$g" "$n"):"
    { grep -aE '^(fail |FAIL |\[  FAILED  \]|.*(error|ERROR|Error):)' "$(log_of "$g" "$n")" |
        head -n 12
      echo "..."
      tail -n 15 "$(log_of "$g" "$n")"; } | cut -c1-240 | sed 's/^/    /'
  done <"$T/results"
fi
echo
echo "slowest: $(sort -t'|' -k6,6nr "$T/results" | head -n 5 |
  awk -F'|' '{ printf "%s%s/%s %d s", (NR > 1 ? ", " : ""), $1, $2, $6 }'); all: $SECONDS s"
awk -F'|' '{ p += $3; f += $4; s += $5 } END {
  printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 || p == 0 }' "$T/results"
