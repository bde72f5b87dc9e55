# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC1091,SC2154
#
# netdev.sh - in both guests: Linux' own NTB driver accepts the model, and its network device works over it
#
# With RIG_IOAT=1 ioatdma must bind the copy engine, pass its self-test, and do ntb_transport's copies.
. "$RIG_DIR/guest/lib.sh"
if [ -n "${RIG_IOAT:-}" ]; then plan 8; else plan 6; fi
case $RIG_ME in a) mine=10.78.0.1 its=10.78.0.2 ;; *) mine=10.78.0.2 its=10.78.0.1 ;; esac

netdev() {
	modprobe ntb_transport ${RIG_IOAT:+use_dma=1} && modprobe ntb_netdev || return 1
	net=
	for dev in /sys/class/net/*; do
		case ${dev##*/} in lo | eth0) ;; *) net=${dev##*/} ;; esac
	done
	[ -n "$net" ] || return 1
	ip addr add "$mine/24" dev "$net" && ip link set "$net" up
	wait_for 30 grep -q 1 "/sys/class/net/$net/carrier" || return 1
	dmesg | grep -i 'link up' || true
	together carrier
}

ping_peer() {
	wait_for 20 ping -c 1 -W 2 "$its" >/dev/null && ping -c 5 -W 5 "$its"
}

ioat_binds() {
	modprobe ioatdma || return 1
	wait_for 10 sh -c 'ls /sys/class/dma | grep -q .' || return 1
	ls -l /sys/class/dma
	dmesg | grep -i ioat
	! dmesg | grep -i 'ioat.*fail'
}

# ntb_transport says whether it has an engine, and how many copies it gave it.
dma_used() {
	cat /sys/kernel/debug/ntb_transport/*/qp0/stats >/run/tmp/stats
	grep -E 'async|DMA' /run/tmp/stats
	grep -qE 'Using TX DMA.*Yes' /run/tmp/stats && grep -qE 'Using RX DMA.*Yes' /run/tmp/stats &&
	grep -qE 'tx_async.*[1-9]' /run/tmp/stats && grep -qE 'rx_async.*[1-9]' /run/tmp/stats
}

pingpong() {
	modprobe -r ntb_netdev && modprobe -r ntb_transport || return 1
	together unloaded || return 1
	modprobe ntb_pingpong || return 1
	count=/sys/kernel/debug/ntb_pingpong/$port/count
	wait_for 20 [ -e "$count" ] || return 1
	wait_for 30 sh -c "[ \$(cat $count) -ge 4 ]"
	echo "ntb_pingpong counts $(cat "$count")"
	[ "$(cat "$count")" -ge 4 ] || return 1
	together counted && modprobe -r ntb_pingpong
}

ntb_port
[ -z "${RIG_IOAT:-}" ] || check "ioatdma binds the copy engine and its self-test passes" ioat_binds
check "$driver binds the port at $port" bind_linux || finish
together bound
check "ntb_netdev has a carrier" netdev || finish
check "ping over ntb_netdev" ping_peer
check "contents over ntb_netdev" timeout 120 python3 "$RIG_DIR/guest/transfer.py" "$mine" "$its" 1000000
[ -z "${RIG_IOAT:-}" ] || check "ntb_transport copies by the engine" dma_used
together sent
check "ntb_pingpong counts" pingpong
check "the kernel has nothing to complain of" kernel_is_fine
together end
finish
