// SPDX-License-Identifier: BSD-2-Clause
/*
 * ioat.c - a copy engine: I/OAT 3.4 (8086:0b00, Ice Lake), copies and null descriptors only
 *
 * Offsets, bits and descriptors are those of Linux 6.1 drivers/dma/ioat (registers.h, hw.h, dma.c).  A channel walks a
 * chain of 64-byte descriptors in its host's memory, from CHAINADDR on, until it has done as many as DMACOUNT says (16
 * bits, free-running since CHAINADDR was written).  It writes CHANSTS to the completion address when a descriptor asks
 * for it, interrupts when one asks for it and the channel has been armed (CHANCTRL bit 0 arms for one interrupt), and
 * halts on an error.
 *
 * Work is done in rig_pair_run(), some at a time, so that a channel is seen active and a long chain does not keep
 * the model from its other duties.  Descriptors are done in order, one after the other, which is more than the fence
 * bit asks for; RIG_FAULT_ENGINE_EAGER makes it matter.
 *
 * A destination that is a window of the host's port goes across the link like any store to it: what does not arrive is
 * no error of the engine.  A source there reads as whatever a read gives.  Unmapped addresses halt the channel with a
 * read or write error, the ones that drivers recover from; which one hardware reports is not known here.
 */
#include <errno.h>
#include "impl.h"

enum { R_NONE, R_INTRCTRL, R_ATTN, R_CTRL, R_CMD, R_COUNT, R_STS, R_CHAIN, R_ERR };

enum {
	CHANNELS = 2, CHANNEL_SIZE = 0x80, XFERCAP_LOG = 20,
	ATTN = 4, CTRL = 0, CMD = 4, COUNT = 6, STS = 8, CHAIN = 0x10, CMP = 0x18, ERR = 0x28,
	CTRL_ARM = 1, CTRL_ERR_COMPLETION = 4, CTRL_ERR_INT = 0x10,
	CMD_RESET = 0x20, CMD_RESUME = 0x10, CMD_ABORT = 8, CMD_SUSPEND = 4,
	ACTIVE = 0, DONE = 1, SUSPENDED = 2, HALTED = 3,
	E_NEXT_ADDR = 4, E_NEXT_ALIGN = 8, E_READ = 0x100, E_WRITE = 0x200, E_CONTROL = 0x400, E_LENGTH = 0x800, E_COMPLETION = 0x1000,
	D_INT = 1, D_WRITE_BACK = 8, D_FENCE = 0x10, D_NULL = 0x20,
	BUDGET = 256 * 1024,		/* bytes, and 1/1024th of it descriptors, per channel and run */
};

struct channel {
	uint64_t at;			/* descriptor to do next */
	uint64_t last;			/* last one done */
	unsigned state;
	uint16_t done;			/* since CHAINADDR was written */
	bool armed, fired;		/* an interrupt may leave; one is waiting to */
	bool copying;			/* in the middle of the descriptor at @at */
	uint32_t pos;			/* bytes of it that are done */
	bool finishing;			/* copied, but something of it is still under way outside */
	bool strike;			/* a fault: it halts in the middle */
	bool ahead;			/* the copy behind the one at @at has been made already (eager) */
};

struct ioat {
	struct rig_fn fn;
	struct channel ch[CHANNELS];
};

