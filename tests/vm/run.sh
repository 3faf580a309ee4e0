#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [-k KERNELS] [-b BOOTS] [CASE...]: the tests that need another kernel, in QEMU guests.
#   -k "6.1 6.12"    kernels          -b "full no-bpf-lsm ..."   boots (see the table below)
#   CASE             only these files of cases/ (without .sh)
# Prints `ok|FAIL|skip KERNEL BOOT/CHECK [reason]` and `N passed, N failed, N skipped`.
# Exit 0 all passed, 1 a failure, 77 nothing could run. Logs: $O/vm/log. No root is needed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${O:-build}
cache=${MNO_VM_CACHE:-$build/vm}
logs=$build/vm/log
kernels="6.1 6.12"
boots="full no-bpf-lsm confidentiality"
passed=0 failed=0 skipped=0
declare -A reported

while getopts k:b: option; do
  case $option in
  k) kernels=$OPTARG ;;
  b) boots=$OPTARG ;;
  *) sed -n '3,8s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
only_cases=$*

say() { echo "run.sh: $*" >&2; }

# report STATUS KERNEL CHECK [REASON]
report() {
  case $1 in
  ok) passed=$((passed + 1)) ;;
  FAIL) failed=$((failed + 1)) ;;
  skip) skipped=$((skipped + 1)) ;;
  esac
  reported[$2/$3]=1
  echo "$1 $2 $3${4:+ $4}"
}

finish() {
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ] || exit 1
  [ "$passed" -gt 0 ] || exit 77
  exit 0
}

# Whatever cannot be prepared is reported as one skip for each kernel, with its reason.
give_up() {
  local kernel
  for kernel in $kernels; do
    report skip "$kernel" lane "$1"
  done
  finish
}

build_smoke() {
  local out=$build/vm/bin src=$here bpftool=/usr/sbin/bpftool
  local stamp=$out/lsm_smoke
  [ -x $bpftool ] || bpftool=bpftool
  if [ -x "$stamp" ] && [ -z "$(find "$src" -name 'lsm_smoke*' -newer "$stamp")" ]; then
    return 0
  fi
  mkdir -p "$out"
  clang -O2 -g -target bpf -D__TARGET_ARCH_x86 -Wall -Wextra -Werror -Wno-unused-parameter \
    -I"$src" "-I/usr/include/$(uname -m)-linux-gnu" -c "$src/lsm_smoke.bpf.c" -o "$out/lsm_smoke.bpf.o" &&
    llvm-strip -g "$out/lsm_smoke.bpf.o" &&
    "$bpftool" gen skeleton "$out/lsm_smoke.bpf.o" name lsm_smoke_bpf >"$out/lsm_smoke.skel.h" &&
    gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static -I"$out" -I"$src" \
      "$src/lsm_smoke.c" -o "$stamp" -lbpf -lelf -lz
}

# One archive for all boots: the cases, and the programs at the paths that they have on a host.
build_payload() {
  local tree=$1/tree
  rm -rf "$tree"
  mkdir -p "$tree/payload"
  cp -r "$here/lib.sh" "$here/guest.sh" "$here/cases" "$build/vm/bin/lsm_smoke" "$tree/payload/"
  if [ -x "$build/mnod" ] && [ -x "$build/mnoctl" ]; then
    "$here/carry.sh" "$tree" "$build/mnod=/usr/bin/mnod" "$build/mnoctl=/usr/bin/mnoctl" || return 1
  fi
  if command -v jq >/dev/null; then
    "$here/carry.sh" "$tree" jq || return 1
  fi
  (cd "$tree" && find . | cpio -o -H newc -R 0:0 --quiet) >"$1/payload.cpio" && rm -rf "$tree"
}

case_files() {
  local file
  for file in "$here"/cases/*.sh; do
    [[ " $(sed -n 's/^# boots: //p' "$file") " == *" $1 "* ]] || continue
    [ -z "$only_cases" ] || [[ " $only_cases " == *" $(basename "$file" .sh) "* ]] || continue
    echo "$file"
  done
}

# collect KERNEL BOOT STATUS: turn a guest's output into report lines. A check that the head of a
# case promises and that no line reports has failed, whatever the reason.
collect() {
  local kernel=$1 boot=$2 status=$3 dir=$logs/$1-$2 file name tag verdict reason
  while read -r tag verdict name reason; do
    [ "$tag" = '=result=' ] || continue
    if [ -n "${reported[$kernel/$boot/$name]:-}" ]; then
      verdict=FAIL reason="reported twice"
    fi
    report "$verdict" "$kernel" "$boot/$name" "$reason"
  done < <(tr -d '\r\000' <"$dir/output")
  for file in $(case_files "$boot"); do
    for name in $(sed -n 's/^# checks: //p' "$file"); do
      [ -n "${reported[$kernel/$boot/$name]:-}" ] ||
        report FAIL "$kernel" "$boot/$name" "no result (guest status $status): see $dir"
    done
  done
  if grep -qaE 'BUG:|Oops|WARNING: CPU|general protection|Kernel panic|rcu.*stall|hung task' \
    "$dir/console" "$dir/dmesg" 2>/dev/null; then
    report FAIL "$kernel" "$boot/kernel-log" "the kernel complained: see $dir/dmesg"
  else
    report ok "$kernel" "$boot/kernel-log"
  fi
}

# limit_of BOOT: the sum of its cases' limits, and what a slow boot takes.
limit_of() {
  local file sum=30
  for file in $(case_files "$1"); do
    sum=$((sum + $(sed -n 's/^# limit: //p' "$file")))
  done
  echo "$sum"
}

# guest KERNEL BOOT [BOOT_OPTION...]: one boot and its report.
guest() {
  local kernel=$1 boot=$2 dir=$logs/$1-$2 status
  shift 2
  [ -n "$(case_files "$boot")" ] || return 0
  rm -rf "$dir"
  mkdir -p "$dir"
  "$here/boot.sh" -i "$work/payload.cpio" -o "$dir" -t "$(limit_of "$boot")" "$@" "$cache/$kernel" \
    "VM_CASES='$only_cases' sh /payload/guest.sh $boot" >/dev/null 2>"$dir/boot.err"
  status=$?
  collect "$kernel" "$boot" "$status"
  say "$kernel $boot: $(cat "$dir/time" 2>/dev/null || cat "$dir/boot.err")"
}

boot_one() {
  case $2 in
  full) guest "$1" full ;;
  no-bpf-lsm) guest "$1" no-bpf-lsm -l lockdown,capability,landlock,yama ;;
  confidentiality) guest "$1" confidentiality -a lockdown=confidentiality ;;
  *) say "no boot named $2"; exit 2 ;;
  esac
}

for tool in qemu-system-x86_64 setpriv clang bpftool cpio; do
  PATH=$PATH:/usr/sbin command -v $tool >/dev/null || give_up "$tool is missing: run make deps"
done
mkdir -p "$logs" || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM HUP
trap 'exit 130' INT
# shellcheck disable=SC2086
"$here/kernels.sh" "$cache" $kernels 2>"$work/kernels.err" ||
  give_up "no guest kernel: $(tail -n 1 "$work/kernels.err")"
build_smoke || { report FAIL host lsm-smoke-build "see above"; finish; }
build_payload "$work" || { report FAIL host payload-build "see above"; finish; }
for kernel in $kernels; do
  for boot in $boots; do
    boot_one "$kernel" "$boot"
  done
done
finish
