// SPDX-License-Identifier: BSD-2-Clause
/*
 * epoll_ctl.c - epoll_ctl() and changes of a socket's stage: what the kernel's set is told
 *
 * What the kernel shall report of a member follows from its socket's stage: until it is LIVE, what the program wants;
 * from then on, that the shadow has ended.  The second does not depend on what the program wants, so with both
 * directions on the ring EPOLL_CTL_MOD is no system call.
 *
 * Invariants: a descriptor that we do not know passes to the kernel as it is; a member is in the kernel's set, under
 * its cookie, before it is in our array.  Of all who see that a socket has become LIVE (the thread that made it so, one
 * that adds it, another process of the family) the one that sets @watched_live changes the registration.  A set that
 * has had a member of ours (OFFER, LIVE or nested) holds the mbox, if the process has one.
 */
#include "epoll_impl.h"

#include <errno.h>
#include <sys/random.h>

#include "fdtab.h"
#include "offer.h"
#include "runtime.h"
#include "shadow.h"
#include "sys.h"
#include "user.h"
#include "wait.h"

/* What EPOLLEXCLUSIVE may be asked for together with (fs/eventpoll.c, EPOLLEXCLUSIVE_OK_BITS) */
#define EXCLUSIVE_WITH (EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE)

#define SHADOW_EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET)

uint64_t ntbs_epoll_secret;

static uint64_t cookie(uint32_t index, uint32_t gen)
{
	return ntbs_epoll_secret | (uint64_t)(gen & 0xff) << 24 | index;
}

