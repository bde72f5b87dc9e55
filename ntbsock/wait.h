/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wait.h - spin, then sleep; nothing else blocks
 *
 * How long to spin is learnt: a spin that finds something earns the full NTBSOCK_POLL_US, one that finds nothing
 * halves the next (down to none; every 64th wait tries again), and one that was interrupted by the scheduler - somebody
 * else wants this CPU - switches spinning off for a while.  Never when the peer last ran on our CPU: it could not run.
 */
#ifndef NTBSOCK_WAIT_H
#define NTBSOCK_WAIT_H

#include <stdbool.h>
#include <stdint.h>
#include "sock.h"

struct ntbs_spin {
	uint64_t start, last, budget;	/* time stamp counter */
	bool cut;			/* we were off the CPU meanwhile */
};

uint64_t ntbs_now_ns(void);		/* CLOCK_MONOTONIC */
int ntbs_cpu(void);

/* May we spin at all?  @sk: whose peer we wait for, NULL for a set. */
bool ntbs_spin_begin(struct ntbs_spin *s, struct ntbs_sock *sk);
/* Time left?  Cheap enough to call after a look of a few lines. */
bool ntbs_spin_more(struct ntbs_spin *s);
void ntbs_spin_end(struct ntbs_spin *s, bool found);

/* An epoll instance of this process that watches its mbox edge-triggered; -1 if no descriptor can be had. */
int ntbs_waiter_get(void);
void ntbs_waiter_put(int waiter);
void ntbs_wait_fork_child(void);
void ntbs_wait_init(void);

/*
 * A system call in which the program's thread sleeps: a cancellation point, as the call that it stands for.  What is held
 * around it is undone by pthread_cleanup_push().
 */
long ntbs_sleep_sys6(long nr, long a, long b, long c, long d, long e, long f);

/* Sleep until the kernel shows @events on the shadow or the mbox is rung.  0, -EINTR, -ETIMEDOUT. */
int ntbs_wait_shadow(int fd, short events, uint64_t deadline_ns);
/* Would a call that was interrupted now be restarted?  (No handler without SA_RESTART is installed.) */
bool ntbs_wait_restarts(void);

#endif
