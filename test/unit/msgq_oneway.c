// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_oneway.c - traffic of one direction, for longer than a 16-bit or a 32-bit count lasts
 *
 * An acknowledgement that has grown old (on a slot, read or not, stored at once or late, or in the head word) must
 * never be taken for a new one when its last bits come round: the sender would overwrite what has not been read.
 * What side 0 believes is looked at after every message while they do, with messages unread, so that one that is
 * believed is seen.  And a sender that does not read must get credit back although the other side answers every
 * message.
 */
#include "simpair.h"

/* What the sender believes to be consumed has been. */
static void credit_true(struct simpair *p, int i, const char *what, unsigned n)
{
	long long ahead = (long long)(p->s[i].tx.head - p->s[1 - i].rx.head);
	int32_t bulk = (int32_t)(p->s[i].tx.bulk_head - p->s[1 - i].rx.bulk_head);

	t_must(ahead <= 0, "%s, message %u: the sender takes %lld slots for free that are not", what, n, ahead);
	t_must(bulk <= 0 || p->s[i].tx.head == p->s[i].tx.tail, "%s, message %u: the sender takes %d bulk bytes for free", what, n,
	       bulk);
}

/* The same, once it has looked at all the news there is. */
static void credit_looked_up(struct simpair *p, const char *what, unsigned n)
{
	ntbs_msgq_all_acked(&p->s[0].q);
	credit_true(p, 0, what, n);
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

/* Side 0 has sent @count messages more, which have been read and acknowledged; so have all before them. */
static void as_if_sent(struct simpair *p, uint64_t count)
{
	while (simpair_recv(p, 1, 2000, 0) > 0)
		;
	ntbs_msgq_ack(&p->s[1].q);
	simpair_drain(p);
	t_eq(simpair_send(p, 0, 20), 20, "a message, so that the last is not OPEN");
	simpair_drain(p);
	t_eq(simpair_recv(p, 1, 2000, 0), 20, "the last message");
	t_must(p->s[1].rx.head == p->s[0].tx.tail, "not all has been read");
	p->s[0].tx.tail += count;
	p->s[0].tx.head = p->s[0].tx.tail;
	p->s[1].rx.head += count;
	simpair_stamp(p->s[1].in, p->o.nr_slots, p->s[0].tx.tail);
	ntbs_msgq_ack(&p->s[1].q);
	simpair_drain(p);
}

static void old_acks(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 14, .chaos = chaos);
	const unsigned lap = 80000;
	uint64_t from;

	/* on a slot that was read long ago */
	one_way(p, 500, "before");
	simpair_send(p, 1, 10);
	simpair_settle(p);
	one_way(p, lap, "old acknowledgement on a slot");
	simpair_settle(p);

	/* on slots that lie unread meanwhile, and are looked at late */
	from = p->s[0].tx.tail;
	for (unsigned n = 0; n < 5; n++) {
		simpair_send(p, 1, 10);
		one_way(p, 40, "between");
	}
	as_if_sent(p, (1 << 16) - 1500);
	for (unsigned n = 0; p->s[0].tx.tail - from < (1 << 16) + 1000; n++) {	/* their last 16 bits come round */
		one_way(p, 1, "old acknowledgements on unread slots");
		if (n % 600 == 599)
			simpair_recv(p, 0, 10, 0);
		else if (n % 3)		/* beyond the last of them, and from the first again */
			simpair_recv(p, 0, 60, NTBS_RECV_PEEK);
		else
			ntbs_msgq_avail(&p->s[0].q);
		credit_looked_up(p, "old acknowledgements on unread slots, looked at", n);
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

/*
 * A slot whose sender was stopped after it had taken its acknowledgement, and stored it when another thread had read
 * @lap messages less some; it does not matter when the reader looks.
 */
static void late_slots(uint64_t chaos, uint64_t lap)
{
	struct simpair *p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 14, .chaos = chaos);

	for (unsigned n = 0; n < 500; n++) {
		uint64_t head;

		one_way(p, 1 + t_rand() % 100, "slots stored late");
		for (unsigned k = t_rand() % 20; k; k--)
			simpair_send(p, 0, 20);		/* unread */
		simpair_drain(p);
		head = p->s[1].rx.head;
		p->s[1].rx.head = head - lap + t_rand() % 32;
		t_eq(simpair_send(p, 1, 10), 10, "a slot with an old acknowledgement");
		p->s[1].rx.head = head;
		simpair_drain(p);
		t_eq(simpair_recv(p, 0, 10, 0), 10, "the slot");
		credit_looked_up(p, "slots stored late", n);
	}
	simpair_settle(p);
	simpair_close(p);
}

/* One-way traffic for longer than a 32-bit count lasts, which takes minutes, behind acknowledgements read and unread. */
static void very_old_acks(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 14, .chaos = chaos);

	one_way(p, 500, "before");
	simpair_settle(p);
	simpair_send(p, 1, 10);
	simpair_settle(p);
	simpair_send(p, 1, 10);
	simpair_drain(p);
	for (unsigned unread = 0; unread < 2; unread++) {
		uint64_t from;

		as_if_sent(p, (1ull << 32) - 4000);
		from = p->s[0].tx.tail;
		for (unsigned n = 0; (uint32_t)(p->s[0].tx.tail - from) < 5000; n++) {
			one_way(p, 1, "a very old acknowledgement");
			if (unread)
				simpair_recv(p, 0, 60, NTBS_RECV_PEEK);
			credit_looked_up(p, unread ? "a very old acknowledgement on an unread slot" : "a very old acknowledgement", n);
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
	for (unsigned shm = 0; shm < 2; shm++) {
		late_slots(shm ? 0 : t_rand() | 1, 1 << 16);
		late_slots(shm ? 0 : t_rand() | 1, 1ull << 32);
		very_old_acks(shm ? 0 : t_rand() | 1);
	}
	return t_done();
}
