// SPDX-License-Identifier: BSD-2-Clause
/* preload_poll.c - poll, select and epoll families */
#include "preload.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

#include "sock_poll.h"
#include "sys.h"
#include "user.h"
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

	if (ntbs_on && n && ntbs_fdtab_highest()) {
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

/* Of which the kernel reads its own 8 bytes, before anything else. */
static bool mask_ok(const sigset_t *mask)
{
	return !mask || ntbs_user_readable(mask, 8);
}

NTBS_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
	if (ntbs_on && n && ntbs_fdtab_highest() && ts_ok(ts) && mask_ok(mask)) {
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
#define LONG_BITS ((int)(8 * sizeof(long)))
#define ON_STACK 1024			/* members in one call; more are mapped */
#define SURE_SIZE 1024			/* of sets: what fd_set has */

static const struct timespec zero;

static size_t set_bytes(int nfds)
{
	return (size_t)(nfds + LONG_BITS - 1) / LONG_BITS * sizeof(long);
}

/* The members from descriptor @from on, which begins a word. */
static unsigned long word(const fd_set *set, int from, int nfds)
{
	unsigned long w = set ? ((const unsigned long *)set)[from / LONG_BITS] : 0;

	return nfds - from < LONG_BITS ? w & ((1ul << (nfds - from)) - 1) : w;
}

/*
 * The kernel takes no notice of what its table of descriptors has no place for, and does not touch that part of the sets:
 * there may be none.  /proc tells how large the table is; it does not shrink.
 */
static int table_size(void)
{
	static const char key[] = "\nFDSize:";
	char text[512] = "", *at;
	long fd, n = -1;
	int size = 0;

	ntbs_fd_low_begin();
	fd = ntbs_sys4(SYS_openat, AT_FDCWD, "/proc/thread-self/status", O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		n = ntbs_sys3(SYS_read, fd, text, sizeof(text) - 1);
		ntbs_sys1(SYS_close, fd);
	}
	ntbs_fd_low_end();
	at = n > 0 ? strstr(text, key) : NULL;
	if (!at)
		return INT_MAX;
	for (at += sizeof(key) - 1; *at == ' ' || *at == '\t'; at++)
		;
	for (; *at >= '0' && *at <= '9' && size < 1 << 24; at++)
		size = size * 10 + (*at - '0');
	return *at == '\n' && size ? size : INT_MAX;
}

static int clip(int nfds)
{
	static int known = SURE_SIZE;
	int size;

	if (__builtin_expect(nfds <= __atomic_load_n(&known, __ATOMIC_RELAXED), 1))
		return nfds;
	size = table_size();
	if (size == INT_MAX)
		return nfds;
	if (size > SURE_SIZE)
		__atomic_store_n(&known, size, __ATOMIC_RELAXED);
	return nfds < size ? nfds : size;
}

static int to_poll(int nfds, const fd_set *r, const fd_set *w, const fd_set *e, struct pollfd *fds, int max)
{
	int n = 0;

	for (int from = 0; from < nfds; from += LONG_BITS) {
		unsigned long rs = word(r, from, nfds), ws = word(w, from, nfds), es = word(e, from, nfds);

		for (unsigned long left = rs | ws | es; left; left &= left - 1) {
			int bit = __builtin_ctzl(left);

			if (n == max)
				return n;
			fds[n++] = (struct pollfd){ from + bit, (rs >> bit & 1 ? POLLIN : 0) | (ws >> bit & 1 ? POLLOUT : 0) |
							(es >> bit & 1 ? POLLPRI : 0), 0 };
		}
	}
	return n;
}

static int nr_members(int nfds, const fd_set *r, const fd_set *w, const fd_set *e)
{
	int n = 0;

	for (int from = 0; from < nfds; from += LONG_BITS)
		n += __builtin_popcountl(word(r, from, nfds) | word(w, from, nfds) | word(e, from, nfds));
	return n;
}

/*
 * The sets that select() would put it into, as poll() bits (fs/select.c, POLLIN_SET and so on).  POLLNVAL: closed while the
 * call waits.
 */
static short asked(const struct pollfd *p)
{
	short ev = p->revents;

	return (ev & (POLLIN | POLLRDNORM | POLLHUP | POLLERR | POLLNVAL) ? p->events & POLLIN : 0) |
	       (ev & (POLLOUT | POLLWRNORM | POLLERR | POLLNVAL) ? p->events & POLLOUT : 0) |
	       (ev & (POLLPRI | POLLNVAL) ? p->events & POLLPRI : 0);
}

/* Members that wait no more have the complement of their number, which poll() takes no notice of. */
static bool aside(const struct pollfd *p)
{
	return p->fd < 0;
}

static void flip(struct pollfd *p)
{
	p->fd = ~p->fd;
}

/* What was asked for and holds takes the place of what was asked for; of those put aside, which may be ready by now, too. */
static void answer(struct pollfd *fds, int n, bool any_aside)
{
	const struct ntbs_sig_mark mark = ntbs_sig_mark();
	int ret = 0;

	for (int i = 0; i < n; i++) {
		if (!aside(&fds[i]))
			fds[i].events = asked(&fds[i]);
		if (any_aside)
			flip(&fds[i]);
	}
	if (!any_aside)
		return;
	ret = ntbs_poll(fds, n, &zero, NULL, &mark);
	if (ret == -ENTBS_PASS)
		ret = ntbs_sys5(SYS_ppoll, fds, n, &zero, NULL, 8);
	for (int i = 0; i < n; i++) {
		if (aside(&fds[i]))
			flip(&fds[i]);
		else
			fds[i].events = ret > 0 ? asked(&fds[i]) : 0;
	}
}

/*
 * poll() tells of hang-ups and errors that nobody has asked for, select() waits on: without the member, of which nothing
 * else is to come.  The signal that such an error has raised (SIGIO) ends the wait.
 */
static int poll_masked(struct pollfd *fds, int n, const struct timespec *ts, const sigset_t *mask)
{
	uint64_t until = ts ? ntbs_until(ts) : 0, now;
	const struct ntbs_sig_mark mark = ntbs_sig_mark();
	int ret = ntbs_poll(fds, n, ts, mask, &mark);
	bool any_aside = false;
	struct timespec left;

	for (int i = 0; ret > 0 && i < n; i++)
		if (fds[i].revents & POLLNVAL)
			return -EBADF;
	while (ret > 0) {
		bool found = false;

		for (int i = 0; i < n; i++)
			found |= !aside(&fds[i]) && asked(&fds[i]);
		if (found)
			break;
		for (int i = 0; i < n; i++) {
			if (!aside(&fds[i]) && fds[i].revents) {
				flip(&fds[i]);
				any_aside = true;
			}
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
	if (ret >= 0)
		answer(fds, n, any_aside);
	return ret;
}

static int poll_asked(struct pollfd *fds, int n, const struct timespec *ts, const sigset_t *mask)
{
	struct ntbs_masked masked;
	int ret;

	ntbs_mask_begin(&masked, mask);
	ret = poll_masked(fds, n, ts, mask);
	ntbs_mask_end(&masked);
	return ret;
}

/* One set of the answer. */
static int tell(fd_set *set, size_t bytes, const struct pollfd *fds, int n, short what)
{
	int count = 0;

	if (!set)
		return 0;
	memset(set, 0, bytes);
	for (int i = 0; i < n; i++) {
		if (fds[i].events & what) {
			((unsigned long *)set)[fds[i].fd / LONG_BITS] |= 1ul << (fds[i].fd % LONG_BITS);
			count++;
		}
	}
	return count;
}

struct sets {
	int nfds;
	fd_set *r, *w, *e;
};

/* -ENTBS_PASS, -errno, or the count that select() returns */
static int select_by(const struct sets *s, struct pollfd *fds, int max, const struct timespec *ts, const sigset_t *mask)
{
	int n = to_poll(s->nfds, s->r, s->w, s->e, fds, max), ret, count;
	size_t bytes = set_bytes(s->nfds);

	if (!n)
		return -ENTBS_PASS;
	ret = poll_asked(fds, n, ts, mask);
	if (ret < 0)
		return ret;
	if ((s->r && !ntbs_user_writable(s->r, bytes)) || (s->w && !ntbs_user_writable(s->w, bytes)) ||
	    (s->e && !ntbs_user_writable(s->e, bytes)))
		return -EFAULT;
	/* one after the other, in the kernel's order: of a set that was passed twice the last answer stays */
	count = tell(s->r, bytes, fds, n, POLLIN);
	count += tell(s->w, bytes, fds, n, POLLOUT);
	return count + tell(s->e, bytes, fds, n, POLLPRI);
}

struct mapped {
	long at;
	size_t bytes;
};

static void unmap(void *arg)
{
	struct mapped *m = arg;

	if (m->at > 0)
		ntbs_sys2(SYS_munmap, m->at, m->bytes);
}

static int do_select(const struct sets *s, const struct timespec *ts, const sigset_t *mask)
{
	int n = nr_members(s->nfds, s->r, s->w, s->e), ret = -ENOMEM;
	struct mapped m = { 0, n * sizeof(struct pollfd) };
	struct pollfd few[ON_STACK];
	struct ntbs_undo undo;

	if (n <= ON_STACK)
		return select_by(s, few, ON_STACK, ts, mask);
	ntbs_section_enter();
	ntbs_undo_push(&undo, unmap, &m);
	m.at = ntbs_sys6(SYS_mmap, 0, m.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ntbs_section_leave();
	if (m.at > 0)
		ret = select_by(s, (struct pollfd *)m.at, n, ts, mask);
	ntbs_undo_pop(&undo);
	return ret;
}

/* Is any member worth the trouble?  Walks words, not descriptors.  Sets that are not there the kernel refuses. */
static bool any_ours(const struct sets *s)
{
	size_t bytes = set_bytes(s->nfds);

	if ((s->r && !ntbs_user_readable(s->r, bytes)) || (s->w && !ntbs_user_readable(s->w, bytes)) ||
	    (s->e && !ntbs_user_readable(s->e, bytes)))
		return false;
	for (int from = 0; from < s->nfds; from += LONG_BITS) {
		unsigned long left = word(s->r, from, s->nfds) | word(s->w, from, s->nfds) | word(s->e, from, s->nfds);

		for (; left; left &= left - 1)
			if (ntbs_fdtab_peek(from + __builtin_ctzl(left)))
				return true;
	}
	return false;
}

/* @ts in all, of which the time from @begin to @end has gone */
static struct timespec what_is_left(struct timespec ts, const struct timespec *begin, const struct timespec *end)
{
	ts.tv_sec -= end->tv_sec - begin->tv_sec;
	ts.tv_nsec -= end->tv_nsec - begin->tv_nsec;
	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += 1000000000;
	} else if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return ts.tv_sec < 0 ? zero : ts;
}

/* Not restrict: one set may be passed twice. */
NTBS_EXPORT int select(int nfds, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv)
{
	struct sets s = { 0, r, w, e };
	struct timespec ts, begin, end;
	int ret;

	if (!ntbs_on || nfds <= 0 || !ntbs_fdtab_highest() || (tv && (tv->tv_sec < 0 || tv->tv_usec < 0)))
		return LIBC(select)(nfds, r, w, e, tv);
	s.nfds = clip(nfds);
	if (!any_ours(&s))
		return LIBC(select)(nfds, r, w, e, tv);
	if (tv) {
		ts.tv_nsec = tv->tv_usec % 1000000 * 1000;
		if (__builtin_add_overflow(tv->tv_sec, tv->tv_usec / 1000000, &ts.tv_sec))	/* as glibc does it */
			ts = (struct timespec){ LONG_MAX, 999999999 };
		clock_gettime(CLOCK_MONOTONIC, &begin);
	}
	ret = do_select(&s, tv ? &ts : NULL, NULL);
	if (ret == -ENTBS_PASS)
		return LIBC(select)(nfds, r, w, e, tv);
	if (tv) {		/* Linux tells what is left */
		clock_gettime(CLOCK_MONOTONIC, &end);
		ts = what_is_left(ts, &begin, &end);
		tv->tv_sec = ts.tv_sec;
		tv->tv_usec = ts.tv_nsec / 1000;
	}
	return to_libc(ret);
}
NTBS_EXPORT int __select(int nfds, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv)
	__attribute__((alias("select")));

NTBS_EXPORT int pselect(int nfds, fd_set *r, fd_set *w, fd_set *e, const struct timespec *ts, const sigset_t *mask)
{
	struct sets s = { 0, r, w, e };
	int ret;

	if (!ntbs_on || nfds <= 0 || !ntbs_fdtab_highest() || !ts_ok(ts) || !mask_ok(mask))
		return LIBC(pselect)(nfds, r, w, e, ts, mask);
	s.nfds = clip(nfds);
	ret = any_ours(&s) ? do_select(&s, ts, mask) : -ENTBS_PASS;
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
	ntbs_sig_catch_faults();	/* what the program passes with it is looked at */
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

	if (ep && mask_ok(mask)) {
		int ret = ntbs_epoll_wait(ep, ev, max, ms_to_ts(timeout, &ts), mask);

		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	return LIBC(epoll_pwait)(epfd, ev, max, timeout, mask);
}

NTBS_EXPORT int epoll_pwait2(int epfd, struct epoll_event *ev, int max, const struct timespec *ts, const sigset_t *mask)
{
	struct ntbs_ep *ep = ntbs_epoll_of(epfd);

	if (ep && ts_ok(ts) && mask_ok(mask)) {
		int ret = ntbs_epoll_wait(ep, ev, max, ts, mask);

		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	return LIBC(epoll_pwait2)(epfd, ev, max, ts, mask);
}
