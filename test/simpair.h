/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * simpair.h - two message queues joined to each other, in one process
 *
 *	struct simpair *p = simpair_open(.nr_slots = 8, .first_seq = UINT32_MAX - 3, .chaos = t_seed() | 1);
 *
 *	simpair_traffic(p, 1000, 400);
 *	simpair_close(p);
 *
 * Over shared memory (nothing said), over the hostile fabric (.chaos: its seed), or over shared memory whose stores
 * are counted (.counted).  Side s sends stream s: byte i of it is t_byte(s, i), so every byte taken is checked
 * against its place.
 */
#ifndef NTBSOCK_TEST_SIMPAIR_H
#define NTBSOCK_TEST_SIMPAIR_H

#include "msgq.h"
#include "sim/wcsim.h"
#include "t.h"

#define SIMPAIR_BUF (1u << 16)

struct simpair_opt {
	uint32_t nr_slots, bulk_bytes;	/* 8, 4096 */
	uint32_t first_seq;		/* of both directions */
	uint32_t first_bulk;		/* position of both bulk rings */
	uint32_t generation, epoch;
	uint32_t long_min;
	uint64_t chaos;
	bool counted;
};

struct simside {
	struct wcsim sim;		/* stores into the other side's inbox */
	struct ntbs_port shm;
	struct ntbs_msgq q;
	struct ntbs_msgq_tx_shm tx;
	struct ntbs_msgq_rx_shm rx;
	struct ntbs_msgq_held held;
	struct ntbs_inbox_shm *in;
	uint64_t sent, got;		/* bytes of the streams: what side s has sent, what it has taken from 1 - s */
	uint64_t head_words;
};

struct simpair {
	struct simpair_opt o;
	struct simside s[2];
	uint8_t buf[SIMPAIR_BUF];
};

/* Begin a generation on the same memory: what lies in the inboxes stays. */
T_UNUSED static void simpair_begin(struct simpair *p, uint32_t generation, uint32_t seq0, uint32_t seq1)
{
	for (int i = 0; i < 2; i++) {
		struct simside *s = &p->s[i];

		ntbs_msgq_init(&s->q, generation, i ? seq1 : seq0, i ? seq0 : seq1);
		s->tx.bulk_tail = s->tx.bulk_head = p->o.first_bulk;
		s->rx.bulk_head = s->rx.bulk_freed = s->rx.acked_bulk = p->o.first_bulk;
		s->held.next = 0;
		s->sent = s->got = 0;
		ntbs_le64_write(&s->in->head, ntbs_head_word(s->tx.head, p->o.first_bulk, generation));
	}
}

/* Stamps that no slot sees next: of the lap before @seq. */
T_UNUSED static void simpair_stamp(struct ntbs_inbox_shm *in, uint32_t nr_slots, uint32_t seq)
{
	for (uint32_t i = 0; i < nr_slots; i++) {
		uint32_t lap = seq + i - nr_slots;
		struct ntbs_slot_shm *slot = &in->slot[lap & (nr_slots - 1)];

		slot->line0.stamp.v = lap;
		slot->line1.tail.v = ntbs_tail_word(lap, 0);
	}
}

