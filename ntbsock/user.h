/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * user.h - the program's own buffers: a copy from or to memory that is not there ends with -EFAULT, as in the kernel
 *
 * Up to 64 bytes go by instructions that are listed in a table with the place to go on at if they fault, and cost nothing
 * beside the copy.  More goes through a function that notes where its stack is, and comes back from there.  The signal
 * of the CPU arrives in sig.c, which asks ntbs_user_fault(); the program's handler sees nothing of it.
 *
 * What was copied before the fault stays.  Other CPUs, and builds with sanitizers, whose own checks are wanted there, copy
 * without this.
 */
#ifndef NTBSOCK_USER_H
#define NTBSOCK_USER_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define NTBS_USER_SMALL 64

#if defined(__x86_64__) && !defined(NTBS_SANITIZED)
#define NTBS_USER_GUARDED 1

/* fn(a, b, c, d), which makes no system call and takes no lock.  0, or -EFAULT and it has been left in the middle. */
int ntbs_user_guarded(void *fn, long a, long b, long c, long d);

#define NTBS_USER_MOVE(load, store, reg, type, dst, src, fault)                         \
	__asm__ goto("1:	" load "	%1, %%" reg "\n"                                  \
		     "2:	" store "	%%" reg ", %0\n"                                  \
		     "	.pushsection ntbs_fixups, \"a\"\n"                              \
		     "	.balign	4\n"                                                    \
		     "	.long	1b - ., %l[" #fault "] - .\n"                           \
		     "	.long	2b - ., %l[" #fault "] - .\n"                           \
		     "	.popsection\n"                                                  \
		     : : "m"(*(type *)(dst)), "m"(*(const type *)(src)) : reg, "memory" : fault)

struct ntbs_bytes16 { char b[16]; };
struct ntbs_bytes8 { char b[8]; };
struct ntbs_bytes4 { char b[4]; };
#define NTBS_MOVE16(dst, src) NTBS_USER_MOVE("movdqu", "movdqu", "xmm0", struct ntbs_bytes16, dst, src, fault)
#define NTBS_MOVE8(dst, src) NTBS_USER_MOVE("movq", "movq", "xmm0", struct ntbs_bytes8, dst, src, fault)
#define NTBS_MOVE4(dst, src) NTBS_USER_MOVE("movd", "movd", "xmm0", struct ntbs_bytes4, dst, src, fault)
#define NTBS_MOVE1(dst, src) NTBS_USER_MOVE("movb", "movb", "cl", char, dst, src, fault)

/* Writes a byte over itself. */
static inline __attribute__((always_inline)) int ntbs_user_touch(void *p)
{
	NTBS_MOVE1((char *)p, (char *)p);
	return 0;
fault:
	return -EFAULT;
}

/* Overlapping moves of the widest fitting power of two. */
static inline __attribute__((always_inline)) int ntbs_user_copy_small(void *to, const void *from, size_t n)
{
	const char *src = from;
	char *dst = to;

	if (n >= 16) {
		NTBS_MOVE16(dst, src);
		NTBS_MOVE16(dst + n - 16, src + n - 16);
		if (n > 32) {
			NTBS_MOVE16(dst + 16, src + 16);
			NTBS_MOVE16(dst + n - 32, src + n - 32);
		}
	} else if (n >= 8) {
		NTBS_MOVE8(dst, src);
		NTBS_MOVE8(dst + n - 8, src + n - 8);
	} else if (n >= 4) {
		NTBS_MOVE4(dst, src);
		NTBS_MOVE4(dst + n - 4, src + n - 4);
	} else {
		for (size_t i = 0; i < n; i++)
			NTBS_MOVE1(dst + i, src + i);
	}
	return 0;
fault:
	return -EFAULT;
}

static inline int ntbs_user_copy_large(void *dst, const void *src, size_t n)
{
	return ntbs_user_guarded(memcpy, (long)dst, (long)src, n, 0);
}

#else

static inline int ntbs_user_touch(void *p)
{
	return 0;
}

static inline int ntbs_user_copy_small(void *dst, const void *src, size_t n)
{
	memcpy(dst, src, n);
	return 0;
}

static inline int ntbs_user_copy_large(void *dst, const void *src, size_t n)
{
	memcpy(dst, src, n);
	return 0;
}

#endif

static inline int ntbs_user_copy(void *dst, const void *src, size_t n)
{
	return n <= NTBS_USER_SMALL ? ntbs_user_copy_small(dst, src, n) : ntbs_user_copy_large(dst, src, n);
}

/* Can all of it be read?  For what is then read more than once and has no place to come back to. */
bool ntbs_user_readable(const void *p, size_t n);

/* Can it be written?  A byte of each page is written over itself: of what the call is going to write, that is. */
bool ntbs_user_writable(void *p, size_t n);

/* A fault of the CPU has interrupted @context, a ucontext_t: true if it is one of ours, and @context goes on elsewhere. */
bool ntbs_user_fault(void *context);

#endif
