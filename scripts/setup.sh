#!/usr/bin/env bash
# Installs what building and testing need and is missing: Debian packages (as root or through sudo),
# and Python packages into .venv. Quick when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t wanted < <(grep -v '^#' scripts/packages.txt)
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
mapfile -t missing < <(grep -Fxv -f <(echo "$installed") < <(printf '%s\n' "${wanted[@]}") || true)
if ((${#missing[@]})); then
  echo "setup: installing ${missing[*]}"
  sudo=()
  if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

stamp=.venv/requirements.sha256
if ! sha256sum --status -c "$stamp" 2>/dev/null; then
  [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check -r scripts/requirements.txt
  sha256sum scripts/requirements.txt > "$stamp"
fi
