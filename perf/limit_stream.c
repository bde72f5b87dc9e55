// SPDX-License-Identifier: BSD-2-Clause
/*
 * limit_stream.c - the best that two copies can do
 *
 * The producer copies chunks from its buffer into a ring and publishes a position; the consumer copies them out
 * into its own and publishes how far it has come.  That is what any stream between two address spaces has to
 * do; which stores are best depends on where the two CPUs' caches are, so that all kinds are measured.
 */
#include "limit.h"

#include <string.h>

struct stream_shm {
	alignas(128) ntbs_le64 tail;	/* producer's */
	alignas(128) ntbs_le64 head;	/* consumer's */
	alignas(4096) uint8_t ring[];
};

static void copy(const struct limit_run *run, int nt, void *dst, const void *src)
{
	if (nt)
		ntbs_copy_nt(run->line_store, dst, src, run->size);	/* flushed at its end */
	else
		memcpy(dst, src, run->size);
}

static void produce(struct limit_run *run, struct stream_shm *s)
{
	uint64_t head = 0, tail = 0;

	for (uint64_t i = 0; i < run->count; i++) {
		while (tail + run->size - head > run->ring)
			head = limit_load(&s->head);
		copy(run, run->nt_in, s->ring + tail % run->ring, run->user);
		tail += run->size;
		limit_store(&s->tail, tail);
	}
	while (limit_load(&s->head) != tail)
		;
}

static void consume(struct limit_run *run, struct stream_shm *s)
{
	uint64_t head = 0, tail = 0;

	for (uint64_t i = 0; i < run->count; i++) {
		while (tail == head)
			tail = limit_load(&s->tail);
		copy(run, run->nt_out, run->user, s->ring + head % run->ring);
		head += run->size;
		limit_store(&s->head, head);
	}
}

/* Sizes of chunks divide those of rings, so that a chunk never wraps. */
void limit_stream(struct limit_run *run, int side)
{
	struct stream_shm *s = (struct stream_shm *)run->mem;
	uint64_t t0;

	if (side) {
		consume(run, s);
		return;
	}
	t0 = ticks_now(&run->ticks);
	produce(run, s);
	run->samples[0] = ticks_to_ns(&run->ticks, ticks_now(&run->ticks) - t0) / (double)run->count;
}
