// SPDX-License-Identifier: BSD-2-Clause
/*
 * offer_connect.c - the connecting side of an offer
 *
 * The offer is written into the board of our user; ASKED means that somebody wants it by way of a channel that we may
 * not have mapped yet.  Once we have, we turn ASKED into CLAIMED and say so in the acceptor's inbox; an acceptor that
 * knows that the channel is mapped claims without asking.
 *
 * Invariants: an entry is ours, under its tag, until we free it; nobody else frees it but the broker.  The confirmation
 * lies in the inbox before the entry is free: an acceptor that then finds none waits for nothing.  A claim that was
 * there before our withdrawal binds.
 */
#include "offer_impl.h"

#include <netinet/tcp.h>
#include <sys/stat.h>

#include "epoll.h"
#include "far.h"
#include "service.h"
#include "shadow.h"
#include "sys.h"
#include "wait.h"

/* An entry for it, which nobody can see yet. */
static bool take_entry(struct ntbs_sock *sk)
{
	struct ntbs_board *b = ntbs_rt.board;
	uint32_t hash = ntbs_offer_hash(&sk->shm->conn.tuple, sk->shm->netns);

	for (uint32_t i = 0; b && i < NTBS_BOARD_PROBE; i++) {
		struct ntbs_offer_shm *o = &b->shm->offer[(hash + i) % NTBS_BOARD_OFFERS];
		uint64_t word = ntbs_le64_read(&o->word), taken;

		if (NTBS_OFFER_STATE(word) != NTBS_OFFER_FREE)
			continue;
		taken = ntbs_offer_word(NTBS_OFFER_WRITING, NTBS_OFFER_TAG(word) + 1, 0, 0);
		if (!__atomic_compare_exchange_n(&o->word.v, &word, taken, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		o->netns = sk->shm->netns;
		o->tuple = sk->shm->conn.tuple;
		o->proc = b->proc;
		__atomic_store_n(&o->hint, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&o->shut, 0, __ATOMIC_RELAXED);
		sk->shm->entry = (hash + i) % NTBS_BOARD_OFFERS;
		sk->shm->offer_word = ntbs_offer_word(NTBS_OFFER_OFFERED, NTBS_OFFER_TAG(taken), 0, 0);
		sk->shm->offer_calls = 0;
		sk->shm->offered_ns = ntbs_now_ns();
		sk->board = b;
		ntbs_sock_set_stage(sk, NTBS_OFFER, NTBS_WHY_OFFERED);
		return true;
	}
	return false;
}

static void post(struct ntbs_sock *sk)
{
	if (take_entry(sk))
		ntbs_le64_write_release(&ntbs_offer_entry(sk)->word, sk->shm->offer_word);
	else
		ntbs_sock_plain(sk, NTBS_WHY_BOARD_FULL);
}

/*
 * A socket that was made as another user than we are to the broker (of a reserved port, say): it believes an offer of
 * ours only if it has seen that we have the socket.
 */
static void vouch(int fd)
{
	struct ntbs_msg_plain msg = { .h = { NTBS_MSG_VOUCH, sizeof(msg), 0 } };
	struct stat st;

	if (!ntbs_sys2(SYS_fstat, fd, &st) && st.st_uid != ntbs_rt.uid && ntbs_runtime_ready())
		ntbs_broker_send(&msg, sizeof(msg), &fd, 1);
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
	vouch(fd);
	ntbs_lock(&sk->shm->ctl);
	if (ntbs_sock_stage(sk) != NTBS_NEW)
		goto out;
	if (ntbs_sock_flags(sk) & NTBS_SK_NO_SWITCH)
		ntbs_sock_plain(sk, NTBS_WHY_OPTION);
	else if (ntbs_sock_flags(sk) & NTBS_SK_PASSED)	/* before it was connected: who has it reads and writes by TCP */
		ntbs_sock_plain(sk, NTBS_WHY_PASSED);
	else if (!ntbs_offer_learn(sk, fd) || ntbs_offer_same_end(&sk->shm->conn.tuple))
		ntbs_sock_plain(sk, NTBS_WHY_OPTION);
	else if (!ntbs_runtime_ready() || !ntbs_service_start())
		ntbs_sock_plain(sk, ntbs_rt.limited ? NTBS_WHY_NO_MEMORY : NTBS_WHY_NO_BROKER);
	else if ((why = ntbs_rules_check(&sk->shm->conn.tuple, false, &remote_node)) != NTBS_WHY_NONE)
		ntbs_sock_plain(sk, why);
	else if (atomic_load(&sk->shm->holders) != 1)
		ntbs_sock_plain(sk, NTBS_WHY_FORKED);
	else
		post(sk);
	posted = ntbs_sock_stage(sk) == NTBS_OFFER;
	if (posted && remote_node)
		ntbs_offer_hold_back(sk);
	if (posted)
		ntbs_epoll_sock_offer(sk);
	msg.word = sk->shm->offer_word;
	msg.entry = sk->shm->entry;
	msg.uid = ntbs_rt.uid;
out:
	ntbs_unlock(&sk->shm->ctl);
	/* the packet needs nothing that ctl guards */
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
	ntbs_offer_fill_queue(sk, c);
	if (!c->is_far) {
		shm->generation = ntbs_le32_read(&sk->q.out->generation);
		first_in = ntbs_le32_read(&sk->q.in->first_seq);
		first_out = ntbs_le32_read(&sk->q.out->first_seq);
	} else if (!ntbs_far_prepared(&sk->q, &shm->generation, &first_in, &first_out)) {
		/* the broker's word has come and the lease has not: the link has lost it, and will say so */
		atomic_store(&sk->attached, 0);
		ntbs_sock_plain(sk, NTBS_WHY_CORRUPT);
		return;
	}
	ntbs_msgq_init(&sk->q, shm->generation, first_out, first_in);
	if (c->is_far)
		ntbs_far_begin(sk);
	if (confirm) {
		ntbs_window_store32(sk->q.port, &sk->q.out->confirm, shm->generation);
		ntbs_peer_ring(c, 0);
	}
	ntbs_offer_live(sk);
}

/* The entry is free for the next; tag moves on with its next use. */
static void free_entry(struct ntbs_offer_shm *o, uint64_t word)
{
	ntbs_le64_write_release(&o->word, ntbs_offer_word(NTBS_OFFER_FREE, NTBS_OFFER_TAG(word), 0, 0));
}

void ntbs_offer_connector_step(struct ntbs_sock *sk)
{
	struct ntbs_offer_shm *o = ntbs_offer_entry(sk);
	uint64_t word, claimed;
	struct ntbs_chan *c;

	word = ntbs_le64_read_acquire(&o->word);
	if (word == sk->shm->offer_word)
		return;
	/* the channel is on its way to us, and our service thread may have to wait for a CPU that we keep busy */
	if (NTBS_OFFER_STATE(word) == NTBS_OFFER_ASKED && !ntbs_chan_known(NTBS_OFFER_CHAN(word), sk->board->session))
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

void ntbs_offer_connector_withdraw(struct ntbs_sock *sk, enum ntbs_reason why)
{
	struct ntbs_offer_shm *o = ntbs_offer_entry(sk);
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
	/* withdrawn by the acceptor, or claimed by somebody who lies: the entry is still ours to free */
	if (o && NTBS_OFFER_TAG(word) == NTBS_OFFER_TAG(sk->shm->offer_word) &&
	    (NTBS_OFFER_STATE(word) == NTBS_OFFER_WITHDRAWN || NTBS_OFFER_STATE(word) == NTBS_OFFER_CLAIMED))
		free_entry(o, word);
	ntbs_sock_plain(sk, why);
}

bool ntbs_offer_again_prepare(struct ntbs_sock *sk, int fd)
{
	uint32_t remote_node = 0;

	vouch(fd);
	return ntbs_offer_learn(sk, fd) && !ntbs_offer_same_end(&sk->shm->conn.tuple) && ntbs_runtime_ready() &&
	       ntbs_service_start() && ntbs_rules_check(&sk->shm->conn.tuple, false, &remote_node) == NTBS_WHY_NONE &&
	       !remote_node;
}

bool ntbs_offer_again(struct ntbs_sock *sk)
{
	return take_entry(sk);
}

void ntbs_offer_again_seen(struct ntbs_sock *sk)
{
	struct ntbs_offer_shm *o = ntbs_offer_entry(sk);

	/* who sleeps since before this offer has not said so in its entry */
	__atomic_store_n(&o->hint, 1, __ATOMIC_RELAXED);
	ntbs_le64_write_release(&o->word, sk->shm->offer_word);
}

void ntbs_offer_not_again(struct ntbs_sock *sk)
{
	free_entry(ntbs_offer_entry(sk), sk->shm->offer_word);
	ntbs_sock_plain(sk, NTBS_WHY_NOT_USED);
}
