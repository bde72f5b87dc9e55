// SPDX-License-Identifier: BSD-2-Clause
/* far_engine.c - see far.h: messages over a port that the broker's copy engine carries */
#include "far.h"

#include "bclient.h"
#include "conf.h"
#include "sys.h"

static ntbs_le32 *engine_done(const struct ntbs_chan *c, uint32_t lease)
{
	return &((struct ntbs_region_shm *)c->far_in)->dma_done[lease];
}

/*
 * Lock of the direction held, so ours is not waited for: whoever has it may want the other.  The broker knows the region as
 * that of the process that opened it; a child stores by itself.
 */
static bool engine_copy(struct ntbs_msgq *q, uint32_t first, uint32_t nr)
{
	struct ntbs_sock *sk = (struct ntbs_sock *)((char *)q - offsetof(struct ntbs_sock, q));
	struct ntbs_window *w = (struct ntbs_window *)((char *)q->port - offsetof(struct ntbs_window, port));
	struct ntbs_msg_copy msg = { .h = { NTBS_MSG_COPY, sizeof(msg), 0 }, .chan = sk->shm->chan, .lease = sk->shm->lease,
				     .first = first, .nr = nr, .of_connector = !sk->shm->conn.accepted };
	bool ok;

	if (!sk->chan || sk->chan->inherited || !ntbs_trylock(&ntbs_rt.lock))
		return false;
	q->tx->engine_slots += nr;	/* killed behind this, the lease is not used again: too few would be worse */
	ok = ntbs_bclient_send(&msg, sizeof(msg), NULL, 0);
	ntbs_unlock(&ntbs_rt.lock);
	if (!ok) {
		q->tx->engine_slots -= nr;
		return false;
	}
	ntbs_bump(w->n.engine_bulks, nr);
	for (uint32_t i = 0; i < nr; i++) {
		const struct ntbs_line1_shm *line = &q->copy->slot[(first + i) & (q->geo.nr_slots - 1)].line1;

		ntbs_bump(w->n.engine_bytes, line->bulk.end.v - line->bulk.start.v);
	}
	return true;
}

void ntbs_far_fill_engine(struct ntbs_sock *sk, struct ntbs_chan *c)
{
	const struct ntbs_ctl_shm *ctl = (const struct ntbs_ctl_shm *)(c->far->arena + NTBS_ARENA_CTL);
	uint32_t min = ntbs_le32_read(&ctl->dma_min);

	if (min && ntbs_conf.dma_min != UINT32_MAX)
		min = ntbs_conf.dma_min;
	sk->q.engine_min = min;
	sk->q.engine_on = min ? &ctl->dma_min : NULL;
	sk->q.engine_copy = engine_copy;
}

void ntbs_far_begin(struct ntbs_sock *sk)
{
	sk->q.tx->engine_slots = ntbs_le32_read(engine_done(sk->chan, sk->shm->lease));
}

void ntbs_far_release(struct ntbs_sock *sk, struct ntbs_chan *c)
{
	uint32_t lease = sk->shm->lease;

	ntbs_lock(&c->owed_lock);
	c->owed[lease].generation = sk->shm->generation;
	c->owed[lease].slots = sk->q.tx->engine_slots;
	c->owed[lease].is = true;
	for (uint32_t i = 0; i < c->nr_leases; i++) {
		if (!c->owed[i].is || ntbs_le32_read_acquire(engine_done(c, i)) != c->owed[i].slots)
			continue;
		c->owed[i].is = false;
		ntbs_window_store32(sk->q.port, &c->released[i], c->owed[i].generation);
	}
	ntbs_unlock(&c->owed_lock);
}

bool ntbs_far_copied(const struct ntbs_chan *c, uint32_t lease)
{
	return ntbs_le32_read_acquire(engine_done(c, lease)) == c->leases->lease[lease].engine_slots;
}
