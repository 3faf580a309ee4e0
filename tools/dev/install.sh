#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: install.sh [--remove] BUILD_DIR DESTDIR PREFIX
# Installs agent, client, unit, users, man pages and completions. Without DESTDIR and as root it
# also makes the group and tells systemd. The state in /var/lib/mno is never touched.
set -eu
remove=
[ "${1:-}" != --remove ] || { remove=1; shift; }
[ $# -eq 3 ] || { echo "usage: install.sh [--remove] BUILD_DIR DESTDIR PREFIX" >&2; exit 2; }
O=$1 D=$2 P=$3
case $P in /*) ;; *) echo "install.sh: PREFIX must be an absolute path: $P" >&2; exit 2 ;; esac
here=$(cd "$(dirname "$0")/.." && pwd)
sbin=$P/sbin/mnod
bin=$P/bin/mnoctl
unit=$P/lib/systemd/system/mnod.service
users=$P/lib/sysusers.d/mno.conf
tmpf=$P/lib/tmpfiles.d/mno.conf
man8=$P/share/man/man8/mnod.8
man1=$P/share/man/man1/mnoctl.1
bash=$P/share/bash-completion/completions/mnoctl
zsh=$P/share/zsh/site-functions/_mnoctl
live=
[ -n "$D" ] || [ "$(id -u)" != 0 ] || live=1
booted() { [ -d /run/systemd/system ]; }

if [ -n "$remove" ]; then
  if [ -n "$live" ] && booted; then
    systemctl disable --now mnod.service 2>/dev/null || true
  fi
  for f in "$sbin" "$bin" "$unit" "$users" "$tmpf" "$man8" "$man1" "$bash" "$zsh"; do
    rm -f "$D$f"
  done
  echo "mno is removed; its data stays in /var/lib/mno"
  exit 0
fi

for f in "$O/mnod" "$O/mnoctl"; do
  [ -x "$f" ] || { echo "install.sh: $f is not there: run make first" >&2; exit 1; }
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
put() { # MODE FILE TARGET: a new file put in place by rename, so that a running agent goes on
  install -D -m "$1" "$2" "$D$3.new"
  mv -f "$D$3.new" "$D$3"
}
sed "s|@SBINDIR@|$P/sbin|" "$here/packaging/mnod.service.in" >"$tmp/unit"
"$O/mnoctl" help --man >"$tmp/man1"
"$O/mnoctl" completion bash >"$tmp/bash"
"$O/mnoctl" completion zsh >"$tmp/zsh"
put 0755 "$O/mnod" "$sbin"
put 0755 "$O/mnoctl" "$bin"
put 0644 "$tmp/unit" "$unit"
put 0644 "$here/packaging/mno.sysusers" "$users"
put 0644 "$here/packaging/mno.tmpfiles" "$tmpf"
put 0644 "$here/packaging/mnod.8" "$man8"
put 0644 "$tmp/man1" "$man1"
put 0644 "$tmp/bash" "$bash"
put 0644 "$tmp/zsh" "$zsh"
echo "installed below $D$P"
[ -n "$live" ] || exit 0

if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers "$users"
elif ! getent group mno >/dev/null; then
  groupadd --system mno
fi
if booted; then
  systemd-tmpfiles --create "$tmpf"
  systemctl daemon-reload
  echo "start it now and at boot: systemctl enable --now mnod"
else
  mkdir -p /run/mno && chmod 0755 /run/mno
  echo "systemd does not run here: start $sbin by hand"
fi
echo "who may ask it without root: usermod -aG mno USER"
