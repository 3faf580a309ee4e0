#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [-k KERNELS] [-b BOOTS] [CASE...]: the tests that need another kernel, in QEMU guests.
#   -k "6.1 6.12"    kernels          -b "full power ..."   boots, on all of them (see boot_one)
#   CASE             only these files of cases/ (without .sh)
# Without -b and CASE the lane first tests itself (selftest.sh).
# Prints `ok|FAIL|skip KERNEL BOOT/CHECK [reason]` and `N passed, N failed, N skipped`.
# Exit 0 all passed, 1 a failure, 77 nothing could run. Logs: $O/vm/log. No root is needed.
# timeout: 1500
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.." || exit 2
build=${O:-build}
cache=${MNO_VM_CACHE:-$build/vm}
logs=${MNO_VM_LOGS:-$build/vm/log}
case_source=${MNO_VM_CASES:-$here/cases}
kernels="6.1 6.12"
boots="full preempt-full no-bpf-lsm confidentiality systemd"
# What says more about the store than about the kernel: on the last kernel only, for time.
last_boots="power power-store"
selftest=1
passed=0 failed=0 skipped=0 guest_status=0 guest_env=''
declare -A reported

while getopts k:b: option; do
  case $option in
  k) kernels=$OPTARG ;;
  b) boots=$OPTARG last_boots='' selftest=0 ;;
  *) sed -n '3,9s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
only_cases=$*

say() { echo "run.sh: $*" >&2; }

# shellcheck source=tests/vm/payload.sh
. "$here/payload.sh"

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
  if grep -qaE 'BUG:|Oops|WARNING: CPU|general protection|Kernel panic' \
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

# Four cuts: one while the agent starts, before anything is acknowledged, the others spread over
# the rest of the log. In the first two nothing that was not flushed survives, in the others a
# random half of it.
power_log() {
  local n cut entries marked acked='' drives=()
  read -r _ entries _ marked < <("$build/vm/bin/logreplay" "$work/disk.log" "$mark_sector")
  for n in 1 2 3 4; do
    cut=$((n == 1 ? marked / 2 : marked + (entries - marked) * (n * 2 - 3) / 6))
    cp --sparse=always "$work/disk.base" "$work/cut.$n"
    acked+=" $("$build/vm/bin/logreplay" "$work/disk.log" "$work/cut.$n" "$cut" $((n > 2 ? n : 0)) \
      "$mark_sector" | cut -d ' ' -f 2)"
    drives+=(-d "file=$work/cut.$n,format=raw,if=virtio")
  done
  say "$1 power-log: $entries log entries, acknowledged at the cuts:$acked"
  guest_env="VM_ACKED='$acked'"
  guest "$1" power-log payload.cpio "${drives[@]}"
}

