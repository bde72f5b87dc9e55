// SPDX-License-Identifier: BSD-2-Clause
/*
 * ntb_amd.c - AMD ports (1022:148b)
 *
 * Offsets, bits and the order of things are those of Linux 6.1 drivers/ntb/hw/amd (ntb_hw_amd.h and its comments).  One
 * chip, the primary's, holds both ports: each side has a bank of registers at 0x400 and sees the other's at 0x800, and
 * there is one set of 16 scratchpads for both.  A host sets the translation of the *peer's* window, in the peer's bank;
 * a limit is a length.
 *
 * What the driver leaves open, and what is modelled:
 *  - the link needs no word of software: it trains when both hosts have power.  What the drivers call "link up" is the
 *    peer's READY bit, and beside it, on the primary, that no link-down event came since;
 *  - the banks stay readable while the link is down, and READY of a peer that lost power stays set (amd_link_is_up()
 *    says that it does).  On hardware the secondary would lose the whole function, which QEMU cannot show.  So Linux'
 *    driver does not survive a flap here: the primary clears the secondary's READY then, which only the probe of the
 *    secondary's driver sets again, and that is not called, since nothing was unplugged;
 *  - link up and link down replace each other while unseen: the driver takes INTSTAT for a single event;
 *  - a limit of 0 closes the window (the driver writes it to clear a translation);
 *  - reset of a side clears its bank; scratchpads go with the primary's;
 *  - power management events (D3, D0, PME_TO), peer reset and flush events are not raised.
 *
 * Host 0 is the primary, host 1 the secondary.
 */
#include <errno.h>
#include "impl.h"

enum {
	R_NONE, R_SPAD, R_SIDEINFO, R_XLAT, R_LIMIT, R_DBREQ, R_DBMASK, R_DBSTAT, R_INTMASK, R_PEER,
};

enum {
	SPAD = 0x210, SIDEINFO = 0x408, LIMIT23 = 0x418, XLAT23 = 0x438, DBREQ = 0x454, DBMASK = 0x45c, DBSTAT = 0x460,
	INTMASK = 0x470, INTSTAT = 0x474, PEER = 0x400,
	READY = 2, LINK_UP = 0x20, LINK_DOWN = 0x40, EVENTS = 0x7f, DB_BITS = 0xffff,
	EVENT_VECTOR = 16, VECTORS = 24, EXP = 0x64, SPEED = 4, WIDTH = 16,
};

static const struct rig_reg regs[] = {
	{ 0x200, 4, 1, R_NONE, 0, 0xffffffff, 0 },	/* CNTL */
	{ 0x204, 4, 1, R_NONE, 0, 0, 0 },		/* STA */
	{ SPAD, 4, 16, R_SPAD, 0, 0, 0 },
	{ SIDEINFO, 4, 1, R_SIDEINFO, 0, READY, 0 },
	{ 0x414, 4, 1, R_NONE, 0, 0xffffffff, 0 },	/* of BAR1, which 148b has not */
	{ LIMIT23, 8, 2, R_LIMIT, 0, ~0ull, 0 },
	{ 0x430, 8, 1, R_NONE, 0, ~0xfffull, 0 },
	{ XLAT23, 8, 2, R_XLAT, 0, ~0xfffull, 0 },
	{ 0x450, 4, 1, R_NONE, 0, 0xffffffff, 0 },	/* DBFM */
	{ DBREQ, 4, 1, R_DBREQ, 0, 0, 0 },
	{ DBMASK, 4, 1, R_DBMASK, DB_BITS, DB_BITS, 0 },
	{ DBSTAT, 4, 1, R_DBSTAT, 0, 0, DB_BITS },
	{ INTMASK, 4, 1, R_INTMASK, EVENTS, EVENTS, 0 },
	{ INTSTAT, 4, 1, R_NONE, 0, 0, EVENTS },
	{ 0x480, 4, 1, R_NONE, 0, 0, 0 },		/* PMESTAT */
	{ 0x4a0, 4, 1, R_NONE, 0, 0xffffffff, 0 },	/* SMUACK */
	/* the same registers of the other side */
	{ PEER + SIDEINFO, 4, 1, R_PEER, 0, 0, 0 },
	{ PEER + 0x414, 4, 1, R_PEER, 0, 0, 0 },
	{ PEER + LIMIT23, 8, 2, R_PEER, 0, 0, 0 },
	{ PEER + 0x430, 8, 3, R_PEER, 0, 0, 0 },
	{ PEER + 0x480, 4, 1, R_PEER, 0, 0, 0 },
};

static struct rig_fn *primary(const struct rig_fn *fn)
{
	return rig_pair_port(fn->pair, 0);
}

/* Interrupts for the event that is pending, if it is enabled and one of @among. */
static void fire_event(struct rig_fn *fn, uint64_t among)
{
	uint64_t ev = rig_load(fn, INTSTAT, 4) & ~rig_load(fn, INTMASK, 4) & among;

	if (ev)
		rig_interrupt(fn, EVENT_VECTOR + (unsigned)__builtin_ctzll(ev));
}

static void fire_bells(struct rig_fn *fn, uint64_t bits)
{
	for (unsigned b = 0; b < 16; b++) {
		if (bits >> b & 1)
			rig_interrupt(fn, b);
	}
}

