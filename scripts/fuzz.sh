#!/usr/bin/env bash
# Builds the fuzzers and runs each for FUZZ_SECONDS. What they find is kept under build/fuzz/.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
scripts/build.sh fuzz
shopt -s nullglob
fuzzers=(build/fuzz/bin/*_fuzzer)
if ((${#fuzzers[@]} == 0)); then
  echo "fuzz: no fuzzer was built" >&2
  exit 1
fi
for fuzzer in "${fuzzers[@]}"; do
  name=$(basename "$fuzzer")
  corpus=build/fuzz/corpus/$name
  mkdir -p "$corpus"
  seeds=()
  if [ -d "tests/fuzz/corpus/$name" ]; then seeds=("tests/fuzz/corpus/$name"); fi
  echo "$name: $seconds s"
  "$fuzzer" -max_total_time="$seconds" -timeout=10 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="build/fuzz/$name-" "$corpus" "${seeds[@]}"
done
