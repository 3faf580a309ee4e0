#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A kernel that takes something away: the agent runs on, and doctor names what is missing.
# boots: no-bpf-lsm confidentiality
# checks: degraded-start degraded-named degraded-level degraded-reasons degraded-stop
# limit: 45
. /payload/lib.sh
need_agent
export STATE=/tmp/degraded-state

case $VM_BOOT in
no-bpf-lsm)
  named='tostring | test("lsm=|active LSM|/sys/kernel/security/lsm"; "i") and test("bpf"; "i")'
  # fmod_ret on security_* still refuses here, so L3 is right and L4 would be the lie.
  level='.level | test("^L[0-3]$")'
  ;;
*)
  named='tostring | test("confidentiality")'
  level='.level | test("^L[0-4]$")'
  ;;
esac

agent_start || fail_rest "the agent did not start: $(tail -n 1 /tmp/mnod.log)"
ok degraded-start
doctor true # leaves its answer for the reasons below
check degraded-named "doctor does not name it: $(head -c 300 /tmp/doctor.json)" doctor "$named"
check degraded-level "level $(jq -r .level /tmp/doctor.json)" doctor "$level"
# A probe that does not run says why.
check degraded-reasons "$(jq -c '[.probes[] | {name, state, reason}]' /tmp/status.json)" \
  status '[.probes[] | select((.state == "failed" or .state == "refused") and (.reason // "") == "")] == []'
check degraded-stop "exit status not 0" agent_stop
