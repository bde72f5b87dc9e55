# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC1091,SC2154
#
# dma.sh - in both guests: selftest measures a copy engine, then the broker drives it, and LONG messages go by it
#
# Guest b sends to guest a, which checks every byte; the model of the bridge counts what its engine has copied, and suite.py
# looks at that, and makes the engine halt in the middle of the second stream.
. "$RIG_DIR/guest/lib.sh"
plan 8
ctl=$RIG_BUILD/ntbsock-ctl
ntb_port
engine=$(pci_find 8086:0b00)

bind() {
	modprobe vfio_iommu_type1 && modprobe vfio-pci && $ctl bind "$port" && $ctl bind "$engine"
}

# The measure by which --dma ..,min= is chosen; what both ways have carried is checked at the other end.
selftest() {
	timeout 150 $ctl selftest --no-link-pull --json --wait 60 --dma "$engine" "$port" >/run/tmp/report.json
	status=$?
	cat /run/tmp/report.json
	[ "$status" = 0 ] && python3 - <<-'END'
		import json, os
		r = json.load(open("/run/tmp/report.json"))
		assert r["passed"] and r["wrong_bytes"] == 0, r["why"]
		assert r["vfio"] == os.environ.get("RIG_VFIO", "group"), r["vfio"]
		sizes = [c["bytes"] for c in r["copies"]]
		assert sizes == [1024 << i for i in range(12)], sizes
		assert all(c["cpu_ns"] > 0 and c["engine_ns"] > 0 for c in r["copies"]) and r["engine_from_bytes"] in [0, *sizes]
		for c in r["copies"]:
		    print(f"{c['bytes']} bytes: CPU {c['cpu_ns'] / 1000:.0f} us, engine {c['engine_ns'] / 1000:.0f} us")
	END
}

as_host

broker() {
	"$RIG_BUILD/ntbsockd" --node $node --port "$port,silence=5000" --dma "$engine,min=16K" --log-level info 2>>/run/tmp/broker.log &
	broker=$!
	wait_for 20 $ctl status >/dev/null && its_way $broker
}

comes_up() {
	wait_for 40 is_up
	status=$?
	cat /run/tmp/broker.log
	[ "$status" = 0 ] && grep -q "copy engine $engine (I/OAT) carries" /run/tmp/broker.log
}

# stream NAME LEAST: random bytes of a seed that both know, after small messages have moved the connection to the ring; at
# least so many bytes of it by the engine.
stream() {
	cat >/run/tmp/stream.py <<-'END'
		import random, socket, sys, time
		name, me, peer = sys.argv[1:]
		sizes = [100000, 5, 300000, 20000, 64 * 1024, 200, 500000] * 2
		def exact(n):
		    got = b""
		    while len(got) < n:
		        d = c.recv(n - len(got))
		        if not d:
		            raise EOFError
		        got += d
		    return got
		if me == "a":
		    s = socket.create_server(("", 7000))
		    open(f"/out/{name}.listens", "w").close()
		    c = s.accept()[0]
		else:
		    import os
		    while not os.path.exists(f"/out/{name}.listens"):
		        time.sleep(0.1)
		    c = socket.create_connection((peer, 7000))
		for _ in range(2):
		    for _ in range(100):
		        if me == "a":
		            c.sendall(exact(1))
		        else:
		            c.sendall(b"x")
		            exact(1)
		    time.sleep(1)
		began = time.monotonic()
		for i, n in enumerate(sizes):
		    if me == "b":
		        c.sendall(random.Random(i).randbytes(n))
		    elif exact(n) != random.Random(i).randbytes(n):
		        sys.exit(f"wrong bytes in message {i}")
		if me == "a":
		    c.sendall(b"k")
		else:
		    exact(1)
		print(f"{sum(sizes)} bytes in {time.monotonic() - began:.1f} s")
		c.close()
	END
	rm -f /run/tmp/stats.*
	NTBSOCK_STATS=/run/tmp/stats.%p timeout 150 $ctl run --quiet -- python3 /run/tmp/stream.py "$1" "$RIG_ME" "$RIG_PEER" || return 1
	[ "$RIG_ME" = a ] || python3 - "$2" <<-'END'
		import glob, json, sys
		stats = [json.load(open(p)) for p in glob.glob("/run/tmp/stats.*")]
		window = [s["window"] for s in stats if "window" in s]
		print(window, sum(s["tcp"]["tx_bytes"] for s in stats), "bytes on TCP")
		sys.exit(sum(w["engine_bytes"] for w in window) < int(sys.argv[1]) or sum(s["tcp"]["tx_bytes"] for s in stats) > 1000)
	END
}

# The engine halts in it; nothing is lost.
halted() {
	stream halted 16384 || return 1
	cat /run/tmp/broker.log
	[ "$RIG_ME" = a ] || grep -q 'its channel has halted with CHANERR' /run/tmp/broker.log
}

ends() {
	kill $broker
	wait $broker && $ctl unbind "$engine" && $ctl unbind "$port"
}

check "bind takes port and engine" bind || finish
together bound
check "selftest measures the engine beside the CPU" selftest
together measured 150
echo "MEASURED"
wait_for 20 [ -e /out/after.MEASURED ]
check "the broker drives both" broker || { cat /run/tmp/broker.log; finish; }
check "the link comes up" comes_up || finish
together up
check "LONG messages by the engine" stream whole 1000000 || cat /run/tmp/broker.log
together whole 150
echo "STREAMED"
wait_for 20 [ -e /out/after.STREAMED ]
check "an engine that halts in the middle" halted
together halted 150
check "the broker ends" ends
check "the kernel has nothing to complain of" kernel_is_fine
together end
finish