# old_store DIR: a store whose documents are of an older form.
old_store() {
  local file fixture=tests/fixtures/docs-1
  for file in "$fixture"/*/*.zst; do
    mkdir -p "$1/$(basename "${file%/*}")" &&
      zstd -dqf "$file" -o "$1/$(basename "${file%/*}")/$(basename "$file" .zst)" || return 1
  done
  chmod -R go= "$1"
}

# logged_disk NAME: a -d for a new disk of 48 MiB, 40 of them a file system that has $work/old in
# it, whose log is kept.
logged_disk() {
  local disk=$work/$1.img log=$work/$1.log
  truncate -s 48M "$disk" &&
    PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -E nodiscard -d "$work/old" "$disk" 40M &&
    cp --sparse=always "$disk" "$work/$1.base" && : >"$log" || return 1
  echo "driver=blklogwrites,if=virtio,file.driver=raw,file.file.driver=file,\
file.file.filename=$disk,log.driver=file,log.filename=$log,\
log-sector-size=512,log-super-update-interval=1"
}

# store_cuts KERNEL NAME CUTS [first]: says in $line what the cuts through a disk's log left.
store_cuts() {
  local temp=$work
  [ ! -w /dev/shm ] || temp=$(mktemp -d /dev/shm/mno-cuts.XXXXXX)
  line=$(POWER_LOAD="$build/tests/vm/power_load" POWER_SUM="$store_sum" \
    POWER_STAGES="$work/$2.stages" "$build/vm/bin/logreplay" "$work/$2.log" \
    "$work/$2.base" "$3" "$store_mark" "$temp/cut" "$here/cut_check.sh" "${@:4}" \
    2>"$logs/$1-power-store/$2" | tee -a "$logs/$1-power-store/$2" | tail -n 1)
  [ "$temp" = "$work" ] || rm -rf "$temp"
  say "$1 power-store: $2: $line"
}

# cuts_in_migration KERNEL: sound cuts must have fallen into each part of the migration.
cuts_in_migration() {
  local stage found missing=''
  found=$(sort "$work/sound.stages" | uniq -c | awk '{ printf "%s %s ", $2, $1 }')
  for stage in copying checking "done" undoing undone; do
    [[ " $found" == *" $stage "* ]] || missing+=" $stage"
  done
  say "$1 power-store: the migration was found $found"
  if [ -z "$missing" ]; then
    report ok "$1" power-store/cuts-in-migration
  else
    report FAIL "$1" power-store/cuts-in-migration "no cut fell into:$missing"
  fi
}

# The store under many cuts, and two that must not survive them: or the test sees nothing.
store_mark=90000
power_store() {
  local disk line store_sum drives=()
  if ! { old_store "$work/old/state" && cp -r "$work/old/state" "$work/old-sum" &&
    store_sum=$("$build/tests/vm/power_load" sum "$work/old-sum"); }; then
    report FAIL "$1" power-store/old-store "no store of documents of form 1: see above"
    return
  fi
  for disk in sound nosync noflush; do
    drives+=(-d "$(logged_disk $disk)") || return 1
  done
  guest_env="VM_MARK=$store_mark"
  guest "$1" power-store payload.cpio "${drives[@]}"
  store_cuts "$1" sound "${CUTS:-1000}"
  if [[ $line =~ ^cuts\ [0-9]+\ wrong\ 0\ .*\ behind\ [1-9] ]]; then
    report ok "$1" power-store/cuts
  else
    report FAIL "$1" power-store/cuts "$line; see $logs/$1-power-store/sound"
  fi
  cuts_in_migration "$1"
  for disk in nosync noflush; do
    store_cuts "$1" $disk 300 first
    if [[ $line =~ wrong\ [1-9] ]]; then
      report ok "$1" "power-store/$disk-is-caught"
    else
      report FAIL "$1" "power-store/$disk-is-caught" "$line"
    fi
  done
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
  preempt-full) guest "$1" preempt-full payload.cpio -a preempt=full ;;
  no-bpf-lsm) guest "$1" no-bpf-lsm payload.cpio -l lockdown,capability,landlock,yama ;;
  confidentiality) guest "$1" confidentiality payload.cpio -a lockdown=confidentiality ;;
  power) power_cut "$1" ;;
  power-store) power_store "$1" ;;
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
"$build/vm/bin/tsc_khz" >"$cache/tsc_khz"
cp -r "$case_source" "$work/cases" || exit 2
[ "$case_source" != "$here/cases" ] || make_cases
build_payload || { report FAIL host payload-build "see above"; finish; }
if [ "$selftest" = 1 ] && [ -z "$only_cases" ]; then
  kernel=${kernels%% *}
  while read -r verdict name reason; do
    report "$verdict" "$kernel" "selftest/$name" "$reason"
  done < <("$here/selftest.sh" "$cache/$kernel")
fi
for kernel in $kernels; do
  [ "$kernel" != "${kernels##* }" ] || boots+=" $last_boots"
  for boot in $boots; do
    boot_one "$kernel" "$boot"
  done
done
finish
