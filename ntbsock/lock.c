// SPDX-License-Identifier: BSD-2-Clause
/* lock.c - see lock.h: the paths on which somebody else holds the lock */
#include "lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/uio.h>
#include <time.h>

#include "barrier.h"
#include "sys.h"

#define SPINS 200			/* a critical section is a copy of 16 KiB at most: a few microseconds */
#define OWNER_CHECK_NS 50000000		/* how often a sleeper looks whether the owner lives */

__thread uint32_t ntbs_tid;
static uint32_t nobody_yet;
uint32_t *ntbs_lock_strangers = &nobody_yet;

uint32_t ntbs_tid_slow(void)
{
	return ntbs_tid = ntbs_sys0(SYS_gettid);
}

static uint32_t strangers(void)
{
	return ntbs_read_once(*__atomic_load_n(&ntbs_lock_strangers, __ATOMIC_ACQUIRE));
}

/* tkill with signal 0 asks without doing; ESRCH is the only answer that means gone. */
bool ntbs_lock_gone(uint32_t tid)
{
	return !strangers() && ntbs_sys2(SYS_tkill, tid, 0) == -ESRCH;
}

/*
 * A killed process stays until somebody has waited for it, perhaps the very one that wants its lock.  But the thread has no
 * memory any more to be read from.
 */
static bool owner_dead(uint32_t tid)
{
	char c;
	const struct iovec ours = { &c, 1 }, theirs = { NULL, 1 };

	return ntbs_lock_gone(tid) || (!strangers() &&
				       ntbs_sys6(SYS_process_vm_readv, tid, (long)&ours, 1, (long)&theirs, 1, 0) == -ESRCH);
}

bool ntbs_lock_slow(struct ntbs_lock *lock)
{
	const struct timespec check = { 0, OWNER_CHECK_NS };
	bool alone = ntbs_sig.depth == 1;	/* nothing else is held: handlers may run while we sleep */
	uint32_t seen, me = ntbs_my_tid();
	long ret;

	for (int i = 0; i < SPINS; i++) {
		if (ntbs_lock_take(lock))
			return false;
		ntbs_spin_pause();
	}
	for (;;) {
		seen = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);
		if (!seen) {
			/* others may sleep behind us: keep the bit */
			if (__atomic_compare_exchange_n(&lock->word, &seen, me | NTBS_LOCK_WAITERS, false,
							__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return false;
			continue;
		}
		if (!(seen & NTBS_LOCK_WAITERS) &&
		    !__atomic_compare_exchange_n(&lock->word, &seen, seen | NTBS_LOCK_WAITERS, false,
						 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		seen |= NTBS_LOCK_WAITERS;
		if (alone)
			ntbs_section_leave();
		ret = ntbs_sys4(SYS_futex, &lock->word, FUTEX_WAIT, seen, &check);
		if (alone)
			ntbs_section_enter();
		if (ret == -ETIMEDOUT && owner_dead(seen & ~NTBS_LOCK_WAITERS) &&
		    __atomic_compare_exchange_n(&lock->word, &seen, me | NTBS_LOCK_WAITERS, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return true;
	}
}

void ntbs_unlock_slow(struct ntbs_lock *lock)
{
	ntbs_sys3(SYS_futex, &lock->word, FUTEX_WAKE, 1);
}
