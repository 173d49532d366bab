#!/usr/bin/env bash
# Installs the client libraries that tests/stock_clients.rs uses, and redis-py's own tests with what they
# need (tests/redis_py_suite.rs), all unmodified, into target/stock_clients.
# Needs python3 with venv, and npm. Does nothing where the same versions are there already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$here/../../target/stock_clients
redis_py="redis==8.1.0"
python_packages="$redis_py coredis==6.9.0 pytest==9.2.0 pytest-asyncio==1.5.0 pytest-timeout==2.4.0"
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
# The tests are in the source archive only.
"$target/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary redis \
    --dest "$target/source" "$redis_py"
mkdir "$target/redis-py"
tar -xzf "$target"/source/redis-*.tar.gz -C "$target/redis-py" --strip-components 1
# shellcheck disable=SC2086
npm install --prefix "$target/npm" --no-fund --no-audit --loglevel=error $npm_packages
echo "$wanted" >"$target/installed"
