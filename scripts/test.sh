#!/usr/bin/env bash
# Builds everything and runs every test that needs no GPU. The last line counts them.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

scripts/build.sh dev || exit 1
scripts/install_python.sh || exit 1

results=build/dev/results
rm -rf "$results"
mkdir -p "$results"
failed=0
ctest --preset dev --output-junit "$PWD/$results/ctest.xml" > "$results/ctest.log" 2>&1 || failed=1
if ((failed)); then cat "$results/ctest.log"; else tail -n 3 "$results/ctest.log"; fi

export PATH="$PWD/build/dev/bin:$PATH" SOFTLOSS_BIN="$PWD/build/dev/bin"
.venv/bin/python -m pytest -q -rs --junitxml="$results/pytest.xml" tests --ignore=tests/compat || failed=1

.venv/bin/python scripts/count_tests.py "$results"/*.xml || failed=1
exit "$failed"
