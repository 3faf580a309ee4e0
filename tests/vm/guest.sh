#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# guest.sh BOOT: run, in the guest, every case whose head names this boot, one after another.
boot=$1
cd /payload || exit 1
echo 3 >/proc/sys/kernel/printk
for file in /payload/cases/*.sh; do
  case " $(sed -n 's/^# boots: //p' "$file") " in
  *" $boot "*) ;;
  *) continue ;;
  esac
  [ -z "$VM_CASES" ] || echo "$VM_CASES" | grep -qw "$(basename "$file" .sh)" || continue
  limit=$(sed -n 's/^# limit: //p' "$file")
  echo "=case= $file $(cat /proc/uptime)"
  VM_BOOT=$boot timeout -s KILL "${limit:-30}" sh "$file" 2>&1 </dev/null
  echo "=end= $file status $?"
  tail -n 40 /tmp/mnod.log 2>/dev/null | sed 's/^/mnod: /'
  rm -f /tmp/mnod.log
done
