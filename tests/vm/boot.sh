#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# boot.sh [options] KERNEL_DIR COMMAND: run COMMAND (sh) in a guest that boots KERNEL_DIR.
#   -p DIR    DIR's files appear below /payload (repeatable; a folder root/ in it is laid over /)
#   -i CPIO   a ready initramfs archive to append as it is (repeatable)
#   -o DIR    receives output, console and what the guest left in /out (rc, dmesg, own files)
#   -t SECS   hard limit of the whole run (default 90); the guest ends COMMAND 8 s earlier
#   -d SPEC   a QEMU -drive value, e.g. file=a.img,format=raw,if=virtio (repeatable)
#   -a WORDS  more kernel parameters     -l LSMS  the lsm= list     -m MIB  memory (512)
#   -k TEXT   power cut: QEMU is killed when TEXT appears on the guest's console
#   -r        COMMAND is ignored; the first drive's own init boots (root file system in it)
# Prints COMMAND's output. Exit: COMMAND's status; 124 hard limit; 125 the guest ended without a
# result; 126 cannot start; 137 the power was cut (or the guest ended COMMAND at its limit).
# One guest at a time runs on a machine: others wait for it, which does not count as run time.
set -uo pipefail

payloads=() archives=() drives=() extra='' out='' limit=90 memory=512 cut_text='' mode=run
lsm=lockdown,capability,landlock,yama,bpf
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work='' qemu=''

say() { echo "boot.sh: $*" >&2; }

cleanup() {
  if [ -n "$qemu" ]; then
    kill -KILL "$qemu" 2>/dev/null
    wait "$qemu" 2>/dev/null
  fi
  [ -z "$work" ] || rm -rf "$work"
}

usage() { sed -n '3,16s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2; }

while getopts p:i:o:t:d:a:l:m:k:r option; do
  case $option in
  p) payloads+=("$OPTARG") ;;
  i) archives+=("$OPTARG") ;;
  o) out=$OPTARG ;;
  t) limit=$OPTARG ;;
  d) drives+=(-drive "$OPTARG") ;;
  a) extra=$OPTARG ;;
  l) lsm=$OPTARG ;;
  m) memory=$OPTARG ;;
  k) cut_text=$OPTARG ;;
  r) mode=root ;;
  *) usage ;;
  esac
done
shift $((OPTIND - 1))
[ $# -eq 2 ] || usage
kernel=$1 command=$2
if [ ! -s "$kernel/vmlinux" ] || [ ! -s "$kernel/base.cpio" ]; then
  say "$kernel: run kernels.sh first"
  exit 126
fi

trap cleanup EXIT
trap 'exit 143' TERM HUP
trap 'exit 130' INT
work=$(mktemp -d) || exit 126
out=${out:-$work/out}
mkdir -p "$out"
rm -f "$out/rc" "$out/output" "$out/console"

# Later archives are unpacked over earlier ones, so nothing is rebuilt for a boot.
mkdir -p "$work/tree/payload"
for dir in "${payloads[@]}"; do
  cp -a "$dir/." "$work/tree/payload/" || exit 126
done
cp "$here/init.sh" "$work/tree/init"
chmod 755 "$work/tree/init"
printf '%s\n' "$command" >"$work/tree/payload/cmd"
(cd "$work/tree" && find . | cpio -o -H newc -R 0:0 --quiet) >"$work/last.cpio" || exit 126
cat "$kernel/base.cpio" "${archives[@]}" "$work/last.cpio" >"$work/initrd" || exit 126
rm -rf "$work/tree"
: >"$out/output"

# The program itself is the lock of the whole machine: no file is left behind.
exec 9<"$(command -v qemu-system-x86_64)" || exit 126
flock -w 600 9 || { say "other guests ran for ten minutes"; exit 126; }

# See tsc_khz.c; without it the guest measures by itself.
read -r tsc_khz 2>/dev/null <"$kernel/../tsc_khz" || tsc_khz=''
guest_limit=$((limit > 20 ? limit - 8 : limit))
append="console=ttyS0 quiet panic=-1 lsm=$lsm mitigations=off nokaslr random.trust_cpu=on"
append+=" tsc=reliable ${tsc_khz:+tsc_early_khz=$tsc_khz} vm.mode=$mode vm.limit=$guest_limit $extra"
started=${EPOCHREALTIME/./}
# The console is read through this pipe; the parent-death signal covers a SIGKILL of this script.
exec 3< <(exec setpriv --pdeathsig KILL qemu-system-x86_64 \
  -accel tcg,thread=multi -machine q35 -cpu max -smp 1 -m "$memory" \
  -nodefaults -no-user-config -display none -no-reboot -serial stdio \
  -kernel "$kernel/vmlinux" -initrd "$work/initrd" -append "$append" \
  -device virtio-serial-pci \
  -chardev "file,id=live,path=$out/output" -device virtserialport,chardev=live,nr=1 \
  -chardev "file,id=result,path=$work/result.tar" -device virtserialport,chardev=result,nr=2 \
  "${drives[@]}" </dev/null 2>"$work/errors" 9>&-)
qemu=$!

verdict='' command_at='' deadline=$((SECONDS + limit))
while :; do
  left=$((deadline - SECONDS))
  IFS= read -r -t $((left > 0 ? left : 1)) line <&3
  status=$?
  if [ $status -gt 128 ] || [ $SECONDS -gt $deadline ]; then
    verdict='limit'
    break
  fi
  [ $status -eq 0 ] || break
  line=${line%$'\r'}
  printf '%s\n' "$line" >>"$out/console"
  [[ $line == *'VM-INIT command starts'* ]] && command_at=${EPOCHREALTIME/./}
  if [ -n "$cut_text" ] && [[ $line == *"$cut_text"* ]]; then
    verdict='cut'
    break
  fi
done
[ -z "$verdict" ] || kill -KILL "$qemu" 2>/dev/null
wait "$qemu" 2>/dev/null
qemu=''
ended=${EPOCHREALTIME/./}

cat "$out/output"
cat "$work/errors" >&2
boot_ms=-
[ -z "$command_at" ] || boot_ms=$(((command_at - started) / 1000))
times >"$work/times"
cpu=$(tail -n 1 "$work/times")
echo "boot $boot_ms ms, all $(((ended - started) / 1000)) ms, user and system time ${cpu//0m/}" >"$out/time"
if [ "$verdict" = limit ]; then
  say "hard limit of $limit s"
  exit 124
fi
[ "$verdict" = cut ] && exit 137
[ -s "$work/result.tar" ] && tar xf "$work/result.tar" -C "$out" 2>/dev/null
[ -s "$out/rc" ] && exit "$(cat "$out/rc")"
say "the guest ended without a result; its console said last:"
tail -n 15 "$out/console" >&2
exit 125
