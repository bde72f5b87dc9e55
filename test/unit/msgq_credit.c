// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_credit.c - credit runs out and comes back; acknowledgements ride along, and otherwise cost at most one head
 * word per half ring
 */
#include "simpair.h"

/* Send until there is no credit; how many messages went. */
static unsigned fill(struct simpair *p, int i, size_t len)
{
	unsigned n = 0;

	while (simpair_send(p, i, len) == (ssize_t)len)
		n++;
	return n;
}

static void slots_run_out(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 16, .bulk_bytes = 1 << 16, .chaos = chaos);
	unsigned n;

	if (chaos) {	/* nothing is gathered there: 16 slots are 16 messages */
		n = fill(p, 0, 10);
		t_eq(n, 16, "messages without a reader");
		t_ok(!ntbs_msgq_writable(&p->s[0].q), "writable without credit");
		simpair_drain(p);
		for (int i = 0; i < 7; i++)
			t_eq(simpair_recv(p, 1, 10, 0), 10, "message %d", i);
		simpair_drain(p);
		t_eq(simpair_send(p, 0, 10), -EAGAIN, "credit before half a ring was read");
		t_eq(simpair_recv(p, 1, 10, 0), 10, "message 7");
		simpair_drain(p);
		t_eq(fill(p, 0, 10), 8, "credit after half a ring");
		simpair_drain(p);
		for (int i = 0; i < 3; i++)
			t_eq(simpair_recv(p, 1, 10, 0), 10, "message %d", 8 + i);
		t_ok(ntbs_msgq_ack(&p->s[1].q), "three messages are not told yet");
		t_ok(!ntbs_msgq_ack(&p->s[1].q), "told twice");
		simpair_drain(p);
		t_eq(fill(p, 0, 10), 3, "credit after an acknowledgement asked for");
	} else {
		n = fill(p, 0, 10);
		t_ok(n >= 16, "%u messages", n);
		t_ok(p->s[0].tx.bulk_tail - p->s[0].tx.bulk_head > 60000, "EAGAIN with the bulk ring nearly empty: %u bytes",
		     p->s[0].tx.bulk_tail - p->s[0].tx.bulk_head);
	}
	simpair_settle(p);
	t_ok(ntbs_msgq_writable(&p->s[0].q), "not writable though all is read");
	simpair_close(p);
}

static void bulk_runs_out(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 64, .bulk_bytes = 8192, .chaos = chaos);

	while (simpair_send(p, 0, 1000) > 0)
		;
	t_ok(p->s[0].tx.bulk_tail - p->s[0].tx.bulk_head <= 8192, "more bulk bytes than the ring holds");
	t_ok(p->s[0].sent > 8192 - 1000 && p->s[0].sent <= 8192, "%llu bytes went", (unsigned long long)p->s[0].sent);
	t_ok(!ntbs_msgq_writable(&p->s[0].q), "writable with a full bulk ring");
	simpair_drain(p);
	for (unsigned i = 0; i < 5; i++)
		simpair_recv(p, 1, 1000, 0);
	simpair_drain(p);
	t_ok(simpair_send(p, 0, 1000) > 0, "no credit after half the bulk ring");
	simpair_settle(p);

	/* a limit below the ring */
	struct iovec iov = { p->buf, 6000 };
	struct ntbs_iter it;

	ntbs_iter_init(&it, &iov, 6000);
	t_fill(p->buf, 6000, 0, p->s[0].sent);
	t_eq(ntbs_msgq_send(&p->s[0].q, &it, 4096), 4096, "bytes under a limit of 4096");
	p->s[0].sent += 4096;
	t_eq(ntbs_msgq_send(&p->s[0].q, &it, 4096), -EAGAIN, "bytes beyond the limit");
	simpair_settle(p);
	simpair_close(p);
}

/* Ping-pong: the answer carries the acknowledgement; a head word at most every half ring, in case nobody reads it. */
static void rides_along(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 8, .chaos = chaos, .counted = !chaos);

	for (unsigned i = 0; i < 1000; i++) {
		for (int s = 0; s < 2; s++) {
			t_eq(simpair_send(p, s, 1 + i % 116), 1 + i % 116, "ping-pong %u", i);
			simpair_drain(p);
			simpair_recv(p, 1 - s, 200, 0);
		}
	}
	t_ok(p->s[0].sim.n.words <= 1000 / 4 && p->s[1].sim.n.words <= 1000 / 4, "%llu and %llu head words in 1000 ping-pongs",
	     (unsigned long long)p->s[0].sim.n.words, (unsigned long long)p->s[1].sim.n.words);
	simpair_settle(p);
	simpair_close(p);
}

