#!/usr/bin/env bash
# Makes build/triton/venv with Triton Inference Server, for the peers benchmark, and prints its Python.
# Triton's Python backend brings its own interpreter and takes the standard library of the one that
# starts it: Debian's agrees with it, 3.11.7's does not ('RLock' has no '_recursion_count').
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/triton/venv
if [ ! -e "$venv/complete" ]; then
  "${TRITON_PYTHON:-/usr/bin/python3}" -m venv "$venv" >&2
  "$venv/bin/python" -m pip install -q --disable-pip-version-check nvidia-pytriton==0.7.0 >&2
  touch "$venv/complete"
fi
echo "$PWD/$venv/bin/python"
