#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A kernel that takes something away: the agent runs on, and doctor names what is missing.
# boots: no-bpf-lsm confidentiality
# checks: degraded-start degraded-named degraded-level degraded-reasons degraded-stop
# limit: 100
. /payload/lib.sh
need_agent
export STATE=/tmp/degraded-state

# What doctor must name as a finding, and the level that lsm_smoke proved for this boot.
case $VM_BOOT in
no-bpf-lsm)
  # fmod_ret on security_* still refuses here: L3 is right, L4 would be the lie.
  named='any(.findings[]; (.what + " " + .why) | test("bpf") and test("LSM")) and
    any(.findings[]; .todo | test("lsm="))'
  level='.level == "L3"'
  ;;
*)
  named='any(.findings[]; (.what + " " + .why) | test("confidentiality"))'
  level='.level == "L4"'
  ;;
esac

agent_start || fail_rest "the agent did not start: $(tail -n 1 /tmp/mnod.log)"
ok degraded-start
doctor true # leaves its answer for the reasons below
check degraded-named "not in $(jq -c '[.findings[].what]' /tmp/doctor.json 2>&1)" doctor "$named"
check degraded-level "$(jq -r '.level + ": " + .level_reason' /tmp/doctor.json 2>&1)" doctor "$level"
# A probe that does not run says why.
check degraded-reasons "$(jq -c '[.probes[] | {name, state, reason}]' /tmp/status.json)" \
  status '[.probes[] | select((.state | IN("running", "off") | not) and (.reason // "") == "")] == []'
check degraded-stop "exit status not 0" agent_stop
