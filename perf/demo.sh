#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# demo.sh BUILD - an unmodified program pair over ntbsock, then latency and throughput beside TCP and AF_UNIX
#
# The pair is redis-server and redis-benchmark, else Python's web server and curl.  Both run under
# `ntbsock-ctl run`; what they write at their exit says how many of their bytes went over the ring.  Takes less
# than a minute.  Exit status: 0 only if the pair worked and at least 99 % of its bytes went over the ring.
set -eu
build=${1:-build}
build=$(cd "$build" && pwd)
PATH=$PATH:/usr/sbin:/usr/local/sbin

for f in ntbsock-ctl ntbsockd libntbsock.so pingpong; do
	if [ ! -e "$build/$f" ]; then
		echo "demo: $build/$f is missing; run make first" >&2
		exit 1
	fi
done

tmp=$(mktemp -d /tmp/ntbs-demo-XXXXXX)
server=
cleanup() {
	trap - EXIT INT TERM
	if [ -n "$server" ]; then
		kill "$server" 2>/dev/null || :
		wait "$server" 2>/dev/null || :
	fi
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

NTBSOCK_RUN_DIR=$tmp/run
export NTBSOCK_RUN_DIR
unset NTBSOCK_STATS LD_PRELOAD || :
run="$build/ntbsock-ctl run --quiet --"

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Until the server on port $1 answers, or has ended, or 10 s are over.
wait_listen() {
	python3 - "$1" "$server" <<'EOT'
import os, socket, sys, time
port, pid, until = int(sys.argv[1]), int(sys.argv[2]), time.monotonic() + 10
while True:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        break
    except OSError as e:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            sys.exit("demo: the server has ended")
        if time.monotonic() > until:
            sys.exit("demo: the server does not answer on port %d: %s" % (port, e))
        time.sleep(0.02)
EOT
}

stop_server() {
	kill "$server" 2>/dev/null || :
	wait "$server" 2>/dev/null || :
	server=
}

# One measurement of the pair.  $1: prefix (empty: plain TCP)
redis_pair() {
	port=$(free_port)
	$1 redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$tmp" >"$tmp/server.log" 2>&1 &
	server=$!
	wait_listen "$port" || { tail -3 "$tmp/server.log" >&2; return 1; }
	$1 redis-benchmark -p "$port" -t set,get -c 8 -n 100000 -d 64 --csv >"$tmp/out" || return 1
	stop_server
	sed -n 's/^"\(SET\|GET\)","\([0-9.]*\)".*/\1 \2/p' "$tmp/out"
}

http_pair() {
	mkdir -p "$tmp/www"
	[ -e "$tmp/www/file" ] || head -c 200000000 /dev/urandom >"$tmp/www/file"
	port=$(free_port)
	$1 python3 -m http.server --bind 127.0.0.1 --directory "$tmp/www" "$port" >"$tmp/server.log" 2>&1 &
	server=$!
	wait_listen "$port" || { tail -3 "$tmp/server.log" >&2; return 1; }
	$1 curl -sS -o "$tmp/got" -w 'download %{speed_download}\n' "http://127.0.0.1:$port/file" || return 1
	# http.server ends by KeyboardInterrupt, and only then runs what is to be run at exit
	kill -INT "$server"
	stop_server
	cmp "$tmp/www/file" "$tmp/got" || { echo "demo: the file arrived with other bytes" >&2; return 1; }
}

if command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null; then
	pair=redis_pair
	echo "== redis-server and redis-benchmark (8 clients, 64-byte values), unmodified"
elif command -v curl >/dev/null; then
	pair=http_pair
	echo "== python3 -m http.server and curl (200 MB), unmodified"
else
	echo "demo: neither redis-server and redis-benchmark nor curl is installed; install redis or curl" >&2
	exit 1
fi

$pair "" >"$tmp/tcp.txt"
mkdir "$tmp/stats"
NTBSOCK_STATS=$tmp/stats/%p.json
export NTBSOCK_STATS
$pair "$run" >"$tmp/ntb.txt"
unset NTBSOCK_STATS

python3 - "$tmp" <<'EOF_PY'
import glob, json, sys
tmp = sys.argv[1]
def figures(name):
    with open(tmp + "/" + name) as f:
        return dict((w[0], float(w[1])) for w in map(str.split, f) if len(w) == 2)
tcp, ntb = figures("tcp.txt"), figures("ntb.txt")
if not tcp or set(tcp) != set(ntb):
    sys.exit("demo: the pair printed no figures")
for k in tcp:
    scale, unit = (1e6, "MB/s") if k == "download" else (1, "a second")
    print("   %-9s over TCP %10.0f %s, over ntbsock %10.0f %s" % (k, tcp[k] / scale, unit, ntb[k] / scale, unit))
ring = sent = accelerated = 0
fallback = {}
for name in glob.glob(tmp + "/stats/*.json"):
    with open(name) as f:
        s = json.load(f)
    ring += s["tx"]["bytes"] + s["rx"]["bytes"]
    sent += s["tcp"]["bytes"]
    accelerated += s["connections"]["accelerated"]
    for k, v in s["connections"]["fallback"]["reasons"].items():
        fallback[k] = fallback.get(k, 0) + v
if not ring + sent:
    sys.exit("demo: the programs have left no counters (NTBSOCK_STATS)")
share = 100 * ring / (ring + sent)
print("   %.2f %% of its bytes went over the ring: %d of %d; ends of connections accelerated: %d%s" % (
    share, ring, ring + sent, accelerated,
    ", on TCP: " + ", ".join("%d %s" % (v, k) for k, v in sorted(fallback.items())) if fallback else ""))
if share < 99:
    sys.exit("demo: less than 99 % went over the ring; the reasons are above and in `ntbsock-ctl connections`")
EOF_PY

echo
echo "== pingpong: blocking sockets, two CPUs, one way (median), content verified"
for t in TCP AF_UNIX ntbsock; do
	case $t in
	TCP) set -- ;;
	AF_UNIX) set -- -u "$tmp/pp.sock" ;;
	ntbsock) set -- ;;
	esac
	prefix=
	[ $t = ntbsock ] && prefix=$run
	$prefix "$build/pingpong" both "$@" --json --sizes 1,64K --seconds 1 >"$tmp/$t.lat"
	$prefix "$build/pingpong" both "$@" --json --stream --sizes 64,64K --seconds 1 >"$tmp/$t.stream"
done
python3 - "$tmp" <<'EOF_PY'
import json, sys
print("   %-8s %14s %14s %18s %18s" % ("", "1 byte", "64 KiB", "64-byte writes", "64 KiB writes"))
for t in ("TCP", "AF_UNIX", "ntbsock"):
    with open("%s/%s.lat" % (sys.argv[1], t)) as f:
        lat = [x["oneway_ns"]["median"] / 1000 for x in json.load(f)["results"]]
    with open("%s/%s.stream" % (sys.argv[1], t)) as f:
        rate = [x["bytes_per_second"] / 1e6 for x in json.load(f)["results"]]
    print("   %-8s %11.2f us %11.2f us %13.0f MB/s %13.0f MB/s" % (t, *lat, *rate))
EOF_PY
