#!/usr/bin/env bash
# Installs the client libraries that tests/stock_clients.rs uses, unmodified, into target/stock_clients.
# Needs python3 with venv, and npm. Does nothing where the same versions are there already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$here/../../target/stock_clients
python_packages="redis==8.1.0 coredis==6.9.0"
npm_packages="ioredis@6.0.0 redis@6.3.1"
wanted="$python_packages $npm_packages"

if [ "$(cat "$target/installed" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
rm -rf "$target"
mkdir -p "$target/npm"
python3 -m venv "$target/venv"
# shellcheck disable=SC2086
"$target/venv/bin/pip" install --quiet --disable-pip-version-check $python_packages
# shellcheck disable=SC2086
npm install --prefix "$target/npm" --no-fund --no-audit --loglevel=error $npm_packages
echo "$wanted" >"$target/installed"
