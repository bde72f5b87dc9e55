// SPDX-License-Identifier: BSD-2-Clause
/* remote.c - see remote.h */
#include "remote.h"

#include <errno.h>
#include <string.h>
#include "broker.h"
#include "chan.h"
#include "check.h"
#include "client.h"
#include "log.h"
#include "match.h"
#include "peer.h"
#include <ntbsock/abi_inbox.h>

#define OFFER_LIFE_MS 30000
#define AWAIT_MS 1000

/* Beside each entry of the board: what the other broker calls it, and who here has claimed it. */
static struct origin {
	uint64_t word;
	uint32_t uid, entry;
	uint64_t since_ms;
	uint32_t claimer; /* process id; 0: not claimed */
	struct ntbs_msg_claim claim; /* of the claimer */
} origins[NTBS_BOARD_OFFERS];

static struct ntbs_board *board;
static unsigned nr_used;

int ntbs_remote_open(void)
{
	board = ntbs_board_get(NTBS_BOARD_REMOTE_UID);
	return board ? 0 : -errno;
}

static unsigned state_of(unsigned i)
{
	return NTBS_OFFER_STATE(ntbs_le64_read(&board->shm->offer[i].word));
}

/* Only we write this board, so plain stores do; a reader looks at the word again when it has copied the rest. */
static void free_entry(unsigned i)
{
	struct ntbs_offer_shm *offer = &board->shm->offer[i];

	ntbs_le64_write_release(
		&offer->word,
		ntbs_offer_word(NTBS_OFFER_FREE, NTBS_OFFER_TAG(ntbs_le64_read(&offer->word)), 0, 0));
	origins[i].claimer = 0;
	nr_used--;
}

/* The end of an offer.  @err: negative errno, 0 asked. */
static void answer(unsigned i, int err)
{
	struct ntbs_client *claimer = origins[i].claimer ? ntbs_client_by_proc(origins[i].claimer) : NULL;
	uint64_t word = ntbs_le64_read(&board->shm->offer[i].word);

	free_entry(i);
	if (claimer)
		ntbs_match_result(claimer, &origins[i].claim, word, err);
}

/* The same addresses again: the older offer is of a connection that is no more.  Else a free one of the few. */
static int choose(const struct ntbs_tuple *tuple)
{
	uint32_t at = ntbs_offer_hash(tuple, 0);
	int free_one = -1;

	for (unsigned k = 0; k < NTBS_BOARD_PROBE; k++) {
		unsigned i = (at + k) % NTBS_BOARD_OFFERS;

		if (state_of(i) == NTBS_OFFER_FREE) {
			if (free_one < 0)
				free_one = (int)i;
		} else if (!memcmp(&board->shm->offer[i].tuple, tuple, sizeof(*tuple))) {
			answer(i, -ESTALE);
			return (int)i;
		}
	}
	return free_one;
}

static void ring_awaiting(void)
{
	uint64_t now = ntbs_loop_now_ms();
	struct ntbs_client *c;

	for (uint32_t nr = 0; (c = ntbs_client_next(&nr));)
		if (c->awaits_until_ms > now)
			ntbs_match_ring(c);
}

void ntbs_remote_peer_offer(const struct ntbs_peer_offer *m)
{
	struct ntbs_tuple tuple = { .lport = ntbs_be16_value(m->lport), .rport = ntbs_be16_value(m->rport) };
	struct ntbs_offer_shm *offer;
	unsigned tag;
	int i;

	if (!ntbs_peer_is_proc(ntbs_be32_value(m->proc)))
		return;
	memcpy(tuple.laddr, m->laddr, sizeof(tuple.laddr));
	memcpy(tuple.raddr, m->raddr, sizeof(tuple.raddr));
	i = choose(&tuple);
	if (i < 0) {
		ntbs_log(NTBS_LOG_INFO, "no room for an offer of process %u of the other host; it stays on TCP",
			 ntbs_be32_value(m->proc));
		return;
	}
	offer = &board->shm->offer[i];
	tag = NTBS_OFFER_TAG(ntbs_le64_read(&offer->word)) + 1;
	ntbs_le64_write(&offer->word, ntbs_offer_word(NTBS_OFFER_WRITING, tag, 0, 0));
	__atomic_thread_fence(
		__ATOMIC_RELEASE); /* WRITING before the rest; pairs with the reader's second look */
	offer->netns = 0;
	offer->tuple = tuple;
	offer->proc = ntbs_be32_value(m->proc);
	offer->hint = ntbs_be32_value(m->hint);
	ntbs_le64_write_release(&offer->word, ntbs_offer_word(NTBS_OFFER_OFFERED, tag, 0, 0));
	origins[i] = (struct origin){
		.word = ntbs_be64_value(m->word),
		.uid = ntbs_be32_value(m->uid),
		.entry = ntbs_be32_value(m->entry),
		.since_ms = ntbs_loop_now_ms(),
	};
	nr_used++;
	ntbs_broker.offers_remote++;
	ring_awaiting();
}

