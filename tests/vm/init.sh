#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# Process 1 of a guest: mounts, modules, then either runs /payload/cmd and sends the results
# (vm.mode=run) or hands over to the init of a disk (vm.mode=root, see rootfs.sh).
# Kernel parameters: vm.mode=, vm.limit=SECONDS for the command.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/ TMPDIR=/tmp

mode=run limit=60
mkdir -p /proc /sys /dev /tmp /run /out /mnt /var/lib
mount -t proc proc /proc
for word in $(cat /proc/cmdline); do
  case $word in
  vm.mode=*) mode=${word#vm.mode=} ;;
  vm.limit=*) limit=${word#vm.limit=} ;;
  esac
done
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
for module in $(cat /modules/order); do
  insmod "/modules/$module" || echo "VM-INIT module $module refused"
done

if [ "$mode" = root ]; then
  mount -t ext4 /dev/vda /mnt || { echo "VM-INIT no root disk"; reboot -f; }
  mkdir -p /mnt/payload
  cp -a /payload/. /mnt/payload/
  [ ! -f /payload/root.tar ] || tar xf /payload/root.tar -C /mnt
  umount /proc /sys
  mount --move /dev /mnt/dev
  exec switch_root /mnt /lib/systemd/systemd
fi

mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done 2>/dev/null
ip link set lo up
hostname guest

# Port 1 carries the command's output while it runs; port 2 a tar of /out when it has ended.
tries=0
until [ -c /dev/vport0p2 ] || [ $tries -ge 100 ]; do
  usleep 20000
  tries=$((tries + 1))
done
[ -c /dev/vport0p2 ] || { echo "VM-INIT no result port"; reboot -f; }
echo "VM-INIT command starts"
timeout -s KILL "$limit" sh /payload/cmd >/dev/vport0p1 2>&1
echo $? >/out/rc
dmesg >/out/dmesg
tar cf /dev/vport0p2 -C /out .
sync
reboot -f
