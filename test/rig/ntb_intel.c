// SPDX-License-Identifier: BSD-2-Clause
/*
 * ntb_intel.c - Intel ports: third generation (Skylake, Cascade Lake) and fourth (Ice Lake, Sapphire Rapids)
 *
 * Offsets, bits and the order of things are those of Linux 6.1 drivers/ntb/hw/intel (ntb_hw_gen3.h, ntb_hw_gen4.h and
 * the steps of the two .c files) and of DPDK drivers/raw/ntb.  Where the drivers leave open what the hardware does, the
 * stricter reading is modelled, so that a driver that passes here asks less of the hardware:
 *  - translation addresses keep only the bits that their alignment allows (size of the BAR; 4 KiB on Sapphire Rapids);
 *    what was misaligned shows in the read-back;
 *  - a limit outside of the BAR closes the window (at probe the driver writes one and calls it a window of length 0);
 *  - on Ice Lake a window is closed unless its BASEIDX is log2 of the window's length, which the driver writes and nobody
 *    else explains;
 *  - in generation 3 the limit on the external side (EMBARnXLMT) counts as well, the smaller one wins;
 *  - an interrupt fires when a status bit becomes set and is not disabled, or is set and becomes enabled; a doorbell
 *    whose bit is set already raises none;
 *  - on generation 4 the link bit of the interrupt status stays set until SLOTSTS.DLLSC has been cleared.
 *
 * Host 0 is the upstream device (USD), host 1 the downstream one.  A register reset takes the link down: software must
 * enable it again.
 */
#include <errno.h>
#include "impl.h"

enum {
	R_NONE, R_CNTL, R_XBASE, R_XLMT, R_BASEIDX, R_STATUS, R_DISABLE, R_BELL, R_PEER_SPAD, R_LNKCTL, R_LNKSTS, R_SLOTSTS,
	R_PPD0, R_PPD1, R_EMLMT, R_EMBAR,
};

enum {
	VECTORS = 33, LINK_BIT = 32, BARS_SHIFT = 0x10,
	STATUS = 0x40, DISABLE = 0x48, SPAD = 0x80, XBASE = 0x10, XLMT = 0x18,
	G3_INTVEC = 0xd0, G3_PPD = 0xd4, G3_LNKSTS = 0x1a2, G3_EMLMT = 0x4018, G3_EMBAR = 0x4518,
	G4_INTVEC = 0x50, G4_BASEIDX = 0x74, G4_LNKCTL = 0xb050, G4_LNKSTS = 0xb052, G4_SLOTSTS = 0xb05a, G4_PPD0 = 0xb0d4,
	G3_LINK_DISABLE = 2, G4_LINK_DISABLE = 0x10, G4_LINK_TRAIN = 8, DLLSC = 0x100, LINK_ACTIVE = 0x2000, WIDTH = 16,
};


#define COMMON                                                                                        \
	{ XBASE, 8, 1, R_XBASE, 0, ~0xfffull, 0 }, { XBASE + BARS_SHIFT, 8, 1, R_XBASE, 0, ~0xfffull, 0 }, \
	{ XLMT, 8, 1, R_XLMT, 0, ~0ull, 0 }, { XLMT + BARS_SHIFT, 8, 1, R_XLMT, 0, ~0ull, 0 },             \
	{ STATUS, 8, 1, R_STATUS, 0, 0, 0x1ffffffff }, { DISABLE, 8, 1, R_DISABLE, 0x1ffffffff, 0x1ffffffff, 0 }, \
	{ SPAD, 4, 16, R_NONE, 0, 0xffffffff, 0 }, { 0x100, 4, 32, R_BELL, 0, 0, 0 }

static const struct rig_reg gen3_regs[] = {
	{ 0x0000, 4, 1, R_CNTL, 3, 0xffffffff, 0 },	/* locked, link disabled */
	COMMON,
	{ 0x0070, 2, 1, R_NONE, 0, 0, 0 },		/* USMEMMISS */
	{ G3_INTVEC, 1, VECTORS, R_NONE, 0, 0xff, 0 },
	{ 0x0180, 4, 16, R_PEER_SPAD, 0, 0, 0 },
	{ 0x4008, 8, 2, R_NONE, 0, ~0ull, 0 },		/* EMBAR0XBASE, EMBAR1XBASE */
	{ 0x4020, 8, 1, R_NONE, 0, ~0ull, 0 },		/* EMBAR2XBASE */
	{ G3_EMLMT, 8, 1, R_EMLMT, 0, ~0ull, 0 }, { G3_EMLMT + BARS_SHIFT, 8, 1, R_EMLMT, 0, ~0ull, 0 },
	{ 0x4504, 2, 1, R_NONE, 0, 0x0546, 0 },		/* SPCICMD */
	{ 0x4510, 8, 3, R_EMBAR, 0, 0, 0 },		/* EMBAR0..2, as firmware has set them */
};

