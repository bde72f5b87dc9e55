// SPDX-License-Identifier: BSD-2-Clause
/*
 * cfg.c - config space of a function of the model
 *
 * A type 0 header, power management, MSI-X and PCI Express capability (PCI Local Bus 3.0 chapter 6, PCI Express Base
 * 4.0 chapter 7).  There are no extended capabilities; families put what their drivers read there as plain bytes.
 *
 * A function level reset keeps the BARs: on hardware it clears them and the kernel writes them back, but QEMU, which
 * answers reads of BARs itself, shows the kernel the old values, so that it does not.
 *
 * No_Soft_Reset is set: going through D3hot loses nothing.
 */
#include "impl.h"

enum {
	CFG_COMMAND = 4, CFG_STATUS = 6, CFG_REVISION = 8, CFG_CLASS = 9, CFG_BAR0 = 0x10, CFG_SUBSYS = 0x2c, CFG_CAPS = 0x34,
	PM_CSR = 4, PM_NO_SOFT_RESET = 8, PM_STATE = 3,
	EXP_DEVCAP = 4, EXP_DEVCTL = 8, EXP_DEVSTA = 10, EXP_LNKCAP = 12, EXP_LNKCTL = 16, EXP_LNKSTA = 18, EXP_DEVCTL2 = 40,
	EXP_LNKCAP2 = 44, EXP_LNKCTL2 = 48,
	EXP_FLR = 0x8000,
	MSIX_ENABLE_MASK = 0xc000,
};

static uint64_t get(const uint8_t *at, unsigned len)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)at[i] << 8 * i;
	return v;
}

