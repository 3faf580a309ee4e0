#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: series_peers.sh [BUILD_DIR]: the recorded host and a fleet of 8 such hosts in VictoriaMetrics
# and Prometheus: bytes on disk, CPU time of loading and of a query over everything. Prints our
# figures of the same run with the ratio to each, then a table. PEERS=0 leaves it out. CPU time is
# utime + stime of the rival's process, the sender of the data is not counted. Both listen on a free
# port of the loopback, keep their data in a directory of this run and are ended at the end.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
O=$(realpath "${1:-build}")
[ "${PEERS:-1}" != 0 ] || { echo "skipped: PEERS=0"; exit 77; }
DATA=${BENCH_DATA:-../shared/data/host_metrics.csv.zst} COPIES=8 QUERIES=5
[ -r "$DATA" ] || { echo "skipped: no recorded host in $DATA"; exit 77; }
for tool in curl jq; do
  command -v $tool >/dev/null || { echo "skipped: $tool is not installed"; exit 77; }
done
W=$(mktemp -d "${BENCH_TMP:-/var/tmp}/mno-peers.XXXXXX") server='' HZ=$(getconf CLK_TCK)
declare -A F # figures: F[peer.what]
cleanup() { end_server; rm -rf "$W"; }
trap cleanup EXIT
trap 'exit 130' INT TERM
[ "$(df -Pk "$W" | awk 'NR == 2 { print $4 }')" -gt 3000000 ] ||
  { echo "skipped: less than 3 GB free in ${W%/*}"; exit 77; }

calc() { awk "BEGIN { printf \"%.${2:-3}f\", $1 }"; }
bytes() { du -sb --apparent-size "$@" | awk '{ n += $1 } END { print n }'; }
dataset() { "$O/bench/dataset" "$@"; }

# --- a rival's server ---------------------------------------------------------------------------
cpu_ms() { awk -v hz="$HZ" '{ sub(/.*\) /, ""); print ($12 + $13) * 1000 / hz }' "/proc/$server/stat"; }
peak_mib() { awk '/^VmHWM:/ { printf "%.0f", $2 / 1024 }' "/proc/$server/status"; }
free_port() {
  local p
  for _ in {1..50}; do
    p=$((20000 + RANDOM % 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo $p; return; }
  done
}
ask() { curl -sS --noproxy '*' --max-time 300 "$@"; }
start_server() { # READY-PATH COMMAND...: "PORT" in the arguments is replaced
  local path=$1 port
  shift
  port=$(free_port) url=http://127.0.0.1:$port
  "${@//PORT/$port}" >"$W/log" 2>&1 &
  server=$!
  for _ in {1..150}; do
    ask -f "$url$path" >/dev/null 2>&1 && return
    kill -0 $server 2>/dev/null || break
    sleep 0.1
  done
  echo "skipped: $1 does not start: $(tail -n 1 "$W/log")"
  end_server
  return 1
}
end_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null
  wait "$server" 2>/dev/null
  server=''
}
start_vm() {
  start_server /health victoria-metrics -httpListenAddr=127.0.0.1:PORT -storageDataPath="$1" \
    -retentionPeriod=100y -search.latencyOffset=0s -search.disableCache \
    -search.maxUniqueTimeseries=1000000 -loggerLevel=ERROR
}
# sum by(device)(rate({__name__=~".+"}[1m])) at 61 steps: mean CPU time of a query; its sum in F[PEER.answer]
query() { # PEER
  local before
  before=$(cpu_ms)
  for ((i = 0; i < QUERIES; i++)); do
    ask -G "$url/api/v1/query_range" -o "$W/answer" -d "start=$first" -d "end=$last" -d step=15 \
      --data-urlencode 'query=sum by(device)(rate({__name__=~".+"}[1m]))'
  done
  F[$1.query]=$(calc "($(cpu_ms) - $before) / $QUERIES" 0)
  F[$1.answer]=$(jq '[.data.result[]?.values[][1] | tonumber] | add' "$W/answer")
}

