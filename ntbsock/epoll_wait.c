// SPDX-License-Identifier: BSD-2-Clause
/*
 * epoll_wait.c - epoll_wait(): look at memory, poll a while, arm, look once more, sleep in the kernel's own call
 *
 * The kernel's events come with our cookies and leave with the program's data.  Those of the mbox and of the shadow of
 * a LIVE socket are never shown: they say that memory is worth a look.
 *
 * Invariants: nobody sleeps who has not looked since he armed.  Members that only the kernel knows have their turn at
 * least every 50 us while ours keep us busy.  An event that was taken from the kernel for the sake of an outer set, and
 * that the kernel would not show again, is kept for the set's own wait.
 */
#include "epoll_impl.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

#include "offer.h"
#include "shadow.h"
#include "spin.h"
#include "sys.h"
#include "user.h"
#include "wait.h"

#define KERNEL_EVERY_NS 50000
#define MAX_EVENTS (INT_MAX / (int)sizeof(struct epoll_event))	/* fs/eventpoll.c, EP_MAX_EVENTS */

/* ------------------------------------------------------------- the kernel */

static struct ntbs_epm *member_of(struct ntbs_ep *ep, uint64_t cookie)
{
	struct ntbs_epm *m = ntbs_epm_by_index(cookie & 0xffffff);

	return m && (m->gen & 0xff) == (cookie >> 24 & 0xff) && (ntbs_epm_taken(m) || ntbs_epm_in_set(m, ep)) ? m : NULL;
}

static bool is_cookie(uint64_t data)
{
	return (data & 0xffffffff00000000ull) == ntbs_epoll_secret;
}

/* One event of the kernel's: true if it is the program's, translated. */
static bool translate(struct ntbs_ep *ep, struct epoll_event *ev)
{
	uint64_t data = ev->data.u64;
	struct ntbs_epm *m;

	if (!is_cookie(data))
		return true;
	if ((data & 0xffffff) == NTBS_EP_MBOX_INDEX) {
		atomic_store(&ep->rung, 1);
		ntbs_ep_found.bell = true;
		return false;
	}
	m = member_of(ep, data);
	if (!m)
		return false;
	if (ntbs_epm_taken(m)) {	/* another thread is about to enter it, with this lock; the kernel may not tell again */
		ntbs_lock(&ntbs_epoll_pool_lock);
		ntbs_unlock(&ntbs_epoll_pool_lock);
	}
	if (!ntbs_epm_in_set(m, ep))
		return false;
	if (m->inner) {			/* of ours or of the kernel's: the next turn tells, once */
		atomic_store(&m->kernel_says, 1);
		ntbs_epm_warm(ep, m);
		atomic_store(&ep->rung, 1);
		return false;
	}
	if (ntbs_sock_stage(m->sk) == NTBS_NEW)
		ntbs_offer_look_connected(m->sk, m->sk->fd);
	if (ntbs_sock_stage(m->sk) == NTBS_OFFER)
		ntbs_offer_step(m->sk, m->sk->fd);
	if (ntbs_sock_stage(m->sk) == NTBS_LIVE) {
		atomic_fetch_or(&m->sk->shm->shadow_ev, ev->events & (POLLIN | POLLRDHUP | POLLHUP | POLLERR));
		ntbs_epm_warm(ep, m);		/* the next turn tells what it means */
		atomic_store(&ep->rung, 1);
		return false;
	}
	if (atomic_load(&m->watched_live)) {	/* connect() has dissolved it, perhaps in another process: this is of the shadow */
		ntbs_epoll_sock_plain(m->sk);
		return false;			/* registered anew, the kernel tells what holds */
	}
	if ((m->events & EPOLLONESHOT) && atomic_load(&m->disabled))
		return false;			/* registered for nothing: the kernel adds EPOLLERR and EPOLLHUP to that */
	if ((ev->events & EPOLLHUP) && atomic_load_explicit(&m->sk->shm->owed, memory_order_relaxed) > 0)
		ev->events |= EPOLLERR;		/* what a call of ours has found and not told */
	ev->events &= ntbs_epm_wanted(m) & ~(ntbs_offer_held(m->sk) ? (uint32_t)NTBS_EP_OUT_NEWS : 0);
	ev->data.u64 = m->data;
	if (!ev->events)
		return false;
	/* told by the kernel: not news any more once we are the ones who tell */
	if (ntbs_sock_stage(m->sk) == NTBS_OFFER && (m->events & EPOLLET))
		ev->events |= ntbs_epm_edges(m, ev->events, ev->events);
	if (m->events & EPOLLONESHOT)
		atomic_store(&m->disabled, 1);
	return true;
}

