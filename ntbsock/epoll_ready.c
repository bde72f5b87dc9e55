// SPDX-License-Identifier: BSD-2-Clause
/*
 * epoll_ready.c - what is ready among our members, by looking at memory
 *
 * A turn with one hot member that is ready: two cache lines of the member, two of its inbox, no system call.  All that
 * such a turn runs is in this file, so that the compiler sees it as one.
 *
 * Invariants: the scans take no lock and check each member that they meet.  A hot member has a place in ep->hot; a cold
 * one of ours is armed or counts as rung: what comes is seen by one of the two scans.  Hot and cold change under @lock.
 * An edge is told by whoever moves its mark by compare-exchange: one of the threads that see it.  A look that had no room
 * for more is followed by one that begins behind its last event, and with the cold ones: each has its turn.
 */
#include "epoll_impl.h"

#include "handover.h"
#include "mbox.h"
#include "offer.h"
#include "runtime.h"
#include "shadow.h"

#define COLD_AFTER 2048u		/* turns without anything to say after which a member cools down */
#define ROTATE 4u			/* cold members looked at each turn */
#define END_EVENTS (EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define TCP_MARK (1ull << 63)

static __thread uint32_t looks;		/* of this thread: names a look, with the thread's id */
__thread struct ntbs_ep_found ntbs_ep_found;

/* ---------------------------------------------------------- hot and cold */

static void arm(struct ntbs_epm *m)
{
	if (!ntbs_sock_attach(m->sk))
		return;
	m->wake_seen = ntbs_le32_read_acquire(&m->sk->q.in->wake);
	ntbs_mbox_arm_set(m->sk);
}

static void cool(struct ntbs_ep *ep, uint32_t i)
{
	struct ntbs_epm *m = ep->hot[i];

	if (!m)
		return;
	m->hot = 0;
	/* the next look arms it: until then it counts as rung */
	if (m->sk && ntbs_sock_attach(m->sk))
		m->wake_seen = ntbs_le32_read(&m->sk->q.in->wake) - 1;
	atomic_store(&ep->rung, 1);
	ep->hot[i] = NULL;	/* last: who is about to sleep finds it hot, or rung */
}

void ntbs_epm_warm(struct ntbs_ep *ep, struct ntbs_epm *m)
{
	uint32_t i;

	if (m->hot)
		return;
	ntbs_lock(&ep->lock);
	if (!m->hot) {
		for (i = 0; i < NTBS_EP_HOT; i++)
			if (!ep->hot[i])
				break;
		if (i == NTBS_EP_HOT) {
			i = ep->hot_hand++ % NTBS_EP_HOT;
			cool(ep, i);
		}
		ntbs_write_once(m->idle_turns, 0);
		m->hot = 1;
		ep->hot[i] = m;
	}
	ntbs_unlock(&ep->lock);
}

/* ------------------------------------------------------------- readiness */

static uint32_t evaluate(struct ntbs_epm *m, bool take);

static bool edge(_Atomic uint64_t *mark, uint64_t now)
{
	uint64_t seen = atomic_load(mark);

	return seen != now && atomic_compare_exchange_strong(mark, &seen, now);
}

/* Bytes of the ring that come once more by TCP, behind Q. */
static uint64_t come_twice(struct ntbs_sock *sk)
{
	uint64_t q, end;
	ssize_t n;

	ntbs_sock_lock_rx(sk);
	q = ntbs_le64_read_acquire(&sk->q.in->q);
	n = q ? ntbs_msgq_avail(&sk->q) : 0;
	end = sk->shm->rx.mq.pos + (n > 0 ? n : 0);
	ntbs_unlock(&sk->shm->rx.lock);
	return q && end > q - 1 ? end - (q - 1) : 0;
}

/*
 * How far the bytes that can be read reach.  On TCP: how many have come.  From the switch on: the ring's mark, and what has
 * come by TCP before the ring (less than the switch said) or behind it.
 */
static uint64_t in_mark(const struct ntbs_epm *m)
{
	struct ntbs_shadow_info info;
	uint32_t state = ntbs_sock_rx_state(m->sk);
	uint64_t w, mark, twice, came;

	if (ntbs_sock_stage(m->sk) != NTBS_LIVE || !(w = ntbs_read_once(m->sk->shm->rx.w)))
		return ntbs_shadow_info(m->sk->fd, &info) ? UINT64_MAX : TCP_MARK | info.bytes_received;
	mark = ntbs_msgq_rx_mark(&m->sk->q);
	if ((state != NTBS_DIR_RING || ntbs_le64_read(&m->sk->q.in->q)) && !ntbs_shadow_came(m->sk->fd, &came)) {
		uint64_t tcp = came - (w - 1);

		twice = come_twice(m->sk);
		if ((int64_t)tcp < 0)
			mark += tcp;
		else if (tcp > twice)
			mark += tcp - twice;
	}
	return mark & ~TCP_MARK;
}

