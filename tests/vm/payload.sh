#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What run.sh puts into a guest; sourced by it. Reads its $here, $build, $work and $logs.
# shellcheck disable=SC2154

build_tools() {
  local out=$build/vm/bin src=$here bpftool=/usr/sbin/bpftool
  local stamp=$out/logreplay
  [ -x $bpftool ] || bpftool=bpftool
  if [ -x "$stamp" ] && [ -z "$(find "$src" -name '*.[ch]' -newer "$stamp")" ]; then
    return 0
  fi
  mkdir -p "$out"
  clang -O2 -g -target bpf -D__TARGET_ARCH_x86 -Wall -Wextra -Werror -Wno-unused-parameter \
    -I"$src" "-I/usr/include/$(uname -m)-linux-gnu" -c "$src/lsm_smoke.bpf.c" -o "$out/lsm_smoke.bpf.o" &&
    llvm-strip -g "$out/lsm_smoke.bpf.o" &&
    "$bpftool" gen skeleton "$out/lsm_smoke.bpf.o" name lsm_smoke_bpf >"$out/lsm_smoke.skel.h" &&
    gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static -I"$out" -I"$src" \
      "$src/lsm_smoke.c" -o "$out/lsm_smoke" -lbpf -lelf -lz &&
    gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror "$src/tsc_khz.c" -o "$out/tsc_khz" &&
    gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror "$src/logreplay.c" -o "$stamp"
}

have_agent() { [ -x "$build/mnod" ] && [ -x "$build/mnoctl" ]; }

pack() { (cd "$1" && find . | cpio -o -H newc -R 0:0 --quiet) >"$2" && rm -rf "$1"; }

add_cases() {
  mkdir -p "$1/payload"
  cp -r "$here"/{lib,guest,root,power}.sh "$build/vm/bin/lsm_smoke" "$1/payload/"
  cp -r "$work/cases" "$1/payload/cases"
  if [ -x "$build/tests/vm/power_load" ]; then
    "$here/carry.sh" "$1" "$build/tests/vm/power_load=/payload/power_load" || return 1
  fi
}

# Names of this tree's probe test programs and BPF objects, as far as they were built.
bpf_tests() {
  local source
  for source in tests/bpf/test_*.c; do
    [ ! -x "$build/${source%.c}" ] || basename "$source" .c
  done
}
bpf_objects() {
  local source
  for source in bpf/*/*.bpf.c; do
    # loaded by its own user side, which leaves out what a kernel has no hook for
    [ "$source" != bpf/enforce/enforce.bpf.c ] || continue
    [ ! -s "$build/skel/$(basename "$source" .c).o" ] || basename "$source" .bpf.c
  done
}

# Case files whose checks are what was built, so that each must report.
make_cases() {
  local names
  names=$(bpf_objects | sed 's/^/object-/' | tr '\n' ' ')
  sed "s/^# checks: objects$/# checks: ${names:-objects}/" "$here/object_case.sh" >"$work/cases/15_objects.sh"
  names=$(bpf_tests | tr '\n' ' ')
  sed "s/^# checks: bpf-tests$/# checks: ${names:-bpf-tests}/" "$here/bpf_case.sh" >"$work/cases/25_bpf.sh"
}

add_bpf() {
  local name bpftool
  for name in $(bpf_tests); do
    "$here/carry.sh" "$1" "$build/tests/bpf/$name=/payload/bpf/$name" || return 1
  done
  bpftool=$(PATH=$PATH:/usr/sbin command -v bpftool) || return 0
  for name in $(bpf_objects); do
    install -D "$build/skel/$name.bpf.o" "$1/payload/objects/$name.bpf.o"
  done
  "$here/carry.sh" "$1" "$bpftool"
}

# One archive for most boots: the cases, and the programs at the paths that they have on a host.
build_payload() {
  local tree=$work/tree
  add_cases "$tree" || return 1
  if have_agent; then
    "$here/carry.sh" "$tree" "$build/mnod=/usr/bin/mnod" "$build/mnoctl=/usr/bin/mnoctl" || return 1
  fi
  add_bpf "$tree" || return 1
  if command -v jq >/dev/null; then
    "$here/carry.sh" "$tree" jq || return 1
  fi
  pack "$tree" "$work/payload.cpio"
}

# The archive of the systemd boot: `make install` as a tar that is laid over the root file system
# (where /lib is a link to /usr/lib), and the libraries of what was installed.
build_root_payload() {
  local tree=$work/tree over=$work/over reason=''
  add_cases "$tree" || return 1
  mkdir -p "$over"/usr/{bin,lib,lib64}
  ln -s usr/lib "$over/lib"
  ln -s usr/lib64 "$over/lib64"
  if ! have_agent; then
    reason="mnod was not built"
  elif ! make -s install O="$build" DESTDIR="$over" PREFIX=/usr >"$logs/install" 2>&1; then
    reason="make install failed: $(tail -n 1 "$logs/install")"
  elif ! "$here/carry.sh" "$over" "$build/mnod=/usr/bin/mnod" "$build/mnoctl=/usr/bin/mnoctl" jq; then
    reason="the programs cannot be carried: jq missing?"
  fi
  echo "$reason" | sed '/^$/d' >"$tree/payload/skip-reason"
  rm "$over/lib" "$over/lib64"
  tar -c -f "$tree/payload/root.tar" --owner=0 --group=0 -C "$over" .
  rm -rf "$over"
  pack "$tree" "$work/root.cpio"
}
