#!/usr/bin/env bash
# Runs the benchmarks of the release build, or those named. Each writes build/bench/<name>.json,
# prints its table and the rows that miss their bar. "annotation" and "family" are Python programs.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build/bench
if (($#)); then
  names=("$@")
else
  mapfile -t names < <(basename -s _bench build/release/bin/*_bench)
  names+=(annotation family)
fi
status=0
for name in "${names[@]}"; do
  if [ "$name" = annotation ]; then
    scripts/bench_annotation.sh "build/bench/$name.json" || status=1
  elif [ "$name" = family ]; then
    .venv/bin/python tests/bench/family_bench.py "build/bench/$name.json" || status=1
  else
    "build/release/bin/${name}_bench" "build/bench/$name.json" || status=1
  fi
  if [ "$name" = kernels ]; then
    .venv/bin/python tests/bench/kernels_torch_bench.py "build/bench/$name.json" || status=1
  fi
done
exit "$status"
