// SPDX-License-Identifier: BSD-2-Clause
/*
 * amd.c - AMD bridges (Zen), and Hygon's
 *
 * Here a side programs the translation that the *peer's* stores take through the peer's bank of registers (+0x400); a
 * limit is a size.  Any page will do.  There is one bank of 16 scratchpads: the primary side reads the first eight,
 * the secondary the others.
 *
 * The link is what firmware trained; what the two drivers tell each other is READY in SIDEINFO.  A peer that crashed
 * leaves its READY set until an event says that the link went down, so after such an event READY counts only once it
 * was seen off, or an event said that the link is up again.  READY is set by link_enable() and not before, so that
 * "up" means that both sides want it.
 *
 * Doorbell i fires vector i, vectors from 16 on tell events, one at a time; nothing maps them elsewhere.  With fewer
 * vectors than that there are fewer doorbells, and events are found by polling.
 */
#include "ntb.h"

#include <errno.h>
#include "amd_regs.h"

#define PCI_CAP_EXPRESS 0x10
#define PCI_EXPRESS_LINK 0x10	/* Link Control and Link Status: PCI Express Base 3.0, 7.8.7 */

static bool match(const struct ntbs_regs *regs)
{
	static const uint16_t ids[] = { AMD_IDS };

	if ((regs->vendor == AMD_VENDOR || regs->vendor == HYGON_VENDOR) && regs->device == AMD_ID_ZEN1)
		return true;
	for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		if (regs->vendor == AMD_VENDOR && regs->device == ids[i])
			return true;
	}
	return false;
}

static int gone(struct ntbs_ntb *ntb)
{
	return ntbs_ntb_fail(ntb, ENODEV, "its registers read all ones: powered down, unplugged, or not decoded");
}

/* BAR of window @i: 1, 2, 4 where there is a BAR 1; else 2, 4. */
static unsigned bar_of(const struct ntbs_ntb *ntb, unsigned i)
{
	static const uint8_t bars[] = { 1, 2, 4 };

	return bars[ntb->amd.has_bar1 ? i : i + 1];
}

static bool peer_ready(struct ntbs_ntb *ntb)
{
	ntb->amd.peer_info = ntbs_read32(ntb->regs, AMD_PEER + AMD_SIDEINFO);
	return ntb->amd.peer_info != UINT32_MAX && ntb->amd.peer_info & AMD_SIDE_READY;
}

/* --------------------------------------------------------------------------- probe */

static int windows(struct ntbs_ntb *ntb)
{
	ntb->amd.has_bar1 = ntb->regs->device == AMD_ID_ZEN1 && ntb->regs->bar[1].bytes;
	ntb->nr_windows = ntb->amd.has_bar1 ? 3 : 2;
	for (unsigned i = 0; i < ntb->nr_windows; i++) {
		unsigned b = bar_of(ntb, i);

		if (!ntb->regs->bar[b].bytes)
			return ntbs_ntb_fail(ntb, ENOTSUP, "BAR%u is not there: the firmware's setup gives windows a size",
					     b);
		ntb->window[i] = (struct ntbs_ntb_window){
			.bar = b, .bytes = ntb->regs->bar[b].bytes, .addr_align = 4096, .size_align = 1,
		};
	}
	return 0;
}

static int probe(struct ntbs_ntb *ntb)
{
	struct ntbs_regs *regs = ntb->regs;
	uint32_t info;

	ntb->family = regs->vendor == HYGON_VENDOR ? "Hygon" : "AMD";
	if (regs->bar[0].bytes < AMD_BAR0_MIN)
		return ntbs_ntb_fail(ntb, ENOTSUP, "BAR0 has %#llx bytes, the registers take %#x",
				     (unsigned long long)regs->bar[0].bytes, AMD_BAR0_MIN);
	info = ntbs_read32(regs, AMD_SIDEINFO);
	if (info == UINT32_MAX)
		return gone(ntb);
	ntb->side = info & AMD_SIDE_SECONDARY ? NTBS_NTB_SIDE_B : NTBS_NTB_SIDE_A;
	ntb->topology = ntb->side == NTBS_NTB_SIDE_B ? "secondary" : "primary";
	if (windows(ntb))
		return -ENOTSUP;
	ntb->nr_spads = AMD_NR_SPADS;
	ntb->nr_vectors = regs->nr_vectors < AMD_NR_VECTORS ? regs->nr_vectors : AMD_NR_VECTORS;
	ntb->bells = ntb->masked = ntb->nr_vectors < 16 ? AMD_BELLS & ((1ull << ntb->nr_vectors) - 1) : AMD_BELLS;
	ntb->amd.pcie_cap = ntbs_cfg_find_cap(regs, PCI_CAP_EXPRESS);

	ntbs_write32(regs, AMD_INTMASK, AMD_EVENTS);
	ntbs_write16(regs, AMD_DBMASK, AMD_BELLS);
	ntbs_write32(regs, AMD_INTMASK, AMD_EVENTS_NOT_LINK);
	ntb->poll_ms = 1000;	/* READY of the peer comes without an interrupt */
	return 0;
}

