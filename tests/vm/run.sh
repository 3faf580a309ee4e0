#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [-k KERNELS] [-b BOOTS] [CASE...]: the tests that need another kernel, in QEMU guests.
#   -k "6.1 6.12"    kernels          -b "full no-bpf-lsm ..."   boots, see boot_one below
#   CASE             only these files of cases/ (without .sh)
# Without -b and CASE the lane first tests itself (selftest.sh).
# Prints `ok|FAIL|skip KERNEL BOOT/CHECK [reason]` and `N passed, N failed, N skipped`.
# Exit 0 all passed, 1 a failure, 77 nothing could run. Logs: $O/vm/log. No root is needed.
# timeout: 420
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.." || exit 2
build=${O:-build}
cache=${MNO_VM_CACHE:-$build/vm}
logs=${MNO_VM_LOGS:-$build/vm/log}
case_source=${MNO_VM_CASES:-$here/cases}
kernels="6.1 6.12"
boots="full no-bpf-lsm confidentiality power systemd"
selftest=1
passed=0 failed=0 skipped=0 guest_status=0 guest_env=''
declare -A reported

while getopts k:b: option; do
  case $option in
  k) kernels=$OPTARG ;;
  b) boots=$OPTARG selftest=0 ;;
  *) sed -n '3,9s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
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

build_tools() {
  local out=$build/vm/bin src=$here bpftool=/usr/sbin/bpftool
  local stamp=$out/logreplay
  [ -x $bpftool ] || bpftool=bpftool
  if [ -x "$stamp" ] && [ -z "$(find "$src" -name '*.[ch]' -newer "$stamp")" ]; then
    return 0
  fi
  mkdir -p "$out"
  clang -O2 -g -target bpf -D__TARGET_ARCH_x86 -Wall -Wextra -Werror -Wno-unused-parameter \
    -I"$src" "-I/usr/include/$(uname -m)-linux-gnu" -c "$src/lsm_smoke.bpf.c" -o "$out/lsm_smoke.bpf.o" &&
    llvm-strip -g "$out/lsm_smoke.bpf.o" &&
    "$bpftool" gen skeleton "$out/lsm_smoke.bpf.o" name lsm_smoke_bpf >"$out/lsm_smoke.skel.h" &&
    gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static -I"$out" -I"$src" \
      "$src/lsm_smoke.c" -o "$out/lsm_smoke" -lbpf -lelf -lz &&
    gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror "$src/logreplay.c" -o "$stamp"
}

have_agent() { [ -x "$build/mnod" ] && [ -x "$build/mnoctl" ]; }

pack() { (cd "$1" && find . | cpio -o -H newc -R 0:0 --quiet) >"$2" && rm -rf "$1"; }

add_cases() {
  mkdir -p "$1/payload"
  cp -r "$here"/{lib,guest,root,power}.sh "$build/vm/bin/lsm_smoke" "$1/payload/"
  cp -r "$work/cases" "$1/payload/cases"
}

# One case file for the programs of tests/bpf, so that each is a check that must report.
add_bpf_case() {
  local program names=''
  for program in "$build"/tests/bpf/test_*; do
    [ -x "$program" ] && names+=" $(basename "$program")"
  done
  sed "s/^# checks: bpf-tests$/# checks:${names:- bpf-tests}/" "$here/bpf_case.sh" >"$work/cases/25_bpf.sh"
}

# One archive for most boots: the cases, and the programs at the paths that they have on a host.
build_payload() {
  local tree=$work/tree program
  add_cases "$tree" || return 1
  if have_agent; then
    "$here/carry.sh" "$tree" "$build/mnod=/usr/bin/mnod" "$build/mnoctl=/usr/bin/mnoctl" || return 1
  fi
  for program in "$build"/tests/bpf/test_*; do
    [ ! -x "$program" ] ||
      "$here/carry.sh" "$tree" "$program=/payload/bpf/$(basename "$program")" || return 1
  done
  if command -v jq >/dev/null; then
    "$here/carry.sh" "$tree" jq || return 1
  fi
  pack "$tree" "$work/payload.cpio"
}

# The archive of the systemd boot: `make install` as a tar that is laid over the root file system
# (where /lib is a link to /usr/lib), and the libraries of what was installed.
build_root_payload() {
  local tree=$work/tree over=$work/over reason=''
  add_cases "$tree" || return 1
  mkdir -p "$over"/usr/{bin,lib,lib64}
  ln -s usr/lib "$over/lib"
  ln -s usr/lib64 "$over/lib64"
  if ! have_agent; then
    reason="mnod was not built"
  elif ! make -s install O="$build" DESTDIR="$over" PREFIX=/usr >"$logs/install" 2>&1; then
    reason="make install failed: $(tail -n 1 "$logs/install")"
  elif ! "$here/carry.sh" "$over" "$build/mnod=/usr/bin/mnod" "$build/mnoctl=/usr/bin/mnoctl" jq; then
    reason="the programs cannot be carried: jq missing?"
  fi
  echo "$reason" | sed '/^$/d' >"$tree/payload/skip-reason"
  rm "$over/lib" "$over/lib64"
  tar -c -f "$tree/payload/root.tar" --owner=0 --group=0 -C "$over" .
  rm -rf "$over"
  pack "$tree" "$work/root.cpio"
}

