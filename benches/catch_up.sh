#!/usr/bin/env bash
# How fast a standby that was away catches up with RECORDS records (5,000,000) from the log, and what the
# primary's clients notice of it: their p99 at rest, and while it goes on. Two data nodes and a witness,
# semi-sync. Needs redis-cli, redis-benchmark, python3, curl.
#
#   cargo build --release && benches/catch_up.sh target/release/understudy
set -euo pipefail
binary=$(realpath "$1")
records=${RECORDS:-5000000}
dir=$(mktemp -d)
declare -A pid
cleanup() {
    for node in 1 2 3; do kill -9 "${pid[$node]:-}" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap cleanup EXIT

client() { echo $((21300 + $1)); }
peer() { echo $((21310 + $1)); }
http() { echo $((21320 + $1)); }

config() { # node
    cat <<TOML
id = $1
data_dir = "$dir/$1"
client_addr = "127.0.0.1:$(client "$1")"
peer_addr = "127.0.0.1:$(peer "$1")"
http_addr = "127.0.0.1:$(http "$1")"
[wal]
retain = "100 GiB"
standby_retain = "100 GiB"
[cluster]
mode = "semi-sync"
TOML
    for node in 1 2 3; do
        printf '[[cluster.member]]\nid = %s\npeer_addr = "127.0.0.1:%s"\nclient_addr = "127.0.0.1:%s"\nhttp_addr = "127.0.0.1:%s"\n' \
            $node "$(peer $node)" "$(client $node)" "$(http $node)"
        [ $node = 3 ] && echo 'role = "witness"'
    done
}

start() { # node
    config "$1" >"$dir/$1.toml"
    UNDERSTUDY_LOG=warn "$binary" serve --config "$dir/$1.toml" 2>>"$dir/$1.log" &
    pid[$1]=$!
}

metric() { # node, name
    curl -s "http://127.0.0.1:$(http "$1")/metrics" | awk -v name="understudy_$2" '$1 == name {print $2}'
}

feed() { # count
    python3 - "$1" <<'PY'
import sys
out = sys.stdout.buffer
for at in range(0, int(sys.argv[1]), 10000):
    lines = []
    for n in range(at, min(at + 10000, int(sys.argv[1]))):
        value = (b"%020d" % (n * 2654435761 % 10**20)) * 4 + b"tail"
        lines.append(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$84\r\n%s\r\n" % (n % 1000000, value))
    out.write(b"".join(lines))
PY
}

load() { # label: paced clients, so that the machine is not what is measured
    redis-benchmark -p "$(client "$primary")" -t set -r 1000000 -n "${REQUESTS:-60000}" -c 4 -d 84 --csv | tail -1 |
        awk -F'"' -v label="$1" '{printf "%s: %s requests/s, p50 %s ms, p99 %s ms, longest %s ms\n", label, $4, $10, $14, $16}'
}

for node in 1 2 3; do start $node; done
primary=
until [ -n "$primary" ]; do
    for node in 1 2; do
        curl -sf "http://127.0.0.1:$(http $node)/primary" >/dev/null 2>&1 && primary=$node
    done
    sleep 0.1
done
standby=$((3 - primary))
until [ "$(metric $primary standbys)" = 1 ]; do sleep 0.1; done
kill -9 "${pid[$standby]}"
feed "$records" | redis-cli -p "$(client $primary)" --pipe | tail -1
load "alone"
first=$(metric $primary appended_lsn)
mkdir -p "$dir/$standby"
begin=$(date +%s%3N)
before=$(du -sb "$dir/$standby/wal" | cut -f1)
start "$standby"
load "while the standby catches up" &
bench=$!
until [ "$(metric "$standby" applied_lsn 2>/dev/null || echo 0)" -ge "$first" ] 2>/dev/null; do sleep 0.05; done
took=$(($(date +%s%3N) - begin))
bytes=$(metric "$standby" stream_received_bytes_total)
echo "caught up with $records records: $took ms, $((records * 1000 / took)) records/s, $((bytes / took / 1000)) MB/s, applied"
wait $bench
load "with the standby there"