/* Something to read that has not been reported.  The switch itself is no byte. */
static bool in_news(struct ntbs_epm *m, bool take)
{
	uint64_t seen = atomic_load(&m->rx_mark), now = in_mark(m);
	struct ntbs_shadow_info info;

	if (seen == now)
		return false;
	if (seen != UINT64_MAX && (seen & TCP_MARK) && !(now & TCP_MARK) && !ntbs_msgq_readable(&m->sk->q) &&
	    !ntbs_shadow_info(m->sk->fd, &info) && info.bytes_received == (seen & ~TCP_MARK)) {
		atomic_compare_exchange_strong(&m->rx_mark, &seen, now);
		return false;
	}
	return !take || atomic_compare_exchange_strong(&m->rx_mark, &seen, now);
}

static uint32_t ready(const struct ntbs_epm *m)
{
	struct ntbs_sock *sk = m->sk;

	return (uint16_t)ntbs_sock_ready(sk, sk->fd, m->events & NTBS_EP_OUT_NEWS ? m->events | EPOLLOUT : m->events,
					 ntbs_sock_rx_state(sk) != NTBS_DIR_RING || ntbs_sock_tx_state(sk) != NTBS_DIR_RING);
}

static uint32_t readable(const struct ntbs_epm *m)
{
	int inq;

	if (ntbs_sock_stage(m->sk) == NTBS_LIVE)
		return ready(m) & NTBS_EP_IN;
	ntbs_shadow_inq(m->sk->fd, &inq);
	return inq ? NTBS_EP_IN : 0;
}

/*
 * If the kernel is told anew what the member wants, does it tell what has been told?  For one whose bytes are TCP's alone.
 */
bool ntbs_epm_would_repeat(struct ntbs_epm *m)
{
	uint32_t all, end;

	if (!(m->events & EPOLLET) || atomic_load(&m->disabled))
		return false;
	all = (uint16_t)ntbs_shadow_poll(m->sk->fd, NTBS_EP_IN | NTBS_EP_OUT | EPOLLRDHUP | EPOLLPRI);
	end = all & END_EVENTS;
	if (!(all & ntbs_epm_wanted(m)) || (end & ~m->end_mark))
		return false;
	if ((m->events & NTBS_EP_OUT_NEWS) && (all & NTBS_EP_OUT) && m->tx_mark != ntbs_read_once(m->sk->shm->conn.tx.stalls))
		return false;
	return !(m->events & NTBS_EP_IN_NEWS) || in_mark(m) == m->rx_mark;
}

uint32_t ntbs_epm_edges(struct ntbs_epm *m, uint32_t ev, uint32_t all)
{
	struct ntbs_sock *sk = m->sk;
	uint32_t out = 0, end = all & END_EVENTS, seen = atomic_load(&m->end_mark);

	/*
	 * Bytes are an edge if they have been read since, too; then only the rest of what holds is told.  Those that have
	 * come since @ev was found are in the mark, will make no edge again, and so are told now.
	 */
	if ((m->events & NTBS_EP_IN_NEWS) && in_news(m, true)) {
		out |= EPOLLIN;
		if (!(ev & NTBS_EP_IN))
			ev |= readable(m) & m->events;
	}
	if ((m->events & NTBS_EP_OUT_NEWS) && (all & NTBS_EP_OUT) && edge(&m->tx_mark, ntbs_read_once(sk->shm->conn.tx.stalls)))
		out |= EPOLLOUT;
	/* an end is an edge of reading too, asked for by name or not; an error that was told since is none */
	if (end != seen && atomic_compare_exchange_strong(&m->end_mark, &seen, end) && (end & ~seen))
		out |= EPOLLIN;
	/* as in the kernel, an edge of one kind reports all that holds */
	return out ? ev : 0;
}

/*
 * Edges of a set that an edge-triggered member of another one is: what wakes a member of it, told there or not.  The kernel
 * hands wake-ups of the inner set on to the outer one (ep_poll_callback()), which then looks if anything is ready.
 */
