// SPDX-License-Identifier: BSD-2-Clause
/* user.c - see user.h */
#include "user.h"

#include <stdint.h>
#include <ucontext.h>

#ifdef NTBS_USER_GUARDED

/* Where ntbs_user_guarded() has left what it needs to come back; NULL outside of it.  The assembler below is no user to LTO. */
__attribute__((used, externally_visible)) __thread char *ntbs_user_stack;
#define STACK_MAX 4096			/* more than anything needs that is called by it */

extern const char ntbs_user_back[];
__asm__(".text\n"
	".p2align 4\n"
	".globl ntbs_user_guarded, ntbs_user_back\n"
	".hidden ntbs_user_guarded, ntbs_user_back\n"
	".type ntbs_user_guarded, @function\n"
	"ntbs_user_guarded:\n"
	"	.cfi_startproc\n"
	"	push	%rbp\n	.cfi_adjust_cfa_offset 8\n	.cfi_rel_offset %rbp, 0\n"
	"	push	%rbx\n	.cfi_adjust_cfa_offset 8\n	.cfi_rel_offset %rbx, 0\n"
	"	push	%r12\n	.cfi_adjust_cfa_offset 8\n	.cfi_rel_offset %r12, 0\n"
	"	push	%r13\n	.cfi_adjust_cfa_offset 8\n	.cfi_rel_offset %r13, 0\n"
	"	push	%r14\n	.cfi_adjust_cfa_offset 8\n	.cfi_rel_offset %r14, 0\n"
	"	push	%r15\n	.cfi_adjust_cfa_offset 8\n	.cfi_rel_offset %r15, 0\n"
	"	sub	$8, %rsp\n	.cfi_adjust_cfa_offset 8\n"
	"	mov	ntbs_user_stack@gottpoff(%rip), %r11\n"
	"	mov	%rsp, %fs:(%r11)\n"
	"	mov	%rdi, %rax\n"
	"	mov	%rsi, %rdi\n"
	"	mov	%rdx, %rsi\n"
	"	mov	%rcx, %rdx\n"
	"	mov	%r8, %rcx\n"
	"	call	*%rax\n"
	"	xor	%eax, %eax\n"
	"1:	mov	ntbs_user_stack@gottpoff(%rip), %r11\n"
	"	movq	$0, %fs:(%r11)\n"
	"	.cfi_remember_state\n"
	"	add	$8, %rsp\n	.cfi_adjust_cfa_offset -8\n"
	"	pop	%r15\n	.cfi_adjust_cfa_offset -8\n	.cfi_restore %r15\n"
	"	pop	%r14\n	.cfi_adjust_cfa_offset -8\n	.cfi_restore %r14\n"
	"	pop	%r13\n	.cfi_adjust_cfa_offset -8\n	.cfi_restore %r13\n"
	"	pop	%r12\n	.cfi_adjust_cfa_offset -8\n	.cfi_restore %r12\n"
	"	pop	%rbx\n	.cfi_adjust_cfa_offset -8\n	.cfi_restore %rbx\n"
	"	pop	%rbp\n	.cfi_adjust_cfa_offset -8\n	.cfi_restore %rbp\n"
	"	ret\n"
	"	.cfi_restore_state\n"
	"ntbs_user_back:\n"			/* from ntbs_user_fault(), with the stack as it was before the call */
	"	mov	$-14, %eax\n"		/* -EFAULT */
	"	jmp	1b\n"
	"	.cfi_endproc\n"
	".size ntbs_user_guarded, . - ntbs_user_guarded\n");
_Static_assert(EFAULT == 14, "in the instructions above");

/* Both relative to themselves. */
struct fixup {
	int32_t insn, go_on;
};
extern const struct fixup __start_ntbs_fixups[] __attribute__((visibility("hidden")));
extern const struct fixup __stop_ntbs_fixups[] __attribute__((visibility("hidden")));

bool ntbs_user_fault(void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	char *stack = ntbs_user_stack;

	for (const struct fixup *f = __start_ntbs_fixups; f < __stop_ntbs_fixups; f++) {
		if (regs[REG_RIP] != (greg_t)&f->insn + f->insn)
			continue;
		regs[REG_RIP] = (greg_t)&f->go_on + f->go_on;
		return true;
	}
	if (!stack || (size_t)stack - regs[REG_RSP] > STACK_MAX)
		return false;
	regs[REG_RSP] = (greg_t)stack;
	regs[REG_RIP] = (greg_t)ntbs_user_back;
	return true;
}

bool ntbs_user_readable(const void *p, size_t n)
{
	const char *at = p, *last = at + n - 1;
	char c;

	if (!n)
		return true;
	for (; at < last; at = (const char *)(((uintptr_t)at | 4095) + 1))
		NTBS_MOVE1(&c, at);
	NTBS_MOVE1(&c, last);
	return true;
fault:
	return false;
}

bool ntbs_user_writable(void *p, size_t n)
{
	char *at = p, *last = at + n - 1;

	if (!n)
		return true;
	for (; at < last; at = (char *)(((uintptr_t)at | 4095) + 1))
		NTBS_MOVE1(at, at);
	NTBS_MOVE1(last, last);
	return true;
fault:
	return false;
}

#else

bool ntbs_user_writable(void *p, size_t n)
{
	return true;
}

bool ntbs_user_fault(void *context)
{
	return false;
}

bool ntbs_user_readable(const void *p, size_t n)
{
	return true;
}

#endif
