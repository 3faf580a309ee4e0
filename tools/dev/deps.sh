#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: deps.sh SECTION...   (build, run, test, bench: sections of tools/packages.list)
# Installs the Debian packages that are missing when root, else prints the command and fails.
set -eu
list=$(dirname "$0")/../packages.list
[ $# -gt 0 ] || { echo "usage: deps.sh build|run|test|bench ..." >&2; exit 2; }

# packages of the wanted sections, "?" kept
want=$(awk -v secs=" $* " '/^#/ || !NF { next }
  /^\[/ { s = substr($1, 2, length($1) - 2); on = index(secs, " " s " "); next }
  on { print $1 }' "$list")
[ -n "$want" ] || { echo "deps.sh: no such section: $*" >&2; exit 2; }

if ! command -v dpkg-query >/dev/null 2>&1; then
  echo "deps: no dpkg here, so nothing is checked; needed (Debian names):" >&2
  printf '%s\n' "$want" | tr '\n' ' ' >&2
  echo >&2
  exit 0
fi

missing() { # names on stdin ("?" kept) -> those that are not installed
  names=$(cat)
  # shellcheck disable=SC2046,SC2086
  have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' \
    $(printf '%s\n' "$names" | tr -d '?') 2>/dev/null | sed -n 's/^installed //p' || true)
  printf '%s\n' "$names" | awk -v have="$have" 'BEGIN { n = split(have, a, "\n")
      for (i = 1; i <= n; i++) h[a[i]] = 1 }
    NF { p = $1; sub(/^\?/, "", p); if (!(p in h)) print $1 }'
}

lack=$(printf '%s\n' "$want" | missing)
[ -n "$lack" ] || exit 0
must=$(printf '%s\n' "$lack" | grep '^[^?]' | tr '\n' ' ' || true)
nice=$(printf '%s\n' "$lack" | sed -n 's/^?//p' | tr '\n' ' ')

if [ "$(id -u)" != 0 ]; then
  if [ -z "$must" ]; then
    echo "deps: tests that need these are skipped: $nice" >&2
    exit 0
  fi
  echo "These Debian packages are missing. Run this, then try again:" >&2
  echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $must$nice" >&2
  exit 1
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d # packages that bring a service (prometheus) must not start it
if [ -e $policy ]; then
  policy=
else
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 0755 $policy
fi
trap 'rm -f "$log" $policy' EXIT
trap 'exit 130' INT TERM
# of these only the programs are wanted, never the service
services=$(printf '%s\n' "$lack" | tr -d '?' | grep -xE 'prometheus|victoria-metrics' || true)
export DEBIAN_FRONTEND=noninteractive
opts='-q -y --no-install-recommends -o Acquire::Retries=3 -o Acquire::http::Timeout=30
  -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0'
apt() { # shellcheck disable=SC2086
  apt-get $opts "$@" >"$log" 2>&1 </dev/null
}

echo "deps: installing $(printf '%s ' "$must" "$nice" | wc -w) packages: $must$nice"
for try in 1 2 3; do
  echo "deps: apt-get update (try $try)"
  apt update && break
  sleep $((try * 2))
done
for try in 1 2; do
  echo "deps: apt-get install (try $try)"
  # shellcheck disable=SC2086
  apt install $must $nice && break
  sleep 2
done
# one name that the archive does not know refuses the whole line: then one by one
for p in $(printf '%s\n' "$lack" | missing | tr -d '?'); do
  apt install "$p" || { echo "deps: apt-get install $p failed:"; tail -n 3 "$log"; } >&2
done
for s in $services; do
  [ ! -d /run/systemd/system ] || systemctl disable --now "$s.service" >/dev/null 2>&1 || true
done
lack=$(printf '%s\n' "$want" | missing)
must=$(printf '%s\n' "$lack" | grep '^[^?]' | tr '\n' ' ' || true)
nice=$(printf '%s\n' "$lack" | sed -n 's/^?//p' | tr '\n' ' ')
[ -z "$nice" ] || echo "deps: tests that need these are skipped: $nice" >&2
[ -z "$must" ] || { echo "deps: could not be installed: $must" >&2; exit 1; }
echo "deps: all there"