static uint64_t inner_news(struct ntbs_ep *ep)
{
	uint32_t nr = atomic_load(&ep->nr);

	atomic_store(&ep->nested, 1);
	for (uint32_t i = 0; i < nr; i++) {
		struct ntbs_epm *m = ep->member[i];
		uint64_t now = 0, seen;
		uint32_t all = 0, end;

		if (!m || !ntbs_epm_in_set(m, ep))
			continue;
		if (m->inner) {
			now = inner_news(m->inner);
		} else if (ntbs_sock_stage(m->sk) == NTBS_LIVE) {
			all = ready(m);
			if ((m->events & NTBS_EP_OUT_NEWS) && (all & NTBS_EP_OUT))
				atomic_store(&m->room_mark, ntbs_read_once(m->sk->shm->conn.tx.stalls));
			now = (m->events & NTBS_EP_IN_NEWS ? in_mark(m) : 0) + (m->room_mark << 48);
		}
		end = atomic_exchange(&m->inner_end, all & END_EVENTS);
		seen = atomic_exchange(&m->inner_mark, now);
		if ((seen != now || (all & END_EVENTS & ~end)) && (seen != UINT64_MAX || evaluate(m, false)))
			atomic_fetch_add(&ep->news, 1);
	}
	return atomic_load(&ep->news);
}

/* A set in a set.  What the kernel has to say of it is asked when it has said that there is something. */
static uint32_t evaluate_inner(struct ntbs_epm *m, bool take)
{
	bool said = take ? atomic_exchange(&m->kernel_says, 0) : atomic_load(&m->kernel_says);
	bool kernel = said && ntbs_epoll_kernel_any(m->inner), ours = ntbs_epoll_any(m->inner, false);
	uint64_t news;

	if (!ours && !kernel)
		return 0;
	if (m->events & EPOLLET) {
		/* the first since it was added: what the kernel has seen there by then is the same edge */
		if (take && !said && m->rx_mark == UINT64_MAX) {
			ntbs_epoll_kernel_any(m->ep);
			atomic_store(&m->kernel_says, 0);
		}
		news = inner_news(m->inner);
		if (!take && !kernel && m->rx_mark == news)
			return 0;
		if (take && !edge(&m->rx_mark, news) && !kernel)
			return 0;
	}
	if (take && (m->events & EPOLLONESHOT) && atomic_exchange(&m->disabled, 1))
		return 0;
	return NTBS_EP_IN & m->events;
}

/* Events to report of one of our members now; @take: they will be reported. */
static uint32_t evaluate(struct ntbs_epm *m, bool take)
{
	struct ntbs_sock *sk = m->sk;
	uint32_t ev, all;

	if (atomic_load(&m->disabled))
		return 0;
	if (m->inner)
		return evaluate_inner(m, take);
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_step(sk, sk->fd);
	if (ntbs_sock_stage(sk) != NTBS_LIVE)
		return 0;		/* the kernel reports it */
	if (!atomic_load(&m->watched_live) && !atomic_exchange(&m->watched_live, 1))
		ntbs_epm_watch_shadow(m);	/* another process of the family made it LIVE */
	if (__builtin_expect(ntbs_sock_tx_state(sk) == NTBS_DIR_BACK, 0)) {
		if (ntbs_sock_rx_state(sk) == NTBS_DIR_BACK)
			ntbs_handover_settle(sk);
		if (ntbs_sock_stage(sk) != NTBS_LIVE)
			return 0;
		if ((m->events & NTBS_EP_OUT_NEWS) && !atomic_exchange(&m->watched_out, 1))
			ntbs_epm_watch_shadow(m);	/* room is the kernel's to tell again */
	}
	all = ready(m);
	ev = all & ntbs_epm_wanted(m);
	if (ev && (m->events & EPOLLET)) {
		if (!take) {
			bool in = (m->events & NTBS_EP_IN_NEWS) && in_news(m, false);
			bool out = (m->events & NTBS_EP_OUT_NEWS) && (all & NTBS_EP_OUT) && m->tx_mark != ntbs_read_once(sk->shm->conn.tx.stalls);

			return in || out || (all & END_EVENTS & ~m->end_mark) ? ev : 0;
		}
		ev = ntbs_epm_edges(m, ev, all);
	}
	if (ev && take && (m->events & EPOLLONESHOT) && atomic_exchange(&m->disabled, 1))
		return 0;
	return ev;
}