static void reset(struct rig_fn *fn)
{
	rig_store(fn, SIDEINFO, 4, (uint64_t)fn->info.host);
}

static uint64_t get(struct rig_fn *fn, const struct rig_reg *reg, unsigned idx, uint64_t stored)
{
	switch (reg->id) {
	case R_SPAD:
		return rig_load(primary(fn), SPAD + 4 * idx, 4);
	case R_PEER:
		rig_peer_read(fn);
		return rig_load(rig_peer(fn), reg->off + (uint64_t)idx * reg->len - PEER, reg->len);
	default:
		return stored;
	}
}

static void ring(struct rig_fn *fn, uint64_t bits)
{
	struct rig_fn *peer = rig_peer(fn);
	uint64_t old = rig_load(peer, DBSTAT, 4), enabled = ~rig_load(peer, DBMASK, 4);
	bool twice;

	if (!rig_bell_passes(fn, &twice))
		return;
	rig_store(peer, DBSTAT, 4, old | bits);
	fire_bells(peer, bits & ~old & enabled);
	if (twice)
		fire_bells(peer, bits & enabled);
}

/* In the peer's bank the same bits can be written as from its own side. */
static void peer_bank(struct rig_fn *fn, const struct rig_reg *reg, unsigned idx, uint64_t written)
{
	struct rig_fn *peer = rig_peer(fn);
	uint64_t off = reg->off + (uint64_t)idx * reg->len - PEER;
	unsigned own_idx;
	const struct rig_reg *own = rig_fn_find(peer, off, reg->len, &own_idx);

	rig_peer_write(fn);
	if (!own)
		return;
	rig_store(peer, off, own->len, (rig_load(peer, off, own->len) & ~own->rw) | (written & own->rw));
	if (own->id == R_XLAT || own->id == R_LIMIT)
		rig_window_moved(peer);
}

static void wrote(struct rig_fn *fn, const struct rig_reg *reg, unsigned idx, uint64_t written, uint64_t old)
{
	switch (reg->id) {
	case R_SPAD:
		rig_peer_write(fn);
		rig_store(primary(fn), SPAD + 4 * idx, 4, written);
		break;
	case R_XLAT:
	case R_LIMIT:
		rig_window_moved(fn);
		break;
	case R_DBREQ:
		if (written & DB_BITS)
			ring(fn, written & DB_BITS);
		break;
	case R_DBMASK:
		fire_bells(fn, rig_load(fn, DBSTAT, 4) & old & ~rig_load(fn, DBMASK, 4));
		break;
	case R_INTMASK:
		fire_event(fn, old);
		break;
	case R_PEER:
		peer_bank(fn, reg, idx, written);
		break;
	}
}

static bool wants_link(const struct rig_fn *fn)
{
	return true;
}

static void link_changed(struct rig_fn *fn, bool up)
{
	uint16_t sts = up ? 0x2000 | WIDTH << 4 | SPEED : 0;

	fn->cfg.val[EXP + 18] = (uint8_t)sts;
	fn->cfg.val[EXP + 19] = (uint8_t)(sts >> 8);
	rig_store(fn, INTSTAT, 4, up ? LINK_UP : LINK_DOWN);
	fire_event(fn, EVENTS);
}

static int window(const struct rig_fn *fn, int bar, uint64_t off, uint64_t *addr, uint64_t *len)
{
	unsigned at = 8 * (unsigned)(bar - 2) / 2;
	uint64_t limit = rig_load(fn, LIMIT23 + at, 8), size = fn->info.bar[bar].size;

	limit = limit > size ? size : limit;
	if (off >= limit)
		return -ENXIO;
	*addr = rig_load(fn, XLAT23 + at, 8) + off;
	*len = limit - off;
	return 0;
}

static bool keeps(const struct rig_fn *fn, enum rig_reset how)
{
	return how == RIG_RESET_GONE && fn->info.host == 1;
}

static const struct rig_fn_ops ops = {
	.reset = reset, .get = get, .wrote = wrote, .wants_link = wants_link, .link_changed = link_changed, .window = window,
	.keeps = keeps,
};

struct rig_fn *rig_amd_new(struct rig_pair *pair, int host)
{
	static const struct rig_cfg_layout layout = {
		.exp = EXP, .pm = 0x50, .msix = 0xc0, .class_code = 0x068000, .speed = SPEED, .width = WIDTH,
	};
	struct rig_fn_info info = {
		.name = host ? "AMD port 1" : "AMD port 0", .host = host, .vendor = 0x1022, .device = 0x148b,
		.bar = { [0] = { 0x4000, true, false, false }, [2] = { pair->conf.window_size[0], true, true, true },
			 [4] = { pair->conf.window_size[1], true, true, true } },
		/* 16 doorbells and 8 events; with fewer the driver frees vectors it never had */
		.vectors = VECTORS, .msix_table = 0x2000, .msix_pba = 0x3000,
	};
	struct rig_fn *fn = rig_fn_new(pair, sizeof(*fn), &info, &ops, regs, sizeof(regs) / sizeof(*regs));

	if (!fn)
		return NULL;
	fn->port = true;
	rig_cfg_init(fn, &layout);
	return fn;
}