/* ---------------------------------------------------------------------------- link */

static int set_ready(struct ntbs_ntb *ntb, bool ready)
{
	uint32_t info = ntbs_read32(ntb->regs, AMD_SIDEINFO);

	if (info == UINT32_MAX)
		return gone(ntb);
	ntbs_write32(ntb->regs, AMD_SIDEINFO, ready ? info | AMD_SIDE_READY : info & ~AMD_SIDE_READY);
	return 0;
}

static int link_enable(struct ntbs_ntb *ntb)
{
	struct ntbs_regs *regs = ntb->regs;
	int ret = set_ready(ntb, true);

	if (ret)
		return ret;
	ntbs_write32(regs, AMD_CNTL, ntbs_read32(regs, AMD_CNTL) | AMD_CNTL_REG_CTL);
	peer_ready(ntb);
	ntbs_write32(regs, AMD_INTMASK, 0);
	return 0;
}

static int link_disable(struct ntbs_ntb *ntb)
{
	int ret;

	ntbs_write32(ntb->regs, AMD_INTMASK, AMD_EVENTS);
	ret = set_ready(ntb, false);
	if (!ret)
		ntbs_write32(ntb->regs, AMD_CNTL, ntbs_read32(ntb->regs, AMD_CNTL) & ~AMD_CNTL_REG_CTL);
	return ret;
}

static int link_state(struct ntbs_ntb *ntb, struct ntbs_ntb_link *link)
{
	uint32_t own = ntbs_read32(ntb->regs, AMD_SIDEINFO), sta = 0;
	bool ready;

	if (own == UINT32_MAX)
		return gone(ntb);
	ready = peer_ready(ntb);
	if (!ready)
		ntb->amd.lost = false;	/* a READY that comes now is fresh */
	link->up = ready && !ntb->amd.lost && own & AMD_SIDE_READY;
	/* On the secondary side the link in use belongs to a switch port above the function, which is not ours to read. */
	if (link->up && ntb->side == NTBS_NTB_SIDE_A && ntb->amd.pcie_cap) {
		sta = ntbs_cfg_read(ntb->regs, ntb->amd.pcie_cap + PCI_EXPRESS_LINK, 4);
		link->speed = sta >> 16 & 0xf;
		link->width = sta >> 20 & 0x3f;
	}
	return 0;
}

/* One event at a time, as the hardware tells them. */
static uint64_t events(struct ntbs_ntb *ntb)
{
	struct ntbs_regs *regs = ntb->regs;
	uint32_t status = ntbs_read32(regs, AMD_INTSTAT);

	if (status == UINT32_MAX)
		return NTBS_NTB_EVENT_LINK;
	status &= AMD_EVENTS;
	if (!status)
		return 0;
	if (status & (AMD_EVENT_RESET | AMD_EVENT_D3 | AMD_EVENT_PMETO | AMD_EVENT_LINK_DOWN))
		ntb->amd.lost = true;
	if (status & (AMD_EVENT_LINK_UP | AMD_EVENT_D0))
		ntb->amd.lost = false;
	if (status & (AMD_EVENT_RESET | AMD_EVENT_LINK_UP | AMD_EVENT_LINK_DOWN))
		ntbs_write32(regs, AMD_SMUACK, ntbs_read32(regs, AMD_SMUACK) |
			     (status & (AMD_EVENT_RESET | AMD_EVENT_LINK_UP | AMD_EVENT_LINK_DOWN)));
	ntbs_write32(regs, AMD_INTSTAT, status);
	return status & ~AMD_EVENT_FLUSH ? NTBS_NTB_EVENT_LINK : 0;
}

/* ------------------------------------------------------------------------- windows */

static int write_back(struct ntbs_ntb *ntb, const char *name, uint64_t at, unsigned len, uint64_t value)
{
	uint64_t got;

	ntb->regs->ops->bar_write(ntb->regs, 0, at, len, value);
	got = ntb->regs->ops->bar_read(ntb->regs, 0, at, len);
	if (got == value)
		return 0;
	return ntbs_ntb_fail(ntb, EIO, "%s took %#llx and reads %#llx", name, (unsigned long long)value,
			     (unsigned long long)got);
}

static int translate(struct ntbs_ntb *ntb, unsigned i, uint64_t iova, uint64_t bytes)
{
	unsigned bar = bar_of(ntb, i);
	uint64_t xlat = AMD_PEER + (bar == 1 ? AMD_XLAT1 : bar == 2 ? AMD_XLAT23 : AMD_XLAT45);
	uint64_t lmt = AMD_PEER + (bar == 1 ? AMD_LMT1 : bar == 2 ? AMD_LMT23 : AMD_LMT45);
	int ret;

	ret = write_back(ntb, "XLAT", xlat, 8, iova);
	if (!ret)
		ret = write_back(ntb, "limit", lmt, bar == 1 ? 4 : 8, bytes);
	return ret;
}

static int set_window(struct ntbs_ntb *ntb, unsigned i, uint64_t iova, uint64_t bytes)
{
	return translate(ntb, i, iova, bytes);
}

