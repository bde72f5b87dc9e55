// SPDX-License-Identifier: BSD-2-Clause
/*
 * epoll_exec.c - a set that another image inherits is as the program has made it
 *
 * The kernel's set is the program's but for two things: the data of our members are cookies, and the mbox is in it.  Who
 * execs goes over to the program's data and takes the mbox out; if exec fails it goes back.  By then the sockets that the
 * image gets are TCP's, and what the kernel reports of them is what they do.
 *
 * To tell the kernel anew makes an edge of what has been one.  So members whose edges have all been told go first, and what
 * the kernel then has to say is thrown away; where something has come since they go once more.  That takes edges of members
 * that we do not know as well: sets that have such are not so exact, and may tell of an edge twice.
 *
 * Not sets that have been through a fork: they are one with those of other processes, which need the cookies and the mbox.
 */
#include "epoll_impl.h"

#include <fcntl.h>

#include "runtime.h"
#include "sys.h"

#define ANYTHING (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP)		/* with EPOLLERR and EPOLLHUP, which always are */

static void tell_kernel(struct ntbs_epm *m, bool bare)
{
	uint32_t events = !bare ? ntbs_epm_kernel_events(m) : m->events;

	if (atomic_load(&m->disabled) && (bare || !atomic_load(&m->watched_live)))
		events &= EPOLLET | EPOLLONESHOT;	/* reported: silent until the program asks anew */
	ntbs_epm_register(m, events, bare ? m->data : ntbs_epm_cookie(m));
}

/* What the kernel would tell now, and with ONESHOT and EPOLLET not again. */
static int would_tell(struct ntbs_ep *ep, struct epoll_event *ev)
{
	long n = ntbs_sys6(SYS_epoll_pwait, ep->epfd, (long)ev, NTBS_EP_PENDING, 0, 0, 8);

	return n < 0 ? 0 : n;
}

static bool is_among(uint64_t data, const struct epoll_event *ev, int n)
{
	for (int i = 0; i < n; i++)
		if (ev[i].data.u64 == data)
			return true;
	return false;
}

/* Only the kernel knows of it; in one form and the other it is found by what the event says. */
static bool is_told(const struct ntbs_epm *m, const struct epoll_event *ev, int n)
{
	return is_among(m->data, ev, n) || is_among(ntbs_epm_cookie(m), ev, n);
}

static bool by_memory(const struct ntbs_epm *m)
{
	return m->sk && ntbs_sock_stage(m->sk) == NTBS_LIVE;
}

/*
 * A ONESHOT that has been told is silent in the kernel, for EPOLLERR and EPOLLHUP too, which epoll_ctl() does not let be said:
 * so let the kernel tell it, of anything.  Those that nothing can be told of now stay as tell_kernel() has them.
 */
static bool is_silent(const struct ntbs_epm *m)
{
	return !m->inner && (m->events & EPOLLONESHOT) && atomic_load(&m->disabled);
}

static void rewrite(struct ntbs_ep *ep, bool bare)
{
	struct epoll_event ev[NTBS_EP_PENDING];
	bool exact = !ep->others, any = false;
	int n = 0;

	if (exact) {
		n = would_tell(ep, ev);
		exact = n < NTBS_EP_PENDING && !ep->nr_pending;
	}
	for (uint32_t i = 0; i < ep->nr; i++) {
		struct ntbs_epm *m = ep->member[i];

		m->quiet = exact && (m->events & EPOLLET) && !(m->events & EPOLLONESHOT) &&
			   (by_memory(m) ? ntbs_epm_would_repeat(m) : !is_told(m, ev, n));
		if (m->quiet)
			tell_kernel(m, bare);
		if (exact && bare && is_silent(m)) {
			m->quiet = true;
			ntbs_epm_register(m, ANYTHING | EPOLLONESHOT, ntbs_epm_cookie(m));	/* the next data come with epoll_ctl() */
		}
		any |= m->quiet;
	}
	n = any ? would_tell(ep, ev) : 0;
	for (uint32_t i = 0; i < ep->nr; i++) {
		struct ntbs_epm *m = ep->member[i];

		if (!m->quiet || (is_silent(m) ? !is_among(ntbs_epm_cookie(m), ev, n) : by_memory(m) && !ntbs_epm_would_repeat(m)))
			tell_kernel(m, bare);
	}
}

static bool inherited_by_image(int fd)
{
	long flags = ntbs_sys2(SYS_fcntl, fd, F_GETFD);

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

bool ntbs_epoll_goes_along(struct ntbs_sock *sk)
{
	bool goes = false;

	if (!sk->members)
		return false;
	ntbs_lock(&ntbs_epoll_pool_lock);
	for (struct ntbs_epm *m = sk->members; m && !goes; m = m->next_of_sock)
		goes = inherited_by_image(m->ep->epfd);
	ntbs_unlock(&ntbs_epoll_pool_lock);
	return goes;
}

void ntbs_epoll_before_exec(void)
{
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++) {
		struct ntbs_ep *ep = ntbs_epoll_of(fd);

		if (!ep || ep->shared || ep->bare || !inherited_by_image(fd))
			continue;
		ntbs_lock(&ntbs_epoll_pool_lock);
		ep->bare = true;
		ntbs_epoll_drop_mbox(ep);
		rewrite(ep, true);
		ntbs_unlock(&ntbs_epoll_pool_lock);
	}
}

void ntbs_epoll_exec_failed(void)
{
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++) {
		struct ntbs_ep *ep = ntbs_epoll_of(fd);

		if (!ep || !ep->bare)
			continue;
		ntbs_lock(&ntbs_epoll_pool_lock);
		ep->bare = false;
		rewrite(ep, false);
		ntbs_unlock(&ntbs_epoll_pool_lock);
		if (ntbs_epoll_ours(ep))
			ntbs_epoll_need_mbox(ep);
	}
}
