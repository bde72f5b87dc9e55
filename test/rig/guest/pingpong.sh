# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC1091,SC2154
#
# pingpong.sh - in both guests: a broker drives the port, and pingpong between the guests goes through the window
#
# First guest a serves, then guest b; they find each other by the guests' own network.  The counters of who asks must show
# the bytes in the window; b's broker is killed and comes back in between.  The first brokers leave doorbells to the
# processes, that one rings itself.
. "$RIG_DIR/guest/lib.sh"
plan 8
ctl=$RIG_BUILD/ntbsock-ctl
cp "$RIG_BUILD/pingpong" /run/tmp/

if [ "$RIG_BRIDGE" = ivshmem ]; then
	port=$(pci_find 1af4:1110)
else
	ntb_port
fi

# With RIG_LOCKDOWN the kernel maps no BAR by sysfs any more: processes get the window by VFIO's file.
bind() {
	modprobe vfio_iommu_type1 && modprobe vfio-pci && $ctl bind "$port" || return 1
	[ -n "${RIG_LOCKDOWN:-}" ] || return 0
	mount -t securityfs none /sys/kernel/security && echo integrity >/sys/kernel/security/lockdown
}

# With RIG_NODE the function lies on that NUMA node: what ports says, where the broker may run, where its arena lies.
# A page that nobody has touched yet lies nowhere.
on_node() {
	[ -n "${RIG_NODE:-}" ] || return 0
	$ctl ports | grep -q ", node $RIG_NODE\$" && grep "runs on its NUMA node, $RIG_NODE\$" /run/tmp/broker.log &&
		grep "^Cpus_allowed_list:[[:space:]]$RIG_NODE\$" "/proc/$broker/status" || return 1
	grep 'ntbsock\\040arena' "/proc/$broker/numa_maps"
	grep 'ntbsock\\040arena' "/proc/$broker/numa_maps" | grep -q " N$RIG_NODE=" &&
		! grep 'ntbsock\\040arena' "/proc/$broker/numa_maps" | grep -q " N$((1 - RIG_NODE))="
}

as_host

# Guests stand still for long on a busy host: silence= says how long is not for ever.  broker [OPTION of the port]
broker() {
	"$RIG_BUILD/ntbsockd" --node $node --port "$port,silence=5000${1:+,$1}" --log-level info 2>>/run/tmp/broker.log &
	broker=$!
	wait_for 20 $ctl status >/dev/null || return 1
	on_node || return 1
	[ -z "${RIG_LOCKDOWN:-}" ] || grep "get VFIO's file" /run/tmp/broker.log || return 1
	its_way $broker
}

comes_up() {
	wait_for 40 is_up
	status=$?
	cat /run/tmp/broker.log
	$ctl status
	return $status
}

# ball SERVER TEST...: pingpong asks the guest SERVER, and compares bytes and messages itself.  The counters of who asks
# say how both directions went; the server is ended by a signal and writes none.
ball() {
	by=$1
	shift
	if [ "$RIG_ME" = "$by" ]; then
		$ctl run --quiet -- /run/tmp/pingpong server &
		server=$!
		wait_for 10 grep -q ":$(printf %04X 5470) " /proc/net/tcp || return 1
		together "listens.$by" && together "asked.$by" 150
		status=$?
		kill $server
		wait $server
		return $status
	fi
	together "listens.$by" || return 1
	rm -f /run/tmp/stats.*
	NTBSOCK_STATS=/run/tmp/stats.%p timeout 100 $ctl run --quiet -- /run/tmp/pingpong client "$RIG_PEER" "$@"
	status=$?
	together "asked.$by"
	[ "$status" = 0 ] && window || { cat /run/tmp/broker.log; $ctl status; return 1; }
}

# A connection begins on TCP, and its first bytes go there.
window() {
	python3 - <<-'END'
		import glob, json, sys
		stats = [json.load(open(p)) for p in glob.glob("/run/tmp/stats.*")]
		sent, got = (sum(s[way]["bytes"] for s in stats) for way in ("tx", "rx"))
		tcp = sum(s["tcp"]["bytes"] for s in stats)
		window = [s["window"] for s in stats if "window" in s]
		print(f"{sent} bytes sent and {got} received through the window, {tcp} by TCP; {window}")
		sys.exit(not window or sent < 20000 or got < 20000 or tcp > (sent + got) / 20)
	END
}

sessions() {
	$ctl status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["broker"]["port"]["sessions"])'
}

another() {
	[ "$(sessions)" -gt "$before" ]
}

# What is gone with a broker comes back with the next one.
killed() {
	if [ "$RIG_ME" = b ]; then
		kill -9 $broker
		wait $broker
		together dead || return 1
		broker bell=broker && comes_up && grep -q 'the broker rings' /run/tmp/broker.log
	else
		before=$(sessions)
		together dead && wait_for 20 another && comes_up
	fi
}

# The kernel asks for the function by force: the broker lets go of it, and takes it again when it is there again.
wanted() {
	if [ "$RIG_ME" = b ]; then
		together noted && timeout 30 $ctl unbind --force "$port" && grep 'wants it back' /run/tmp/broker.log || return 1
		$ctl status --json | grep -q '"up": *false' || return 1
		$ctl bind "$port" && together wanted && comes_up
	else
		before=$(sessions)
		together noted && together wanted && wait_for 40 another && comes_up
	fi
}

ends() {
	kill $broker
	wait $broker && cat /run/tmp/broker.log && $ctl unbind "$port"
}

check "bind takes the port" bind || finish
together bound
check "the broker drives the port" broker || { cat /run/tmp/broker.log; finish; }
check "the link comes up" comes_up || finish
together up
check "messages through the window" ball a --latency --sizes 1,54,100 --count 200
check "a broker is killed, and the next one has the port" killed
together again
check "short and long messages through the window, the other way round" ball b --latency --sizes 100,4K,64K --count 50
check "the kernel wants the port back, and the broker finds it again" wanted
together found
check "the broker ends" ends
dmesg | grep -iE 'vfio|DMAR|BUG|WARN' | tail -n 20
finish
