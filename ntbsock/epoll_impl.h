/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll_impl.h - what the files behind epoll.h share
 *
 *   epoll_set.c    members and sets: where they lie, which is in which, fork
 *   epoll_ctl.c    epoll_ctl() and changes of a socket's stage: what the kernel's set is told
 *   epoll_ready.c  what is ready among our members, by looking at memory; hot and cold, edges
 *   epoll_wait.c   epoll_wait(): the kernel's events translated, polling, sleeping
 *   epoll_exec.c   sets that another image inherits
 *
 * Locks, in the order in which they nest: @asking of a set (an outer set's before an inner one's), a socket's ctl
 * lock, the runtime's, the pool lock, @lock of a set; fork() takes all from the runtime's on.  A socket that changes its
 * stage holds its ctl lock and takes the pool lock to tell its sets; so whoever holds the pool lock never steps an offer,
 * and never asks whether a socket is ready, which may take to ask the broker.  @lock is the innermost: under it only
 * words of the set and of its members change.  Scans take none of them; for what they find they may take ctl (to step an
 * offer) or @lock (to make a member hot or cold), one at a time.
 */
#ifndef NTBSOCK_EPOLL_IMPL_H
#define NTBSOCK_EPOLL_IMPL_H

#include "epoll.h"

/* ---- epoll_set.c ---- */
extern struct ntbs_lock ntbs_epoll_pool_lock;	/* members and sets in use; sk->members lists */

struct ntbs_epm *ntbs_epm_by_index(uint32_t index);
/* Taken, in no set yet; NULL: no memory. */
struct ntbs_epm *ntbs_epm_new(void);
/* Out of its set and its socket's list, free for the next: pool lock held. */
void ntbs_epm_drop(struct ntbs_epm *m);
/* Into the array: pool lock and @lock held. */
bool ntbs_epoll_add(struct ntbs_ep *ep, struct ntbs_epm *m);

/* For who comes without a lock: the member may serve another set by now, its socket another connection. */
static inline bool ntbs_epm_in_set(struct ntbs_epm *m, struct ntbs_ep *ep)
{
	return atomic_load_explicit(&m->ep, memory_order_acquire) == ep && (!m->sk || m->sk->serial == m->serial);
}

/* Between ntbs_epm_new() and its entry, which is made under the pool lock. */
static inline bool ntbs_epm_taken(const struct ntbs_epm *m)
{
	return atomic_load_explicit(&m->ep, memory_order_acquire) == (struct ntbs_ep *)1;
}

/* ---- epoll_ctl.c ---- */
/* A cookie: secret 32, generation 8, index 24. */
#define NTBS_EP_IN (EPOLLIN | EPOLLRDNORM)
#define NTBS_EP_OUT (EPOLLOUT | EPOLLWRNORM)
/* The kernel wakes with all of these, whatever has come or become free (net/core/sock.c, sock_def_readable()) */
#define NTBS_EP_IN_NEWS (NTBS_EP_IN | EPOLLPRI | EPOLLRDBAND)
#define NTBS_EP_OUT_NEWS (NTBS_EP_OUT | EPOLLWRBAND)
#define NTBS_EP_MBOX_INDEX 0xffffffu
extern uint64_t ntbs_epoll_secret;	/* upper 32 bits of every cookie: a program's data will not look like it */

/* The mbox of the process into the kernel's set, once there is one. */
void ntbs_epoll_need_mbox(struct ntbs_ep *ep);
void ntbs_epoll_drop_mbox(struct ntbs_ep *ep);
/* A member's registration: under the pool lock, but for who has set @watched_live. */
uint32_t ntbs_epm_kernel_events(const struct ntbs_epm *m);
uint64_t ntbs_epm_cookie(const struct ntbs_epm *m);
void ntbs_epm_register(struct ntbs_epm *m, uint32_t events, uint64_t data);
/* It is LIVE: the kernel's registration becomes the shadow's.  One does it, who has set @watched_live. */
void ntbs_epm_watch_shadow(struct ntbs_epm *m);

/* It takes more than the kernel to know if it is ready. */
static inline bool ntbs_epm_is_ours(const struct ntbs_epm *m)
{
	enum ntbs_stage stage = m->sk ? ntbs_sock_stage(m->sk) : NTBS_LIVE;

	return stage == NTBS_OFFER || stage == NTBS_LIVE;
}

/* ---- epoll_ready.c ---- */
/* One look at what is ours: how many events, each of a member of its own; -EFAULT: there are some, and no @out. */
int ntbs_epoll_look(struct ntbs_ep *ep, struct epoll_event *out, int max);
/* What the wait of this thread has found; that of a handler which interrupts it has its own. */
struct ntbs_ep_found {
	bool level;			/* told: something that holds on */
	bool bell;			/* it has taken the bell */
};
extern __thread struct ntbs_ep_found ntbs_ep_found;
/*
 * This thread goes with what it has found.  A bell wakes one of those who sleep: what is left, as its room was @full, or holds on is
 * for the next one (ep_done_scan()).  So is the bell, if this one has used it up: what it was rung for, and has nothing to say, is
 * armed again by who sleeps next.
 */
void ntbs_epoll_wake_next(struct ntbs_ep *ep, bool full);
/* Before a sleep, and before the look that comes before it. */
void ntbs_epoll_arm_hot(struct ntbs_ep *ep);
/* Does a thread sleep on the set, or on one that it is in? */
bool ntbs_epoll_slept_on(struct ntbs_ep *ep);
/*
 * A member of ours has come or wants something else: who sleeps already has looked at it before, or never.  It is armed,
 * and they are rung for if it is ready now.  No lock held.
 */
void ntbs_epoll_changed(struct ntbs_ep *ep, struct ntbs_epm *m, bool held);
/* A level that holds: the kernel has it on its list, and a change wakes nobody.  @held above. */
bool ntbs_epm_holds(struct ntbs_epm *m);
/* It is active: looked at each turn from now on.  Takes @lock. */
void ntbs_epm_warm(struct ntbs_ep *ep, struct ntbs_epm *m);
bool ntbs_epm_would_repeat(struct ntbs_epm *m);
/* What of @ev is news for an edge-triggered member; one thread gets it. */
uint32_t ntbs_epm_edges(struct ntbs_epm *m, uint32_t ev, uint32_t all);
/* All that holds is news again. */
static inline void ntbs_epm_news(struct ntbs_epm *m)
{
	atomic_store(&m->rx_mark, UINT64_MAX);
	atomic_store(&m->tx_mark, UINT64_MAX);
	atomic_store(&m->end_mark, 0);
}

/* Also for a ONESHOT that has been told. */
static inline void ntbs_epm_untold(struct ntbs_epm *m)
{
	ntbs_epm_news(m);
	atomic_store(&m->disabled, 0);
}

/* ---- epoll_wait.c ---- */
/* What the kernel has said of it for an outer set is void: it is asked anew.  Pool lock held. */
void ntbs_epoll_forget(struct ntbs_ep *ep, const struct ntbs_epm *m);
/* Is there something of that kind that still holds? */
bool ntbs_epoll_kept(struct ntbs_ep *ep);

/* What the program wants to hear, and what it hears unasked. */
static inline uint32_t ntbs_epm_wanted(const struct ntbs_epm *m)
{
	uint32_t ev = m->events & (NTBS_EP_IN | NTBS_EP_OUT | EPOLLRDHUP | EPOLLPRI);

	return ev | EPOLLERR | EPOLLHUP;
}

#endif