static const struct rig_reg gen4_regs[] = {
	{ 0x0000, 4, 1, R_CNTL, 0, 0xffffffff, 0 },
	COMMON,
	{ G4_INTVEC, 1, VECTORS, R_NONE, 0, 0xff, 0 },
	{ G4_BASEIDX, 2, 2, R_BASEIDX, 0, 0xffff, 0 },
	{ 0x30ec, 1, 1, R_NONE, 0, 0xff, 0 }, { 0x30f0, 4, 2, R_NONE, 0, 0xffffffff, 0 },	/* latency tolerance */
	{ 0x8080, 4, 16, R_PEER_SPAD, 0, 0, 0 },
	{ G4_LNKCTL, 2, 1, R_LNKCTL, G4_LINK_DISABLE, 0xffff, 0 },
	{ G4_LNKSTS, 2, 1, R_LNKSTS, 0, 0, 0 },
	{ G4_SLOTSTS, 2, 1, R_SLOTSTS, 0, 0, DLLSC },
	{ G4_PPD0, 4, 1, R_PPD0, 0, G4_LINK_TRAIN, 0 },
	{ 0xb4c0, 4, 1, R_PPD1, 0, 0, 0 },
};

static bool is_gen3(const struct rig_fn *fn)
{
	return fn->pair->conf.family == RIG_INTEL_GEN3;
}

static unsigned intvec(const struct rig_fn *fn)
{
	return is_gen3(fn) ? G3_INTVEC : G4_INTVEC;
}

/* Bits that have just become able to interrupt. */
static void fire(struct rig_fn *fn, uint64_t bits)
{
	for (unsigned b = 0; b < VECTORS; b++) {
		if (bits >> b & 1)
			rig_interrupt(fn, (unsigned)rig_load(fn, intvec(fn) + b, 1));
	}
}

static void raise_bits(struct rig_fn *fn, uint64_t bits)
{
	uint64_t old = rig_load(fn, STATUS, 8);

	rig_store(fn, STATUS, 8, old | bits);
	fire(fn, bits & ~old & ~rig_load(fn, DISABLE, 8));
}

static uint16_t link_status(const struct rig_fn *fn)
{
	/* active, width, speed; "Link Up Gen4 x16" in the driver's log */
	return rig_pair_link_is_up(fn->pair) ? LINK_ACTIVE | WIDTH << 4 | (is_gen3(fn) ? 3 : 4) : 0;
}

static void reset(struct rig_fn *fn)
{
	bool spr = fn->pair->conf.family == RIG_INTEL_SPR;

	/* vectors after reset are 1 to 32, and 0 for the link (comment in gen3_init_isr()) */
	for (unsigned b = 0; b < VECTORS; b++)
		rig_store(fn, intvec(fn) + b, 1, b == LINK_BIT ? 0 : b + 1);
	if (is_gen3(fn)) {
		for (unsigned i = 0; i < 3; i++)
			rig_store(fn, 0x4510 + 8 * i, 8, (0x2000000000000000ull << i) | 0xc);
	} else {
		rig_store(fn, 0xb4c0, 4, 0x0200 | (fn->info.host ? (spr ? 0x4000 : 0x1000) : 0));
	}
}

static uint64_t get(struct rig_fn *fn, const struct rig_reg *reg, unsigned idx, uint64_t stored)
{
	switch (reg->id) {
	case R_PEER_SPAD:
		return rig_peer_read(fn) ? rig_load(rig_peer(fn), SPAD + 4 * idx, 4) : 0xffffffff;
	case R_LNKSTS:
		return link_status(fn);
	default:
		return stored;
	}
}

static void ring(struct rig_fn *fn, unsigned bit)
{
	struct rig_fn *peer = rig_peer(fn);
	bool twice;

	if (!rig_bell_passes(fn, &twice))
		return;
	raise_bits(peer, 1ull << bit);
	if (twice && !(rig_load(peer, DISABLE, 8) >> bit & 1))
		fire(peer, 1ull << bit);
}

static void wrote(struct rig_fn *fn, const struct rig_reg *reg, unsigned idx, uint64_t written, uint64_t old)
{
	switch (reg->id) {
	case R_CNTL:
	case R_LNKCTL:
	case R_PPD0:
		rig_link_check(fn->pair);
		break;
	case R_XBASE:
		if (fn->pair->conf.family != RIG_INTEL_SPR) {
			uint64_t size = fn->info.bar[reg->off == XBASE ? 2 : 4].size;

			rig_store(fn, reg->off, 8, rig_load(fn, reg->off, 8) & ~(size - 1));
		}
		rig_window_moved(rig_peer(fn));
		break;
	case R_XLMT:
	case R_BASEIDX:
	case R_EMLMT:
		rig_window_moved(rig_peer(fn));
		break;
	case R_STATUS:
		if (!is_gen3(fn) && rig_load(fn, G4_SLOTSTS, 2) & DLLSC)
			rig_store(fn, STATUS, 8, rig_load(fn, STATUS, 8) | (old & 1ull << LINK_BIT));
		break;
	case R_DISABLE:
		fire(fn, rig_load(fn, STATUS, 8) & old & ~rig_load(fn, DISABLE, 8));
		break;
	case R_BELL:
		if (written & 1)
			ring(fn, idx);
		break;
	case R_PEER_SPAD:
		/* whole registers only arrive; the drivers write no others */
		if (rig_peer_write(fn))
			rig_store(rig_peer(fn), SPAD + 4 * idx, 4, written);
		break;
	}
}