#define CHANNEL(n)                                                                                       \
	{ CHANNEL_SIZE * (n) + CTRL, 2, 1, R_CTRL, 0, 0xf33d, 0 }, { CHANNEL_SIZE * (n) + 2, 2, 1, R_NONE, 2, 0, 0 }, \
	{ CHANNEL_SIZE * (n) + CMD, 1, 1, R_CMD, 0, 0, 0 },                                               \
	{ CHANNEL_SIZE * (n) + COUNT, 2, 1, R_COUNT, 0, 0xffff, 0 },                                      \
	{ CHANNEL_SIZE * (n) + STS, 8, 1, R_STS, 0, 0, 0 },                                               \
	{ CHANNEL_SIZE * (n) + CHAIN, 8, 1, R_CHAIN, 0, ~0ull, 0 },                                       \
	{ CHANNEL_SIZE * (n) + CMP, 8, 1, R_NONE, 0, ~7ull, 0 },                                          \
	{ CHANNEL_SIZE * (n) + ERR, 4, 1, R_ERR, 0, 0, 0xffffffff },                                      \
	{ CHANNEL_SIZE * (n) + 0x2c, 4, 1, R_NONE, 0, 0xffffffff, 0 },	/* CHANERRMSK */                  \
	{ CHANNEL_SIZE * (n) + 0x30, 4, 1, R_NONE, 0, 0xffffffff, 0 }	/* DCACTRL */

static const struct rig_reg regs[] = {
	{ 0x00, 1, 1, R_NONE, CHANNELS, 0, 0 },		/* CHANCNT */
	{ 0x01, 1, 1, R_NONE, XFERCAP_LOG, 0, 0 },	/* XFERCAP */
	{ 0x02, 1, 1, R_NONE, 0, 0x01, 0 },		/* GENCTRL */
	{ 0x03, 1, 1, R_INTRCTRL, 0, 0x09, 0 },
	{ ATTN, 4, 1, R_ATTN, 0, 0, 0 },
	{ 0x08, 1, 1, R_NONE, 0x34, 0, 0 },		/* VER */
	{ 0x0a, 2, 1, R_NONE, 0, 0, 0 },		/* PERPORTOFFSET */
	{ 0x0c, 2, 1, R_NONE, 0, 0x3fff, 0 },		/* INTRDELAY; no coalescing */
	{ 0x0e, 2, 1, R_NONE, 0, 0, 0 },		/* DEVICE_STATUS */
	{ 0x10, 4, 1, R_NONE, 0, 0, 0 },		/* DMACAP: copies only */
	{ 0x14, 2, 1, R_NONE, 0, 0, 0 },		/* DCAOFFSET: none */
	CHANNEL(1), CHANNEL(2),
	/* latency tolerance of both channels, which lies behind the end of each one's 0x80 bytes */
	{ CHANNEL_SIZE + 0xbc, 1, 1, R_NONE, 0, 0xff, 0 }, { CHANNEL_SIZE + 0xc0, 4, 2, R_NONE, 0, 0xffffffff, 0 },
	{ 2 * CHANNEL_SIZE + 0xbc, 1, 1, R_NONE, 0, 0xff, 0 }, { 2 * CHANNEL_SIZE + 0xc0, 4, 2, R_NONE, 0, 0xffffffff, 0 },
};

static struct ioat *ioat_of(struct rig_fn *fn)
{
	return (struct ioat *)fn;
}

/* Channel of a register, which are CHANNEL_SIZE apart from CHANNEL_SIZE on. */
static unsigned channel_of(const struct rig_reg *reg)
{
	return reg->off / CHANNEL_SIZE - 1;
}

static uint64_t base_of(unsigned ch)
{
	return CHANNEL_SIZE * (ch + 1ull);
}

static uint64_t status(const struct channel *c)
{
	return (c->last & ~0x3full) | c->state;
}

static void interrupt(struct rig_fn *fn, unsigned ch)
{
	struct channel *c = &ioat_of(fn)->ch[ch];

	rig_store(fn, ATTN, 4, rig_load(fn, ATTN, 4) | 1u << ch);
	if (!c->armed) {
		c->fired = true;
		return;
	}
	c->armed = false;
	c->fired = false;
	rig_interrupt(fn, ch);
}

static bool write_back(struct rig_fn *fn, unsigned ch)
{
	uint64_t sts = status(&ioat_of(fn)->ch[ch]);
	uint8_t bytes[8];

	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(sts >> 8 * i);
	return rig_memory_copy(fn, rig_load(fn, base_of(ch) + CMP, 8), bytes, 8, true);
}