void ntbs_remote_await(struct ntbs_client *c, const void *packet, int *fds)
{
	c->awaits_until_ms = ntbs_loop_now_ms() + AWAIT_MS;
	if (nr_used)
		ring_awaiting();
}

static int try_claim(struct ntbs_client *c, const struct ntbs_msg_claim *m, int proof, uint64_t *word)
{
	struct ntbs_offer_shm *offer;
	int ret;

	if (!board || m->entry >= NTBS_BOARD_OFFERS || m->lease >= NTBS_LEASES_MAX)
		return -EINVAL;
	offer = &board->shm->offer[m->entry];
	*word = ntbs_le64_read(&offer->word);
	if (NTBS_OFFER_STATE(*word) != NTBS_OFFER_OFFERED || NTBS_OFFER_WHO(*word) != NTBS_OFFER_WHO(m->word))
		return -ESTALE;
	if (!ntbs_peer_is_up())
		return -ENOLINK;
	if (!ntbs_chan_find(m->chan, c->proc, offer->proc))
		return -EINVAL;
	/* The addresses of another host mean something in the network namespace of the broker alone. */
	ret = ntbs_check_proof(proof, &offer->tuple, ntbs_check_own_netns());
	if (ret)
		return ret;
	*word = ntbs_offer_word(NTBS_OFFER_ASKED, NTBS_OFFER_TAG(*word), m->lease, m->chan);
	ntbs_le64_write_release(&offer->word, *word);
	origins[m->entry].claimer = c->proc;
	origins[m->entry].claim = *m;
	return 0;
}

void ntbs_remote_claim(struct ntbs_client *c, const struct ntbs_msg_claim *m, int proof)
{
	uint64_t word = m->word;
	int ret = try_claim(c, m, proof, &word);
	const struct origin *from = &origins[m->entry % NTBS_BOARD_OFFERS];

	if (ret) {
		ntbs_log(NTBS_LOG_INFO, "refused pid %u (%s) a connection that the other host offers: %s",
			 c->pid, c->program, strerror(-ret));
		ntbs_match_result(c, m, word, ret);
		return;
	}
	ntbs_peer_claim(from->uid, from->entry, from->word, m->chan, m->lease, m->entry, NTBS_OFFER_TAG(word));
}

void ntbs_remote_peer_result(const struct ntbs_peer_claim *m)
{
	uint32_t i = ntbs_be32_value(m->ref_entry), err = ntbs_be32_value(m->result);
	uint64_t word;

	if (i >= NTBS_BOARD_OFFERS || err > 4095)
		return;
	word = ntbs_le64_read(&board->shm->offer[i].word);
	if (NTBS_OFFER_STATE(word) == NTBS_OFFER_ASKED && NTBS_OFFER_TAG(word) == ntbs_be32_value(m->ref_tag))
		answer(i, -(int)err);
}

void ntbs_remote_proc_gone(uint32_t proc)
{
	for (unsigned i = 0; i < NTBS_BOARD_OFFERS && nr_used; i++) {
		if (state_of(i) != NTBS_OFFER_FREE && board->shm->offer[i].proc == proc)
			answer(i, -ESRCH);
	}
}

void ntbs_remote_cable_lost(void)
{
	for (unsigned i = 0; i < NTBS_BOARD_OFFERS && nr_used; i++) {
		if (state_of(i) != NTBS_OFFER_FREE)
			answer(i, -ENOLINK);
	}
}

void ntbs_remote_tick(void)
{
	uint64_t now = ntbs_loop_now_ms();

	for (unsigned i = 0; i < NTBS_BOARD_OFFERS && nr_used; i++) {
		if (state_of(i) != NTBS_OFFER_FREE && now - origins[i].since_ms > OFFER_LIFE_MS)
			answer(i, -ETIMEDOUT);
	}
}
