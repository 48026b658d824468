#!/usr/bin/env bash
# Compares softloss with other frameworks' losses, live, in build/compat/venv: they are too heavy, and
# too particular about versions, for .venv.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/compat/venv
stamp=build/compat/requirements.sha256
if ! sha256sum --status -c "$stamp" 2> /dev/null; then
  [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -r scripts/requirements-compat.txt
  # For the source of one function: what it depends on is not wanted.
  "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps trl==1.16.0
  sha256sum scripts/requirements-compat.txt > "$stamp"
fi
# Builds it anew only where something has changed.
"$venv/bin/python" -m pip install -q --disable-pip-version-check --upgrade ./client/python
JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=2 "$venv/bin/python" -m pytest -q -rs tests/compat
