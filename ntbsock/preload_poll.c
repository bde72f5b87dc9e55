// SPDX-License-Identifier: BSD-2-Clause
/* preload_poll.c - poll, select and epoll families */
#include "preload.h"

#include <string.h>

#include "sock_poll.h"
#include "sys.h"
#include "wait.h"

static const struct timespec *ms_to_ts(int ms, struct timespec *ts)
{
	if (ms < 0)
		return NULL;
	ts->tv_sec = ms / 1000;
	ts->tv_nsec = ms % 1000 * 1000000l;
	return ts;
}

NTBS_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec ts;

	if (ntbs_on && n) {
		const struct ntbs_sig_mark mark = ntbs_sig_mark();
		int ret = ntbs_poll(fds, n, ms_to_ts(timeout, &ts), NULL, &mark);

		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	return LIBC(poll)(fds, n, timeout);
}
NTBS_EXPORT int __poll(struct pollfd *fds, nfds_t n, int timeout) __attribute__((alias("poll")));

static bool ts_ok(const struct timespec *ts)
{
	return !ts || (ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec < 1000000000);
}

NTBS_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
	if (ntbs_on && n && ts_ok(ts)) {
		const struct ntbs_sig_mark mark = ntbs_sig_mark();
		int ret = ntbs_poll(fds, n, ts, mask, &mark);

		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	return LIBC(ppoll)(fds, n, ts, mask);
}

NTBS_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
NTBS_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	return size / sizeof(*fds) < n ? LIBC(__poll_chk)(fds, n, timeout, size) : poll(fds, n, timeout);
}

NTBS_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask, size_t size);
NTBS_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask, size_t size)
{
	return size / sizeof(*fds) < n ? LIBC(__ppoll_chk)(fds, n, ts, mask, size) : ppoll(fds, n, ts, mask);
}

/*
 * select() by way of poll().  The sets may be larger than fd_set (programs allocate their own): they are read as arrays
 * of long, as the kernel does.
 */
#define LONG_BITS (8 * sizeof(long))
#define SELECT_MAX 1024			/* descriptors in one call that are looked at by us; more pass through */

static bool isset(const fd_set *set, int fd)
{
	return set && ((const long *)set)[fd / LONG_BITS] >> (fd % LONG_BITS) & 1;
}

static void mark(fd_set *set, int fd)
{
	((long *)set)[fd / LONG_BITS] |= 1l << (fd % LONG_BITS);
}

static int to_poll(int nfds, const fd_set *r, const fd_set *w, const fd_set *e, struct pollfd *fds)
{
	int n = 0;

	for (int fd = 0; fd < nfds; fd++) {
		short ev = (isset(r, fd) ? POLLIN : 0) | (isset(w, fd) ? POLLOUT : 0) | (isset(e, fd) ? POLLPRI : 0);

		if (!ev)
			continue;
		if (n == SELECT_MAX)
			return -1;
		fds[n++] = (struct pollfd){ fd, ev, 0 };
	}
	return n;
}

/* The sets that select() would put it into, as poll() bits (fs/select.c, POLLIN_SET and so on). */
static short asked(const struct pollfd *p)
{
	short ev = p->revents;

	return (ev & (POLLIN | POLLRDNORM | POLLHUP | POLLERR) ? p->events & POLLIN : 0) |
	       (ev & (POLLOUT | POLLWRNORM | POLLERR) ? p->events & POLLOUT : 0) | (p->events & ev & POLLPRI);
}

/*
 * poll() tells of hang-ups and errors that nobody has asked for, select() waits on: without the member, of which nothing
 * else is to come.  The signal that such an error has raised (SIGIO) ends the wait.
 */