/* The wait of the set in the kernel.  @mark: the one in which the program sleeps; NULL: a look. */
static long kernel_wait(int epfd, struct epoll_event *ev, int max, const struct timespec *ts, const sigset_t *mask,
			const struct ntbs_sig_mark *mark)
{
	long got, ms;

	got = mark ? ntbs_sleep(mark, SYS_epoll_pwait2, epfd, (long)ev, max, (long)ts, (long)mask, 8) :
		     ntbs_sys6(SYS_epoll_pwait2, epfd, (long)ev, max, (long)ts, (long)mask, 8);
	if (got != -ENOSYS)
		return got;
	/* before Linux 5.11: milliseconds, rounded up */
	ms = !ts ? -1 : ts->tv_sec > 2000000 ? 2000000000 : ts->tv_sec * 1000 + (ts->tv_nsec + 999999) / 1000000;
	return mark ? ntbs_sleep(mark, SYS_epoll_pwait, epfd, (long)ev, max, ms, (long)mask, 8) :
		      ntbs_sys6(SYS_epoll_pwait, epfd, (long)ev, max, ms, (long)mask, 8);
}

/* Returns events of the program, or -errno; *@more: something came that only our own look can explain. */
static int ask_kernel(struct ntbs_ep *ep, struct epoll_event *out, int max, const struct timespec *ts,
		      const sigset_t *mask, const struct ntbs_sig_mark *mark, bool *more)
{
	long got;
	int n = 0;

	got = kernel_wait(ep->epfd, out, max, ts, mask, mark);
	if (got < 0)
		return got;
	for (long i = 0; i < got; i++) {
		if (translate(ep, &out[i]))
			out[n++] = out[i];
		else
			*more = true;
	}
	return n;
}

/* ------------------------------------------- what was taken for an outer set */

static const struct timespec zero;

/* At once, each event with what the kernel knows it by. */
static int take_from_kernel(struct ntbs_ep *ep, struct ntbs_ep_kept *out, int max)
{
	struct epoll_event ev[NTBS_EP_PENDING];
	long got = kernel_wait(ep->epfd, ev, max < NTBS_EP_PENDING ? max : NTBS_EP_PENDING, &zero, NULL, NULL);
	int n = 0;

	for (long i = 0; i < got; i++) {
		out[n].cookie = ev[i].data.u64;
		out[n].ev = ev[i];
		n += translate(ep, &out[n].ev);
	}
	return n;
}

/* Where in @in, or -1. */
static int among(const struct ntbs_ep_kept *e, const struct ntbs_ep_kept *in, int n)
{
	for (int i = 0; i < n; i++)
		if (in[i].cookie == e->cookie)
			return i;
	return -1;
}

/*
 * As the kernel does, which asks a member once more when it tells of it: what holds of it now.  Nothing: it is to be told when
 * it is so again.
 */
static uint32_t holds_now(struct ntbs_epm *m)
{
	uint32_t ev = (uint16_t)ntbs_shadow_poll(m->sk->fd, NTBS_EP_IN | NTBS_EP_OUT | EPOLLRDHUP | EPOLLPRI) & ntbs_epm_wanted(m);

	if (!ev && atomic_exchange(&m->disabled, 0))
		ntbs_epm_register(m, ntbs_epm_kernel_events(m), ntbs_epm_cookie(m));
	return ev;
}

/* Those that have gone, that hold no more or that memory tells of by now are dropped.  Pool lock held. */
static void ask_members(struct ntbs_ep *ep)
{
	uint32_t n = 0;

	ntbs_lock(&ep->lock);
	for (uint32_t i = 0; i < ep->nr_pending; i++) {
		struct ntbs_ep_kept *k = &ep->pending[i];
		struct ntbs_epm *m = is_cookie(k->cookie) ? member_of(ep, k->cookie) : NULL;

		if (m && ntbs_sock_stage(m->sk) == NTBS_LIVE) {
			ntbs_epm_untold(m);
			atomic_store(&ep->rung, 1);
			continue;
		}
		if (m)
			k->ev.events = holds_now(m);
		if (m ? k->ev.events != 0 : !is_cookie(k->cookie))
			ep->pending[n++] = *k;
	}
	ep->nr_pending = n;
	ntbs_unlock(&ep->lock);
}