static bool wants_link(const struct rig_fn *fn)
{
	if (is_gen3(fn))
		return !(rig_load(fn, 0, 4) & G3_LINK_DISABLE);
	return !(rig_load(fn, G4_LNKCTL, 2) & G4_LINK_DISABLE) && rig_load(fn, G4_PPD0, 4) & G4_LINK_TRAIN;
}

static void link_changed(struct rig_fn *fn, bool up)
{
	uint16_t sts = link_status(fn);

	if (is_gen3(fn)) {
		fn->cfg.val[G3_LNKSTS] = (uint8_t)sts;
		fn->cfg.val[G3_LNKSTS + 1] = (uint8_t)(sts >> 8);
	} else {
		rig_store(fn, G4_SLOTSTS, 2, DLLSC);
	}
	raise_bits(fn, 1ull << LINK_BIT);
}

/* Length that the peer's limit register leaves of a BAR at @base. */
static uint64_t limited(uint64_t limit, uint64_t base, uint64_t size)
{
	return limit < base || limit - base > size ? 0 : limit - base;
}

static int window(const struct rig_fn *fn, int bar, uint64_t off, uint64_t *addr, uint64_t *len)
{
	const struct rig_fn *peer = rig_peer(fn);
	unsigned i = (unsigned)(bar - 2) / 2;
	uint64_t size = limited(rig_load(peer, XLMT + BARS_SHIFT * i, 8), rig_fn_bar_base(peer, bar), peer->info.bar[bar].size);

	if (is_gen3(fn)) {
		uint64_t em = limited(rig_load(peer, G3_EMLMT + BARS_SHIFT * i, 8), rig_load(peer, G3_EMBAR + 8 * i, 8) & ~15ull,
				      peer->info.bar[bar].size);

		size = em < size ? em : size;
	}
	if (off >= size)
		return -ENXIO;
	if (fn->pair->conf.family == RIG_INTEL_ICX && rig_load(peer, G4_BASEIDX + 2 * i, 2) != 63 - (unsigned)__builtin_clzll(size))
		return -ENXIO;
	*addr = rig_load(peer, XBASE + BARS_SHIFT * i, 8) + off;
	*len = size - off;
	return 0;
}

static const struct rig_fn_ops ops = {
	.reset = reset, .get = get, .wrote = wrote, .wants_link = wants_link, .link_changed = link_changed, .window = window,
};

struct rig_fn *rig_intel_new(struct rig_pair *pair, int host)
{
	static const char *const names[2][3] = {
		{ "gen3 port 0", "ICX port 0", "SPR port 0" }, { "gen3 port 1", "ICX port 1", "SPR port 1" },
	};
	static const uint8_t revision[] = { 0x07, 0x04, 0x11 };
	/* DEVCTL is at 0x98 in generation 3 and 0x48 in 4, hence the capability */
	static const struct rig_cfg_layout layout[2] = {
		{ .exp = 0x90, .pm = 0xe0, .msix = 0x80, .class_code = 0x068000, .speed = 3, .width = WIDTH },
		{ .exp = 0x40, .pm = 0x80, .msix = 0x90, .class_code = 0x068000, .speed = 4, .width = WIDTH },
	};
	bool gen3 = pair->conf.family == RIG_INTEL_GEN3;
	struct rig_fn_info info = {
		.name = names[host][pair->conf.family], .host = host,
		.vendor = 0x8086, .device = gen3 ? 0x201c : 0x347e, .revision = revision[pair->conf.family],
		.bar = { [0] = { 0x10000, true, true, false }, [2] = { pair->conf.window_size[0], true, true, true },
			 [4] = { pair->conf.window_size[1], true, true, true } },
		.vectors = VECTORS, .msix_table = 0xc000, .msix_pba = 0xd000,	/* a choice; Linux wants 33 entries */
	};
	struct rig_fn *fn = rig_fn_new(pair, sizeof(*fn), &info, &ops, gen3 ? gen3_regs : gen4_regs,
				       gen3 ? sizeof(gen3_regs) / sizeof(*gen3_regs) : sizeof(gen4_regs) / sizeof(*gen4_regs));
	unsigned size_at = gen3 ? 0xd0 : 0xc4;

	if (!fn)
		return NULL;
	fn->port = true;
	rig_cfg_init(fn, &layout[!gen3]);
	/* log2 of the windows, twice: as seen from inside and from outside; firmware sets them */
	for (unsigned i = 0; i < 4; i++)
		rig_cfg_set(fn, size_at + i, 1, (unsigned)__builtin_ctzll(pair->conf.window_size[i & 1]), 0);
	if (gen3)
		rig_cfg_set(fn, G3_PPD, 1, host ? 0x11 : 0x01, 0);	/* back to back, and which end */
	return fn;
}
