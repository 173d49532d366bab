#!/usr/bin/env bash
# redis-py's own tests against a server that runs: HOST:PORT, 2 or 3 (of RESP), commands or others (which
# half of them), and more for pytest, such as "-k test_append". Starts nothing. With NO_LIST=1 no list excludes any, as
# redis-server itself is measured.
set -euo pipefail
addr=$1
protocol=$2
half=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
target=$(cd "$here/../../target/stock_clients" && pwd)

# The files whose tests ask a server; the others try the library alone, modules, or a cluster. Two halves, since
# each needs a node of its own and most of the time is waiting.
names=commands
[ "$half" = others ] && names="pubsub pipeline connection connection_pool encoding multiprocessing lock monitor
    keyspace_notifications command_parser scripting max_connections_error"
files=
for name in $names; do
    files="$files tests/test_$name.py"
done
list="-p redis_py_plugin"
[ "${NO_LIST:-}" = 1 ] && list=

cd "$target/redis-py"
export PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1
# Its own pyproject.toml gives each test 30 seconds. No modules are looked for on another port. Native
# tracebacks: pytest's own read thousands of lines of source for each of them, a second every time.
# shellcheck disable=SC2086
exec "$target/venv/bin/python" -m pytest $files $list -p no:cacheprovider \
    --redis-url "redis://$addr/0" --redis-mod-url "redis://$addr/0" --protocol "$protocol" \
    -m "not redismod and not onlycluster and not ssl" \
    -q --tb=native -W ignore -W "ignore::pytest.PytestConfigWarning" -rfE "$@"
