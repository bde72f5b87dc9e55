/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ioat.h - one channel of an I/OAT engine: a ring of copies, done in order
 *
 * The ring is memory of ours that the engine reads.  It is linked once, all round; copies are put at its head and counted
 * in DMACOUNT, which is the engine's doorbell.  The engine says how far it is by writing the address of the last
 * descriptor that is done to the page behind the ring.
 *
 * Order.  The channel may begin a descriptor before the one in front of it is done, unless that one has the fence bit.
 * So who needs A before B asks for a fence with A; and with each piece of A, as it is not written anywhere that the fence
 * of the last piece covers the others.
 *
 * What the engine writes is not believed: an address that is no descriptor under way is none.  One thread; nothing here
 * sleeps but start() and stop(), through regs.h.  Functions that fail leave a sentence in @why.
 */
#ifndef NTBSOCK_VFIO_IOAT_H
#define NTBSOCK_VFIO_IOAT_H

#include <stdbool.h>
#include <stdint.h>
#include "ioat_regs.h"
#include "regs.h"

#define NTBS_IOAT_RING 1024u		/* descriptors, a power of two */
#define NTBS_IOAT_MEMORY (NTBS_IOAT_RING * 64u + 4096u)
#define NTBS_IOAT_WHY 200

struct ntbs_ioat {
	struct ntbs_regs *regs;
	unsigned version, channels;
	uint32_t copy_max;		/* bytes of one descriptor */
	uint64_t at;			/* of the channel's registers */
	struct ntbs_ioat_desc *ring;	/* NULL: not started */
	const volatile uint64_t *completion;
	uint64_t iova;			/* of the ring */
	uint32_t head, kicked, done;	/* descriptors, free-running */
	char why[NTBS_IOAT_WHY];
};

/**
 * ntbs_ioat_probe() - Is it an engine that we can drive?
 * @regs: BAR 0 is mapped; memory decoding and bus mastering are on
 *
 * Turns off relaxed ordering and no-snoop.  Return: 0; -ENODEV it is none, or is gone; -ENOTSUP of a kind that we cannot.
 */
int ntbs_ioat_probe(struct ntbs_ioat *io, struct ntbs_regs *regs);

/**
 * ntbs_ioat_start() - Reset the first channel, give it a ring, see it run
 * @memory: NTBS_IOAT_MEMORY bytes of pages, which the engine finds at @iova
 *
 * Interrupts come from vector 0.  Return: 0; -EIO it does not get going; -ENODEV.
 */
int ntbs_ioat_start(struct ntbs_ioat *io, void *memory, uint64_t iova);

/* Reset: when it returns the channel touches no memory.  Again start() afterwards. */
void ntbs_ioat_stop(struct ntbs_ioat *io);

/* How many descriptors a copy of @bytes takes, and how many are free. */
unsigned ntbs_ioat_need(const struct ntbs_ioat *io, uint32_t bytes);
unsigned ntbs_ioat_room(const struct ntbs_ioat *io);

/* Put a copy at the head; there is room.  @ctl: IOAT_CTL_FENCE for each piece; INT, WRITE_BACK for the last. */
void ntbs_ioat_copy(struct ntbs_ioat *io, uint64_t src, uint64_t dst, uint32_t bytes, uint32_t ctl);
void ntbs_ioat_kick(struct ntbs_ioat *io);

/* An interrupt was taken: allow the next.  Before looking how far the engine is. */
void ntbs_ioat_rearm(struct ntbs_ioat *io);

/*
 * Move @io->done to where the engine is.  Return: 0; -EIO it has halted, @done is exact, @why has CHANERR; -ENODEV it is
 * gone, and @done is what it had said before.
 */
int ntbs_ioat_look(struct ntbs_ioat *io);

#endif
