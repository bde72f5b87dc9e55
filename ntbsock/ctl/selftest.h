/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * selftest.h - what two selftests say to each other, and what they find out
 *
 * Both have a link (driver-glue/vfio/hw.h).  Behind the link's page each has a page of words that only the other
 * writes, and behind that the bytes that are measured with.  One of the two leads: it writes an order {number, step,
 * argument}, the other follows and answers {number, result}.  Side A leads first, then B; last the link is pulled.
 */
#ifndef NTBSOCK_CTL_SELFTEST_H
#define NTBSOCK_CTL_SELFTEST_H

#include <stdbool.h>
#include <stdint.h>
#include "dma.h"
#include "vfio/hw.h"

enum ntbs_st_step {
	NTBS_ST_PINGPONG = 1,	/* arg: rounds; a line each way */
	NTBS_ST_STREAM,		/* arg: bytes of one pass; result: first wrong byte + 1, or 0 */
	NTBS_ST_BELL,		/* arg: the bit that will be rung; result: bits that came */
	NTBS_ST_ORDER,		/* arg: number; result: 1 if the bell came before what was stored before it */
	NTBS_ST_SWAP,		/* the other leads now */
	NTBS_ST_DONE,		/* arg: 1 the link is taken down now, and comes up again */
};

enum { NTBS_ST_PAGE = 4096, NTBS_ST_DATA = 8192, NTBS_ST_ROUNDS = 200 };

enum { NTBS_ST_SIZES = 12 };		/* 1 KiB to 2 MiB */
struct ntbs_st_dma {
	uint32_t bytes;
	double cpu_ns, dma_ns;
};

struct ntbs_st {
	struct ntbs_hw hw;
	bool leads;
	uint32_t seq;			/* of the last order */
	bool lost;			/* the session ended under us */
	char why[200];			/* what failed, or "" */
	/* found out */
	double open_ms, up_ms;
	double reg_read_ns, window_read_ns, store8_ns, line_ns, fence_ns;
	double one_way_ns, bell_ns, bell_max_ns;
	double stream_mb_s;		/* million bytes a second */
	uint64_t wrong_bytes, rounds;
	uint64_t bells_ok, bells_bad;	/* masks */
	unsigned order_rounds, order_late;	/* bells that came before the data */
	struct ntbs_dma *dma;		/* NULL: without */
	struct ntbs_st_dma dma_of[NTBS_ST_SIZES];
	unsigned nr_dma;
	double pull_down_ms, pull_up_ms;	/* -1: not tried */
	bool pull_new_session;
};

/* Order the other to do a step and wait for its answer.  Return: 0, -ETIMEDOUT, -ECONNRESET. */
int ntbs_st_order(struct ntbs_st *st, enum ntbs_st_step step, uint64_t arg, uint64_t *result);

/* Follow until the other says SWAP or DONE.  Return: that step, or a negative errno. */
int ntbs_st_follow(struct ntbs_st *st);

/* Lead through all measurements.  Return: 0 or a negative errno; st->why says what. */
int ntbs_st_lead(struct ntbs_st *st);

/* A copy engine beside this CPU (selftest_dma.c); nothing to do if there is none.  Return: as ntbs_st_lead(). */
int ntbs_st_dma(struct ntbs_st *st);
/* From which size on the engine was never slower; 0: from none. */
uint32_t ntbs_st_crossing(const struct ntbs_st *st);

/* Order a pass of NTBS_ST_STREAM, with its contents put into @from; and wait for what the other side found. */
void ntbs_st_give_stream(struct ntbs_st *st, uint64_t bytes, volatile char *from);
int ntbs_st_answered(struct ntbs_st *st, uint64_t *wrong);

/* What needs no other side: registers, stores, fences. */
void ntbs_st_local(struct ntbs_st *st);

/* A sentence for what a step returned. */
const char *ntbs_st_why(const struct ntbs_st *st, int ret);

/* Serve the link now and then while polling; true: the session is over. */
bool ntbs_st_breathe(struct ntbs_st *st);

#endif
