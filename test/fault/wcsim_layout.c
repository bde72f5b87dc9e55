// SPDX-License-Identifier: BSD-2-Clause
/*
 * wcsim_layout.c - negative control: the slot layout of the SCI paper delivers torn data over this fabric
 *
 * That layout has 116 data bytes, a length and one sequence number in byte 127 alone: right for an adapter that wrote
 * 128 bytes from low to high addresses, wrong where two lines are posted in any order and in pieces.  This test
 * passes when the fabric is caught at it.  Our layout gets the same traffic and must never deliver a wrong byte.
 */
#include "simpair.h"

struct paper_slot {
	uint8_t data[116];
	uint8_t len[4];
	uint8_t rsvd[7];
	uint8_t seq;		/* byte 127 */
};
static_assert(sizeof(struct paper_slot) == 128, "two lines");

/* Messages of one seed; how many arrived wrong. */
static unsigned paper_layout(uint64_t seed)
{
	static alignas(64) struct paper_slot ring[8];
	unsigned wrong = 0, taken = 0;
	struct wcsim sim;

	memset(ring, 0, sizeof(ring));
	wcsim_open(&sim, seed);
	for (unsigned n = 0; n < 40; n++) {
		alignas(64) struct paper_slot slot;
		const struct paper_slot *in = &ring[n % 8];

		memset(&slot, 0, sizeof(slot));
		t_fill(slot.data, sizeof(slot.data), seed, 116 * n);
		slot.len[0] = 116;
		slot.seq = (uint8_t)(1 + n % 200);
		sim.port.ops->store_line(&sim.port, &ring[n % 8], &slot);
		sim.port.ops->store_line(&sim.port, (uint8_t *)&ring[n % 8] + 64, (uint8_t *)&slot + 64);
		ntbs_window_flush(&sim.port);
		while (in->seq != slot.seq)	/* the receiver polls */
			t_must(wcsim_step(&sim), "message %u never came", n);
		if (in->len[0] != 116 || t_wrong(in->data, 116, seed, 116 * n) >= 0)
			wrong++;
		taken++;
		wcsim_drain(&sim);
	}
	t_eq(taken, 40, "messages");
	wcsim_close(&sim);
	return wrong;
}

static void our_layout(uint64_t seed)
{
	struct simpair *p = simpair_open(.nr_slots = 8, .chaos = seed);

	for (unsigned n = 0; n < 40; n++) {
		t_eq(simpair_send(p, 0, 116), 116, "message %u", n);
		while (simpair_recv(p, 1, 116, 0) < 0)
			t_must(wcsim_step(&p->s[0].sim), "message %u never came", n);
		simpair_drain(p);
	}
	simpair_close(p);
}

int main(void)
{
	uint64_t seed = t_rand();
	unsigned caught = 0, wrong = 0;

	for (unsigned i = 0; i < 200; i++) {
		unsigned w = paper_layout((seed + i) | 1);

		wrong += w;
		caught += w > 0;
		our_layout((seed + i) | 1);
	}
	t_ok(caught > 0, "the paper's layout got through 200 seeds unharmed: this fabric is not hostile");
	printf("paper's layout: %u of 8000 messages wrong, in %u of 200 seeds; ours: none\n", wrong, caught);
	return t_done();
}
