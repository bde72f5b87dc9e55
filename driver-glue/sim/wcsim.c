// SPDX-License-Identifier: BSD-2-Clause
/*
 * wcsim.c - a port over a model of a hostile fabric, for tests
 *
 * Pending stores are kept as lines: address, bytes, which of them are stored, which 8-byte chunks have not landed.
 * A flush begins a group.  Chunks land from the oldest group only, in random order; a line that is stored again
 * within its group combines with the pending one, so a group holds a line once and its order does not matter.
 *
 * Bytes land by stores of at most 8 bytes, as over a link.  The model is about the order of stores between two
 * hosts, so it says nothing about atomicity against a second thread: one thread plays both.
 */
#include "sim/wcsim.h"

#include <stdio.h>
#include <stdlib.h>

struct wcsim_line {
	uint8_t *dst;		/* aligned to 64 */
	uint64_t stored;	/* a bit a byte */
	uint32_t group;
	uint8_t pending;	/* a bit a chunk */
	bool landed;		/* some of it has */
	uint8_t byte[NTBS_LINE];
};

/* splitmix64 */
static uint64_t next_random(struct wcsim *sim)
{
	uint64_t z = sim->rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static bool one_in(struct wcsim *sim, uint32_t n)
{
	return next_random(sim) % n == 0;
}

static struct wcsim *of_port(struct ntbs_port *port)
{
	return (struct wcsim *)((char *)port - offsetof(struct wcsim, port));
}

static void land_chunk(struct wcsim *sim, struct wcsim_line *l, unsigned chunk)
{
	uint8_t *dst = l->dst + 8 * chunk;
	uint8_t bytes = l->stored >> (8 * chunk);

	l->pending &= ~(1u << chunk);
	l->landed = true;
	if (sim->lose_one_in && one_in(sim, sim->lose_one_in)) {
		sim->n.lost++;
		return;
	}
	if (bytes == 0xff) {
		uint64_t word;

		memcpy(&word, l->byte + 8 * chunk, 8);
		__atomic_store_n((uint64_t *)dst, word, __ATOMIC_RELAXED);
		return;
	}
	for (unsigned i = 0; i < 8; i++) {
		if (bytes >> i & 1)
			dst[i] = l->byte[8 * chunk + i];
	}
}

/* Where the oldest group ends; the youngest may still grow. */
static size_t oldest_end(struct wcsim *sim)
{
	uint32_t group;

	if (sim->head == sim->tail)
		return sim->tail;
	group = sim->line[sim->head].group;
	if (group == sim->group)
		return sim->tail;
	if (sim->oldest_end <= sim->head) {
		sim->oldest_end = sim->head;
		while (sim->oldest_end < sim->tail && sim->line[sim->oldest_end].group == group)
			sim->oldest_end++;
	}
	return sim->oldest_end;
}

static void retire(struct wcsim *sim, struct wcsim_line *l)
{
	*l = sim->line[sim->head++];	/* order within the oldest group does not matter */
	if (sim->head == sim->tail)
		sim->head = sim->tail = sim->oldest_end = 0;
}

/* One random chunk of the oldest group, or with it the rest of its line. */
static void land_some(struct wcsim *sim)
{
	size_t span = oldest_end(sim) - sim->head;
	struct wcsim_line *l = &sim->line[sim->head + next_random(sim) % span];
	unsigned chunk = next_random(sim) & 7;
	bool whole = one_in(sim, 3);

	for (unsigned i = 0; i < 8; i++, chunk = (chunk + 1) & 7) {
		if (!(l->pending >> chunk & 1))
			continue;
		if (l->landed && !whole)
			sim->n.torn++;
		land_chunk(sim, l, chunk);
		if (!whole)
			break;
	}
	if (!l->pending)
		retire(sim, l);
}

bool wcsim_step(struct wcsim *sim)
{
	unsigned chunks = next_random(sim) % 12;

	if (sim->head == sim->tail)
		return false;
	if (one_in(sim, 8))
		chunks *= 16;
	while (chunks-- && sim->head != sim->tail)
		land_some(sim);
	return true;
}

void wcsim_drain(struct wcsim *sim)
{
	while (sim->head != sim->tail)
		land_some(sim);
}

/* The pending line at @dst of the group that is being stored, begun if there is none. */
static struct wcsim_line *pending_line(struct wcsim *sim, uint8_t *dst)
{
	struct wcsim_line *l;

	for (size_t i = sim->tail; i > sim->head && sim->line[i - 1].group == sim->group; i--) {
		if (sim->line[i - 1].dst == dst)
			return &sim->line[i - 1];
	}
	if (sim->tail == sim->cap && sim->head) {
		memmove(sim->line, sim->line + sim->head, (sim->tail - sim->head) * sizeof(*l));
		sim->tail -= sim->head;
		sim->head = sim->oldest_end = 0;
	}
	if (sim->tail == sim->cap) {
		sim->cap = sim->cap ? 2 * sim->cap : 256;
		sim->line = realloc(sim->line, sim->cap * sizeof(*l));
		if (!sim->line) {
			fprintf(stderr, "wcsim: no memory for %zu pending lines\n", sim->cap);
			abort();
		}
	}
	l = &sim->line[sim->tail++];
	memset(l, 0, sizeof(*l));
	l->dst = dst;
	l->group = sim->group;
	return l;
}

static void store(struct wcsim *sim, void *dst, const void *src, size_t len)
{
	uint8_t *d = dst;
	const uint8_t *s = src;

	while (len && !sim->down) {
		unsigned at = (uintptr_t)d & (NTBS_LINE - 1);
		unsigned n = NTBS_LINE - at;
		struct wcsim_line *l;

		if (n > len)
			n = len;
		l = pending_line(sim, d - at);
		memcpy(l->byte + at, s, n);
		for (unsigned i = at; i < at + n; i++) {
			l->stored |= 1ull << i;
			l->pending |= 1u << i / 8;
		}
		d += n;
		s += n;
		len -= n;
	}
	if (sim->at_once)
		wcsim_drain(sim);
	else if (one_in(sim, 4))
		wcsim_step(sim);
}

static void sim_store_line(struct ntbs_port *port, void *dst, const void *line)
{
	struct wcsim *sim = of_port(port);

	if ((uintptr_t)dst & (NTBS_LINE - 1)) {
		fprintf(stderr, "wcsim: store_line to %p, which does not begin a line\n", dst);
		abort();
	}
	sim->n.lines++;
	store(sim, dst, line, NTBS_LINE);
}

static void sim_store_bulk(struct ntbs_port *port, void *dst, const void *src, size_t len)
{
	struct wcsim *sim = of_port(port);

	sim->n.bulks++;
	sim->n.bulk_bytes += len;
	store(sim, dst, src, len);
}

static void sim_store64(struct ntbs_port *port, ntbs_le64 *dst, uint64_t value)
{
	struct wcsim *sim = of_port(port);

	if ((uintptr_t)dst & 7) {
		fprintf(stderr, "wcsim: store64 to %p, which is not aligned\n", (void *)dst);
		abort();
	}
	sim->n.words++;
	store(sim, dst, &value, sizeof(value));
}

static void sim_store32(struct ntbs_port *port, ntbs_le32 *dst, uint32_t value)
{
	struct wcsim *sim = of_port(port);

	if ((uintptr_t)dst & 3) {
		fprintf(stderr, "wcsim: store32 to %p, which is not aligned\n", (void *)dst);
		abort();
	}
	sim->n.words++;
	store(sim, dst, &value, sizeof(value));
}

static void sim_flush(struct ntbs_port *port)
{
	struct wcsim *sim = of_port(port);

	sim->n.flushes++;
	if (sim->head != sim->tail && sim->line[sim->tail - 1].group == sim->group)
		sim->group++;
}

static void sim_fence(struct ntbs_port *port)
{
	of_port(port)->n.fences++;
	sim_flush(port);
	of_port(port)->n.flushes--;
}

static void sim_readback(struct ntbs_port *port, const ntbs_le64 *addr)
{
	of_port(port)->n.readbacks++;
	wcsim_drain(of_port(port));
}

/* Overtakes everything under way. */
static void sim_ring(struct ntbs_port *port, int bell_fd)
{
	of_port(port)->n.rings++;
	if (bell_fd >= 0 && !of_port(port)->down)
		ntbs_bell_ring(bell_fd);
}

static const struct ntbs_port_ops wcsim_ops = {
	.name = "wcsim",
	.store_line = sim_store_line,
	.store_bulk = sim_store_bulk,
	.store64 = sim_store64,
	.store32 = sim_store32,
	.flush = sim_flush,
	.fence = sim_fence,
	.readback = sim_readback,
	.ring = sim_ring,
};

void wcsim_open(struct wcsim *sim, uint64_t seed)
{
	memset(sim, 0, sizeof(*sim));
	ntbs_port_attach(&sim->port, &wcsim_ops, NTBS_MEM_WC);
	sim->port.whole = false;
	sim->at_once = !seed;
	sim->rng = seed;
}

void wcsim_close(struct wcsim *sim)
{
	free(sim->line);
	sim->line = NULL;
}

void wcsim_link_down(struct wcsim *sim)
{
	for (unsigned n = next_random(sim) % 16; n && sim->head != sim->tail; n--)
		land_some(sim);
	while (sim->head != sim->tail) {
		sim->n.lost += __builtin_popcount(sim->line[sim->head].pending);
		retire(sim, &sim->line[sim->head]);
	}
	sim->down = true;
}

void wcsim_link_up(struct wcsim *sim)
{
	sim->down = false;
}

size_t wcsim_pending(const struct wcsim *sim)
{
	size_t bytes = 0;

	for (size_t i = sim->head; i < sim->tail; i++) {
		for (unsigned c = 0; c < 8; c++) {
			if (sim->line[i].pending >> c & 1)
				bytes += __builtin_popcount(sim->line[i].stored >> (8 * c) & 0xff);
		}
	}
	return bytes;
}
