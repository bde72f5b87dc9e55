/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inproc.h - surroundings for the model inside one test program
 *
 * Two hosts whose memory are buffers of the test, mapped at bus addresses of its choosing (what an IOMMU does), a clock
 * that stands still until it is moved, and a count of interrupts by vector.  Optionally keeps the trace in memory.
 *
 *	struct inproc ip;
 *	inproc_open(&ip, RIG_INTEL_ICX, 1 << 20);	  BARs are placed, decoding and bus mastering still off
 *	inproc_map(&ip, 0, 0x100000000, buf, sizeof(buf));
 *	rig_write(ip.port[0], ...);
 *	inproc_advance(&ip, RIG_TRAIN_NS);		  the link trains, delayed writes land
 *	t_eq(ip.irq[1][32], 1, "link interrupt of host 1");
 *	inproc_close(&ip);
 */
#ifndef NTBSOCK_RIG_INPROC_H
#define NTBSOCK_RIG_INPROC_H

#include "model.h"

enum { INPROC_MAPS = 64, INPROC_VECTORS = 64 };

struct inproc_map {
	int host;
	uint64_t addr, len;
	uint8_t *mem;
};

struct inproc {
	struct rig_pair *pair;
	struct rig_fn *port[2];
	struct rig_fn *ioat[2];		/* NULL until inproc_ioat() */
	struct inproc_map map[INPROC_MAPS];
	unsigned maps;
	uint64_t now_ns;
	unsigned irq[2][INPROC_VECTORS];	/* of the ports */
	unsigned ioat_irq[2][INPROC_VECTORS];
	unsigned unknown;		/* accesses to registers that the model does not know: wanted is 0 */
	/* called with every interrupt of a port, after it is counted; may be NULL.  Must not call the model. */
	void (*on_irq)(void *arg, int host, unsigned vector);
	void *on_irq_arg;
	/* trace, if @trace was set by the test: the last @traced events, the array grows */
	bool keep_trace;
	struct rig_event *trace;
	size_t traced, trace_room;
};

/* False: out of memory, or sizes the model refuses.  Windows of both hosts are @window_size bytes each. */
bool inproc_open(struct inproc *ip, enum rig_family family, uint64_t window_size);
void inproc_close(struct inproc *ip);
struct rig_fn *inproc_ioat(struct inproc *ip, int host);

/* @len bytes of @mem are at bus address @addr of @host.  False: table full, or overlaps another map of the host. */
bool inproc_map(struct inproc *ip, int host, uint64_t addr, void *mem, uint64_t len);
void inproc_unmap(struct inproc *ip, int host, uint64_t addr);

/* Moves the clock, doing on the way what falls due, each at its time. */
void inproc_advance(struct inproc *ip, uint64_t ns);

/* COMMAND = memory decoding and bus mastering. */
void inproc_enable(struct rig_fn *fn);

/* One access of @len 1, 2, 4 or 8 bytes. */
uint64_t inproc_read(struct rig_fn *fn, int space, uint64_t off, size_t len);
void inproc_write(struct rig_fn *fn, int space, uint64_t off, uint64_t value, size_t len);

#endif
