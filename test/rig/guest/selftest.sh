# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC1091,SC2154
#
# selftest.sh - in both guests: ntbsock-ctl finds the port, takes it from Linux' driver, the selftests of both guests
# meet twice over VFIO, and the driver gets the port back
#
# RIG_VFIO says which way VFIO must have gone: iommufd, or by its group (the kernel of Debian 12 knows nothing else).
. "$RIG_DIR/guest/lib.sh"
plan 12
by=${RIG_VFIO:-group}
ctl=/run/tmp/ntbsock-ctl
cp "$RIG_BUILD/ntbsock-ctl" $ctl

if [ "$RIG_BRIDGE" = ivshmem ]; then
	port=$(pci_find 1af4:1110) driver=none
else
	ntb_port
fi

has_driver() {
	if [ "$1" = none ]; then
		[ ! -e "/sys/bus/pci/devices/$port/driver" ]
	else
		[ "$(basename "$(readlink "/sys/bus/pci/devices/$port/driver")")" = "$1" ]
	fi
}

# Linux' driver has it, and vfio-pci is there to take it.
prepare() {
	[ "$driver" = none ] || modprobe "$driver" || return 1
	modprobe vfio_iommu_type1 && modprobe vfio-pci && has_driver "$driver"
}

ports_say() {
	$ctl ports && $ctl ports | grep -q "$1"
}

bind() {
	$ctl bind "$port" && has_driver vfio-pci && $ctl bind "$port"
}

refuses_other() {
	other=
	for dev in /sys/bus/pci/devices/*; do
		if [ "$(basename "$(readlink "$dev/driver")")" = virtio-pci ]; then other=$(basename "$dev"); fi
	done
	[ -n "$other" ] && ! $ctl bind "$other" && ! $ctl unbind "$other"
}

# While it runs nobody else gets the port, and both who asks for it and unbind are told who has it.
selftest() {
	$ctl selftest --wait 40 "$port" >/run/tmp/report &
	pid=$!
	wait_for 10 sh -c "ls -l /proc/$pid/fd | grep -q /dev/vfio/" || return 1
	said=$($ctl unbind "$port" 2>&1)
	refused=$?
	second=$($ctl selftest --wait 1 "$port" 2>&1)
	refused=$refused$?
	wait "$pid"
	status=$?
	cat /run/tmp/report
	printf '%s\n' "$said" "$second"
	[ "$refused" = 11 ] && has_driver vfio-pci && grep -q "VFIO by $by\$" /run/tmp/report || return 1
	for text in "$said" "$second"; do
		case $text in *"in use by process $pid (ntbsock-ctl)"*) ;; *) return 1 ;; esac
	done
	return "$status"
}

# By its group's file others may have it, also where iommufd is.
by_group() {
	file=/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$port/iommu_group")")
	sleep 60 <>"$file" &
	pid=$!
	wait_for 10 sh -c "ls -l /proc/$pid/fd | grep -q $file" || return 1
	said=$($ctl unbind "$port" 2>&1; $ctl selftest --wait 1 "$port" 2>&1)
	kill $pid
	wait $pid
	echo "$said"
	[ "$(echo "$said" | grep -c "in use by process $pid (sleep)")" = 2 ] && has_driver vfio-pci
}

# Once more: what the first one left in registers and memory is no news.
again() {
	timeout 100 $ctl selftest --json --wait 40 "$port" >/run/tmp/report.json
	status=$?
	cat /run/tmp/report.json
	[ "$status" = 0 ] && python3 - <<-END
		import json
		r = json.load(open("/run/tmp/report.json"))
		assert r["passed"] and not r["why"], r["why"]
		assert r["vfio"] == "$by", r["vfio"]
		assert r["rounds"] == 200 and r["wrong_bytes"] == 0
		assert bin(r["bells_right"]).count("1") == r["doorbells"] > 1 and r["bells_wrong"] == 0
		assert r["order_rounds"] == 50 and r["bells_before_data"] == 0
		assert r["pull_up_ms"] >= 0 and r["pull_new_session"]
		assert r["memory_verified"] and "write-combined" in r["memory"], r["memory"]
		assert r["stream_mb_s"] > 0 and r["one_way_ns"] > 0
	END
}

# One is killed in the middle: the other ends by itself, with a reason, and then both meet as if nothing had been.
killed() {
	if [ "$RIG_ME" = a ]; then
		$ctl selftest --wait 40 "$port" >/dev/null 2>&1 &
		pid=$!
		wait_for 10 sh -c "ls -l /proc/$pid/fd | grep -q /dev/vfio/" || return 1
		sleep 0.7
		kill -9 "$pid"
		wait "$pid"
	else
		timeout 60 $ctl selftest --wait 5 "$port" >/run/tmp/survived 2>&1
		status=$?
		cat /run/tmp/survived
		[ "$status" = 1 ] && grep FAILED /run/tmp/survived || return 1
	fi
	together killed && again
}

# By force the kernel asks whoever has it to let go, and waits: the selftest, which waits for nobody, does.
request() {
	[ "$RIG_ME" = a ] || { together requested; return; }
	$ctl bind "$port" || return 1
	timeout 60 $ctl selftest --wait 50 "$port" >/run/tmp/request &
	pid=$!
	wait_for 10 sh -c "ls -l /proc/$pid/fd /proc/[0-9]*/fd 2>/dev/null | grep -q /dev/vfio/" || return 1
	sleep 1
	timeout 30 $ctl unbind --force "$port" && has_driver "$driver" || return 1
	wait "$pid"
	status=$?
	cat /run/tmp/request
	[ "$status" = 1 ] && grep -q 'wants it back' /run/tmp/request && together requested
}

unbind() {
	$ctl unbind "$port" && has_driver "$driver"
}

check "$driver has the port at $port" prepare || finish
case $driver in
none) check "ntbsock-ctl ports says what is missing" ports_say 'bound to no driver: run' ;;
*) check "ntbsock-ctl ports says what is missing" ports_say "bound to $driver: run ntbsock-ctl bind $port" ;;
esac
check "bind and unbind leave alone what is no bridge" refuses_other
check "bind takes the port" bind || finish
check "ntbsock-ctl ports finds it usable" ports_say 'usable: /dev/vfio/'
together bound
check "selftest" selftest
check "who has its group's file is named too" by_group
together first
check "selftest once more, and its numbers" again
together second
check "one is killed, and both meet again" killed
check "unbind gives the port back" unbind
check "a request to let go ends a selftest" request
check "the kernel has nothing to complain of" kernel_is_fine
together end
finish
