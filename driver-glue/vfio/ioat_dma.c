// SPDX-License-Identifier: BSD-2-Clause
/*
 * ioat_dma.c - see ioat_dma.h
 *
 * IO addresses are one run: ring, arena, window, each at a multiple of 2 MiB, so that the IOMMU can use large pages.
 * A message takes two to a few descriptors: its payload, each with a fence, and its slot, which is written back and
 * interrupts.  So what is done is counted in slots: @slot says after which descriptor each message is over.
 */
#include "ioat_dma.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ioat.h"
#include "vfio.h"

#define ALIGN (2ull << 20)

struct engine {
	struct ntbs_dma dma;		/* first: the ops get it */
	struct ntbs_vfio v;
	struct ntbs_ioat io;
	void *ring;
	uint64_t ring_at, arena_at, window_at;
	unsigned mapped;		/* of the three */
	uint32_t over[NTBS_IOAT_RING];	/* io.head after each message under way */
	uint32_t head, done;		/* messages */
};

static struct engine *of(struct ntbs_dma *dma)
{
	return (struct engine *)dma;
}

static int __attribute__((format(printf, 3, 4))) fail(struct engine *e, int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->dma.why, sizeof(e->dma.why), fmt, ap);
	va_end(ap);
	return ret;
}

static uint64_t aligned(uint64_t bytes)
{
	return (bytes + ALIGN - 1) & ~(ALIGN - 1);
}

static void unmap(struct engine *e, uint64_t arena_bytes, uint64_t window_bytes)
{
	if (e->mapped > 2)
		ntbs_vfio_dma_unmap(&e->v, window_bytes, e->window_at);
	if (e->mapped > 1)
		ntbs_vfio_dma_unmap(&e->v, arena_bytes, e->arena_at);
	if (e->mapped > 0)
		ntbs_vfio_dma_unmap(&e->v, NTBS_IOAT_MEMORY, e->ring_at);
	e->mapped = 0;
}

static int attach(struct ntbs_dma *dma, void *arena, uint64_t arena_bytes, void *window, uint64_t window_bytes)
{
	struct engine *e = of(dma);
	int ret = ntbs_vfio_pick_iova(&e->v, aligned(NTBS_IOAT_MEMORY) + aligned(arena_bytes) + aligned(window_bytes), ALIGN, &e->ring_at);

	e->arena_at = e->ring_at + aligned(NTBS_IOAT_MEMORY);
	e->window_at = e->arena_at + aligned(arena_bytes);
	if (!ret)
		ret = ntbs_vfio_dma_map(&e->v, e->ring, NTBS_IOAT_MEMORY, e->ring_at);
	if (!ret) {
		e->mapped = 1;
		ret = ntbs_vfio_dma_map(&e->v, arena, arena_bytes, e->arena_at);
	}
	if (!ret) {
		e->mapped = 2;
		ret = ntbs_vfio_dma_map(&e->v, window, window_bytes, e->window_at);
		if (ret && e->v.by_cdev)
			snprintf(e->v.why, sizeof(e->v.why),
				 "iommufd maps no window of one function for another, and this kernel has no VFIO groups");
	}
	if (ret) {
		fail(e, ret, "%.230s", e->v.why);
		unmap(e, arena_bytes, window_bytes);
		return ret;
	}
	e->mapped = 3;
	e->head = e->done = 0;
	ret = ntbs_ioat_start(&e->io, e->ring, e->ring_at);
	if (ret) {
		fail(e, ret, "%s", e->io.why);
		ntbs_ioat_stop(&e->io);
		unmap(e, arena_bytes, window_bytes);
	}
	return ret;
}

static void detach(struct ntbs_dma *dma)
{
	struct engine *e = of(dma);

	ntbs_ioat_stop(&e->io);
	unmap(e, dma->arena_bytes, dma->window_bytes);
}

static int submit(struct ntbs_dma *dma, const struct ntbs_dma_msg *msg)
{
	struct engine *e = of(dma);
	unsigned need = 1;

	for (int i = 0; i < 2; i++)
		need += ntbs_ioat_need(&e->io, msg->payload[i].bytes);
	if (need > ntbs_ioat_room(&e->io))
		return -EAGAIN;
	for (int i = 0; i < 2; i++) {
		const struct ntbs_dma_piece *p = &msg->payload[i];

		if (p->bytes)
			ntbs_ioat_copy(&e->io, e->arena_at + p->src, e->window_at + p->dst, p->bytes, IOAT_CTL_FENCE);
	}
	ntbs_ioat_copy(&e->io, e->arena_at + msg->slot_src, e->window_at + msg->slot_dst, NTBS_DMA_SLOT,
		       IOAT_CTL_INT | IOAT_CTL_WRITE_BACK);
	e->over[e->head++ % NTBS_IOAT_RING] = e->io.head;
	return 0;
}

static void kick(struct ntbs_dma *dma)
{
	ntbs_ioat_kick(&of(dma)->io);
}

static int poll(struct ntbs_dma *dma)
{
	struct engine *e = of(dma);
	uint64_t count;
	int nr = 0, ret;

	/* the interrupt is allowed again before we look, so that what is done behind our back interrupts */
	if (read(dma->fd, &count, sizeof(count)) == sizeof(count))
		ntbs_ioat_rearm(&e->io);
	ret = ntbs_ioat_look(&e->io);
	for (; e->done != e->head && (int32_t)(e->io.done - e->over[e->done % NTBS_IOAT_RING]) >= 0; e->done++)
		nr++;
	if (!ret || nr)
		return nr;
	return fail(e, -EIO, "%s", e->io.why);
}

static void close_engine(struct ntbs_dma *dma)
{
	struct engine *e = of(dma);

	ntbs_vfio_close(&e->v);
	munmap(e->ring, NTBS_IOAT_MEMORY);
	free(e);
}

static const struct ntbs_dma_ops ops = { "I/OAT", attach, detach, submit, kick, poll, close_engine };

int ntbs_ioat_dma_open(struct ntbs_dma **dma, const char *address, const struct ntbs_pci_where *where, char *why, size_t why_bytes)
{
	struct engine *e = calloc(1, sizeof(*e));
	int ret;

	if (!e)
		return -ENOMEM;
	e->dma.ops = &ops;
	ret = ntbs_vfio_open_group(&e->v, address, where);
	if (ret) {
		snprintf(why, why_bytes, "%s", e->v.why);
		goto err_free;
	}
	ret = ntbs_ioat_probe(&e->io, &e->v.regs);
	if (ret) {
		snprintf(why, why_bytes, "%s: %s", address, e->io.why);
		goto err_close;
	}
	ret = ntbs_vfio_irqs(&e->v, 1);
	if (ret) {
		snprintf(why, why_bytes, "%s", e->v.why);
		goto err_close;
	}
	e->ring = mmap(NULL, NTBS_IOAT_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (e->ring == MAP_FAILED) {
		ret = -errno;
		snprintf(why, why_bytes, "no memory for its ring: %s", strerror(errno));
		goto err_close;
	}
	e->dma.fd = e->v.vector_fd[0];
	*dma = &e->dma;
	return 0;

err_close:
	ntbs_vfio_close(&e->v);
err_free:
	free(e);
	return ret;
}