# --- what there is to load ------------------------------------------------------------------------
dataset openmetrics >"$W/1.om" || exit 1
samples=$(($(wc -l <"$W/1.om") - 1))
first=$(awk 'NR == 1 { t = $NF } $NF < t { t = $NF } END { printf "%.3f", t + 60 }' "$W/1.om")
last=$(calc "$first + 900")

victoria() {
  local fold before rows
  for fold in 1 $COPIES; do
    start_vm "$W/vm$fold" || return
    before=$(cpu_ms)
    dataset json "$fold" | ask -T - "$url/api/v1/import" || return
    ask "$url/internal/force_flush"
    F[vm.ingest]=$(calc "($(cpu_ms) - $before) / $samples / $fold * 1000")
    ask "$url/internal/force_merge"
    for _ in {1..100}; do # until it is merged
      sleep 0.2
      ask "$url/metrics" | awk '/^vm_active_merges/ { n += $2 } END { exit n > 0 }' && break
    done
    rows=$(ask "$url/metrics" | awk '/^vm_rows{type="storage/ { n += $2 } END { printf "%d", n }')
    [ "$rows" = $((samples * fold)) ] ||
      echo "victoria-metrics took $rows of $((samples * fold)) samples: its figures are not comparable"
    F[vm.size$fold]=$(calc "$(bytes "$W/vm$fold/data" "$W/vm$fold/indexdb") / $samples / $fold")
    F[vm.merge]=$(calc "($(cpu_ms) - $before) / $samples / $fold * 1000")
    [ "$fold" = 1 ] || query vm
    F[vm.memory]=$(peak_mib)
    end_server
    rm -rf "$W/vm$fold"
  done
  start_vm "$W/vmtext" || return
  before=$(cpu_ms)
  dataset prometheus $COPIES | ask -T - "$url/api/v1/import/prometheus" || return
  ask "$url/internal/force_flush"
  F[vm.text]=$(calc "($(cpu_ms) - $before) / $samples / $COPIES * 1000")
  end_server
  rm -rf "$W/vmtext"
}

blocks() { # FOLD: sets $used to "CPU_MS PEAK_KIB"
  "$O/tests/prog/cpu" "$W/used" promtool tsdb create-blocks-from openmetrics "$W/$1.om" \
    "$W/prom$1" >"$W/log" 2>&1 || { echo "skipped: promtool: $(tail -n 1 "$W/log")"; return 1; }
  read -r -a used <"$W/used"
}
prometheus_blocks() {
  blocks 1 || return
  F[prom.size1]=$(calc "$(bytes "$W/prom1") / $samples")
  dataset openmetrics $COPIES >"$W/$COPIES.om"
  blocks $COPIES || return
  rm -f "$W/$COPIES.om"
  F[prom.size$COPIES]=$(calc "$(bytes "$W/prom$COPIES") / $samples / $COPIES")
  F[prom.text]=$(calc "${used[0]} / $samples / $COPIES * 1000")
  F[prom.memory]=$((used[1] / 1024))
  start_server /-/ready prometheus --config.file=/dev/null --storage.tsdb.path="$W/prom$COPIES" \
    --storage.tsdb.retention.time=100y --web.listen-address=127.0.0.1:PORT \
    --query.max-samples=500000000 --log.level=error || return
  query prom
  end_server
}
# its head and log, fed with labels that are resolved before
prometheus_head() {
  local n
  dataset labels $COPIES | head -n 10000 >"$W/labels"
  n=$(wc -l <"$W/labels")
  "$O/tests/prog/cpu" "$W/used" promtool tsdb bench write --out="$W/head" --metrics="$n" \
    --scrapes=1000 "$W/labels" >"$W/log" 2>&1 ||
    { echo "skipped: promtool tsdb bench: $(tail -n 1 "$W/log")"; return 1; }
  read -r -a used <"$W/used"
  F[prom.ingest]=$(calc "${used[0]} / $n")
}

