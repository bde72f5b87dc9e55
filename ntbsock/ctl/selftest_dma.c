// SPDX-License-Identifier: BSD-2-Clause
/*
 * selftest_dma.c - what a copy engine does for messages of each size, beside this CPU
 *
 * The same bytes, from the same memory of this host into the window: by the CPU past its caches, as the message queue stores
 * them, and by the engine, payload first and a line behind it, as the broker asks for it, until it says that it is done.
 * Neither waits until they have landed.  Then one pass of each is checked by the other side, byte for byte.
 */
#include "selftest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "barrier.h"
#include "vfio/ioat_dma.h"

#define MEASURE_NS 5000000ull		/* for each size and way */
#define HANGS_NS 2000000000ull

static int by_engine(struct ntbs_st *st, uint32_t bytes)
{
	struct ntbs_dma_msg msg = {
		.payload = { { NTBS_ST_DATA, NTBS_ST_DATA, bytes - 64 } },
		.slot_src = NTBS_ST_DATA + bytes - 64,
		.slot_dst = NTBS_ST_DATA + bytes - 64,
	};
	uint64_t end = ntbs_hw_now() + HANGS_NS;
	int ret = ntbs_dma_submit(st->dma, &msg);

	if (ret)
		return ret;
	ntbs_dma_kick(st->dma);
	do {
		ret = ntbs_dma_poll(st->dma);
		if (ret < 0)
			snprintf(st->why, sizeof(st->why), "copy engine: %.180s", st->dma->why);
		if (ret)
			return ret < 0 ? ret : 0;
	} while (ntbs_hw_now() < end);
	snprintf(st->why, sizeof(st->why), "copy engine: it does not get on");
	return -ETIMEDOUT;
}

static int by_cpu(struct ntbs_st *st, uint32_t bytes)
{
	ntbs_copy_nt(st->hw.port.line_store, st->hw.out + NTBS_ST_DATA, (const char *)st->hw.in + NTBS_ST_DATA, bytes - 64);
	ntbs_copy_nt(st->hw.port.line_store, st->hw.out + NTBS_ST_DATA + bytes - 64,
		     (const char *)st->hw.in + NTBS_ST_DATA + bytes - 64, 64);
	return 0;
}

typedef int way_fn(struct ntbs_st *st, uint32_t bytes);

/* Nanoseconds of one, in the mean. */
static int measure(struct ntbs_st *st, way_fn *way, uint32_t bytes, double *ns)
{
	uint64_t start = ntbs_hw_now(), now = start;
	unsigned nr = 0;
	int ret = 0;

	while (!ret && now - start < MEASURE_NS) {
		ret = way(st, bytes);
		now = ntbs_hw_now();
		nr++;
	}
	*ns = (double)(now - start) / nr;
	return ntbs_st_breathe(st) ? -ECONNRESET : ret;
}

/* Once more, with contents that the other side knows. */
static int verify(struct ntbs_st *st, way_fn *way, uint32_t bytes)
{
	uint64_t wrong;
	int ret;

	ntbs_st_give_stream(st, bytes, st->hw.in + NTBS_ST_DATA);
	ret = way(st, bytes);
	if (!ret)
		ret = ntbs_st_answered(st, &wrong);
	if (!ret && wrong)
		st->wrong_bytes += 8;
	return ret;
}

int ntbs_st_dma(struct ntbs_st *st)
{
	uint64_t most = st->hw.link.window_bytes - NTBS_ST_DATA;
	int ret = 0;

	if (st->hw.in_bytes - NTBS_ST_DATA < most)
		most = st->hw.in_bytes - NTBS_ST_DATA;
	if (!st->dma)
		return 0;
	ret = ntbs_dma_attach(st->dma, (void *)st->hw.in, st->hw.in_bytes, st->hw.out, st->hw.link.window_bytes);
	if (ret) {
		snprintf(st->why, sizeof(st->why), "copy engine: %.180s", st->dma->why);
		return ret;
	}
	st->nr_dma = 0;
	for (uint32_t bytes = 1024; !ret && bytes <= most && st->nr_dma < NTBS_ST_SIZES; bytes *= 2) {
		struct ntbs_st_dma *d = &st->dma_of[st->nr_dma++];

		d->bytes = bytes;
		ret = measure(st, by_cpu, bytes, &d->cpu_ns);
		if (!ret)
			ret = measure(st, by_engine, bytes, &d->dma_ns);
		if (!ret)
			ret = verify(st, by_cpu, bytes);
		if (!ret)
			ret = verify(st, by_engine, bytes);
	}
	ntbs_dma_detach(st->dma);
	return ret;
}

uint32_t ntbs_st_crossing(const struct ntbs_st *st)
{
	uint32_t at = 0;

	for (unsigned i = st->nr_dma; i-- && st->dma_of[i].dma_ns <= st->dma_of[i].cpu_ns;)
		at = st->dma_of[i].bytes;
	return at;
}
