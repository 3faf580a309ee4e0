#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# rootfs.sh [CACHE]: make CACHE/systemd/root.img, a small ext4 root file system with Debian's systemd
# and busybox, in which /payload/root.sh runs once everything is up. The packages are what apt
# would install on an empty machine; they are downloaded once and unpacked, not installed here.
set -euo pipefail

cache=${1:-build/vm}
dir=$cache/systemd
# Bump when what this script puts into the image changes.
layout=1

die() { echo "rootfs.sh: $*" >&2; exit 1; }

# An empty dpkg status makes apt name the whole closure.
fetch() {
  local archives
  mkdir -p "$dir/debs/partial"
  archives=$(realpath "$dir/debs")
  : >"$dir/status"
  apt-get -q -y -o APT::Install-Recommends=false -o APT::Sandbox::User=root -o Debug::NoLocking=1 \
    -o "Dir::State::status=$(realpath "$dir/status")" -o "Dir::Cache::archives=$archives" \
    --download-only install systemd >&2
}

unpack() {
  local tree=$1 deb path
  mkdir -p "$tree"/usr/{bin,sbin,lib,lib64} "$tree"/{etc,proc,sys,dev,run,tmp,mnt,root,var/log/journal,out,payload}
  for path in bin sbin lib lib64; do
    ln -s "usr/$path" "$tree/$path"
  done
  for deb in "$dir"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tree" --keep-directory-symlink \
      --exclude='./usr/share/doc*' --exclude='./usr/share/man*' --exclude='./usr/share/locale*' \
      --exclude='./usr/share/bash-completion*' --exclude='./usr/share/zsh*' --exclude='*/catalog/*'
  done
  cp "$(command -v busybox)" "$tree/usr/bin/busybox"
  for path in $(busybox --list); do
    [ -e "$tree/usr/bin/$path" ] || [ -e "$tree/usr/sbin/$path" ] || ln -s busybox "$tree/usr/bin/$path"
  done
}

configure() {
  local tree=$1 unit
  echo 0123456789abcdef0123456789abcdef >"$tree/etc/machine-id"
  echo guest >"$tree/etc/hostname"
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$tree/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$tree/etc/group"
  printf 'ID=debian\nVERSION_ID=12\n' >"$tree/etc/os-release"
  # No terminals, no bus, no network: only what a service needs.
  for unit in systemd-logind.service getty.target systemd-update-utmp.service remote-fs.target \
    systemd-update-utmp-runlevel.service systemd-machine-id-commit.service e2scrub_reap.service; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
  done
  cat >"$tree/etc/systemd/system/vm-case.service" <<'UNIT'
[Unit]
Description=Run the test cases and leave
After=basic.target
Wants=basic.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'sh /payload/root.sh >/dev/vport0p1 2>&1'
UNIT
  mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
  ln -s ../vm-case.service "$tree/etc/systemd/system/multi-user.target.wants/vm-case.service"
  ln -sf /lib/systemd/system/multi-user.target "$tree/etc/systemd/system/default.target"
}

for tool in apt-get dpkg-deb mkfs.ext4 busybox flock; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || die "$tool is missing: run make deps"
done
mkdir -p "$dir"
exec 9>"$cache/rootfs.lock"
flock 9
[ "$(cat "$dir/stamp" 2>/dev/null)" != "$layout" ] || exit 0
compgen -G "$dir/debs/systemd_*.deb" >/dev/null || fetch || die "download failed: see the lines above"
rm -rf "$dir/tree"
unpack "$dir/tree"
configure "$dir/tree"
rm -f "$dir/root.img"
truncate -s 512M "$dir/root.img"
PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -O ^has_journal -E root_owner=0:0 -d "$dir/tree" "$dir/root.img"
rm -rf "$dir/tree"
echo "$layout" >"$dir/stamp"
