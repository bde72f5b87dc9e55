// SPDX-License-Identifier: BSD-2-Clause
/*
 * intel.c - Intel bridges: generation 3 (Skylake, Cascade Lake) and 4 and later (Ice Lake to Granite Rapids)
 *
 * Each side programs where the *peer's* windows lead to in its own memory: XBASE is a DMA address, and XLMT is the end
 * of what is open, counted, oddly, from the base address that our own BAR of that number has.  XLMT equal to that base:
 * nothing is open.  On gen3 and Ice Lake an address must be a multiple of the BAR's size; Sapphire Rapids and later
 * take any page.
 *
 * Ice Lake also wants the logarithm of a window's size; what it would make of a size that is no power of two nobody
 * says, so it gets none.
 *
 * The steps and their order are those of the Linux driver, so that the two can be compared access by access.
 * Doorbell i fires vector i, the link the one after the last (gen3: the last two status bits both tell of the link and
 * share the last doorbell's vector).  With fewer vectors than that the last one carries all that is left.
 *
 * Gen3 keeps the link as firmware or an earlier driver left it until link_enable() or link_disable(); gen4 and later
 * are disabled by probe().
 */
#include "ntb.h"

#include <errno.h>
#include "intel_regs.h"

struct ntbs_intel_gen {
	uint64_t bells, link_bits;
	unsigned link_vector;		/* with all vectors there */
	uint64_t intvec, peer_spad, bar0_min, ppd0;
	bool gen3;
};

static const struct ntbs_intel_gen gen3 = {
	.bells = INTEL3_BELLS, .link_bits = INTEL3_LINK_BITS, .link_vector = INTEL3_LINK_VECTOR,
	.intvec = INTEL3_INTVEC(0), .peer_spad = INTEL3_PEER_SPAD(0), .bar0_min = INTEL3_BAR0_MIN, .gen3 = true,
};
static const struct ntbs_intel_gen gen4 = {
	.bells = INTEL4_BELLS, .link_bits = INTEL4_LINK_BITS, .link_vector = INTEL4_LINK_VECTOR,
	.intvec = INTEL4_INTVEC(0), .peer_spad = INTEL4_PEER_SPAD(0), .bar0_min = INTEL4_BAR0_MIN, .ppd0 = INTEL4_PPD0,
};
static const struct ntbs_intel_gen gen6 = {
	.bells = INTEL4_BELLS, .link_bits = INTEL4_LINK_BITS, .link_vector = INTEL4_LINK_VECTOR,
	.intvec = INTEL4_INTVEC(0), .peer_spad = INTEL4_PEER_SPAD(0), .bar0_min = INTEL4_BAR0_MIN, .ppd0 = INTEL6_PPD0,
};

static bool is_gen1(uint16_t device)
{
	static const uint16_t ids[] = { INTEL_IDS_GEN1 };

	for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		if (ids[i] == device)
			return true;
	}
	return false;
}

static bool match(const struct ntbs_regs *regs)
{
	return regs->vendor == INTEL_VENDOR &&
	       (regs->device == INTEL_ID_SKX || regs->device == INTEL_ID_ICX || regs->device == INTEL_ID_GNR ||
		regs->device == INTEL_ID_DMR || is_gen1(regs->device));
}

/* The vector that status bit @bit fires. */
static unsigned vector_of(const struct ntbs_ntb *ntb, unsigned bit)
{
	unsigned v = ntb->intel.gen->bells >> bit & 1 ? bit : ntb->intel.gen->link_vector;

	return v < ntb->nr_vectors ? v : ntb->nr_vectors - 1;
}

static int gone(struct ntbs_ntb *ntb)
{
	return ntbs_ntb_fail(ntb, ENODEV, "its registers read all ones: powered down, unplugged, or not decoded");
}

/* --------------------------------------------------------------------------- probe */

static int windows(struct ntbs_ntb *ntb, bool any_page)
{
	struct ntbs_regs *regs = ntb->regs;

	for (unsigned i = 0; i < INTEL_NR_WINDOWS; i++) {
		const struct ntbs_bar *bar = &regs->bar[INTEL_WINDOW_BAR(i)];

		if (!bar->bytes || !bar->is_64bit)
			return ntbs_ntb_fail(ntb, ENOTSUP, "BAR%u is %s: give both windows a size in the firmware's setup",
					     INTEL_WINDOW_BAR(i), bar->bytes ? "a 32-bit one (split BARs)" : "not there");
		ntb->window[i] = (struct ntbs_ntb_window){
			.bar = INTEL_WINDOW_BAR(i), .bytes = bar->bytes,
			.addr_align = any_page ? 4096 : bar->bytes, .size_align = 1, .size_pow2 = ntb->intel.ice_lake,
		};
	}
	ntb->nr_windows = INTEL_NR_WINDOWS;
	return 0;
}

