# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
#
# lib.sh - what scripts in a guest share; they begin with ". $RIG_DIR/guest/lib.sh"
#
# A script says first how many checks it makes ("plan 3"), then makes them ("check NAME COMMAND...").  Lines "PLAN" and
# "TEST" on the console are what suite.py counts: checks that are missing count as failed.  A failed check does not end
# the script, unless it says "check ... || finish".  Scripts run in both guests; "together NAME" is where they wait for
# each other.

failed=0

plan() {
	echo "PLAN $1"
}

now_ms() {
	read -r up _ </proc/uptime
	echo "${up%.*}${up#*.}0"
}

check() {
	name=$1
	shift
	began=$(now_ms)
	if "$@"; then
		echo "TEST ok $(($(now_ms) - began)) $name"
		return 0
	fi
	status=$?
	echo "TEST failed $(($(now_ms) - began)) $name"
	failed=1
	return "$status"
}

finish() {
	exit "$failed"
}

# Waits until a command succeeds: wait_for SECONDS COMMAND...
wait_for() {
	end=$(($(now_ms) + $1 * 1000))
	shift
	until "$@"; do
		[ "$(now_ms)" -lt "$end" ] || return 1
		sleep 0.2
	done
}

# Both guests get here before either goes on: together NAME [SECONDS].  A name serves once.
together() {
	: >"/out/$1.$RIG_ME"
	wait_for "${2:-60}" [ -e "/out/$1.$RIG_PEER" ] || {
		echo "together $1: the other guest is not there"
		return 1
	}
}

# Address of the first PCI function with this vendor:device, like 1af4:1110.
pci_find() {
	for dev in /sys/bus/pci/devices/*; do
		read -r vendor <"$dev/vendor"
		read -r device <"$dev/device"
		if [ "${vendor#0x}:${device#0x}" = "$1" ]; then
			basename "$dev"
			return 0
		fi
	done
	echo "pci_find: no function $1" >&2
	return 1
}

# Hands a function to vfio-pci.
bind_vfio() {
	modprobe vfio_iommu_type1 && modprobe vfio-pci || return 1
	echo vfio-pci >"/sys/bus/pci/devices/$1/driver_override"
	[ ! -e "/sys/bus/pci/devices/$1/driver" ] || echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind"
	echo "$1" >/sys/bus/pci/drivers_probe
	[ "$(basename "$(readlink "/sys/bus/pci/devices/$1/driver")")" = vfio-pci ]
}

# No oops, no warning of the kernel.
kernel_is_fine() {
	! dmesg | grep -E 'BUG:|Oops|WARNING:|Call Trace|DMAR:.*fault'
}

# The port of a model: address of the function, and the driver of Linux for it
ntb_port() {
	case $RIG_BRIDGE in
	gen3) id=8086:201c driver=ntb_hw_intel ;;
	icx | spr) id=8086:347e driver=ntb_hw_intel ;;
	amd) id=1022:148b driver=ntb_hw_amd ;;
	*) echo "ntb_port: bridge $RIG_BRIDGE is no model"; return 1 ;;
	esac
	port=$(pci_find "$id")
}

# Linux' driver on the port, and so a device on the bus "ntb".  ntb_hw_amd looks for its peer a second after it was
# bound, and announces the link once more if it is there; a client that is up by then, as ntb_transport may be, begins
# anew on that side alone, and loses what it has on its way (Linux 6.1, amd_link_hb()).  So nothing is loaded on top
# before that.
bind_linux() {
	modprobe "$driver" || return 1
	[ "$(basename "$(readlink "/sys/bus/pci/devices/$port/driver")")" = "$driver" ] || return 1
	wait_for 10 [ -e "/sys/bus/ntb/devices/$port" ] || return 1
	[ "$driver" != ntb_hw_amd ] || sleep 3
}

# its_way PID: a broker has its port by what RIG_VFIO says, iommufd or (without it) the group; what it has open tells.
# A copy engine goes by its group even then.
its_way() {
	ls -l "/proc/$1/fd" >/run/tmp/fds || return 1
	case ${RIG_VFIO:-group} in
	iommufd) grep '/dev/vfio/devices/' /run/tmp/fds && grep '/dev/iommu$' /run/tmp/fds ;;
	*) grep -E '/dev/vfio/[0-9]+$' /run/tmp/fds && ! grep /dev/iommu /run/tmp/fds ;;
	esac
}

# as_host: $node is this guest's for a broker, and the other guest is known to it
as_host() {
	case $RIG_ME in a) node=1 other=2 ;; *) node=2 other=1 ;; esac
	mkdir -p /run/conf
	export NTBSOCK_CONFIG_DIR=/run/conf
	echo "$RIG_PEER $other" >/run/conf/nodes.conf
}

# is_up: the brokers of both guests have met
is_up() {
	"$RIG_BUILD/ntbsock-ctl" status --json | grep -q '"cable": *"up"'
}
