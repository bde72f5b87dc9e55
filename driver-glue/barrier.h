/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * barrier.h - one name for each ordering need, so that a reader sees what is paired with what
 *
 * x86 and arm64 through the C11 model; only the write-combining flush needs an instruction of its own.
 */
#ifndef NTBSOCK_BARRIER_H
#define NTBSOCK_BARRIER_H

#include <stdint.h>

/* A1: after a stamp from the peer, before what it covers. */
static inline void ntbs_from_peer_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
}

/* Store mine, then look at yours (and the mirror image on the other side). */
static inline void ntbs_full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Behind an atomic exchange: on x86 that is a full barrier itself (Intel SDM 3A, 8.2.3.9); elsewhere a later load may pass its store. */
static inline void ntbs_exchanged_barrier(void)
{
#if !defined(__x86_64__)
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Earlier non-temporal or write-combined stores before later stores (Intel SDM 3A, 8.2.5: SFENCE). */
static inline void ntbs_store_flush(void)
{
#if defined(__x86_64__)
	__asm__ __volatile__("sfence" ::: "memory");
#elif defined(__aarch64__)
	__asm__ __volatile__("dmb oshst" ::: "memory");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Ask for a line that will be stored to.  PREFETCHW is what every 64-bit x86 CPU has, if only as a NOP; the compiler
 * would make a read of it. */
static inline void ntbs_prefetch_store(const void *line)
{
#if defined(__x86_64__)
	__asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)line));
#else
	__builtin_prefetch(line, 1);
#endif
}

/*
 * A word that is written under a lock and looked at without it, or a count for people to see: whole, and nothing is
 * ordered by it.
 */
#define ntbs_read_once(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define ntbs_write_once(x, value) __atomic_store_n(&(x), (value), __ATOMIC_RELAXED)
/* No locked instruction: right if one writes at a time; else a count may be lost, never torn. */
#define ntbs_bump(x, n) ntbs_write_once(x, ntbs_read_once(x) + (n))

static inline void ntbs_spin_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield" ::: "memory");
#endif
}

#endif
