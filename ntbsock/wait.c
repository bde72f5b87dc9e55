// SPDX-License-Identifier: BSD-2-Clause
/* wait.c - see wait.h */
#include "wait.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/rseq.h>
#include <time.h>

#include "barrier.h"
#include "conf.h"
#include "fdtab.h"
#include "runtime.h"
#include "sys.h"

#define OFF_CPU_NS 100000		/* a gap this long between two looks: we were scheduled out */
#define SLICE_NS 1000000		/* how often who could get no descriptor looks for himself */
#define SPIN_OFF_WAITS 64		/* waits without spinning after that */
#define WAITERS_KEPT 8

static uint64_t tsc0, ns0;
static uint64_t tsc_per_us;		/* 0: not known yet */

/* Learnt per thread. */
static __thread uint32_t misses, skip;

uint64_t ntbs_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

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

void ntbs_wait_init(void)
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

bool ntbs_spin_begin(struct ntbs_spin *s, struct ntbs_sock *sk)
{
	int cpu = ntbs_cpu();

	if (sk) {
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
	return s->budget != 0;
}

bool ntbs_spin_more(struct ntbs_spin *s)
{
	uint64_t now = ticks(), gap = now - s->last;

	s->last = now;
	if (gap > OFF_CPU_NS / 1000 * per_us()) {
		s->cut = true;
		return false;
	}
	return now - s->start < s->budget;
}

void ntbs_spin_end(struct ntbs_spin *s, bool found)
{
	if (s->cut)
		skip = SPIN_OFF_WAITS;
	else if (found)
		misses = 0;
	else
		misses++;
}

/* ---------------------------------------------------------------- waiters */

static struct ntbs_lock waiter_lock;
static int kept[WAITERS_KEPT];
static int nr_kept;

int ntbs_waiter_get(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	long fd = -1;

	ntbs_lock(&waiter_lock);
	if (nr_kept)
		fd = kept[--nr_kept];
	ntbs_unlock(&waiter_lock);
	if (fd >= 0 || ntbs_rt.mbox[ntbs_rt.mbox_self] < 0)
		return fd;
	fd = ntbs_sys1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (fd < 0)
		return -1;
	fd = ntbs_fd_hide(fd);
	if (fd < 0)
		return -1;
	if (ntbs_sys4(SYS_epoll_ctl, fd, EPOLL_CTL_ADD, ntbs_rt.mbox[ntbs_rt.mbox_self], &ev) < 0) {
		ntbs_fd_unhide_close(fd);
		return -1;
	}
	return fd;
}

void ntbs_waiter_put(int waiter)
{
	struct epoll_event ev;

	if (waiter < 0)
		return;
	ntbs_sys6(SYS_epoll_pwait, waiter, (long)&ev, 1, 0, 0, 8);	/* use the edge up */
	ntbs_lock(&waiter_lock);
	if (nr_kept < WAITERS_KEPT) {
		kept[nr_kept++] = waiter;
		waiter = -1;
	}
	ntbs_unlock(&waiter_lock);
	if (waiter >= 0)
		ntbs_fd_unhide_close(waiter);
}

void ntbs_wait_fork_child(void)
{
	ntbs_lock_reset(&waiter_lock);
	while (nr_kept)			/* epoll instances of the parent: an edge goes to one of us only */
		ntbs_fd_unhide_close(kept[--nr_kept]);
	misses = skip = 0;
}

long ntbs_sleep_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	int type;
	long ret;

	/* asynchronous for the length of the call, as glibc does it */
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	ret = ntbs_sys6(nr, a, b, c, d, e, f);
	pthread_setcanceltype(type, NULL);
	return ret;
}

static void put_waiter(void *arg)
{
	ntbs_waiter_put(*(int *)arg);
}

int ntbs_wait_shadow(int fd, short events, uint64_t deadline_ns)
{
	int waiter = ntbs_waiter_get();
	struct pollfd pfd[2] = { { fd, events, 0 }, { waiter, POLLIN, 0 } };
	struct timespec ts, *tsp = NULL;
	uint64_t now = 0, wait = 0;
	long ret;

	if (deadline_ns || waiter < 0) {
		now = ntbs_now_ns();
		wait = !deadline_ns ? SLICE_NS : deadline_ns > now ? deadline_ns - now : 0;
		if (waiter < 0 && wait > SLICE_NS)
			wait = SLICE_NS;
		ts = (struct timespec){ wait / 1000000000, wait % 1000000000 };
		tsp = &ts;
	}
	pthread_cleanup_push(put_waiter, &waiter);
	ret = ntbs_sleep_sys6(SYS_ppoll, (long)pfd, 2, (long)tsp, 0, 0, 0);
	pthread_cleanup_pop(1);
	if (ret < 0)
		return ret == -EINTR ? -EINTR : 0;
	return !ret && deadline_ns && now + wait >= deadline_ns ? -ETIMEDOUT : 0;
}

/* Sent by the CPU to who runs: no reason for a sleeper to wake up.  Their handlers (of runtimes, of sanitizers) are as a rule
 * without SA_RESTART. */
static bool is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP || sig == SIGSYS;
}

bool ntbs_wait_restarts(void)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} act;

	for (int sig = 1; sig <= 64; sig++) {
		if (is_fault(sig) || ntbs_sys4(SYS_rt_sigaction, sig, NULL, &act, 8) < 0)
			continue;
		if (act.handler != SIG_DFL && act.handler != SIG_IGN && !(act.flags & SA_RESTART))
			return false;
	}
	return true;
}
