// SPDX-License-Identifier: BSD-2-Clause
/*
 * selftest_steps.c - the steps of selftest.h, from both ends
 *
 * Words are stored by one 8-byte store each, argument first, number last; what is measured with is stored as the
 * message queue would: whole lines, then a flush.  Whoever polls serves the link every few milliseconds, so that
 * heartbeats go on.
 */
#include "selftest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "barrier.h"

/* Words in the page that the other side writes. */
enum { AT_ORDER_ARG = 0, AT_ORDER = 8, AT_RESULT = 64, AT_ANSWER = 72 };

#define STEP_NS 30000000000ull		/* one step may take so long */
#define BREATHE_NS 2000000ull

static uint64_t peek(struct ntbs_st *st, uint64_t at)
{
	return *(volatile uint64_t *)(st->hw.in + at);
}

static void poke(struct ntbs_st *st, uint64_t at, uint64_t value)
{
	*(volatile uint64_t *)(st->hw.out + at) = value;
	ntbs_store_flush();
}

static void store_line(struct ntbs_st *st, uint64_t at, const void *line)
{
	ntbs_copy_nt(st->hw.port.line_store, st->hw.out + at, line, 64);
}

bool ntbs_st_breathe(struct ntbs_st *st)
{
	static uint64_t last;
	uint64_t now = ntbs_hw_now();
	unsigned news;

	if (now - last < BREATHE_NS)
		return st->lost;
	last = now;
	news = ntbs_hw_serve(&st->hw, 0);
	if (news & (NTBS_LINK_WENT_DOWN | NTBS_HW_GONE))
		st->lost = true;
	return st->lost;
}

/* Until the word at @at is @value.  Return: 0, -ETIMEDOUT, -ECONNRESET. */
static int await(struct ntbs_st *st, uint64_t at, uint64_t value)
{
	uint64_t end = 0;

	for (unsigned spins = 0;; spins++) {
		if (peek(st, at) == value) {
			ntbs_from_peer_barrier();
			return 0;
		}
		ntbs_spin_pause();
		if (spins % 64)
			continue;
		if (ntbs_st_breathe(st))
			return -ECONNRESET;
		if (!end)
			end = ntbs_hw_now() + STEP_NS;
		else if (ntbs_hw_now() > end)
			return -ETIMEDOUT;
	}
}

/* --------------------------------------------------------------- orders and answers */

static void give(struct ntbs_st *st, enum ntbs_st_step step, uint64_t arg)
{
	st->seq++;
	poke(st, NTBS_ST_PAGE + AT_ORDER_ARG, arg);
	poke(st, NTBS_ST_PAGE + AT_ORDER, (uint64_t)st->seq << 32 | step);
}

static int answered(struct ntbs_st *st, uint64_t *result)
{
	int ret = await(st, NTBS_ST_PAGE + AT_ANSWER, st->seq);

	if (!ret && result)
		*result = peek(st, NTBS_ST_PAGE + AT_RESULT);
	return ret;
}

int ntbs_st_order(struct ntbs_st *st, enum ntbs_st_step step, uint64_t arg, uint64_t *result)
{
	give(st, step, arg);
	return answered(st, result);
}

static void answer(struct ntbs_st *st, uint64_t result)
{
	poke(st, NTBS_ST_PAGE + AT_RESULT, result);
	poke(st, NTBS_ST_PAGE + AT_ANSWER, st->seq);
}

/* Contents that depend on where they are and in which pass. */
static uint64_t pattern(uint64_t pass, uint64_t at)
{
	uint64_t x = (at + 1) * 0x9e3779b97f4a7c15ull ^ pass * 0xc2b2ae3d27d4eb4full;

	return x ^ x >> 29;
}

static uint64_t data_bytes(const struct ntbs_st *st)
{
	return (st->hw.link.window_bytes - NTBS_ST_DATA) & ~63ull;
}

/* -------------------------------------------------------------------- the follower */

