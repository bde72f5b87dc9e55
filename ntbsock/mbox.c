// SPDX-License-Identifier: BSD-2-Clause
/* mbox.c - see mbox.h */
#include "mbox.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <time.h>

#include "runtime.h"
#include "service.h"
#include "sys.h"

static void arm(struct ntbs_sock *sk)
{
	struct ntbs_sock_shm *shm = sk->shm;
	uint64_t word;

	ntbs_lock(&shm->arm);
	word = (uint64_t)++shm->arm_count << 32 | (!ntbs_sock_far(sk) && atomic_load(&shm->sleepers) ? NTBS_ARMED_FUTEX : 0) |
	       (atomic_load(&shm->mbox_mask) & 0xffff);
	ntbs_window_store64(sk->q.port, &sk->q.out->armed, word);
	ntbs_window_readback(sk->q.port, &sk->q.out->armed);	/* S1: armed, then the caller's last look; pairs with S2 */
	ntbs_unlock(&shm->arm);
}

static struct ntbs_inbox_shm *own(struct ntbs_sock *sk)
{
	return (struct ntbs_inbox_shm *)sk->q.in;	/* @wake has two writers: the peer's bell and ourselves */
}

uint32_t ntbs_mbox_arm_futex(struct ntbs_sock *sk)
{
	uint32_t value = ntbs_le32_read_acquire(&sk->q.in->wake);

	atomic_fetch_add(&sk->shm->sleepers, 1);
	if (ntbs_sock_far(sk))
		atomic_fetch_or(&sk->shm->mbox_mask, 1u << ntbs_rt.mbox_self);
	arm(sk);
	return value;
}

void ntbs_mbox_slept(struct ntbs_sock *sk)
{
	atomic_fetch_sub(&sk->shm->sleepers, 1);
}

void ntbs_mbox_arm_set(struct ntbs_sock *sk)
{
	if (ntbs_sock_far(sk))
		ntbs_service_start();	/* it hears of a lost link */
	/* sticky: an mbox that a set of ours has once slept on may be rung for nothing, never missed */
	atomic_fetch_or(&sk->shm->mbox_mask, 1u << ntbs_rt.mbox_self);
	arm(sk);
}

int ntbs_mbox_sleep(struct ntbs_sock *sk, uint32_t value, const struct ntbs_wait *w)
{
	struct timespec ts = { w->deadline_ns / 1000000000, w->deadline_ns % 1000000000 };
	long ret;

	/* a ring since the last sleep is an edge that our waiter has not used up */
	if (ntbs_sock_far(sk))
		return ntbs_wait_shadow(-1, 0, w);

	/* time limits are absolute (FUTEX_WAIT_BITSET, CLOCK_MONOTONIC) */
	ret = ntbs_sleep(&w->mark, SYS_futex, (long)&own(sk)->wake, FUTEX_WAIT_BITSET, value, ntbs_wait_ends(w) ? (long)&ts : 0, 0,
			 FUTEX_BITSET_MATCH_ANY);
	return ret == -EINTR ? ntbs_wait_handled(w) : ret == -ETIMEDOUT ? ret : 0;
}

void ntbs_mbox_wake_own(struct ntbs_sock *sk)
{
	__atomic_fetch_add(&own(sk)->wake.v, 1, __ATOMIC_SEQ_CST);
	if (!atomic_load(&sk->shm->sleepers))
		return;
	if (ntbs_sock_far(sk))
		ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
	else
		ntbs_sys3(SYS_futex, &own(sk)->wake, FUTEX_WAKE, INT_MAX);
}

void ntbs_mbox_wake_all(struct ntbs_sock *sk)
{
	uint32_t mask;

	ntbs_mbox_wake_own(sk);
	mask = atomic_load(&sk->shm->mbox_mask);	/* behind the full barrier of that */
	for (; mask; mask &= mask - 1)
		ntbs_bell_ring(ntbs_rt.mbox[__builtin_ctz(mask)]);
}

void ntbs_mbox_ring_slow(struct ntbs_sock *sk, uint64_t armed)
{
	uint32_t mask = NTBS_ARMED_MBOX(armed);

	/* counted for mboxes too: a set that is rung finds by it which member was meant */
	if (!ntbs_sock_far(sk))
		__atomic_fetch_add(&sk->q.out->wake.v, 1, __ATOMIC_SEQ_CST);
	if ((armed & NTBS_ARMED_FUTEX) && !ntbs_sock_far(sk))
		ntbs_sys3(SYS_futex, &sk->q.out->wake, FUTEX_WAKE, INT_MAX);
	while (mask) {
		unsigned mbox = __builtin_ctz(mask);

		ntbs_peer_ring(sk->chan, mbox);
		mask &= mask - 1;
	}
	__atomic_store_n(&sk->shm->tx.rung, armed, __ATOMIC_RELEASE);
	ntbs_bump(sk->shm->conn.tx.wakes, 1);
	ntbs_bump(sk->tx.wakes, 1);
}