bool ntbs_epoll_kept(struct ntbs_ep *ep)
{
	if (__builtin_expect(!ep->nr_pending, 1))
		return false;
	ntbs_lock(&ntbs_epoll_pool_lock);
	ask_members(ep);
	ntbs_unlock(&ntbs_epoll_pool_lock);
	return ep->nr_pending != 0;
}

void ntbs_epoll_forget(struct ntbs_ep *ep, const struct ntbs_epm *m)
{
	uint32_t n = 0;

	if (!ep->nr_pending)
		return;
	ntbs_lock(&ep->lock);
	for (uint32_t i = 0; i < ep->nr_pending; i++)
		if (ep->pending[i].cookie != ntbs_epm_cookie(m))
			ep->pending[n++] = ep->pending[i];
	ep->nr_pending = n;
	ntbs_unlock(&ep->lock);
}

/* Nothing in it is ours, the mbox neither, and nothing of another process's. */
static bool all_kernels(struct ntbs_ep *ep)
{
	return !atomic_load(&ep->nr) && !atomic_load(&ep->mbox_in) && !ep->nr_pending && !ep->shared;
}

/*
 * Asking takes events away that the kernel would not show again (edges, ONESHOT): they are kept for the set's own wait.
 * Those that it shows again at once are levels, and stay the kernel's to tell.  Where nothing is ours it says all by itself.
 */
bool ntbs_epoll_kernel_any(struct ntbs_ep *ep)
{
	struct ntbs_ep_kept got[NTBS_EP_PENDING], again[NTBS_EP_PENDING];
	int n, k;

	if (all_kernels(ep)) {
		bool any, still;

		ntbs_lock(&ntbs_epoll_pool_lock);	/* who adds a member holds it, and tells the kernel first */
		any = ntbs_shadow_poll(ep->epfd, POLLIN) != 0;
		still = all_kernels(ep);
		ntbs_unlock(&ntbs_epoll_pool_lock);
		if (still)
			return any;
	}
	ntbs_lock(&ep->asking);		/* only who holds it adds: there is room */
	if (ntbs_epoll_kept(ep)) {
		ntbs_unlock(&ep->asking);
		return true;
	}
	n = take_from_kernel(ep, got, NTBS_EP_PENDING);
	if (n <= 0) {
		ntbs_unlock(&ep->asking);
		return false;
	}
	k = take_from_kernel(ep, again, NTBS_EP_PENDING);
	ntbs_lock(&ep->lock);
	for (int i = 0; i < n; i++)
		if (among(&got[i], again, k) < 0)
			ep->pending[ep->nr_pending++] = got[i];
	ntbs_unlock(&ep->lock);
	ntbs_unlock(&ep->asking);
	return true;
}

/* ------------------------------------------------------------------- wait */

/* What is kept, and what the kernel has to say of the others. */
static int take_pending(struct ntbs_ep *ep, struct epoll_event *out, int max)
{
	struct ntbs_ep_kept kept[NTBS_EP_PENDING], more[NTBS_EP_PENDING];
	int n, k;

	if (!ntbs_epoll_kept(ep))
		return 0;
	/* an edge is taken once: only what there is a place for */
	if (max > 2 * NTBS_EP_PENDING)
		max = 2 * NTBS_EP_PENDING;
	while (!ntbs_user_writable(out, max * sizeof(*out)))
		if (!--max)
			return -EFAULT;
	ntbs_lock(&ep->lock);
	n = ep->nr_pending < (uint32_t)max ? (int)ep->nr_pending : max;
	memcpy(kept, ep->pending, n * sizeof(*kept));
	memmove(ep->pending, ep->pending + n, (ep->nr_pending - n) * sizeof(*kept));
	ep->nr_pending -= n;
	ntbs_unlock(&ep->lock);
	for (int i = 0; i < n; i++)
		out[i] = kept[i].ev;
	k = n < max && !ep->nr_pending ? take_from_kernel(ep, more, max - n) : 0;
	for (int i = 0, taken = n; i < k; i++) {
		/* data that the program has chosen may be that of several members */
		int at = is_cookie(more[i].cookie) ? among(&more[i], kept, taken) : -1;

		if (at < 0)
			out[n++] = more[i].ev;
		else
			out[at].events |= more[i].ev.events;	/* has come since it was asked: an edge is told once */
	}
	return n;
}

static void left_of(uint64_t until, struct timespec *ts)
{
	uint64_t now = ntbs_now_ns(), left = until > now ? until - now : 0;

	ts->tv_sec = left / 1000000000;
	ts->tv_nsec = left % 1000000000;
}

