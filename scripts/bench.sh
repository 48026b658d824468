#!/usr/bin/env bash
# Runs the benchmarks of the release build, or those named. Each writes build/bench/<name>.json,
# prints its table and the rows that miss their bar.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build/bench
if (($#)); then names=("$@"); else mapfile -t names < <(basename -s _bench build/release/bin/*_bench); fi
status=0
for name in "${names[@]}"; do
  "build/release/bin/${name}_bench" "build/bench/$name.json" || status=1
done
exit "$status"
