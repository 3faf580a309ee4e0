#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The file sources where all cgroup v2 controllers are on: every file of a cgroup gives its series.
# boots: full
# checks: sources-cgroup sources-io sources-throttled sources-gone sources-running
# limit: 120
. /payload/lib.sh
need_agent
export STATE=/tmp/sources-state
group=/sys/fs/cgroup/vm-sources

# has SELECTOR [CONDITION]: the series is there, with a value for which CONDITION (of jq) holds.
has() {
  mnoctl -j query "$1" >/tmp/why 2>&1 && grep -q '"metric"' /tmp/why || return 1
  [ -z "${2:-}" ] || jq -e "[.. | objects | select(has(\"metric\")) | .value[1] | tonumber | select($2)] |
    length > 0" /tmp/why >/dev/null
}
absent_series() {
  for name in cpu_usage_seconds_total cpu_periods_total memory_current_bytes memory_bytes \
    memory_page_faults_total memory_events_total pids_current pressure_waiting_seconds_total; do
    has "mno_cgroup_$name{cgroup=\"/vm-sources\"}" || echo "$name"
  done
}
all_series() {
  absent_series >/tmp/absent
  { printf 'absent: '; cat /tmp/absent; } >/tmp/why
  [ ! -s /tmp/absent ]
}
io_series() { has 'mno_cgroup_io_read_bytes_total{cgroup="/vm-sources",device="vda"}' '. >= 1048576'; }
throttled() { has 'mno_cgroup_cpu_throttled_seconds_total{cgroup="/vm-sources"}' '. > 0'; }
gone_series() { ! has 'mno_cgroup_memory_current_bytes{cgroup="/vm-sources"}'; }

for controller in cpu memory io pids; do
  echo +$controller >/sys/fs/cgroup/cgroup.subtree_control
done
mkdir $group
echo '20000 100000' >$group/cpu.max
echo 67108864 >$group/memory.max
agent_start --no-bpf || fail_rest "the agent did not start: $(tail -n 1 /tmp/mnod.log)"
sh -c "echo \$\$ >$group/cgroup.procs
  [ ! -b /dev/vda ] || dd if=/dev/vda of=/dev/null bs=64k count=32 2>/dev/null
  while :; do :; done" &
load=$!

await sources-cgroup 15 all_series
if [ -b /dev/vda ]; then
  await sources-io 15 io_series
else
  skip sources-io "no block device in this guest"
fi
await sources-throttled 15 throttled
kill -9 $load
wait_for 5 gone $load
wait $load 2>/dev/null
rmdir $group
await sources-gone 15 gone_series
check sources-running "memory of the guest is not measured" has node_memory_MemTotal_bytes '. > 0'
agent_stop
