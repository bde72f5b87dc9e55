// SPDX-License-Identifier: BSD-2-Clause
/* msgq_peek.c - partial reads, peek, drop and the count of what is there agree with each other */
#include "simpair.h"

static void partial(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 32, .bulk_bytes = 1 << 16, .chaos = chaos);
	static const uint16_t len[] = { 1, 54, 55, 58, 61, 62, 63, 64, 100, 116, 117, 200, 5000 };

	for (unsigned i = 0; i < sizeof(len) / sizeof(*len); i++) {
		uint64_t left = len[i];

		t_eq(simpair_send(p, 0, len[i]), len[i], "send");
		simpair_drain(p);
		while (left) {
			t_eq(ntbs_msgq_avail(&p->s[1].q), (long long)left, "available of a message of %u", len[i]);
			t_ok(ntbs_msgq_readable(&p->s[1].q), "%llu bytes left, but not readable", (unsigned long long)left);
			t_eq(simpair_recv(p, 1, 7, NTBS_RECV_PEEK), (long long)(left < 7 ? left : 7), "peek");
			t_eq(simpair_recv(p, 1, 60000, NTBS_RECV_PEEK), (long long)left, "peek at all");
			t_eq(simpair_recv(p, 1, 7, left % 3 ? 0 : NTBS_RECV_DROP), (long long)(left < 7 ? left : 7), "recv");
			left -= left < 7 ? left : 7;
		}
		t_ok(!ntbs_msgq_readable(&p->s[1].q), "readable after the last byte");
		t_eq(simpair_recv(p, 1, 7, 0), -EAGAIN, "recv after the last byte");
	}

	/* one read over several messages of all kinds */
	for (unsigned i = 0; i < sizeof(len) / sizeof(*len); i++)
		t_eq(simpair_send(p, 0, len[i]), len[i], "send");
	simpair_drain(p);
	t_eq(simpair_recv(p, 1, 3000, NTBS_RECV_PEEK), 3000, "peek over messages");
	t_eq(simpair_recv(p, 1, 3000, 0), 3000, "recv over messages");
	simpair_settle(p);
	simpair_close(p);
}

/*
 * Half-taken bulk message, its credit (where a part has one) returned and used again by the sender, then a peek further on:
 * what is left of the message must still be taken.
 */
static void reused_behind_the_reader(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 16, .bulk_bytes = 8192, .chaos = chaos);

	t_eq(simpair_send(p, 0, 6000), 6000, "first message");
	simpair_drain(p);
	t_eq(simpair_recv(p, 1, 5000, 0), 5000, "most of it");
	ntbs_msgq_ack(&p->s[1].q);
	simpair_drain(p);
	if (chaos)
		t_ok(simpair_send(p, 0, 6000) <= 8192 - 6000, "second message in place of what may be looked at again");
	else
		t_ok(simpair_send(p, 0, 6000) > 3000, "second message in place of what was taken");
	simpair_drain(p);
	t_ok(simpair_recv(p, 1, 3000, NTBS_RECV_PEEK) > 1000, "peek over both");
	simpair_settle(p);
	simpair_close(p);
}

/* The mark moves when something is published, and stands when we only take. */
static void mark(void)
{
	struct simpair *p = simpair_open(.nr_slots = 16);
	uint64_t before = ntbs_msgq_rx_mark(&p->s[1].q);

	for (unsigned i = 0; i < 100; i++) {
		simpair_send(p, 0, 1 + i);
		t_ok(ntbs_msgq_rx_mark(&p->s[1].q) != before, "message %u did not move the mark", i);
		before = ntbs_msgq_rx_mark(&p->s[1].q);
		simpair_recv(p, 1, 1 + i / 2, 0);
		t_ok(ntbs_msgq_rx_mark(&p->s[1].q) == before, "taking a part of message %u moved the mark", i);
		simpair_recv(p, 1, 200, 0);
		t_ok(ntbs_msgq_rx_mark(&p->s[1].q) == before, "taking message %u moved the mark", i);
	}
	for (unsigned i = 0; i < 40; i++) {	/* gathered: extending an OPEN slot is news too */
		if (simpair_send(p, 0, 10) < 0)
			break;
		t_ok(ntbs_msgq_rx_mark(&p->s[1].q) != before, "gathered message %u did not move the mark", i);
		before = ntbs_msgq_rx_mark(&p->s[1].q);
	}
	simpair_settle(p);
	simpair_close(p);
}

int main(void)
{
	for (unsigned i = 0; i < 6; i++) {
		partial(i ? t_rand() | 1 : 0);
		reused_behind_the_reader(i ? t_rand() | 1 : 0);
	}
	mark();
	for (unsigned i = 0; i < 20; i++) {
		struct simpair *p = simpair_open(.nr_slots = 32, .bulk_bytes = 1 << 14, .chaos = i & 1 ? t_rand() | 1 : 0);

		simpair_traffic(p, 2000, i % 4 == 3 ? 9000 : 150);
		simpair_close(p);
	}
	return t_done();
}
