/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mbox.h - who sleeps and who rings
 *
 * Store mine, then look at yours.  The armer stores the armed word into the peer's inbox (through the window), makes
 * sure that it is there (S1), looks at its own inbox once more and sleeps.  A sender publishes, passes a full barrier
 * (S2: giving back its lock is one), and reads the armed word in its own inbox.  Whatever the order, one of them sees
 * the other.  The word counts up at each arming; a sender rings once a count and notes that it has rung after it has:
 * a sender killed in between is made good by the next.  Nobody disarms.  test/model/sleepwake.pml has the proof.
 *
 * Who sleeps in one call on one socket sleeps on a futex in its own inbox; who sleeps on a set sleeps on an eventfd of
 * the process, its mbox.  Over a port (far.h) everybody sleeps on the mbox, and S1 is a read across the link: of two stores
 * that are under way at once a fence sees neither land.
 */
#ifndef NTBSOCK_MBOX_H
#define NTBSOCK_MBOX_H

#include "sock.h"
#include "wait.h"

void ntbs_mbox_ring_slow(struct ntbs_sock *sk, uint64_t armed);

/* After publishing anything and S2: wake the peer if it sleeps.  Two lines, both in our cache; no system call unless
 * somebody sleeps. */
static inline void ntbs_mbox_poke(struct ntbs_sock *sk)
{
	uint64_t armed = ntbs_le64_read(&sk->q.in->armed);

	if (__builtin_expect(armed != __atomic_load_n(&sk->shm->tx.rung, __ATOMIC_RELAXED), 0))
		ntbs_mbox_ring_slow(sk, armed);
}

/* Arm for a futex sleep; returns the value of the futex word to sleep on. */
uint32_t ntbs_mbox_arm_futex(struct ntbs_sock *sk);
void ntbs_mbox_slept(struct ntbs_sock *sk);
/* Arm for a set of this process (mbox ntbs_rt.mbox_self). */
void ntbs_mbox_arm_set(struct ntbs_sock *sk);
/* Sleep.  0 woken or changed, -EINTR, -ETIMEDOUT. */
int ntbs_mbox_sleep(struct ntbs_sock *sk, uint32_t value, const struct ntbs_wait *w);
/* Wake the sleepers of our own side (service thread, or another thread that changed what they wait for). */
void ntbs_mbox_wake_own(struct ntbs_sock *sk);
/* And those who sleep in poll() or on a set, in whichever of the processes that share it. */
void ntbs_mbox_wake_all(struct ntbs_sock *sk);

#endif
