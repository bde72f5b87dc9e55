// SPDX-License-Identifier: BSD-2-Clause
/* sleep.c - see sleep.h */
#include "sleep.h"

#include <errno.h>
#include <string.h>
#include <ucontext.h>

#include "sys.h"

#if defined(__x86_64__)
/*
 * ntbs_sleep_enter(nr, a, b, c, d, e, f, count, seen): the system call, unless *count != seen.
 *
 * From the label check to the system call instruction, itself included, the thread may be sent back to check: everything
 * that it needs there is on the stack or is an argument of the system call, which the kernel keeps.  A call that the kernel
 * restarts after a handler (SA_RESTART) passes here too, before the handler.
 */
long ntbs_sleep_enter(long nr, long a, long b, long c, long d, long e, long f, const uint32_t *count, uint32_t seen);
extern const char ntbs_sleep_check[], ntbs_sleep_syscall[];
__asm__(".text\n"
	".p2align 4\n"
	".globl ntbs_sleep_enter, ntbs_sleep_check, ntbs_sleep_syscall\n"
	".hidden ntbs_sleep_enter, ntbs_sleep_check, ntbs_sleep_syscall\n"
	".type ntbs_sleep_enter, @function\n"
	"ntbs_sleep_enter:\n"
	"	.cfi_startproc\n"
	"	mov	%rdi, %rax\n"
	"	mov	%rsi, %rdi\n"
	"	mov	%rdx, %rsi\n"
	"	mov	%rcx, %rdx\n"
	"	mov	%r8, %r10\n"
	"	mov	%r9, %r8\n"
	"	mov	8(%rsp), %r9\n"
	"ntbs_sleep_check:\n"
	"	mov	16(%rsp), %r11\n"
	"	mov	24(%rsp), %ecx\n"
	"	cmp	%ecx, (%r11)\n"
	"	jne	1f\n"
	"ntbs_sleep_syscall:\n"
	"	syscall\n"
	"	ret\n"
	"1:	mov	$-4, %rax\n"		/* -EINTR */
	"	ret\n"
	"	.cfi_endproc\n"
	".size ntbs_sleep_enter, . - ntbs_sleep_enter\n");
_Static_assert(EINTR == 4, "in the instructions above");

void ntbs_sleep_recheck(void *context)
{
	greg_t *pc = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

	if (*pc >= (greg_t)ntbs_sleep_check && *pc <= (greg_t)ntbs_sleep_syscall)
		*pc = (greg_t)ntbs_sleep_check;
}
#else
/* A few instructions are left in which a handler is not heard of before the call returns for another reason. */
static long ntbs_sleep_enter(long nr, long a, long b, long c, long d, long e, long f, const uint32_t *count, uint32_t seen)
{
	return __atomic_load_n(count, __ATOMIC_RELAXED) != seen ? -EINTR : ntbs_sys6(nr, a, b, c, d, e, f);
}

void ntbs_sleep_recheck(void *context)
{
}
#endif

bool ntbs_cancels;

static void restore_type(void *type)
{
	pthread_setcanceltype(*(int *)type, NULL);
}

long ntbs_sleep(const struct ntbs_sig_mark *mark, long nr, long a, long b, long c, long d, long e, long f)
{
	int type = PTHREAD_CANCEL_DEFERRED;
	struct ntbs_undo undo;
	long ret;

	/* Asynchronous for the length of the call, as glibc does it; no section here, as nobody is cancelled in one.  What is
	 * to be undone is there before it is done, and its undoing twice does no harm. */
	ntbs_undo_push(&undo, restore_type, &type);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	ret = ntbs_sleep_enter(nr, a, b, c, d, e, f, &ntbs_sig.ran.all, mark->all);
	pthread_setcanceltype(type, NULL);
	ntbs_undo_pop(&undo);
	return ret;
}

void ntbs_mask_begin(struct ntbs_masked *m, const sigset_t *mask)
{
	const uint64_t never = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1);
	const uint64_t ours = 1ull << (SIGSEGV - 1) | 1ull << (SIGBUS - 1);	/* of a copy to memory that is not there */
	uint64_t during = 0;

	m->own = 0;
	if (mask) {
		memcpy(&during, mask, sizeof(during));
		during &= ~(never | ours);
		ntbs_sys4(SYS_rt_sigprocmask, SIG_BLOCK, &during, &m->own, 8);
	}
	m->held = during & ~m->own;
}

void ntbs_mask_end(const struct ntbs_masked *m)
{
	if (m->held)
		ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &m->own, NULL, 8);
}
