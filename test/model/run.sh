#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Checks the Spin models beside this file: each correct model must hold, each mistake must be found.
# limit: 400
#
# A line for each, then a count; exit status 0 all as expected, 1 not, 77 no spin here.
# Needs spin and a C compiler; at most two checks run at a time, 1 GiB each.
set -u
dir=$(cd "$(dirname "$0")" && pwd)
command -v spin >/dev/null || {
	echo "SKIP no spin here (apt-get install spin)"
	exit 77
}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
nr=0

# check ID MODEL holds|fails [DEFINE...]: prints a line; works in $tmp/ID
check() (
	id=$1 model=$2 expect=$3
	shift 3
	name="$model${1:+ $*}"
	mkdir "$tmp/$id" && cd "$tmp/$id" || exit 1
	flags=
	for d; do flags="$flags -D$d"; done
	# shellcheck disable=SC2086 # flags are words
	if ! spin $flags -a "$dir/$model.pml" >log 2>&1 ||
	   ! ${CC:-gcc} -w -O1 -DSAFETY -DCOLLAPSE -DMEMLIM=1024 -o pan pan.c >>log 2>&1; then
		echo "FAIL $name: does not compile"
		cat log
		exit 0
	fi
	./pan -E -m200000 >log 2>&1
	found=fails
	grep -q 'errors: 0' log && found=holds
	# An unfinished search and any error but an assertion prove nothing.
	if grep -q -e 'reached -DMEMLIM' -e 'search depth too small' -e 'out of memory' log; then
		found='search not finished'
	elif [ $found = fails ] && ! grep -q 'assertion violated' log; then
		found='error that is no assertion'
	fi
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' log)
	if [ "$found" = "$expect" ]; then
		echo "ok   $name $found ($states states)"
	else
		echo "FAIL $name: expected $expect, but: $found ($states states)"
		grep -e 'pan:' log
	fi
)

start() {
	nr=$((nr + 1))
	check $nr "$@" >"$tmp/$nr.out" &
	if [ $((nr % 2)) = 0 ]; then wait; fi
}

start sleepwake holds
start sleepwake holds KILL MSGS=2 WAITERS=1
start sleepwake holds ONE_MBOX
start sleepwake holds SENDERS=1 MSGS=3
for mistake in NO_LOOK NO_FENCE_WAITER NO_FENCE_SENDER; do
	start sleepwake fails $mistake WAITERS=1
done
start sleepwake fails DISARM SENDERS=1 MSGS=2
start sleepwake fails KILL NOTE_FIRST WAITERS=1
start doorbell holds
start doorbell holds PAIRS=1 MSGS=4
start doorbell holds BELL_PASSES BEAT
start doorbell holds BELL_LOST BEAT
start doorbell fails CLEAR_LATE
for mistake in NO_LOOK NO_READBACK ANSWER_PASSES NO_FENCE_SENDER SIGNAL_FIRST BELL_PASSES BELL_LOST; do
	start doorbell fails $mistake PAIRS=1 MSGS=2
done
start credit holds
start credit holds N=2 MSGS=6 ANSWERS=1
for mistake in ACK_EARLY ACK_TOO_LATE NO_POKE NO_LOOK NO_FENCE_ACK STALE_STAMP; do
	start credit fails $mistake
done
start credit fails SHORT_ACK N=2 MSGS=6 ANSWERS=1
start credit holds SHRINK MSGS=3
for mistake in STATE_ONLY ACK_AS_BEFORE; do
	start credit fails SHRINK MSGS=3 $mistake
done
start switch holds
start switch holds K0=3 K1=1
start switch holds K0=1 K1=3
for mistake in SWITCH_BEFORE_CLAIM SWITCH_WHEN_ASKED BLIND_WITHDRAW BEYOND_W WITHOUT_Q LOOK_LATE \
	LOOK_WHEN_NOTICED; do
	start switch fails $mistake
done
start switch fails LOOK_FIRST K0=3 K1=1
start again holds
for mistake in OFFER_UNREAD OFFER_REPLAY W_OF_STREAM SAME_RING PLAIN_SLEEP; do
	start again fails $mistake K0=2 K1=2
done
start link holds
for mistake in SAME_EPOCH HALF_WORD ANY_WORD NO_SEEN_YET; do
	start link fails $mistake
done
wait

i=1
while [ $i -le $nr ]; do
	cat "$tmp/$i.out"
	i=$((i + 1))
done >"$tmp/all"
cat "$tmp/all"
bad=$(grep -vc '^ok ' "$tmp/all")
good=$(grep -c '^ok ' "$tmp/all")
echo "models: $good of $nr as expected"
[ "$good" = "$nr" ] && [ "$bad" = 0 ]