/* Nothing of our memory is open: limits where no address reaches them, then the bases. */
static void close_windows(struct ntbs_ntb *ntb)
{
	for (unsigned i = 0; i < INTEL_NR_WINDOWS; i++) {
		ntbs_write64(ntb->regs, INTEL_XLMT(i), INTEL_XLMT_PARK(i));
		ntbs_read64(ntb->regs, INTEL_XLMT(i));	/* not compared: hardware rounds */
	}
	for (unsigned i = 0; i < INTEL_NR_WINDOWS; i++)
		ntbs_write64(ntb->regs, INTEL_XBASE(i), 0);
}

static void mask_all(struct ntbs_ntb *ntb)
{
	ntb->masked = ntb->bells;
	ntbs_write64(ntb->regs, INTEL_INT_DISABLE, ntb->bells);	/* the link's bits stay open */
}

static void map_vectors(struct ntbs_ntb *ntb)
{
	for (unsigned i = 0; i < INTEL_NR_VECTORS; i++)
		ntbs_write8(ntb->regs, ntb->intel.gen->intvec + i, i < ntb->nr_vectors ? i : ntb->nr_vectors - 1);
	if (ntb->intel.gen->gen3)	/* the erratum: bit 32 goes where bit 31 goes */
		ntbs_write8(ntb->regs, ntb->intel.gen->intvec + 32, vector_of(ntb, 32));
	mask_all(ntb);
}

static int probe_gen3(struct ntbs_ntb *ntb)
{
	uint8_t ppd = ntbs_cfg_read(ntb->regs, INTEL3_CFG_PPD, 1);

	ntb->family = "Intel gen3";
	if (ppd == 0xff)
		return gone(ntb);
	if ((ppd & INTEL3_PPD_MASK) == INTEL3_PPD_USD) {
		ntb->topology = "B2B USD";
		ntb->side = NTBS_NTB_SIDE_A;
	} else if ((ppd & INTEL3_PPD_MASK) == INTEL3_PPD_DSD) {
		ntb->topology = "B2B DSD";
		ntb->side = NTBS_NTB_SIDE_B;
	} else {
		return ntbs_ntb_fail(ntb, ENOTSUP, "PPD is %#x: not in NTB-to-NTB mode; the firmware's setup sets that",
				     ppd);
	}
	if (windows(ntb, false))
		return -ENOTSUP;
	close_windows(ntb);
	ntbs_write16(ntb->regs, INTEL3_SPCICMD, INTEL3_SPCICMD_ON);
	mask_all(ntb);
	map_vectors(ntb);
	return 0;
}

static int probe_gen4(struct ntbs_ntb *ntb)
{
	uint32_t ppd = ntbs_read32(ntb->regs, INTEL4_PPD1);
	uint32_t mask = ntb->intel.ice_lake ? INTEL4_PPD1_MASK_ICX : INTEL4_PPD1_MASK_SPR;

	if (ppd == UINT32_MAX)
		return gone(ntb);
	if ((ppd & mask) == (ntb->intel.ice_lake ? INTEL4_PPD1_USD_ICX : INTEL4_PPD1_USD_SPR)) {
		ntb->topology = "B2B USD";
		ntb->side = NTBS_NTB_SIDE_A;
	} else if ((ppd & mask) == (ntb->intel.ice_lake ? INTEL4_PPD1_DSD_ICX : INTEL4_PPD1_DSD_SPR)) {
		ntb->topology = "B2B DSD";
		ntb->side = NTBS_NTB_SIDE_B;
	} else {
		return ntbs_ntb_fail(ntb, ENOTSUP, "PPD1 is %#x: not in NTB-to-NTB mode; the firmware's setup sets that",
				     ppd);
	}
	if (windows(ntb, !ntb->intel.ice_lake))
		return -ENOTSUP;
	close_windows(ntb);
	mask_all(ntb);
	ntbs_write16(ntb->regs, INTEL4_LINK_CTRL, ntbs_read16(ntb->regs, INTEL4_LINK_CTRL) | INTEL4_LINK_CTRL_DISABLE);
	map_vectors(ntb);
	return 0;
}

