// SPDX-License-Identifier: BSD-2-Clause
/*
 * offer.c - see offer.h: what both sides do
 *
 * How each side makes its moves is in offer_connect.c and offer_accept.c.  Here is what does not depend on the side, or
 * only chooses between them: what a connection knows of itself, how it becomes LIVE, how long it waits for the other
 * side, how it leaves before a fork or another end.
 *
 * Invariants: ctl lock held for every move; a claim binds only while one process holds the description (holders == 1),
 * since only that process is sure to have the channel mapped.
 */
#include "offer_impl.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>

#include "conf.h"
#include "epoll.h"
#include "far.h"
#include "shadow.h"
#include "sys.h"
#include "wait.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define UNCLAIMED_CALLS 1024	/* answers that came by TCP while nobody claimed: there is no library at the other end */
#define UNCLAIMED_NS 500000000	/* or the broker or its turn of the CPU comes late: not before the offer is as old as this */
#define HOLD_BYTES 65536	/* sent by TCP: there will be more */
#define HOLD_BLOCKS 64		/* of HOLD_BYTES, after which nobody is waited for */
#define HOLD_AGAIN 16		/* of them, after which somebody who has been asked is waited for again */
#define HOLD_NS 4000000
#define HOLD_BLOCKING_NS 25000000	/* where there are more programs than CPUs the other side's turn comes late */
#define FORKED_LOOKS 256	/* a process that has accepted for its child closes its own descriptor soon */

/*
 * We have forked with an accepted connection in hand: a server with a child for each.  The child that goes on with it
 * shall claim it, with bells of its own; what the parent claims rings all children.  If it was no such server the claim
 * comes with the first call instead of accept().
 */
bool ntbs_offer_forks_with_connection;

static bool addr16(const struct sockaddr_storage *ss, uint8_t *a, uint16_t *port)
{
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

		memset(a, 0, 10);
		a[10] = a[11] = 0xff;
		memcpy(a + 12, &in->sin_addr, 4);
		*port = ntohs(in->sin_port);
		return true;
	}
	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

		memcpy(a, &in6->sin6_addr, 16);
		*port = ntohs(in6->sin6_port);
		return true;
	}
	return false;
}

bool ntbs_offer_learn(struct ntbs_sock *sk, int fd)
{
	struct ntbs_tuple *t = &sk->shm->conn.tuple;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (ntbs_sys3(SYS_getsockname, fd, &ss, &len) < 0 || !addr16(&ss, t->laddr, &t->lport))
		return false;
	sk->shm->conn.family = ss.ss_family;
	len = sizeof(ss);
	if (ntbs_sys3(SYS_getpeername, fd, &ss, &len) < 0 || !addr16(&ss, t->raddr, &t->rport))
		return false;
	len = sizeof(sk->shm->netns);
	if (ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_NETNS_COOKIE, &sk->shm->netns, &len) < 0)
		sk->shm->netns = 0;
	return true;
}

void ntbs_offer_fill_queue(struct ntbs_sock *sk, struct ntbs_chan *c)
{
	sk->chan = c;
	sk->q.geo = c->geo;
	if (c->is_far) {
		ntbs_far_fill_queue(sk, c);
	} else {
		sk->q.port = &ntbs_rt.port;
		sk->q.in = ntbs_chan_inbox(c, sk->shm->lease, c->acceptor);
		sk->q.out = ntbs_chan_inbox(c, sk->shm->lease, !c->acceptor);
		sk->q.copy = NULL;
		sk->q.engine_on = NULL;
		sk->q.epoch = 0;
	}
	sk->q.tx = &sk->shm->tx.mq;
	sk->q.rx = &sk->shm->rx.mq;
	sk->q.long_min = ntbs_conf.long_min ? ntbs_conf.long_min : NTBS_MSGQ_LONG_MIN;
	/* who sets the knob means stores past the cache; else it is the port's experience */
	sk->q.long_cached = !ntbs_conf.long_min && sk->q.port->nt_min > NTBS_MSGQ_LONG_MIN;
	atomic_store(&sk->attached, 1);
}

void ntbs_offer_live(struct ntbs_sock *sk)
{
	ntbs_write_once(sk->shm->conn.chan, sk->shm->chan);
	ntbs_write_once(sk->shm->conn.lease, sk->shm->lease);
	ntbs_stream_state_bufs(sk);
	ntbs_sock_set_stage(sk, NTBS_LIVE, NTBS_WHY_NONE);
	/* shut before it was claimed: shutdown() sets the flag before it looks at the stage, so one of us states it */
	if (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR)
		ntbs_stream_state_final(sk);
	ntbs_epoll_sock_live(sk);
	ntbs_offer_let_go(sk);
	/* a claim that binds rings nobody here, and the peer's bytes would not either: they are to arm now */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&sk->slept_on, memory_order_relaxed))
		ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
}

