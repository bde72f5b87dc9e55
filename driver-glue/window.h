/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * window.h - a port whose window is a mapping: stores into another host's memory, counted
 *
 * The mapping may be write-combined device memory, or, in an emulated bridge, memory of this host that is treated as if
 * it were.  So lines go past the caches whole, a flush is a store fence, and nothing is read but by readback().
 *
 * The counters are for people and tests (NTBSOCK_STATS, "window"): what a message costs is said in writes, not in time.
 * They are per process; two threads that count at once may lose a count, never tear one.
 */
#ifndef NTBSOCK_WINDOW_H
#define NTBSOCK_WINDOW_H

#include "port.h"

#define NTBS_WINDOW_COUNTS(X)                                            \
	X(lines)	/* whole 64-byte lines */                       \
	X(words)	/* single stores of 8, 4 or 1 bytes */          \
	X(bulks)	/* runs of bytes */                             \
	X(bulk_bytes)                                                    \
	X(engine_bulks)	/* slots whose bytes a copy engine carries */  \
	X(engine_bytes)                                                  \
	X(flushes)                                                       \
	X(fences)                                                        \
	X(reads)	/* across the link: S1, when somebody goes to sleep */ \
	X(rings)

struct ntbs_window_counts {
#define NTBS_WINDOW_COUNT(name) uint64_t name;
	NTBS_WINDOW_COUNTS(NTBS_WINDOW_COUNT)
#undef NTBS_WINDOW_COUNT
};

enum ntbs_bell_kind {
	NTBS_BELL_EVENTFD,	/* of who rings for us, or emulates a register whose bits are set */
	NTBS_BELL_REGISTER,	/* @bell_value stored to a mapped register of 32 bits */
	NTBS_BELL_REGISTER16,	/* of 16 bits: a wider store would hit its neighbour */
};

struct ntbs_window {
	struct ntbs_port port;		/* give this to the message queue */
	char *base;			/* the peer's arena, to be written alone */
	size_t bytes;
	ntbs_le64 *pending_at;		/* in the window: the peer's pending bytes */
	enum ntbs_bell_kind bell;
	int bell_fd;			/* EVENTFD */
	volatile void *bell_reg;	/* REGISTER, REGISTER16 */
	uint32_t bell_value;
	struct ntbs_window_counts n;
};

/**
 * ntbs_window_open() - Make a port of a mapping
 * @w: to fill in; the bell is the caller's to set
 * @base: where the window is mapped
 * @bytes: its size
 * @pending_offset: of the pending bytes in it
 * @mem: memory type of the mapping
 *
 * The port's ring(port, bell) stores 1 into pending byte @bell and rings.
 */
void ntbs_window_open(struct ntbs_window *w, void *base, size_t bytes, size_t pending_offset, enum ntbs_mem mem);

/* The doorbell alone. */
void ntbs_window_bell(struct ntbs_window *w);

#endif
