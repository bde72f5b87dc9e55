// SPDX-License-Identifier: BSD-2-Clause
/* wait.c - see wait.h */
#include "wait.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

#include "barrier.h"
#include "fdtab.h"
#include "runtime.h"
#include "sys.h"

#define SLICE_NS 1000000		/* how often who could get no descriptor looks for himself */
#define WAITERS_KEPT 8

uint64_t ntbs_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

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