/*
 * A process that has inherited the socket has inherited the mapping too.  Anything else cannot be: OFFER does not
 * survive a fork on the connecting side, and is claimed on the accepting side by a sole holder only.
 */
bool ntbs_sock_attach(struct ntbs_sock *sk)
{
	return atomic_load_explicit(&sk->attached, memory_order_acquire);
}

void ntbs_offer_step(struct ntbs_sock *sk, int fd)
{
	if (sk->shm->conn.accepted)
		ntbs_offer_acceptor_step(sk, fd, false);
	else
		ntbs_offer_connector_step(sk);
}

void ntbs_offer_bytes_came(struct ntbs_sock *sk, int fd)
{
	if (sk->shm->conn.accepted) {
		if (sk->shm->claim_asked)
			return;
		ntbs_offer_acceptor_step(sk, fd, true);
		ntbs_lock(&sk->shm->ctl);	/* another thread may be claiming it */
		if (ntbs_sock_stage(sk) == NTBS_OFFER && !sk->shm->claim_asked && !sk->shm->claim_waits) {
			if (atomic_load(&sk->shm->holders) != 1) {
				if (++sk->shm->offer_forked == FORKED_LOOKS)
					ntbs_sock_plain(sk, NTBS_WHY_FORKED);
			} else if (--sk->shm->offer_calls == 0) {
				if (sk->shm->offered_ns && ntbs_now_ns() - sk->shm->offered_ns < UNCLAIMED_NS)
					sk->shm->offer_calls = 1;	/* of a connection that was on the ring: it will come */
				else
					ntbs_sock_plain(sk, NTBS_WHY_NO_OFFER);
			}
		}
		ntbs_unlock(&sk->shm->ctl);
	} else if (++sk->shm->offer_calls % UNCLAIMED_CALLS == 0 && ntbs_now_ns() - sk->shm->offered_ns > UNCLAIMED_NS) {
		ntbs_offer_withdraw(sk, NTBS_WHY_UNCLAIMED);
	}
}

void ntbs_offer_hold(struct ntbs_sock *sk, int fd, bool may_wait)
{
	bool asked = sk->shm->claim_asked, due;
	struct ntbs_wait w = { .restarts = false };
	uint64_t blocks;

	if (may_wait && ntbs_offer_held(sk))
		ntbs_offer_await(sk, fd);
	ntbs_sock_lock_tx(sk);
	blocks = sk->shm->conn.tx.tcp_bytes / HOLD_BYTES;
	due = blocks && blocks >= sk->shm->held && blocks < HOLD_BLOCKS;
	if (due)
		sk->shm->held = !asked ? blocks + 1 : may_wait ? blocks + HOLD_AGAIN : HOLD_BLOCKS;
	ntbs_unlock(&sk->shm->tx.lock);
	if (!due)
		return;
	if (!asked) {
		ntbs_sys0(SYS_sched_yield);
		ntbs_offer_step(sk, fd);
		return;
	}
	w.deadline_ns = ntbs_now_ns() + (may_wait ? HOLD_BLOCKING_NS : HOLD_NS);
	do {	/* a connection that has ended wakes us again and again */
		w.mark = ntbs_sig_mark();
		ntbs_offer_step(sk, fd);
	} while (ntbs_sock_stage(sk) == NTBS_OFFER && !(ntbs_shadow_poll(fd, 0) & (POLLHUP | POLLERR)) &&
		 ntbs_wait_shadow(fd, 0, &w) != -ETIMEDOUT);
}

bool ntbs_offer_unnoticed(const struct ntbs_sock *sk)
{
	struct ntbs_offer_shm *o = sk->shm->conn.accepted ? ntbs_offer_entry(sk) : NULL;
	uint64_t word = o ? ntbs_le64_read_acquire(&o->word) : 0;

	return o && NTBS_OFFER_STATE(word) == NTBS_OFFER_CLAIMED &&
	       NTBS_OFFER_TAG(word) == NTBS_OFFER_TAG(sk->shm->offer_word) &&
	       NTBS_OFFER_CHAN(word) == sk->shm->chan && NTBS_OFFER_LEASE(word) == sk->shm->lease &&
	       (sk->board->uid == NTBS_BOARD_REMOTE_UID || __atomic_load_n(&o->shut, __ATOMIC_RELAXED));
}

