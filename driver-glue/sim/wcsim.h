/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wcsim.h - a port over a model of a hostile fabric, for tests
 *
 * What a CPU, its write-combining buffers, a bridge and a link may do to posted stores, done on purpose and the same
 * again from the same seed:
 *  - a line lands late, in 8-byte chunks, in any order among themselves and among other lines of the same flush;
 *  - a part of a line lands at once (an evicted half-filled buffer) and the rest later (torn);
 *  - two stores to one line between flushes may combine: the first is then never seen;
 *  - flush orders, it does not land; a fence does not land either; only readback does;
 *  - a bell overtakes all data under way;
 *  - link loss drops what is under way, and what is stored while the link is down.
 * A store64 lands whole.  A chunk is never split.
 *
 * One thread at a time.  Stores land in wcsim_step() and wcsim_drain(), and some of them already when they are made.
 */
#ifndef NTBSOCK_WCSIM_H
#define NTBSOCK_WCSIM_H

#include "port.h"

struct wcsim_line;

struct wcsim_counts {
	uint64_t lines;		/* store_line */
	uint64_t words;		/* store64, store32 */
	uint64_t bulks, bulk_bytes;
	uint64_t flushes, fences, readbacks, rings;
	uint64_t torn;		/* times that a line landed in more than one piece */
	uint64_t lost;		/* chunks that never landed */
};

struct wcsim {
	struct ntbs_port port;	/* give this to the message queue */
	struct wcsim_counts n;
	uint32_t lose_one_in;	/* a chunk in that many is lost without notice; 0: none */

	uint64_t rng;
	bool at_once;		/* seed 0: everything lands when it is stored, and is only counted */
	bool down;
	uint32_t group;		/* flushes so far */
	struct wcsim_line *line;
	size_t head, oldest_end, tail, cap;	/* pending lines: [head, tail), by group; oldest group ends at oldest_end */
};

/* Seed 0: a port that only counts.  Aborts without memory. */
void wcsim_open(struct wcsim *sim, uint64_t seed);
void wcsim_close(struct wcsim *sim);

/* Land a few of the pending chunks, perhaps none.  False: nothing was pending. */
bool wcsim_step(struct wcsim *sim);

/* Land everything, in some permitted order. */
void wcsim_drain(struct wcsim *sim);

/* Lose what is under way (some of it may still land) and all that is stored until the link is up again. */
void wcsim_link_down(struct wcsim *sim);
void wcsim_link_up(struct wcsim *sim);

/* Bytes under way. */
size_t wcsim_pending(const struct wcsim *sim);

#endif
