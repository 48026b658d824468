#!/usr/bin/env bash
# The demo: a server, a training job and a scoring job against it, on real data. See demo.py.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_python.sh
exec .venv/bin/python scripts/demo.py --server "${SOFTLOSS_BIN:-build/release/bin}/softlossd" "$@"