static int follow_pingpong(struct ntbs_st *st, uint64_t rounds)
{
	uint64_t line[8] __attribute__((aligned(64)));
	int ret;

	for (uint64_t i = 1; i <= rounds; i++) {
		ret = await(st, NTBS_ST_DATA + 56, (uint64_t)st->seq << 32 | i);
		if (ret)
			return ret;
		for (unsigned k = 0; k < 8; k++)
			line[k] = peek(st, NTBS_ST_DATA + 8 * k);
		store_line(st, NTBS_ST_DATA, line);
	}
	return 0;
}

/* The last line of the pass carries its number: then the rest has landed. */
static int follow_stream(struct ntbs_st *st, uint64_t bytes, uint64_t *wrong)
{
	int ret;

	if (bytes < 64 || bytes > data_bytes(st) || bytes % 64)
		return -EPROTO;
	ret = await(st, NTBS_ST_DATA + bytes - 8, st->seq);
	if (ret)
		return ret;
	*wrong = 0;
	for (uint64_t at = 0; at < bytes - 64 && !*wrong; at += 8) {
		if (peek(st, NTBS_ST_DATA + at) != pattern(st->seq, at))
			*wrong = at + 1;
	}
	return 0;
}

/* Sleeps until a bell comes, or two seconds. */
static uint64_t next_bell(struct ntbs_st *st)
{
	uint64_t end = ntbs_hw_now() + 2000000000ull, bits;
	unsigned news;

	while (!st->hw.bells && ntbs_hw_now() < end && !st->lost) {
		news = ntbs_hw_serve(&st->hw, 20000000);
		if (news & (NTBS_LINK_WENT_DOWN | NTBS_HW_GONE))
			st->lost = true;
	}
	bits = st->hw.bells;
	st->hw.bells = 0;
	return bits;
}

static int follow_one(struct ntbs_st *st, enum ntbs_st_step step, uint64_t arg)
{
	uint64_t result = 0;
	int ret = 0;

	switch (step) {
	case NTBS_ST_PINGPONG:
		ret = follow_pingpong(st, arg);
		break;
	case NTBS_ST_STREAM:
		ret = follow_stream(st, arg, &result);
		break;
	case NTBS_ST_BELL:
		st->hw.bells = 0;
		poke(st, NTBS_ST_PAGE + AT_RESULT + 16, st->seq);	/* ready: ring */
		result = next_bell(st);
		break;
	case NTBS_ST_ORDER:
		st->hw.bells = 0;
		poke(st, NTBS_ST_PAGE + AT_RESULT + 16, st->seq);
		result = next_bell(st) ? peek(st, NTBS_ST_DATA) != pattern(st->seq, 0) : 2;
		break;
	default:
		break;
	}
	if (ret)
		return ret;
	if (st->lost)
		return -ECONNRESET;
	answer(st, result);
	return 0;
}

int ntbs_st_follow(struct ntbs_st *st)
{
	uint64_t end = ntbs_hw_now() + 4 * STEP_NS, order;
	enum ntbs_st_step step;
	int ret;

	for (unsigned spins = 0; ntbs_hw_now() < end; spins++) {
		order = peek(st, NTBS_ST_PAGE + AT_ORDER);
		if (order >> 32 != st->seq + 1) {
			ntbs_spin_pause();
			if (spins % 16 == 0 && ntbs_st_breathe(st))
				return -ECONNRESET;
			continue;
		}
		ntbs_from_peer_barrier();
		st->seq++;
		step = (uint32_t)order;
		ret = follow_one(st, step, peek(st, NTBS_ST_PAGE + AT_ORDER_ARG));
		if (ret)
			return ret;
		if (step == NTBS_ST_SWAP || step == NTBS_ST_DONE)
			return step;
		end = ntbs_hw_now() + 4 * STEP_NS;
	}
	return -ETIMEDOUT;
}

/* ---------------------------------------------------------------------- the leader */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned nr)
{
	qsort(v, nr, sizeof(*v), by_value);
	return v[nr / 2];
}