if command -v victoria-metrics >/dev/null; then victoria; else echo "skipped: victoria-metrics is not installed"; fi
if command -v promtool >/dev/null; then
  prometheus_head
  prometheus_blocks
else
  echo "skipped: prometheus is not installed"
fi

# --- ours, of this run ----------------------------------------------------------------------------
log=${BENCH_LOG:-$W/ours}
grep -q '^bench host8-query' "$log" 2>/dev/null || { "$O/bench/series_fold" >"$W/ours" && log=$W/ours; }
mine() { awk -v n="$1" '$1 == "bench" && $2 == n { v = $3 } END { if (v != "") print v }' "$log"; }
line() { # NAME UNIT PEER RIVAL'S-VALUE rate|cost
  local v=${F[ours.$1]:-} r
  [ -n "$v" ] && [ -n "$4" ] || return 0
  if [ "$5" = rate ]; then r="$v / $4"; else r="$4 / $v"; fi
  echo "bench $1 $v $2 ratio $(calc "$r" 2) peer $3"
}
rate_of() { [ -z "$1" ] || calc "1 / $1"; } # us a sample to M/s
for n in host1-size host8-size host8-ingest host8-query text-ingest series-size series-ingest; do
  F[ours.$n]=$(mine $n)
done
: "${F[ours.series-size]:=${F[ours.host1-size]}}" "${F[ours.series-ingest]:=${F[ours.host8-ingest]}}"
for p in vm:victoria-metrics prom:prometheus; do
  k=${p%:*} who=${p#*:}
  line series-size B "$who" "${F[$k.size1]:-}" cost
  line host8-size B "$who" "${F[$k.size8]:-}" cost
  line series-ingest M/s "$who$([ $k = prom ] || echo -json)" "$(rate_of "${F[$k.ingest]:-}")" rate
  line text-ingest M/s "$who" "$(rate_of "${F[$k.text]:-}")" rate
  line host8-query ms "$who" "${F[$k.query]:-}" cost
done
[ -z "${F[prom.answer]:-}" ] || awk -v a="${F[prom.answer]}" -v b="$(mine host8-check)" 'BEGIN {
  d = (a - b) / (a + (a == 0)); if (d < 0) d = -d
  print d < 1e-9 ? "# our answer to the query is Prometheus'\''" : "# ANSWERS DIFFER: " a " and " b }'

F[ours.size1]=${F[ours.host1-size]} F[ours.size8]=${F[ours.host8-size]} F[ours.query]=${F[ours.host8-query]}
F[ours.ingest]=$(rate_of "${F[ours.host8-ingest]}") F[ours.text]=$(rate_of "${F[ours.text-ingest]}")
F[ours.memory]=$(awk '/peak memory/ { for (i = 1; i < NF; i++) if ($i == "memory") m = $(i + 1) } END { printf "%.0f", m }' "$log")
printf '\n%-18s %9s %9s %12s %12s %9s %9s\n' "$samples samples" 'B/sample' "x$COPIES" 'ingest us' 'text us' 'query ms' 'peak MiB'
for p in ours:mno vm:VictoriaMetrics prom:Prometheus; do
  k=${p%:*}
  printf '%-18s %9s %9s %12s %12s %9s %9s\n' "${p#*:}" "${F[$k.size1]:--}" "${F[$k.size8]:--}" \
    "${F[$k.ingest]:--}" "${F[$k.text]:--}" "${F[$k.query]:--}" "${F[$k.memory]:--}"
done
cat <<EOT
CPU time. ingest: series resolved before (mno: 64 ticks a commit; Prometheus: its head and log, no
blocks; VictoriaMetrics has no such way in: JSON lines). text: Prometheus' format. query: sum
by(device)(rate({__name__=~".+"}[1m])) at 61 steps over $((samples * COPIES)) samples; rivals with HTTP and JSON.
VictoriaMetrics: after its merge, which takes ${F[vm.merge]:--} us a sample with all before it.
EOT
