#!/usr/bin/env bash
# Compares the aggregation of labels with crowd-kit and cleanlab, in build/bench/venv: their pandas is
# not to meddle with .venv. Arguments go to tests/bench/annotation_bench.py.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/bench/venv
stamp=build/bench/requirements.sha256
mkdir -p build/bench
if ! sha256sum --status -c "$stamp" 2> /dev/null; then
  [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check \
    -r scripts/requirements-annotation.txt
  sha256sum scripts/requirements-annotation.txt > "$stamp"
fi
# Builds it anew only where something has changed.
"$venv/bin/python" -m pip install -q --disable-pip-version-check --upgrade ./client/python
"$venv/bin/python" tests/bench/annotation_bench.py "$@"
