#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make check: what can be said about the tree without running it. One line a check, findings below
# it; a check whose tool is missing is skipped with the reason. Last line: N passed, N failed, N skipped.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
export LC_ALL=C
passed=0 failed=0 skipped=0

files() { # PATTERN...: tracked and new files, none that is ignored or gone
  { git ls-files -co --exclude-standard -- "$@" 2>/dev/null ||
    find . -path ./build -prune -o -type f -print | sed 's|^\./||'; } |
    while read -r f; do [ -f "$f" ] && echo "$f"; done | sort -u
}
# NAME FUNCTION [TOOL]: passes when the function prints nothing but lines that begin with "# "
check() {
  local name=$1 fn=$2 tool=${3:-} out
  if [ -n "$tool" ] && ! command -v "$tool" >/dev/null; then
    echo "skip $name: $tool is not installed"
    skipped=$((skipped + 1))
    return
  fi
  out=$("$fn" 2>&1)
  if [ -z "$(grep -v '^# ' <<<"$out" | tr -d '[:space:]')" ]; then
    echo "ok   $name${out:+  ${out#\# }}"
    passed=$((passed + 1))
  else
    echo "fail $name"
    head -n 40 <<<"$out" | sed 's/^/       /'
    failed=$((failed + 1))
  fi
}

includes_self() { tools/dev/check-includes.sh --self-test | sed 's/^self-test: \([0-9]\)/# \1/'; }
includes() { tools/dev/check-includes.sh; }

# --- tables and folders: one row, one unit, one test, one summary ----------------------------
rows() { # FILE MACRO: first argument of each row
  [ -e "$1" ] && sed -n "s/^$2([[:space:]]*\"\{0,1\}\([a-z0-9_-]*\).*/\1/p" "$1"
}
same() { # LABEL ROWS UNITS
  comm -23 <(sort -u <<<"$2") <(sort -u <<<"$3") | sed "/^$/d; s|^|$1: row without its file: |"
  comm -13 <(sort -u <<<"$2") <(sort -u <<<"$3") | sed "/^$/d; s|^|$1: file without a row: |"
  sort <<<"$2" | uniq -d | sed "/^$/d; s|^|$1: row twice: |"
}
probe_tables() {
  local p all
  all=$(rows bpf/probes.def PROBE)
  same probes.def "$all" "$(files 'bpf/*.bpf.c' | grep -v '^bpf/enforce/' | sed -n 's|^bpf/\([^/]*\)/.*\.bpf\.c$|\1|p')"
  for p in $all; do
    [ -e "bpf/$p/$p.c" ] || echo "bpf/$p: no user side $p.c"
    grep -qs '\.summary = "..' "bpf/$p/$p.c" || echo "bpf/$p: no .summary"
    compgen -G "tests/unit/bpf/test_$p*.c" >/dev/null || [ -e "tests/bpf/test_$p.c" ] ||
      echo "bpf/$p: neither tests/unit/bpf/test_$p.c nor tests/bpf/test_$p.c"
  done
  sed -n 's/^PROBE(.*,[[:space:]]*\([0-9]*\))/\1/p' bpf/probes.def | sort | uniq -d |
    sed 's/^/probes.def: number twice: /'
}
# DEF MACRO FOLDER TESTS: every row has FOLDER/row.c (- is _) and is named in a file below TESTS
unit_table() {
  local def=$1 macro=$2 dir=$3 tests=$4 r all
  [ -e "$def" ] || { echo "# no $def"; return; }
  all=$(rows "$def" "$macro")
  [ -n "$all" ] || echo "$def: no row begins with $macro("
  # proc_list.c is a part of proc.c
  same "$def" "$(tr - _ <<<"$all")" "$(files "$dir/*.c" | sed 's|.*/||; s|\.c$||' |
    awk -v rows="$all" 'BEGIN { n = split(rows, r, "\n") }
      { for (i = 1; i <= n; i++) if (index($0, r[i] "_") == 1) next; print }')"
  for r in $all; do
    grep -qsrwE "$r|${r//-/_}" $tests || echo "$def: $r is in no test below $tests"
  done
}
verb_tables() { unit_table tools/mnoctl/verbs.def VERB tools/mnoctl/verbs tests/; }
source_tables() { unit_table agent/sources/sources.def SOURCE agent/sources tests/; }
route_tables() {
  local f
  f=$(files '*routes.def' | head -n 1)
  [ -n "$f" ] || { echo "# no routes.def"; return; }
  grep -oE '"/[a-z0-9_/<>*.-]*"' "$f" | tr -d '"' | sed 's/[<*].*//' | sort -u | while read -r r; do
    grep -qsrF -- "${r%/}" tests/ || echo "$f: $r is in no test"
  done
}

