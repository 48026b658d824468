#!/usr/bin/env bash
# Formats every source in place: clang-format for C++ and CUDA, ruff for Python.
set -euo pipefail
cd "$(dirname "$0")/.."

git ls-files -co --exclude-standard -z '*.cc' '*.h' '*.cu' '*.cuh' | xargs -0 clang-format-14 -i
.venv/bin/ruff format --quiet
