#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the rivals of the benchmarks (section [bench] of tools/packages.list) when root and says
# which versions there are. The installation starts no service, and one that runs is not touched.
# PEERS=0: nothing to do.
set -eu
cd "$(dirname "$0")/../.."
[ "${PEERS:-1}" != 0 ] || exit 0
tools/dev/deps.sh bench
for p in $(awk '/^\[/ { on = $1 == "[bench]" } on && / peer / { sub(/^\?/, "", $1); print $1 }' \
  tools/packages.list); do
  v=$(dpkg-query -W -f '${Version}' "$p" 2>/dev/null) || v=
  echo "peer $p ${v:-is not installed}"
done
