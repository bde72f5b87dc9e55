// SPDX-License-Identifier: BSD-2-Clause
/*
 * offer.c - see offer.h
 *
 * Connecting side: the offer is written into the board of our user; ASKED means that somebody wants it by way of a
 * channel that we may not have mapped yet.  Accepting side: a look-up by 4-tuple; an offer in our own user's board we
 * claim by compare-exchange, one in a board that we may only read the broker asks for on our behalf, with the accepted
 * socket as proof.
 *
 * Invariants: ctl lock held for every move; a claim binds only while one process holds the description (holders == 1),
 * since only that process is sure to have the channel mapped; the lease is prepared (both line 0 and 1, queue state)
 * before the word says claimed.
 */
#include "offer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <urcu-bp.h>

#include "conf.h"
#include "epoll.h"
#include "fdtab.h"
#include "log.h"
#include "mbox.h"
#include "runtime.h"
#include "service.h"
#include "shadow.h"
#include "stats.h"
#include "sys.h"
#include "wait.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define UNCLAIMED_CALLS 1024	/* answers that came by TCP while nobody claimed: there is no library at the other end */
#define CONFIRM_WAIT_NS 1000000000ull
#define HOLD_BYTES 65536	/* sent by TCP: there will be more */
#define HOLD_BLOCKS 64		/* of HOLD_BYTES, after which nobody is waited for */
#define HOLD_NS 4000000
#define REMOTE_LOOKS 64		/* an offer from another host may come later than its first bytes */
#define FORKED_LOOKS 256	/* a process that has accepted for its child closes its own descriptor soon */

/*
 * We have forked with an accepted connection in hand: a server with a child for each.  The child that goes on with it
 * shall claim it, with bells of its own; what the parent claims rings all children.  If it was no such server the claim
 * comes with the first call instead of accept().
 */
static bool forks_with_connection;

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

/* Our own view of the connection, into conn.tuple. */
static bool learn_tuple(struct ntbs_sock *sk, int fd)
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

/* Our offer, or the one that we have asked for.  Its board may be that of a broker that has gone: boards stay mapped. */
static struct ntbs_offer_shm *my_entry(const struct ntbs_sock *sk)
{
	return sk->board ? &sk->board->shm->offer[sk->shm->entry % NTBS_BOARD_OFFERS] : NULL;
}

static void set_live(struct ntbs_sock *sk)
{
	ntbs_write_once(sk->shm->conn.chan, sk->shm->chan);
	ntbs_write_once(sk->shm->conn.lease, sk->shm->lease);
	ntbs_sock_set_stage(sk, NTBS_LIVE, NTBS_WHY_NONE);
	/* shut before it was claimed: shutdown() sets the flag before it looks at the stage, so one of us states it */
	if (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR)
		ntbs_stream_state_final(sk);
	ntbs_epoll_sock_live(sk);
}

static void fill_queue(struct ntbs_sock *sk, struct ntbs_chan *c)
{
	sk->chan = c;
	sk->q.port = &ntbs_rt.port;
	sk->q.geo = c->geo;
	sk->q.in = ntbs_chan_inbox(c, sk->shm->lease, c->acceptor);
	sk->q.out = ntbs_chan_inbox(c, sk->shm->lease, !c->acceptor);
	sk->q.tx = &sk->shm->tx.mq;
	sk->q.rx = &sk->shm->rx.mq;
	sk->q.long_min = ntbs_conf.long_min ? ntbs_conf.long_min : NTBS_MSGQ_LONG_MIN;
	/* who sets the knob means stores past the cache; else it is the port's experience */
	sk->q.long_cached = !ntbs_conf.long_min && sk->q.port->nt_min > NTBS_MSGQ_LONG_MIN;
	atomic_store(&sk->attached, 1);
}

/*
 * A process that has inherited the socket has inherited the mapping too.  Anything else cannot be: OFFER does not
 * survive a fork on the connecting side, and is claimed on the accepting side by a sole holder only.
 */
bool ntbs_sock_attach(struct ntbs_sock *sk)
{
	return atomic_load_explicit(&sk->attached, memory_order_acquire);
}

/* ------------------------------------------------------------ connecting */

