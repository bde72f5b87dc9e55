/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sig.h - signals: the program's handlers run between our critical sections, and who waits knows that one ran
 *
 * The kernel is given a handler of ours for each handler of the program's (sigaction() and its relatives are wrapped,
 * preload_sig.c); mask, alternate stack and all other flags stay the program's and the kernel's business, and the
 * program's handler is entered as if the kernel had done it: same arguments, same context, same stack.
 *
 * Sections.  A lock of ours, from before it is taken until after it is given back (lock.h), and no wait in it.  A signal
 * that arrives there goes back into the thread's queue, with all that came with it, and is held back by the signal mask of
 * the interrupted code; leaving the outermost section restores the mask, and the kernel delivers what waits, right there.
 * So a handler finds no lock of its own thread taken and may make any call on any socket.  What the CPU itself raises
 * (SIGSEGV and the like) is not held back: the instruction cannot go on.
 *
 * Waits.  Each handler that runs is counted, in two counts: all, and those without SA_RESTART.  Who waits has noted the
 * counts before his last look, and the system call in which he sleeps is made only if they have not moved (sleep.h).
 *
 * Two realtime signals of one number, both sent to this thread, of which the first came in a section: the second may be
 * seen first.  All else is as the kernel does it.
 */
#ifndef NTBSOCK_SIG_H
#define NTBSOCK_SIG_H

#include <signal.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

/* Handlers of the program that have run in a thread.  One word, as it is copied before each call that may wait. */
struct ntbs_sig_mark {
	alignas(8) uint32_t all;
	uint32_t hard;			/* those without SA_RESTART */
};

struct ntbs_sig {
	uint32_t depth;			/* sections that this thread is in */
	uint32_t kept;			/* signals wait for us to leave; @mask is to be restored */
	struct ntbs_sig_mark ran;
	uint64_t mask;
};
extern __thread struct ntbs_sig ntbs_sig;

void ntbs_sig_deliver(void);

/* Plain words: who interrupts us leaves them as he found them. */
static inline void ntbs_section_enter(void)
{
	ntbs_sig.depth++;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void ntbs_section_leave(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	ntbs_sig.depth--;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (__builtin_expect(ntbs_sig.kept, 0))
		ntbs_sig_deliver();
}

/* In a fork child, when all that the parent held is taken back: no section is left. */
void ntbs_sig_fork_child(void);

/*
 * What sigaction() is to tell the kernel in place of @handler and @flags, and what the kernel's answer means to the program.
 * @sig may be any number: what the kernel refuses is not our business.
 */
void ntbs_sig_wrap(int sig, void **handler, unsigned long *flags);
void ntbs_sig_unwrap(int sig, void **handler, unsigned long *flags);

/*
 * From now on a fault in a copy of the program's bytes ends that copy (user.h).  Where the program has no handler for
 * SIGSEGV or SIGBUS, and only there, this puts one of ours into the kernel, of which sigaction() does not tell; whatever
 * else raises the signal then does what it did before.
 */
void ntbs_sig_catch_faults(void);
bool ntbs_sig_catches(void);

/* The kernel gets the program's own handlers: from now on nothing of ours may run. */
void ntbs_sig_leave(void);

#endif
