# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh disable=SC1091,SC2154
#
# steps.sh - for steps.py: Linux' driver does one thing after the other, and waits for the host between them
#
# Guest b is only there to be a peer: driver bound and link enabled before a begins.
. "$RIG_DIR/guest/lib.sh"
number=0

# The host knows by this line that all accesses before it belong to the step.
step() {
	number=$((number + 1))
	echo "STEP $number $1"
	wait_for 60 [ -e "/out/step.$number" ] || exit 1
}

ntb_port
modprobe "$driver" || exit 1
tool=/sys/kernel/debug/ntb_tool/$port
if [ "$RIG_ME" = b ]; then
	modprobe ntb_tool && echo Y >"$tool/link"
	together ready
	together end 120
	exit 0
fi
sleep 3		# ntb_hw_amd looks for its peer once more
step probe
together ready
modprobe ntb_tool || exit 1
sleep 1
step client
echo Y >"$tool/link" || true		# ntb_hw_amd: EINVAL on the secondary, by design
wait_for 30 grep -q Y "$tool/peer0/link"
sleep 1
step link-enable
echo 65536 >"$tool/peer0/mw_trans0" || exit 1
step set-window
echo "s 4" >"$tool/peer_db" || exit 1
step ring
echo "s 4" >"$tool/db_mask" && echo "c 4" >"$tool/db_mask" || exit 1
step mask
echo 0 >"$tool/peer0/mw_trans0" || exit 1
step clear-window
echo N >"$tool/link" || true
sleep 1
step link-disable
modprobe -r ntb_tool && modprobe -r "$driver" || exit 1
step remove
together end