static int poll_asked(struct pollfd *fds, int n, const struct timespec *ts, const sigset_t *mask)
{
	uint64_t sec = ts && ts->tv_sec < INT32_MAX ? ts->tv_sec : INT32_MAX, now;
	uint64_t until = ts ? ntbs_now_ns() + sec * 1000000000 + ts->tv_nsec : 0;
	const struct ntbs_sig_mark mark = ntbs_sig_mark();
	int ret = ntbs_poll(fds, n, ts, mask, &mark);
	struct timespec left;

	while (ret > 0) {
		for (int i = 0; i < n; i++) {
			if (fds[i].fd >= 0 && (asked(&fds[i]) || fds[i].revents & POLLNVAL))
				return ret;
			if (fds[i].fd >= 0 && fds[i].revents)
				fds[i].fd = -1;
		}
		if (ntbs_sig_since(&mark, false))
			return -EINTR;
		now = ts ? ntbs_now_ns() : 0;
		left.tv_sec = until > now ? (until - now) / 1000000000 : 0;
		left.tv_nsec = until > now ? (until - now) % 1000000000 : 0;
		ret = ntbs_poll(fds, n, ts ? &left : NULL, mask, &mark);
		if (ret == -ENTBS_PASS)
			ret = ntbs_sleep(&mark, SYS_ppoll, (long)fds, n, ts ? (long)&left : 0, (long)mask, 8, 0);
	}
	return ret;
}

/* -ENTBS_PASS, -errno, or the count that select() returns */
static int do_select(int nfds, fd_set *r, fd_set *w, fd_set *e, const struct timespec *ts, const sigset_t *mask)
{
	struct pollfd fds[SELECT_MAX];
	size_t bytes;
	int n, ret, count = 0;

	if (nfds <= 0)
		return -ENTBS_PASS;
	n = to_poll(nfds, r, w, e, fds);
	if (n <= 0)
		return -ENTBS_PASS;
	ret = poll_asked(fds, n, ts, mask);
	if (ret < 0)
		return ret;
	for (int i = 0; i < n; i++)
		if (fds[i].fd >= 0 && fds[i].revents & POLLNVAL)
			return -EBADF;
	bytes = (nfds + LONG_BITS - 1) / LONG_BITS * sizeof(long);
	if ((r && !ntbs_user_writable(r, bytes)) || (w && !ntbs_user_writable(w, bytes)) || (e && !ntbs_user_writable(e, bytes)))
		return -EFAULT;
	if (r)
		memset(r, 0, bytes);
	if (w)
		memset(w, 0, bytes);
	if (e)
		memset(e, 0, bytes);
	for (int i = 0; i < n; i++) {
		short ev = fds[i].fd < 0 ? 0 : asked(&fds[i]);

		if (ev & POLLIN)
			mark(r, fds[i].fd), count++;
		if (ev & POLLOUT)
			mark(w, fds[i].fd), count++;
		if (ev & POLLPRI)
			mark(e, fds[i].fd), count++;
	}
	return count;
}

/* Is any member worth the trouble?  Walks words, not descriptors.  Sets that are not there the kernel refuses. */
static bool any_ours(int nfds, const fd_set *r, const fd_set *w, const fd_set *e)
{
	size_t bytes = (nfds + LONG_BITS - 1) / LONG_BITS * sizeof(long);
	const fd_set *set[3] = { r, w, e };

	for (int s = 0; s < 3; s++)
		if (set[s] && !ntbs_user_readable(set[s], bytes))
			return false;
	for (int s = 0; s < 3; s++)
		for (int i = 0; set[s] && i < (nfds + (int)LONG_BITS - 1) / (int)LONG_BITS; i++) {
			unsigned long word = ((const unsigned long *)set[s])[i];

			for (; word; word &= word - 1)
				if (ntbs_fdtab_peek(i * LONG_BITS + __builtin_ctzl(word)))
					return true;
		}
	return false;
}

NTBS_EXPORT int select(int nfds, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
		       struct timeval *restrict tv)
{
	struct timespec ts, begin, end;
	int ret;

