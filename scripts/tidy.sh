#!/usr/bin/env bash
# Runs clang-tidy over the project's sources, as build/dev compiles them. A file that passed is not
# looked at again until it, a header or the configuration changes.
set -euo pipefail
cd "$(dirname "$0")/.."

passed=build/tidy
mkdir -p "$passed"
headers=$(git ls-files -co --exclude-standard '*.h' .clang-tidy | sort | xargs sha256sum)
todo=()
while read -r file; do
  grep -qF "/$file\"" build/dev/compile_commands.json || continue
  key=$({ echo "$headers"; sha256sum "$file"; } | sha256sum | cut -c1-32)
  [ -e "$passed/$key" ] || todo+=("$file $key")
done < <(git ls-files -co --exclude-standard 'client/*.cc' 'kernels/*.cc' 'layout/*.cc' \
  'proto/*.cc' 'server/*.cc')
if ((${#todo[@]} == 0)); then exit 0; fi

# The database names GCC's options; clang need not know all of them, and cannot read its
# precompiled headers.
sed -E 's/-Winvalid-pch +-include +[^ ]*cmake_pch\.hxx//' build/dev/compile_commands.json \
  > "$passed/compile_commands.json"
# shellcheck disable=SC2016
printf '%s\n' "${todo[@]}" | xargs -P "${JOBS:-2}" -L 1 bash -c '
  clang-tidy-14 -p build/tidy --quiet --extra-arg=-Wno-unknown-warning-option \
    --extra-arg=-Wno-ignored-optimization-argument "$1" 2> /dev/null && touch "'"$passed"'/$2"
' tidy