/*
 * As the Linux driver closes one.  Whether hardware takes a limit of 0 for "nothing" or for "no limit" is not
 * documented; the address is 0 as well, where behind an IOMMU nothing of ours is mapped.
 */
static int clear_window(struct ntbs_ntb *ntb, unsigned i)
{
	return translate(ntb, i, 0, 0);
}

/* ----------------------------------------------------------------------- doorbells */

static uint64_t vector_bells(struct ntbs_ntb *ntb, unsigned vector)
{
	return vector < AMD_EVENT_VECTOR ? 1ull << vector & ntb->bells : 0;
}

static uint64_t take(struct ntbs_ntb *ntb, uint64_t of)
{
	uint16_t pending = ntbs_read16(ntb->regs, AMD_DBSTAT);
	uint64_t bits;

	if (pending == 0xffff)
		return ntbs_read32(ntb->regs, AMD_SIDEINFO) == UINT32_MAX ? NTBS_NTB_EVENT_LINK : 0;
	bits = pending & of & ~ntb->masked;
	if (bits)
		ntbs_write16(ntb->regs, AMD_DBSTAT, bits);
	return bits;
}

static uint64_t irq(struct ntbs_ntb *ntb, unsigned vector)
{
	uint64_t of = vector_bells(ntb, vector);

	return vector >= AMD_EVENT_VECTOR ? events(ntb) : take(ntb, of);
}

static uint64_t poll_all(struct ntbs_ntb *ntb)
{
	uint32_t before = ntb->amd.peer_info;
	uint64_t bits = take(ntb, ntb->bells) | events(ntb);
	bool ready = peer_ready(ntb);
	uint32_t leaving = ntbs_read16(ntb->regs, AMD_DBSTAT);

	if (leaving != 0xffff && leaving & AMD_BELL_LEAVING)
		ntbs_write16(ntb->regs, AMD_DBSTAT, AMD_BELL_LEAVING);
	if (!ready)
		ntb->amd.lost = false;
	if ((before ^ ntb->amd.peer_info) & AMD_SIDE_READY)
		bits |= NTBS_NTB_EVENT_LINK;
	return bits;
}

static uint64_t db_read(struct ntbs_ntb *ntb)
{
	return ntbs_read16(ntb->regs, AMD_DBSTAT);
}

static void db_ack(struct ntbs_ntb *ntb, uint64_t bits)
{
	ntbs_write16(ntb->regs, AMD_DBSTAT, bits);
}

static void db_mask(struct ntbs_ntb *ntb, uint64_t masked)
{
	ntbs_write16(ntb->regs, AMD_DBMASK, masked | (AMD_BELLS & ~ntb->bells));
}

static void db_ring(struct ntbs_ntb *ntb, uint64_t bits)
{
	ntbs_write16(ntb->regs, AMD_DBREQ, bits);
}

static int db_register(struct ntbs_ntb *ntb, uint64_t bit, struct ntbs_ntb_bell *bell)
{
	*bell = (struct ntbs_ntb_bell){ .offset = AMD_DBREQ, .bytes = 2, .value = bit };
	return 0;
}

/* --------------------------------------------------------------------- scratchpads */

static unsigned first_spad(const struct ntbs_ntb *ntb, bool of_peer)
{
	return (ntb->side == NTBS_NTB_SIDE_B) != of_peer ? AMD_NR_SPADS : 0;
}

static uint32_t spad_read(struct ntbs_ntb *ntb, unsigned i)
{
	return ntbs_read32(ntb->regs, AMD_SPAD(first_spad(ntb, false) + i));
}

static void spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value)
{
	ntbs_write32(ntb->regs, AMD_SPAD(first_spad(ntb, false) + i), value);
}

static uint32_t peer_spad_read(struct ntbs_ntb *ntb, unsigned i)
{
	return ntbs_read32(ntb->regs, AMD_SPAD(first_spad(ntb, true) + i));
}

static void peer_spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value)
{
	ntbs_write32(ntb->regs, AMD_SPAD(first_spad(ntb, true) + i), value);
}

static void shutdown_port(struct ntbs_ntb *ntb)
{
	ntbs_write16(ntb->regs, AMD_DBMASK, AMD_BELLS);
	for (unsigned i = 0; i < ntb->nr_windows; i++)
		clear_window(ntb, i);
	link_disable(ntb);
	ntbs_write16(ntb->regs, AMD_DBREQ, AMD_BELL_LEAVING);
}

const struct ntbs_ntb_ops ntbs_amd_ops = {
	.name = "amd", .match = match, .probe = probe,
	.set_window = set_window, .clear_window = clear_window,
	.link_enable = link_enable, .link_disable = link_disable, .link_state = link_state,
	.irq = irq, .poll = poll_all,
	.db_read = db_read, .db_ack = db_ack, .db_mask = db_mask, .db_ring = db_ring,
	.db_register = db_register, .vector_bells = vector_bells,
	.spad_read = spad_read, .spad_write = spad_write,
	.peer_spad_read = peer_spad_read, .peer_spad_write = peer_spad_write,
	.shutdown = shutdown_port,
};
