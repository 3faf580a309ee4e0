#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# carry.sh ROOT PROGRAM[=PATH]...: copy programs below ROOT (default path /usr/bin/NAME) together
# with the shared libraries and the loader that they name, each at its own path.
set -euo pipefail

root=$1
shift
for spec in "$@"; do
  program=$(command -v "${spec%%=*}") || { echo "carry.sh: ${spec%%=*} not found" >&2; exit 1; }
  path=/usr/bin/$(basename "$program")
  [ "$spec" = "${spec#*=}" ] || path=${spec#*=}
  install -D -m 755 "$program" "$root$path"
  # A static program has no list; ldd says so with status 1.
  { ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true; } | while read -r library; do
    # /lib is a link to /usr/lib on the host and a folder in the guest: keep the name that
    # the loader looks for.
    [ -e "$root$library" ] || install -D -m 755 "$library" "$root$library"
  done
done
