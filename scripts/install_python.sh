#!/usr/bin/env bash
# Builds client/python and installs it into .venv, unless nothing that it is made of has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/softloss.sha256
sources=(CMakeLists.txt cmake client layout kernels proto scripts/requirements.txt)
now=$(find "${sources[@]}" -type f -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum |
  sha256sum)
if [ "$now" != "$(cat "$stamp" 2> /dev/null)" ]; then
  .venv/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps \
    ./client/python
  echo "$now" > "$stamp"
fi
