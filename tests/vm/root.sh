#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs as a service of the systemd guest: the cases of this boot, then results as init.sh sends them.
echo "VM-INIT command starts" >/dev/console
limit=$(sed -n 's/.*vm.limit=\([0-9]*\).*/\1/p' /proc/cmdline)
timeout -s KILL "$limit" sh /payload/cmd
echo $? >/out/rc
dmesg >/out/dmesg
journalctl -b --no-pager >/out/journal 2>&1
tar cf /dev/vport0p2 -C /out .
sync
reboot -f
