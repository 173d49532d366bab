#!/usr/bin/env bash
# What a snapshot of KEYS keys (5,000,000) costs a node under full write load, and how long a restart
# from a snapshot and RECORDS records of log (1,000,000) takes; redis-server with AOF and RDB beside it,
# in the same run. Needs redis-server, redis-cli, redis-benchmark, python3, curl.
#
#   cargo build --release && benches/snapshots.sh target/release/understudy
set -euo pipefail
binary=$(realpath "$1")
keys=${KEYS:-5000000}
records=${RECORDS:-1000000}
requests=${REQUESTS:-4000000}
dir=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap cleanup EXIT

ours=21101 http=21103 theirs=21111

say() { printf '\n== %s\n' "$*"; }

# SET of each key once, values of 84 bytes: with its key a hundred.
feed() { # from, count
    python3 - "$1" "$2" <<'PY'
import sys
first, count = int(sys.argv[1]), int(sys.argv[2])
out = sys.stdout.buffer
for at in range(first, first + count, 10000):
    lines = []
    for n in range(at, min(at + 10000, first + count)):
        value = (b"%020d" % (n * 2654435761 % 10**20)) * 4 + b"tail"
        lines.append(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$84\r\n%s\r\n" % (n, value))
    out.write(b"".join(lines))
PY
}

until_answers() { # port
    until [ "$(redis-cli -p "$1" GET key:000000000007 2>/dev/null | wc -c)" -gt 80 ]; do sleep 0.01; done
}

now_ms() { date +%s%3N; }

start_ours() { # retain
    printf '[wal]\nretain = "%s"\n[limits]\nsnapshot_rate = "%s"\n' "$1" "${SNAPSHOT_RATE:-100 MiB}" >"$dir/ours.toml"
    UNDERSTUDY_LOG=warn "$binary" serve --config "$dir/ours.toml" --data-dir "$dir/ours" \
        --client-addr 127.0.0.1:$ours --peer-addr 127.0.0.1:21102 --http-addr 127.0.0.1:$http \
        2>>"$dir/ours.log" &
    own=$!
    pids+=("$own")
}

start_theirs() {
    redis-server --port $theirs --dir "$dir/theirs" --save "" --appendonly yes --appendfsync always \
        --auto-aof-rewrite-percentage 0 --daemonize no >>"$dir/theirs.log" 2>&1 &
    other=$!
    pids+=("$other")
}

load() { # port
    redis-benchmark -p "$1" -t set -r "$keys" -n "$requests" -c 50 -P 16 -d 84 --csv | tail -1 |
        awk -F'"' '{printf "%s requests/s, p50 %s ms, p99 %s ms, longest %s ms\n", $4, $10, $14, $16}'
}

metric() { curl -s http://127.0.0.1:$http/metrics | awk -v name="understudy_$1" '$1 == name {print $2}'; }

mkdir -p "$dir/theirs"
say "filling both with $keys keys"
start_ours "100 GiB"
start_theirs
until redis-cli -p $ours PING >/dev/null 2>&1 && redis-cli -p $theirs PING >/dev/null 2>&1; do sleep 0.05; done
feed 0 "$keys" | redis-cli -p $ours --pipe | tail -1
feed 0 "$keys" | redis-cli -p $theirs --pipe | tail -1

say "full write load, without a snapshot"
echo "understudy: $(load $ours)"
echo "redis:      $(load $theirs)"

say "full write load, snapshots one after the other"
kill -9 $own
wait $own 2>/dev/null || true
start_ours "64 MiB"
until_answers $ours
before=$(metric snapshots_total)
echo "understudy: $(load $ours)"
echo "            $(($(metric snapshots_total) - before)) snapshots; the keyspace was held for at most $(metric snapshot_hold_longest_microseconds) us"
( while true; do redis-cli -p $theirs BGSAVE >/dev/null; sleep 0.2; done ) &
saver=$!
pids+=("$saver")
saves=$(redis-cli -p $theirs INFO persistence | grep -c rdb_saves || true)
before=$(redis-cli -p $theirs INFO persistence | tr -d '\r' | awk -F: '/^rdb_saves/ {print $2}')
echo "redis:      $(load $theirs)"
after=$(redis-cli -p $theirs INFO persistence | tr -d '\r' | awk -F: '/^rdb_saves/ {print $2}')
fork=$(redis-cli -p $theirs INFO stats | tr -d '\r' | awk -F: '/^latest_fork_usec/ {print $2}')
echo "            $((${after:-0} - ${before:-0})) snapshots (BGSAVE); the last fork stopped it for $fork us"
kill $saver

say "restart from a snapshot and $records records of log, kill -9"
kill -9 $own
wait $own 2>/dev/null || true
start_ours "100 GiB"
until_answers $ours
feed 0 "$records" | redis-cli -p $ours --pipe | tail -1
until redis-cli -p $theirs BGREWRITEAOF | grep -q started; do sleep 1; done
while redis-cli -p $theirs INFO persistence | grep -q aof_rewrite_in_progress:1; do sleep 0.2; done
feed 0 "$records" | redis-cli -p $theirs --pipe | tail -1
kill -9 $own $other
wait $own $other 2>/dev/null || true
ls -la "$dir/ours/snapshot" | awk '{print $5, $9}' | tail -2
for round in 1 2 3; do
    began=$(now_ms)
    start_ours "100 GiB"
    until_answers $ours
    echo "understudy: $(($(now_ms) - began)) ms"
    kill -9 $own
    wait $own 2>/dev/null || true
    began=$(now_ms)
    start_theirs
    until_answers $theirs
    echo "redis:      $(($(now_ms) - began)) ms"
    kill -9 $other
    wait $other 2>/dev/null || true
done