static int lead_pingpong(struct ntbs_st *st)
{
	uint64_t line[8] __attribute__((aligned(64))) = { 0 }, start;
	double ns[NTBS_ST_ROUNDS];
	int ret;

	give(st, NTBS_ST_PINGPONG, NTBS_ST_ROUNDS);
	for (unsigned i = 0; i < NTBS_ST_ROUNDS; i++) {
		for (unsigned k = 0; k < 7; k++)
			line[k] = pattern(i, k);
		line[7] = (uint64_t)st->seq << 32 | (i + 1);
		start = ntbs_hw_now();
		store_line(st, NTBS_ST_DATA, line);
		ret = await(st, NTBS_ST_DATA + 56, line[7]);
		ns[i] = ntbs_hw_now() - start;
		if (ret)
			return ret;
		for (unsigned k = 0; k < 7; k++)
			st->wrong_bytes += peek(st, NTBS_ST_DATA + 8 * k) != line[k] ? 8 : 0;
	}
	st->rounds += NTBS_ST_ROUNDS;
	st->one_way_ns = median(ns, NTBS_ST_ROUNDS) / 2;
	return answered(st, NULL);
}

/* One pass of @bytes; its time from the first store to the other's word that the last has landed. */
static int stream_pass(struct ntbs_st *st, uint64_t bytes, double *seconds)
{
	uint64_t line[8] __attribute__((aligned(64))), start, wrong;
	int ret;

	give(st, NTBS_ST_STREAM, bytes);
	start = ntbs_hw_now();
	for (uint64_t at = 0; at + 64 < bytes; at += 64) {
		for (unsigned k = 0; k < 8; k++)
			line[k] = pattern(st->seq, at + 8 * k);
		store_line(st, NTBS_ST_DATA + at, line);
		if (at % 65536 == 0 && ntbs_st_breathe(st))
			return -ECONNRESET;
	}
	memset(line, 0, sizeof(line));
	line[7] = st->seq;
	store_line(st, NTBS_ST_DATA + bytes - 64, line);
	ret = answered(st, &wrong);
	*seconds = (ntbs_hw_now() - start) / 1e9;
	if (!ret && wrong)
		st->wrong_bytes += 8;
	return ret;
}

void ntbs_st_give_stream(struct ntbs_st *st, uint64_t bytes, volatile char *from)
{
	uint64_t seq = st->seq + 1;

	for (uint64_t at = 0; at < bytes; at += 8)
		*(volatile uint64_t *)(from + at) = at + 64 < bytes ? pattern(seq, at) : at + 8 < bytes ? 0 : seq;
	give(st, NTBS_ST_STREAM, bytes);
}

int ntbs_st_answered(struct ntbs_st *st, uint64_t *wrong)
{
	return answered(st, wrong);
}

/* Passes grow until one takes a tenth of a second, or the window is full. */
static int lead_stream(struct ntbs_st *st)
{
	double seconds = 0, best = 0;
	int ret;

	for (uint64_t bytes = 4096;; bytes *= 2) {
		if (bytes > data_bytes(st))
			bytes = data_bytes(st);
		ret = stream_pass(st, bytes, &seconds);
		if (ret)
			return ret;
		if (bytes / seconds > best)
			best = bytes / seconds;
		if (seconds > 0.1 || bytes == data_bytes(st))
			break;
	}
	st->stream_mb_s = best / 1e6;
	return 0;
}

/* Ring @bits when the other sleeps; @ns from the ring to the first word of its answer. */
static int ring_once(struct ntbs_st *st, enum ntbs_st_step step, uint64_t bits, uint64_t arg, uint64_t *result,
		     double *ns)
{
	uint64_t start;
	int ret;

	give(st, step, arg);
	ret = await(st, NTBS_ST_PAGE + AT_RESULT + 16, st->seq);
	if (ret)
		return ret;
	if (step == NTBS_ST_ORDER)
		poke(st, NTBS_ST_DATA, pattern(st->seq, 0));
	start = ntbs_hw_now();
	ntbs_ntb_db_ring(&st->hw.ntb, bits);
	ret = answered(st, result);
	*ns = ntbs_hw_now() - start;
	return ret;
}

