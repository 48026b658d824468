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
    # gRPC is not instrumented and would give false races: no test here may contain it.
    mapfile -t tests < <(grep -v '^#' scripts/tsan_tests.txt)
    scripts/build.sh tsan "${tests[@]}"
    for test in "${tests[@]}"; do
      binary=build/tsan/bin/$test
      if ldd "$binary" | grep -q libgrpc; then
        echo "$test links gRPC" >&2
        exit 1
      fi
      echo "$test"
      TSAN_OPTIONS=halt_on_error=1 "$binary" --gtest_brief=1
    done
    ;;
  *)
    echo "usage: sanitize.sh asan|tsan" >&2
    exit 2
    ;;
esac
