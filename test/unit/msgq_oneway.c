// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_oneway.c - traffic of one direction, for longer than a 16-bit count lasts
 *
 * An acknowledgement that has grown old (on a slot, read or not, or in the head word) must never be taken for a new
 * one when the count comes round: the sender would overwrite what has not been read.  And a sender that does not
 * read must get credit back although the other side answers every message.
 */
#include "simpair.h"

/* What the sender believes to be consumed has been. */
static void credit_true(struct simpair *p, int i, const char *what, unsigned n)
{
	int32_t ahead = (int32_t)(p->s[i].tx.head - p->s[1 - i].rx.head);
	int32_t bulk = (int32_t)(p->s[i].tx.bulk_head - p->s[1 - i].rx.bulk_head);

	t_must(ahead <= 0, "%s, message %u: the sender takes %d slots for free that are not", what, n, ahead);
	t_must(bulk <= 0 || p->s[i].tx.head == p->s[i].tx.tail, "%s, message %u: the sender takes %d bulk bytes for free", what, n,
	       bulk);
}

/* Side 0 sends @count messages; the reader lags by a random part of a ring. */
static void one_way(struct simpair *p, unsigned count, const char *what)
{
	for (unsigned n = 0; n < count; n++) {
		simpair_send(p, 0, 1 + n % 116);
		credit_true(p, 0, what, n);
		simpair_drain(p);
		if (t_rand() % 16 == 0) {
			while (simpair_recv(p, 1, 2000, 0) > 0)
				;
			if (t_rand() % 2)
				ntbs_msgq_ack(&p->s[1].q);
			simpair_drain(p);
		}
	}
}

static void old_acks(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 14, .chaos = chaos);
	const unsigned lap = 80000;

	/* on a slot that was read long ago */
	one_way(p, 500, "before");
	simpair_send(p, 1, 10);
	simpair_settle(p);
	one_way(p, lap, "old acknowledgement on a slot");
	simpair_settle(p);

	/* on slots that lie unread meanwhile, and are looked at late */
	for (unsigned n = 0; n < 5; n++) {
		simpair_send(p, 1, 10);
		one_way(p, 40, "between");
	}
	for (unsigned n = 0; n < 700; n++) {
		one_way(p, 120, "old acknowledgements on unread slots");
		if (n > 500 && n % 40 == 0)
			simpair_recv(p, 0, 10, 0);
		else if (n > 500)
			simpair_recv(p, 0, 60, NTBS_RECV_PEEK);
	}
	simpair_settle(p);

	/* in the head word: everything else rides along with answers */
	for (unsigned n = 0; n < lap; n++) {
		simpair_send(p, 0, 20);
		simpair_drain(p);
		simpair_recv(p, 1, 20, 0);
		simpair_send(p, 1, 20);
		simpair_drain(p);
		simpair_recv(p, 0, 20, 0);
		if (n % 50 == 0) {	/* now and then more than one under way */
			for (unsigned k = 0; k < 40; k++) {
				simpair_send(p, 0, 20);
				ntbs_msgq_writable(&p->s[0].q);
				credit_true(p, 0, "old head word", n);
			}
			simpair_drain(p);
			while (simpair_recv(p, 1, 2000, 0) > 0)
				;
		}
	}
	simpair_settle(p);
	simpair_close(p);
}

/* A client that sends many requests before it reads one answer; each answer says that all requests are consumed. */
static void pipeline(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 32, .bulk_bytes = 1 << 14, .chaos = chaos);

	for (unsigned round = 0; round < 16; round++) {
		unsigned sent = 0;

		while (simpair_send(p, 0, 1 + (round + sent) % 116) > 0)
			sent++;
		t_must(sent, "round %u: no credit, though all has been read", round);
		simpair_drain(p);
		while (simpair_recv(p, 1, 500, 0) > 0)
			;
		t_eq(p->s[1].got, p->s[0].sent, "bytes the server has");
		t_eq(simpair_send(p, 1, 5), 5, "answer %u", round);
		ntbs_msgq_ack(&p->s[1].q);	/* as before a sleep */
		simpair_drain(p);
	}
	simpair_settle(p);
	simpair_close(p);
}

int main(void)
{
	pipeline(0);
	pipeline(t_rand() | 1);
	old_acks(0);
	old_acks(t_rand() | 1);
	return t_done();
}