static void halt(struct rig_fn *fn, unsigned ch, uint32_t error)
{
	struct channel *c = &ioat_of(fn)->ch[ch];
	uint64_t ctrl = rig_load(fn, base_of(ch) + CTRL, 2);

	c->state = HALTED;
	c->copying = c->finishing = c->ahead = false;
	rig_store(fn, base_of(ch) + ERR, 4, rig_load(fn, base_of(ch) + ERR, 4) | error);
	if (error != E_COMPLETION && ctrl & CTRL_ERR_COMPLETION)
		write_back(fn, ch);
	if (ctrl & CTRL_ERR_INT)
		interrupt(fn, ch);
}

/* A piece of a copy between memory and memory, or a window.  0 or the error. */
static uint32_t piece(struct rig_fn *fn, uint64_t src, uint64_t dst, uint8_t *buf, size_t len)
{
	struct rig_pair *pair = fn->pair;
	struct rig_fn *port = rig_pair_port(pair, fn->info.host);
	bool src_done = false;

	for (int bar = 0; bar < RIG_BARS; bar++) {
		uint64_t at = rig_fn_bar_base(port, bar), size = port->info.bar[bar].size;

		if (port->info.bar[bar].window && at && src >= at && src - at < size && len <= size - (src - at)) {
			rig_read(port, bar, src - at, buf, len);
			src_done = true;
		}
	}
	if (!src_done && !rig_memory_copy(fn, src, buf, len, false))
		return E_READ;
	if (rig_memory_copy(fn, dst, buf, len, true))
		return 0;
	for (int bar = 0; bar < RIG_BARS; bar++) {
		uint64_t at = rig_fn_bar_base(port, bar), size = port->info.bar[bar].size;

		if (port->info.bar[bar].window && at && dst >= at && dst - at < size && len <= size - (dst - at)) {
			rig_write(port, bar, dst - at, buf, len);
			return 0;
		}
	}
	if (pair->env.foreign && !pair->env.foreign(pair->env.arg, fn, dst, buf, len))
		return 0;
	return E_WRITE;
}

static uint64_t field(const uint8_t *d, unsigned at, unsigned len)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)d[at + i] << 8 * i;
	return v;
}

/* Bytes [@pos, @end) of the copy that descriptor @d asks for, as many as the budget allows.  0 or the error. */
static uint32_t copy(struct rig_fn *fn, const uint8_t *d, uint32_t *pos, uint32_t end, size_t *budget)
{
	uint8_t buf[WINDOW_BURST];
	uint32_t error;

	while (*pos < end && *budget) {
		/* pieces do not cross a page, so that a window's burst and a mapping's end fit them */
		uint64_t src = field(d, 8, 8) + *pos, dst = field(d, 16, 8) + *pos;
		size_t n = WINDOW_BURST - (src & (WINDOW_BURST - 1)), m = WINDOW_BURST - (dst & (WINDOW_BURST - 1));

		n = n < m ? n : m;
		n = n < end - *pos ? n : end - *pos;
		*budget = *budget > n ? *budget - n : 0;
		error = piece(fn, src, dst, buf, n);
		if (error)
			return error;
		*pos += (uint32_t)n;
	}
	return 0;
}

/* Behind one without a fence another copy may be made first; what is wrong with it is found when it is its turn. */
static void look_ahead(struct rig_fn *fn, struct channel *c, unsigned ch, const uint8_t *d)
{
	size_t budget = BUDGET;
	uint32_t size, pos = 0;
	uint8_t next[64];

	if (!fn->pair->side[fn->info.host].engine_eager || field(d, 4, 4) & D_FENCE ||
	    (uint16_t)(c->done + 1) == (uint16_t)rig_load(fn, base_of(ch) + COUNT, 2) ||
	    !rig_memory_copy(fn, field(d, 24, 8), next, sizeof(next), false))
		return;
	size = (uint32_t)field(next, 0, 4);
	if (!size || size > BUDGET || field(next, 4, 4) & D_NULL || field(next, 4, 4) >> 24)
		return;
	c->ahead = !copy(fn, next, &pos, size, &budget);
}