static void post(struct ntbs_sock *sk)
{
	struct ntbs_board *b = ntbs_rt.board;
	uint32_t hash = ntbs_offer_hash(&sk->shm->conn.tuple, sk->shm->netns);

	for (uint32_t i = 0; i < NTBS_BOARD_PROBE; i++) {
		struct ntbs_offer_shm *o = &b->shm->offer[(hash + i) % NTBS_BOARD_OFFERS];
		uint64_t word = ntbs_le64_read(&o->word), taken;

		if (NTBS_OFFER_STATE(word) != NTBS_OFFER_FREE)
			continue;
		taken = ntbs_offer_word(NTBS_OFFER_WRITING, NTBS_OFFER_TAG(word) + 1, 0, 0);
		if (!__atomic_compare_exchange_n(&o->word.v, &word, taken, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		o->netns = sk->shm->netns;
		o->tuple = sk->shm->conn.tuple;
		o->proc = ntbs_rt.proc;
		__atomic_store_n(&o->hint, 0, __ATOMIC_RELAXED);
		sk->shm->entry = (hash + i) % NTBS_BOARD_OFFERS;
		sk->shm->offer_word = ntbs_offer_word(NTBS_OFFER_OFFERED, NTBS_OFFER_TAG(taken), 0, 0);
		sk->shm->offer_calls = 0;
		sk->board = b;
		ntbs_sock_set_stage(sk, NTBS_OFFER, NTBS_WHY_OFFERED);
		ntbs_le64_write_release(&o->word, sk->shm->offer_word);
		return;
	}
	ntbs_sock_plain(sk, NTBS_WHY_BOARD_FULL);
}

static bool same_end(const struct ntbs_tuple *t)
{
	return t->lport == t->rport && !memcmp(t->laddr, t->raddr, 16);
}

void ntbs_offer_connected(struct ntbs_sock *sk, int fd)
{
	struct ntbs_msg_claim msg = { .h = { NTBS_MSG_OFFER_REMOTE, sizeof(msg), 0 } };
	uint32_t remote_node = 0;
	bool posted = false;
	enum ntbs_reason why;

	ntbs_sock_clear_flag(sk, NTBS_SK_CONNECTING);
	if (ntbs_sock_stage(sk) != NTBS_NEW)
		return;
	ntbs_lock(&sk->shm->ctl);
	if (ntbs_sock_stage(sk) != NTBS_NEW)
		goto out;
	if (ntbs_sock_flags(sk) & NTBS_SK_NO_SWITCH)
		ntbs_sock_plain(sk, NTBS_WHY_OPTION);
	else if (!learn_tuple(sk, fd) || same_end(&sk->shm->conn.tuple))
		ntbs_sock_plain(sk, NTBS_WHY_OPTION);
	else if (!ntbs_runtime_ready() || !ntbs_service_start())
		ntbs_sock_plain(sk, NTBS_WHY_NO_BROKER);
	else if ((why = ntbs_rules_check(&sk->shm->conn.tuple, false, &remote_node)) != NTBS_WHY_NONE)
		ntbs_sock_plain(sk, why);
	else if (atomic_load(&sk->shm->holders) != 1)
		ntbs_sock_plain(sk, NTBS_WHY_FORKED);
	else
		post(sk);
	posted = ntbs_sock_stage(sk) == NTBS_OFFER;
	if (posted)
		ntbs_epoll_sock_offer(sk);
	msg.word = sk->shm->offer_word;
	msg.entry = sk->shm->entry;
	msg.uid = ntbs_rt.uid;
out:
	ntbs_unlock(&sk->shm->ctl);
	/* the runtime's lock is not taken in a connector's ctl lock: who holds the former may step connectors */
	if (posted && remote_node)
		ntbs_broker_send(&msg, sizeof(msg), NULL, 0);
}

void ntbs_offer_look_connected(struct ntbs_sock *sk, int fd)
{
	struct ntbs_shadow_info info;

	if (ntbs_shadow_info(fd, &info) || info.state == TCP_SYN_SENT)
		return;
	if (info.state == TCP_ESTABLISHED || info.state == TCP_CLOSE_WAIT)
		ntbs_offer_connected(sk, fd);
}

/* The claim binds, the channel is mapped: ctl lock held. */
static void connector_live(struct ntbs_sock *sk, struct ntbs_chan *c, uint64_t word, bool confirm)
{
	struct ntbs_sock_shm *shm = sk->shm;
	uint32_t first_in, first_out;

	shm->chan = c->id;
	shm->lease = NTBS_OFFER_LEASE(word);
	fill_queue(sk, c);
	shm->generation = ntbs_le32_read(&sk->q.out->generation);
	first_in = ntbs_le32_read(&sk->q.in->first_seq);
	first_out = ntbs_le32_read(&sk->q.out->first_seq);
	ntbs_msgq_init(&sk->q, shm->generation, first_out, first_in);
	if (confirm) {
		ntbs_le32_write_release(&sk->q.out->confirm, shm->generation);
		ntbs_peer_ring(c, 0);
	}
	set_live(sk);
}

/* The entry is free for the next; tag moves on with its next use. */
static void free_entry(struct ntbs_offer_shm *o, uint64_t word)
{
	ntbs_le64_write_release(&o->word, ntbs_offer_word(NTBS_OFFER_FREE, NTBS_OFFER_TAG(word), 0, 0));
}

static void connector_step(struct ntbs_sock *sk)
{
	struct ntbs_offer_shm *o = my_entry(sk);
	uint64_t word, claimed;
	struct ntbs_chan *c;

	if (ntbs_lock_mine(&ntbs_rt.lock))	/* a signal handler has interrupted the holder: later */
		return;
	word = ntbs_le64_read_acquire(&o->word);
	if (word == sk->shm->offer_word)
		return;
	/* the channel is on its way to us, and our service thread may have to wait for a CPU that we keep busy */
	if (NTBS_OFFER_STATE(word) == NTBS_OFFER_ASKED && !ntbs_chan_known(NTBS_OFFER_CHAN(word)))
		ntbs_service_take_news();
	ntbs_lock(&sk->shm->ctl);
	if (ntbs_sock_stage(sk) != NTBS_OFFER)
		goto out;
	word = ntbs_le64_read_acquire(&o->word);
	if (NTBS_OFFER_TAG(word) == NTBS_OFFER_TAG(sk->shm->offer_word) &&
	    NTBS_OFFER_STATE(word) == NTBS_OFFER_WITHDRAWN) {	/* by the acceptor, before we had confirmed */
		ntbs_sock_plain(sk, NTBS_WHY_PEER_ASKED);
		free_entry(o, word);
		goto out;
	}
	if (NTBS_OFFER_TAG(word) != NTBS_OFFER_TAG(sk->shm->offer_word) ||
	    (NTBS_OFFER_STATE(word) != NTBS_OFFER_ASKED && NTBS_OFFER_STATE(word) != NTBS_OFFER_CLAIMED)) {
		if (NTBS_OFFER_STATE(word) != NTBS_OFFER_OFFERED)
			ntbs_sock_plain(sk, NTBS_WHY_UNCLAIMED);	/* a broker has cleared the board */
		goto out;
	}
	c = ntbs_chan_hold(sk, NTBS_OFFER_CHAN(word));
	if (!c || NTBS_OFFER_LEASE(word) >= c->nr_leases) {
		sk->chan = NULL;
		if (NTBS_OFFER_STATE(word) == NTBS_OFFER_CLAIMED) {
			/* only we let a channel become "attached": this is a claim by somebody who lies */
			ntbs_sock_plain(sk, NTBS_WHY_CORRUPT);
			free_entry(o, word);
		}
		goto out;
	}
	if (NTBS_OFFER_STATE(word) == NTBS_OFFER_CLAIMED) {
		connector_live(sk, c, word, false);
		free_entry(o, word);
		goto out;
	}
	claimed = ntbs_offer_word(NTBS_OFFER_CLAIMED, NTBS_OFFER_TAG(word), NTBS_OFFER_LEASE(word), NTBS_OFFER_CHAN(word));
	if (atomic_load(&sk->shm->holders) == 1 &&
	    __atomic_compare_exchange_n(&o->word.v, &word, claimed, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		connector_live(sk, c, claimed, true);
		free_entry(o, claimed);
	} else {
		sk->chan = NULL;
	}
out:
	ntbs_unlock(&sk->shm->ctl);
}

/* ctl lock held */
static void connector_withdraw(struct ntbs_sock *sk, enum ntbs_reason why)
{
	struct ntbs_offer_shm *o = my_entry(sk);
	uint64_t word = o ? ntbs_le64_read_acquire(&o->word) : 0;

	while (o && NTBS_OFFER_TAG(word) == NTBS_OFFER_TAG(sk->shm->offer_word) &&
	       (NTBS_OFFER_STATE(word) == NTBS_OFFER_OFFERED || NTBS_OFFER_STATE(word) == NTBS_OFFER_ASKED)) {
		uint64_t none = ntbs_offer_word(NTBS_OFFER_WITHDRAWN, NTBS_OFFER_TAG(word), 0, 0);

		if (__atomic_compare_exchange_n(&o->word.v, &word, none, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
			free_entry(o, none);
			ntbs_sock_plain(sk, why);
			return;
		}
	}
	if (o && NTBS_OFFER_STATE(word) == NTBS_OFFER_CLAIMED &&
	    NTBS_OFFER_TAG(word) == NTBS_OFFER_TAG(sk->shm->offer_word)) {
		struct ntbs_chan *c;

		c = ntbs_chan_hold(sk, NTBS_OFFER_CHAN(word));
		if (c && NTBS_OFFER_LEASE(word) < c->nr_leases) {
			connector_live(sk, c, word, false);
			free_entry(o, word);
			return;
		}
		sk->chan = NULL;
	}
	ntbs_sock_plain(sk, why);
}

/* -------------------------------------------------------------- accepting */

/* The lease begins a generation: nobody else uses it now. */
static void prepare_lease(struct ntbs_sock *sk, struct ntbs_chan *c, int lease)
{
	struct ntbs_sock_shm *shm = sk->shm;
	uint32_t gen = c->leases->lease[lease].generation;
	uint32_t seq_in = c->leases->lease[lease].next_in, seq_out = c->leases->lease[lease].next_out;
	struct ntbs_inbox_shm *in = ntbs_chan_inbox(c, lease, true), *out = ntbs_chan_inbox(c, lease, false);

	/* over what the connector of the last generation published and nobody read: it has let go, this is its end */
	for (uint32_t n = 0; n < c->geo.nr_slots &&
			     NTBS_TAIL_STAMP(ntbs_le64_read_acquire(&in->slot[seq_in & (c->geo.nr_slots - 1)].line1.tail)) ==
				     (uint16_t)seq_in;
	     n++)
		seq_in++;
	shm->chan = c->id;
	shm->lease = lease;
	shm->generation = gen;
	for (int i = 0; i < 2; i++) {
		struct ntbs_inbox_shm *box = i ? out : in;

		memset(&box->head, 0, offsetof(struct ntbs_inbox_shm, slot) - offsetof(struct ntbs_inbox_shm, head));
		ntbs_le64_write(&box->consumed, 0);
		ntbs_le32_write(&box->abi, NTBS_INBOX_ABI);
		ntbs_le32_write(&box->epoch, 0);
		ntbs_le32_write(&box->first_seq, i ? seq_out : seq_in);
		/* what each side has consumed of the other at the start: all before the first */
		ntbs_le64_write(&box->head, ntbs_head_word(i ? seq_in : seq_out, 0, gen));
		ntbs_le32_write_release(&box->generation, gen);
	}
	fill_queue(sk, c);
	ntbs_msgq_init(&sk->q, gen, seq_out, seq_in);
	shm->tx.rung = 0;
}

static void undo_lease(struct ntbs_sock *sk)
{
	struct ntbs_chan *c = sk->chan;

	atomic_store(&sk->attached, 0);
	sk->chan = NULL;
	sk->shm->chan = 0;
	ntbs_chan_unlease(c, sk->shm->lease);
}

struct found {
	struct ntbs_board *board;
	uint32_t entry;
	uint64_t word;
	uint32_t proc;
};

static bool look_in(struct ntbs_board *b, const struct ntbs_tuple *key, uint64_t netns, struct found *f)
{
	uint32_t hash = ntbs_offer_hash(key, netns);

	for (uint32_t i = 0; i < NTBS_BOARD_PROBE; i++) {
		uint32_t n = (hash + i) % NTBS_BOARD_OFFERS;
		struct ntbs_offer_shm *o = &b->shm->offer[n];
		uint64_t word = ntbs_le64_read_acquire(&o->word);

		if (NTBS_OFFER_STATE(word) != NTBS_OFFER_OFFERED || o->netns != netns ||
		    memcmp(&o->tuple, key, sizeof(*key)))
			continue;
		*f = (struct found){ b, n, word, __atomic_load_n(&o->proc, __ATOMIC_RELAXED) };
		return true;
	}
	return false;
}

static bool look(struct ntbs_sock *sk, struct found *f)
{
	const struct ntbs_tuple *mine = &sk->shm->conn.tuple;
	struct ntbs_tuple key;
	struct ntbs_board *b;
	bool hit = false;

	memset(&key, 0, sizeof(key));
	memcpy(key.laddr, mine->raddr, 16);
	memcpy(key.raddr, mine->laddr, 16);
	key.lport = mine->rport;
	key.rport = mine->lport;
	rcu_read_lock();
	cds_list_for_each_entry_rcu(b, &ntbs_rt.boards, node) {
		hit = look_in(b, &key, b->uid == NTBS_BOARD_REMOTE_UID ? 0 : sk->shm->netns, f);
		if (hit)
			break;
	}
	rcu_read_unlock();
	return hit;
}

/* ctl lock held.  True: claimed or asked for. */
static bool claim(struct ntbs_sock *sk, int fd)
{
	struct ntbs_chan *c;
	struct found f;
	uint64_t word;
	bool binding;
	int lease;

	if (!look(sk, &f))
		return false;
	c = ntbs_chan_for(f.proc, &lease);
	if (!c) {
		ntbs_sock_plain(sk, NTBS_WHY_NO_MEMORY);
		return true;
	}
	prepare_lease(sk, c, lease);
	sk->board = f.board;
	sk->shm->entry = f.entry;
	sk->shm->offer_word = ntbs_offer_word(NTBS_OFFER_ASKED, NTBS_OFFER_TAG(f.word), lease, c->id);
	if (!f.board->mine) {
		struct ntbs_msg_claim msg = { .h = { NTBS_MSG_CLAIM, sizeof(msg), 0 }, .chan = c->id, .word = f.word,
					      .uid = f.board->uid, .entry = f.entry, .lease = lease };

		sk->shm->claim_asked = ntbs_broker_send(&msg, sizeof(msg), &fd, 1) ? 2 : 0;
		if (!sk->shm->claim_asked) {
			undo_lease(sk);
			ntbs_sock_plain(sk, NTBS_WHY_NO_BROKER);
		}
		return true;
	}
	binding = ntbs_le32_read_acquire(&c->shm->attached) && c->peer;
	word = f.word;
	if (!__atomic_compare_exchange_n(&f.board->shm->offer[f.entry].word.v, &word,
					 ntbs_offer_word(binding ? NTBS_OFFER_CLAIMED : NTBS_OFFER_ASKED,
							 NTBS_OFFER_TAG(word), lease, c->id),
					 false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
		undo_lease(sk);		/* withdrawn under our hands */
		return false;
	}
	if (binding)
		set_live(sk);
	else
		sk->shm->claim_asked = 1;
	if (__atomic_load_n(&f.board->shm->offer[f.entry].hint, __ATOMIC_SEQ_CST))
		ntbs_peer_ring(c, 0);
	return true;
}

static bool try_claim(struct ntbs_sock *sk, int fd)
{
	bool done = true;

	ntbs_lock(&sk->shm->ctl);
	if (ntbs_sock_stage(sk) == NTBS_OFFER && !sk->shm->claim_asked)
		done = claim(sk, fd);
	ntbs_unlock(&sk->shm->ctl);
	return done;
}

static void acceptor_step(struct ntbs_sock *sk, int fd, bool ask_broker)
{
	if (sk->shm->claim_asked) {
		if (!ntbs_sock_attach(sk) || ntbs_le32_read_acquire(&sk->q.in->confirm) != sk->shm->generation)
			return;
		ntbs_lock(&sk->shm->ctl);
		if (ntbs_sock_stage(sk) == NTBS_OFFER)
			set_live(sk);
		ntbs_unlock(&sk->shm->ctl);
		return;
	}
	/* a fork child has no connection to the broker of its own before it needs one */
	if (atomic_load(&sk->shm->holders) != 1 || !ntbs_runtime_ready())
		return;
	/* the offer may lie in a board of which the broker has told us and we have not listened */
	if (!try_claim(sk, fd) && ask_broker) {
		ntbs_service_take_news();
		try_claim(sk, fd);
	}
}

void ntbs_offer_accepted(struct ntbs_sock *sk, int fd)
{
	uint32_t remote_node;
	enum ntbs_reason why = NTBS_WHY_NONE;

	ntbs_write_once(sk->shm->conn.accepted, 1);
	if (!learn_tuple(sk, fd) || same_end(&sk->shm->conn.tuple))
		why = NTBS_WHY_OPTION;
	else if (!ntbs_runtime_ready())
		why = NTBS_WHY_NO_BROKER;
	else
		why = ntbs_rules_check(&sk->shm->conn.tuple, true, &remote_node);
	if (why != NTBS_WHY_NONE) {
		ntbs_sock_plain(sk, why);
		return;
	}
	sk->shm->offer_calls = remote_node ? REMOTE_LOOKS : 1;
	/* from now on the service thread steps it too */
	ntbs_sock_set_stage(sk, NTBS_OFFER, NTBS_WHY_NO_OFFER);
	if (!forks_with_connection)
		acceptor_step(sk, fd, true);
}

/* ------------------------------------------------------------------- both */

void ntbs_offer_step(struct ntbs_sock *sk, int fd)
{
	if (sk->shm->conn.accepted)
		acceptor_step(sk, fd, false);
	else
		connector_step(sk);
}

void ntbs_offer_bytes_came(struct ntbs_sock *sk, int fd)
{
	if (sk->shm->conn.accepted) {
		if (sk->shm->claim_asked)
			return;
		acceptor_step(sk, fd, true);
		if (ntbs_sock_stage(sk) != NTBS_OFFER || sk->shm->claim_asked)
			return;
		if (atomic_load(&sk->shm->holders) != 1) {
			if (++sk->shm->offer_forked == FORKED_LOOKS)
				ntbs_sock_plain(sk, NTBS_WHY_FORKED);
		} else if (--sk->shm->offer_calls == 0) {
			ntbs_sock_plain(sk, NTBS_WHY_NO_OFFER);
		}
	} else if (++sk->shm->offer_calls == UNCLAIMED_CALLS) {
		ntbs_offer_withdraw(sk, NTBS_WHY_UNCLAIMED);
	}
}

void ntbs_offer_hold(struct ntbs_sock *sk, int fd)
{
	bool asked = sk->shm->claim_asked, due;
	uint64_t until, blocks;

	if (!ntbs_lock_or_handler(&sk->shm->tx.lock))
		return;			/* the send that this handler has interrupted takes its turn */
	blocks = sk->shm->conn.tx.tcp_bytes / HOLD_BYTES;
	due = blocks && blocks < HOLD_BLOCKS && sk->shm->held != HOLD_BLOCKS && blocks != sk->shm->held;
	if (due)
		sk->shm->held = asked ? HOLD_BLOCKS : blocks;
	ntbs_unlock(&sk->shm->tx.lock);
	if (!due)
		return;
	if (!asked) {
		ntbs_sys0(SYS_sched_yield);
		ntbs_offer_step(sk, fd);
		return;
	}
	until = ntbs_now_ns() + HOLD_NS;
	do
		ntbs_offer_step(sk, fd);
	while (ntbs_sock_stage(sk) == NTBS_OFFER && ntbs_wait_shadow(fd, 0, until) != -ETIMEDOUT);
}

void ntbs_offer_sleepy(struct ntbs_sock *sk)
{
	struct ntbs_offer_shm *o = my_entry(sk);

	/* seq_cst on both sides: either the claimer sees the hint or we see the claim in the step that follows */
	if (!sk->shm->conn.accepted && o)
		__atomic_store_n(&o->hint, 1, __ATOMIC_SEQ_CST);
}

static bool undecided(struct ntbs_sock *sk, bool closing)
{
	struct ntbs_offer_shm *o = my_entry(sk);
	uint64_t word = o ? ntbs_le64_read_acquire(&o->word) : 0;

	return ntbs_le32_read_acquire(&sk->q.in->confirm) != sk->shm->generation &&
	       NTBS_OFFER_TAG(word) == NTBS_OFFER_TAG(sk->shm->offer_word) &&
	       (NTBS_OFFER_STATE(word) == NTBS_OFFER_CLAIMED ||
		(!closing && (NTBS_OFFER_STATE(word) == NTBS_OFFER_OFFERED || NTBS_OFFER_STATE(word) == NTBS_OFFER_ASKED)));
}

/*
 * Asked for and not confirmed.  In a board of our own user we can take it back; where the broker asked for us we cannot,
 * and wait for what the connector's service thread makes of it.  If that never comes the connector is not there either.
 */
static void acceptor_withdraw(struct ntbs_sock *sk, enum ntbs_reason why)
{
	uint64_t asked = sk->shm->offer_word, until;
	struct ntbs_offer_shm *o = my_entry(sk);

	if (sk->shm->claim_asked == 1 && o &&
	    __atomic_compare_exchange_n(&o->word.v, &asked,
					ntbs_offer_word(NTBS_OFFER_WITHDRAWN, NTBS_OFFER_TAG(asked), 0, 0), false,
					__ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		ntbs_sock_plain(sk, why);
		return;
	}
	/* The connector confirms before it frees the entry: while the entry says ASKED (the broker asked for us) or CLAIMED
	 * the answer is still to come, after that it is there or never comes. */
	until = ntbs_now_ns() + CONFIRM_WAIT_NS;
	while (undecided(sk, why == NTBS_WHY_NOT_USED) && ntbs_now_ns() < until)
		ntbs_sys0(SYS_sched_yield);
	if (ntbs_le32_read_acquire(&sk->q.in->confirm) == sk->shm->generation) {
		set_live(sk);
	} else {
		if (undecided(sk, why == NTBS_WHY_NOT_USED))
			ntbs_stats_timer_ran_out();
		ntbs_sock_plain(sk, why);
	}
}

void ntbs_offer_withdraw(struct ntbs_sock *sk, enum ntbs_reason why)
{
	ntbs_lock(&sk->shm->ctl);
	if (ntbs_sock_stage(sk) == NTBS_OFFER) {
		if (!sk->shm->conn.accepted) {
			connector_withdraw(sk, why);
		} else if (sk->shm->claim_asked) {
			acceptor_withdraw(sk, why);
		} else {
			ntbs_sock_plain(sk, why);
		}
	}
	ntbs_unlock(&sk->shm->ctl);
}

/*
 * Connecting: only this process is sure to get the channel, so the offer goes.  Accepting: an unclaimed one may be claimed
 * by whoever is the sole holder later; one that is asked for stays, and parent and child both have the channel - but the
 * child will not get the broker's messages, so the connector's bells must be here now.
 */
void ntbs_offer_before_fork(struct ntbs_sock *sk)
{
	if (sk->shm->conn.accepted)
		forks_with_connection = true;
	if (ntbs_sock_stage(sk) != NTBS_OFFER)
		return;
	if (!sk->shm->conn.accepted) {
		ntbs_offer_withdraw(sk, NTBS_WHY_FORKED);
	} else if (sk->shm->claim_asked && sk->chan && !ntbs_broker_await_bells(sk->chan)) {
		ntbs_offer_withdraw(sk, NTBS_WHY_FORKED);
	}
}

/* Also by one that is on its way out and has not let go yet. */
bool ntbs_chan_in_use(struct ntbs_chan *c)
{
	struct ntbs_sock *sk;

	for (uint32_t i = 0; (sk = ntbs_sock_by_index(i)) != NULL; i++)
		if (sk->chan == c)
			return true;
	return false;
}
