/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wait.h - sleep; nothing else blocks
 */
#ifndef NTBSOCK_WAIT_H
#define NTBSOCK_WAIT_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "sleep.h"

uint64_t ntbs_now_ns(void);		/* CLOCK_MONOTONIC */

/*
 * An epoll instance of this process that watches its mbox edge-triggered; -1 if no descriptor can be had.  What is rung from then
 * on is seen, so it is had before the last look.  Putting it back uses the edge up.
 */
int ntbs_waiter_get(void);
void ntbs_waiter_put(int waiter);
void ntbs_wait_fork_child(void);

struct ntbs_sock;

/* What ends a wait apart from what is waited for. */
struct ntbs_wait {
	uint64_t deadline_ns;		/* CLOCK_MONOTONIC, 0 or NTBS_NO_DEADLINE: none */
	struct ntbs_sig_mark mark;	/* a handler that runs after this was taken */
	bool restarts;			/* if it has SA_RESTART the wait goes on */
	bool peeks;			/* MSG_PEEK has shown all that lay before @seen: only more is news */
	struct ntbs_sock *pinned;	/* whose descriptor it is, if the program may close that meanwhile: ntbs_call_pin() */
	bool urgent;			/* an urgent byte that comes ends it, too */
	uint64_t seen;			/* ntbs_msgq_rx_mark() */
	uint32_t dissolved, stirred;	/* counts of the socket, before this wait */
};

/* For good: what a time limit is set to while a call waits is for later calls. */
#define NTBS_NO_DEADLINE UINT64_MAX
/* The end of a wait of @ts from now on: for good, if that is more than can be counted in nanoseconds. */
static inline uint64_t ntbs_until(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec >> 33 ? NTBS_NO_DEADLINE : ntbs_now_ns() + ts->tv_sec * 1000000000ull + ts->tv_nsec;
}

static inline bool ntbs_wait_ends(const struct ntbs_wait *w)
{
	return w->deadline_ns && w->deadline_ns != NTBS_NO_DEADLINE;
}

/* A handler has ended the sleep: what does the call that sleeps do?  Go on, and look first, if all that ran have SA_RESTART. */
static inline int ntbs_wait_handled(const struct ntbs_wait *w)
{
	return !w->restarts || ntbs_sig_since(&w->mark, true) ? -EINTR : 0;
}

/* Sleep until the kernel shows @events on the shadow or the mbox is rung.  0, -EINTR, -ETIMEDOUT. */
int ntbs_wait_shadow(int fd, short events, const struct ntbs_wait *w);

#endif
