#!/usr/bin/env bash
# Formatting, lint and static analysis. Every check runs; the exit status says whether all passed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

status=0
check() {  # check NAME COMMAND…
  local name=$1
  shift
  if "$@"; then echo "ok      $name"; else echo "FAILED  $name"; status=1; fi
}
files() { git ls-files -co --exclude-standard "$@"; }  # whatever is not ignored

mapfile -t cpp < <(files '*.cc' '*.h' '*.cu' '*.cuh')
mapfile -t shell < <(files '*.sh' .ci/run)
mapfile -t yaml < <(files '*.yml' '*.yaml')
mapfile -t protos < <(cd proto && files 'softloss/*.proto')

check clang-format clang-format-14 --dry-run -Werror "${cpp[@]}"
check shellcheck shellcheck "${shell[@]}"
if ((${#yaml[@]})); then check yamllint yamllint --strict "${yaml[@]}"; fi
check protoc protoc --fatal_warnings -Iproto --descriptor_set_out=/dev/null "${protos[@]}"
check ruff .venv/bin/ruff check --quiet
check "ruff format" .venv/bin/ruff format --check --quiet
check mypy .venv/bin/mypy --config-file client/python/pyproject.toml
if [ -e Dockerfile ]; then check hadolint .venv/bin/hadolint Dockerfile; fi
for rules in deploy/*/prometheus.yml; do
  if [ -e "$rules" ]; then check "promtool $rules" promtool check config "$rules"; fi
done
check "build for clang-tidy" scripts/build.sh dev > /dev/null
check clang-tidy scripts/tidy.sh
exit "$status"
