#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kernels.sh [CACHE [VERSION...]]: put guest kernels into CACHE/VERSION/{vmlinux,base.cpio,name}.
# The stock Debian cloud kernels 6.1 and 6.12 are downloaded once with apt-get and unpacked;
# nothing is installed. Every later call is a check of a few files and needs no network.
set -euo pipefail

cache=${1:-build/vm}
shift || true
[ $# -gt 0 ] || set -- 6.1 6.12

# Loaded by the guest in this order (insmod resolves nothing); a name that the kernel has built
# in is left out when the archive is made.
boot_modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci
  virtio_console virtio_blk"
# Bump when the layout of base.cpio changes, so that old caches are rebuilt.
layout=2

die() { echo "kernels.sh: $*" >&2; exit 1; }

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || die "$tool is missing: run make deps"
  done
}

# The package that a Debian meta package of this kernel series points to today.
resolve() {
  local meta
  case $1 in
  6.1) meta=linux-image-cloud-amd64 ;;
  *) meta=linux-image-$1-cloud-amd64 ;;
  esac
  apt-cache depends "$meta" 2>/dev/null | sed -n "s/^ *Depends: *\(linux-image-$1\..*-amd64\)$/\1/p" |
    head -n 1
}

download() {
  local version=$1 dir=$2 pkg
  pkg=$(resolve "$version")
  if [ -z "$pkg" ] && [ "$(id -u)" = 0 ]; then
    apt-get -qq update >&2 || true
    pkg=$(resolve "$version")
  fi
  [ -n "$pkg" ] || die "apt knows no cloud kernel $version: run apt-get update (Debian 12, amd64)"
  echo "kernels.sh: downloading $pkg" >&2
  (cd "$dir" && apt-get -q -o APT::Sandbox::User=root download "$pkg" >&2) ||
    die "download of $pkg failed: see the lines above"
  # An interrupted apt leaves partial names behind; only a whole package is read below.
  mv "$dir/$pkg"_*.deb "$dir/kernel.deb"
}

# A little-endian number of SIZE bytes at OFFSET of FILE.
field() { od -An -v "-tu$3" -j "$2" -N "$3" "$1" | tr -d ' '; }

# QEMU enters an ELF kernel directly, which saves decompression under emulation. The boot
# protocol header of the bzImage says where the compressed ELF file lies.
extract_vmlinux() {
  local image=$1 out=$2 start size magic
  start=$(( ($(field "$image" $((0x1f1)) 1) + 1) * 512 + $(field "$image" $((0x248)) 4) ))
  size=$(field "$image" $((0x24c)) 4)
  # The last four bytes hold the unpacked size and belong to no compressor's format.
  tail -c "+$((start + 1))" "$image" | head -c "$((size - 4))" >"$out.packed" || true
  magic=$(od -An -tx1 -N 4 "$out.packed" | tr -d ' ')
  case $magic in
  28b52ffd) zstd -dcq "$out.packed" ;;
  02214c18) lz4 -dcq "$out.packed" ;;
  fd377a58) xz -dcq --single-stream "$out.packed" ;;
  1f8b*) gzip -dcq "$out.packed" ;;
  *) die "$image: unknown compression $magic" ;;
  esac >"$out.new"
  rm -f "$out.packed"
  [ "$(od -An -tx1 -N 4 "$out.new" | tr -d ' ')" = 7f454c46 ] || die "$image: payload is not ELF"
  mv "$out.new" "$out"
}

make_base() {
  local tree=$1 out=$2 root=$3 applet module file busybox
  busybox=$(command -v busybox)
  mkdir -p "$root"/{bin,modules,payload,etc}
  cp "$busybox" "$root/bin/busybox"
  for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
  done
  printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
  : >"$root/modules/order"
  for module in $boot_modules; do
    file=$(find "$tree/lib/modules" -name "$module.ko" -o -name "$module.ko.xz" | head -n 1)
    case $file in
    '') continue ;;
    *.xz) xz -dc "$file" >"$root/modules/$module.ko" ;;
    *) cp "$file" "$root/modules/$module.ko" ;;
    esac
    echo "$module.ko" >>"$root/modules/order"
  done
  (cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) >"$out.new"
  mv "$out.new" "$out"
}

prepare() {
  local version=$1 dir=$cache/$1 work name
  mkdir -p "$dir"
  [ "$(cat "$dir/stamp" 2>/dev/null)" = "$layout" ] && return 0
  [ -s "$dir/kernel.deb" ] || download "$version" "$dir"
  work=$dir/work
  rm -rf "$work"
  mkdir "$work"
  dpkg-deb -x "$dir/kernel.deb" "$work/tree" || { rm -f "$dir/kernel.deb"; die "bad package: run again"; }
  extract_vmlinux "$(echo "$work"/tree/boot/vmlinuz-*)" "$dir/vmlinux"
  make_base "$work/tree" "$dir/base.cpio" "$work/root"
  name=$(dpkg-deb -f "$dir/kernel.deb" Package Version | tr '\n' ' ')
  echo "$name" >"$dir/name"
  echo "$layout" >"$dir/stamp"
  rm -rf "$work"
  echo "kernels.sh: $version is $name" >&2
}

need apt-get dpkg-deb cpio xz zstd lz4 busybox flock
mkdir -p "$cache"
exec 9>"$cache/kernels.lock"
flock 9
for version in "$@"; do
  prepare "$version"
done
