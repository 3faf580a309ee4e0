#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash # that is, with local
# What every case in cases/ uses; sourced by it in the guest (busybox sh).
# A case file's head names the boots it runs in, the checks that it reports (each exactly once)
# and its limit in seconds:
#   # boots: full no-bpf-lsm
#   # checks: one two
#   # limit: 30

export STATE=/var/lib/mno
MNO_SOCKET=/run/mno/mno.sock
export MNO_SOCKET
agent_pid=0

reported=' '

result() {
  reported="$reported$2 "
  echo "=result= $1 $2 ${3:-}"
}
ok() { result ok "$1" "${2:-}"; }
bad() { result FAIL "$1" "${2:-}"; }
skip() { result skip "$1" "${2:-}"; }

# check NAME REASON COMMAND...: ok when COMMAND succeeds, else FAIL with REASON.
check() {
  check_name=$1 check_reason=$2
  shift 2
  if "$@"; then ok "$check_name"; else bad "$check_name" "$check_reason"; fi
}

# The checks of this case's head that have no result yet.
checks_left() {
  for left in $(sed -n 's/^# checks: //p' "$0"); do
    case $reported in
    *" $left "*) ;;
    *) echo "$left" ;;
    esac
  done
}

# skip_rest REASON, fail_rest REASON: end the case; every check without a result gets this one.
skip_rest() {
  for name in $(checks_left); do skip "$name" "$1"; done
  exit 0
}

fail_rest() {
  for name in $(checks_left); do bad "$name" "$1"; done
  exit 0
}

need_agent() {
  for program in mnod mnoctl jq; do
    command -v "$program" >/dev/null || skip_rest "$program was not built or found on the host"
  done
}

uptime_seconds() {
  read -r seconds _ </proc/uptime
  echo "${seconds%.*}"
}

# wait_for SECONDS COMMAND...: polls until COMMAND succeeds, at least once.
wait_for() {
  local end
  end=$(($(uptime_seconds) + $1))
  shift
  until "$@"; do
    [ "$(uptime_seconds)" -lt "$end" ] || return 1
    usleep 100000
  done
}

# await NAME SECONDS COMMAND...: ok when COMMAND succeeds in that time; else FAIL with what COMMAND
# left in /tmp/why.
await() {
  local awaited=$1 # COMMAND may well use $name
  shift
  rm -f /tmp/why
  if wait_for "$@"; then ok "$awaited"; else bad "$awaited" "$(head -c 300 /tmp/why 2>/dev/null | tr '\n' ' ')"; fi
}

alive() { kill -0 "$1" 2>/dev/null; }
gone() { ! alive "$1"; }

# Exit status 1 is an answer, too: something is unhealthy.
status_answers() {
  mnoctl -j status >/tmp/status.json 2>/tmp/status.err
  [ $? -le 1 ]
}

# agent_start [OPTION...]: runs mnod in the background and waits until it answers.
agent_start() {
  mkdir -p "$STATE" /run/mno
  mnod --state "$STATE" --socket $MNO_SOCKET "$@" >>/tmp/mnod.log 2>&1 &
  agent_pid=$!
  wait_for 40 agent_answers_or_gone
  if ! status_answers; then
    echo "agent: no answer: $(cat /tmp/status.err)"
    tail -n 20 /tmp/mnod.log
    return 1
  fi
}

agent_answers_or_gone() { status_answers || gone "$agent_pid"; }

# agent_stop: ends the agent with SIGTERM; its exit status is the function's.
agent_stop() {
  kill -TERM "$agent_pid" 2>/dev/null
  if ! wait_for 30 gone_or_zombie "$agent_pid"; then
    kill -KILL "$agent_pid"
    wait "$agent_pid"
    agent_pid=0
    return 99
  fi
  wait "$agent_pid"
  agent_status=$?
  agent_pid=0
  return $agent_status
}

# A child that has ended stays until it is waited for.
gone_or_zombie() {
  gone "$1" || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

# A case that ends early leaves no agent to the next one.
trap '[ "$agent_pid" = 0 ] || kill -KILL "$agent_pid" 2>/dev/null' EXIT

agent_kill() {
  kill -KILL "$agent_pid"
  wait "$agent_pid" 2>/dev/null
}

# status FILTER, doctor FILTER: true when the jq FILTER is true of that verb's answer.
status() { status_answers && jq -e "$1" /tmp/status.json >/dev/null; }
doctor() {
  wait_for 20 doctor_done
  jq -e "$1" /tmp/doctor.json >/dev/null
}

# Its tests take a few seconds in a guest; until then it says that they have not ended.
doctor_done() {
  mnoctl -j doctor >/tmp/doctor.json 2>/tmp/doctor.err
  [ $? -le 1 ] && jq -e '.level_reason | test("not ended") | not' /tmp/doctor.json >/dev/null
}

# rows FILTER: prints what the jq FILTER makes of the ledger's array.
rows() { mnoctl -j proc list --since 10m | jq -r "$1"; }

pins() { find /sys/fs/bpf/mno -mindepth 1 2>/dev/null | wc -l; }

# process TAG CODE: one short process that the ledger must show with argv TAG and exit code CODE.
process() { /bin/busybox sh -c "exit $2" "$1"; }
