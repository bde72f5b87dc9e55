/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dma.h - LONG messages by a copy engine: from the arena into the window, payload first, then the slot
 *
 * An engine is one channel that does what it is given in one order.  A message is its payload, which lies in the copy for
 * replay in this host's arena (abi_port.h), and the line of its slot, which lies there too.  The same channel copies both
 * into the peer's inbox, and the line never before the payload: what orders two stores of one requester on their way over
 * PCIe orders nothing between an engine and a CPU, so no CPU stores the slot of what an engine has copied.
 *
 * Who uses it: the broker alone (broker/dma.c).  A client that shared an engine's ring could write wherever the engine
 * can.  It says which slots are to go, and goes on: nobody waits.
 *
 * "Done" means that the engine has handed its writes to the fabric.  They pass the bridge in order, like a CPU's posted
 * stores, and like those they are lost if the link is.
 *
 * One thread.  Kinds: vfio/ioat_dma.c, and sim/dmasim.c for tests and emulated bridges.
 */
#ifndef NTBSOCK_DMA_H
#define NTBSOCK_DMA_H

#include <stdbool.h>
#include <stdint.h>

#define NTBS_DMA_WHY 240
#define NTBS_DMA_SLOT 64u	/* bytes of a slot's line */

struct ntbs_dma_piece {
	uint64_t src, dst;	/* offsets in the arena and in the window */
	uint32_t bytes;		/* 0: there is no such piece */
};

struct ntbs_dma_msg {
	struct ntbs_dma_piece payload[2];	/* two where a ring begins anew */
	uint64_t slot_src, slot_dst;
};

struct ntbs_dma;
struct ntbs_dma_ops {
	const char *name;
	int (*attach)(struct ntbs_dma *dma, void *arena, uint64_t arena_bytes, void *window, uint64_t window_bytes);
	void (*detach)(struct ntbs_dma *dma);
	int (*submit)(struct ntbs_dma *dma, const struct ntbs_dma_msg *msg);
	void (*kick)(struct ntbs_dma *dma);
	int (*poll)(struct ntbs_dma *dma);
	void (*close)(struct ntbs_dma *dma);
};

struct ntbs_dma {
	const struct ntbs_dma_ops *ops;
	int fd;				/* readable when poll() may have news; poll() reads it */
	uint64_t arena_bytes, window_bytes;	/* 0: not attached */
	char why[NTBS_DMA_WHY];		/* one sentence about the last failure */
};

/*
 * What the engine copies from and to; mapped by the caller until detach() has returned.
 * Return: 0, or a negative errno with @dma->why.
 */
static inline int ntbs_dma_attach(struct ntbs_dma *dma, void *arena, uint64_t arena_bytes, void *window, uint64_t window_bytes)
{
	int ret = dma->ops->attach(dma, arena, arena_bytes, window, window_bytes);

	dma->arena_bytes = ret ? 0 : arena_bytes;
	dma->window_bytes = ret ? 0 : window_bytes;
	return ret;
}

/* The engine stops at once.  When this returns it reads and writes nothing any more; what was not done never happens. */
static inline void ntbs_dma_detach(struct ntbs_dma *dma)
{
	if (dma->arena_bytes)
		dma->ops->detach(dma);
	dma->arena_bytes = dma->window_bytes = 0;
}

/* Return: 0 taken, to be done after kick(); -EAGAIN as many as there is room for are under way. */
static inline int ntbs_dma_submit(struct ntbs_dma *dma, const struct ntbs_dma_msg *msg)
{
	return dma->ops->submit(dma, msg);
}

/* Go on with what has been submitted. */
static inline void ntbs_dma_kick(struct ntbs_dma *dma)
{
	dma->ops->kick(dma);
}

/*
 * To be called until it returns 0 or an error; @fd tells when there is news after a 0.
 * Return: how many more messages are done, oldest first; -EIO, once no more of them are: the engine has halted, @why says
 * on what.  Of the messages that are not done none has its slot out then, and some may have parts of their payload out.
 */
static inline int ntbs_dma_poll(struct ntbs_dma *dma)
{
	return dma->ops->poll(dma);
}

/* Detached before. */
static inline void ntbs_dma_close(struct ntbs_dma *dma)
{
	dma->ops->close(dma);
}

#endif
