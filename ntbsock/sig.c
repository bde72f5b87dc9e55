// SPDX-License-Identifier: BSD-2-Clause
/*
 * sig.c - see sig.h
 *
 * The table.  A signal has SLOTS entry points into our handler, each with one word that says what the program wants called
 * there.  A new action takes a slot that the kernel does not use, fills in its word and then tells the kernel of that
 * entry point: a handler that runs finds the word that was there when the kernel was told, whatever is set meanwhile,
 * and no lock is needed (sigaction() may be called in handlers, and in children that share our memory).
 *
 * A word is the handler's address and, in bits that no address of user space has, those flags that we do not pass on.
 */
#include "sig.h"

#include <errno.h>
#include <ucontext.h>

#include "lock.h"
#include "preload.h"
#include "sleep.h"
#include "sys.h"
#include "user.h"

#define SLOTS 4
#define NR_SIGS 64

#define W_SIGINFO (1ull << 63)
#define W_RESETHAND (1ull << 62)
#define W_RESTART (1ull << 61)
#define W_FLAGS (W_SIGINFO | W_RESETHAND | W_RESTART)

__thread struct ntbs_sig ntbs_sig;

static bool catching;			/* SIGSEGV and SIGBUS come to us whether the program has a handler or not */
static uint64_t words[NR_SIGS + 1][SLOTS];
static uint32_t next_slot[NR_SIGS + 1];

typedef void handler_fn(int sig, siginfo_t *info, void *context);
static handler_fn *const entries[SLOTS];

struct kernel_action {			/* asm/signal.h, which does not go with the C library's */
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

static uint64_t bit(int sig)
{
	return 1ull << (sig - 1);
}

/* Raised by the CPU at the instruction itself; blocked, they would kill. */
#define FAULTS (bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGSYS))
#define ALL_BUT_FAULTS ~FAULTS

static bool is_fault(int sig, const siginfo_t *info)
{
	return (FAULTS & bit(sig)) && info->si_code > 0;
}

/* In a section: back into the queue of this thread, and the interrupted code goes on without being interrupted again. */
static bool keep(int sig, siginfo_t *info, ucontext_t *uc)
{
	const uint64_t block = ~0ull;
	uint64_t *mask = (uint64_t *)&uc->uc_sigmask;

	/* with SA_NODEFER it would come back to us at once */
	ntbs_sys4(SYS_rt_sigprocmask, SIG_BLOCK, &block, NULL, 8);
	if (ntbs_sys4(SYS_rt_tgsigqueueinfo, ntbs_sys0(SYS_getpid), ntbs_sys0(SYS_gettid), sig, info) < 0) {
		/* RLIMIT_SIGPENDING is used up: better early than never */
		ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, 8);
		return false;
	}
	/* Two at once: the kernel lets the second interrupt the entry of the first, with the mask of the first's handler.
	 * The section's own mask is the one that is seen last and not yet ours. */
	if (!ntbs_sig.kept || ~*mask & ALL_BUT_FAULTS)
		ntbs_sig.mask = *mask;
	ntbs_sig.kept = 1;
	*mask |= ALL_BUT_FAULTS | bit(sig);	/* sent, a SIGSEGV is a signal like any other */
	return true;
}

void ntbs_sig_deliver(void)
{
	uint64_t mask = ntbs_sig.mask;

	if (ntbs_sig.depth)
		return;
	ntbs_sig.kept = 0;
	ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
}

void ntbs_sig_fork_child(void)
{
	ntbs_sig.depth = 0;
	if (ntbs_sig.kept)
		ntbs_sig_deliver();
}

/*
 * SA_RESETHAND, which the kernel does on the way to the handler.  It would be too early for a signal that we keep.  False: a
 * signal in another thread was first, and this one finds the default.
 */
static bool reset(int sig, unsigned slot, uint64_t w)
{
	struct kernel_action act;

	if (!(w & ~W_FLAGS) || !__atomic_compare_exchange_n(&words[sig][slot], &w, w & W_FLAGS, false, __ATOMIC_ACQ_REL,
							     __ATOMIC_RELAXED))
		return false;
	if (ntbs_sys4(SYS_rt_sigaction, sig, NULL, &act, 8) == 0 && act.handler == (void *)entries[slot]) {
		ntbs_sig_unwrap(sig, &act.handler, &act.flags);
		ntbs_sys4(SYS_rt_sigaction, sig, &act, NULL, 8);
	}
	return true;
}

/*
 * The program has no handler and would die now: it does, of the same signal, at the same instruction.  A fault comes again
 * when we return; what was sent is sent again.
 */
static handler_fn *by_default(int sig, siginfo_t *info, bool fault)
{
	const struct kernel_action dfl = { .handler = SIG_DFL };

	ntbs_sys4(SYS_rt_sigaction, sig, &dfl, NULL, 8);
	if (!fault)
		ntbs_sys4(SYS_rt_tgsigqueueinfo, ntbs_sys0(SYS_getpid), ntbs_sys0(SYS_gettid), sig, info);
	return NULL;
}

