/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sys.h - system calls of our own: straight into the kernel, -errno as result
 *
 * No interposed name, no errno, no cancellation point: what the library does for itself is invisible to the
 * program.
 */
#ifndef NTBSOCK_SYS_H
#define NTBSOCK_SYS_H

#include <sys/syscall.h>

static inline long ntbs_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ __volatile__("syscall"
			     : "=a"(ret)
			     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			     : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ __volatile__("svc 0"
			     : "+r"(x0)
			     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			     : "memory");
	return x0;
#else
#error "add the system call instruction of this CPU"
#endif
}

#define NTBS_ARG(x) ((long)(x))
#define ntbs_sys0(nr) ntbs_sys6(nr, 0, 0, 0, 0, 0, 0)
#define ntbs_sys1(nr, a) ntbs_sys6(nr, NTBS_ARG(a), 0, 0, 0, 0, 0)
#define ntbs_sys2(nr, a, b) ntbs_sys6(nr, NTBS_ARG(a), NTBS_ARG(b), 0, 0, 0, 0)
#define ntbs_sys3(nr, a, b, c) ntbs_sys6(nr, NTBS_ARG(a), NTBS_ARG(b), NTBS_ARG(c), 0, 0, 0)
#define ntbs_sys4(nr, a, b, c, d) ntbs_sys6(nr, NTBS_ARG(a), NTBS_ARG(b), NTBS_ARG(c), NTBS_ARG(d), 0, 0)
#define ntbs_sys5(nr, a, b, c, d, e) \
	ntbs_sys6(nr, NTBS_ARG(a), NTBS_ARG(b), NTBS_ARG(c), NTBS_ARG(d), NTBS_ARG(e), 0)

/* To the thread sanitizer what is mapped at the same place next is other memory, if it sees this. */
#ifdef __SANITIZE_THREAD__
#include <sys/mman.h>
#define ntbs_unmap(p, len) munmap((void *)(p), len)
#else
#define ntbs_unmap(p, len) ntbs_sys2(SYS_munmap, p, len)
#endif

#endif
