#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The set-up script on machines of cardboard: packages missing, all there, not to be had.
# timeout: 60
. "$(dirname "$0")/lib.bash"
need_root # as another user it only prints what to type
mkdir "$W/bin"
cat >"$W/bin/dpkg-query" <<'EOS'
#!/bin/sh
# the packages named in $FAKE/have are installed
for p in "$@"; do
  if grep -qx -- "$p" "$FAKE/have"; then echo "installed $p"; fi
done
EOS
cat >"$W/bin/apt-get" <<'EOS'
#!/bin/sh
echo "apt-get $*" >>"$FAKE/calls"
case " $* " in *" install "*) ;; *) exit 0 ;; esac
[ ! -e "$FAKE/broken" ] || exit 100
for p in "$@"; do echo "$p" >>"$FAKE/have"; done
[ -x /usr/sbin/policy-rc.d ] && /usr/sbin/policy-rc.d; [ $? != 101 ] || echo "no service starts" >>"$FAKE/calls"
EOS
chmod +x "$W/bin/apt-get" "$W/bin/dpkg-query"
export FAKE=$W
fake() { PATH=$W/bin:$PATH tools/dev/deps.sh "$@"; }

: >"$W/have"
ok "all is missing: installed, and that is success" fake build run
ok "what the build needs was asked for" grep -q 'install.* gcc .*liblmdb-dev' "$W/calls"
: >"$W/calls"
ok "all there: nothing to do" fake build run
untouched() { [ ! -s "$W/calls" ]; }
ok "and nothing was asked for" untouched
: >"$W/have"
ok "the rivals of the benchmarks" fake bench
ok "are asked for" grep -q 'install.* prometheus victoria-metrics' "$W/calls"
if [ -e /usr/sbin/policy-rc.d ] && sh /usr/sbin/policy-rc.d; then
  skip services "this machine's own policy-rc.d lets them start"
else
  ok "and may not start their services" grep -qx 'no service starts' "$W/calls"
fi
: >"$W/have"
touch "$W/broken"
fails() { ! fake build run; }
ok "not to be had: fails" fails
named() { { fake build run || true; } 2>&1 | grep 'could not be installed:.*liblmdb-dev' >/dev/null; }
ok "and names what is missing" named
finish