static int lead_bells(struct ntbs_st *st)
{
	uint64_t bells = st->hw.ntb.bells, result;
	double ns[64 + 32];
	unsigned nr = 0;
	int ret;

	for (unsigned b = 0; b < 64; b++) {
		if (!(bells >> b & 1))
			continue;
		ret = ring_once(st, NTBS_ST_BELL, 1ull << b, b, &result, &ns[nr++]);
		if (ret)
			return ret;
		if (result == 1ull << b)
			st->bells_ok |= 1ull << b;
		else
			st->bells_bad |= 1ull << b;
	}
	while (nr < 32) {
		ret = ring_once(st, NTBS_ST_BELL, bells & -bells, 0, &result, &ns[nr++]);
		if (ret)
			return ret;
	}
	st->bell_ns = median(ns, nr);
	st->bell_max_ns = ns[nr - 1];
	return 0;
}

static int lead_order(struct ntbs_st *st)
{
	uint64_t bells = st->hw.ntb.bells, result;
	double ns;
	int ret;

	for (unsigned i = 0; i < 50; i++) {
		ret = ring_once(st, NTBS_ST_ORDER, bells & -bells, i, &result, &ns);
		if (ret)
			return ret;
		st->order_rounds++;
		st->order_late += result == 1;
	}
	return 0;
}

void ntbs_st_local(struct ntbs_st *st)
{
	uint64_t line[8] __attribute__((aligned(64))) = { 0 }, start, sum = 0;
	enum { N = 200 };

	start = ntbs_hw_now();
	for (unsigned i = 0; i < N; i++)
		sum += ntbs_ntb_db_read(&st->hw.ntb) + ntbs_ntb_spad_read(&st->hw.ntb, 0);
	st->reg_read_ns = (ntbs_hw_now() - start) / (double)N / 2;
	start = ntbs_hw_now();
	for (unsigned i = 0; i < N; i++)
		sum += *(volatile uint64_t *)(st->hw.out + NTBS_ST_DATA);
	st->window_read_ns = (ntbs_hw_now() - start) / (double)N;
	start = ntbs_hw_now();
	for (unsigned i = 0; i < N; i++)
		*(volatile uint64_t *)(st->hw.out + NTBS_ST_DATA + 8 * i) = i;
	ntbs_store_flush();
	st->store8_ns = (ntbs_hw_now() - start) / (double)N;
	start = ntbs_hw_now();
	for (unsigned i = 0; i < N; i++)
		store_line(st, NTBS_ST_DATA + 64 * (i % 64), line);
	st->line_ns = (ntbs_hw_now() - start) / (double)N;
	start = ntbs_hw_now();
	for (unsigned i = 0; i < N; i++)
		ntbs_store_flush();
	st->fence_ns = (ntbs_hw_now() - start) / (double)N;
	(void)sum;
}

const char *ntbs_st_why(const struct ntbs_st *st, int ret)
{
	if (ret == -ETIMEDOUT)
		return "the other side did not answer";
	if (ret != -ECONNRESET)
		return strerror(-ret);
	return st->hw.why[0] ? st->hw.why : ntbs_link_say(&st->hw.link);
}

int ntbs_st_lead(struct ntbs_st *st)
{
	static const struct {
		const char *name;
		int (*fn)(struct ntbs_st *st);
	} steps[] = {
		{ "latency of the window", lead_pingpong },
		{ "bandwidth of the window", lead_stream },
		{ "doorbells", lead_bells },
		{ "order of doorbells and data", lead_order },
		{ "copy engine", ntbs_st_dma },
	};
	int ret;

	ntbs_st_local(st);
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		ret = steps[i].fn(st);
		if (!ret)
			continue;
		if (!st->why[0])
			snprintf(st->why, sizeof(st->why), "%s: %.160s", steps[i].name, ntbs_st_why(st, ret));
		return ret;
	}
	return 0;
}
