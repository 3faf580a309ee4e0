#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make install into an empty folder: files, modes, a unit that systemd accepts, man pages that render.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
O=${1:-build}
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)); }
bad() { echo "fail $1"; failed=$((failed + 1)); }
skip() { echo "skip $1: $2"; skipped=$((skipped + 1)); }
expect() { # NAME COMMAND...
  local name=$1
  shift
  if "$@"; then ok; else bad "$name"; fi
}
mode() { [ "$(stat -c %a "$d$2" 2>/dev/null)" = "$1" ]; }

if ! make --no-print-directory install O="$O" DESTDIR="$d" PREFIX=/usr; then
  bad "make install"
  echo "$passed passed, $failed failed, $skipped skipped"
  exit 1
fi
for f in sbin/mnod bin/mnoctl; do expect "$f is 0755" mode 755 "/usr/$f"; done
for f in lib/systemd/system/mnod.service lib/sysusers.d/mno.conf lib/tmpfiles.d/mno.conf \
  share/man/man8/mnod.8 share/man/man1/mnoctl.1 share/bash-completion/completions/mnoctl \
  share/zsh/site-functions/_mnoctl; do
  expect "$f is 0644" mode 644 "/usr/$f"
done
expect "nothing else is installed" [ "$(find "$d" -type f | wc -l)" = 9 ]
expect "mnod runs" "$d/usr/sbin/mnod" --check-config
expect "mnoctl runs" sh -c "'$d/usr/bin/mnoctl' version >/dev/null"
expect "bash completion is valid" bash -n "$d/usr/share/bash-completion/completions/mnoctl"
expect "the unit names the installed program" \
  grep -q '^ExecStart=/usr/sbin/mnod ' "$d/usr/lib/systemd/system/mnod.service"

if command -v systemd-analyze >/dev/null; then
  # --root would want a whole system: verify needs the program where the unit says it is
  sed "s|^ExecStart=/usr/sbin/mnod|ExecStart=$d/usr/sbin/mnod|" \
    "$d/usr/lib/systemd/system/mnod.service" >"$d/mnod.service"
  out=$(systemd-analyze verify --man=no "$d/mnod.service" 2>&1 | grep -F mnod.service)
  expect "systemd-analyze verify: $out" [ -z "$out" ]
  out=$(systemd-analyze security --offline=true "$d/mnod.service" 2>&1 | tail -n 1)
  echo "$out"
  score=$(sed -n 's/.*: \([0-9]*\)\.\([0-9]\).*/\1\2/p' <<<"$out")
  expect "exposure at most 4.5" [ "${score:-99}" -le 45 ]
else
  skip unit "systemd-analyze is not installed"
fi
if command -v groff >/dev/null; then
  for m in man8/mnod.8 man1/mnoctl.1; do
    out=$(groff -man -Tutf8 -ww -z "$d/usr/share/man/$m" 2>&1)
    expect "$m renders: $out" [ -z "$out" ]
  done
else
  skip man "groff is not installed"
fi
if command -v dpkg-deb >/dev/null; then
  expect "make deb" make --no-print-directory deb O="$O" >"$d/deb.log" 2>&1
  deb=$(find "$O" -maxdepth 1 -name 'mno_*.deb')
  depends=$(dpkg-deb -f "$deb" Depends)
  for p in libc6 libbpf1 liblmdb0 libcap2 libmicrohttpd12; do
    expect "the package depends on $p: $depends" grep -qw "$p" <<<"$depends"
  done
  dpkg-deb -c "$deb" >"$d/deb.list"
  expect "the package holds the agent" grep -q ' ./usr/sbin/mnod$' "$d/deb.list"
else
  skip deb "dpkg-deb is not installed"
fi
make --no-print-directory uninstall O="$O" DESTDIR="$d" PREFIX=/usr >/dev/null
expect "uninstall leaves nothing" [ "$(find "$d/usr" -type f | wc -l)" = 0 ]
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