/* ---------------------------------------------------------------- looks */

/* 1: in @out; -EFAULT: it would be, and stays news. */
static int report(struct ntbs_ep *ep, struct ntbs_epm *m, struct epoll_event *out, uint64_t turn)
{
	uint32_t ev = ntbs_read_once(m->told) == turn ? 0 : evaluate(m, true);
	uint64_t data;

	if (!ev)
		return 0;
	if (__builtin_expect(ntbs_user_touch(out) || ntbs_user_touch((char *)(out + 1) - 1), 0)) {
		ntbs_epm_untold(m);
		return -EFAULT;
	}
	/* of one epoll_ctl(), which writes: nothing wanted, data, what is wanted */
	do {
		data = m->data;
		ev &= ntbs_epm_wanted(m);
	} while (data != m->data);
	if (!ev) {
		atomic_store(&m->disabled, 0);	/* it was told what it had wanted before */
		return 0;
	}
	ntbs_write_once(m->told, turn);
	/* whoever slept before it was rung for is not rung for again: what comes next may be theirs */
	if (m->sk && atomic_load_explicit(&ep->sleepers, memory_order_relaxed))
		arm(m);
	ntbs_ep_found.level |= !(m->events & (EPOLLET | EPOLLONESHOT));
	out->events = ev;
	out->data.u64 = data;
	return 1;
}

static void arm_any(struct ntbs_epm *m)
{
	if (m->inner)
		ntbs_epoll_any(m->inner, true);
	else if (ntbs_sock_stage(m->sk) == NTBS_LIVE)
		arm(m);
	else if (ntbs_sock_stage(m->sk) == NTBS_OFFER)
		ntbs_offer_sleepy(m->sk);
}

/* A cold member: was it rung since it was armed? */
static bool was_rung(const struct ntbs_epm *m)
{
	return m->inner || !ntbs_sock_attach(m->sk) || ntbs_sock_far(m->sk) ||	/* its bell is the process's alone */
	       ntbs_le32_read_acquire(&m->sk->q.in->wake) != m->wake_seen ||
	       ntbs_sock_stage(m->sk) != NTBS_LIVE;
}

static bool idle(struct ntbs_epm *m)
{
	ntbs_bump(m->idle_turns, 1);
	return ntbs_read_once(m->idle_turns) > COLD_AFTER;
}

static int look_hot(struct ntbs_ep *ep, struct epoll_event *out, int max, uint64_t turn)
{
	uint32_t from = atomic_load_explicit(&ep->hot_rotor, memory_order_relaxed), k;
	int n = 0, told;

	for (k = 0; k < NTBS_EP_HOT && n < max; k++) {
		uint32_t i = (from + k) % NTBS_EP_HOT;
		struct ntbs_epm *m = atomic_load_explicit(&ep->hot[i], memory_order_acquire);

		if (!m || !ntbs_epm_in_set(m, ep))
			continue;
		told = report(ep, m, &out[n], turn);
		if (told) {
			if (told < 0)
				return n ? n : told;
			ntbs_write_once(m->idle_turns, 0);
			n++;
		} else if (idle(m) && m->sk && ntbs_sock_stage(m->sk) == NTBS_LIVE &&
			   ntbs_trylock(&ep->lock)) {
			if (ep->hot[i] == m)
				cool(ep, i);
			ntbs_unlock(&ep->lock);
		}
	}
	if (n == max)
		atomic_store_explicit(&ep->hot_rotor, (from + k) % NTBS_EP_HOT, memory_order_relaxed);
	return n;
}

static int look_cold(struct ntbs_ep *ep, struct epoll_event *out, int max, uint64_t turn, bool all)
{
	uint32_t nr = atomic_load_explicit(&ep->nr, memory_order_acquire), span = all || nr < ROTATE ? nr : ROTATE;
	struct ntbs_epm *_Atomic *member = ep->member;
	uint32_t rotor = ep->rotor, i;
	int n = 0, told;

	for (i = 0; i < span && n < max; i++) {
		struct ntbs_epm *m = member[(rotor + i) % nr];

		if (!m || m->hot || !ntbs_epm_in_set(m, ep) || !ntbs_epm_is_ours(m) || !was_rung(m))
			continue;
		if (ntbs_read_once(m->told) == turn)	/* cooled down since: it stays rung, who cooled it asks for a look */
			continue;
		told = report(ep, m, &out[n], turn);
		if (!told) {		/* rung for something else (credit): armed again, and looked at again */
			arm_any(m);
			told = report(ep, m, &out[n], turn);
		}
		if (told)
			ntbs_epm_warm(ep, m);
		if (told < 0)
			return n ? n : told;
		n += told;
	}
	atomic_store_explicit(&ep->rotor, nr ? (rotor + i) % nr : 0, memory_order_relaxed);
	return n;
}