T_UNUSED static struct simpair *simpair_open_(struct simpair_opt o)
{
	struct simpair *p = aligned_alloc(64, sizeof(*p));
	struct ntbs_msgq_geo geo;

	t_must(p, "no memory");
	memset(p, 0, sizeof(*p));
	o.nr_slots = o.nr_slots ? o.nr_slots : 8;
	o.bulk_bytes = o.bulk_bytes ? o.bulk_bytes : 4096;
	geo = (struct ntbs_msgq_geo){ o.nr_slots, o.bulk_bytes, 0 };
	geo.bulk_offset = (uint32_t)(sizeof(struct ntbs_inbox_shm) + o.nr_slots * sizeof(struct ntbs_slot_shm) + 4095) & ~4095u;
	t_must(ntbs_msgq_geo_ok(&geo), "geometry of the test: %u slots, %u bytes", geo.nr_slots, geo.bulk_bytes);
	p->o = o;
	for (int i = 0; i < 2; i++) {
		struct simside *s = &p->s[i];

		ntbs_port_attach(&s->shm, NULL, NTBS_MEM_CACHED);
		wcsim_open(&s->sim, o.chaos ? o.chaos * 2 + (uint64_t)i + 1 : 0);
		if (o.counted)
			s->sim.port.whole = true;
		s->q.port = o.chaos || o.counted ? &s->sim.port : &s->shm;
		s->q.geo = geo;
		s->q.tx = &s->tx;
		s->q.rx = &s->rx;
		s->q.held = &s->held;
		s->q.long_min = o.long_min;
		s->q.epoch = o.epoch;
		s->in = aligned_alloc(4096, ntbs_msgq_inbox_bytes(&geo));
		t_must(s->in, "no memory");
		memset(s->in, 0, ntbs_msgq_inbox_bytes(&geo));
		simpair_stamp(s->in, o.nr_slots, o.first_seq);
	}
	for (int i = 0; i < 2; i++) {
		p->s[i].q.in = p->s[i].in;
		p->s[i].q.out = p->s[1 - i].in;
	}
	simpair_begin(p, o.generation, o.first_seq, o.first_seq);
	return p;
}
#define simpair_open(...) simpair_open_((struct simpair_opt){ __VA_ARGS__ })

T_UNUSED static void simpair_close(struct simpair *p)
{
	for (int i = 0; i < 2; i++) {
		wcsim_close(&p->s[i].sim);
		free(p->s[i].in);
	}
	free(p);
}

/* Some of what is under way lands; nothing to do over shared memory. */
T_UNUSED static void simpair_step(struct simpair *p)
{
	if (p->o.chaos) {
		wcsim_step(&p->s[0].sim);
		wcsim_step(&p->s[1].sim);
	}
}

T_UNUSED static void simpair_drain(struct simpair *p)
{
	if (p->o.chaos) {
		wcsim_drain(&p->s[0].sim);
		wcsim_drain(&p->s[1].sim);
	}
}

/* Send the next @len bytes of side @i's stream, in one call, from up to three pieces; what the call returns. */
T_UNUSED static ssize_t simpair_send(struct simpair *p, int i, size_t len)
{
	struct simside *s = &p->s[i];
	size_t cut = len > 2 ? len / 3 : 0;
	struct iovec iov[3] = { { p->buf, cut }, { p->buf + cut, 0 }, { p->buf + cut, len - cut } };
	struct ntbs_iter it;
	ssize_t ret;

	t_must(len <= SIMPAIR_BUF, "%zu bytes", len);
	t_fill(p->buf, len, (uint64_t)i, s->sent);
	if (s->sent & 1)
		iov[0] = (struct iovec){ p->buf, len };
	ntbs_iter_init(&it, iov, len);
	ret = ntbs_msgq_send(&s->q, &it, 0);
	if (ret > 0)
		s->sent += (uint64_t)ret;
	t_ok(ret == -EAGAIN || (ret > 0 && (size_t)ret <= len), "send of %zu bytes: %zd", len, ret);
	t_ok(it.left == len - (ret > 0 ? (size_t)ret : 0), "send leaves %zu of %zu bytes after %zd", it.left, len, ret);
	return ret;
}

/* Take up to @len bytes on side @i and check them; what the call returns. */
T_UNUSED static ssize_t simpair_recv(struct simpair *p, int i, size_t len, int flags)
{
	struct simside *s = &p->s[i];
	size_t cut = len / 2;
	struct iovec iov[2] = { { p->buf, cut }, { p->buf + cut, len - cut } };
	struct ntbs_iter it;
	bool acked = false;
	ssize_t ret;

	t_must(len && len <= SIMPAIR_BUF, "%zu bytes", len);
	ntbs_iter_init(&it, iov, len);
	ret = ntbs_msgq_recv(&s->q, &it, flags, &acked);
	s->head_words += acked;
	if (ret > 0) {
		t_must((size_t)ret <= len && s->got + (uint64_t)ret <= p->s[1 - i].sent,
		       "recv of %zu bytes at %llu returned %zd, sent are %llu", len, (unsigned long long)s->got, ret,
		       (unsigned long long)p->s[1 - i].sent);
		if (!(flags & NTBS_RECV_DROP)) {
			ssize_t wrong = t_wrong(p->buf, (size_t)ret, (uint64_t)(1 - i), s->got);

			t_must(wrong < 0, "side %d took a wrong byte at %llu of its stream", i,
			       (unsigned long long)s->got + (unsigned long long)wrong);
		}
		if (!(flags & NTBS_RECV_PEEK))
			s->got += (uint64_t)ret;
	} else {
		t_must(ret == -EAGAIN, "recv of %zu bytes at %llu: %zd", len, (unsigned long long)s->got, ret);
	}
	return ret;
}

