/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sleep.h - the system call in which the program's thread sleeps, and what its signals make of it
 *
 * A handler that runs in a call that waits ends it with EINTR, or not, by SA_RESTART: see signal(7).  Our calls look, poll
 * for a while and look again before the kernel sees anything of them, and a handler may run in all that time.  So who is
 * about to wait takes a mark first, and the system call is made only if nothing has happened since; a handler that comes
 * between that check and the instruction that enters the kernel finds itself there by its address and sends the thread
 * back to the check (ntbs_sleep_recheck()).  None is missed, and none is heard twice.
 */
#ifndef NTBSOCK_SLEEP_H
#define NTBSOCK_SLEEP_H

#include <stdbool.h>
#include "sig.h"

static inline struct ntbs_sig_mark ntbs_sig_mark(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return ntbs_sig.ran;
}

/* Has a handler run since?  @restarts: those with SA_RESTART do not count. */
static inline bool ntbs_sig_since(const struct ntbs_sig_mark *mark, bool restarts)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return restarts ? ntbs_sig.ran.hard != mark->hard : ntbs_sig.ran.all != mark->all;
}

/*
 * -EINTR at once if a handler has run since @mark, else the system call.  A cancellation point, as the call that it stands
 * for.  What is held around it is undone by pthread_cleanup_push().
 */
long ntbs_sleep(const struct ntbs_sig_mark *mark, bool restarts, long nr, long a, long b, long c, long d, long e, long f);

/* A handler is about to run that has interrupted @context. */
void ntbs_sleep_recheck(void *context);

#endif
