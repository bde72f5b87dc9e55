/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limit.h - what the parts of limit share
 *
 *   limit.c         two pinned processes, tests, output
 *   limit_opts.c    the command line
 *   limit_ring.c    ping-pong over a line, over two, over rings of slots; by size; sustained small messages
 *   limit_stream.c  two-copy bandwidth
 */
#ifndef NTBSOCK_PERF_LIMIT_H
#define NTBSOCK_PERF_LIMIT_H

#include <stddef.h>
#include <stdint.h>
#include "port.h"
#include "ticks.h"

/*
 * One run: both processes call a function with it, @side 0 on the first CPU (asks, measures), 1 on the second
 * (answers).  What they share lies in @mem.
 */
struct limit_run {
	uint8_t *mem;
	uint64_t count;			/* rounds, messages or chunks of this run */
	uint64_t batch;			/* rounds timed together */
	double *samples;		/* side 0: ns of a batch / batch; room for count / batch */
	struct ticks ticks;
	enum ntbs_line_store line_store;
	unsigned slots, lines;		/* ring of slots; lines a message occupies */
	size_t size, ring;		/* message or chunk; bulk ring */
	int nt_in, nt_out;		/* copy into, out of the ring past the caches */
	uint8_t *user;			/* each side's own buffer, page aligned, LIMIT_USER_BYTES */
};

#define LIMIT_MEM_BYTES (40u << 20)
#define LIMIT_WORDS_BYTES (2u << 20)	/* of it, where slots and positions lie: zeroed before each run */
#define LIMIT_USER_BYTES (1u << 20)
#define LIMIT_SLOTS_MAX NTBS_SLOTS_MAX

#define LIMIT_LIST_MAX 64

struct limit {
	int cpu[2];
	double seconds;			/* a figure */
	unsigned slots[LIMIT_LIST_MAX], nr_slots;
	size_t sizes[LIMIT_LIST_MAX], rings[LIMIT_LIST_MAX], chunks[LIMIT_LIST_MAX];
	unsigned nr_sizes, nr_rings, nr_chunks;
	const char *tests;
	int json;
	ntbs_le32 *go;			/* shared: sides that are ready */
	struct limit_run run;
	struct json_t *results;
};

/* Names what is wrong and ends the program. */
void limit_die(int status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
void limit_parse(struct limit *l, int argc, char **argv);

typedef void (*limit_fn)(struct limit_run *run, int side);

void limit_line(struct limit_run *run, int side);	/* @lines 1 or 2 */
void limit_slots(struct limit_run *run, int side);	/* @slots, @lines */
void limit_ladder(struct limit_run *run, int side);	/* @slots, @size, @ring, @nt_in */
void limit_sustained(struct limit_run *run, int side);	/* @slots; samples[0]: ns a message */
void limit_stream(struct limit_run *run, int side);	/* @ring, @size, @nt_in, @nt_out; samples[0]: ns a chunk */

/* All shared words are spun on without a pause: a pause is longer than a line takes. */
static inline uint64_t limit_load(const ntbs_le64 *p)
{
	return ntbs_le64_read_acquire(p);
}

static inline void limit_store(ntbs_le64 *p, uint64_t v)
{
	ntbs_le64_write_release(p, v);
}

#endif
