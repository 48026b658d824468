#!/usr/bin/env bash
# shellcheck disable=SC2317  # parts are functions that are called by name
# On a machine with an NVIDIA GPU: runs all GPU tests and benchmarks from the bundle that
# gpu_bundle.sh made. Installs nothing. Every part has its own time limit, a failing part does not stop
# the next, and the whole ends within nine minutes. Results: $OUT, or ./out (log, JSON, table).
#
# usage: gpu_check.sh [PART…]   parts: conformance sanitizer kernels torch e2e; all by default
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
if [[ ! -d $here/bin ]]; then here=$here/../build/gpu-bundle; fi
if [[ ! -d $here/bin ]]; then
  echo "gpu_check: there is no bundle; run make gpu-bundle first" >&2
  exit 2
fi
out=${OUT:-$PWD/out}
mkdir -p "$out"
log=$out/gpu_check.log
parts=("$@")
if ((${#parts[@]} == 0)); then parts=(conformance sanitizer kernels torch e2e); fi
declare -a table=()
failed=0

run() { LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@"; }
wanted() { [[ " ${parts[*]} " == *" $1 "* ]]; }

# part NAME SECONDS COMMAND…: runs it, logs it, notes how it went.
part() {
  local name=$1 limit=$2 begin=$SECONDS status verdict
  shift 2
  wanted "$name" || return 0
  echo "=== $name" | tee -a "$log"
  timeout --kill-after=10 "$limit" "$0" --inner "$@" 2>&1 | tee -a "$log" | tail -n "${tail_lines:-40}"
  status=${PIPESTATUS[0]}
  case $status in
    0) verdict=passed ;;
    124 | 137) verdict="failed: over $limit s" ;;
    *) verdict="failed: exit $status" ;;
  esac
  [[ $verdict == passed ]] || failed=1
  table+=("$name|$verdict|$((SECONDS - begin))")
}
skip() { if wanted "$1"; then table+=("$1|skipped: $2|0"); fi; }

# What a part runs, in a process of its own so that its limit covers all of it.
conformance() {
  local tests=("$here"/bin/backend_*test) shards=4 test shard pids=() status=0 pid passed
  for test in "${tests[@]}"; do
    for ((shard = 0; shard < shards; shard++)); do
      SOFTLOSS_CONFORMANCE_BACKENDS=cuda GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$shard \
        run "$test" > "$out/.$(basename "$test").$shard" 2>&1 &
      pids+=($!)
    done
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  cat "$out"/.backend_*test.* | grep -v '^\[ RUN  \|^\[-----\|^\[=====\|^Note: \|^$'
  # A suite without a device has no cases and passes: that is a failure here.
  passed=$(cat "$out"/.backend_*test.* | awk '/^\[  PASSED  \]/ { n += $4 } END { print n + 0 }')
  rm -f "$out"/.backend_*test.*
  echo "conformance: $passed tests passed on backend cuda"
  ((status == 0 && passed > 0))
}
sanitizer() {
  SOFTLOSS_CONFORMANCE_BACKENDS=cuda run compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$here/bin/backend_test" --gtest_brief=1 --gtest_filter="${SANITIZER_FILTER:-*}"
}
# Without a device the benchmark measures nothing and succeeds: that is a failure here too.
kernels() {
  run "$here/bin/cuda_kernels_bench" "$out/cuda_kernels.json" && grep -q '"case"' "$out/cuda_kernels.json"
}
torch_bench() { python3 "$here/cuda_torch_bench.py" "$out/cuda_kernels.json" "$out/cuda_torch.json"; }
e2e() { run "$here/bin/softloss_gpu_e2e" "$here/bin/softlossd" "$out/gpu_e2e.json"; }

if [[ ${1:-} == --inner ]]; then
  shift
  "$@"
  exit
fi

: > "$log"
nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.sm,clocks.mem --format=csv 2>&1 | tee -a "$log"
tail_lines=90 part conformance 150 conformance
if command -v compute-sanitizer > /dev/null; then part sanitizer 80 sanitizer; else skip sanitizer "no compute-sanitizer"; fi
part kernels 110 kernels
if python3 -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
  part torch 120 torch_bench
else
  skip torch "no torch with CUDA"
fi
if [[ -x $here/bin/softloss_gpu_e2e && -x $here/bin/softlossd ]]; then part e2e 60 e2e; else skip e2e "not in the bundle"; fi

{
  printf '\n%-14s %8s  %s\n' part seconds result
  rows=()
  for row in "${table[@]}"; do
    IFS='|' read -r name verdict seconds <<< "$row"
    printf '%-14s %8s  %s\n' "$name" "$seconds" "$verdict"
    rows+=("{\"part\": \"$name\", \"result\": \"$verdict\", \"seconds\": $seconds}")
  done
  (IFS=,; echo "{\"name\": \"gpu_check\", \"date\": \"$(date -u +%FT%TZ)\", \"parts\": [${rows[*]}]}") > "$out/gpu_check.json"
} | tee -a "$log"
exit "$failed"
