#!/usr/bin/env bash
# build.sh PRESET [TARGET…]: configures and builds a preset of CMakePresets.json.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=$1
shift
targets=()
if (($#)); then targets=(--target "$@"); fi
cmake --preset "$preset" -Wno-dev --log-level=WARNING > /dev/null
cmake --build --preset "$preset" -j "${JOBS:-2}" "${targets[@]}"
