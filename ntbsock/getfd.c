// SPDX-License-Identifier: BSD-2-Clause
/*
 * getfd.c - see getfd.h
 *
 * The process that has the socket does what it does before it sends it by SCM_RIGHTS, which takes the answer of the other side.
 * That may be its own service thread, so the handover runs in a thread of its own.
 */
#include "getfd.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "fdtab.h"
#include "handover.h"
#include "log.h"
#include "runtime.h"
#include "service.h"
#include "shadow.h"
#include "sleep.h"
#include "stats.h"
#include "sys.h"
#include "wait.h"

#define WAIT_NS 2000000000ull		/* for a process that is stopped, no longer */
#define AT_ONCE 8

/*
 * What is under way here.  A child of fork() has the descriptors and not the thread: they come and go under the runtime's lock,
 * so that what it finds is whole.
 */
static struct taken {
	bool busy;
	uint64_t cookie;
	int done;		/* the pipe */
	int fd;			/* the socket, under a number that the program does not close; -1 */
} taken[AT_ONCE];
static _Atomic int nr_busy;

static int option(int fd, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

/* ------------------------------------------------------------- the taker */

static void close_end(void *end)
{
	ntbs_sys1(SYS_close, *(int *)end);
}

/* Who makes connections goes on without a broker that is too busy to greet him; here bytes would be missed. */
static bool ready(uint64_t until)
{
	static const struct timespec pause = { 0, 50000000 };
	bool up;

	while (!(up = ntbs_runtime_ready()) && ntbs_rt.silent && ntbs_now_ns() < until)
		ntbs_sys2(SYS_nanosleep, &pause, NULL);
	return up;
}

/* Until all writers have closed.  As no signal ends pidfd_getfd(), none ends this. */
static void wait_for_end(int end, uint64_t until)
{
	uint64_t now = ntbs_now_ns();
	struct pollfd pfd = { .fd = end };
	long n = -EINTR;

	for (; n == -EINTR && now < until; now = ntbs_now_ns()) {
		struct timespec left = { (until - now) / 1000000000, (until - now) % 1000000000 };

		n = ntbs_sys5(SYS_ppoll, &pfd, 1, &left, NULL, 0);
	}
	if (n <= 0)
		ntbs_stats_timer_ran_out();
}

void ntbs_getfd_took(int pidfd, int fd)
{
	struct ntbs_msg_take msg = { .h = { NTBS_MSG_TAKE, sizeof(msg), 0 } };
	uint64_t until = ntbs_now_ns() + WAIT_NS;
	struct ntbs_undo undo;
	int pipe[2], give[2];
	bool told;

	if (option(fd, SO_PROTOCOL) != IPPROTO_TCP || option(fd, SO_ACCEPTCONN) || !ready(until))
		return;
	msg.cookie = ntbs_shadow_cookie(fd);
	ntbs_section_enter();
	if (ntbs_sys2(SYS_pipe2, pipe, O_CLOEXEC) < 0) {
		ntbs_section_leave();
		return;
	}
	give[0] = pidfd;
	give[1] = pipe[1];
	told = ntbs_broker_send(&msg, sizeof(msg), give, 2);
	ntbs_sys1(SYS_close, pipe[1]);
	ntbs_undo_push(&undo, close_end, &pipe[0]);
	ntbs_section_leave();
	if (told)
		wait_for_end(pipe[0], until);
	ntbs_undo_pop(&undo);
}

/* ------------------------------------------------------- who has had it */

/* Its socket under another number: the program may close its own while the other side is waited for. */
static bool is_it(struct ntbs_sock *sk, struct taken *t)
{
	bool is;

	ntbs_sock_lock_tx(sk);	/* a descriptor that goes is not @fd any more, under it */
	is = sk->file.fds > 0 && ntbs_shadow_cookie(sk->fd) == t->cookie;
	if (is) {
		if (ntbs_sock_stage(sk) == NTBS_LIVE)
			ntbs_service_watch(sk, sk->fd);		/* not by the other number, which goes */
		ntbs_lock(&ntbs_rt.lock);
		t->fd = ntbs_sys3(SYS_fcntl, sk->fd, F_DUPFD_CLOEXEC, 0);
		if (t->fd >= 0)
			t->fd = ntbs_fd_hide(t->fd);
		ntbs_unlock(&ntbs_rt.lock);
	}
	ntbs_unlock(&sk->shm->tx.lock);
	return is && t->fd >= 0;
}

static void hand_over(struct ntbs_sock *sk, void *arg)
{
	struct taken *t = arg;

	if (!ntbs_sock_try_get(sk))
		return;
	if (is_it(sk, t)) {
		ntbs_handover_taken(sk, t->fd);
		ntbs_lock(&ntbs_rt.lock);
		ntbs_fd_unhide_close(t->fd);
		t->fd = -1;
		ntbs_unlock(&ntbs_rt.lock);
	}
	ntbs_sock_put(sk);
}

static void *run(void *arg)
{
	struct taken *t = arg;

	ntbs_sock_for_each(hand_over, t);
	ntbs_lock(&ntbs_rt.lock);
	ntbs_fd_unhide_close(t->done);
	t->busy = false;
	ntbs_unlock(&ntbs_rt.lock);
	atomic_fetch_sub(&nr_busy, 1);
	return NULL;
}

void ntbs_getfd_taken(uint64_t cookie, int done)
{
	struct taken *t = taken;

	while (t < taken + AT_ONCE && t->busy)
		t++;
	if (t < taken + AT_ONCE) {
		*t = (struct taken){ .busy = true, .cookie = cookie, .done = ntbs_fd_hide(done), .fd = -1 };
		atomic_fetch_add(&nr_busy, 1);
		if (ntbs_service_thread(run, t))
			return;
		atomic_fetch_sub(&nr_busy, 1);
		t->busy = false;
		done = t->done;
	}
	ntbs_fd_unhide_close(done);
	ntbs_log(NTBS_LOG_ERR, "a socket that another process has taken is not moved to TCP: no thread can be had for it");
}

void ntbs_getfd_wait(void)
{
	while (atomic_load(&nr_busy))
		ntbs_sys0(SYS_sched_yield);
}

void ntbs_getfd_fork_child(void)
{
	atomic_store(&nr_busy, 0);
	for (int i = 0; i < AT_ONCE; i++) {
		if (!taken[i].busy)
			continue;
		ntbs_fd_unhide_close(taken[i].done);
		ntbs_fd_unhide_close(taken[i].fd);
		taken[i].busy = false;
	}
}