void ntbs_epoll_init(void)
{
	uint32_t r = 0;

	if (ntbs_sys3(SYS_getrandom, &r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = (uint32_t)(ntbs_now_ns() ^ (uintptr_t)&r);
	ntbs_epoll_secret = (uint64_t)(r | 1) << 32;
}

/* ------------------------------------------------------------- the kernel */

static int kernel_ctl(struct ntbs_ep *ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return ntbs_sys4(SYS_epoll_ctl, ep->epfd, op, fd, &ev);
}

void ntbs_epoll_need_mbox(struct ntbs_ep *ep)
{
	int bell = ntbs_rt.mbox[ntbs_rt.mbox_self];

	if (bell < 0 || ep->bare || atomic_exchange(&ep->mbox_in, 1))
		return;
	kernel_ctl(ep, EPOLL_CTL_ADD, bell, EPOLLIN | EPOLLET, cookie(NTBS_EP_MBOX_INDEX, 0));
}

void ntbs_epoll_drop_mbox(struct ntbs_ep *ep)
{
	if (atomic_exchange(&ep->mbox_in, 0))
		kernel_ctl(ep, EPOLL_CTL_DEL, ntbs_rt.mbox[ntbs_rt.mbox_self], 0, 0);
}

/* What the kernel shall report of a member, given where its socket is. */
uint32_t ntbs_epm_kernel_events(const struct ntbs_epm *m)
{
	uint32_t ev;

	if (!m->sk && (m->events & EPOLLONESHOT))	/* told once: by us, who know if it is to be told at all */
		return (m->events & ~EPOLLONESHOT) | EPOLLET;
	if (m->sk && ntbs_offer_held(m->sk))
		return m->events & ~NTBS_EP_OUT_NEWS;
	if (!m->sk || ntbs_sock_stage(m->sk) != NTBS_LIVE)
		return m->events;
	ev = SHADOW_EVENTS;
	if (ntbs_sock_tx_state(m->sk) != NTBS_DIR_RING)
		ev |= m->events & NTBS_EP_OUT_NEWS;
	return ev;
}

/*
 * Is a change from @before to what the member wants now nothing to the kernel?  On the ring both ways it only watches for
 * the end, whatever the program wants, and the end that it has shown is remembered with the socket.
 */
static bool kernel_knows(const struct ntbs_epm *m, uint32_t before)
{
	return m->sk && ntbs_sock_stage(m->sk) == NTBS_LIVE && atomic_load(&m->watched_live) &&
	       m->sk->shm->tx.state == NTBS_DIR_RING && m->sk->shm->rx.state == NTBS_DIR_RING &&
	       !((before | m->events) & EPOLLEXCLUSIVE);
}

uint64_t ntbs_epm_cookie(const struct ntbs_epm *m)
{
	return cookie(m->index, m->gen);
}

/*
 * The number that it was registered by may have been closed, with the socket open under another, and be somebody else's by
 * now: the registration stays as it is then, which is so in the kernel, too.
 */
static bool has_its_number(const struct ntbs_epm *m)
{
	return ntbs_fdtab_peek(m->fd) == (m->sk ? &m->sk->file : &m->inner->file);
}

static void modify(struct ntbs_epm *m, uint32_t events, uint64_t data)
{
	if (m->events & EPOLLEXCLUSIVE) {	/* the kernel does not modify those */
		kernel_ctl(m->ep, EPOLL_CTL_DEL, m->fd, 0, 0);
		kernel_ctl(m->ep, EPOLL_CTL_ADD, m->fd, events, data);
	} else {
		kernel_ctl(m->ep, EPOLL_CTL_MOD, m->fd, events, data);
	}
}

void ntbs_epm_register(struct ntbs_epm *m, uint32_t events, uint64_t data)
{
	if (has_its_number(m))
		modify(m, events, data);
}

static void register_events(struct ntbs_epm *m, uint32_t events)
{
	if (!m->ep->bare)
		ntbs_epm_register(m, events, cookie(m->index, m->gen));
}

void ntbs_epm_watch_shadow(struct ntbs_epm *m)
{
	atomic_store(&m->watched_live, 1);
	register_events(m, ntbs_epm_kernel_events(m));
}

/* ---------------------------------------------------------- membership */

static struct ntbs_epm *find(struct ntbs_ep *ep, struct ntbs_sock *sk, int fd)
{
	struct ntbs_epm *m;

	for (m = sk->members; m; m = m->next_of_sock)
		if (m->ep == ep && m->fd == fd)
			return m;
	return NULL;
}

static struct ntbs_epm *find_inner(struct ntbs_ep *ep, int fd)
{
	for (uint32_t i = 0; i < ep->nr; i++)
		if (ep->member[i]->inner && ep->member[i]->fd == fd)
			return ep->member[i];
	return NULL;
}

static int ctl_add(struct ntbs_ep *ep, struct ntbs_sock *sk, struct ntbs_ep *inner, int fd, struct epoll_event *ev)
{
	struct ntbs_epm *m = ntbs_epm_new();
	int ret;

	if (!m)
		return -ENOMEM;
	m->sk = sk;
	m->serial = sk ? sk->serial : 0;
	m->inner = inner;
	m->fd = fd;
	m->events = ev->events;
	m->data = ev->data.u64;
	atomic_store(&m->watched_out, 0);
	atomic_store(&m->inner_mark, UINT64_MAX);
	atomic_store(&m->inner_end, 0);
	atomic_store(&m->room_mark, 0);
	atomic_store(&m->kernel_says, 0);
	ntbs_epm_untold(m);
	atomic_store(&m->watched_live, sk && ntbs_sock_stage(sk) == NTBS_LIVE);
	/* a thread in the wait may get its event at once: the lock makes it wait for the entry */
	ntbs_lock(&ntbs_epoll_pool_lock);
	if (sk && ntbs_sock_after(sk)) {
		m->ep = NULL;
		ntbs_unlock(&ntbs_epoll_pool_lock);
		return -ENTBS_STALE;
	}
	atomic_store(&m->held, sk && ntbs_offer_held(sk));
	ret = kernel_ctl(ep, EPOLL_CTL_ADD, fd, ntbs_epm_kernel_events(m), cookie(m->index, m->gen));
	if (!ret) {
		ntbs_lock(&ep->lock);
		if (!ntbs_epoll_add(ep, m))
			ret = -ENOMEM;
		else
			atomic_store_explicit(&m->ep, ep, memory_order_release);
		ntbs_unlock(&ep->lock);
		if (ret)
			kernel_ctl(ep, EPOLL_CTL_DEL, fd, 0, 0);
	}
	if (ret) {
		m->ep = NULL;
	} else if (sk) {
		m->next_of_sock = sk->members;
		sk->members = m;
	}
	ntbs_unlock(&ntbs_epoll_pool_lock);
	if (ret)
		return ret;
	if (ntbs_epm_is_ours(m)) {
		atomic_fetch_add(&ep->nr_ours, 1);
		ntbs_epoll_need_mbox(ep);
		if (sk && ntbs_sock_stage(sk) == NTBS_LIVE && !atomic_exchange(&m->watched_live, 1))
			ntbs_epm_watch_shadow(m);	/* it became LIVE meanwhile */
		ntbs_epm_warm(ep, m);
		ntbs_epoll_changed(ep, m, false);
	}
	return 0;
}

/* Before a change, and not under the pool lock: to say what is ready may take to ask the broker, and the runtime's lock. */
static bool holds_before(struct ntbs_ep *ep, struct ntbs_sock *sk, int fd)
{
	struct ntbs_epm *m, as_it_was;

	if (!sk || !atomic_load(&ep->nested))
		return false;
	ntbs_lock(&ntbs_epoll_pool_lock);
	m = find(ep, sk, fd);
	if (m)			/* it may be another set's a moment later */
		as_it_was = *m;
	ntbs_unlock(&ntbs_epoll_pool_lock);
	return m && ntbs_epm_holds(&as_it_was);
}

int ntbs_epoll_ctl(struct ntbs_ep *ep, int op, int fd, struct epoll_event *ev)
{
	struct ntbs_sock *sk = fd >= 0 ? ntbs_fdtab_sock(fd) : NULL;
	struct ntbs_ep *inner = fd >= 0 ? ntbs_epoll_of(fd) : NULL;
	struct epoll_event copy;
	struct ntbs_epm *m;
	bool held = false;
	int ret;

	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL)
		return -ENTBS_PASS;
	if ((!sk && !inner) || (inner == ep)) {
		if (op == EPOLL_CTL_ADD)
			atomic_store(&ep->others, 1);
		return -ENTBS_PASS;
	}
	if (op != EPOLL_CTL_DEL) {
		if (!ev || ntbs_user_copy(&copy, ev, sizeof(copy)))
			return -EFAULT;
		ev = &copy;
	}
	if (op != EPOLL_CTL_DEL && ev->events & EPOLLEXCLUSIVE &&
	    (op == EPOLL_CTL_MOD || inner || ev->events & ~EXCLUSIVE_WITH))
		return -EINVAL;		/* the kernel's rule, which the shadow's registration would not break */
	if (op == EPOLL_CTL_ADD) {
		while ((ret = ctl_add(ep, sk, inner, fd, ev)) == -ENTBS_STALE)
			sk = ntbs_sock_after(sk);
		return ret;
	}
	if (op == EPOLL_CTL_MOD)
		held = holds_before(ep, sk, fd);
	ntbs_lock(&ntbs_epoll_pool_lock);
	m = sk ? find(ep, sk, fd) : find_inner(ep, fd);
	if (!m) {
		ntbs_unlock(&ntbs_epoll_pool_lock);
		return -ENTBS_PASS;
	}
	if (op == EPOLL_CTL_MOD && m->events & EPOLLEXCLUSIVE) {
		ret = -EINVAL;
	} else if (op == EPOLL_CTL_DEL) {
		ret = kernel_ctl(ep, op, fd, 0, 0);
		ntbs_epm_drop(m);
	} else {
		uint32_t before = m->events;
		uint64_t data = m->data;

		/* first ours: a thread in the wait may get the kernel's event at once, and sets marks of its own */
		m->events = 0;
		m->data = ev->data.u64;
		atomic_store(&m->watched_out, 0);
		ntbs_epm_untold(m);
		ntbs_epoll_forget(ep, m);
		m->events = ev->events;
		atomic_store(&m->held, m->sk && ntbs_offer_held(m->sk));
		ret = kernel_knows(m, before) ? 0 : kernel_ctl(ep, op, fd, ntbs_epm_kernel_events(m), cookie(m->index, m->gen));
		if (ret) {
			m->events = before;
			m->data = data;
		}
	}
	ntbs_unlock(&ntbs_epoll_pool_lock);
	if (!ret && op == EPOLL_CTL_MOD && ntbs_epm_is_ours(m)) {
		ntbs_epm_warm(ep, m);
		ntbs_epoll_changed(ep, m, held);
	}
	return ret;
}

/* --------------------------------------------------- stages of a socket */

/* Who sleeps on the set has not armed what has just become ours. */
static void wake_sleepers(struct ntbs_ep *ep)
{
	if (ntbs_epoll_slept_on(ep))
		ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
}

/* The stage has changed; its sets learn of it.  Not the other way round: ctl lock held, then ours. */
void ntbs_epoll_sock_offer(struct ntbs_sock *sk)
{
	uint32_t by;

	ntbs_lock(&ntbs_epoll_pool_lock);
	for (struct ntbs_epm *m = sk->members; m; m = m->next_of_sock) {
		atomic_fetch_add(&m->ep->nr_ours, 1);
		ntbs_epoll_need_mbox(m->ep);
		if (ntbs_offer_held(sk) && !atomic_exchange(&m->held, 1))
			register_events(m, ntbs_epm_kernel_events(m));
		ntbs_epm_warm(m->ep, m);
		wake_sleepers(m->ep);
	}
	ntbs_unlock(&ntbs_epoll_pool_lock);
	/* a poll() that has slept on it since before it was connected: whoever claims it would ring for nobody */
	atomic_thread_fence(memory_order_seq_cst);
	by = atomic_exchange(&sk->slept_on, 0);
	if (by && by != ntbs_my_tid())
		ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
}

void ntbs_epoll_sock_live(struct ntbs_sock *sk)
{
	ntbs_lock(&ntbs_epoll_pool_lock);
	for (struct ntbs_epm *m = sk->members; m; m = m->next_of_sock) {
		atomic_fetch_add(&m->ep->nr_ours, 1);
		ntbs_epoll_need_mbox(m->ep);
		atomic_store(&m->held, 0);
		if (!atomic_exchange(&m->watched_live, 1))
			ntbs_epm_watch_shadow(m);
		ntbs_epm_warm(m->ep, m);
		wake_sleepers(m->ep);
	}
	ntbs_unlock(&ntbs_epoll_pool_lock);
}

bool ntbs_epoll_sock_repeats(struct ntbs_sock *sk)
{
	bool repeats = false;

	if (!sk->members)
		return false;
	ntbs_lock(&ntbs_epoll_pool_lock);
	for (struct ntbs_epm *m = sk->members; m && !repeats; m = m->next_of_sock)
		repeats = atomic_load(&m->watched_live) && ntbs_epm_would_repeat(m);
	ntbs_unlock(&ntbs_epoll_pool_lock);
	return repeats;
}

/* A ONESHOT that has been reported stays silent. */
static uint32_t unless_told(const struct ntbs_epm *m, uint32_t events)
{
	return atomic_load(&m->disabled) ? events & (EPOLLET | EPOLLONESHOT) : events;
}

void ntbs_epoll_sock_plain(struct ntbs_sock *sk)
{
	ntbs_lock(&ntbs_epoll_pool_lock);
	for (struct ntbs_epm *m = sk->members; m; m = m->next_of_sock)
		if (atomic_exchange(&m->watched_live, 0))
			register_events(m, unless_told(m, m->events));
	ntbs_unlock(&ntbs_epoll_pool_lock);
}

void ntbs_epoll_sock_let_go(struct ntbs_sock *sk)
{
	if (!sk->members)
		return;
	ntbs_lock(&ntbs_epoll_pool_lock);
	for (struct ntbs_epm *m = sk->members; m; m = m->next_of_sock)
		if (atomic_exchange(&m->held, 0))
			register_events(m, unless_told(m, ntbs_epm_kernel_events(m)));
	ntbs_unlock(&ntbs_epoll_pool_lock);
}

void ntbs_epoll_sock_woken(struct ntbs_sock *sk)
{
	if (!sk->members)
		return;
	ntbs_lock(&ntbs_epoll_pool_lock);
	for (struct ntbs_epm *m = sk->members; m; m = m->next_of_sock) {
		atomic_fetch_add(&m->ep->news, 1);
		if (!(m->events & EPOLLET))
			continue;
		ntbs_epm_news(m);
		ntbs_epm_warm(m->ep, m);
		wake_sleepers(m->ep);
	}
	ntbs_unlock(&ntbs_epoll_pool_lock);
}

bool ntbs_epoll_outlives(struct ntbs_sock *sk, int fd)
{
	bool stays = false;

	if (!sk->members)
		return false;
	ntbs_lock(&ntbs_epoll_pool_lock);
	for (struct ntbs_epm *m = sk->members; m && !stays; m = m->next_of_sock)
		stays = m->fd == fd && !m->ep->inherited;
	ntbs_unlock(&ntbs_epoll_pool_lock);
	return stays;
}

/*
 * Told anew what the member wants, the kernel tells of what holds: has that been told?  Of one that has never been ours the kernel
 * alone knows.
 */
static bool may_repeat(struct ntbs_epm *m)
{
	if (m->events & EPOLLONESHOT)
		return atomic_load(&m->disabled);
	if (ntbs_sock_stage(m->sk) == NTBS_OFFER || ntbs_sock_ends_ours(m->sk))
		return ntbs_epm_would_repeat(m);
	return (m->events & EPOLLET) && ((uint16_t)ntbs_shadow_poll(m->fd, (short)m->events) & ntbs_epm_wanted(m));
}

void ntbs_epoll_sock_closed(struct ntbs_sock *sk, int fd, bool others_hold_it, bool rest)
{
	if (!sk->members)
		return;
	ntbs_lock(&ntbs_epoll_pool_lock);
	while (sk->members) {
		struct ntbs_epm *m = sk->members;

		/* the kernel goes on reporting it, from now on without us; what would become an edge anew is left out.  Not in a
		 * set that we share with our parent: its registrations are the parent's, and as long as that holds the socket
		 * they stay */
		if ((others_hold_it || rest) && !m->ep->inherited && m->fd == fd) {
			if (rest || may_repeat(m))
				kernel_ctl(m->ep, EPOLL_CTL_DEL, fd, 0, 0);
			else
				modify(m, m->events, m->data);
		}
		if (m == sk->members)
			ntbs_epm_drop(m);
	}
	ntbs_unlock(&ntbs_epoll_pool_lock);
}

int ntbs_epoll_sock_leaves(struct ntbs_sock *sk, int fd, struct ntbs_ep_left *left, int max)
{
	struct ntbs_epm *m, *next;
	int n = 0;

	if (!sk->members)
		return 0;
	ntbs_lock(&ntbs_epoll_pool_lock);
	for (m = sk->members; m && n < max; m = next) {
		next = m->next_of_sock;
		if (m->fd != fd || m->ep->inherited)
			continue;
		left[n].epfd = m->ep->epfd;
		left[n].ev.events = m->events;
		left[n].ev.data.u64 = m->data;
		if ((m->events & EPOLLONESHOT) && atomic_load(&m->disabled))
			left[n].ev.events &= EPOLLET | EPOLLONESHOT;	/* told: silent until the program asks anew */
		n++;
		kernel_ctl(m->ep, EPOLL_CTL_DEL, fd, 0, 0);
		ntbs_epoll_forget(m->ep, m);
		atomic_store(&m->ep->others, 1);
		ntbs_epm_drop(m);
	}
	ntbs_unlock(&ntbs_epoll_pool_lock);
	return n;
}

void ntbs_epoll_number_is_back(int fd, const struct ntbs_ep_left *left, int n)
{
	for (int i = 0; i < n; i++)
		ntbs_sys4(SYS_epoll_ctl, left[i].epfd, EPOLL_CTL_ADD, fd, &left[i].ev);
}
