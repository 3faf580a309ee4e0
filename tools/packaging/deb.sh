#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: deb.sh BUILD_DIR VERSION: BUILD_DIR/mno_VERSION_ARCH.deb from an installed tree.
set -eu
[ $# -eq 2 ] || { echo "usage: deb.sh BUILD_DIR VERSION" >&2; exit 2; }
command -v dpkg-deb >/dev/null || { echo "deb.sh: dpkg-deb is not installed" >&2; exit 1; }
O=$1 V=$2
root=$O/deb
arch=$(dpkg --print-architecture)
rm -rf "$root"
mkdir -p "$root/DEBIAN" "$root/usr/share/doc/mno"
"$(dirname "$0")/../dev/install.sh" "$O" "$root" /usr
"${STRIP:-strip}" -g "$root/usr/sbin/mnod" "$root/usr/bin/mnoctl"
gzip -9n "$root"/usr/share/man/man*/*
cp "$(dirname "$0")/../../LICENSE" "$root/usr/share/doc/mno/copyright"

# the packages that own the libraries that the two programs name themselves
depends=$(for b in usr/sbin/mnod usr/bin/mnoctl; do
  objdump -p "$root/$b" | awk '$1 == "NEEDED" { print $2 }' | while read -r lib; do
    path=$(ldd "$root/$b" | awk -v l="$lib" '$1 == l { print $3 }')
    [ -n "$path" ] || continue
    path=$(readlink -f "$path") # the package may know it without the merged /usr
    dpkg-query -S "$path" "${path#/usr}" 2>/dev/null | head -n 1 | cut -d: -f1
  done
done | sort -u | paste -sd, | sed 's/,/, /g')

cat >"$root/DEBIAN/control" <<EOF
Package: mno
Version: $V
Architecture: $arch
Maintainer: mno <root@localhost>
Section: admin
Priority: optional
Depends: $depends
Recommends: bpftool
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Description: observability agent for one Linux host
 Collects metrics, processes and events with BPF programs, stores them, and answers
 questions about them over a local socket: mnoctl, curl, Prometheus clients.
EOF
cat >"$root/DEBIAN/postinst" <<'EOF'
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers mno.conf
elif ! getent group mno >/dev/null; then
  groupadd --system mno
fi
if [ -d /run/systemd/system ]; then
  systemd-tmpfiles --create mno.conf
  systemctl daemon-reload
  systemctl enable mnod.service
  systemctl restart mnod.service
fi
EOF
cat >"$root/DEBIAN/prerm" <<'EOF'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl disable --now mnod.service
fi
EOF
chmod 0755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
dpkg-deb --root-owner-group --build "$root" "$O/mno_${V}_$arch.deb"
