#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: check-includes.sh [ROOT]     reports includes that break the dependency rules; exit 1
#        check-includes.sh --self-test  proves on a made-up bad tree that it finds each
#
# Who may include whom (libmno <- bpf user side <- agent; tools stand apart):
#   libmno/include  mno/*, bpf/include; no type of LMDB, json-c, libbpf
#   libmno/src      mno/*, bpf/include, libmno/src; not libbpf, microhttpd, systemd
#   bpf/X/*.bpf.c   bpf/include, bpf/X, <bpf/..>, <linux/..>, <stdbool.h>
#   *wire.h         <linux/types.h>, other wire headers, probes.def
#   bpf/X/X.c       mno/*, bpf/include, bpf/X, its skeleton, <bpf/..>
#   agent           not tools; LMDB, zstd, pcre2 only through libmno
#   tools           mno/{client,err,log} and base (macro buf json util time), tools; no LMDB, BPF
set -uo pipefail

base='^mno/(client|err|log|macro|buf|json|util|time)\.h$'

exists_in() { # NAME DIR...: is the quoted name a file below one of these
  local name=$1 d
  shift
  for d in "$@"; do [ -e "$d/$name" ] && return 0; done
  return 1
}

# FILE NAME KIND(q quoted, a angle): prints why it is not allowed, or nothing
why_not() {
  local file=$1 name=$2 kind=$3 dir probe
  dir=$(dirname "$file")
  case $file in
  *_wire.h | */mno_hist.h)
    [ "$kind$name" = alinux/types.h ] || [[ $name =~ (_wire\.h|mno_hist\.h|\.def)$ ]] ||
      echo "a wire header stays plain: only <linux/types.h> and wire headers"
    ;;
  libmno/*)
    if [ "$kind" = q ]; then
      exists_in "$name" libmno/include bpf/include "$dir" libmno/src ||
        echo "libmno stands alone: no agent, tools or probe headers"
    elif [[ $name =~ ^(bpf/|microhttpd|systemd/|curl/|sys/capability) ]]; then
      echo "libmno does without $name"
    elif [[ $file == libmno/include/* && $name =~ ^(lmdb|json-c|zstd|pcre2|sqlite3|sodium) ]]; then
      echo "public headers name no type of another library"
    fi
    ;;
  bpf/*/*.bpf.c | bpf/*/*.bpf.h | bpf/include/mno_bpf.h | agent/*.bpf.c)
    if [ "$kind" = q ]; then
      exists_in "$name" bpf/include "$dir" bpf || echo "kernel side uses bpf/include and its folder"
    elif [[ ! $name =~ ^(bpf/bpf_|linux/|asm/|stdbool\.h|stddef\.h) ]]; then
      echo "no libc on the kernel side"
    fi
    ;;
  bpf/*/*)
    probe=${dir##*/}
    [ "$kind" = a ] || [ "$name" = "$probe.skel.h" ] ||
      exists_in "$name" libmno/include bpf/include "$dir" bpf ||
      echo "a probe uses libmno and bpf/include only"
    ;;
  agent/*)
    if [ "$kind" = q ]; then
      exists_in "$name" libmno/include bpf/include "$dir" agent bpf || [[ $name == *.skel.h ]] ||
        echo "the agent uses libmno, bpf and agent headers"
    elif [[ $name =~ ^(lmdb|zstd|pcre2) ]]; then
      echo "the agent reaches $name through libmno only"
    fi
    ;;
  tools/*)
    if [ "$kind" = q ]; then
      [[ $name =~ $base ]] || exists_in "$name" "$dir" tools/mnoctl ||
        echo "tools use mno/client.h, err.h, log.h and the base headers"
    elif [[ $name =~ ^(lmdb|bpf/|microhttpd) ]]; then
      echo "tools do without $name"
    fi
    ;;
  esac
}

scan() { # in the current folder; prints file:line: include: why
  local file line name kind why bad=0
  while IFS=: read -r file line name; do
    kind=q
    [[ $name == *'<'* ]] && kind=a
    name=${name#*[\"<]}
    name=${name%%[\">]*}
    why=$(why_not "$file" "$name" $kind)
    [ -z "$why" ] || { echo "$file:$line: $name: $why"; bad=1; }
  done < <(grep -rnE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include' \
    libmno bpf agent tools 2>/dev/null)
  return $bad
}

self_test() {
  local d out want n=0
  d=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$d'" EXIT
  cd "$d" || exit 2
  mkdir -p libmno/include/mno libmno/src/a bpf/include bpf/p bpf/q agent/api tools/mnoctl
  touch libmno/include/mno/{client,store,err,event}.h agent/hub.h tools/mnoctl/ctl.h \
    bpf/include/mno_{wire,probe,bpf}.h bpf/{p,q}/{p,q}_wire.h libmno/src/a/own.h
  # what is fine
  echo '#include "mno/err.h"' >libmno/src/a/good.c
  printf '#include <lmdb.h>\n#include "own.h"\n#include "mno_wire.h"\n' >>libmno/src/a/good.c
  printf '#include "mno_bpf.h"\n#include "p_wire.h"\n' >bpf/p/p.bpf.c
  printf '#include <bpf/libbpf.h>\n#include "p.skel.h"\n#include "mno_probe.h"\n' >bpf/p/p.c
  printf '#include "hub.h"\n#include "mno/store.h"\n#include <microhttpd.h>\n' >agent/api/good.c
  printf '#include "mno/client.h"\n#include "ctl.h"\n' >tools/mnoctl/good.c
  out=$(scan) || { echo "self-test: good tree refused: $out"; return 1; }
  # what is not: one file a rule
  echo '#include "hub.h"' >libmno/src/a/bad_agent.c
  echo '#include <bpf/libbpf.h>' >libmno/src/a/bad_bpf.c
  echo '#include <lmdb.h>' >libmno/include/mno/bad_type.h
  echo '#include "mno/store.h"' >tools/mnoctl/bad_store.c
  echo '#include <lmdb.h>' >tools/mnoctl/bad_lmdb.c
  echo '#include "../agent/hub.h"' >tools/mnoctl/bad_agent.c
  echo '#include "hub.h"' >bpf/p/bad_agent.c
  echo '#include <stdio.h>' >bpf/p/bad_libc.bpf.c
  echo '#include "agent/hub.h"' >bpf/p/bad_agent.bpf.c
  echo '#include <stdint.h>' >bpf/q/bad_wire.h
  echo '#include <lmdb.h>' >agent/api/bad_lmdb.c
  echo '#include "mnoctl/ctl.h"' >agent/api/bad_tools.c
  out=$(scan)
  for want in libmno/src/a/bad_agent.c libmno/src/a/bad_bpf.c libmno/include/mno/bad_type.h \
    tools/mnoctl/bad_store.c tools/mnoctl/bad_lmdb.c tools/mnoctl/bad_agent.c bpf/p/bad_agent.c \
    bpf/p/bad_libc.bpf.c bpf/p/bad_agent.bpf.c bpf/q/bad_wire.h agent/api/bad_lmdb.c agent/api/bad_tools.c; do
    grep -q "^$want:" <<<"$out" || { echo "self-test: not found: $want"; n=1; }
  done
  ! grep -q good <<<"$out" || { echo "self-test: a good file was reported"; n=1; }
  return $n
}

if [ "${1:-}" = --self-test ]; then
  self_test && echo "self-test: 12 bad includes found, good ones passed"
else
  cd "${1:-$(dirname "$0")/../..}" && scan
fi
