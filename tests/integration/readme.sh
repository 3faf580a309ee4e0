#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the README tells people to type works: make targets exist; mnoctl, curl and bpftool lines are
# run against an agent; files that it names are there.
# timeout: 120
. "$(dirname "$0")/lib.bash"
[ "$(id -u)" != 0 ] || own_bpffs "$@"

commands() { # lines of fenced blocks that are commands, "$ " and trailing comment off
  awk '/^```/ { on = !on; next } on' README.md | sed -n 's/^\$ //; s/[[:space:]]\{1,\}#.*$//;
    /^\(make\|mnoctl\|build\/mnoctl\|curl\|bpftool\) /p' | sort -u
}
is_target() { grep -qE "^([a-z-]+ )*$1( [a-z-]+)*:" Makefile; }
named_files() {
  # shellcheck disable=SC2016
  grep -oE '`[a-zA-Z0-9_.*/<>-]+`' README.md | tr -d '`' | sort -u |
    grep -E '^(bpf|libmno|agent|tools|tests|policies)/|^[A-Z][A-Za-z]+$' | sed 's|<[a-z]*>|*|g' |
    while read -r f; do compgen -G "$f" >/dev/null || echo "README names $f, which is not there"; done
}
all_there() { [ -z "$(named_files | tee /dev/stderr)" ]; }
run_line() { # a command of the README with this test's socket and programs
  local line=$1
  line=${line//build\/run\/mno.sock/$SOCK}
  line=${line//build\/mnoctl/$O/mnoctl}
  [[ $line == mnoctl* ]] && line="$O/$line"
  MNO_SOCKET=$SOCK timeout 20 bash -c "$line" </dev/null
}

ok "files that it names are there" all_there
no_marks() { ! grep -nE '@[A-Z]+@' README.md; }
ok "it is finished" no_marks
while read -r line; do
  [[ $line == make* ]] || continue
  for t in $line; do
    case $t in make | *=*) ;; *) ok "make $t" is_target "$t" ;; esac
  done
done < <(commands)

if [ "$(id -u)" != 0 ]; then
  skip "commands against an agent" "needs root"
  finish
fi
ok "starts" start_agent
until_ok identity >/dev/null 2>&1
while read -r line; do
  case $line in
  make*) ;;
  bpftool*)
    if ! command -v bpftool >/dev/null && [ ! -x /usr/sbin/bpftool ]; then
      skip "$line" "bpftool is not installed"
    elif [ ! -e /sys/fs/bpf/mno ]; then
      skip "$line" "nothing is pinned: another agent runs or /sys/fs/bpf cannot be mounted"
    else
      PATH=$PATH:/usr/sbin ok "$line" run_line "$line"
    fi
    ;;
  *) ok "$line" run_line "$line" ;;
  esac
done < <(commands)
finish
