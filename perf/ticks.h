/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ticks.h - the clock of the benchmarks
 *
 * A message takes less time than two calls of clock_gettime() do on some machines, so that where the CPU has an
 * invariant time stamp counter it is read directly and calibrated against CLOCK_MONOTONIC once.  Elsewhere a
 * tick is a nanosecond of CLOCK_MONOTONIC.  Reads are not serialised: the error is a few nanoseconds at each
 * end and the same for every transport.
 */
#ifndef NTBSOCK_PERF_TICKS_H
#define NTBSOCK_PERF_TICKS_H

#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

struct ticks {
	int tsc;		/* 1: the time stamp counter */
	double per_ns;		/* ticks in a nanosecond */
};

static inline uint64_t ticks_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t ticks_now(const struct ticks *t)
{
#if defined(__x86_64__)
	if (t->tsc)
		return __builtin_ia32_rdtsc();
#endif
	return ticks_clock_ns();
}

static inline double ticks_to_ns(const struct ticks *t, uint64_t ticks)
{
	return (double)ticks / t->per_ns;
}

/* Takes 20 ms where there is a counter to calibrate. */
static inline void ticks_init(struct ticks *t)
{
	t->tsc = 0;
	t->per_ns = 1;
#if defined(__x86_64__)
	unsigned a, b, c, d = 0;
	uint64_t ns0, ns1, tsc0;

	/* Intel SDM 3B, 18.17.1: CPUID.80000007H:EDX[8], the counter runs at one rate in all states */
	if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & 1u << 8))
		return;
	ns0 = ticks_clock_ns();
	tsc0 = __builtin_ia32_rdtsc();
	do
		ns1 = ticks_clock_ns();
	while (ns1 - ns0 < 20000000);
	t->per_ns = (double)(__builtin_ia32_rdtsc() - tsc0) / (double)(ns1 - ns0);
	t->tsc = 1;
#endif
}

#endif