static void put(uint8_t *at, unsigned len, uint64_t v)
{
	for (unsigned i = 0; i < len; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

uint64_t rig_cfg_load(const struct rig_fn *fn, unsigned off, unsigned len)
{
	return get(fn->cfg.val + off, len);
}

void rig_cfg_set(struct rig_fn *fn, unsigned off, unsigned len, uint64_t value, uint64_t rw)
{
	put(fn->cfg.val + off, len, value);
	put(fn->cfg.reset + off, len, value);
	put(fn->cfg.rw + off, len, rw);
}

static void add_bars(struct rig_fn *fn)
{
	for (int i = 0; i < RIG_BARS; i++) {
		const struct rig_bar *bar = &fn->info.bar[i];
		unsigned off = CFG_BAR0 + 4 * (unsigned)i;

		if (!bar->size)
			continue;
		/* the low four bits say what it is; bits below the size stay 0, which is how its size is found */
		rig_cfg_set(fn, off, bar->is64 ? 8 : 4, (bar->is64 ? 4 : 0) | (bar->prefetch ? 8 : 0), ~(bar->size - 1));
	}
}

void rig_cfg_init(struct rig_fn *fn, const struct rig_cfg_layout *l)
{
	const struct rig_fn_info *info = &fn->info;

	fn->cfg.exp = l->exp;
	fn->cfg.pm = l->pm;
	fn->cfg.msix = l->msix;
	rig_cfg_set(fn, 0, 4, info->vendor | (uint32_t)info->device << 16, 0);
	rig_cfg_set(fn, CFG_COMMAND, 2, 0, 0x0546);	/* decoding, mastering, parity, SERR, INTx off */
	rig_cfg_set(fn, CFG_STATUS, 2, 0x0010, 0);	/* has capabilities */
	put(fn->cfg.w1c + CFG_STATUS, 2, 0xf900);
	rig_cfg_set(fn, CFG_REVISION, 1, info->revision, 0);
	rig_cfg_set(fn, CFG_CLASS, 3, l->class_code, 0);
	rig_cfg_set(fn, 0x0c, 1, 0, 0xff);		/* cache line size */
	rig_cfg_set(fn, 0x3c, 1, 0, 0xff);		/* interrupt line; there is no pin */
	rig_cfg_set(fn, CFG_SUBSYS, 4, info->vendor | (uint32_t)info->device << 16, 0);
	add_bars(fn);

	rig_cfg_set(fn, CFG_CAPS, 1, l->exp, 0);
	rig_cfg_set(fn, l->exp, 4, 0x10 | l->pm << 8 | 0x00020000, 0);	/* version 2, endpoint */
	rig_cfg_set(fn, l->exp + EXP_DEVCAP, 4, 1 << 28 | 1 << 15 | 1, 0);	/* FLR, error reporting, 256 bytes payload */
	rig_cfg_set(fn, l->exp + EXP_DEVCTL, 2, 0x2810, 0x7fff);		/* relaxed order and no-snoop allowed, as at power-on */
	put(fn->cfg.w1c + l->exp + EXP_DEVSTA, 2, 0x000f);
	rig_cfg_set(fn, l->exp + EXP_LNKCAP, 4, l->speed | l->width << 4, 0);
	rig_cfg_set(fn, l->exp + EXP_LNKCTL, 2, 0, 0x0ffb);
	rig_cfg_set(fn, l->exp + EXP_LNKSTA, 2, l->speed | l->width << 4, 0);
	rig_cfg_set(fn, l->exp + EXP_DEVCTL2, 2, 0, 0xffff);
	rig_cfg_set(fn, l->exp + EXP_LNKCAP2, 4, ((1u << l->speed) - 1) << 1, 0);
	rig_cfg_set(fn, l->exp + EXP_LNKCTL2, 2, l->speed, 0xffff);

	rig_cfg_set(fn, l->pm, 4, 0x01 | l->msix << 8 | 0x00030000, 0);	/* version 3; no PME */
	rig_cfg_set(fn, l->pm + PM_CSR, 2, PM_NO_SOFT_RESET, PM_STATE);

	rig_cfg_set(fn, l->msix, 4, 0x11 | (info->vectors - 1) << 16, 0);
	rig_cfg_set(fn, l->msix + 2, 2, info->vectors - 1, MSIX_ENABLE_MASK);
	rig_cfg_set(fn, l->msix + 4, 4, info->msix_table, 0);		/* both in BAR0 */
	rig_cfg_set(fn, l->msix + 8, 4, info->msix_pba, 0);
}

void rig_cfg_reset(struct rig_fn *fn)
{
	uint8_t bars[4 * RIG_BARS];

	memcpy(bars, fn->cfg.val + CFG_BAR0, sizeof(bars));
	memcpy(fn->cfg.val, fn->cfg.reset, sizeof(fn->cfg.val));
	memcpy(fn->cfg.val + CFG_BAR0, bars, sizeof(bars));
}

void rig_cfg_write(struct rig_fn *fn, unsigned off, const uint8_t *data, unsigned len)
{
	struct rig_cfg *c = &fn->cfg;
	unsigned devctl = c->exp + EXP_DEVCTL + 1;	/* the byte with the FLR bit */

	for (unsigned i = 0; i < len; i++) {
		unsigned at = off + i;

		c->val[at] = (uint8_t)((c->val[at] & ~c->rw[at]) | (data[i] & c->rw[at]));
		c->val[at] &= (uint8_t)~(data[i] & c->w1c[at]);
	}
	if (off <= devctl && devctl < off + len && data[devctl - off] & EXP_FLR >> 8)
		rig_fn_reset(fn, RIG_RESET_FLR);
	else if (off < CFG_BAR0 + 4 * RIG_BARS && fn->port) {
		/* decoding, mastering and BARs decide about windows, in both directions */
		rig_window_moved(fn);
		rig_window_moved(rig_peer(fn));
	}
}

static bool in_d0(const struct rig_fn *fn)
{
	return !(fn->cfg.val[fn->cfg.pm + PM_CSR] & PM_STATE);
}

bool rig_cfg_decodes(const struct rig_fn *fn)
{
	return fn->on && in_d0(fn) && fn->cfg.val[CFG_COMMAND] & CMD_MEMORY;
}

bool rig_cfg_masters(const struct rig_fn *fn)
{
	return fn->on && in_d0(fn) && fn->cfg.val[CFG_COMMAND] & CMD_MASTER;
}

uint64_t rig_fn_bar_base(const struct rig_fn *fn, int bar)
{
	unsigned off = CFG_BAR0 + 4 * (unsigned)bar;

	if (bar < 0 || bar >= RIG_BARS || !fn->info.bar[bar].size)
		return 0;
	return rig_cfg_load(fn, off, fn->info.bar[bar].is64 ? 8 : 4) & ~15ull;
}

void rig_fn_place(struct rig_fn *fn, uint64_t base)
{
	for (int i = 0; i < RIG_BARS; i++) {
		const struct rig_bar *bar = &fn->info.bar[i];
		uint8_t addr[8];

		if (!bar->size)
			continue;
		base = (base + bar->size - 1) & ~(bar->size - 1);
		put(addr, 8, base);
		rig_cfg_write(fn, CFG_BAR0 + 4 * (unsigned)i, addr, bar->is64 ? 8 : 4);
		base += bar->size;
	}
}
