// SPDX-License-Identifier: BSD-2-Clause
/*
 * limit_ring.c - how fast lines get from one CPU to the other
 *
 * The slots are those of abi_inbox.h: data in line 1, or in both; the last 8 bytes of line 1 are one release
 * store that publishes the message.  Nothing else of a message queue is here: no credits, no sockets, no
 * sleeping.  What a transport adds to these figures is its own.
 */
#include "limit.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Rounds of @run in batches: the statement is one round, its number is i, from 1 on. */
#define TIMED_ROUNDS(run, i, round)                                                            \
	do {                                                                                   \
		uint64_t t_ = ticks_now(&(run)->ticks), u_, b_ = 0;                            \
		for (uint64_t i = 1; i <= (run)->count; i++) {                                 \
			round;                                                                 \
			if (i % (run)->batch == 0) {                                           \
				u_ = ticks_now(&(run)->ticks);                                 \
				(run)->samples[b_++] = ticks_to_ns(&(run)->ticks, u_ - t_) /   \
						       (double)(run)->batch;                   \
				t_ = u_;                                                       \
			}                                                                      \
		}                                                                              \
	} while (0)

struct two_lines {
	alignas(64) ntbs_le64 first[8];
	alignas(64) ntbs_le64 word;
};

/* One line: both sides write the same one.  Two: a message is two lines, read in full, the same two for both. */
INLINE void line_round(struct two_lines *l, int lines, uint64_t mine, uint64_t theirs, int send_first)
{
	if (send_first) {
		if (lines == 2)
			ntbs_le64_write(&l->first[0], mine);
		limit_store(&l->word, mine);
	}
	while (limit_load(&l->word) != theirs)
		;
	if (lines == 2)
		(void)limit_load(&l->first[0]);
	if (!send_first) {
		if (lines == 2)
			ntbs_le64_write(&l->first[0], mine);
		limit_store(&l->word, mine);
	}
}

void limit_line(struct limit_run *run, int side)
{
	struct two_lines *l = (struct two_lines *)run->mem;

	if (side && run->lines == 1)
		for (uint64_t i = 1; i <= run->count; i++)
			line_round(l, 1, 2 * i, 2 * i - 1, 0);
	else if (side)
		for (uint64_t i = 1; i <= run->count; i++)
			line_round(l, 2, 2 * i, 2 * i - 1, 0);
	else if (run->lines == 1)
		TIMED_ROUNDS(run, i, line_round(l, 1, 2 * i - 1, 2 * i, 1));
	else
		TIMED_ROUNDS(run, i, line_round(l, 2, 2 * i - 1, 2 * i, 1));
}

/* ------------------------------------------------------------- rings of slots */

/* @len is a constant wherever this is used. */
INLINE void slot_put(struct ntbs_slot_shm *slot, const uint8_t *src, size_t len, uint64_t seq)
{
	if (len <= NTBS_LINE1_DATA) {
		memcpy(slot->line1.data, src, len);
	} else {
		size_t first = len < NTBS_LINE0_DATA ? len : NTBS_LINE0_DATA;

		memcpy(slot->line0.data, src, first);
		memcpy(slot->line1.data, src + first, len - first);
	}
	slot->line1.len = (uint8_t)len;
	slot->line1.kind = NTBS_SLOT_INLINE;
	limit_store(&slot->line1.tail, seq);
}

INLINE void slot_get(const struct ntbs_slot_shm *slot, uint8_t *dst, size_t len, uint64_t seq)
{
	while (limit_load(&slot->line1.tail) != seq)
		;
	if (len <= NTBS_LINE1_DATA) {
		memcpy(dst, slot->line1.data, len);
	} else {
		size_t first = len < NTBS_LINE0_DATA ? len : NTBS_LINE0_DATA;

		memcpy(dst, slot->line0.data, first);
		memcpy(dst + first, slot->line1.data, len - first);
	}
	__asm__ __volatile__("" ::"r"(dst) : "memory");	/* the copy is wanted */
}

