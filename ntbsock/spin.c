// SPDX-License-Identifier: BSD-2-Clause
/* spin.c - see spin.h */
#include "spin.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/rseq.h>

#include "barrier.h"
#include "conf.h"
#include "fdtab.h"
#include "lock.h"
#include "sys.h"
#include "wait.h"

#define OFF_CPU_US 100		/* a gap this long between two looks: we were scheduled out */
#define CUT_WAITS 4u		/* waits without spinning after that; twice as many each time, */
#define CUTS_MAX 4u		/* up to 4 times doubled */
#define CUT_FORGIVEN 64u	/* spins that found something and halve it */
#define CROWD_LOOK_US 2000	/* how often a thread asks how long it has waited for a CPU */
#define CROWD_SHARE 8u		/* more than an eighth of the time: others want it */
#define CROWD_FILES 16		/* threads of a process that ask; the others go by gaps alone */

static uint64_t tsc0, ns0;
static uint64_t tsc_per_us;		/* 0: not known yet */

static struct ntbs_lock files_lock;
static int files[CROWD_FILES];		/* /proc/thread-self/schedstat of some threads, + 1 */

/* Learnt per thread. */
static __thread uint32_t misses, skip, cuts, good;
static __thread struct {
	uint64_t at;			/* last look, time stamp counter; 0: none yet */
	uint64_t waited_ns;		/* for a CPU, until then */
	int file;			/* 0: not opened yet, -1: cannot be had */
	bool crowded;
} crowd;

static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return ntbs_now_ns();
#endif
}

int ntbs_cpu(void)
{
#ifdef RSEQ_SIG
	if (__rseq_size) {
		const struct rseq *r = (const struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
		int cpu = *(const volatile int32_t *)&r->cpu_id;

		if (cpu >= 0)
			return cpu;
	}
#endif
	return sched_getcpu();
}

void ntbs_spin_init(void)
{
	tsc0 = ticks();
	ns0 = ntbs_now_ns();
}

static uint64_t per_us(void)
{
	uint64_t ns, v;

	v = ntbs_read_once(tsc_per_us);
	if (__builtin_expect(v != 0, 1))
		return v;
	ns = ntbs_now_ns() - ns0;
	while (ns < 20000)		/* a process that waits in its first 20 us */
		ns = ntbs_now_ns() - ns0;
	v = (ticks() - tsc0) * 1000 / ns;
	if (!v)
		v = 1;
	if (ns > 1000000)
		ntbs_write_once(tsc_per_us, v);		/* good to a per mille by now */
	return v;
}

/* ------------------------------------------------------------------ crowd */

/* Takes what a thread that has ended left, if there is no room: its file cannot be read any more.  0: not now. */
static int open_file(void)
{
	char c;
	int fd = -1, i;

	if (!ntbs_trylock(&files_lock))		/* held by another thread, or by what this handler has interrupted */
		return 0;
	for (i = 0; i < CROWD_FILES; i++)
		if (!files[i])
			break;
	for (int k = 0; i == CROWD_FILES && k < CROWD_FILES; k++) {
		if (ntbs_sys4(SYS_pread64, files[k] - 1, &c, 1, 0) > 0)
			continue;
		ntbs_fd_unhide_close(files[k] - 1);
		files[k] = 0;
		i = k;
	}
	if (i < CROWD_FILES) {
		ntbs_fd_low_begin();
		fd = ntbs_sys4(SYS_openat, AT_FDCWD, "/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC, 0);
		if (fd >= 0)
			fd = ntbs_fd_hide(fd);
		ntbs_fd_low_end();
		files[i] = fd >= 0 ? fd + 1 : 0;
	}
	ntbs_unlock(&files_lock);
	return fd >= 0 ? fd : -1;
}

/* Nanoseconds that this thread was ready to run and did not; 0 if nobody says so. */
static uint64_t waited_ns(void)
{
	char text[64];
	uint64_t v = 0;
	long n, i = 0;

	if (!crowd.file)
		crowd.file = open_file();
	if (crowd.file <= 0)
		return 0;
	n = ntbs_sys4(SYS_pread64, crowd.file, text, sizeof(text), 0);
	while (i < n && text[i] != ' ')		/* time on a CPU, time waited for one, time slices */
		i++;
	for (i++; i < n && text[i] >= '0' && text[i] <= '9'; i++)
		v = v * 10 + (text[i] - '0');
	return v;
}

static bool is_crowded(uint64_t now)
{
	uint64_t us = (now - crowd.at) / per_us(), ns;
	bool first = crowd.file <= 0;

	if (us < CROWD_LOOK_US)
		return crowd.crowded;
	if (!crowd.at) {		/* no file for a thread that hardly waits */
		crowd.at = now;
		return false;
	}
	ns = waited_ns();
	crowd.crowded = !first && (ns - crowd.waited_ns) * CROWD_SHARE > us * 1000;
	crowd.waited_ns = ns;
	crowd.at = now;
	return crowd.crowded;
}

/* ------------------------------------------------------------------- spin */

bool ntbs_spin_begin(struct ntbs_spin *s, struct ntbs_sock *sk)
{
	int cpu = ntbs_cpu();

	if (sk && !ntbs_sock_far(sk)) {
		uint32_t theirs = ntbs_le32_read(&sk->q.in->cpu);

		if (ntbs_le32_read(&sk->q.out->cpu) != (uint32_t)cpu + 1)
			ntbs_le32_write(&sk->q.out->cpu, cpu + 1);
		if (theirs == (uint32_t)cpu + 1)
			return false;
	}
	if (skip) {
		skip--;
		return false;
	}
	if (misses >= 6 && (misses++ & 63))
		return false;
	s->cut = false;
	s->budget = ((uint64_t)ntbs_conf.poll_us * per_us()) >> (misses < 6 ? misses : 0);
	s->start = s->last = ticks();
	return s->budget && !is_crowded(s->start);
}

bool ntbs_spin_more(struct ntbs_spin *s)
{
	uint64_t now = ticks(), gap = now - s->last;

	s->last = now;
	if (gap > OFF_CPU_US * per_us()) {
		s->cut = true;
		return false;
	}
	return now - s->start < s->budget;
}

void ntbs_spin_end(struct ntbs_spin *s, bool found)
{
	if (s->cut) {
		skip = CUT_WAITS << cuts;
		cuts += cuts < CUTS_MAX;
		good = 0;
	} else if (found) {
		misses = 0;
		if (cuts && ++good == CUT_FORGIVEN) {
			good = 0;
			cuts--;
		}
	} else {
		misses++;
	}
}

/* The files tell of the parent's threads. */
void ntbs_spin_fork_child(void)
{
	ntbs_lock_reset(&files_lock);
	for (int i = 0; i < CROWD_FILES; i++) {
		if (files[i])
			ntbs_fd_unhide_close(files[i] - 1);
		files[i] = 0;
	}
	misses = skip = cuts = good = 0;
	memset(&crowd, 0, sizeof(crowd));
}
