// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_stale.c - what an earlier generation of a lease, another epoch or an earlier lap has left behind is never taken
 *
 * On shared memory sequences go on where the last generation ended, so stamps tell.  Over a fabric that can lose
 * lines the CRC, seeded with epoch, generation and sequence, must tell even if the stamp happens to fit.
 */
#include "simpair.h"

static void nothing_there(struct simpair *p, int i, const char *what)
{
	uint64_t w;

	t_eq(simpair_recv(p, i, 100, 0), -EAGAIN, "%s: recv", what);
	t_eq(ntbs_msgq_avail(&p->s[i].q), 0, "%s: avail", what);
	t_eq(ntbs_msgq_peek_switch(&p->s[i].q, &w), 0, "%s: SWITCH", what);
}

/* Generation after generation on the same memory. */
static void lease_reuse(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 8, .first_seq = UINT32_MAX - 20, .generation = 0xfffe, .chaos = chaos);

	for (uint32_t g = 0xfffe; g < 0x10004; g++) {
		uint32_t seq[2];

		nothing_there(p, 0, "fresh generation");
		nothing_there(p, 1, "fresh generation");
		t_eq(ntbs_msgq_send_switch(&p->s[0].q, g), 0, "SWITCH");
		simpair_drain(p);
		t_eq(ntbs_msgq_peek_switch(&p->s[1].q, &(uint64_t){ 0 }), 1, "SWITCH");
		ntbs_msgq_pass_switch(&p->s[1].q);
		simpair_traffic(p, 200, 200);

		/* ends with something unread and some of the ring full */
		simpair_send(p, 0, 1 + t_rand() % 116);
		simpair_send(p, 1, 1 + t_rand() % 200);
		simpair_drain(p);
		for (int i = 0; i < 2; i++)
			seq[i] = p->s[i].tx.tail;
		simpair_begin(p, g + 1, seq[0], seq[1]);
	}
	simpair_close(p);
}

/* The right stamp and the wrong seed. */
static void seeds(void)
{
	for (unsigned what = 0; what < 4; what++) {
		struct simpair *p = simpair_open(.nr_slots = 8, .first_seq = 100, .generation = 7, .epoch = 2, .chaos = 5);
		struct ntbs_msgq *rx = &p->s[1].q;
		static const uint32_t len[] = { 5, 60, 300 };

		for (unsigned i = 0; i < 3; i++)
			t_eq(simpair_send(p, 0, len[i]), len[i], "send");
		simpair_drain(p);
		if (what == 1)
			rx->epoch++;
		else if (what == 2)
			p->s[1].rx.generation += 0x10000;
		else if (what == 3)	/* 2^16 messages later: the stamps fit again */
			p->s[1].rx.head += 0x10000;
		if (what) {
			nothing_there(p, 1, what == 1 ? "other epoch" : what == 2 ? "other generation" : "2^16 messages ago");
			for (unsigned i = 0; i < 2; i++) {	/* not only the first */
				p->s[1].rx.head++;
				nothing_there(p, 1, "message behind it");
			}
		} else {
			t_eq(simpair_recv(p, 1, 365, 0), 365, "with the right seed");
		}
		simpair_close(p);
	}
}

/* A slot whose stamps and all are right but for one bit anywhere. */
static void every_bit(void)
{
	static const uint32_t len[] = { 1, 54, 55, 62, 63, 116, 150 };

	for (unsigned l = 0; l < sizeof(len) / sizeof(*len); l++) {
		struct simpair *p = simpair_open(.nr_slots = 8, .first_seq = UINT32_MAX, .chaos = 9);
		struct ntbs_slot_shm *slot = &p->s[1].in->slot[UINT32_MAX & 7];
		uint8_t *bulk = (uint8_t *)p->s[1].in + p->s[1].q.geo.bulk_offset;

		t_eq(simpair_send(p, 0, len[l]), len[l], "send");
		simpair_drain(p);
		for (unsigned bit = 0; bit < 8 * sizeof(*slot); bit++) {
			bool line1 = bit >= 8 * NTBS_LINE;

			if (!line1 && (len[l] <= NTBS_LINE1_DATA || len[l] > NTBS_INLINE_MAX))
				continue;	/* line 0 is no part of the message */
			((uint8_t *)slot)[bit / 8] ^= 1u << (bit & 7);
			t_eq(simpair_recv(p, 1, 200, NTBS_RECV_PEEK), -EAGAIN, "%u bytes with bit %u of the slot wrong", len[l], bit);
			((uint8_t *)slot)[bit / 8] ^= 1u << (bit & 7);
		}
		for (unsigned bit = 0; len[l] > NTBS_INLINE_MAX && bit < 8 * len[l]; bit++) {
			bulk[bit / 8] ^= 1u << (bit & 7);
			t_eq(simpair_recv(p, 1, 200, NTBS_RECV_PEEK), -EAGAIN, "bit %u of the bulk bytes wrong", bit);
			bulk[bit / 8] ^= 1u << (bit & 7);
		}
		t_eq(simpair_recv(p, 1, 200, 0), len[l], "whole again");
		simpair_close(p);
	}
}

int main(void)
{
	lease_reuse(0);
	for (unsigned i = 0; i < 5; i++)
		lease_reuse(t_rand() | 1);
	seeds();
	every_bit();
	return t_done();
}
