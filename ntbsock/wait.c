// SPDX-License-Identifier: BSD-2-Clause
/* wait.c - see wait.h */
#include "wait.h"

#include <errno.h>
#include <poll.h>
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
static struct {
	int fd;
	const void *by;			/* the thread that has used its edge up: its ntbs_sig */
} kept[WAITERS_KEPT];
static int nr_kept;

/* The caller's own if there is one.  @others: its edge was used up by another thread, perhaps one that the caller has not seen. */
static int get(bool *others)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	long fd = -1;

	*others = false;
	ntbs_lock(&waiter_lock);
	if (nr_kept) {
		int i = nr_kept - 1;

		while (i && kept[i].by != &ntbs_sig)
			i--;
		fd = kept[i].fd;
		*others = kept[i].by != &ntbs_sig;
		kept[i] = kept[--nr_kept];
	}
	ntbs_unlock(&waiter_lock);
	if (fd >= 0 || ntbs_rt.mbox[ntbs_rt.mbox_self] < 0)
		return fd;
	ntbs_fd_low_begin();
	fd = ntbs_sys1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (fd >= 0)
		fd = ntbs_fd_hide(fd);
	ntbs_fd_low_end();
	if (fd < 0)
		return -1;
	if (ntbs_sys4(SYS_epoll_ctl, fd, EPOLL_CTL_ADD, ntbs_rt.mbox[ntbs_rt.mbox_self], &ev) < 0) {
		ntbs_fd_unhide_close(fd);
		return -1;
	}
	return fd;
}

int ntbs_waiter_get(void)
{
	bool others;

	return get(&others);
}

void ntbs_waiter_put(int waiter)
{
	struct epoll_event ev;

	if (waiter < 0)
		return;
	ntbs_sys6(SYS_epoll_pwait, waiter, (long)&ev, 1, 0, 0, 8);	/* use the edge up */
	ntbs_lock(&waiter_lock);
	if (nr_kept < WAITERS_KEPT) {
		kept[nr_kept].fd = waiter;
		kept[nr_kept++].by = &ntbs_sig;
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
		ntbs_fd_unhide_close(kept[--nr_kept].fd);
}

static void put_waiter(void *arg)
{
	ntbs_waiter_put(*(int *)arg);
}

int ntbs_wait_shadow(int fd, short events, const struct ntbs_wait *w)
{
	struct pollfd pfd[2] = { { fd, events, 0 }, { -1, POLLIN, 0 } };
	struct timespec ts, *tsp = NULL;
	uint64_t now = 0, wait = 0;
	struct ntbs_undo undo;
	int waiter = -1;
	bool others;
	long ret;

	ntbs_section_enter();
	ntbs_undo_push(&undo, put_waiter, &waiter);
	pfd[1].fd = waiter = get(&others);
	ntbs_section_leave();
	/* the caller has looked already: what was rung since may be the edge that is used up */
	if (others) {
		ntbs_undo_pop(&undo);
		return 0;
	}
	if (w->pinned && fd >= 0)		/* after that: who closes @fd from now on is heard */
		pfd[0].fd = ntbs_fdtab_follow(w->pinned, fd);
	if (ntbs_wait_ends(w) || waiter < 0) {
		now = ntbs_now_ns();
		wait = !ntbs_wait_ends(w) ? SLICE_NS : w->deadline_ns > now ? w->deadline_ns - now : 0;
		if (waiter < 0 && wait > SLICE_NS)
			wait = SLICE_NS;
		ts = (struct timespec){ wait / 1000000000, wait % 1000000000 };
		tsp = &ts;
	}
	ret = ntbs_sleep(&w->mark, SYS_ppoll, (long)pfd, 2, (long)tsp, 0, 0, 0);
	ntbs_undo_pop(&undo);
	if (ret == -EINTR)
		return ntbs_wait_handled(w);
	return !ret && ntbs_wait_ends(w) && now + wait >= w->deadline_ns ? -ETIMEDOUT : 0;
}
