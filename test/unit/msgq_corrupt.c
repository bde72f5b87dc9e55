// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_corrupt.c - a peer that writes nonsense fails its own connection and nothing else
 *
 * Every field of a slot and of the head line gets every value that could matter; the answer is -EPROTO, or bytes out
 * of the inbox's own rings, or nothing.  Inboxes lie between guard pages, so a read outside one ends the test.
 */
#include <sys/mman.h>

#include "sign.h"
#include "simpair.h"

/* Values at which a check could be off by one. */
static const uint64_t nasty[] = {
	0, 1, 2, 3, 7, 8, 53, 54, 55, 61, 62, 63, 115, 116, 117, 127, 128, 255, 256, 4095, 4096, 4097, 8191, 8192,
	16384, 0x7fff, 0x8000, 0xffff, 0x10000, 0x3fffffff, 0x40000000, 0x40004000, 0x7fffffff, 0x80000000, 0xfffff000,
	0xfffffffe, 0xffffffff, 0x100000000, 0xffff00000000, UINT64_MAX - 1, UINT64_MAX,
};
#define NR_NASTY (sizeof(nasty) / sizeof(*nasty))

/* Move side @i's inbox to where both ends touch pages that cannot be read. */
static void guard(struct simpair *p, int i)
{
	size_t bytes = ntbs_msgq_inbox_bytes(&p->s[i].q.geo);
	char *map = mmap(NULL, bytes + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	t_must(map != MAP_FAILED, "mmap of %zu bytes", bytes + 8192);
	t_must(!mprotect(map, 4096, PROT_NONE) && !mprotect(map + 4096 + bytes, 4096, PROT_NONE), "mprotect");
	memcpy(map + 4096, p->s[i].in, bytes);
	free(p->s[i].in);
	p->s[i].in = (void *)(map + 4096);
	p->s[i].q.in = p->s[1 - i].q.out = p->s[i].in;
}

static void unguard_close(struct simpair *p)
{
	for (int i = 0; i < 2; i++) {
		munmap((char *)p->s[i].in - 4096, ntbs_msgq_inbox_bytes(&p->s[i].q.geo) + 8192);
		p->s[i].in = NULL;
	}
	simpair_close(p);
}

/* Whatever is there: calls return something permitted, take no more than asked, and do not go on for ever. */
static void poke_at(struct simpair *p, int i)
{
	struct ntbs_msgq *q = &p->s[i].q;
	static uint8_t room[3000];
	bool acked = false;
	uint64_t w;

	for (unsigned n = 0; n < 3; n++) {
		struct iovec iov = { room, n ? 100 : sizeof(room) };
		struct ntbs_iter it;
		ssize_t ret = ntbs_msgq_avail(q);

		t_ok(ret == -EPROTO || (ret >= 0 && (uint64_t)ret <= (uint64_t)q->geo.nr_slots * (q->geo.bulk_bytes + 116)),
		     "avail says %zd", ret);
		ntbs_msgq_readable(q);
		ntbs_msgq_rx_mark(q);
		ret = ntbs_msgq_peek_switch(q, &w);
		t_ok(ret >= -EPROTO && ret <= 1, "peek_switch says %zd", ret);
		if (ret == 1 && n == 1)
			ntbs_msgq_pass_switch(q);
		ntbs_iter_init(&it, &iov, iov.iov_len);
		ret = ntbs_msgq_recv(q, &it, n ? 0 : NTBS_RECV_PEEK, &acked);
		t_ok(ret == -EAGAIN || ret == -EPROTO || (ret > 0 && (size_t)ret <= iov.iov_len), "recv says %zd", ret);
	}
	for (unsigned n = 0; n < 3; n++) {
		struct iovec iov = { room, n * 500 + 20 };
		struct ntbs_iter it;
		ssize_t ret;

		ntbs_iter_init(&it, &iov, iov.iov_len);
		ret = ntbs_msgq_send(q, &it, 0);
		t_ok(ret == -EAGAIN || (ret > 0 && (size_t)ret <= iov.iov_len), "send says %zd", ret);
		t_ok(q->tx->tail - q->tx->head <= q->geo.nr_slots, "more slots in flight than there are");
		t_ok(q->tx->bulk_tail - q->tx->bulk_head <= q->geo.bulk_bytes, "more bulk bytes in flight than there are: %u..%u",
		     q->tx->bulk_head, q->tx->bulk_tail);
	}
	ntbs_msgq_writable(q);
	ntbs_msgq_all_acked(q);
	ntbs_msgq_ack(q);
}

static struct simpair *pair(unsigned variant)
{
	struct simpair *p = simpair_open(.nr_slots = 8, .first_seq = variant & 1 ? 5 : UINT32_MAX - 1, .generation = 9,
					 .chaos = variant & 2 ? 3 : 0);

	guard(p, 0);
	guard(p, 1);
	return p;
}

static void one_field(unsigned variant)
{
	static const struct {
		const char *name;
		size_t offset;
		unsigned size;
	} field[] = {
		{ "end", offsetof(struct ntbs_slot_shm, line1.bulk.end), 4 },
		{ "start", offsetof(struct ntbs_slot_shm, line1.bulk.start), 4 },
		{ "len", offsetof(struct ntbs_slot_shm, line1.len), 1 },
		{ "kind", offsetof(struct ntbs_slot_shm, line1.kind), 1 },
		{ "ack", offsetof(struct ntbs_slot_shm, line1.tail), 6 },
		{ "tail", offsetof(struct ntbs_slot_shm, line1.tail), 8 },
		{ "stamp 0", offsetof(struct ntbs_slot_shm, line0.stamp), 2 },
	};

	for (unsigned f = 0; f < sizeof(field) / sizeof(*field); f++) {
		for (unsigned v = 0; v < NR_NASTY; v++) {
			for (unsigned kind = 0; kind < 6; kind++) {
				struct simpair *p = pair(variant);
				uint32_t seq;

				for (unsigned n = 0; n < 2; n++) {
					simpair_send(p, 1, 20);
					simpair_send(p, 0, 20 + 50 * n);
					simpair_send(p, 0, 500);
				}
				simpair_drain(p);
				seq = p->s[1].rx.head + t_rand() % 3;

				struct ntbs_slot_shm *slot = &p->s[1].in->slot[seq & 7];

				slot->line1.kind = kind;
				memcpy((char *)slot + field[f].offset, &nasty[v], field[f].size);
				if (variant & 2 && f < 4)
					sign(&p->s[1].q, seq, slot);
				poke_at(p, 1);
				poke_at(p, 0);
				unguard_close(p);
			}
		}
	}
}

static void head_line(unsigned variant)
{
	for (unsigned v = 0; v < NR_NASTY; v++) {
		for (unsigned g = 0; g < 4; g++) {
			struct simpair *p = pair(variant);
			uint64_t word = g == 0 ? nasty[v] :
					g == 1 ? ntbs_head_word((uint32_t)nasty[v], 0, 9) :
					g == 2 ? ntbs_head_word(p->s[0].tx.tail, (uint32_t)nasty[v], 9) :
						 ntbs_head_word((uint32_t)nasty[v], (uint32_t)nasty[v], 9);

			while (simpair_send(p, 0, 300) > 0)
				;
			ntbs_le64_write(&p->s[0].in->head, word);
			for (unsigned n = 0; n < 5; n++)
				poke_at(p, 0);
			unguard_close(p);
		}
	}
}

/* Random words anywhere, between any two calls. */
static void anything(unsigned variant, unsigned rounds)
{
	while (rounds--) {
		struct simpair *p = pair(variant);

		for (unsigned n = 0; n < 40; n++) {
			char *base = (char *)p->s[0].in;
			size_t at = t_rand() % 4 ? t_rand() % (128 + 8 * 128) : t_rand() % ntbs_msgq_inbox_bytes(&p->s[0].q.geo);
			uint64_t value = t_rand() % 2 ? nasty[t_rand() % NR_NASTY] : t_rand();
			struct ntbs_line1_shm *next = &p->s[0].in->slot[(p->s[0].rx.head + t_rand() % 2) & 7].line1;

			memcpy(base + (at & ~7ul), &value, 8);
			next->kind = t_rand() % 6;	/* often enough one that is looked at */
			next->tail.v = ntbs_tail_word(p->s[0].rx.head + t_rand() % 2, t_rand());
			poke_at(p, 0);
		}
		unguard_close(p);
	}
}

int main(void)
{
	for (unsigned variant = 0; variant < 4; variant++) {
		one_field(variant);
		head_line(variant);
		anything(variant, 150);
	}
	return t_done();
}