# --- text ------------------------------------------------------------------------------------
format() {
  files '*.c' '*.h' | grep -v '^tests/fixtures/' |
    xargs -r clang-format --dry-run -Werror 2>&1 | grep -E 'error:|warning:' | cut -d: -f1,2 | sort -u |
    awk -F: '{ n[$1]++; if (!($1 in l)) l[$1] = $2 }
      END { for (f in n) print f ":" l[f] ": not formatted (" n[f] " places; make format)" }'
}
licences() {
  local f want
  files Makefile '*.c' '*.h' '*.def' '*.sh' '*.py' '*.list' .ci/run | while read -r f; do
    want=Apache-2.0
    case $f in *.bpf.c | *.bpf.h | bpf/probes.def | bpf/include/mno_wire.h | bpf/include/mno_bpf.h | \
      bpf/include/mno_vmlinux*.h | bpf/include/mno_hist.h | bpf/*/*_wire.h | bpf/enforce/*.h)
      want='GPL-2.0-only OR BSD-2-Clause' ;;
    esac
    head -n 2 "$f" | grep -qE "SPDX-License-Identifier: $want( \*/)?$" || echo "$f: no SPDX line: $want"
  done
}
sizes() {
  local f n max
  files '*.c' Makefile README.md | while read -r f; do
    max=700
    case $f in Makefile) max=250 ;; README.md) max=200 ;; esac
    n=$(wc -l <"$f")
    [ "$n" -le $max ] || echo "$f: $n lines, at most $max"
  done
}
functions() { # ctags gives first and last line of each
  files '*.c' | grep -v '^tests/fixtures/' |
    ctags -x --languages=C --kinds-C=f --fields=+e --_xformat='%{end} %n %F %N' -L - 2>/dev/null |
    awk '$1 > 0 { n = $1 - $2 + 1; if (n > 100) print $3 ":" $2 ": " $4 "() has " n " lines, at most 100"
        len[++c] = n }
      END { if (!c) exit; for (i = 1; i <= c; i++) h[len[i]]++
        for (v = 1; s * 2 < c; v++) s += h[v]; for (w = v; s * 10 < c * 9; w++) s += h[w]
        printf "# %d functions, median %d lines, 90 %% have at most %d\n", c, v - 1, w - 1 }'
}
unfinished() {
  files '*.c' '*.h' '*.def' '*.sh' Makefile '*.md' | grep -v '^tools/dev/check.sh$' |
    xargs -r grep -nE '\b(TODO|FIXME|XXX|HACK)\b'
}
prototypes() { # a public prototype stands in a run of lines that a comment opens or ends
  files 'libmno/include/mno/*.h' 'agent/*.h' | xargs -r awk '
    FNR == 1 || /^$/ || /^};?$/ { documented = 0 }
    /\/\*|\*\// { documented = 1 }
    /^(const |struct |enum |unsigned )*[a-z_0-9]+[a-z_0-9 ]*[ *]+\*?mno_[a-z0-9_]+\(/ {
      if (!documented && $0 !~ /\/\*/ && $1 !~ /^(typedef|return|static)$/)
        { match($0, /mno_[a-z0-9_]+\(/); print FILENAME ":" FNR ": " substr($0, RSTART, RLENGTH) ") has no contract" }
    }'
}
whitespace() { files | grep -vE '^(tests/fuzz/corpus|tests/fixtures)/' | xargs -r grep -nIE '[[:blank:]]+$' | head -n 20; }
early_end() { # under pipefail the writer of "| grep -q" may die of SIGPIPE: read all instead
  files 'tests/integration/*.sh' tests/integration/lib.bash | xargs -r grep -nE '\| *grep -[a-zA-Z]*q' |
    grep -vE '(ba)?sh -c'
}
shell() { files '*.sh' .ci/run | xargs -r shellcheck -S warning -f gcc; }
spelling() {
  # unit tests misspell on purpose
  files '*.c' '*.h' '*.sh' '*.md' '*.def' '*.[1-8]' Makefile | grep -v '^tests/unit/' | xargs -r codespell -q 3 \
    -L mno,fo,ot,ba,te,nd,fpr,inout,seperator,ro,ser,ue,stap,hist,wil,inflight
}
top_level() {
  git ls-files -co --exclude-standard 2>/dev/null | cut -d/ -f1 | sort -u |
    grep -vxE 'bpf|agent|libmno|policies|tools|tests|Makefile|README\.md|LICENSE|\..*' |
    sed 's/$/: not a top-level name of this tree/'
}

check "include rules find bad includes" includes_self
check "include rules" includes
check "probes: rows, folders, tests" probe_tables
check "verbs: rows, files, tests" verb_tables
check "sources: rows, files, tests" source_tables
check "routes are tested" route_tables
check "formatting" format clang-format
check "SPDX lines" licences
check "file sizes" sizes
check "function lengths" functions ctags
check "nothing unfinished" unfinished
check "public prototypes have a contract" prototypes
check "no trailing blanks" whitespace
check "shell scripts" shell shellcheck
check "tests read pipes to their end" early_end
check "spelling" spelling codespell
check "top level" top_level
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
