# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC1091
#
# return.sh - guest b loses its power without warning and boots again; guest a lives on and works with the new b
#
# suite.py turns b off when a says READY.  RIG_LIFE is 1 in a guest's first life, 2 in its second; in its first, b says
# nothing of its own that is counted.
. "$RIG_DIR/guest/lib.sh"
address=$(pci_find 1af4:1110)
cp "$RIG_BUILD/rig/ivtest" /run/tmp/

meet() {
	together "life$1" && timeout 60 /run/tmp/ivtest "$address" "$RIG_ME" "$1"
}

if [ "$RIG_ME" = b ] && [ "$RIG_LIFE" = 1 ]; then
	bind_vfio "$address" && meet 1 && touch /out/first-life
	sleep 300
	exit 1
fi
if [ "$RIG_ME" = a ]; then
	plan 4
	check "ivshmem is bound to vfio-pci" bind_vfio "$address"
	check "VFIO, doorbells, messages with the first b" meet 1
	check "b says the same" wait_for 30 [ -e /out/first-life ]
	echo "READY"
else
	plan 2
	check "ivshmem is bound to vfio-pci again" bind_vfio "$address"
fi
check "VFIO, doorbells, messages with the second b" meet 2
finish
