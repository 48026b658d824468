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
# The peer that needs an environment of its own; without it, its rows are left out.
if [[ " ${names[*]} " == *" peers "* && -z ${SOFTLOSS_TRITON_PYTHON:-} ]]; then
  SOFTLOSS_TRITON_PYTHON=$(scripts/setup_triton.sh) && export SOFTLOSS_TRITON_PYTHON
fi || echo "Triton cannot be set up here"
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
