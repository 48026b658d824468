#!/usr/bin/env bash
# sanitize.sh asan|tsan: builds the C++ tests with that sanitizer and runs them.
set -euo pipefail
cd "$(dirname "$0")/.."

case $1 in
  asan)
    scripts/build.sh asan
    ctest --preset asan
    ;;
  tsan)
    # gRPC is not instrumented and would give false races: only what is built without it.
    scripts/build.sh tsan tests_layout tests_kernels tests_annotation tests_engine
    # The regimes suite has one thread, and takes ten minutes here.
    ctest --preset tsan -L '^(layout|kernels|annotation|engine)$' -E BackendRegimes --no-tests=error
    ;;
  *)
    echo "usage: sanitize.sh asan|tsan" >&2
    exit 2
    ;;
esac