INLINE void slots(struct limit_run *run, int side, size_t len)
{
	struct ntbs_slot_shm *to1 = (struct ntbs_slot_shm *)run->mem;
	struct ntbs_slot_shm *to0 = to1 + LIMIT_SLOTS_MAX;
	uint64_t mask = run->slots - 1;
	uint8_t *user = run->user;

	if (side) {
		for (uint64_t i = 1; i <= run->count; i++) {
			slot_get(&to1[i & mask], user, len, i);
			slot_put(&to0[i & mask], user, len, i);
		}
		return;
	}
	TIMED_ROUNDS(run, i, {
		slot_put(&to1[i & mask], user, len, i);
		slot_get(&to0[i & mask], user, len, i);
	});
}

void limit_slots(struct limit_run *run, int side)
{
	if (run->lines == 1)
		slots(run, side, 8);
	else
		slots(run, side, 100);
}

/* ---------------------------------------------------------------------- sizes */

/* One direction of a ring with payload beside the slots. */
struct pipe_end {
	struct ntbs_slot_shm *slot;
	uint8_t *bulk;
	uint32_t at;		/* next byte of the bulk ring */
};

INLINE void bulk_put(const struct limit_run *run, struct pipe_end *p, uint64_t seq)
{
	struct ntbs_slot_shm *slot = &p->slot[seq & (run->slots - 1)];

	if (p->at + run->size > run->ring)
		p->at = 0;
	if (run->nt_in)
		ntbs_copy_nt(run->line_store, p->bulk + p->at, run->user, run->size);
	else
		memcpy(p->bulk + p->at, run->user, run->size);
	ntbs_le32_write(&slot->line1.bulk.start, p->at);
	p->at += (uint32_t)run->size;
	ntbs_le32_write(&slot->line1.bulk.end, p->at);
	limit_store(&slot->line1.tail, seq);
}

INLINE void bulk_get(const struct limit_run *run, const struct pipe_end *p, uint64_t seq)
{
	const struct ntbs_slot_shm *slot = &p->slot[seq & (run->slots - 1)];

	while (limit_load(&slot->line1.tail) != seq)
		;
	memcpy(run->user, p->bulk + ntbs_le32_read(&slot->line1.bulk.start), run->size);
	__asm__ __volatile__("" ::: "memory");
}

/* A message of any size: inline where it fits, else through the bulk ring.  The slots lie in front of it. */
void limit_ladder(struct limit_run *run, int side)
{
	struct ntbs_slot_shm *slot = (struct ntbs_slot_shm *)run->mem;
	uint8_t *bulk = run->mem + 2 * LIMIT_SLOTS_MAX * sizeof(*slot);
	struct pipe_end to1 = { slot, bulk, 0 };
	struct pipe_end to0 = { slot + LIMIT_SLOTS_MAX, bulk + run->ring, 0 };

	if (run->size <= NTBS_LINE1_DATA) {
		slots(run, side, run->size);
	} else if (run->size <= NTBS_INLINE_MAX) {
		slots(run, side, run->size);
	} else if (side) {
		for (uint64_t i = 1; i <= run->count; i++) {
			bulk_get(run, &to1, i);
			bulk_put(run, &to0, i);
		}
	} else {
		TIMED_ROUNDS(run, i, {
			bulk_put(run, &to1, i);
			bulk_get(run, &to0, i);
		});
	}
}

/* ------------------------------------------------------------------ sustained */

struct head_line {
	alignas(64) ntbs_le64 head;
};

/* 8-byte messages one way; the reader says every half ring how far it has come. */
void limit_sustained(struct limit_run *run, int side)
{
	struct ntbs_slot_shm *slot = (struct ntbs_slot_shm *)run->mem;
	struct head_line *h = (struct head_line *)(slot + LIMIT_SLOTS_MAX);
	uint64_t mask = run->slots - 1, head = 0, t0;

	if (side) {
		for (uint64_t i = 1; i <= run->count; i++) {
			slot_get(&slot[i & mask], run->user, 8, i);
			if (i % (run->slots / 2) == 0 || i == run->count)
				limit_store(&h->head, i);
		}
		return;
	}
	t0 = ticks_now(&run->ticks);
	for (uint64_t i = 1; i <= run->count; i++) {
		while (i - head > run->slots)
			head = limit_load(&h->head);
		slot_put(&slot[i & mask], run->user, 8, i);
	}
	while (limit_load(&h->head) != run->count)
		;
	run->samples[0] = ticks_to_ns(&run->ticks, ticks_now(&run->ticks) - t0) / (double)run->count;
}
