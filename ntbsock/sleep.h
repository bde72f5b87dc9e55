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

#include <pthread.h>
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
 * What a wait holds is given back when the thread is cancelled in it, and when a handler leaves it with siglongjmp().  The C
 * library has a list for both, of which <pthread.h> shows only another form that longjmp() does not know: glibc calls the
 * entries whose stack is left behind (nptl/jmp-unwind.c), and unwinding calls them too.
 *
 * Taking what is to be undone and noting it are one section, and so are taking it off the list and undoing it: no handler
 * can leave in between.
 */
struct ntbs_undo {
	struct _pthread_cleanup_buffer buffer;
};
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *), void *arg);
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int execute);

static inline void ntbs_undo_push(struct ntbs_undo *undo, void (*fn)(void *arg), void *arg)
{
	_pthread_cleanup_push(&undo->buffer, fn, arg);
}

/* And calls it. */
static inline void ntbs_undo_pop(struct ntbs_undo *undo)
{
	ntbs_section_enter();
	_pthread_cleanup_pop(&undo->buffer, 1);
	ntbs_section_leave();
}

/* Somebody has called pthread_cancel(), ever: calls that do not wait are cancellation points too. */
extern bool ntbs_cancels;
static inline void ntbs_cancel_point(void)
{
	if (__builtin_expect(__atomic_load_n(&ntbs_cancels, __ATOMIC_RELAXED), 0))
		pthread_testcancel();
}

/*
 * -EINTR at once if a handler has run since @mark, else the system call.  A cancellation point, as the call that it stands
 * for.
 */
long ntbs_sleep(const struct ntbs_sig_mark *mark, long nr, long a, long b, long c, long d, long e, long f);

/*
 * Around a wait under @mask (ppoll() and its kin), which the kernel's call installs for its own length alone: no handler runs
 * that @mask holds back.  What it lets through, and the thread does not, is let through by the kernel's call.  Nobody who leaves
 * by siglongjmp() owes the end: he has his own mask back, or that of the handler, as from the kernel.
 */
struct ntbs_masked {
	bool held;
	uint64_t own;
};
void ntbs_mask_begin(struct ntbs_masked *m, const sigset_t *mask);
void ntbs_mask_end(const struct ntbs_masked *m);

/* A handler is about to run that has interrupted @context. */
void ntbs_sleep_recheck(void *context);

#endif