/* While ours keep us busy. */
static bool kernels_turn(struct ntbs_ep *ep)
{
	uint64_t now = ntbs_now_ns();

	if (now - ep->asked_ns <= KERNEL_EVERY_NS)
		return false;
	ep->asked_ns = now;
	return true;
}

static int wait_set(struct ntbs_ep *ep, struct epoll_event *out, int max, const struct timespec *ts, const sigset_t *mask)
{
	const struct ntbs_sig_mark mark = ntbs_sig_mark();
	bool poll_only = ts && !ts->tv_sec && !ts->tv_nsec, more;
	struct timespec left;
	struct ntbs_spin spin;
	uint64_t until = 0;
	uint32_t asks = 0;
	int n, k;

	if (max <= 0 || max > MAX_EVENTS)
		return -ENTBS_PASS;
	/* also without a member of ours: the set may hold our mbox, and another thread may add one while we sleep */
	ntbs_cancel_point();
	n = ep->nr_pending ? take_pending(ep, out, max) : 0;
	if (!n && __builtin_expect(ep->full, 0) && ntbs_epoll_ours(ep) && kernels_turn(ep))
		n = ask_kernel(ep, out, max, &zero, NULL, NULL, &more);
	if (n > 0 || n == -EFAULT)
		return n;
	if (ts && !poll_only)
		until = ntbs_until(ts);
	for (;;) {
		n = ntbs_epoll_ours(ep) ? ntbs_epoll_look(ep, out, max) : 0;
		if (n) {
			if (n > 0 && n < max && ep->nr_pending) {
				k = take_pending(ep, out + n, max - n);
				n += k > 0 ? k : 0;
			} else if (n > 0 && n < max && kernels_turn(ep)) {
				k = ask_kernel(ep, out + n, max - n, &zero, NULL, NULL, &more);
				n += k > 0 ? k : 0;
			}
			return n;
		}
		if (ntbs_epoll_ours(ep) && !poll_only && ntbs_spin_begin(&spin, NULL)) {
			uint64_t asked = ntbs_now_ns(), now;

			more = false;
			k = 0;
			do {
				n = ntbs_epoll_look(ep, out, max);
				now = ntbs_now_ns();
				if (!n && now - asked > KERNEL_EVERY_NS) {
					asked = now;
					k = ask_kernel(ep, out, max, &zero, NULL, NULL, &more);
					n = k > 0 ? k : 0;
				}
			} while (!n && !more && ntbs_spin_more(&spin) && (!until || now < until));
			ntbs_spin_end(&spin, n || more);
			if (n)
				return n;
			if (more)
				continue;
		}
		/* who is cancelled in his sleep, or jumps out of it, stays counted: it costs others a bell now and then */
		if (!poll_only)
			atomic_fetch_add(&ep->sleepers, 1);	/* E1: then the members; pairs with E2, ntbs_epoll_changed() */
		if (ntbs_epoll_ours(ep) && !poll_only) {
			ntbs_epoll_arm_hot(ep);
			n = ntbs_epoll_look(ep, out, max);
		}
		more = false;
		if (!n) {
			if (until)
				left_of(until, &left);
			n = ask_kernel(ep, out, max, poll_only ? &zero : ts ? &left : NULL, mask, poll_only ? NULL : &mark, &more);
		}
		if (!poll_only)
			atomic_fetch_sub(&ep->sleepers, 1);
		if (n)
			return n;
		if (!more && ts && (poll_only || ntbs_now_ns() >= until))
			return 0;
		if (more && poll_only) {
			/* what is not shown may have taken the room of what is: each has had its turn after so many asks */
			n = ntbs_epoll_look(ep, out, max);
			if (n || asks++ > ep->nr)
				return n;
		}
	}
}

int ntbs_epoll_wait(struct ntbs_ep *ep, struct epoll_event *out, int max, const struct timespec *ts,
		    const sigset_t *mask)
{
	const struct ntbs_ep_found outer = ntbs_ep_found;
	struct ntbs_masked masked;
	int n;

	ntbs_ep_found = (struct ntbs_ep_found){ 0 };
	ntbs_mask_begin(&masked, mask);
	n = wait_set(ep, out, max, ts, mask);
	if (ep->full != (n == max))
		ep->full = n == max;
	if (n > 0 || ntbs_ep_found.bell)	/* not before the kernel has been asked, which may show the bell to us again */
		ntbs_epoll_wake_next(ep, n == max);
	ntbs_ep_found = outer;
	ntbs_mask_end(&masked);
	return n;
}