int ntbs_epoll_look(struct ntbs_ep *ep, struct epoll_event *out, int max)
{
	bool rung = atomic_exchange(&ep->rung, 0), all = false;
	int cold_first = atomic_load_explicit(&ep->full, memory_order_relaxed), n = 0, k;
	uint64_t turn = (uint64_t)ntbs_my_tid() << 32 | ++looks;

	for (int part = 0; part < 2 && n >= 0 && n < max; part++) {
		if (part == cold_first) {
			k = look_hot(ep, out + n, max - n, turn);
		} else {
			k = rung || ep->nr > NTBS_EP_HOT / 2 ? look_cold(ep, out + n, max - n, turn, rung) : 0;
			all = k >= 0 && n + k < max;
		}
		n = k >= 0 ? n + k : n ? n : k;
	}
	if (rung && !all)
		atomic_store(&ep->rung, 1);	/* there may be more */
	return n;
}

static bool more_is_ready(struct ntbs_ep *ep)
{
	if (atomic_load(&ep->rung))		/* not all have been looked at */
		return true;
	if (ep->nr > NTBS_EP_HOT)		/* it would take long to say */
		return false;
	for (uint32_t i = 0; i < NTBS_EP_HOT; i++) {
		struct ntbs_epm *m = ep->hot[i];

		if (m && ntbs_epm_in_set(m, ep) && evaluate(m, false))
			return true;
	}
	return false;
}

void ntbs_epoll_wake_next(struct ntbs_ep *ep, bool full)
{
	if (__builtin_expect(atomic_load_explicit(&ep->sleepers, memory_order_relaxed), 0) &&
	    (ntbs_ep_found.level || ntbs_ep_found.bell || (full && more_is_ready(ep))))
		ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
}

void ntbs_epoll_arm_hot(struct ntbs_ep *ep)
{
	for (uint32_t i = 0; i < NTBS_EP_HOT; i++) {
		struct ntbs_epm *m = ep->hot[i];

		if (m && ntbs_epm_in_set(m, ep))
			arm_any(m);
	}
}

bool ntbs_epoll_any(struct ntbs_ep *ep, bool arm_all)
{
	uint32_t nr = atomic_load(&ep->nr);
	bool any = ntbs_epoll_kept(ep);

	if (arm_all) {
		atomic_store(&ep->slept_on, 1);	/* as E1 */
		ntbs_epoll_arm_hot(ep);
	}
	for (uint32_t i = 0; i < nr && (!any || arm_all); i++) {
		struct ntbs_epm *m = ep->member[i];

		if (!m || !ntbs_epm_in_set(m, ep) || !ntbs_epm_is_ours(m))
			continue;
		/* also behind one that is ready: who asks may know of that one already, and wait for the others */
		if (arm_all && !m->hot && was_rung(m))
			arm_any(m);
		any = any || evaluate(m, false);
	}
	return any;
}

bool ntbs_epoll_slept_on(struct ntbs_ep *ep)
{
	return atomic_load(&ep->sleepers) || atomic_load(&ep->slept_on);	/* E2: members, then who sleeps on them */
}

bool ntbs_epm_holds(struct ntbs_epm *m)
{
	return !(m->events & EPOLLET) && m->sk && ntbs_sock_stage(m->sk) == NTBS_LIVE && (ready(m) & ntbs_epm_wanted(m));
}

void ntbs_epoll_changed(struct ntbs_ep *ep, struct ntbs_epm *m, bool held)
{
	if (atomic_load(&ep->nested) && !held && evaluate(m, false))
		atomic_fetch_add(&ep->news, 1);		/* as ep_insert() and ep_modify() */
	if (!ntbs_epoll_slept_on(ep))
		return;
	if (m->sk && ntbs_sock_stage(m->sk) == NTBS_OFFER)
		ntbs_offer_sleepy(m->sk);
	if (m->sk && ntbs_sock_stage(m->sk) == NTBS_LIVE)
		arm(m);
	if (evaluate(m, false))
		ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
}
