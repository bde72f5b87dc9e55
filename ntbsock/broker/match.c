// SPDX-License-Identifier: BSD-2-Clause
/* match.c - see match.h */
#include "match.h"

#include <errno.h>
#include <string.h>
#include "broker.h"
#include "chan.h"
#include "check.h"
#include "client.h"
#include "log.h"
#include "peer.h"
#include "remote.h"
#include <ntbsock/abi_inbox.h>

/* An entry as it was at one moment.  Its writer may change it at any time, so everything is judged on this copy. */
struct offer_copy {
	struct ntbs_offer_shm *shm;
	uint64_t word;
	uint64_t netns;
	struct ntbs_tuple tuple;
	uint32_t hint;
	struct ntbs_client *connector;
};

/* Return: 0; -ESTALE it is not, or no longer, that offer; -ESRCH its process is not here. */
static int look(uint32_t uid, uint32_t entry, uint64_t word, struct offer_copy *o)
{
	struct ntbs_board *board = ntbs_board_find(uid);
	uint32_t proc;

	o->word = word;
	if (!board || uid == NTBS_BOARD_REMOTE_UID || entry >= NTBS_BOARD_OFFERS)
		return -EINVAL;
	o->shm = &board->shm->offer[entry];
	o->word = ntbs_le64_read_acquire(&o->shm->word);
	if (NTBS_OFFER_STATE(o->word) != NTBS_OFFER_OFFERED || NTBS_OFFER_WHO(o->word) != NTBS_OFFER_WHO(word))
		return -ESTALE;
	proc = __atomic_load_n(&o->shm->proc, __ATOMIC_RELAXED);
	o->netns = __atomic_load_n(&o->shm->netns, __ATOMIC_RELAXED);
	o->hint = __atomic_load_n(&o->shm->hint, __ATOMIC_RELAXED);
	memcpy(&o->tuple, &o->shm->tuple, sizeof(o->tuple));
	o->connector = ntbs_client_by_proc(proc);
	/* A board's user can write any process id into it, and must not get at another user's process by that. */
	return o->connector && o->connector->uid == uid ? 0 : -ESRCH;
}

void ntbs_match_ring(struct ntbs_client *c)
{
	int ret = ntbs_check_ring(c->mbox[0]);

	if (ret)
		ntbs_client_doom(c, "its mbox 0 cannot be rung: %s", strerror(-ret));
}

/* OFFERED -> ASKED, and wake the connector. */
static int move_to_asked(struct offer_copy *o, uint32_t lease, uint64_t chan)
{
	uint64_t asked = ntbs_offer_word(NTBS_OFFER_ASKED, NTBS_OFFER_TAG(o->word), lease, chan);

	if (!ntbs_offer_move(o->shm, o->word, asked)) {
		o->word = ntbs_le64_read_acquire(&o->shm->word);
		return -ESTALE;
	}
	o->word = asked;
	ntbs_match_ring(o->connector);
	return 0;
}

void ntbs_match_result(struct ntbs_client *c, const struct ntbs_msg_claim *claim, uint64_t word, int err)
{
	struct ntbs_msg_claim msg = *claim;

	msg.word = word;
	msg.result = (uint32_t)-err;
	if (err)
		ntbs_broker.claims_refused++;
	else
		ntbs_broker.claims++;
	ntbs_client_send(c, &msg, NTBS_MSG_CLAIM_RESULT, sizeof(msg), NULL, 0);
}

static int claim_here(struct ntbs_client *c, const struct ntbs_msg_claim *m, int proof, struct offer_copy *o)
{
	int ret = look(m->uid, m->entry, m->word, o);

	if (ret)
		return ret;
	if (m->lease >= NTBS_LEASES_MAX || !ntbs_chan_find(m->chan, c->proc, o->connector->proc))
		return -EINVAL;
	ret = ntbs_check_proof(proof, &o->tuple, o->netns);
	if (!ret && m->uid != c->uid)
		ret = ntbs_check_owner(&o->tuple, o->netns, m->uid, o->connector->vouched, NTBS_CLIENT_VOUCHED);
	return ret ? ret : move_to_asked(o, m->lease, m->chan);
}

void ntbs_match_claim(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_claim *m = packet;
	struct offer_copy o = { .word = m->word };
	int ret;

	if (m->uid == NTBS_BOARD_REMOTE_UID) {
		ntbs_remote_claim(c, m, fds[0]);
		return;
	}
	ret = claim_here(c, m, fds[0], &o);
	if (ret)
		ntbs_log(NTBS_LOG_INFO, "refused pid %u (%s) a connection that uid %u offers: %s", c->pid,
			 c->program, m->uid, strerror(-ret));
	ntbs_match_result(c, m, o.word, ret);
}

/*
 * No answer, but that the entry of one that does not get through is freed: its connection stays on TCP.  The offer may be
 * gone already, too.  That it is the client's own connection is checked here, where its socket lives.
 */
void ntbs_match_offer_remote(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_claim *m = packet;
	struct offer_copy o = { .connector = NULL };
	int ret;

	if (m->uid != c->uid || m->entry >= NTBS_BOARD_OFFERS) {
		ntbs_client_doom(c, "offers entry %u of the board of user %u, which is not its own", m->entry,
				 m->uid);
		return;
	}
	ret = look(m->uid, m->entry, m->word, &o);
	if (!ret && o.connector != c)
		ret = -EPERM;
	if (!ret && !ntbs_peer_is_up())
		ret = -ENOLINK;
	if (!ret)
		ret = ntbs_check_owner(&o.tuple, o.netns, c->uid, c->vouched, NTBS_CLIENT_VOUCHED);
	if (ret) {
		ntbs_log(ret == -ENOLINK ? NTBS_LOG_DEBUG : NTBS_LOG_INFO, "did not pass on an offer of pid %u (%s): %s", c->pid, c->program,
			 strerror(-ret));
		if (o.connector == c && ntbs_offer_move(o.shm, o.word, ntbs_offer_word(NTBS_OFFER_FREE, NTBS_OFFER_TAG(o.word), 0, 0)))
			ntbs_match_ring(c);	/* it waits for nothing */
		return;
	}
	ntbs_broker.offers_remote++;
	ntbs_peer_offer(c->uid, m->entry, o.word, c->proc, o.hint, &o.tuple);
}

void ntbs_match_peer_claim(const struct ntbs_peer_claim *m)
{
	uint32_t uid = ntbs_be32_value(m->uid), entry = ntbs_be32_value(m->entry),
		 lease = ntbs_be32_value(m->lease);
	uint64_t chan = ntbs_be64_value(m->chan);
	struct offer_copy o;
	int ret = look(uid, entry, ntbs_be64_value(m->word), &o);

	if (!ret && (lease >= NTBS_LEASES_MAX || !ntbs_peer_is_proc(NTBS_CHAN_PROC(chan)) ||
		     !ntbs_chan_find(chan, NTBS_CHAN_PROC(chan), o.connector->proc)))
		ret = -EINVAL;
	if (!ret)
		ret = move_to_asked(&o, lease, chan);
	if (ret)
		ntbs_broker.claims_refused++;
	else
		ntbs_broker.claims++;
	ntbs_peer_claim_result(m, o.word, ret);
}