/* Everything sent must arrive, without another message being sent. */
T_UNUSED static void simpair_settle(struct simpair *p)
{
	for (int i = 0; i < 2; i++) {
		while (p->s[i].got < p->s[1 - i].sent) {
			simpair_step(p);
			if (simpair_recv(p, i, SIMPAIR_BUF, 0) == -EAGAIN && (!p->o.chaos || !wcsim_pending(&p->s[1 - i].sim)) &&
			    simpair_recv(p, i, SIMPAIR_BUF, 0) == -EAGAIN) {
				t_must(0, "side %d has %llu of %llu bytes, and nothing more comes", i,
				       (unsigned long long)p->s[i].got, (unsigned long long)p->s[1 - i].sent);
			}
		}
		t_eq(ntbs_msgq_avail(&p->s[i].q), 0, "bytes available at the end");
		ntbs_msgq_ack(&p->s[i].q);
	}
	simpair_drain(p);
	for (int i = 0; i < 2; i++)	/* an OPEN slot is passed, and so acknowledged, once another follows */
		t_ok(ntbs_msgq_all_acked(&p->s[i].q) || p->s[i].tx.open_bytes,
		     "side %d: all is read and acknowledged, but not seen so", i);
}

/* A length, with the boundaries of the message kinds more often than others. */
T_UNUSED static size_t simpair_len(uint32_t max)
{
	static const uint32_t edge[] = { 1, 2, 7, 8, 15, 16, 31, 32, 53, 54, 55, 61, 62, 63, 64, 115, 116, 117, 4095, 4096, 16384 };
	size_t len = t_rand() % 3 ? 1 + t_rand() % max : edge[t_rand() % (sizeof(edge) / sizeof(*edge))];

	return len > max ? max : len;
}

/* @ops random calls on both sides, of up to @max bytes each; then all of it must have arrived. */
T_UNUSED static void simpair_traffic(struct simpair *p, unsigned ops, uint32_t max)
{
	unsigned bias = 1 + t_rand() % 6;	/* how slow the readers are */

	while (ops--) {
		int i = t_rand() & 1;
		struct simside *s = &p->s[i];

		if (t_rand() % 64 == 0)
			bias = 1 + t_rand() % 6;
		switch (t_rand() % 8) {
		case 0:
			if (ntbs_msgq_readable(&s->q) && !p->o.chaos)
				t_ok(simpair_recv(p, i, SIMPAIR_BUF, NTBS_RECV_PEEK) > 0, "readable, but nothing to peek at");
			break;
		case 1: {
			ssize_t have = ntbs_msgq_avail(&s->q);

			t_ok(have >= 0 && s->got + (uint64_t)have <= p->s[1 - i].sent, "avail says %zd", have);
			if (!p->o.chaos)
				t_eq(s->got + (uint64_t)have, p->s[1 - i].sent, "bytes available");
			else if (have > 0)
				t_ok(simpair_recv(p, i, SIMPAIR_BUF, NTBS_RECV_PEEK) >= have, "fewer bytes than avail had said");
			break;
		}
		case 2:
			if (t_rand() % 4 == 0)
				ntbs_msgq_ack(&s->q);
			break;
		case 3:
			simpair_step(p);
			break;
		case 4:
		case 5:
			if (t_rand() % bias == 0)
				simpair_recv(p, i, simpair_len(max), t_rand() % 16 ? 0 : NTBS_RECV_DROP);
			break;
		default:
			simpair_send(p, i, simpair_len(max));
		}
	}
	simpair_settle(p);
}

#endif
