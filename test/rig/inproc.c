// SPDX-License-Identifier: BSD-2-Clause
/* inproc.c - surroundings for the model inside one test program; see inproc.h */
#include <stdlib.h>
#include <string.h>
#include "inproc.h"

/* Where firmware puts the BARs: not the same on both hosts, so that mixing them up shows. */
static const uint64_t bar_base[2] = { 0x380000000000, 0x390000000000 };

static void *memory(void *arg, const struct rig_fn *fn, uint64_t addr, size_t *len, bool write)
{
	struct inproc *ip = arg;
	int host = rig_fn_info(fn)->host;

	for (unsigned i = 0; i < ip->maps; i++) {
		const struct inproc_map *m = &ip->map[i];

		if (m->host != host || addr < m->addr || addr - m->addr >= m->len)
			continue;
		if (*len > m->len - (addr - m->addr))
			*len = m->len - (addr - m->addr);
		return m->mem + (addr - m->addr);
	}
	return NULL;
}

static void interrupt(void *arg, const struct rig_fn *fn, unsigned vector)
{
	struct inproc *ip = arg;
	int host = rig_fn_info(fn)->host;

	if (vector >= INPROC_VECTORS)
		return;
	if (fn != ip->port[host]) {
		ip->ioat_irq[host][vector]++;
		return;
	}
	ip->irq[host][vector]++;
	if (ip->on_irq)
		ip->on_irq(ip->on_irq_arg, host, vector);
}

static uint64_t now_ns(void *arg)
{
	return ((struct inproc *)arg)->now_ns;
}

static void event(void *arg, const struct rig_event *ev)
{
	struct inproc *ip = arg;

	ip->unknown += ev->unknown;
	if (!ip->keep_trace)
		return;
	if (ip->traced == ip->trace_room) {
		size_t room = ip->trace_room ? 2 * ip->trace_room : 256;
		struct rig_event *more = realloc(ip->trace, room * sizeof(*more));

		if (!more)
			abort();
		ip->trace = more;
		ip->trace_room = room;
	}
	ip->trace[ip->traced++] = *ev;
}

bool inproc_open(struct inproc *ip, enum rig_family family, uint64_t window_size)
{
	struct rig_pair_conf conf = { .family = family, .window_size = { window_size, window_size }, .train_ns = RIG_TRAIN_NS };
	struct rig_env env = { .arg = ip, .memory = memory, .interrupt = interrupt, .now_ns = now_ns, .event = event };

	memset(ip, 0, sizeof(*ip));
	ip->now_ns = 1000;
	ip->pair = rig_pair_open(&conf, &env);
	if (!ip->pair)
		return false;
	for (int i = 0; i < 2; i++) {
		ip->port[i] = rig_pair_port(ip->pair, i);
		rig_fn_place(ip->port[i], bar_base[i]);
	}
	return true;
}

void inproc_close(struct inproc *ip)
{
	rig_pair_close(ip->pair);
	free(ip->trace);
	memset(ip, 0, sizeof(*ip));
}

struct rig_fn *inproc_ioat(struct inproc *ip, int host)
{
	ip->ioat[host] = rig_ioat_open(ip->pair, host);
	if (ip->ioat[host])
		rig_fn_place(ip->ioat[host], bar_base[host] + (1ull << 42));
	return ip->ioat[host];
}

bool inproc_map(struct inproc *ip, int host, uint64_t addr, void *mem, uint64_t len)
{
	if (!len || addr + len < addr || ip->maps == INPROC_MAPS)
		return false;
	for (unsigned i = 0; i < ip->maps; i++) {
		const struct inproc_map *m = &ip->map[i];

		if (m->host == host && addr < m->addr + m->len && m->addr < addr + len)
			return false;
	}
	ip->map[ip->maps++] = (struct inproc_map){ host, addr, len, mem };
	return true;
}

void inproc_unmap(struct inproc *ip, int host, uint64_t addr)
{
	for (unsigned i = 0; i < ip->maps; i++) {
		if (ip->map[i].host == host && ip->map[i].addr == addr) {
			ip->map[i] = ip->map[--ip->maps];
			return;
		}
	}
}

void inproc_advance(struct inproc *ip, uint64_t ns)
{
	uint64_t end = ip->now_ns + ns;

	for (;;) {
		uint64_t next = rig_pair_run(ip->pair);

		if (next > end)
			break;
		if (next > ip->now_ns)
			ip->now_ns = next;
	}
	ip->now_ns = end;
	rig_pair_run(ip->pair);
}

void inproc_enable(struct rig_fn *fn)
{
	inproc_write(fn, RIG_CFG, 4, 6, 2);
}

uint64_t inproc_read(struct rig_fn *fn, int space, uint64_t off, size_t len)
{
	uint64_t v = 0;

	/* a test that reads where nothing is has a mistake of its own */
	if (rig_read(fn, space, off, &v, len))
		abort();
	return v;
}

void inproc_write(struct rig_fn *fn, int space, uint64_t off, uint64_t value, size_t len)
{
	if (rig_write(fn, space, off, &value, len))
		abort();
}