	if (!ntbs_on || nfds <= 0 || (tv && (tv->tv_sec < 0 || tv->tv_usec < 0)) || !any_ours(nfds, r, w, e))
		return LIBC(select)(nfds, r, w, e, tv);
	if (tv) {
		ts.tv_sec = tv->tv_sec + tv->tv_usec / 1000000;
		ts.tv_nsec = tv->tv_usec % 1000000 * 1000;
		clock_gettime(CLOCK_MONOTONIC, &begin);
	}
	ret = do_select(nfds, r, w, e, tv ? &ts : NULL, NULL);
	if (ret == -ENTBS_PASS)
		return LIBC(select)(nfds, r, w, e, tv);
	if (tv) {		/* Linux tells what is left */
		int64_t left;

		clock_gettime(CLOCK_MONOTONIC, &end);
		left = (ts.tv_sec - (end.tv_sec - begin.tv_sec)) * 1000000000ll + ts.tv_nsec -
		       (end.tv_nsec - begin.tv_nsec);
		if (left < 0)
			left = 0;
		tv->tv_sec = left / 1000000000;
		tv->tv_usec = left % 1000000000 / 1000;
	}
	return to_libc(ret);
}
NTBS_EXPORT int __select(int nfds, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv)
	__attribute__((alias("select")));

NTBS_EXPORT int pselect(int nfds, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
			const struct timespec *restrict ts, const sigset_t *restrict mask)
{
	int ret;

	if (!ntbs_on || nfds <= 0 || !ts_ok(ts) || !any_ours(nfds, r, w, e))
		return LIBC(pselect)(nfds, r, w, e, ts, mask);
	ret = do_select(nfds, r, w, e, ts, mask);
	return ret == -ENTBS_PASS ? LIBC(pselect)(nfds, r, w, e, ts, mask) : (int)to_libc(ret);
}

/* ------------------------------------------------------------------ epoll */

static int new_set(int fd)
{
	struct ntbs_file *old;
	struct ntbs_ep *ep;
	bool last;

	if (fd < 0 || !ntbs_on || ntbs_fdtab_foreign())
		return fd;
	ep = ntbs_epoll_new(fd);
	if (ep && !ntbs_fdtab_set(fd, &ep->file, &old, &last))
		ntbs_epoll_free(ep);
	return fd;
}

NTBS_EXPORT int epoll_create(int size)
{
	return new_set(LIBC(epoll_create)(size));
}

NTBS_EXPORT int epoll_create1(int flags)
{
	return new_set(LIBC(epoll_create1)(flags));
}

NTBS_EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	struct ntbs_ep *ep = ntbs_epoll_of(epfd);

	if (ep) {
		int ret = ntbs_epoll_ctl(ep, op, fd, ev);

		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	return LIBC(epoll_ctl)(epfd, op, fd, ev);
}

NTBS_EXPORT int epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout)
{
	struct ntbs_ep *ep = ntbs_epoll_of(epfd);
	struct timespec ts;

	if (ep) {
		int ret = ntbs_epoll_wait(ep, ev, max, ms_to_ts(timeout, &ts), NULL);

		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	return LIBC(epoll_wait)(epfd, ev, max, timeout);
}

NTBS_EXPORT int epoll_pwait(int epfd, struct epoll_event *ev, int max, int timeout, const sigset_t *mask)
{
	struct ntbs_ep *ep = ntbs_epoll_of(epfd);
	struct timespec ts;

	if (ep) {
		int ret = ntbs_epoll_wait(ep, ev, max, ms_to_ts(timeout, &ts), mask);

		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	return LIBC(epoll_pwait)(epfd, ev, max, timeout, mask);
}

NTBS_EXPORT int epoll_pwait2(int epfd, struct epoll_event *ev, int max, const struct timespec *ts, const sigset_t *mask)
{
	struct ntbs_ep *ep = ntbs_epoll_of(epfd);

	if (ep && ts_ok(ts)) {
		int ret = ntbs_epoll_wait(ep, ev, max, ts, mask);

		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	return LIBC(epoll_pwait2)(epfd, ev, max, ts, mask);
}