/* What the kernel has called us for: the program's handler, or NULL if nothing is to run now. */
static handler_fn *enter(int sig, siginfo_t *info, void *context, unsigned slot)
{
	uint64_t w = __atomic_load_n(&words[sig][slot], __ATOMIC_ACQUIRE);
	bool fault = is_fault(sig, info);

	if (fault && (sig == SIGSEGV || sig == SIGBUS) && ntbs_user_fault(context))
		return NULL;
	if (ntbs_sig.depth && !fault && ntbs_on && keep(sig, info, context))
		return NULL;
	if (!(w & ~W_FLAGS) && !(w & W_RESETHAND))
		return by_default(sig, info, fault);
	if ((w & W_RESETHAND) && !reset(sig, slot, w)) {
		ntbs_sys4(SYS_rt_tgsigqueueinfo, ntbs_sys0(SYS_getpid), ntbs_sys0(SYS_gettid), sig, info);
		return NULL;
	}
	if (!fault) {
		ntbs_sig.ran.all++;
		if (!(w & W_RESTART))
			ntbs_sig.ran.hard++;
		ntbs_sleep_recheck(context);
	}
	return (handler_fn *)(w & ~W_FLAGS);
}

/* A jump, so that the program's handler stands where the kernel would have put it. */
#define ENTRY(n)                                                        \
	static void entry##n(int sig, siginfo_t *info, void *context)   \
	{                                                               \
		handler_fn *h = enter(sig, info, context, n);           \
                                                                        \
		if (h)                                                  \
			h(sig, info, context);                          \
	}
ENTRY(0)
ENTRY(1)
ENTRY(2)
ENTRY(3)
static handler_fn *const entries[SLOTS] = { entry0, entry1, entry2, entry3 };

static int slot_of(const void *handler)
{
	for (int i = 0; i < SLOTS; i++)
		if (handler == (void *)entries[i])
			return i;
	return -1;
}

/* The C library's own (32, 33), which it does not let anybody set, are none of ours either. */
static bool can_wrap(int sig, const void *handler)
{
	if (handler == (void *)SIG_DFL)
		return (sig == SIGSEGV || sig == SIGBUS) && __atomic_load_n(&catching, __ATOMIC_RELAXED);
	return sig >= 1 && sig <= NR_SIGS && (sig < 32 || sig >= SIGRTMIN) && sig != SIGKILL && sig != SIGSTOP &&
	       (uintptr_t)handler > (uintptr_t)SIG_HOLD && !((uintptr_t)handler & W_FLAGS) && slot_of(handler) < 0;
}

void ntbs_sig_wrap(int sig, void **handler, unsigned long *flags)
{
	uint64_t w = (uintptr_t)*handler;
	int slot = -1;

	if (!ntbs_on || !can_wrap(sig, *handler))
		return;
	w |= (*flags & SA_SIGINFO ? W_SIGINFO : 0) | (w && (*flags & SA_RESETHAND) ? W_RESETHAND : 0) |
	     (*flags & SA_RESTART ? W_RESTART : 0);
	for (int i = 0; i < SLOTS; i++)
		if (__atomic_load_n(&words[sig][i], __ATOMIC_RELAXED) == w)
			slot = i;
	if (slot < 0) {
		slot = __atomic_fetch_add(&next_slot[sig], 1, __ATOMIC_RELAXED) % SLOTS;
		__atomic_store_n(&words[sig][slot], w, __ATOMIC_RELEASE);
	}
	*handler = (void *)entries[slot];
	*flags = (*flags | SA_SIGINFO) & ~(unsigned long)SA_RESETHAND;
}

void ntbs_sig_unwrap(int sig, void **handler, unsigned long *flags)
{
	int slot = slot_of(*handler);
	uint64_t w;

	if (slot < 0 || sig < 1 || sig > NR_SIGS)
		return;
	w = __atomic_load_n(&words[sig][slot], __ATOMIC_ACQUIRE);
	*handler = (void *)(uintptr_t)(w & ~W_FLAGS);
	*flags &= ~(unsigned long)(SA_SIGINFO | SA_RESETHAND);
	*flags |= (w & W_SIGINFO ? SA_SIGINFO : 0) | (w & W_RESETHAND ? (unsigned long)SA_RESETHAND : 0);
}

#ifdef NTBS_USER_GUARDED
void ntbs_sig_catch_faults(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS };
	struct sigaction act;

	if (__atomic_load_n(&catching, __ATOMIC_RELAXED) || __atomic_exchange_n(&catching, true, __ATOMIC_RELAXED))
		return;
	/* set what is set: a default becomes ours on the way */
	for (unsigned i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		if (!sigaction(sigs[i], NULL, &act) && act.sa_handler == SIG_DFL)
			sigaction(sigs[i], &act, NULL);
}

bool ntbs_sig_catches(void)
{
	return __atomic_load_n(&catching, __ATOMIC_RELAXED);
}
#else
void ntbs_sig_catch_faults(void)
{
}

bool ntbs_sig_catches(void)
{
	return true;
}
#endif

void ntbs_sig_leave(void)
{
	struct kernel_action act;

	for (int sig = 1; sig <= NR_SIGS; sig++) {
		if (ntbs_sys4(SYS_rt_sigaction, sig, NULL, &act, 8) < 0 || slot_of(act.handler) < 0)
			continue;
		ntbs_sig_unwrap(sig, &act.handler, &act.flags);
		ntbs_sys4(SYS_rt_sigaction, sig, &act, NULL, 8);
	}
}