case_files() {
  local file
  for file in "$work/cases"/*.sh; do
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

# guest KERNEL BOOT ARCHIVE [BOOT_OPTION...]: one boot and its report; its status in $guest_status.
guest() {
  local kernel=$1 boot=$2 archive=$3 dir=$logs/$1-$2
  shift 3
  guest_status=0
  [ -n "$(case_files "$boot")" ] || return 0
  rm -rf "$dir"
  mkdir -p "$dir"
  "$here/boot.sh" -i "$work/$archive" -o "$dir" -t "$(limit_of "$boot")" "$@" "$cache/$kernel" \
    "export VM_CASES='$only_cases' $guest_env; sh /payload/guest.sh $boot" >/dev/null 2>"$dir/boot.err"
  guest_status=$? guest_env=''
  collect "$kernel" "$boot" "$guest_status"
  say "$kernel $boot: $(cat "$dir/time" 2>/dev/null || cat "$dir/boot.err")"
}

# A disk of the power cuts is a file system, and behind it the sector that acknowledgements go to.
mark_sector=520000

make_disk() {
  rm -f "$1"
  truncate -s 256M "$1"
  PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -E nodiscard "$1" 250M
}

# One guest writes until QEMU is killed; a second looks at the disk as it was left, a third at
# what other cuts would have left, by the log of all writes and flushes.
power_cut() {
  local disk=$work/disk.img log=$work/disk.log
  rm -f "$work"/disk.* "$work"/cut.*
  make_disk "$disk" && cp --sparse=always "$disk" "$work/disk.base" && : >"$log" || return 1
  guest_env="VM_MARK=$mark_sector"
  guest "$1" power-write payload.cpio -k VM-POWER-CUT -d "driver=blklogwrites,if=virtio,\
file.driver=raw,file.file.driver=file,file.file.filename=$disk,log.driver=file,log.filename=$log,\
log-sector-size=512,log-super-update-interval=1"
  if [ "$guest_status" -eq 137 ] && ! grep -q VM-NO-MARK "$logs/$1-power-write/console"; then
    report ok "$1" power-write/cut
  else
    report FAIL "$1" power-write/cut "the guest ended by itself (status $guest_status), or no mark"
    return
  fi
  guest "$1" power-check payload.cpio -d "file=$disk,format=raw,if=virtio"
  power_log "$1"
}

# Four cuts spread over the log; in the first two nothing that was not flushed survives, in the
# others a random half of it.
power_log() {
  local n cut entries acked='' drives=()
  entries=$("$build/vm/bin/logreplay" "$work/disk.log" | cut -d ' ' -f 2)
  for n in 1 2 3 4; do
    cut=$((entries * (n * 2 + 1) / 9))
    cp --sparse=always "$work/disk.base" "$work/cut.$n"
    acked+=" $("$build/vm/bin/logreplay" "$work/disk.log" "$work/cut.$n" "$cut" $((n > 2 ? n : 0)) \
      "$mark_sector" | cut -d ' ' -f 2)"
    drives+=(-d "file=$work/cut.$n,format=raw,if=virtio")
  done
  say "$1 power-log: $entries log entries, acknowledged at the cuts:$acked"
  guest_env="VM_ACKED='$acked'"
  guest "$1" power-log payload.cpio "${drives[@]}"
}

systemd_root() {
  if ! "$here/rootfs.sh" "$cache" 2>"$logs/rootfs"; then
    report skip "$1" systemd/root "no root file system: $(tail -n 1 "$logs/rootfs")"
    return
  fi
  [ -s "$work/root.cpio" ] || build_root_payload || return
  guest "$1" systemd root.cpio -r -d "file=$cache/systemd/root.img,format=raw,if=virtio,snapshot=on"
}

boot_one() {
  case $2 in
  full)
    make_disk "$work/scratch.img" || return 1
    guest "$1" full payload.cpio -d "file=$work/scratch.img,format=raw,if=virtio"
    ;;
  no-bpf-lsm) guest "$1" no-bpf-lsm payload.cpio -l lockdown,capability,landlock,yama ;;
  confidentiality) guest "$1" confidentiality payload.cpio -a lockdown=confidentiality ;;
  power) power_cut "$1" ;;
  systemd) systemd_root "$1" ;;
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
build_tools || { report FAIL host tools-build "see above"; finish; }
cp -r "$case_source" "$work/cases" || exit 2
[ "$case_source" != "$here/cases" ] || add_bpf_case
build_payload || { report FAIL host payload-build "see above"; finish; }
if [ "$selftest" = 1 ] && [ -z "$only_cases" ]; then
  kernel=${kernels%% *}
  while read -r verdict name reason; do
    report "$verdict" "$kernel" "selftest/$name" "$reason"
  done < <("$here/selftest.sh" "$cache/$kernel")
fi
for kernel in $kernels; do
  for boot in $boots; do
    boot_one "$kernel" "$boot"
  done
done
finish