/* As much of one descriptor as the budget allows; false: the channel rests. */
static bool step(struct rig_fn *fn, unsigned ch, size_t *budget)
{
	struct channel *c = &ioat_of(fn)->ch[ch];
	struct rig_pair *pair = fn->pair;
	struct rig_side *side = &pair->side[fn->info.host];
	uint32_t size, ctl, error;
	uint8_t d[64];

	if (c->at & 63) {
		halt(fn, ch, E_NEXT_ALIGN);
		return false;
	}
	if (!rig_memory_copy(fn, c->at, d, sizeof(d), false)) {
		halt(fn, ch, E_NEXT_ADDR);
		return false;
	}
	size = (uint32_t)field(d, 0, 4);
	ctl = (uint32_t)field(d, 4, 4);
	if (ctl >> 24) {
		halt(fn, ch, E_CONTROL);
		return false;
	}
	if (!size || size > 1u << XFERCAP_LOG) {
		halt(fn, ch, E_LENGTH);
		return false;
	}
	if (!c->copying) {
		c->copying = true;
		c->pos = ctl & D_NULL || c->ahead ? size : 0;
		if (!(ctl & D_NULL)) {
			rig_event(fn, RIG_EV_DMA, (int)ch, c->at, size, field(d, 16, 8), false, false);
			c->strike = side->engine_halt && !side->engine_halt_at;
			side->engine_halt = side->engine_halt && !c->strike;
			side->engine_halt_at -= side->engine_halt;
		}
		if (c->ahead || ctl & D_NULL)
			c->ahead = false;
		else
			look_ahead(fn, c, ch, d);
	}
	if (c->strike) {
		copy(fn, d, &c->pos, size / 2, budget);
		c->strike = false;
		halt(fn, ch, E_WRITE);
		return false;
	}
	error = copy(fn, d, &c->pos, size, budget);
	if (error) {
		halt(fn, ch, error);
		return false;
	}
	if (c->pos < size)
		return true;
	if (pair->env.foreign_busy && pair->env.foreign_busy(pair->env.arg, fn)) {
		c->finishing = true;
		return false;
	}
	if (!(ctl & D_NULL)) {
		side->count.copy++;
		side->count.copy_bytes += size;
	}
	c->copying = c->finishing = false;
	c->last = c->at;
	c->at = field(d, 24, 8);
	c->done++;
	if (c->done == (uint16_t)rig_load(fn, base_of(ch) + COUNT, 2))
		c->state = DONE;
	if (ctl & D_WRITE_BACK && !write_back(fn, ch)) {
		halt(fn, ch, E_COMPLETION);
		return false;
	}
	if (ctl & D_INT)
		interrupt(fn, ch);
	return c->state == ACTIVE;
}

static uint64_t run(struct rig_fn *fn)
{
	struct ioat *io = ioat_of(fn);
	uint64_t now = fn->pair->env.now_ns(fn->pair->env.arg), next = UINT64_MAX;

	for (unsigned ch = 0; ch < CHANNELS; ch++) {
		size_t budget = BUDGET;

		if (io->ch[ch].state != ACTIVE || !rig_cfg_masters(fn))
			continue;
		for (unsigned n = 0; n < BUDGET / 1024 && budget && step(fn, ch, &budget); n++)
			;
		/* waiting for what is outside: looked at again with the next thing that happens there, or in a while */
		if (io->ch[ch].state == ACTIVE && now + (io->ch[ch].finishing ? 100000 : 0) < next)
			next = now + (io->ch[ch].finishing ? 100000 : 0);
	}
	return next;
}

static void reset_channel(struct rig_fn *fn, unsigned ch)
{
	struct channel *c = &ioat_of(fn)->ch[ch];

	*c = (struct channel){ .state = HALTED };
	rig_store(fn, base_of(ch) + COUNT, 2, 0);
	rig_store(fn, base_of(ch) + CHAIN, 8, 0);
}

