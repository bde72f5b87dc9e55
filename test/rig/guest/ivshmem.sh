# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC1091
#
# ivshmem.sh - in both guests: the rig itself, and ntbsock inside one guest
. "$RIG_DIR/guest/lib.sh"
plan 7

network() {
	wait_for 10 ping -c 1 -W 2 "$RIG_PEER" >/dev/null
}

# The host looks how long this takes: a guest whose clock is wrong makes every timeout meaningless.
clock() {
	echo "CLOCK begins"
	sleep 2
	echo "CLOCK ends"
}

# A program measured runs from memory: straight from 9p everything is slower.
local_pingpong() {
	cp "$RIG_BUILD/pingpong" /run/tmp/ &&
	NTBSOCK_STATS=/run/tmp/stats.%p "$RIG_BUILD/ntbsock-ctl" run --quiet -- \
		/run/tmp/pingpong both --sizes 1,100,64K --seconds 0.3 &&
	python3 -c '
import glob, json, sys
stats = [json.load(open(p)) for p in glob.glob("/run/tmp/stats.*")]
ring = sum(s["tx"]["bytes"] for s in stats)
print(f"{len(stats)} processes sent {ring} bytes over the ring")
sys.exit(len(stats) < 2 or ring < 100000)'
}

# The project'''s own socket tests, as make check runs them: on TCP, and on the ring where their bytes are counted.
local_tests() {
	python3 test/run.py --build "$RIG_BUILD" --only poll --only dup sock
}

address=$(pci_find 1af4:1110)
check "network between the guests" network
check "the clock of guest $RIG_ME" clock
check "ivshmem is bound to vfio-pci" bind_vfio "$address"
cp "$RIG_BUILD/rig/ivtest" /run/tmp/
together vfio
check "VFIO, doorbells, messages, atomics, fences" timeout 60 /run/tmp/ivtest "$address" "$RIG_ME"
check "pingpong over ntbsock inside guest $RIG_ME" local_pingpong
check "socket tests over ntbsock inside guest $RIG_ME" local_tests
check "the kernel has nothing to complain of" kernel_is_fine
finish
