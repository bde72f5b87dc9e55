/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.h - a lock in memory that processes share
 *
 * The word is the owner's thread id and a bit that says that somebody sleeps.  Taking and giving it back are one locked
 * instruction each; giving it back is the full barrier S2 between publishing a slot and looking whether the peer
 * sleeps.  A waiter looks now and then whether the owner still exists and takes the lock of a dead one over: every
 * state change under these locks is ordered so that a half-made one is harmless, or it is finished by who takes over
 * (half_done.c).
 *
 * From before it is taken until after it is given back no handler of the program runs in the thread (sig.h), but for the
 * time in which the thread sleeps because somebody else has its only lock.
 *
 * Thread ids are those of the namespace that a family of processes shares; where fork has crossed into a new PID
 * namespace, a dead owner cannot be told from a living one and is waited for: @ntbs_lock_strangers.
 */
#ifndef NTBSOCK_LOCK_H
#define NTBSOCK_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "barrier.h"
#include "sig.h"

struct ntbs_lock {
	uint32_t word;
};
#define NTBS_LOCK_WAITERS (1u << 31)

extern __thread uint32_t ntbs_tid;	/* 0: not asked yet */
extern uint32_t *ntbs_lock_strangers;	/* in memory that those who share locks share, once there is some (sock.c) */
uint32_t ntbs_tid_slow(void);
/* For certain: a thread, or the first of a process. */
bool ntbs_lock_gone(uint32_t tid);
bool ntbs_lock_slow(struct ntbs_lock *lock);
void ntbs_unlock_slow(struct ntbs_lock *lock);

static inline uint32_t ntbs_my_tid(void)
{
	return __builtin_expect(ntbs_tid != 0, 1) ? ntbs_tid : ntbs_tid_slow();
}

/* Nobody holds it: a fork child, whose parent's threads are not here.  The section that it was is ended by
 * ntbs_sig_fork_child(). */
static inline void ntbs_lock_reset(struct ntbs_lock *lock)
{
	__atomic_store_n(&lock->word, 0, __ATOMIC_RELAXED);
}

static inline bool ntbs_lock_take(struct ntbs_lock *lock)
{
	uint32_t none = 0;

	return __atomic_compare_exchange_n(&lock->word, &none, ntbs_my_tid(), false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static inline bool ntbs_trylock(struct ntbs_lock *lock)
{
	ntbs_section_enter();
	if (ntbs_lock_take(lock))
		return true;
	ntbs_section_leave();
	return false;
}

/* True: from a dead owner. */
static inline bool ntbs_lock(struct ntbs_lock *lock)
{
	ntbs_section_enter();
	return __builtin_expect(!ntbs_lock_take(lock), 0) && ntbs_lock_slow(lock);
}

static inline void ntbs_unlock(struct ntbs_lock *lock)
{
	if (__builtin_expect(__atomic_exchange_n(&lock->word, 0, __ATOMIC_SEQ_CST) & NTBS_LOCK_WAITERS, 0))
		ntbs_unlock_slow(lock);
	ntbs_exchanged_barrier();
	ntbs_section_leave();
}

#endif
