// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_sig.c - sigaction and its relatives
 *
 * The kernel is told of our handler in place of the program's, and the program hears of its own (sig.h).  The C library's
 * relatives call its sigaction() by an inner name, so each is made of ours here.
 */
#include "preload.h"

#include "sleep.h"
#include "sys.h"

NTBS_EXPORT int sigaction(int sig, const struct sigaction *restrict act, struct sigaction *restrict old)
{
	struct sigaction ours;
	unsigned long flags;
	int ret;

	if (!ntbs_libc.sigaction)	/* before our constructor; a handler is wrapped from then on only */
		ntbs_init();
	if (act) {
		ours = *act;
		flags = (unsigned)act->sa_flags;
		ntbs_sig_wrap(sig, (void **)&ours.sa_sigaction, &flags);
		ours.sa_flags = flags;
	}
	ret = LIBC(sigaction)(sig, act ? &ours : NULL, old);
	if (!ret && old) {
		flags = (unsigned)old->sa_flags;
		ntbs_sig_unwrap(sig, (void **)&old->sa_sigaction, &flags);
		old->sa_flags = flags;
	}
	return ret;
}
NTBS_EXPORT __attribute__((nothrow, leaf)) int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
	__attribute__((alias("sigaction")));

/* Before there is anything that catches a fault: no such way to change the mask, so the kernel looks at the set and refuses. */
static bool can_read_8(const void *p)
{
	return ntbs_sys4(SYS_rt_sigprocmask, -1, p, NULL, 8) != -EFAULT;
}

long ntbs_raw_sigaction(int sig, const void *act, void *old, size_t mask_bytes)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} ours;
	long ret;

	if (!ntbs_libc.syscall)
		ntbs_init();
	if (mask_bytes != sizeof(ours.mask) || (act && (!can_read_8(act) || !can_read_8((const char *)act + sizeof(ours) - 8))))
		return LIBC(syscall)(SYS_rt_sigaction, sig, act, old, mask_bytes);
	if (act) {
		memcpy(&ours, act, sizeof(ours));
		ntbs_sig_wrap(sig, &ours.handler, &ours.flags);
	}
	ret = LIBC(syscall)(SYS_rt_sigaction, sig, act ? &ours : NULL, old, mask_bytes);
	if (!ret && old) {
		memcpy(&ours, old, sizeof(ours));
		ntbs_sig_unwrap(sig, &ours.handler, &ours.flags);
		memcpy(old, &ours, sizeof(ours));
	}
	return ret;
}

/* Signals that siginterrupt() has told signal() to leave without SA_RESTART. */
static uint64_t interrupting;

static sighandler_t set(int sig, sighandler_t handler, int flags, bool block_itself)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = flags }, old;

	if (handler == SIG_ERR || sig < 1 || sig >= NSIG) {
		errno = EINVAL;
		return SIG_ERR;
	}
	if (block_itself)
		sigaddset(&act.sa_mask, sig);
	return sigaction(sig, &act, &old) ? SIG_ERR : old.sa_handler;
}

NTBS_EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
	bool restart = sig < 1 || sig >= NSIG || !(__atomic_load_n(&interrupting, __ATOMIC_RELAXED) >> (sig - 1) & 1);

	return set(sig, handler, restart ? SA_RESTART : 0, true);
}
NTBS_EXPORT sighandler_t bsd_signal(int sig, sighandler_t handler);
NTBS_EXPORT sighandler_t bsd_signal(int sig, sighandler_t handler) __attribute__((nothrow, leaf, alias("signal")));
NTBS_EXPORT sighandler_t ssignal(int sig, sighandler_t handler) __attribute__((nothrow, leaf, alias("signal")));

#ifndef SA_INTERRUPT
#define SA_INTERRUPT 0x20000000
#endif

NTBS_EXPORT sighandler_t sysv_signal(int sig, sighandler_t handler)
{
	return set(sig, handler, SA_RESETHAND | SA_NODEFER | SA_INTERRUPT, false);
}
NTBS_EXPORT sighandler_t __sysv_signal(int sig, sighandler_t handler)
	__attribute__((nothrow, leaf, alias("sysv_signal")));

NTBS_EXPORT sighandler_t sigset(int sig, sighandler_t handler)
{
	sigset_t set_of_one, before;
	struct sigaction old;

	sigemptyset(&set_of_one);
	if (sigaddset(&set_of_one, sig))
		return SIG_ERR;
	if (handler == SIG_HOLD) {
		if (sigprocmask(SIG_BLOCK, &set_of_one, &before))
			return SIG_ERR;
		if (sigismember(&before, sig))
			return SIG_HOLD;
		return sigaction(sig, NULL, &old) ? SIG_ERR : old.sa_handler;
	}
	old.sa_handler = set(sig, handler, 0, false);
	if (old.sa_handler == SIG_ERR || sigprocmask(SIG_UNBLOCK, &set_of_one, &before))
		return SIG_ERR;
	return sigismember(&before, sig) ? SIG_HOLD : old.sa_handler;
}

/* Who is never cancelled does not ask at each call whether he is. */
NTBS_EXPORT int pthread_cancel(pthread_t thread)
{
	__atomic_store_n(&ntbs_cancels, true, __ATOMIC_SEQ_CST);
	return LIBC(pthread_cancel)(thread);
}

NTBS_EXPORT int siginterrupt(int sig, int on)
{
	struct sigaction act;

	if (sigaction(sig, NULL, &act))
		return -1;
	if (on) {
		__atomic_fetch_or(&interrupting, 1ull << (sig - 1), __ATOMIC_RELAXED);
		act.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_fetch_and(&interrupting, ~(1ull << (sig - 1)), __ATOMIC_RELAXED);
		act.sa_flags |= SA_RESTART;
	}
	return sigaction(sig, &act, NULL);
}