static uint16_t link_status(struct ntbs_ntb *ntb);

static int probe(struct ntbs_ntb *ntb)
{
	struct ntbs_regs *regs = ntb->regs;
	int ret;

	if (is_gen1(regs->device))
		return ntbs_ntb_fail(ntb, ENOTSUP,
				     "%04x is of generation 1 (before Skylake), whose errata leave no safe doorbells",
				     regs->device);
	ntb->intel.gen = regs->device == INTEL_ID_SKX ? &gen3 : regs->device == INTEL_ID_DMR ? &gen6 : &gen4;
	ntb->intel.ice_lake = regs->device == INTEL_ID_ICX && regs->revision <= INTEL_ICX_LAST_REVISION;
	ntb->family = ntb->intel.gen->gen3 ? "Intel gen3" :
		      ntb->intel.ice_lake ? "Intel gen4 (Ice Lake)" :
		      ntb->intel.gen == &gen6 ? "Intel gen6" : "Intel gen5 (Sapphire Rapids and later)";
	if (regs->bar[0].bytes < ntb->intel.gen->bar0_min)
		return ntbs_ntb_fail(ntb, ENOTSUP, "BAR0 has %#llx bytes, the registers take %#llx",
				     (unsigned long long)regs->bar[0].bytes,
				     (unsigned long long)ntb->intel.gen->bar0_min);
	ntb->nr_vectors = regs->nr_vectors < INTEL_NR_VECTORS ? regs->nr_vectors : INTEL_NR_VECTORS;
	ntb->nr_spads = INTEL_NR_SPADS;
	ntb->bells = ntb->intel.gen->bells;
	ret = ntb->intel.gen->gen3 ? probe_gen3(ntb) : probe_gen4(ntb);
	if (ret)
		return ret;
	ntb->intel.link_sta = link_status(ntb);
	return 0;
}

/* ---------------------------------------------------------------------------- link */

/* Acknowledges what told of a change, then looks: a change in between tells again. */
static uint16_t link_status(struct ntbs_ntb *ntb)
{
	if (!ntb->intel.gen->gen3)
		/* Before the status bit, or it sets that again. */
		ntbs_write16(ntb->regs, INTEL4_SLOTSTS, INTEL4_SLOTSTS_DLLSC);
	ntbs_write64(ntb->regs, INTEL_INT_STATUS, ntb->intel.gen->link_bits);
	return ntb->intel.gen->gen3 ? ntbs_cfg_read(ntb->regs, INTEL3_CFG_LNKSTS, 2) :
				      ntbs_read16(ntb->regs, INTEL4_LINK_STATUS);
}

static int link_enable(struct ntbs_ntb *ntb)
{
	struct ntbs_regs *regs = ntb->regs;
	uint32_t cntl, ppd;

	if (ntb->intel.gen->gen3) {
		cntl = ntbs_read32(regs, INTEL_NTBCNTL);
		if (cntl == UINT32_MAX)
			return gone(ntb);
		cntl &= ~(INTEL_CNTL_LINK_DISABLE | INTEL_CNTL_CFG_LOCK);
		ntbs_write32(regs, INTEL_NTBCNTL, cntl | INTEL_CNTL_SNOOP);
		return 0;
	}
	if (!ntb->intel.ice_lake) {
		ntbs_write32(regs, INTEL4_LTR_ACTIVE, INTEL4_LTR_ACTIVE_VALUE);
		ntbs_write32(regs, INTEL4_LTR_IDLE, INTEL4_LTR_IDLE_VALUE);
		ntbs_write8(regs, INTEL4_LTR_SWSEL, INTEL4_LTR_SWSEL_ACTIVE);
	}
	ntbs_write32(regs, INTEL_NTBCNTL, INTEL_CNTL_SNOOP);
	ntbs_write16(regs, INTEL4_LINK_CTRL, ntbs_read16(regs, INTEL4_LINK_CTRL) & ~INTEL4_LINK_CTRL_DISABLE);
	ppd = ntbs_read32(regs, ntb->intel.gen->ppd0);
	if (ppd == UINT32_MAX)
		return gone(ntb);
	ntbs_write32(regs, ntb->intel.gen->ppd0, ppd | INTEL4_PPD0_LINK_TRAIN);
	ppd = ntbs_read32(regs, ntb->intel.gen->ppd0);
	if (!(ppd & INTEL4_PPD0_LINK_TRAIN))
		return ntbs_ntb_fail(ntb, EIO, "PPD0 reads %#x after training was asked for: the port does not train", ppd);
	return 0;
}

