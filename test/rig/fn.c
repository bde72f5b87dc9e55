// SPDX-License-Identifier: BSD-2-Clause
/*
 * fn.c - one function of the model: its registers, and accesses to it
 *
 * An access of the CPU comes in by rig_read() and rig_write(), is given its number in the trace, and goes to config
 * space, to a register, or through a window.  Registers are found in the family's table; an access must lie inside of
 * one of them (the kernel's drivers and DPDK's always do).  MSI-X table and pending bits belong to the surroundings and
 * read as 0 here.
 */
#include <errno.h>
#include <stdlib.h>
#include "impl.h"

struct rig_fn *rig_fn_new(struct rig_pair *pair, size_t size, const struct rig_fn_info *info, const struct rig_fn_ops *ops,
			  const struct rig_reg *regs, unsigned nregs)
{
	struct rig_fn *fn = calloc(1, size);

	if (!fn)
		return NULL;
	fn->bar0 = calloc(1, info->bar[0].size);
	if (!fn->bar0) {
		free(fn);
		return NULL;
	}
	fn->info = *info;
	strncpy(fn->name, info->name, sizeof(fn->name) - 1);
	fn->info.name = fn->name;
	fn->ops = ops;
	fn->regs = regs;
	fn->nregs = nregs;
	fn->pair = pair;
	fn->on = true;
	return fn;
}

void rig_fn_free(struct rig_fn *fn)
{
	if (fn)
		free(fn->bar0);
	free(fn);
}

const struct rig_fn_info *rig_fn_info(const struct rig_fn *fn)
{
	return &fn->info;
}

uint64_t rig_load(const struct rig_fn *fn, uint64_t off, unsigned len)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)fn->bar0[off + i] << 8 * i;
	return v;
}

void rig_store(struct rig_fn *fn, uint64_t off, unsigned len, uint64_t value)
{
	for (unsigned i = 0; i < len; i++)
		fn->bar0[off + i] = (uint8_t)(value >> 8 * i);
}

const struct rig_reg *rig_fn_find(const struct rig_fn *fn, uint64_t off, size_t len, unsigned *idx)
{
	for (unsigned i = 0; i < fn->nregs; i++) {
		const struct rig_reg *r = &fn->regs[i];
		uint64_t into;

		if (off < r->off || off >= r->off + (uint64_t)r->len * r->count)
			continue;
		into = off - r->off;
		if (into % r->len + len > r->len)
			return NULL;
		*idx = (unsigned)(into / r->len);
		return r;
	}
	return NULL;
}

void rig_fn_registers_reset(struct rig_fn *fn)
{
	memset(fn->bar0, 0, fn->info.bar[0].size);
	for (unsigned i = 0; i < fn->nregs; i++) {
		const struct rig_reg *r = &fn->regs[i];

		for (unsigned k = 0; k < r->count; k++)
			rig_store(fn, r->off + (uint64_t)k * r->len, r->len, r->reset);
	}
	if (fn->ops->reset)
		fn->ops->reset(fn);
}

static bool in_msix(const struct rig_fn *fn, uint64_t off)
{
	const struct rig_fn_info *i = &fn->info;

	return (off >= i->msix_table && off < i->msix_table + 16ull * i->vectors) ||
	       (off >= i->msix_pba && off < i->msix_pba + (i->vectors + 63) / 64 * 8ull);
}

static uint64_t register_read(struct rig_fn *fn, uint64_t off, size_t len, bool *unknown)
{
	unsigned idx = 0;
	const struct rig_reg *r = rig_fn_find(fn, off, len, &idx);
	uint64_t at, v;

	if (!r) {
		*unknown = !in_msix(fn, off);
		return 0;
	}
	at = r->off + (uint64_t)idx * r->len;
	v = rig_load(fn, at, r->len);
	if (r->id && fn->ops->get)
		v = fn->ops->get(fn, r, idx, v);
	return v >> 8 * (off - at);
}

static void register_write(struct rig_fn *fn, uint64_t off, size_t len, uint64_t value)
{
	unsigned idx = 0;
	const struct rig_reg *r = rig_fn_find(fn, off, len, &idx);
	uint64_t at, old, bytes, v;

	if (!r)
		return;
	at = r->off + (uint64_t)idx * r->len;
	old = rig_load(fn, at, r->len);
	bytes = (len == 8 ? ~0ull : (1ull << 8 * len) - 1) << 8 * (off - at);
	value = value << 8 * (off - at) & bytes;
	v = (old & ~(r->rw & bytes)) | (value & r->rw);
	v &= ~(value & r->w1c);
	rig_store(fn, at, r->len, v);
	if (r->id)
		fn->ops->wrote(fn, r, idx, value, old);
}

static int check(const struct rig_fn *fn, int space, uint64_t off, size_t len)
{
	uint64_t size = space == RIG_CFG ? RIG_CFG_SIZE : 0;
	size_t longest = 8;

	if (space >= 0 && space < RIG_BARS) {
		size = fn->info.bar[space].size;
		if (fn->info.bar[space].window)
			longest = WINDOW_BURST;
	}
	return len && len <= longest && off < size && len <= size - off ? 0 : -EINVAL;
}

static uint64_t first8(const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint64_t v = 0;

	for (size_t i = 0; i < len && i < 8; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

int rig_read(struct rig_fn *fn, int space, uint64_t off, void *buf, size_t len)
{
	struct rig_count *count = &fn->pair->side[fn->info.host].count;
	bool unknown = false, lost = false;
	uint64_t v;

	if (check(fn, space, off, len))
		return -EINVAL;
	if (space == RIG_CFG) {
		v = fn->on ? 0 : ~0ull;
		if (fn->on)
			memcpy(&v, fn->cfg.val + off, len);
		memcpy(buf, &v, len);
	} else if (!rig_cfg_decodes(fn)) {
		memset(buf, 0xff, len);
		lost = true;
	} else if (fn->info.bar[space].window) {
		lost = !rig_window_read(fn, space, off, buf, len);
	} else {
		if (fn->port)
			count->reg_read++;
		v = register_read(fn, off, len, &unknown);
		memcpy(buf, &v, len);
	}
	rig_event(fn, RIG_EV_READ, space, off, (uint32_t)len, first8(buf, len), unknown, lost);
	return 0;
}

int rig_write(struct rig_fn *fn, int space, uint64_t off, const void *buf, size_t len)
{
	struct rig_count *count = &fn->pair->side[fn->info.host].count;
	uint64_t v = first8(buf, len);
	unsigned idx;
	bool known;

	if (check(fn, space, off, len))
		return -EINVAL;
	/* The event first: what follows from a write comes behind it.  Window writes know only afterwards. */
	if (space == RIG_CFG) {
		rig_event(fn, RIG_EV_WRITE, space, off, (uint32_t)len, v, false, !fn->on);
		if (fn->on)
			rig_cfg_write(fn, (unsigned)off, buf, (unsigned)len);
	} else if (!rig_cfg_decodes(fn)) {
		rig_event(fn, RIG_EV_WRITE, space, off, (uint32_t)len, v, false, true);
	} else if (fn->info.bar[space].window) {
		bool arrived = rig_window_write(fn, space, off, buf, len);

		rig_event(fn, RIG_EV_WRITE, space, off, (uint32_t)len, v, false, !arrived);
	} else {
		if (fn->port)
			count->reg_write++;
		known = rig_fn_find(fn, off, len, &idx) || in_msix(fn, off);
		rig_event(fn, RIG_EV_WRITE, space, off, (uint32_t)len, v, !known, false);
		register_write(fn, off, len, v);
	}
	return 0;
}
