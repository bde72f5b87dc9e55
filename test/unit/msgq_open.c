// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_open.c - small sends are gathered in an OPEN slot of a slow reader's inbox
 *
 * The reader sits on the OPEN slot, has taken all of it, and takes what is added; it passes the slot only once the
 * next is there and its end, read again, is reached.
 */
#include "simpair.h"

static uint8_t kind_at(struct simpair *p, int i, uint32_t seq)
{
	return p->s[1 - i].in->slot[seq & (p->o.nr_slots - 1)].line1.kind;
}

/* Send small messages until side @i gathers. */
static void backlog(struct simpair *p, int i)
{
	for (unsigned n = 0; !p->s[i].tx.open_bytes; n++) {
		t_must(n < p->o.nr_slots, "%u small messages without a reader, and no OPEN slot", n);
		t_eq(simpair_send(p, i, 20), 20, "small message %u", n);
	}
	t_eq(kind_at(p, i, p->s[i].tx.tail - 1), NTBS_SLOT_OPEN, "kind of the last slot");
}

static void gathers(void)
{
	struct simpair *p = simpair_open(.nr_slots = 16, .bulk_bytes = 1 << 16);
	struct simside *tx = &p->s[0], *rx = &p->s[1];
	uint32_t tail;

	backlog(p, 0);
	while (tx->tx.tail - tx->tx.head < 16)
		t_eq(simpair_send(p, 0, 3000), 3000, "up to the last slot");
	tail = tx->tx.tail;
	for (unsigned n = 0; n < 50; n++)
		t_eq(simpair_send(p, 0, 1 + n % 30), 1 + n % 30, "small message %u with no slot left", n);
	t_eq(tx->tx.tail, tail, "slots taken while gathering");

	/* read all, sit on the OPEN slot */
	while (simpair_recv(p, 1, 777, 0) > 0)
		;
	t_eq(rx->got, tx->sent, "bytes taken");
	t_eq(rx->rx.head, tail - 1, "the reader stands on the OPEN slot");
	t_ok(!ntbs_msgq_readable(&rx->q), "readable with nothing there");
	t_eq(ntbs_msgq_avail(&rx->q), 0, "bytes available");
	t_eq(simpair_recv(p, 1, 100, NTBS_RECV_PEEK), -EAGAIN, "peek at nothing");

	/* more comes: by the same slot or by the next, each byte once */
	for (unsigned n = 0; n < 200; n++) {
		size_t len = 1 + t_rand() % 60;

		t_eq(simpair_send(p, 0, len), (long long)len, "after the reader has caught up");
		t_ok(ntbs_msgq_readable(&rx->q), "not readable though %zu bytes were sent", len);
		if (n & 1) {
			t_eq(ntbs_msgq_avail(&rx->q), (long long)(tx->sent - rx->got), "bytes available");
			t_eq(simpair_recv(p, 1, 4000, NTBS_RECV_PEEK), (long long)(tx->sent - rx->got), "peek");
		}
		if (n % 3 == 0) {
			while (simpair_recv(p, 1, 1 + t_rand() % 100, 0) > 0)
				;
		}
	}
	simpair_settle(p);
	simpair_close(p);
}

int main(void)
{
	gathers();
	for (unsigned i = 0; i < 60; i++) {	/* small rings and slow readers: OPEN most of the time */
		struct simpair *p = simpair_open(.nr_slots = 8, .bulk_bytes = i & 1 ? 4096 : 1 << 16,
						 .first_seq = i % 3 ? (uint32_t)t_rand() : UINT32_MAX - 5,
						 .first_bulk = i & 2 ? UINT32_MAX - 3000 : 0);
		uint64_t opens = 0;

		for (unsigned n = 0; n < 2000; n++) {
			simpair_send(p, 0, 1 + t_rand() % 130);
			opens += !!p->s[0].tx.open_bytes;
			if (t_rand() % 4 == 0)
				simpair_recv(p, 1, 1 + t_rand() % 700, t_rand() % 3 ? 0 : NTBS_RECV_PEEK);
		}
		t_ok(opens > 100, "only %llu of 2000 sends gathered", (unsigned long long)opens);
		simpair_settle(p);
		simpair_close(p);
	}
	return t_done();
}