static int link_disable(struct ntbs_ntb *ntb)
{
	struct ntbs_regs *regs = ntb->regs;
	uint32_t cntl;

	cntl = ntbs_read32(regs, INTEL_NTBCNTL);
	if (cntl == UINT32_MAX)
		return gone(ntb);
	cntl &= ~INTEL_CNTL_SNOOP;
	if (ntb->intel.gen->gen3) {
		ntbs_write32(regs, INTEL_NTBCNTL, cntl | INTEL_CNTL_LINK_DISABLE | INTEL_CNTL_CFG_LOCK);
		return 0;
	}
	ntbs_write32(regs, INTEL_NTBCNTL, cntl);
	ntbs_write16(regs, INTEL4_LINK_CTRL, ntbs_read16(regs, INTEL4_LINK_CTRL) | INTEL4_LINK_CTRL_DISABLE);
	if (!ntb->intel.ice_lake)
		ntbs_write8(regs, INTEL4_LTR_SWSEL, INTEL4_LTR_SWSEL_IDLE);
	ntbs_write32(regs, ntb->intel.gen->ppd0, ntbs_read32(regs, ntb->intel.gen->ppd0) & ~INTEL4_PPD0_LINK_TRAIN);
	return 0;
}

static int link_state(struct ntbs_ntb *ntb, struct ntbs_ntb_link *link)
{
	uint16_t sta = ntb->intel.gen->gen3 ? ntbs_cfg_read(ntb->regs, INTEL3_CFG_LNKSTS, 2) :
					      ntbs_read16(ntb->regs, INTEL4_LINK_STATUS);

	if (sta == 0xffff)
		return gone(ntb);
	link->up = sta & INTEL_LNKSTS_ACTIVE;
	if (link->up) {
		link->speed = INTEL_LNKSTS_SPEED(sta);
		link->width = INTEL_LNKSTS_WIDTH(sta);
	}
	return 0;
}

/* ------------------------------------------------------------------------- windows */

static int write_back(struct ntbs_ntb *ntb, const char *name, uint64_t at, uint64_t value)
{
	uint64_t got;

	ntbs_write64(ntb->regs, at, value);
	got = ntbs_read64(ntb->regs, at);
	if (got == value)
		return 0;
	return ntbs_ntb_fail(ntb, EIO, "%s took %#llx and reads %#llx", name, (unsigned long long)value,
			     (unsigned long long)got);
}

/* @bytes 0 closes: the limit is then the base. */
static int translate(struct ntbs_ntb *ntb, unsigned i, uint64_t iova, uint64_t bytes)
{
	struct ntbs_regs *regs = ntb->regs;
	uint64_t base = regs->bar[INTEL_WINDOW_BAR(i)].addr, outer;
	uint16_t idx;
	int ret;

	ret = write_back(ntb, "XBASE", INTEL_XBASE(i), iova);
	if (ret)
		return ret;
	ret = write_back(ntb, "XLMT", INTEL_XLMT(i), base + bytes);
	if (ret) {
		ntbs_write64(regs, INTEL_XLMT(i), base);	/* not open to who knows where */
		ntbs_write64(regs, INTEL_XBASE(i), 0);
		return ret;
	}
	if (ntb->intel.gen->gen3) {
		/* The outer half of the bridge checks the same limit, counted from the base that it knows. */
		outer = ntbs_read64(regs, INTEL3_EMBAR_BASE(i)) & ~0xfull;
		return write_back(ntb, "EMBAR limit", INTEL3_EMBAR_XLMT(i), outer + bytes);
	}
	if (ntb->intel.ice_lake) {
		uint16_t log2_bytes = bytes ? 63 - __builtin_clzll(bytes) : INTEL4_XBASEIDX_NONE;

		ntbs_write16(regs, INTEL4_XBASEIDX(i), log2_bytes);
		idx = ntbs_read16(regs, INTEL4_XBASEIDX(i));
		if (idx != log2_bytes)
			return ntbs_ntb_fail(ntb, EIO, "XBASEIDX took %u and reads %u", log2_bytes, idx);
	}
	return 0;
}