static void reset(struct rig_fn *fn)
{
	for (unsigned ch = 0; ch < CHANNELS; ch++)
		reset_channel(fn, ch);
}

static uint64_t get(struct rig_fn *fn, const struct rig_reg *reg, unsigned idx, uint64_t stored)
{
	switch (reg->id) {
	case R_INTRCTRL:	/* a channel wants attention, and may interrupt */
		return stored | (rig_load(fn, ATTN, 4) ? 2 | (stored & 1) << 2 : 0);
	case R_ATTN:		/* reading acknowledges */
		rig_store(fn, ATTN, 4, 0);
		return stored;
	case R_STS:
		return status(&ioat_of(fn)->ch[channel_of(reg)]);
	default:
		return stored;
	}
}

static void command(struct rig_fn *fn, unsigned ch, uint64_t cmd)
{
	struct channel *c = &ioat_of(fn)->ch[ch];

	if (cmd & CMD_RESET)
		reset_channel(fn, ch);
	else if (cmd & CMD_ABORT)
		c->state = HALTED;
	else if (cmd & CMD_SUSPEND && c->state != HALTED)
		c->state = SUSPENDED;
	else if (cmd & CMD_RESUME && c->state == SUSPENDED)
		c->state = c->done == (uint16_t)rig_load(fn, base_of(ch) + COUNT, 2) ? DONE : ACTIVE;
}

static void wrote(struct rig_fn *fn, const struct rig_reg *reg, unsigned idx, uint64_t written, uint64_t old)
{
	unsigned ch = channel_of(reg);
	struct channel *c = reg->off >= CHANNEL_SIZE ? &ioat_of(fn)->ch[ch] : NULL;

	switch (reg->id) {
	case R_CTRL:
		if (written & CTRL_ARM) {
			c->armed = true;
			if (c->fired)
				interrupt(fn, ch);
		}
		break;
	case R_CMD:
		command(fn, ch, written);
		break;
	case R_CHAIN:		/* in two halves, as the drivers write it: a new chain, nothing of it done */
		c->at = rig_load(fn, reg->off, 8);
		c->done = 0;
		c->copying = c->finishing = c->ahead = false;
		rig_store(fn, base_of(ch) + COUNT, 2, 0);
		break;
	case R_COUNT:
		if (rig_load(fn, base_of(ch) + ERR, 4))
			break;		/* errors must be cleared first */
		if (c->done != (uint16_t)rig_load(fn, reg->off, 2))
			c->state = ACTIVE;
		break;
	}
}

static const struct rig_fn_ops ops = { .reset = reset, .get = get, .wrote = wrote, .run = run };

struct rig_fn *rig_ioat_new(struct rig_pair *pair, int host)
{
	static const struct rig_cfg_layout layout = {
		.exp = 0x90, .pm = 0xe0, .msix = 0x80, .class_code = 0x088000, .speed = 4, .width = 16,
	};
	struct rig_fn_info info = {
		.name = host ? "I/OAT of host 1" : "I/OAT of host 0", .host = host, .vendor = 0x8086, .device = 0x0b00,
		.bar = { [0] = { 0x4000, true, true, false } },
		.vectors = CHANNELS, .msix_table = 0x2000, .msix_pba = 0x3000,
	};
	struct rig_fn *fn = rig_fn_new(pair, sizeof(struct ioat), &info, &ops, regs, sizeof(regs) / sizeof(*regs));

	if (!fn)
		return NULL;
	rig_cfg_init(fn, &layout);
	/* CHANERR_INT and its mask, which drivers of older versions read there */
	rig_cfg_set(fn, 0x180, 4, 0, 0);
	rig_cfg_set(fn, 0x184, 4, 0, 0xffffffff);
	rig_fn_registers_reset(fn);
	return fn;
}