void ntbs_offer_before_shut_wr(struct ntbs_sock *sk)
{
	struct ntbs_offer_shm *o;

	ntbs_lock(&sk->shm->ctl);
	if (ntbs_sock_stage(sk) == NTBS_OFFER) {
		o = ntbs_offer_entry(sk);
		ntbs_sock_set_flag(sk, NTBS_SK_SHUT_WR);	/* a later claim states it */
		if (!sk->shm->conn.accepted)
			__atomic_store_n(&o->shut, 1, __ATOMIC_RELAXED);
		else if (ntbs_sock_attach(sk))
			ntbs_stream_state_final(sk);
	}
	ntbs_unlock(&sk->shm->ctl);
}

void ntbs_offer_sleepy(struct ntbs_sock *sk)
{
	struct ntbs_offer_shm *o;

	if (ntbs_read_once(sk->shm->conn.accepted)) {	/* its entry is the connector's, and may just be found by another thread */
		if (__builtin_expect(atomic_load_explicit(&sk->awaits, memory_order_relaxed), 0))
			ntbs_offer_acceptor_awaits(sk);
		atomic_store(&sk->slept_on, 1);		/* then the caller's look at the stage: pairs with ntbs_offer_live() */
		atomic_thread_fence(memory_order_seq_cst);
		return;
	}
	/* seq_cst on both sides: either the claimer sees the hint or we see the claim in the step that follows */
	o = ntbs_offer_entry(sk);
	if (o)
		__atomic_store_n(&o->hint, 1, __ATOMIC_SEQ_CST);
}

void ntbs_offer_withdraw(struct ntbs_sock *sk, enum ntbs_reason why)
{
	ntbs_lock(&sk->shm->ctl);
	if (ntbs_sock_stage(sk) == NTBS_OFFER) {
		if (!sk->shm->conn.accepted) {
			ntbs_offer_connector_withdraw(sk, why);
		} else if (sk->shm->claim_asked) {
			ntbs_offer_acceptor_withdraw(sk, why);
		} else {
			ntbs_sock_plain(sk, why);
		}
	}
	ntbs_unlock(&sk->shm->ctl);
}

bool ntbs_offer_never(struct ntbs_sock *sk, enum ntbs_reason why)
{
	ntbs_lock(&sk->shm->ctl);
	if (ntbs_sock_stage(sk) == NTBS_NEW)
		ntbs_sock_plain(sk, why);
	ntbs_unlock(&sk->shm->ctl);
	return ntbs_sock_stage(sk) == NTBS_PLAIN;
}

/*
 * Connecting: only this process is sure to get the channel, so the offer goes.  Accepting: an unclaimed one may be claimed
 * by whoever is the sole holder later; one that is asked for stays, and parent and child both have the channel - but the
 * child will not get the broker's messages, so the connector's bells must be here now.  That holds for one that has been
 * confirmed, too: the confirmation comes through memory, and may be quicker than the broker.
 */
void ntbs_offer_before_fork(struct ntbs_sock *sk)
{
	if (sk->shm->conn.accepted)
		ntbs_offer_forks_with_connection = true;
	if (ntbs_sock_stage(sk) == NTBS_OFFER || ntbs_sock_stage(sk) == NTBS_NEW) {
		ntbs_lock(&sk->shm->ctl);	/* an offer or a claim that is being made by another thread is made */
		ntbs_unlock(&sk->shm->ctl);
	}
	if (ntbs_sock_stage(sk) == NTBS_LIVE && sk->chan && !sk->chan->peer)
		ntbs_broker_await_bells(sk->chan);
	if (ntbs_sock_stage(sk) != NTBS_OFFER)
		return;
	if (!sk->shm->conn.accepted) {
		ntbs_offer_withdraw(sk, NTBS_WHY_FORKED);
	} else if (sk->shm->claim_asked && sk->chan && !ntbs_broker_await_bells(sk->chan)) {
		ntbs_offer_withdraw(sk, NTBS_WHY_FORKED);
	}
}

/* Offered in the session of @c, which is over: a claim of it may come yet, from who has not noticed. */
static bool awaits_claim(const struct ntbs_sock *sk, const struct ntbs_chan *c)
{
	const struct ntbs_board *b = sk->board;

	return !c->acceptor && c->session != ntbs_rt.session && b && b->session == c->session && ntbs_sock_stage(sk) == NTBS_OFFER;
}

/* Also by one that is on its way out and has not let go yet. */
bool ntbs_chan_in_use(struct ntbs_chan *c)
{
	struct ntbs_sock *sk;

	for (uint32_t i = 0; (sk = ntbs_sock_by_index(i)) != NULL; i++)
		if (sk->chan == c || awaits_claim(sk, c))
			return true;
	return false;
}