static int set_window(struct ntbs_ntb *ntb, unsigned i, uint64_t iova, uint64_t bytes)
{
	return translate(ntb, i, iova, bytes);
}

static int clear_window(struct ntbs_ntb *ntb, unsigned i)
{
	return translate(ntb, i, 0, 0);
}

/* ----------------------------------------------------------------------- doorbells */

static uint64_t vector_bells(struct ntbs_ntb *ntb, unsigned vector)
{
	uint64_t bits = 0;

	for (unsigned bit = 0; bit < INTEL_NR_VECTORS; bit++) {
		if (vector_of(ntb, bit) == vector)
			bits |= 1ull << bit;
	}
	return bits & ntb->bells;
}

static uint64_t take(struct ntbs_ntb *ntb, uint64_t of, bool look_at_link)
{
	uint64_t pending = ntbs_read64(ntb->regs, INTEL_INT_STATUS), bits;
	uint16_t sta;

	if (pending == UINT64_MAX)
		return NTBS_NTB_EVENT_LINK;	/* gone: link_state() says so */
	bits = pending & of & ~ntb->masked;
	if (bits)
		ntbs_write64(ntb->regs, INTEL_INT_STATUS, bits);
	if (look_at_link) {
		sta = link_status(ntb);
		if (sta != ntb->intel.link_sta)
			bits |= NTBS_NTB_EVENT_LINK;
		ntb->intel.link_sta = sta;
	}
	return bits;
}

static uint64_t irq(struct ntbs_ntb *ntb, unsigned vector)
{
	return take(ntb, vector_bells(ntb, vector), vector == vector_of(ntb, INTEL_NR_VECTORS - 1));
}

static uint64_t poll_all(struct ntbs_ntb *ntb)
{
	return take(ntb, ntb->bells, true);
}

static uint64_t db_read(struct ntbs_ntb *ntb)
{
	return ntbs_read64(ntb->regs, INTEL_INT_STATUS);
}

static void db_ack(struct ntbs_ntb *ntb, uint64_t bits)
{
	ntbs_write64(ntb->regs, INTEL_INT_STATUS, bits);
}

static void db_mask(struct ntbs_ntb *ntb, uint64_t masked)
{
	ntbs_write64(ntb->regs, INTEL_INT_DISABLE, masked);
}

static void db_ring(struct ntbs_ntb *ntb, uint64_t bits)
{
	for (; bits; bits &= bits - 1)
		ntbs_write32(ntb->regs, INTEL_DOORBELL(__builtin_ctzll(bits)), 1);
}

static int db_register(struct ntbs_ntb *ntb, uint64_t bit, struct ntbs_ntb_bell *bell)
{
	*bell = (struct ntbs_ntb_bell){ .offset = INTEL_DOORBELL(__builtin_ctzll(bit)), .bytes = 4, .value = 1 };
	return 0;
}

/* --------------------------------------------------------------------- scratchpads */

static uint32_t spad_read(struct ntbs_ntb *ntb, unsigned i)
{
	return ntbs_read32(ntb->regs, INTEL_SPAD(i));
}

static void spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value)
{
	ntbs_write32(ntb->regs, INTEL_SPAD(i), value);
}

static uint32_t peer_spad_read(struct ntbs_ntb *ntb, unsigned i)
{
	return ntbs_read32(ntb->regs, ntb->intel.gen->peer_spad + 4 * i);
}

static void peer_spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value)
{
	ntbs_write32(ntb->regs, ntb->intel.gen->peer_spad + 4 * i, value);
}

static void shutdown_port(struct ntbs_ntb *ntb)
{
	mask_all(ntb);
	for (unsigned i = 0; i < ntb->nr_windows; i++)
		clear_window(ntb, i);
	link_disable(ntb);
}

const struct ntbs_ntb_ops ntbs_intel_ops = {
	.name = "intel", .match = match, .probe = probe,
	.set_window = set_window, .clear_window = clear_window,
	.link_enable = link_enable, .link_disable = link_disable, .link_state = link_state,
	.irq = irq, .poll = poll_all,
	.db_read = db_read, .db_ack = db_ack, .db_mask = db_mask, .db_ring = db_ring,
	.db_register = db_register, .vector_bells = vector_bells,
	.spad_read = spad_read, .spad_write = spad_write,
	.peer_spad_read = peer_spad_read, .peer_spad_write = peer_spad_write,
	.shutdown = shutdown_port,
};