/* One way: a head word per half ring, no more. */
static void half_ring(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 32, .bulk_bytes = 1 << 16, .chaos = chaos, .counted = !chaos);

	for (unsigned i = 0; i < 3200; i++) {
		t_eq(simpair_send(p, 0, 40), 40, "message %u", i);
		simpair_drain(p);
		t_eq(simpair_recv(p, 1, 40, 0), 40, "message %u", i);
		simpair_drain(p);
	}
	t_eq(p->s[1].sim.n.words, 3200 / 16, "head words for 200 half rings");
	t_eq(p->s[1].head_words, p->s[1].sim.n.words, "head words the caller was told of");
	t_eq(p->s[1].sim.n.lines, 0, "lines stored by a side that sends nothing");
	simpair_close(p);
}

static uint32_t in_flight(const struct simpair *p)
{
	return p->s[0].tx.bulk_tail - p->s[0].tx.bulk_head;
}

/* Both programs have set the size of their buffers: so much lies unread, and credit comes while there is some. */
static void buffers(void)
{
	struct simpair *p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 20);
	const uint32_t most = 4608 + 2304 + NTBS_MSGQ_BUFS_SPARE, wild[] = { 1, INT32_MAX, UINT32_MAX };

	p->s[0].tx.sndbuf = 4608;
	while (simpair_send(p, 0, 5000) > 0)
		;
	t_ok(in_flight(p) > (1 << 20) - 5000, "one alone is no bound: %u bytes", in_flight(p));
	simpair_settle(p);

	ntbs_msgq_state_rcvbuf(&p->s[1].q, 2304);
	for (unsigned i = 0; i < 100; i++) {
		while (simpair_send(p, 0, 200 + i * 100) > 0)
			;
		t_ok(in_flight(p) <= most && in_flight(p) > most - NTBS_LINE, "%u bytes of %u", in_flight(p), most);
		t_ok(!ntbs_msgq_writable(&p->s[0].q), "writable without room");
		while (!ntbs_msgq_writable(&p->s[0].q))
			t_must(simpair_recv(p, 1, 1000, 0) > 0, "all is read, and not writable");
		t_ok(p->s[0].sent > p->s[1].got, "writable when all is read");
	}
	simpair_settle(p);

	for (unsigned i = 0; i < 3; i++) {	/* nonsense, which the reader knows nothing of */
		ntbs_le32_write(&p->s[0].in->rcvbuf, wild[i]);
		while (simpair_send(p, 0, 5000) > 0)
			;
		t_ok(in_flight(p) > NTBS_MSGQ_BUFS_SPARE - NTBS_LINE && in_flight(p) <= 1 << 20, "%u bytes with %u", in_flight(p),
		     wild[i]);
		simpair_settle(p);
	}
	simpair_close(p);
}

/* Stated when more has been consumed than the sender may have unread from now on, and less than earned a head word. */
static void buffers_later(void)
{
	struct simpair *p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 20);

	p->s[0].tx.sndbuf = 4608;
	for (unsigned i = 0; i < 12; i++) {
		t_eq(simpair_send(p, 0, 16000), 16000, "message %u", i);
		t_eq(simpair_recv(p, 1, 16000, 0), 16000, "message %u", i);
	}
	ntbs_msgq_state_rcvbuf(&p->s[1].q, 2304);
	t_ok(ntbs_msgq_writable(&p->s[0].q), "nothing is unread, and not writable");
	t_eq(simpair_send(p, 0, 16000), 16000, "one more");
	simpair_settle(p);
	simpair_close(p);
}

int main(void)
{
	buffers();
	buffers_later();
	for (unsigned i = 0; i < 2; i++) {
		uint64_t chaos = i ? t_rand() | 1 : 0;

		slots_run_out(chaos);
		bulk_runs_out(chaos);
		rides_along(chaos);
		half_ring(chaos);
	}
	return t_done();
}
