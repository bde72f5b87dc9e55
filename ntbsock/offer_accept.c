// SPDX-License-Identifier: BSD-2-Clause
/*
 * offer_accept.c - the accepting side of an offer
 *
 * A look-up by 4-tuple; an offer in our own user's board we claim by compare-exchange, one in a board that we may only
 * read the broker asks for on our behalf, with the accepted socket as proof.
 *
 * Invariants: we claim as the only holder of the description; the lease is prepared (both line 0 and 1, queue state)
 * before the word says claimed or asked.  A claim of a channel that the connector has mapped binds at once and makes us
 * LIVE; any other asks, and makes us LIVE once the confirmation lies in our inbox.  Until then all bytes go by TCP.
 */
#include "offer_impl.h"

#include <errno.h>
#include <urcu-bp.h>

#include "far.h"
#include "service.h"
#include "shadow.h"
#include "stats.h"
#include "sys.h"
#include "wait.h"

#define CONFIRM_WAIT_NS 1000000000ull
#define REMOTE_LOOKS 64		/* an offer from another host may come later than its first bytes */
#define AGAIN_LOOKS 64		/* and one of a connection that was on the ring comes when its reader has read that */

/* The lease begins a generation: nobody else uses it now. */
static void prepare_lease(struct ntbs_sock *sk, struct ntbs_chan *c, int lease)
{
	struct ntbs_sock_shm *shm = sk->shm;
	uint32_t gen = c->leases->lease[lease].generation;
	uint32_t seq_in = c->leases->lease[lease].next_in, seq_out = c->leases->lease[lease].next_out;
	const struct ntbs_inbox_shm *in;

	shm->chan = c->id;
	shm->lease = lease;
	shm->generation = gen;
	ntbs_offer_fill_queue(sk, c);
	in = sk->q.in;
	/* over what the connector of the last generation published and nobody read, holes included: it has let go, this is its end */
	for (uint32_t n = 0, first = seq_in; n < c->geo.nr_slots; n++)
		if (NTBS_TAIL_STAMP(ntbs_le64_read_acquire(&in->slot[(first + n) & (c->geo.nr_slots - 1)].line1.tail)) == (uint16_t)(first + n))
			seq_in = first + n + 1;
	for (int i = 0; i < 2 && !c->is_far; i++) {
		struct ntbs_inbox_shm *box = ntbs_chan_inbox(c, lease, !i);

		memset(&box->head, 0, offsetof(struct ntbs_inbox_shm, slot) - offsetof(struct ntbs_inbox_shm, head));
		ntbs_le64_write(&box->consumed, 0);
		ntbs_le32_write(&box->abi, NTBS_INBOX_ABI);
		ntbs_le32_write(&box->epoch, 0);
		ntbs_le32_write(&box->first_seq, i ? seq_out : seq_in);
		/* what each side has consumed of the other at the start: all before the first */
		ntbs_le64_write(&box->head, ntbs_head_word(i ? seq_in : seq_out, 0, gen));
		ntbs_le32_write_release(&box->generation, gen);
	}
	if (c->is_far)
		ntbs_far_prepare(sk, c, gen, seq_in, seq_out);
	ntbs_msgq_init(&sk->q, gen, seq_out, seq_in);
	if (c->is_far)
		ntbs_far_begin(sk);
	ntbs_stream_state_bufs(sk);	/* the connector may be LIVE, and send, long before we are */
	shm->tx.rung = 0;
	shm->end_asked_ns = 0;
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
	bool hit = false;

	memset(&key, 0, sizeof(key));
	memcpy(key.laddr, mine->raddr, 16);
	memcpy(key.raddr, mine->laddr, 16);
	key.lport = mine->rport;
	key.rport = mine->lport;
	rcu_read_lock();
	for (struct cds_list_head *n = ntbs_list_next(&ntbs_rt.boards); n != &ntbs_rt.boards && !hit; n = ntbs_list_next(n)) {
		struct ntbs_board *b = cds_list_entry(n, struct ntbs_board, node);

		hit = look_in(b, &key, b->uid == NTBS_BOARD_REMOTE_UID ? 0 : sk->shm->netns, f);
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
	c = ntbs_chan_for(f.proc, f.board->session, &lease);
	sk->shm->claim_waits = !c && lease == -EAGAIN;
	if (sk->shm->claim_waits)
		return false;		/* the service thread goes on when the channel is there */
	if (!c) {
		ntbs_sock_plain(sk, NTBS_WHY_NO_MEMORY);
		return true;
	}
	prepare_lease(sk, c, lease);
	if (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR)	/* the connector may be LIVE, and see our FIN, before we are */
		ntbs_stream_state_final(sk);
	sk->board = f.board;
	sk->shm->entry = f.entry;
	sk->shm->offer_word = ntbs_offer_word(NTBS_OFFER_ASKED, NTBS_OFFER_TAG(f.word), lease, c->id);
	if (!f.board->mine) {
		struct ntbs_msg_claim msg = { .h = { NTBS_MSG_CLAIM, sizeof(msg), 0 }, .chan = c->id, .word = f.word,
					      .uid = f.board->uid, .entry = f.entry, .lease = lease };

		sk->shm->claim_asked = ntbs_broker_send(&msg, sizeof(msg), &fd, 1) ? 2 : 0;
		if (!sk->shm->claim_asked) {
			undo_lease(sk);
			if (ntbs_rt.broker < 0) {
				ntbs_sock_plain(sk, NTBS_WHY_NO_BROKER);
				return true;
			}
			/* it is behind with its messages; the offer stands: once more with the next bytes, as long as it does */
			if (sk->shm->offer_calls < 2)
				sk->shm->offer_calls = 2;
			return false;
		}
		return true;
	}
	binding = c->shm && ntbs_le32_read_acquire(&c->shm->attached) && c->peer;
	word = f.word;
	if (!__atomic_compare_exchange_n(&f.board->shm->offer[f.entry].word.v, &word,
					 ntbs_offer_word(binding ? NTBS_OFFER_CLAIMED : NTBS_OFFER_ASKED,
							 NTBS_OFFER_TAG(word), lease, c->id),
					 false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
		undo_lease(sk);		/* withdrawn under our hands */
		return false;
	}
	if (binding)
		ntbs_offer_live(sk);
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
	/* the only holder: a fork counts its child first, and takes this lock then */
	if (ntbs_sock_stage(sk) == NTBS_OFFER && !sk->shm->claim_asked && atomic_load(&sk->shm->holders) == 1)
		done = claim(sk, fd);
	ntbs_unlock(&sk->shm->ctl);
	return done;
}

void ntbs_offer_acceptor_step(struct ntbs_sock *sk, int fd, bool ask_broker)
{
	if (sk->shm->claim_asked) {
		if (!ntbs_sock_attach(sk) || ntbs_le32_read_acquire(&sk->q.in->confirm) != sk->shm->generation)
			return;
		ntbs_lock(&sk->shm->ctl);
		if (ntbs_sock_stage(sk) == NTBS_OFFER)
			ntbs_offer_live(sk);
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

void ntbs_offer_inherited(struct ntbs_sock *sk, int fd, bool again)
{
	bool forks = ntbs_offer_forks_with_connection, closed;
	uint64_t got;

	ntbs_offer_forks_with_connection = true;
	ntbs_offer_accepted(sk, fd);
	/* what other images have read: the FIN is told from bytes by that */
	if (!ntbs_shadow_read(fd, &got, &closed) && !closed)
		ntbs_write_once(sk->shm->conn.rx.tcp_bytes, got);
	if (again) {
		sk->shm->offer_calls = AGAIN_LOOKS;
		sk->shm->offered_ns = ntbs_now_ns();
	}
	ntbs_offer_forks_with_connection = forks;	/* what this image accepts itself it claims at once */
}

void ntbs_offer_accepted(struct ntbs_sock *sk, int fd)
{
	uint32_t remote_node;
	enum ntbs_reason why = NTBS_WHY_NONE;

	ntbs_write_once(sk->shm->conn.accepted, 1);
	if (!ntbs_offer_learn(sk, fd) || ntbs_offer_same_end(&sk->shm->conn.tuple))
		why = NTBS_WHY_OPTION;
	else if (!ntbs_runtime_ready())
		why = ntbs_rt.limited ? NTBS_WHY_NO_MEMORY : NTBS_WHY_NO_BROKER;
	else
		why = ntbs_rules_check(&sk->shm->conn.tuple, true, &remote_node);
	if (why != NTBS_WHY_NONE) {
		ntbs_sock_plain(sk, why);
		return;
	}
	sk->shm->offer_calls = remote_node ? REMOTE_LOOKS : 1;
	if (remote_node) {	/* calls are many in the time that two brokers take */
		sk->shm->offered_ns = ntbs_now_ns();
		atomic_store(&sk->awaits, 1);
	}
	/* from now on the service thread steps it too */
	ntbs_sock_set_stage(sk, NTBS_OFFER, NTBS_WHY_NO_OFFER);
	if (!ntbs_offer_forks_with_connection)
		ntbs_offer_acceptor_step(sk, fd, true);
}

static bool tell_to_ring(void)
{
	struct ntbs_msg_plain msg = { .h = { NTBS_MSG_AWAIT, sizeof(msg), 0 } };

	return ntbs_broker_send(&msg, sizeof(msg), NULL, 0);
}

void ntbs_offer_acceptor_awaits(struct ntbs_sock *sk)
{
	if (ntbs_sock_stage(sk) != NTBS_OFFER || sk->shm->claim_asked)
		atomic_store(&sk->awaits, 0);
	else if (ntbs_runtime_ready() && atomic_exchange(&sk->awaits, 0) && !tell_to_ring())
		atomic_store(&sk->awaits, 1);
}

void ntbs_offer_left_to_others(struct ntbs_sock *sk)
{
	if (ntbs_sock_stage(sk) == NTBS_OFFER && ntbs_read_once(sk->shm->conn.accepted) && sk->shm->offered_ns)
		tell_to_ring();
}

static bool undecided(struct ntbs_sock *sk, bool closing)
{
	struct ntbs_offer_shm *o = ntbs_offer_entry(sk);
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
void ntbs_offer_acceptor_withdraw(struct ntbs_sock *sk, enum ntbs_reason why)
{
	uint64_t asked = sk->shm->offer_word, until;
	struct ntbs_offer_shm *o = ntbs_offer_entry(sk);

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
	if (undecided(sk, why == NTBS_WHY_NOT_USED)) {
		ntbs_stats_timer_ran_out();
		/* a connector that was only stopped binds it yet: he sends nothing by a ring that nobody reads */
		ntbs_window_store64(sk->q.port, &sk->q.out->asked, NTBS_POS_TAIL);
		ntbs_window_readback(sk->q.port, &sk->q.out->asked);	/* S1: pairs with the locks that he takes between the
									 * confirmation and his first bytes */
	}
	if (ntbs_le32_read_acquire(&sk->q.in->confirm) == sk->shm->generation)
		ntbs_offer_live(sk);
	else
		ntbs_sock_plain(sk, why);
}
